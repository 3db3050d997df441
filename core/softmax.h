// softmax: along one axis (dim), lines in parallel.
//
//   y_i = exp(x_i) / sum_j exp(x_j)       log: y_i = x_i - log(sum_j exp(x_j))
//
// mask: x's dtype, broadcasts to x (as many dims, each size x's or 1), or NULL. Where it is 0, x is not looked at, y is 0
// (log: -Inf). A line without a valid element, or whose valid elements are all -Inf, is 0 (log: -Inf) throughout.
// Sums add in double along the line: zeros of the mask change no bit, wherever they stand.
#pragma once
#include "tensor.h"

#pragma GCC visibility push(default)

int mt_softmax_forward(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, int32_t dim, int32_t log);
// dx_i = y_i (dy_i - sum_j dy_j y_j), 0 where y_i is 0. log: dx_i = dy_i - exp(y_i) sum_j dy_j over the j whose y_j is not
// -Inf, 0 where y_i is -Inf. So dy under the mask is not looked at.
int mt_softmax_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *y, int32_t dim, int32_t log);

#pragma GCC visibility pop
