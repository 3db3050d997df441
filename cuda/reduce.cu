// reduce: sums of mapped elements: sum, mean, variance, norms, log-sum-exp, and their gradients. See core/reduce.h; the order of
// additions is fold.cuh's.
#include "fold.cuh"
#include "row.cuh"

extern "C" {
#include "../core/reduce_check.h"
}

#define MT_SOURCE "reduce_rows.h"
#include "../core/twice.h"

// How a sum becomes the result.
enum { AS_IT_IS, DIVIDED, ROOT_DIVIDED, ROOT_OVER_C, POWER, LOG_PLUS_C };

template <typename T> struct store {
  mt_reduction r;
  T *y;
  int how;
  double a;
  const double *c;
  MT_INSIDE void operator()(int64_t o, double v) const {
    int64_t in_x, in_y;
    mt_fold_output(r, o, &in_x, &in_y);
    switch (how) {
      case DIVIDED: v = v / a; break;
      case ROOT_DIVIDED: v = sqrt(v / a); break;
      case ROOT_OVER_C: v = c ? sqrt(v) / c[o] : sqrt(v); break;
      case POWER: v = pow(v, a); break;
      case LOG_PLUS_C: v = log(v) + c[o]; break;
    }
    y[in_y] = (T)v;
  }
};

// ---- sum, mean --------------------------------------------------------------------------------------------------------

template <typename T> static int real_sum(mt_device *device, const mt_reduction *r, mt_tensor *y, const mt_tensor *x, bool mean) {
  const store<T> end = {*r, (T *)y->data, mean ? DIVIDED : AS_IT_IS, (double)r->count, NULL};
  return mt_fold<T>(device, r, x, NULL, mt_fold_sum<T, MT_MAP_IDENTITY>(), end);
}

struct store_integer {
  mt_reduction r;
  int64_t *y;
  MT_INSIDE void operator()(int64_t o, unsigned long long v) const {
    int64_t in_x, in_y;
    mt_fold_output(r, o, &in_x, &in_y);
    y[in_y] = (int64_t)v;
  }
};

static int integer_sum(mt_tensor *y, const mt_tensor *x, int32_t dims) {
  mt_device *device;
  mt_reduction r;
  MT_TRY(mt_reduce_check_integer_sum(&r, y, x, dims));
  MT_TRY(mt_check_together("sum", y, 1, &x));
  MT_TRY(mt_enter(&device, y));
  const store_integer end = {r, (int64_t *)y->data};
  switch (x->dtype) {
    case MT_INT64: return mt_fold<int64_t>(device, &r, x, NULL, mt_fold_integers<int64_t>(), end);
    case MT_INT32: return mt_fold<int32_t>(device, &r, x, NULL, mt_fold_integers<int32_t>(), end);
    default: return mt_fold<uint8_t>(device, &r, x, NULL, mt_fold_integers<uint8_t>(), end);
  }
}

static int sum_or_mean(const char *op, mt_tensor *y, const mt_tensor *x, int32_t dims, bool mean) {
  mt_device *device;
  mt_reduction r;
  MT_TRY(mt_reduce_check_real(op, &r, y, x, dims));
  MT_TRY(mt_check_together(op, y, 1, &x));
  MT_TRY(mt_enter(&device, y));
  return MT_REAL_TEMPLATE(x->dtype, real_sum, device, &r, y, x, mean);
}

extern "C" int mt_reduce_sum(mt_tensor *y, const mt_tensor *x, int32_t dims) {
  MT_TRY(mt_check_tensor("sum", "input", x));
  return x->dtype == MT_FLOAT32 || x->dtype == MT_FLOAT64 ? sum_or_mean("sum", y, x, dims, false) : integer_sum(y, x, dims);
}

extern "C" int mt_reduce_mean(mt_tensor *y, const mt_tensor *x, int32_t dims) { return sum_or_mean("mean", y, x, dims, true); }

MT_ROW_1(scale_f32, float, float, x * (float)*(const double *)context)
MT_ROW_1(scale_f64, double, double, x * *(const double *)context)

extern "C" int mt_reduce_sum_backward(mt_tensor *dx, const mt_tensor *dy, double scale) {
  const mt_tensor *const t[] = {dx, dy};
  MT_TRY(mt_reduce_check_sum_backward(dx, dy));
  return mt_loop_launch(2, t, MT_REAL_FN(dy->dtype, scale), &scale, sizeof scale);
}

// ---- variance ---------------------------------------------------------------------------------------------------------

// The mean of an output, kept for the second pass and for backward.
struct store_mean {
  mt_reduction r;
  double *kept, *mean;
  double count;
  MT_INSIDE void operator()(int64_t o, double v) const {
    int64_t in_x, in_mean;
    mt_fold_output(r, o, &in_x, &in_mean);
    mean[in_mean] = kept[o] = v / count;
  }
};

