// sort: order along one axis, lines in parallel. All dtypes. Stable: equal elements (-0 equals 0) keep their order, so results
// are unique. NaN counts as larger than everything. Indexes are int64 and 1-based along the axis; a tensor without dims is
// a line of one element. values has x's dtype; either output may be NULL.
#pragma once
#include "tensor.h"

#pragma GCC visibility push(default)

// values, index: x's shape. Ascending, or descending where descending != 0.
int mt_sort(mt_tensor *values, mt_tensor *index, const mt_tensor *x, int32_t dim, int32_t descending);
// The k largest (or smallest) of every line in order; values, index: x's shape with k at dim.
int mt_sort_topk(mt_tensor *values, mt_tensor *index, const mt_tensor *x, int32_t dim, int64_t k, int32_t largest);
// The k-th smallest (k from 1), or, k = 0, the median: the lower of two, the first NaN where there is one. Shape: 1 at dim.
int mt_sort_kth(mt_tensor *values, mt_tensor *index, const mt_tensor *x, int32_t dim, int64_t k);
// dx = 0, then dx[.., index[.., i, ..], ..] = dy[.., i, ..]: the gradient of all of them.
int mt_sort_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *index, int32_t dim);

// The different elements of x (1-D, row-major) in ascending order: *count of them, at the front of values (x's size and
// dtype). inverse (int64, x's size, or NULL): where each element of x stands in values, 1-based. counts (likewise): how often
// each occurs. NaNs are all different.
int mt_sort_unique(mt_tensor *values, mt_tensor *inverse, mt_tensor *counts, int64_t *count, const mt_tensor *x);

#pragma GCC visibility pop
