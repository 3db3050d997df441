// optim: see optim.h. The norms and limits of gradients are in optim_norm.c.
#ifdef REAL

// A row: the body for element i, where AT(k) is that element of operand k. Compiled once for neighbouring elements, where it
// vectorises, and once for any steps. Every value is rounded to REAL after each operation, in any instruction set.
#define AT(k) (*(REAL *)(q##k + i * s##k))
#define UPDATE(name, last, constants, ...)                                                                                  \
  MT_INLINE void FN(name##_steps)(char *const *at, int64_t s0, int64_t s1, int64_t s2, int64_t s3, int64_t s4, int64_t s5,  \
                                  int64_t n, const name##_numbers *c) {                                                     \
    char *const q0 = at[0], *const q1 = at[1], *const q2 = at[MT_MIN(2, last)], *const q3 = at[MT_MIN(3, last)],            \
                *const q4 = at[MT_MIN(4, last)], *const q5 = at[MT_MIN(5, last)];                                           \
    (void)q2, (void)q3, (void)q4, (void)q5, (void)s2, (void)s3, (void)s4, (void)s5;                                         \
    constants _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++) __VA_ARGS__                                              \
  }                                                                                                                         \
  MT_CLONES static void FN(name)(char *const *at, const int64_t *step, int64_t n, const void *context) {                    \
    const int64_t z = sizeof(REAL);                                                                                         \
    bool near = true;                                                                                                       \
    for (int32_t k = 0; k <= last; k++) {                                                                                   \
      near = near && step[k] == z;                                                                                          \
    }                                                                                                                       \
    if (near) {                                                                                                             \
      FN(name##_steps)(at, z, z, z, z, z, z, n, context);                                                                   \
    } else {                                                                                                                \
      FN(name##_steps)(at, step[0], step[1], step[MT_MIN(2, last)], step[MT_MIN(3, last)], step[MT_MIN(4, last)],           \
                       step[MT_MIN(5, last)], n, context);                                                                  \
    }                                                                                                                       \
  }
#define K(name) const REAL name = (REAL)c->name;

UPDATE(sgd, 2, K(lr) K(momentum) K(rest) K(decay) K(sign) const bool decays = decay != 0; const int32_t mode = c->mode;, {
  REAL g = sign * AT(1);
  const REAL p = AT(0);
  g = decays ? g + decay * p : g;
  if (mode != SGD_PLAIN) {
    const REAL b = mode & SGD_FIRST ? g : momentum * AT(2) + rest * g;
    AT(2) = b;
    g = mode & SGD_NESTEROV ? g + momentum * b : b;
  }
  AT(0) = p - lr * g;
})

UPDATE(adam, 4, K(beta1) K(beta2) K(rest1) K(rest2) K(size) K(root) K(eps) K(decay) K(shrink) K(sign)
       const bool decays = decay != 0; const bool amsgrad = c->amsgrad;, {
  REAL g = sign * AT(1);
  const REAL p = AT(0) * shrink;
  g = decays ? g + decay * p : g;
  const REAL m = beta1 * AT(2) + rest1 * g;
  const REAL v = beta2 * AT(3) + rest2 * (g * g);
  REAL u = v;
  if (amsgrad) {
    const REAL w = AT(4);
    u = v > w || v != v ? v : w;
    AT(4) = u;
  }
  AT(2) = m;
  AT(3) = v;
  AT(0) = p - size * (m / (MATH(sqrt)(u) / root + eps));
})

UPDATE(rmsprop, 4, K(lr) K(alpha) K(rest) K(eps) K(decay) K(momentum) K(sign)
       const bool decays = decay != 0; const bool centered = c->centered; const bool moves = c->moves;, {
  REAL g = sign * AT(1);
  const REAL p = AT(0);
  g = decays ? g + decay * p : g;
  const REAL s = alpha * AT(2) + rest * (g * g);
  AT(2) = s;
  REAL d = s;
  if (centered) {
    const REAL m = alpha * AT(3) + rest * g;
    AT(3) = m;
    d = s - m * m;
    d = d < 0 ? 0 : d;  // a variance: below 0 by rounding only
  }
  REAL u = g / (MATH(sqrt)(d) + eps);
  if (moves) {
    u = momentum * AT(4) + u;
    AT(4) = u;
  }
  AT(0) = p - lr * u;
})

UPDATE(adan, 5, K(beta1) K(beta2) K(beta3) K(rest1) K(rest2) K(rest3) K(size1) K(size2) K(root) K(eps) K(shrink) K(divisor)
       K(sign) K(after), {
  const REAL g = sign * AT(1);
  const REAL d = (AT(5) + g) * after;
  const REAL m = beta1 * AT(2) + rest1 * g;
  const REAL k = beta2 * AT(3) + rest2 * d;
  const REAL t = beta2 * d + g;
  const REAL v = beta3 * AT(4) + rest3 * (t * t);
  AT(2) = m;
  AT(3) = k;
  AT(4) = v;
  AT(5) = -g;
  const REAL a = MATH(sqrt)(v) / root + eps;
  AT(0) = (AT(0) * shrink - size1 * (m / a) - size2 * (k / a)) / divisor;
})

UPDATE(ema, 1, K(rest), {
  const REAL a = AT(0);
  AT(0) = a + rest * (AT(1) - a);
})

UPDATE(swap, 1, (void)c;, {
  const REAL a = AT(0);
  AT(0) = AT(1);
  AT(1) = a;
})
#undef AT
#undef UPDATE
#undef K

#else
#include "optim_list.h"
#include "row.h"

// What a row needs to know, in double; each parameter has its own where the numbers depend on its step.
enum { SGD_PLAIN = 0, SGD_MOMENTUM = 1, SGD_FIRST = 2, SGD_NESTEROV = 4 };
typedef struct {
  double lr, momentum, rest, decay, sign;
  int32_t mode;
} sgd_numbers;
typedef struct {
  double beta1, beta2, rest1, rest2, size, root, eps, decay, shrink, sign;
  bool amsgrad;
} adam_numbers;
typedef struct {
  double lr, alpha, rest, eps, decay, momentum, sign;
  bool centered, moves;
} rmsprop_numbers;
typedef struct {
  double beta1, beta2, beta3, rest1, rest2, rest3, size1, size2, root, eps, shrink, divisor, sign, after;
} adan_numbers;
typedef struct {
  double rest;
} ema_numbers;
typedef struct {
  char unused;
} swap_numbers;

#define MT_SOURCE "optim.c"
#include "twice.h"

static double sign_of(int32_t maximize) { return maximize ? -1 : 1; }

static int check_steps(const char *op, int64_t count, const double *step) {
  for (int64_t i = 0; i < count; i++) {
    if (!step || !(step[i] >= 1)) {
      return mt_fail(MT_ERROR_ARGUMENT, "%s: step %lld: expected a count of at least 1, got %g", op, (long long)i + 1,
                     step ? step[i] : 0);
    }
  }
  return MT_OK;
}

int mt_optim_sgd(int64_t count, mt_tensor *const *parameters, mt_tensor *const *gradients, mt_tensor *const *buffers,
                 const double *step, double lr, double momentum, double dampening, double weight_decay, int32_t nesterov,
                 int32_t maximize) {
  const mt_optim_list list = {.op = "SGD", .count = count, .operands = 3, .writes = buffers ? 5 : 1,
    .tensors = {parameters, gradients, buffers}, .names = {"parameter", "gradient", "momentum_buffer"}};
  if (momentum != 0 && !buffers) {
    return mt_fail(MT_ERROR_ARGUMENT, "SGD: momentum %g needs momentum buffers", momentum);
  }
  MT_TRY(check_steps(list.op, count, step));
  MT_SCRATCH(sgd_numbers, numbers, count);
  if (!numbers) {
    return MT_ERROR_MEMORY;
  }
  for (int64_t i = 0; i < count; i++) {
    int32_t mode = SGD_PLAIN;
    if (momentum != 0) {
      mode = SGD_MOMENTUM | (step[i] == 1 ? SGD_FIRST : 0) | (nesterov ? SGD_NESTEROV : 0);
    }
    numbers[i] = (sgd_numbers){lr, momentum, 1 - dampening, weight_decay, sign_of(maximize), mode};
  }
  const int status = mt_optim_list_rows(&list, sgd_f32, sgd_f64, numbers, sizeof(sgd_numbers));
  mt_free(numbers);
  return status;
}

int mt_optim_adam(int64_t count, mt_tensor *const *parameters, mt_tensor *const *gradients, mt_tensor *const *exp_avgs,
                  mt_tensor *const *exp_avg_sqs, mt_tensor *const *max_exp_avg_sqs, const double *step, double lr, double beta1,
                  double beta2, double eps, double weight_decay, int32_t decoupled, int32_t maximize) {
  const mt_optim_list list = {.op = decoupled ? "AdamW" : "Adam", .count = count, .operands = 5,
    .writes = max_exp_avg_sqs ? 29 : 13, .tensors = {parameters, gradients, exp_avgs, exp_avg_sqs, max_exp_avg_sqs},
    .names = {"parameter", "gradient", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"}};
  if (count > 0 && (!exp_avgs || !exp_avg_sqs)) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: exp_avg, exp_avg_sq: expected lists of tensors", list.op);
  }
  MT_TRY(check_steps(list.op, count, step));
  MT_SCRATCH(adam_numbers, numbers, count);
  if (!numbers) {
    return MT_ERROR_MEMORY;
  }
  for (int64_t i = 0; i < count; i++) {
    numbers[i] = (adam_numbers){.beta1 = beta1, .beta2 = beta2, .rest1 = 1 - beta1, .rest2 = 1 - beta2,
      .size = lr / (1 - pow(beta1, step[i])), .root = sqrt(1 - pow(beta2, step[i])), .eps = eps,
      .decay = decoupled ? 0 : weight_decay, .shrink = decoupled ? 1 - lr * weight_decay : 1, .sign = sign_of(maximize),
      .amsgrad = max_exp_avg_sqs != NULL};
  }
  const int status = mt_optim_list_rows(&list, adam_f32, adam_f64, numbers, sizeof(adam_numbers));
  mt_free(numbers);
  return status;
}

int mt_optim_rmsprop(int64_t count, mt_tensor *const *parameters, mt_tensor *const *gradients, mt_tensor *const *square_avgs,
                     mt_tensor *const *grad_avgs, mt_tensor *const *buffers, double lr, double alpha, double eps,
                     double weight_decay, double momentum, int32_t maximize) {
  const mt_optim_list list = {.op = "RMSprop", .count = count, .operands = 5,
    .writes = 5 | (grad_avgs ? 8 : 0) | (buffers ? 16 : 0), .tensors = {parameters, gradients, square_avgs, grad_avgs, buffers},
    .names = {"parameter", "gradient", "square_avg", "grad_avg", "momentum_buffer"}};
  if (count > 0 && !square_avgs) {
    return mt_fail(MT_ERROR_ARGUMENT, "RMSprop: square_avg: expected a list of tensors");
  }
  const rmsprop_numbers numbers = {lr, alpha, 1 - alpha, eps, weight_decay, momentum, sign_of(maximize), grad_avgs != NULL,
    buffers != NULL};
  return mt_optim_list_rows(&list, rmsprop_f32, rmsprop_f64, &numbers, 0);
}

int mt_optim_adan(int64_t count, mt_tensor *const *parameters, mt_tensor *const *gradients, mt_tensor *const *exp_avgs,
                  mt_tensor *const *exp_avg_diffs, mt_tensor *const *exp_avg_sqs, mt_tensor *const *neg_pre_grads,
                  const double *step, double lr, double beta1, double beta2, double beta3, double eps, double weight_decay,
                  int32_t no_prox, int32_t maximize) {
  const mt_optim_list list = {.op = "Adan", .count = count, .operands = 6, .writes = 61,
    .tensors = {parameters, gradients, exp_avgs, exp_avg_diffs, exp_avg_sqs, neg_pre_grads},
    .names = {"parameter", "gradient", "exp_avg", "exp_avg_diff", "exp_avg_sq", "neg_pre_grad"}};
  if (count > 0 && (!exp_avgs || !exp_avg_diffs || !exp_avg_sqs || !neg_pre_grads)) {
    return mt_fail(MT_ERROR_ARGUMENT, "Adan: exp_avg, exp_avg_diff, exp_avg_sq, neg_pre_grad: expected lists of tensors");
  }
  MT_TRY(check_steps(list.op, count, step));
  MT_SCRATCH(adan_numbers, numbers, count);
  if (!numbers) {
    return MT_ERROR_MEMORY;
  }
  for (int64_t i = 0; i < count; i++) {
    numbers[i] = (adan_numbers){.beta1 = beta1, .beta2 = beta2, .beta3 = beta3, .rest1 = 1 - beta1, .rest2 = 1 - beta2,
      .rest3 = 1 - beta3, .size1 = lr / (1 - pow(beta1, step[i])), .size2 = lr * beta2 / (1 - pow(beta2, step[i])),
      .root = sqrt(1 - pow(beta3, step[i])), .eps = eps, .shrink = no_prox ? 1 - lr * weight_decay : 1,
      .divisor = no_prox ? 1 : 1 + lr * weight_decay, .sign = sign_of(maximize), .after = step[i] > 1};  // a factor: a choice would not vectorise
  }
  const int status = mt_optim_list_rows(&list, adan_f32, adan_f64, numbers, sizeof(adan_numbers));
  mt_free(numbers);
  return status;
}

int mt_optim_ema(int64_t count, mt_tensor *const *averages, mt_tensor *const *parameters, double decay) {
  const mt_optim_list list = {.op = "EMA", .count = count, .operands = 2, .writes = 1, .tensors = {averages, parameters},
    .names = {"average", "parameter"}};
  if (count > 0 && !parameters) {
    return mt_fail(MT_ERROR_ARGUMENT, "EMA: expected a list of parameters");
  }
  const ema_numbers numbers = {1 - decay};
  return mt_optim_list_rows(&list, ema_f32, ema_f64, &numbers, 0);
}

int mt_optim_swap(int64_t count, mt_tensor *const *a, mt_tensor *const *b) {
  const mt_optim_list list = {.op = "EMA", .count = count, .operands = 2, .writes = 3, .tensors = {a, b},
    .names = {"average", "parameter"}};
  if (count > 0 && !b) {
    return mt_fail(MT_ERROR_ARGUMENT, "EMA: expected a list of parameters");
  }
  const swap_numbers numbers = {0};
  return mt_optim_list_rows(&list, swap_f32, swap_f64, &numbers, 0);
}

#endif
