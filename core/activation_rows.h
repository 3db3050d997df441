// activation_rows: the formulas of activation.h, read by the C and by the CUDA file, once for each type (twice.h). Internal.
// Each function stands beside its derivative.

MT_INLINE REAL FN(elu)(REAL x, parameters p) {
  const REAL y = (REAL)p.a * FN(mt_expm1)(x);
  return x > 0 ? x : y;
}
MT_INLINE REAL FN(elu_slope)(REAL x, parameters p) {
  const REAL y = (REAL)p.a * FN(mt_exp)(x);
  return x > 0 ? 1 : y;
}

// max(x, 0) + log(1 + e^-|a x|) / a. Products that become exponents are rounded to t and what that lost, low.
MT_INLINE REAL FN(softplus)(REAL x, parameters p) {
  const double all = fabs(p.a * x), exact = all > 1000 ? 1000 : all;
  const REAL t = (REAL)exact, low = (REAL)(exact - (double)t), y = (x < 0 ? 0 : x) + FN(mt_log1p_decay)(t, low) / (REAL)p.a;
  return p.a * x > p.b ? x : y;
}
MT_INLINE REAL FN(softplus_slope)(REAL x, parameters p) {
  const double all = p.a * x, exact = all < -1000 ? -1000 : all;
  const REAL t = (REAL)exact, low = (REAL)(exact - (double)t), y = FN(mt_times_logistic)(1, t, low);
  return all > p.b ? 1 : y;
}

MT_INLINE REAL FN(silu)(REAL x, parameters p) {
  (void)p;
  const REAL c = x < -900 ? -900 : x;  // where all is 0 already: -Inf times 0 would be NaN
  return FN(mt_times_logistic)(c, c, 0);
}
MT_INLINE REAL FN(silu_slope)(REAL x, parameters p) {
  (void)p;
  const REAL c = x < -900 ? -900 : x;
  return FN(mt_times_logistic_slope)(c, c, 0, 1);
}

MT_INLINE REAL FN(gelu)(REAL x, parameters p) {
  (void)p;
  return FN(mt_times_normal)(x);
}
MT_INLINE REAL FN(gelu_slope)(REAL x, parameters p) {
  (void)p;
  return FN(mt_times_normal_slope)(x);
}

// (1 + tanh(u)) / 2 = logistic(2 u)
#define EXPONENT(x)                                                                                                      \
  const REAL c = x < -24 ? -24 : x;                                                                                      \
  const double exact = 1.59576912160573071176 * ((double)c + 0.044715 * (double)c * (double)c * (double)c);              \
  const REAL t = (REAL)exact, low = (REAL)(exact - (double)t)
MT_INLINE REAL FN(gelu_tanh)(REAL x, parameters p) {
  (void)p;
  EXPONENT(x);
  return FN(mt_times_logistic)(c, t, low);
}
MT_INLINE REAL FN(gelu_tanh_slope)(REAL x, parameters p) {
  (void)p;
  EXPONENT(x);
  return FN(mt_times_logistic_slope)(c, t, low, (REAL)1.59576912160573071176 * (1 + 3 * (REAL)0.044715 * c * c));
}
#undef EXPONENT

// y = f(x), dx = g f'(x)
#define ACTIVATION(name)                                                          \
  MT_ROW_1(FN(name##_forward), REAL, REAL, FN(name)(x, *(const parameters *)context)) \
  MT_ROW_2(FN(name##_backward), REAL, REAL, REAL, a *FN(name##_slope)(b, *(const parameters *)context))

MT_ROW_1(FN(relu_forward), REAL, REAL, x < 0 ? 0 : x)
MT_ROW_2(FN(relu_backward), REAL, REAL, REAL, b > 0 ? a : 0)
// Arithmetic instead of a choice: signs are random, and a mispredicted branch costs more than all the rest.
MT_INLINE REAL FN(leaky_factor)(REAL x, REAL slope) { return (REAL)(x > 0) + (REAL) !(x > 0) * slope; }
MT_ROW_1(FN(leaky_relu_forward), REAL, REAL, x *FN(leaky_factor)(x, (REAL)((const parameters *)context)->a))
MT_ROW_2(FN(leaky_relu_backward), REAL, REAL, REAL, a *FN(leaky_factor)(b, (REAL)((const parameters *)context)->a))
ACTIVATION(elu)
ACTIVATION(softplus)
ACTIVATION(silu)
ACTIVATION(gelu)
ACTIVATION(gelu_tanh)
#undef ACTIVATION

// In the order of the enum.
static const mt_row_function FN(forward)[MT_ACTIVATIONS] = {
  FN(relu_forward), FN(leaky_relu_forward), FN(elu_forward), FN(softplus_forward), FN(silu_forward), FN(gelu_forward),
  FN(gelu_tanh_forward),
};
static const mt_row_function FN(backward)[MT_ACTIVATIONS] = {
  FN(relu_backward), FN(leaky_relu_backward), FN(elu_backward), FN(softplus_backward), FN(silu_backward), FN(gelu_backward),
  FN(gelu_tanh_backward),
};
