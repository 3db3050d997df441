// reduce: many elements to one.
//
//   y[o] = reduction of x over the axes in `dims` (bit d = axis d, 0-based). y has x's sizes with 1 at the reduced axes.
//
// Sums add in double, row by row (a row: the innermost reduced axis, in pieces of 4096), rows in raster order with a
// compensated accumulator. The order depends on the shape alone: strides and threads change no bit, nor do zeros added at the
// end of rows or as further rows. float32 results are the double ones, rounded once.
#pragma once
#include "tensor.h"

#pragma GCC visibility push(default)

// y = sum of x. x float: y of x's dtype. x int64, int32, uint8, bool: y int64 (wraps around). Nothing to add: 0.
int mt_reduce_sum(mt_tensor *y, const mt_tensor *x, int32_t dims);
// y = sum / count; NaN where the count is 0.
int mt_reduce_mean(mt_tensor *y, const mt_tensor *x, int32_t dims);
// dx = dy * scale, dy broadcast to dx: the gradient of sum (scale 1) and mean (scale 1 / count).
int mt_reduce_sum_backward(mt_tensor *dx, const mt_tensor *dy, double scale);

// y = sum of (x - mean)^2 / max(0, count - correction), its square root when root != 0; two passes. mean: y's shape, float64,
// is written for backward. count <= correction: NaN (0 / 0) or Inf, as the division gives.
int mt_reduce_var(mt_tensor *y, mt_tensor *mean, const mt_tensor *x, int32_t dims, double correction, int32_t root);
// dx = dy * 2 (x - mean) / (count - correction); root: dy * (x - mean) / ((count - correction) * y), 0 where y is 0.
int mt_reduce_var_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, const mt_tensor *y, const mt_tensor *mean,
                           double correction, int32_t root);

// y = (sum of |x|^p)^(1/p); p = inf: max |x|, -inf: min |x|, 0: number of elements that are not 0.
int mt_reduce_norm(mt_tensor *y, const mt_tensor *x, int32_t dims, double p);
// dx = dy * sign(x) |x|^(p-1) / y^(p-1), 0 where y is 0; p = +-inf: shared evenly among the extreme elements; p = 0: 0.
int mt_reduce_norm_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, const mt_tensor *y, int32_t dims, double p);

// y = log(sum of exp(x)), computed with the maximum taken out. -Inf where nothing is added or all x are -Inf.
int mt_reduce_logsumexp(mt_tensor *y, const mt_tensor *x, int32_t dims);
// dx = dy * exp(x - y), 0 where y is -Inf.
int mt_reduce_logsumexp_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, const mt_tensor *y);

// y = product of x. Types as for sum. Nothing to multiply: 1.
int mt_reduce_prod(mt_tensor *y, const mt_tensor *x, int32_t dims);
// dx = dy * product of the other elements, right with zeros in x too.
int mt_reduce_prod_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, int32_t dims);

// values = largest (largest != 0) or smallest element, of x's dtype; index (int64, 1-based) = where it stands first: counted
// in raster order over the reduced axes. Either output may be NULL. The first NaN wins. Any dtype. Nothing to compare: an error.
int mt_reduce_extreme(mt_tensor *values, mt_tensor *index, const mt_tensor *x, int32_t dims, int32_t largest);
// dx = dy at the element named by index, 0 elsewhere.
int mt_reduce_extreme_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *index, int32_t dims);
// dx = dy / ties at every element equal to values (both NaN counts as equal), 0 elsewhere.
int mt_reduce_extreme_backward_even(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, const mt_tensor *values,
                                    int32_t dims);

// y (bool) = some (every == 0) or every element differs from 0. Nothing to test: any false, all true. NaN counts as true.
int mt_reduce_truth(mt_tensor *y, const mt_tensor *x, int32_t dims, int32_t every);

// y[.., i, ..] = x[.., 0, ..] + ... + x[.., i, ..] along one axis; x's shape. Types as for sum. reverse: from the end.
int mt_reduce_cumsum(mt_tensor *y, const mt_tensor *x, int32_t dim, int32_t reverse);
// y[.., i, ..] = product of x[.., 0..i, ..]; types as for sum.
int mt_reduce_cumprod(mt_tensor *y, const mt_tensor *x, int32_t dim);
// dx[k] = sum over i >= k of dy[i] * product of x[0..i] without k; zeros in x are right.
int mt_reduce_cumprod_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, int32_t dim);

#pragma GCC visibility pop
