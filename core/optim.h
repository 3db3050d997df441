// optim: updates of whole lists of parameters, one pass over memory each, and the norms of lists of gradients.
//
// A list is an array of `count` tensor pointers; entry i of every list of a call belongs to parameter i: same shape and dtype,
// any strides. float32 and float64 may be mixed within a list. Every call checks all entries before it writes the first, and an
// update that has begun is finished even when an interruption is pending: weights are never half a step old.
// Work is cut by shape, float32 is computed in float32, so results do not depend on the number of threads.
//
// step[i] counts parameter i's updates, this one included (1 for the first). g is the gradient, negated where maximize.
// A list that is not used may be NULL. lr, betas and so on are not range-checked here: the formulas hold for any number.
#pragma once
#include "tensor.h"

#pragma GCC visibility push(default)

// g += weight_decay p;  buffer = step == 1 ? g : momentum buffer + (1 - dampening) g;
// p -= lr d with d = g without momentum (buffers may be NULL), g + momentum buffer where nesterov, else buffer.
int mt_optim_sgd(int64_t count, mt_tensor *const *parameters, mt_tensor *const *gradients, mt_tensor *const *buffers,
                 const double *step, double lr, double momentum, double dampening, double weight_decay, int32_t nesterov,
                 int32_t maximize);

// Adam (Kingma, Ba, 2015): g += weight_decay p; with decoupled (AdamW; Loshchilov, Hutter, 2019) p *= 1 - lr weight_decay instead.
// m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;
// p -= lr / (1 - beta1^step) * m / (sqrt(u) / sqrt(1 - beta2^step) + eps), u = v, or with amsgrad (Reddi, Kale, Kumar, 2018) the
// largest v so far, kept in max_exp_avg_sqs (NULL: no amsgrad).
int mt_optim_adam(int64_t count, mt_tensor *const *parameters, mt_tensor *const *gradients, mt_tensor *const *exp_avgs,
                  mt_tensor *const *exp_avg_sqs, mt_tensor *const *max_exp_avg_sqs, const double *step, double lr, double beta1,
                  double beta2, double eps, double weight_decay, int32_t decoupled, int32_t maximize);

// g += weight_decay p;  s = alpha s + (1 - alpha) g^2;  a = sqrt(s) + eps, or with grad_avgs (centered; NULL: not)
// m = alpha m + (1 - alpha) g, a = sqrt(max(s - m^2, 0)) + eps;
// p -= lr g / a, or with buffers (momentum; NULL: none) b = momentum b + g / a, p -= lr b.
int mt_optim_rmsprop(int64_t count, mt_tensor *const *parameters, mt_tensor *const *gradients, mt_tensor *const *square_avgs,
                     mt_tensor *const *grad_avgs, mt_tensor *const *buffers, double lr, double alpha, double eps,
                     double weight_decay, double momentum, int32_t maximize);

// Adan (Xie, Zhou, Li, Lin, Yan, 2022), d = g + n where n holds the negated gradient of the step before
// (finite in the first step, where d = 0 (g + n)):
// m = beta1 m + (1 - beta1) g;  k = beta2 k + (1 - beta2) d;  v = beta3 v + (1 - beta3) (g + beta2 d)^2;
// a = sqrt(v) / sqrt(1 - beta3^step) + eps;  u = lr / (1 - beta1^step) m / a + lr beta2 / (1 - beta2^step) k / a;
// p = (p - u) / (1 + lr weight_decay), or with no_prox p (1 - lr weight_decay) - u;  n = -g.
int mt_optim_adan(int64_t count, mt_tensor *const *parameters, mt_tensor *const *gradients, mt_tensor *const *exp_avgs,
                  mt_tensor *const *exp_avg_diffs, mt_tensor *const *exp_avg_sqs, mt_tensor *const *neg_pre_grads,
                  const double *step, double lr, double beta1, double beta2, double beta3, double eps, double weight_decay,
                  int32_t no_prox, int32_t maximize);

// averages += (1 - decay) (parameters - averages)
int mt_optim_ema(int64_t count, mt_tensor *const *averages, mt_tensor *const *parameters, double decay);
// Exchanges the values of a and b.
int mt_optim_swap(int64_t count, mt_tensor *const *a, mt_tensor *const *b);

// *norm = (sum over all elements of all tensors of |g|^p)^(1/p); p = Inf: the largest |g|. p > 0. Summed in double, in an order
// fixed by the shapes. NaN where an element is NaN.
int mt_optim_norm(double *norm, int64_t count, mt_tensor *const *gradients, double p);
// norm (float64, one element, on the gradients' device) = mt_optim_norm's number, then gradients *= min(1, limit / (norm + 1e-6)).
// limit infinite: the norm alone. Nothing waits for a device: the factor is computed there.
int mt_optim_clip_norm(mt_tensor *norm, int64_t count, mt_tensor *const *gradients, double limit, double p);
// gradients *= factor
int mt_optim_scale(int64_t count, mt_tensor *const *gradients, double factor);
// gradients = min(max(gradients, -limit), limit); NaN stays NaN.
int mt_optim_clamp(int64_t count, mt_tensor *const *gradients, double limit);
// *first = the 1-based position in the list of the first tensor with an element that is NaN or infinite; 0: there is none.
int mt_optim_non_finite(int64_t *first, int64_t count, mt_tensor *const *tensors);
// The same look before an update. On the CPU *first is the answer. A device is not waited for: *first = 0; once a gradient is not
// finite there, no update (sgd, adam, rmsprop, adan) changes anything, those that are queued already included, until the next call
// of guard that finds it out, or the next synchronisation, fails with the gradient's number: numbers[i], that of its parameter.
int mt_optim_guard(int64_t *first, int64_t count, mt_tensor *const *tensors, const double *numbers);
// *a, *b = 1-based positions of two tensors of the list that share memory (a < b); 0: all are disjoint.
int mt_optim_shared(int64_t *a, int64_t *b, int64_t count, mt_tensor *const *tensors);

#pragma GCC visibility pop
