// positions: index tensors made ready for kernels. Internal.
#pragma once
#include "common.h"

// *out = index as int64 counted from 0, every value within 1..size checked. Broadcast dims (stride 0) stay broadcast.
// `of` (may be NULL) and dim name the range in the message: "index: value 7 at position (2, 3) is outside 1..6 (dim 2 of (4, 6))".
int mt_positions(mt_tensor **out, const char *op, const mt_tensor *index, int64_t size, int32_t dim, const mt_tensor *of);

// y[i] = x[i with i[dim] replaced by positions[i]]; positions from mt_positions with y's shape. x is at least as large outside dim.
int mt_positions_gather(mt_tensor *y, const mt_tensor *x, int32_t dim, const mt_tensor *positions);

// y[i with i[dim] replaced by positions[i]] += alpha * src[i], in the order of the positions.
int mt_positions_add(mt_tensor *y, int32_t dim, const mt_tensor *positions, const mt_tensor *src, double alpha);
