// elementwise: y[i] = f(a[i], b[i]) with broadcasting: sizes 1 repeat, missing leading dims are added. y has the
// broadcast shape. In place (y the same view as an input) is allowed. Operands have one dtype; callers convert.
// bfloat16, wherever float32 is taken: computed in float32, rounded once. Where a function has several operands (binary, add, where and
// their gradients, sum_to), each of them and the output may be float32 or bfloat16, in any mixture.
#pragma once
#include "tensor.h"

#pragma GCC visibility push(default)

// y = a + alpha * b; float32 and float64
int mt_elementwise_add(mt_tensor *y, const mt_tensor *a, const mt_tensor *b, double alpha);

// y = op(x), one shape and dtype. float32 and float64; NEG, ABS, SIGN and SQUARE also on int64, int32 and uint8, where they
// wrap around. SIGN of NaN is NaN; ROUND takes halves to even. mask: bool, broadcasts to x, or NULL. Where it is 0 the result is 0 and x
// (and dy, kept) are not looked at.
enum {
  MT_UNARY_NEG, MT_UNARY_ABS, MT_UNARY_SIGN, MT_UNARY_SQUARE, MT_UNARY_RECIPROCAL, MT_UNARY_SQRT, MT_UNARY_RSQRT,
  MT_UNARY_EXP, MT_UNARY_EXPM1, MT_UNARY_LOG, MT_UNARY_LOG1P, MT_UNARY_LOG2, MT_UNARY_SIN, MT_UNARY_COS, MT_UNARY_TAN,
  MT_UNARY_ATAN, MT_UNARY_TANH, MT_UNARY_SIGMOID, MT_UNARY_FLOOR, MT_UNARY_CEIL, MT_UNARY_ROUND, MT_UNARY_TRUNC,
  MT_UNARY_OPS
};
int mt_elementwise_unary(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, int32_t op);
// dx = dy * op'(x). `kept` is the output y for RECIPROCAL, SQRT, RSQRT, EXP, EXPM1, TAN, TANH, SIGMOID, the input x for the
// others. The steps (SIGN, FLOOR, ...) have derivative 0; ABS has 0 at 0.
int mt_elementwise_unary_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *kept, const mt_tensor *mask, int32_t op);

// y = op(a, b) with broadcasting. All dtypes but bool; DIV and ATAN2 float32 and float64 only; comparisons (EQ to GE), MINIMUM
// and MAXIMUM also bool. y has the operands' dtype, bool for comparisons.
// Integers wrap around; a power with a negative exponent rounds towards zero; FMOD and REMAINDER of integers refuse 0.
// FMOD has the sign of a, REMAINDER the sign of b. MINIMUM and MAXIMUM are NaN when either operand is.
enum {
  MT_BINARY_ADD, MT_BINARY_SUB, MT_BINARY_MUL, MT_BINARY_DIV, MT_BINARY_POW, MT_BINARY_FMOD, MT_BINARY_REMAINDER,
  MT_BINARY_MINIMUM, MT_BINARY_MAXIMUM, MT_BINARY_ATAN2,
  MT_BINARY_EQ, MT_BINARY_NE, MT_BINARY_LT, MT_BINARY_LE, MT_BINARY_GT, MT_BINARY_GE, MT_BINARY_OPS
};
int mt_elementwise_binary(mt_tensor *y, const mt_tensor *a, const mt_tensor *b, int32_t op);
// d = dy * (derivative by a, or by b when by_b), of dy's shape: the broadcast shape, not yet summed to the operand's. Not for
// comparisons. Of equal operands of MINIMUM and MAXIMUM each gets half; POW by a is 0 where b = 0, by b 0 where a = 0 and b >= 0.
int mt_elementwise_binary_backward(mt_tensor *d, const mt_tensor *dy, const mt_tensor *a, const mt_tensor *b, int32_t op,
                                   int32_t by_b);

// y = min(max(x, low), high), NaN stays NaN. All dtypes but bool; bounds outside an integer type are its limits.
int mt_elementwise_clamp(mt_tensor *y, const mt_tensor *x, double low, double high);
// dx = dy where low <= x <= high, else 0
int mt_elementwise_clamp_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, double low, double high);

// y = condition != 0 ? a : b with broadcasting. condition is bool or uint8; y, a and b any one dtype.
int mt_elementwise_where(mt_tensor *y, const mt_tensor *condition, const mt_tensor *a, const mt_tensor *b);

// out = g summed over the dims that out broadcasts along (size 1, or missing in front): the gradient of broadcasting.
// Each row of the last such dim is summed in order, then the rows in order, in double: zeros appended to
// rows, or further rows of zeros, change no bit. float32 and float64, one dtype.
int mt_elementwise_sum_to(mt_tensor *out, const mt_tensor *g);

// *count = the number of elements where not |a - b| <= atol + rtol * |b|, equal infinities count as near, and two NaN
// when equal_nan. One shape, one dtype, any dtype.
int mt_elementwise_differences(double *count, const mt_tensor *a, const mt_tensor *b, double rtol, double atol,
                               int32_t equal_nan);

#pragma GCC visibility pop
