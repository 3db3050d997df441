// index: moving elements by position. Positions in index tensors are 1-based int64 or int32; one outside its range is an error
// that names the value, where it stands and the range, before anything is written. Kernels that only move elements take every
// dtype; those that add take float32 and float64. Sums run in the raster order of the index, so results do not depend on threads.
#pragma once
#include "tensor.h"

#pragma GCC visibility push(default)

// dx = the sum of dy over the dims along which dx was broadcast to dy's shape (sizes 1, missing leading dims). Summed in double
// precision, in raster order.
int mt_index_expand_backward(mt_tensor *dx, const mt_tensor *dy);

// y = x with the order along some dims reversed: bit d of dims stands for dim d. Its own gradient.
int mt_index_flip(mt_tensor *y, const mt_tensor *x, int32_t dims);

#pragma GCC visibility pop
