// index: moving elements by position. Positions in index tensors are 1-based int64 or int32; one outside its range is an error
// that names the value, where it stands and the range, before anything is written. Kernels that only move elements take every
// dtype; those that add take float32 and float64. Where positions repeat, sums run and writes follow in the order of the index,
// so results do not depend on threads. `op` is the name messages begin with; NULL stands for the kernel's own.
#pragma once
#include "tensor.h"

#pragma GCC visibility push(default)

// y[i] = x[i with i[dim] replaced by index[i]]. index has x's number of dims; its sizes are y's, and outside dim not larger than
// x's. An index may be expanded: index_select is the gather of an index (1, .., K, .., 1) expanded to x's other sizes.
int mt_index_gather(mt_tensor *y, const mt_tensor *x, int32_t dim, const mt_tensor *index, const char *op);

// y[i with i[dim] replaced by index[i]] = src[i], in place; src has index's shape. Where positions repeat the last one stays.
int mt_index_scatter(mt_tensor *y, int32_t dim, const mt_tensor *index, const mt_tensor *src, const char *op);
// dsrc[i] = dy at the position src[i] was written to, 0 where a later one replaced it.
int mt_index_scatter_backward(mt_tensor *dsrc, const mt_tensor *dy, int32_t dim, const mt_tensor *index, const char *op);

// The same with += alpha * src[i]: accumulates. It is the gradient of gather; gather is its own.
int mt_index_scatter_add(mt_tensor *y, int32_t dim, const mt_tensor *index, const mt_tensor *src, double alpha,
                         const char *op);

// y = x with the order along some dims reversed: bit d of dims stands for dim d. Its own gradient.
int mt_index_flip(mt_tensor *y, const mt_tensor *x, int32_t dims);

// *count = elements that are not 0 (NaN counts).
int mt_index_count(int64_t *count, const mt_tensor *x);
// y (count, x's dims) int64: the 1-based positions of the elements that are not 0, in raster order.
int mt_index_nonzero(mt_tensor *y, const mt_tensor *x);

// Masks here are bool or uint8 and broadcast to x. y = mask ? value : x; in place allowed.
int mt_index_masked_fill(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, double value);
// y (count) = the elements of x where mask is true, in raster order.
int mt_index_masked_select(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask);
// y[mask] = the first elements of src (1-D, at least as many as there are), in raster order. In place. The gradient of
// masked_select, on zeros.
int mt_index_masked_scatter(mt_tensor *y, const mt_tensor *mask, const mt_tensor *src);

// mask (rows, columns) bool: mask[i][j] = j > i + diagonal (upper) or j < i + diagonal (lower): what tril and triu remove.
int mt_index_triangle(mt_tensor *mask, int64_t diagonal, int32_t upper);

#pragma GCC visibility pop
