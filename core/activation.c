// activation: see activation.h. Each function stands beside its derivative.
#ifdef REAL

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
static const mt_loop_row FN(forward)[MT_ACTIVATIONS] = {
  FN(relu_forward), FN(leaky_relu_forward), FN(elu_forward), FN(softplus_forward), FN(silu_forward), FN(gelu_forward),
  FN(gelu_tanh_forward),
};
static const mt_loop_row FN(backward)[MT_ACTIVATIONS] = {
  FN(relu_backward), FN(leaky_relu_backward), FN(elu_backward), FN(softplus_backward), FN(silu_backward), FN(gelu_backward),
  FN(gelu_tanh_backward),
};

#else
#include "row.h"

typedef struct {
  double a, b;
} parameters;

#define MT_SOURCE "activation.c"
#include "twice.h"

static const char *const names[MT_ACTIVATIONS] = {"relu", "leaky_relu", "elu", "softplus", "silu", "gelu", "gelu"};

static int check_function(int32_t function, double a, double b) {
  if (function < 0 || function >= MT_ACTIVATIONS) {
    return mt_fail(MT_ERROR_ARGUMENT, "activation: unknown function %d", function);
  }
  if (a != a || b != b || (function == MT_ACTIVATION_SOFTPLUS && !(a > 0))) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: parameters %g, %g: expected numbers, and a beta above 0", names[function], a, b);
  }
  return MT_OK;
}

static int check_forward(const char *op, const mt_tensor *y, const mt_tensor *x) {
  MT_TRY(mt_check_real(op, "input", x));
  MT_TRY(mt_check_like(op, "output", y, x));
  MT_TRY(mt_check_output(op, "output", y));
  return mt_check_overlap(op, y, x, true);
}

int mt_activation_forward(mt_tensor *y, const mt_tensor *x, int32_t function, double a, double b) {
  const parameters p = {a, b};
  MT_TRY(check_function(function, a, b));
  MT_TRY(check_forward(names[function], y, x));
  return mt_loop_run(2, (const mt_tensor *const[]){y, x}, MT_REAL_FN(x->dtype, forward)[function], &p);
}

int mt_activation_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, int32_t function, double a, double b) {
  const parameters p = {a, b};
  MT_TRY(check_function(function, a, b));
  MT_TRY(check_forward(names[function], dx, x));
  MT_TRY(mt_check_like(names[function], "gradient", dy, x));
  MT_TRY(mt_check_overlap(names[function], dx, dy, true));
  return mt_loop_run(3, (const mt_tensor *const[]){dx, dy, x}, MT_REAL_FN(x->dtype, backward)[function], &p);
}

#endif
