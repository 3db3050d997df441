// matmul: y = a b over the last two dims.
//
//   a (*, m, k)   b (*, k, n)   y (*, m, n), as many dims each (at least 2); leading sizes are equal or 1 in a or b
//   one type: float32, float64, or bfloat16, beside which y may be float32
//
// bfloat16: products are exact, sums float32, as at MEDIUM below whatever is set; y is rounded once.
//
// The bits depend neither on the layout of a, b and y nor on the number of threads, and, but for the portable build (gemm.h), on no
// other row or column. k = 0 gives zeros. The gradients are products too: da = dy b^T, db = a^T dy (transposed views, no copies).
#pragma once
#include "tensor.h"

#pragma GCC visibility push(default)

int mt_matmul(mt_tensor *y, const mt_tensor *a, const mt_tensor *b);

// How float32 products of matmul and linear are computed, gradients too, from now on. HIGHEST and HIGH: in float32. MEDIUM: operands
// rounded to bfloat16 (8 bits; the tensors stay as they are), products exact, sums in float32: the same bits on every CPU, whether it
// has instructions for them or not, but for sums below 2^-126, which may be 0. On a GPU HIGH is TF32 and MEDIUM is its own bfloat16, both
// hold for convolution too, and large products of matmul and linear go to cuBLASLt: their bits may depend on the sizes.
enum { MT_PRECISION_HIGHEST = 0, MT_PRECISION_HIGH = 1, MT_PRECISION_MEDIUM = 2 };
int mt_matmul_precision_set(int32_t precision);
int32_t mt_matmul_precision_get(void);

#pragma GCC visibility pop
