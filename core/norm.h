// norm: normalisation with statistics over valid elements: batch, group, instance, layer and RMS norm.
//
// Values travel multiplied by their mask: at an element with weight m in [0, 1] the kernel reads x = m z, where z is the
// value itself (a binary mask: z at valid elements). Over the elements of one cell (a channel, a group, a sample ...):
//   n = sum m     mean = sum m z / n     var = sum m (z - mean)^2 / n     rstd = 1 / sqrt(var + eps)
//   y = m ((z - mean) rstd weight + bias), and 0 where m is 0
// so the result is again multiplied by its mask. NULL is a mask of ones. What lies under mask 0 changes nothing, and
// neither do padded rows or columns. A cell without a valid element gives y = 0 and dx = 0.
// Gradient, with g = dy weight, d = z - mean, A = sum g m / n and B = sum g m d / n:
//   dx = rstd (g - A - d rstd^2 B) where m > 0, else 0;   dweight = sum dy m d rstd;   dbias = sum dy m
//
// Sums are taken in double precision in a fixed order. x, y, dx, dy, mask, weight, bias and the running statistics have one dtype; where
// x, y, dx and dy are bfloat16, the others are float32, and y and dx are float32's results, rounded. mask broadcasts to x: same number of
// dims, each size 1 or x's. weight, bias, running_mean, running_var, dx, dweight and dbias may be NULL.
// stats is float64, row-major, (cells ..., 3): mean, rstd, n (all 0 without a valid element); forward writes it and
// backward reads it.
// momentum is the weight of the new value; a cumulative average is the caller's 1 / count.
//
// activation, a: the result goes through a function of activation.h before it is stored, f(y) in place of y, with the bits of the two
// operations one after the other. Backward gets the gradient of f(y), weight and bias as forward had them, and computes y once more:
// nothing is kept for it. MT_ACTIVATION_IDENTITY: none; MT_ACTIVATION_RELU; MT_ACTIVATION_LEAKY_RELU with 0 <= a <= 1.
#pragma once
#include "tensor.h"

#pragma GCC visibility push(default)

// Flags of batch norm.
enum {
  MT_NORM_BATCH_STATISTICS = 1,   // normalise with the batch's statistics (training); otherwise with the running ones
  MT_NORM_COMPAT = 2              // masked_torch's formulas, see below
};

// x (N, C, *S), one cell per channel, weight, bias, running_mean, running_var (C), stats (C, 3).
// With batch statistics and running tensors, each is updated: r = (1 - momentum) r + momentum s, where s is the mean, or the
// unbiased variance var n^2 / (n^2 - sum m^2), which is var n / (n - 1) for a binary mask. A channel with n = 0 leaves both
// unchanged, one with a single valid element the variance.
// COMPAT (needs a mask): n = sum m counted over the mask itself, a batch of 1 once; mean = sum x / n, holes included;
// var = sum ((x - mean) m)^2 / n; the running variance is the biased one; y = (x - mean) rstd weight + bias everywhere,
// also under mask 0; n = 0 divides by zero.
int mt_norm_batch_forward(mt_tensor *y, mt_tensor *stats, mt_tensor *running_mean, mt_tensor *running_var,
                          const mt_tensor *x, const mt_tensor *mask, const mt_tensor *weight, const mt_tensor *bias,
                          int32_t flags, double momentum, double eps, int32_t activation, double a);
// flags and mask as in forward. Without batch statistics dx = dy weight rstd where m > 0.
int mt_norm_batch_backward(mt_tensor *dx, mt_tensor *dweight, mt_tensor *dbias, const mt_tensor *dy, const mt_tensor *x,
                           const mt_tensor *mask, const mt_tensor *weight, const mt_tensor *bias, const mt_tensor *stats,
                           int32_t flags, int32_t activation, double a);

// Batch norm without batch statistics as numbers, for who applies it to results of his own (conv.h): table (3, C), float64,
// row-major: mean, rstd weight, bias. In double, rounded once, y = (x - m table[0]) table[1] + m table[2], 0 where m is 0: the bits
// of mt_norm_batch_forward.
int mt_norm_batch_frozen(mt_tensor *table, const mt_tensor *running_mean, const mt_tensor *running_var, const mt_tensor *weight,
                         const mt_tensor *bias, double eps);

// x (N, C, *S), stats (N, G, 3): a cell is one sample's C / G neighbouring channels; weight, bias (C). G = C is instance
// norm. Running tensors (C), only with G = C: the average over the samples that have an estimate (n > 0 for the mean,
// two valid elements for the unbiased variance) enters with weight momentum.
int mt_norm_group_forward(mt_tensor *y, mt_tensor *stats, mt_tensor *running_mean, mt_tensor *running_var,
                          const mt_tensor *x, const mt_tensor *mask, const mt_tensor *weight, const mt_tensor *bias,
                          double momentum, double eps, int32_t activation, double a);
int mt_norm_group_backward(mt_tensor *dx, mt_tensor *dweight, mt_tensor *dbias, const mt_tensor *dy, const mt_tensor *x,
                           const mt_tensor *mask, const mt_tensor *weight, const mt_tensor *bias, const mt_tensor *stats,
                           int32_t activation, double a);

// x (*A, *D), stats (*A, 3): a cell is everything over the trailing dims *D; weight, bias (*D).
int mt_norm_layer_forward(mt_tensor *y, mt_tensor *stats, const mt_tensor *x, const mt_tensor *mask,
                          const mt_tensor *weight, const mt_tensor *bias, double eps, int32_t activation, double a);
int mt_norm_layer_backward(mt_tensor *dx, mt_tensor *dweight, mt_tensor *dbias, const mt_tensor *dy, const mt_tensor *x,
                           const mt_tensor *mask, const mt_tensor *weight, const mt_tensor *bias, const mt_tensor *stats,
                           int32_t activation, double a);

// Shapes of layer norm; y = m z rstd weight with rstd = 1 / sqrt(sum m z^2 / n + eps): no mean, no bias. stats holds mean 0.
int mt_norm_rms_forward(mt_tensor *y, mt_tensor *stats, const mt_tensor *x, const mt_tensor *mask,
                        const mt_tensor *weight, double eps, int32_t activation, double a);
int mt_norm_rms_backward(mt_tensor *dx, mt_tensor *dweight, const mt_tensor *dy, const mt_tensor *x,
                         const mt_tensor *mask, const mt_tensor *weight, const mt_tensor *stats, int32_t activation, double a);

#pragma GCC visibility pop
