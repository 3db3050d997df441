// loss: how far predictions are from targets, reduced to one number or not.
//
// Every position (a sample, a pixel) or element gives a term and a weight.
//   reduction none: y[i] = term   sum: y = sum of terms   mean: y = sum of terms / sum of weights (0 / 0 = NaN)
// mask, when given, has x's dtype: where it is 0 nothing is read, term and weight are 0; elsewhere both are multiplied by it.
// Terms are computed and added in double, in raster order: masked positions change no bit, wherever they stand.
#pragma once
#include "tensor.h"

#pragma GCC visibility push(default)

enum { MT_LOSS_NONE = 0, MT_LOSS_SUM = 1, MT_LOSS_MEAN = 2 };

// ---- classes ------------------------------------------------------------------------------------------------------
//
//   x (C) or (N, C, *S): logits, or log-probabilities; classes lie along dim 1 (dim 0 of a vector)
//   target: int64 or int32 (N, *S) with labels 1..C, or, logits only, x's dtype and shape with probabilities
//   weight (C) of x's dtype, or NULL: ones;  mask (N or 1, 1, *S) or, for a vector, (1)
//   e = label_smoothing, p = softmax(x):
//     labels         term = (1 - e) w[t] (-log p[t]) + e / C sum_c w[c] (-log p[c])     weight = w[t]
//     probabilities  term = sum_c w[c] ((1 - e) t[c] + e / C) (-log p[c])               weight = 1
//     log-probabilities  term = -w[t] x[t]                                               weight = w[t]
// Labels equal to ignore_index (when ignore is set) give term and weight 0 and need not lie in 1..C.

typedef struct mt_loss_classes {
  int64_t ignore_index;
  double label_smoothing;
  int32_t ignore;
  int32_t reduction;
  int32_t logits;       // 0: x holds log-probabilities (labels only, no smoothing)
} mt_loss_classes;

// y: () or, for none, the shape of the positions (N, *S). total: float64 (), the sum of weights.
// hits, or NULL: int64 (), how many positions that count have their label where argmax finds the largest logit.
// state, or NULL: float64 (positions, 2), what backward needs.
// gradient, or NULL: x's shape, may be x itself: d(y)/dx (for none, d(sum of y)/dx). Then state is not needed, and backward is scale.
int mt_loss_classes_forward(mt_tensor *y, mt_tensor *hits, mt_tensor *state, mt_tensor *gradient, mt_tensor *total, const mt_tensor *x,
                            const mt_tensor *target, const mt_tensor *weight, const mt_tensor *mask, const mt_loss_classes *options);
// dx = dy d(y)/dx, 0 where term and weight are 0; may be x itself. state is not looked at for log-probabilities.
int mt_loss_classes_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *state, const mt_tensor *total, const mt_tensor *x,
                             const mt_tensor *target, const mt_tensor *weight, const mt_tensor *mask, const mt_loss_classes *options);
// gradient *= dy, () or of the positions; 0 stays 0. Nothing is touched for a dy of 1.
int mt_loss_classes_scale(mt_tensor *gradient, const mt_tensor *dy);

// ---- elements -----------------------------------------------------------------------------------------------------
//
// x, target of one shape and dtype; mask, pos_weight: sizes of x or 1, or NULL. d = x - target, a = parameter:
//   MSE        d^2
//   L1         |d|
//   SMOOTH_L1  |d| < a ? d^2 / 2a : |d| - a / 2           (a = 0: L1)
//   HUBER      |d| <= a ? d^2 / 2 : a (|d| - a / 2)
//   BCE        -(q t log s(x) + (1 - t) log(1 - s(x))), s the logistic function, q = pos_weight
//   KL         t (log t - x), 0 where t is 0;  a != 0: exp(t) (t - x)

enum { MT_LOSS_MSE = 0, MT_LOSS_L1 = 1, MT_LOSS_SMOOTH_L1 = 2, MT_LOSS_HUBER = 3, MT_LOSS_BCE = 4, MT_LOSS_KL = 5 };

typedef struct mt_loss_elements {
  double parameter;
  int32_t kind;
  int32_t reduction;
} mt_loss_elements;

// y: () or, for none, x's shape. total: float64 (), the sum of weights (1 per element, times the mask).
int mt_loss_elements_forward(mt_tensor *y, mt_tensor *total, const mt_tensor *x, const mt_tensor *target,
                             const mt_tensor *mask, const mt_tensor *pos_weight, const mt_loss_elements *options);
// d = gradient of x, or of the target where of_target != 0.
int mt_loss_elements_backward(mt_tensor *d, const mt_tensor *dy, const mt_tensor *total, const mt_tensor *x,
                              const mt_tensor *target, const mt_tensor *mask, const mt_tensor *pos_weight,
                              const mt_loss_elements *options, int32_t of_target);

#pragma GCC visibility pop
