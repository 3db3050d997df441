// matmul: y = a b over the last two dims.
//
//   a (*, m, k)   b (*, k, n)   y (*, m, n), as many dims each (at least 2); leading sizes are equal or 1 in a or b
//
// The bits depend neither on the layout of a, b and y nor on the number of threads, and, but for the portable build (gemm.h), on no
// other row or column. k = 0 gives zeros. The gradients are products too: da = dy b^T, db = a^T dy (transposed views, no copies).
#pragma once
#include "tensor.h"

#pragma GCC visibility push(default)

int mt_matmul(mt_tensor *y, const mt_tensor *a, const mt_tensor *b);

#pragma GCC visibility pop