template <typename T>
static int variance(mt_device *device, const mt_reduction *r, const mt_reduction *r_mean, mt_tensor *y, mt_tensor *mean,
                    const mt_tensor *x, double divisor, bool root) {
  mt_scratch kept;
  MT_TRY(kept.take(device, r->outputs, (int64_t)sizeof(double)));
  const store_mean first = {*r_mean, (double *)kept.data, (double *)mean->data, (double)r->count};
  const store<T> second = {*r, (T *)y->data, root ? ROOT_DIVIDED : DIVIDED, divisor, NULL};
  MT_TRY(mt_fold<T>(device, r, x, NULL, mt_fold_sum<T, MT_MAP_IDENTITY>(), first));
  return mt_fold<T>(device, r, x, (const double *)kept.data, mt_fold_sum<T, MT_MAP_DEVIATION>(), second);
}

extern "C" int mt_reduce_var(mt_tensor *y, mt_tensor *mean, const mt_tensor *x, int32_t dims, double correction, int32_t root) {
  mt_device *device;
  mt_reduction r, r_mean;
  const mt_tensor *const t[] = {mean, x};
  MT_TRY(mt_reduce_check_var(&r, &r_mean, y, mean, x, dims, root));
  MT_TRY(mt_check_together("var", y, 2, t));
  MT_TRY(mt_enter(&device, y));
  const double divisor = fmax(0, (double)r.count - correction);
  return MT_REAL_TEMPLATE(x->dtype, variance, device, &r, &r_mean, y, mean, x, divisor, root != 0);
}

#define VAR_GRADIENT(T, suffix)                                                                                      \
  static __global__ void var_gradient_##suffix(const mt_walk walk, double scale, bool root) {                        \
    MT_EACH(i, walk.numel) {                                                                                         \
      char *p[5];                                                                                                    \
      mt_walk_at(p, walk, i);                                                                                        \
      const double slope = var_slope_##suffix(*(const T *)p[2], *(const T *)p[3], *(const double *)p[4], scale, root); \
      *(T *)p[0] = (T)(*(const T *)p[1] * slope);                                                                    \
    }                                                                                                                \
  }
VAR_GRADIENT(float, f32)
VAR_GRADIENT(double, f64)

extern "C" int mt_reduce_var_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, const mt_tensor *y,
                                      const mt_tensor *mean, double correction, int32_t root) {
  mt_device *device;
  mt_walk walk;
  const mt_tensor *const t[] = {dx, dy, x, y, mean};
  MT_TRY(mt_reduce_check_var_backward(dx, dy, x, y, mean, root));
  MT_TRY(mt_check_together("var", dx, 5, t));
  const double count = (double)x->numel / (double)MT_MAX(1, y->numel), divisor = fmax(0, count - correction);
  MT_TRY(mt_walk_plan(&walk, 5, t));
  if (walk.numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_enter(&device, dx));
  MT_LAUNCH(device, MT_REAL_FN(x->dtype, var_gradient), mt_grid(device, walk.numel), MT_BLOCK, 0, walk, (root ? 1 : 2) / divisor,
            root != 0);
  return MT_OK;
}

// ---- norm -----------------------------------------------------------------------------------------------------------------

// The power of 2 that brings the largest element near 1, so that squares of float64 stay in range.
struct store_scale {
  double *scale;
  MT_INSIDE void operator()(int64_t o, double largest) const {
    int exponent = 0;
    if (largest > 0 && largest < INFINITY) {
      (void)frexp(largest, &exponent);
    }
    scale[o] = ldexp(1.0, -max(-1000, min(1000, exponent)));
  }
};

// c = p for every output.
static __global__ void fill_constant(double *c, double value, int64_t n) {
  MT_EACH(i, n) {
    c[i] = value;
  }
}

template <typename T> static int norm(mt_device *device, const mt_reduction *r, mt_tensor *y, const mt_tensor *x, double p) {
  mt_scratch scratch;
  store<T> end = {*r, (T *)y->data, AS_IT_IS, 0, NULL};
  if (isinf(p)) {
    const mt_fold_extreme_abs<T> extreme = {p > 0};
    return mt_fold<T>(device, r, x, NULL, extreme, end);
  }
  if (p == 0) {
    return mt_fold<T>(device, r, x, NULL, mt_fold_sum<T, MT_MAP_NONZERO>(), end);
  }
  if (p == 1) {
    return mt_fold<T>(device, r, x, NULL, mt_fold_sum<T, MT_MAP_ABS>(), end);
  }
  if (r->outputs == 0) {
    return MT_OK;
  }
  MT_TRY(scratch.take(device, r->outputs, (int64_t)sizeof(double)));
  double *c = (double *)scratch.data;
  if (p != 2) {
    MT_LAUNCH(device, fill_constant, mt_grid(device, r->outputs), MT_BLOCK, 0, c, p, r->outputs);
    end.how = POWER;
    end.a = 1 / p;
    return mt_fold<T>(device, r, x, c, mt_fold_sum<T, MT_MAP_POWER>(), end);
  }
  if (sizeof(T) == 8) {
    const store_scale scale = {c};
    const mt_fold_extreme_abs<T> extreme = {true};
    MT_TRY(mt_fold<T>(device, r, x, NULL, extreme, scale));
  } else {
    MT_LAUNCH(device, fill_constant, mt_grid(device, r->outputs), MT_BLOCK, 0, c, 1.0, r->outputs);
  }
  end.how = ROOT_OVER_C;
  end.c = c;
  return mt_fold<T>(device, r, x, c, mt_fold_sum<T, MT_MAP_SQUARE>(), end);
}

