// masked_conv: see masked_conv.h. Masks and ratios from what windows hold (masked_conv_window.c), then the pass that finishes a
// convolution's result.
#ifdef REAL
#include "activate.h"

#define AT(k) (*(const REAL *)(p[k] + i * step[k]))

// y, raw, r, b, m
MT_INLINE void FN(finish_steps)(char *const *p, int64_t ys, int64_t xs, int64_t rs, int64_t bs, int64_t ms, int64_t n, bool has_bias,
                                int32_t f, REAL a) {
  char *const q0 = p[0], *const q1 = p[1], *const q2 = p[2], *const q3 = p[3], *const q4 = p[4];
  _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++) {
    const REAL x = *(const REAL *)(q1 + i * xs), r = *(const REAL *)(q2 + i * rs), m = *(const REAL *)(q4 + i * ms);
    REAL v = x * r;
    v = r == 0 ? 0 : v;
    if (has_bias) {  // adding 0 would turn -0 into 0
      v += *(const REAL *)(q3 + i * bs);
    }
    v *= m;
    *(REAL *)(q0 + i * ys) = FN(activate)(m == 0 ? 0 : v, f, a);
  }
}

MT_INLINE void FN(finish_as)(char *const *p, const int64_t *step, int64_t n, bool has_bias, const int32_t f, REAL a) {
  const int64_t z = sizeof(REAL);
  const bool near = step[0] == z && step[1] == z && (!has_bias || step[3] == z);
  if (near && step[2] == 0 && step[4] == 0) {
    FN(finish_steps)(p, z, z, 0, z, 0, n, has_bias, f, a);
  } else if (near && step[2] == 0 && step[4] == z) {
    FN(finish_steps)(p, z, z, 0, z, z, n, has_bias, f, a);
  } else if (near && step[2] == z && step[4] == z) {
    FN(finish_steps)(p, z, z, z, z, z, n, has_bias, f, a);
  } else {
    FN(finish_steps)(p, step[0], step[1], step[2], step[3], step[4], n, has_bias, f, a);
  }
}

MT_CLONES static void FN(finish_row)(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const finish_how *how = context;
  if (how->activation == MT_ACTIVATION_IDENTITY) {
    FN(finish_as)(p, step, n, how->has_bias, MT_ACTIVATION_IDENTITY, 0);
  } else if (how->activation == MT_ACTIVATION_RELU) {
    FN(finish_as)(p, step, n, how->has_bias, MT_ACTIVATION_RELU, 0);
  } else {
    FN(finish_as)(p, step, n, how->has_bias, MT_ACTIVATION_LEAKY_RELU, (REAL)how->a);
  }
}

// draw, dy, r, m
MT_INLINE void FN(finish_backward_steps)(char *const *p, int64_t xs, int64_t ys, int64_t rs, int64_t ms, int64_t n) {
  char *const q0 = p[0], *const q1 = p[1], *const q2 = p[2], *const q3 = p[3];
  _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++) {
    const REAL r = *(const REAL *)(q2 + i * rs), m = *(const REAL *)(q3 + i * ms), v = *(const REAL *)(q1 + i * ys) * m * r;
    *(REAL *)(q0 + i * xs) = m == 0 || r == 0 ? 0 : v;
  }
}

MT_CLONES static void FN(finish_backward_row)(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const int64_t z = sizeof(REAL);
  const bool near = step[0] == z && step[1] == z;
  (void)context;
  if (near && step[2] == 0 && step[3] == 0) {
    FN(finish_backward_steps)(p, z, z, 0, 0, n);
  } else if (near && step[2] == 0 && step[3] == z) {
    FN(finish_backward_steps)(p, z, z, 0, z, n);
  } else if (near && step[2] == z && step[3] == 0) {
    FN(finish_backward_steps)(p, z, z, z, 0, n);
  } else if (near && step[2] == z && step[3] == z) {
    FN(finish_backward_steps)(p, z, z, z, z, n);
  } else {
    FN(finish_backward_steps)(p, step[0], step[1], step[2], step[3], n);
  }
}

static void FN(power_row)(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const double alpha = *(const double *)context;
  for (int64_t i = 0; i < n; i++) {
    const REAL q = AT(1);
    // Powers in double: a float32 result is then the rounded float64 one. pow(1, alpha) is 1 exactly.
    *(REAL *)(p[0] + i * step[0]) = q == 0 || q == 1 ? q : (REAL)(alpha == 1 ? q : alpha == 0.5 ? sqrt(q) : pow(q, alpha));
  }
}

