// embedding: rows of a table by number. weight (V, D); index (*) int64 or int32, 1-based; y and dy (*, D). An index outside 1..V is
// an error that names the value and its place. float32 and float64.
#pragma once
#include "tensor.h"

#pragma GCC visibility push(default)

// y[i] = weight[index[i]]
int mt_embedding_forward(mt_tensor *y, const mt_tensor *weight, const mt_tensor *index);
// dweight[v] = the sum of dy[i] over index[i] == v, in raster order of the index; row `padding` (1-based, 0 = none) stays 0.
int mt_embedding_backward(mt_tensor *dweight, const mt_tensor *dy, const mt_tensor *index, int64_t padding);

#pragma GCC visibility pop