extern "C" int mt_reduce_norm(mt_tensor *y, const mt_tensor *x, int32_t dims, double p) {
  mt_device *device;
  mt_reduction r;
  MT_TRY(mt_reduce_check_norm(&r, y, x, dims, p));
  MT_TRY(mt_check_together("norm", y, 1, &x));
  MT_TRY(mt_enter(&device, y));
  return MT_REAL_TEMPLATE(x->dtype, norm, device, &r, y, x, p);
}

#define OF_DY_X_Y(name, T, ...)                                                                                  \
  static __global__ void name(const mt_walk walk, double power) {                                                \
    MT_EACH(i, walk.numel) {                                                                                     \
      char *p[4];                                                                                                \
      mt_walk_at(p, walk, i);                                                                                    \
      const double dy = *(const T *)p[1], x = *(const T *)p[2], y = *(const T *)p[3];                            \
      (void)power;                                                                                               \
      *(T *)p[0] = (T)(__VA_ARGS__);                                                                             \
    }                                                                                                            \
  }
OF_DY_X_Y(norm_gradient_f32, float, dy *norm_slope_f32(x, y, power))
OF_DY_X_Y(norm_gradient_f64, double, dy *norm_slope_f64(x, y, power))
OF_DY_X_Y(exp_gradient_f32, float, logsumexp_gradient_f32(dy, x, y))
OF_DY_X_Y(exp_gradient_f64, double, logsumexp_gradient_f64(dy, x, y))

static int slope(const char *op, mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, const mt_tensor *y, double power,
                 void (*kernel)(mt_walk, double)) {
  mt_device *device;
  mt_walk walk;
  const mt_tensor *const t[] = {dx, dy, x, y};
  MT_TRY(mt_check_together(op, dx, 4, t));
  MT_TRY(mt_walk_plan(&walk, 4, t));
  if (walk.numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_enter(&device, dx));
  MT_LAUNCH(device, kernel, mt_grid(device, walk.numel), MT_BLOCK, 0, walk, power);
  return MT_OK;
}

// In reduce_extreme.cu.
int mt_reduce_even(const char *op, mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, const mt_tensor *y, int32_t dims,
                   bool absolute);

extern "C" int mt_reduce_norm_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, const mt_tensor *y, int32_t dims,
                                       double p) {
  MT_TRY(mt_reduce_check_slope("norm", dx, dy, x, y));
  if (isinf(p)) {
    return mt_reduce_even("norm", dx, dy, x, y, dims, true);
  }
  return slope("norm", dx, dy, x, y, p, MT_REAL_FN(x->dtype, norm_gradient));
}

// ---- log-sum-exp ------------------------------------------------------------------------------------------------------------

// The maximum that is taken out; 0 where it is not finite.
template <typename T> struct store_largest {
  double *c;
  MT_INSIDE void operator()(int64_t o, mt_found<T> v) const {
    const double largest = (double)v.value;
    c[o] = v.position >= 0 && isfinite(largest) ? largest : 0;
  }
};

template <typename T> static int logsumexp(mt_device *device, const mt_reduction *r, mt_tensor *y, const mt_tensor *x) {
  mt_scratch scratch;
  MT_TRY(scratch.take(device, r->outputs, (int64_t)sizeof(double)));
  double *c = (double *)scratch.data;
  const mt_fold_extreme<T> extreme = {true};
  const store_largest<T> first = {c};
  const store<T> end = {*r, (T *)y->data, LOG_PLUS_C, 0, c};
  MT_TRY(mt_fold<T>(device, r, x, NULL, extreme, first));
  return mt_fold<T>(device, r, x, c, mt_fold_sum<T, MT_MAP_EXP>(), end);
}

extern "C" int mt_reduce_logsumexp(mt_tensor *y, const mt_tensor *x, int32_t dims) {
  mt_device *device;
  mt_reduction r;
  MT_TRY(mt_reduce_check_real("logsumexp", &r, y, x, dims));
  MT_TRY(mt_check_together("logsumexp", y, 1, &x));
  MT_TRY(mt_enter(&device, y));
  return MT_REAL_TEMPLATE(x->dtype, logsumexp, device, &r, y, x);
}

extern "C" int mt_reduce_logsumexp_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, const mt_tensor *y) {
  MT_TRY(mt_reduce_check_slope("logsumexp", dx, dy, x, y));
  return slope("logsumexp", dx, dy, x, y, 0, MT_REAL_FN(x->dtype, exp_gradient));
}