// sum + the sum of dy * m * raw * r * log(q) along one row of positions of one sample and channel
static double FN(alpha_row)(double sum, char *const *p, const int64_t *step, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    const double dy = AT(0), raw = AT(1), r = AT(2), q = AT(3), m = AT(4);
    if (m != 0 && q != 0) {
      sum += dy * m * raw * r * log(q);
    }
  }
  return sum;
}

#undef AT

#else
#include "common.h"
#include "loop.h"
#include "masked_conv_check.h"
#include "row.h"

typedef struct {
  bool has_bias;
  int32_t activation;
  double a;
} finish_how;

#define MT_SOURCE "masked_conv.c"
#include "twice.h"

// ---- mask rules and ratios --------------------------------------------------------------------------------------------

static int mask_of_windows(mt_windows *c, const mt_tensor *w, int32_t rule) {
  static const int32_t finish[MT_RULES] = {MT_FINISH_KEEP,     MT_FINISH_GROW,       MT_FINISH_SMALLEST,
                                           MT_FINISH_COVERAGE, MT_FINISH_CONFIDENCE, MT_FINISH_CONFIDENCE};
  c->finish = finish[rule];
  if (rule == MT_RULE_KEEP || rule == MT_RULE_CENTRE) {
    mt_window_centre(c);
  }
  if (c->finish == MT_FINISH_CONFIDENCE) {
    return mt_window_weigh(c, w, false);
  }
  return mt_window_count(c, rule == MT_RULE_KEEP    ? MT_MERGE_LARGEST
                            : rule == MT_RULE_ERODE ? MT_MERGE_SMALLEST
                                                    : MT_MERGE_SUM);
}

int mt_masked_conv_mask(mt_tensor *out, const mt_tensor *mask, const mt_tensor *kinds, const mt_tensor *w, const mt_conv *g,
                        const mt_window *v, int32_t rule) {
  mt_windows c = {0};
  MT_TRY(mt_masked_conv_check_rule(rule, w));
  const bool weighted = rule == MT_RULE_CONFIDENCE || rule == MT_RULE_CENTRE;
  int status = mt_window_open(&c, "masked_conv", out, mask, kinds, weighted ? w : NULL, g, v);
  status = status == MT_OK ? mask_of_windows(&c, w, rule) : status;
  mt_window_close(&c);
  return status;
}

int mt_masked_conv_ratio(mt_tensor *q, const mt_tensor *mask, const mt_tensor *kinds, const mt_tensor *w, const mt_conv *g,
                         const mt_window *v, int32_t norm) {
  mt_windows c = {0};
  MT_TRY(mt_masked_conv_check_norm(norm, w));
  const bool weighted = norm != MT_NORM_COUNT;
  int status = mt_window_open(&c, "masked_conv", q, mask, kinds, weighted ? w : NULL, g, v);
  c.finish = norm == MT_NORM_L2 ? MT_FINISH_ROOT : MT_FINISH_RATIO;
  c.multiplicity = weighted ? 1 : c.multiplicity;
  if (status == MT_OK) {
    status = weighted ? mt_window_weigh(&c, w, norm == MT_NORM_L2) : mt_window_count(&c, MT_MERGE_SUM);
  }
  mt_window_close(&c);
  return status;
}

int mt_masked_conv_confidence(mt_tensor *out, mt_tensor *q, const mt_tensor *mask, const mt_tensor *kinds, const mt_tensor *w,
                              const mt_conv *g, const mt_window *v) {
  mt_windows c = {0};
  MT_TRY(mt_masked_conv_check_confidence(out, q, w));
  int status = mt_window_open(&c, "masked_conv", out, mask, kinds, w, g, v);
  c.finish = MT_FINISH_CONFIDENCE;
  c.multiplicity = 1;
  c.ratio = q;
  status = status == MT_OK ? mt_window_weigh(&c, w, false) : status;
  mt_window_close(&c);
  return status;
}

int mt_masked_conv_power(mt_tensor *r, const mt_tensor *q, double alpha) {
  MT_TRY(mt_masked_conv_check_power(r, q));
  return mt_loop_run(2, (const mt_tensor *const[]){r, q}, MT_REAL_FN(q->dtype, power_row), &alpha);
}

// ---- the finishing pass -------------------------------------------------------------------------------------------

// A tensor of one element, broadcast: the neutral element of an absent operand.
static mt_tensor constant(const void *value, int32_t dtype, int32_t ndim) {
  mt_tensor t = {.data = (void *)(uintptr_t)value, .numel = 1, .dtype = dtype, .ndim = ndim};
  for (int32_t d = 0; d < ndim; d++) {
    t.shape[d] = 1;
    t.stride[d] = 1;
  }
  return t;
}

static const float one_f32 = 1, zero_f32;
static const double one_f64 = 1, zero_f64;

