// elementwise_unary_rows: the formulas of elementwise.h for one operand, for both libraries, once for each type (five.h). Internal.
// Each function stands beside its derivative.

#if NUMBER_IS_REAL

// y = value, a function of x; dx = gradient, a function of g = dy and of x (OF_X) or of the result y (OF_Y).
#define OF_X(name, value, gradient)                       \
  MT_ROW_1(FN(name), NUMBER, NUMBER, value)               \
  MT_INLINE NUMBER FN(name##_slope)(NUMBER g, NUMBER x) { \
    (void)g;                                              \
    (void)x;                                              \
    return gradient;                                      \
  }                                                       \
  MT_ROW_2(FN(name##_backward), NUMBER, NUMBER, NUMBER, FN(name##_slope)(a, b))
#define OF_Y(name, value, gradient)                       \
  MT_ROW_1(FN(name), NUMBER, NUMBER, value)               \
  MT_INLINE NUMBER FN(name##_slope)(NUMBER g, NUMBER y) { return gradient; } \
  MT_ROW_2(FN(name##_backward), NUMBER, NUMBER, NUMBER, FN(name##_slope)(a, b))

#define SIGN(x) ((x) != (x) ? (x) : (NUMBER)(((x) > 0) - ((x) < 0)))

OF_X(neg, -x, -g)
OF_X(abs, MATH(fabs)(x), g * SIGN(x))
OF_X(sign, SIGN(x), 0)
OF_X(square, x *x, 2 * x * g)
OF_Y(reciprocal, 1 / x, -g *y *y)
OF_Y(sqrt, MATH(sqrt)(x), g / (2 * y))
OF_Y(rsqrt, 1 / MATH(sqrt)(x), -g / 2 * y * y * y)
OF_Y(exp, FN(mt_exp)(x), g *y)
OF_Y(expm1, FN(mt_expm1)(x), g *(y + 1))
OF_X(log, FN(mt_log)(x), g / x)
OF_X(log1p, FN(mt_log1p)(x), g / (x + 1))
OF_X(log2, FN(mt_log2)(x), g / (x * (NUMBER)0.693147180559945309417))
OF_X(sin, MATH(sin)(x), g *MATH(cos)(x))
OF_X(cos, MATH(cos)(x), -g * MATH(sin)(x))
OF_Y(tan, MATH(tan)(x), g *(1 + y * y))
OF_X(atan, MATH(atan)(x), g / (1 + x * x))
OF_Y(tanh, FN(mt_tanh)(x), g *(1 - y) * (1 + y))
OF_Y(sigmoid, FN(mt_logistic)(x), g *y *(1 - y))
OF_X(floor, MATH(floor)(x), 0)
OF_X(ceil, MATH(ceil)(x), 0)
OF_X(round, MATH(rint)(x), 0)
OF_X(trunc, MATH(trunc)(x), 0)

// In the order of the enum.
static const mt_row_function FN(forward)[MT_UNARY_OPS] = {
  FN(neg), FN(abs), FN(sign), FN(square), FN(reciprocal), FN(sqrt), FN(rsqrt), FN(exp), FN(expm1), FN(log), FN(log1p),
  FN(log2), FN(sin), FN(cos), FN(tan), FN(atan), FN(tanh), FN(sigmoid), FN(floor), FN(ceil), FN(round), FN(trunc),
};
#define SLOPE(name) FN(name##_backward)
static const mt_row_function FN(backward)[MT_UNARY_OPS] = {
  SLOPE(neg), SLOPE(abs), SLOPE(sign), SLOPE(square), SLOPE(reciprocal), SLOPE(sqrt), SLOPE(rsqrt), SLOPE(exp),
  SLOPE(expm1), SLOPE(log), SLOPE(log1p), SLOPE(log2), SLOPE(sin), SLOPE(cos), SLOPE(tan), SLOPE(atan), SLOPE(tanh),
  SLOPE(sigmoid), SLOPE(floor), SLOPE(ceil), SLOPE(round), SLOPE(trunc),
};
#undef SLOPE
#undef SIGN
#undef OF_X
#undef OF_Y

#else  // integers: unsigned arithmetic wraps around, signed overflow would be undefined

MT_ROW_1(FN(neg), NUMBER, NUMBER, -(uint64_t)x)
MT_ROW_1(FN(abs), NUMBER, NUMBER, x > 0 ? (uint64_t)x : -(uint64_t)x)
MT_ROW_1(FN(sign), NUMBER, NUMBER, (x > 0) - (x < 0))
MT_ROW_1(FN(square), NUMBER, NUMBER, (uint64_t)x *(uint64_t)x)

static const mt_row_function FN(forward)[MT_UNARY_OPS] = {FN(neg), FN(abs), FN(sign), FN(square)};

#endif
