// activation_rows: the formulas of activation.h, read by the C and by the CUDA file, once for each type (twice.h). Internal.
// Each function stands beside its derivative.

// f(x) and f'(x) in double, for float32 by the vector functions.
MT_INLINE double FN(elu)(double x, parameters p) { return x > 0 ? x : p.a * FN(mt_wide_expm1)(x); }
MT_INLINE double FN(elu_slope)(double x, parameters p) { return x > 0 ? 1 : p.a * FN(mt_wide_exp)(x); }

MT_INLINE double FN(softplus)(double x, parameters p) {
  const double t = p.a * x;
  const double soft = FN(mt_wide_softplus)(t) / p.a;
  return t > p.b ? x : soft;
}
MT_INLINE double FN(softplus_slope)(double x, parameters p) {
  const double slope = FN(mt_wide_logistic)(p.a * x);
  return p.a * x > p.b ? 1 : slope;
}

// s = logistic(t), rest = logistic(-t); float32 takes both from one exponential.
#if REAL_BITS == 32
#define LOGISTICS(t)                                                                          \
  const double e_ = FN(mt_wide_exp)(-fabs(t)), s = ((t) < 0 ? e_ : 1) / (1 + e_);             \
  const double rest = ((t) < 0 ? 1 : e_) / (1 + e_)
#else
#define LOGISTICS(t) const double s = FN(mt_wide_logistic)(t), rest = FN(mt_wide_logistic)(-(t))
#endif

MT_INLINE double FN(silu)(double x, parameters p) {
  (void)p;
  return x * FN(mt_wide_logistic)(x);
}
MT_INLINE double FN(silu_slope)(double x, parameters p) {
  (void)p;
  LOGISTICS(x);
  return s + x * s * rest;
}

MT_INLINE double FN(gelu)(double x, parameters p) {
  (void)p;
  return x * 0.5 * FN(mt_wide_erfc)(x * -0.70710678118654752440);
}
MT_INLINE double FN(gelu_slope)(double x, parameters p) {
  (void)p;
  return 0.5 * FN(mt_wide_erfc)(x * -0.70710678118654752440) + x * FN(mt_wide_exp)(-0.5 * x * x) * 0.39894228040143267794;
}

// (1 + tanh(u)) / 2 = logistic(2 u)
MT_INLINE double FN(gelu_tanh)(double x, parameters p) {
  (void)p;
  return x * FN(mt_wide_logistic)(1.59576912160573071176 * (x + 0.044715 * x * x * x));
}
MT_INLINE double FN(gelu_tanh_slope)(double x, parameters p) {
  (void)p;
  const double t = 1.59576912160573071176 * (x + 0.044715 * x * x * x);
  LOGISTICS(t);
  return s + x * s * rest * 1.59576912160573071176 * (1 + 3 * 0.044715 * x * x);
}

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
#undef LOGISTICS

// In the order of the enum.
static const mt_row_function FN(forward)[MT_ACTIVATIONS] = {
  FN(relu_forward), FN(leaky_relu_forward), FN(elu_forward), FN(softplus_forward), FN(silu_forward), FN(gelu_forward),
  FN(gelu_tanh_forward),
};
static const mt_row_function FN(backward)[MT_ACTIVATIONS] = {
  FN(relu_backward), FN(leaky_relu_backward), FN(elu_backward), FN(softplus_backward), FN(silu_backward), FN(gelu_backward),
  FN(gelu_tanh_backward),
};