static mt_tensor neutral(const mt_tensor *y, bool one) {
  const void *value = y->dtype == MT_FLOAT32 ? (one ? &one_f32 : &zero_f32) : (const void *)(one ? &one_f64 : &zero_f64);
  return constant(value, y->dtype, y->ndim);
}

// t, or ones when it is NULL
static mt_tensor factor(const mt_tensor *t, const mt_tensor *y) { return t == NULL ? neutral(y, true) : *t; }

int mt_masked_conv_finish(mt_tensor *y, const mt_tensor *raw, const mt_tensor *r, const mt_tensor *b, const mt_tensor *m,
                          int32_t activation, double a) {
  MT_TRY(mt_masked_conv_check_finish(y, raw, r, b, m, activation, a));
  mt_tensor ratios = factor(r, y), gate = factor(m, y), bias = {0};
  const finish_how how = {b != NULL, activation, a};
  if (b) {
    bias = constant(b->data, y->dtype, y->ndim);
    bias.shape[1] = b->shape[0];
    bias.stride[1] = b->stride[0];
  } else {
    bias = neutral(y, false);
  }
  return mt_loop_run(5, (const mt_tensor *const[]){y, raw, &ratios, &bias, &gate}, MT_REAL_FN(y->dtype, finish_row),
                     &how);
}

int mt_masked_conv_finish_backward(mt_tensor *draw, const mt_tensor *dy, const mt_tensor *r, const mt_tensor *m) {
  MT_TRY(mt_masked_conv_check_finish(draw, dy, r, NULL, m, MT_ACTIVATION_IDENTITY, 0));
  mt_tensor ratios = factor(r, draw), gate = factor(m, draw);
  return mt_loop_run(4, (const mt_tensor *const[]){draw, dy, &ratios, &gate}, MT_REAL_FN(draw->dtype, finish_backward_row),
                     NULL);
}

// Sums of single channels of single samples; the caller adds them up in order.
typedef struct {
  const mt_tensor *t[5];  // dy, raw, r, q, m
  double *partial;
} alpha_task;

static void alpha_range(void *context, int64_t begin, int64_t end) {
  const alpha_task *task = context;
  const mt_tensor *y = task->t[0];
  int32_t dims = y->ndim - 2;
  int64_t size[3] = {1, 1, 1};
  for (int32_t d = 0; d < dims; d++) {
    size[3 - dims + d] = y->shape[2 + d];
  }
  for (int64_t index = begin; index < end; index++) {
    int64_t at[2] = {index / y->shape[1], index % y->shape[1]};
    double sum = 0;
    for (int64_t a = 0; a < size[0]; a++) {
      for (int64_t b = 0; b < size[1]; b++) {
        char *p[5];
        int64_t step[5];
        for (int32_t k = 0; k < 5; k++) {
          const mt_tensor *t = task->t[k];
          int64_t s[3] = {0, 0, 0}, offset = 0;
          for (int32_t d = 0; d < dims; d++) {
            s[3 - dims + d] = t->shape[2 + d] == 1 ? 0 : t->stride[2 + d];
          }
          for (int32_t d = 0; d < 2; d++) {
            offset += t->shape[d] == 1 ? 0 : at[d] * t->stride[d];
          }
          offset += a * s[0] + b * s[1];
          p[k] = (char *)t->data + offset * mt_dtype_size(t->dtype);
          step[k] = s[2] * mt_dtype_size(t->dtype);
        }
        sum = MT_REAL_CALL(y->dtype, alpha_row, sum, p, step, size[2]);
      }
    }
    task->partial[index] = sum;
  }
}

int mt_masked_conv_alpha_backward(mt_tensor *dalpha, const mt_tensor *dy, const mt_tensor *raw, const mt_tensor *r,
                                  const mt_tensor *q, const mt_tensor *m) {
  MT_TRY(mt_masked_conv_check_alpha(dalpha, dy, raw, r, q, m));
  mt_tensor ratios = factor(r, dy), bases = factor(q, dy), gate = factor(m, dy);
  int64_t count = dy->shape[0] * dy->shape[1];
  MT_SCRATCH(double, partial, MT_MAX(1, count));
  if (partial == NULL) {
    return MT_ERROR_MEMORY;
  }
  alpha_task task = {{dy, raw, &ratios, &bases, &gate}, partial};
  int status = mt_parallel(count, MT_MAX(1, 16384 / MT_MAX(1, dy->numel / MT_MAX(1, count))), alpha_range, &task);
  double sum = 0;
  for (int64_t i = 0; i < count; i++) {
    sum += partial[i];
  }
  mt_free(partial);
  return status == MT_OK ? mt_tensor_fill(dalpha, sum) : status;
}

#endif
