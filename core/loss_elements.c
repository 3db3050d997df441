// loss: losses of one element against its target; see loss.h.
#ifdef REAL

// The first element of row m of the mask from i on that is not 0 (or is: hole); a mask that stands still is one or the other.
static inline int64_t FN(next)(const job *j, const REAL *m, int64_t i, int64_t n, bool hole) {
  const int64_t stride = j->plan[2].stride;
  if (stride == 0) {
    return (*m == 0) == hole ? i : n;
  }
  return mt_mask_next((const char *)m, stride * (int64_t)sizeof(REAL), sizeof(REAL), i, n, hole);
}

// out[0] += terms, out[1] += weights of one row, which is valid from i on.
MT_INLINE void FN(row)(int kind, const job *j, const int64_t *offset, int64_t i, int64_t n, double *out) {
  const REAL *x = (const REAL *)j->data[0] + offset[0], *t = (const REAL *)j->data[1] + offset[1];
  const REAL *m = (const REAL *)j->data[2] + offset[2], *q = (const REAL *)j->data[3] + offset[3];
  const double a = j->options->parameter;
  double sum = 0, weight = 0;
  while (i < n) {
    for (const int64_t end = FN(next)(j, m, i, n, true); i < end; i++) {
      const double mask = m[i * j->plan[2].stride];
      sum += mask * mt_loss_term(kind, a, x[i * j->plan[0].stride], t[i * j->plan[1].stride], q[i * j->plan[3].stride]);
      weight += mask;
    }
    i = FN(next)(j, m, i, n, false);
  }
  out[0] = sum;
  out[1] = weight;
}

static void FN(rows_task)(void *context, int64_t begin, int64_t end) {
  const job *j = context;
  mt_row_cursor cursor[4];
  for (int k = 0; k < 4; k++) {
    mt_row_seek(&j->plan[k], &cursor[k], begin);
  }
  for (int64_t r = begin, at = begin; r < end; r++) {  // at: where the cursors but the mask's are
    int64_t offset[4], n = mt_row_length(&j->plan[2], &cursor[2]);
    double *out = &j->out[2 * r];
    offset[2] = mt_row_offset(&j->plan[2], &cursor[2]);
    mt_row_next(&j->plan[2], &cursor[2]);
    const int64_t first = FN(next)(j, (const REAL *)j->data[2] + offset[2], 0, n, false);
    if (first == n) {
      out[0] = out[1] = 0;
      continue;
    }
    const bool far = r - at > 4;
    for (int k = 0; k < 4; k++) {
      if (k == 2) continue;
      if (far) mt_row_seek(&j->plan[k], &cursor[k], r);
      for (int64_t i = at; !far && i < r; i++) mt_row_next(&j->plan[k], &cursor[k]);
      offset[k] = mt_row_offset(&j->plan[k], &cursor[k]);
    }
    at = r;
    switch (j->options->kind) {
      case MT_LOSS_MSE: FN(row)(MT_LOSS_MSE, j, offset, first, n, out); break;
      case MT_LOSS_L1: FN(row)(MT_LOSS_L1, j, offset, first, n, out); break;
      default: FN(row)(j->options->kind, j, offset, first, n, out); break;
    }
  }
}

// operands: y, x, target, pos_weight, and the mask where there is one
static void FN(each_row)(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const slope_of *s = context;
  const mt_loss_elements *o = s->options;
  for (int64_t i = 0; i < n; i++) {
    const double x = *(const REAL *)(p[1] + i * step[1]), t = *(const REAL *)(p[2] + i * step[2]);
    const double q = *(const REAL *)(p[3] + i * step[3]), m = s->masked ? (double)*(const REAL *)(p[4] + i * step[4]) : 1;
    *(REAL *)(p[0] + i * step[0]) = (REAL)(m * mt_loss_term(o->kind, o->parameter, x, t, q));
  }
}

// operands: d, dy, x, target, pos_weight, and the mask where there is one
MT_INLINE void FN(slopes)(int kind, bool of_target, char *const *p, int64_t sd, int64_t sdy, int64_t sx, int64_t st, int64_t sq,
                          const char *mask, int64_t sm, int64_t n, const slope_of *s) {
  const double scale = s->scale, a = s->options->parameter;
  _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++) {
    const double dy = *(const REAL *)(p[1] + i * sdy), x = *(const REAL *)(p[2] + i * sx), t = *(const REAL *)(p[3] + i * st);
    const double q = *(const REAL *)(p[4] + i * sq), m = mask ? (double)*(const REAL *)(mask + i * sm) : 1;
    *(REAL *)(p[0] + i * sd) = (REAL)(dy * scale * m * mt_loss_slope(kind, a, x, t, q, of_target));
  }
}

MT_CLONES static void FN(backward_row)(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const slope_of *s = context;
  enum { E = sizeof(REAL) };
  const bool near = step[0] == E && step[1] == 0 && step[2] == E && step[3] == E && step[4] == 0;
  const char *mask = s->masked ? p[5] : NULL;
  const int64_t sm = s->masked ? step[5] : 0;
#define NEAR(kind) FN(slopes)(kind, false, p, E, 0, E, E, 0, mask, sm, n, s)
  if (near && !s->of_target && s->options->kind == MT_LOSS_MSE) {
    NEAR(MT_LOSS_MSE);
  } else if (near && !s->of_target && s->options->kind == MT_LOSS_L1) {
    NEAR(MT_LOSS_L1);
  } else {
    FN(slopes)(s->options->kind, s->of_target, p, step[0], step[1], step[2], step[3], step[4], mask, sm, n, s);
  }
#undef NEAR
}

#else
#include "loss_check.h"
#include "mask_runs.h"
#include "row.h"
#include "loss_rows.h"

typedef struct {
  mt_reduction plan[4];  // x, target, mask, pos_weight
  const void *data[4];
  const mt_loss_elements *options;
  double *out;           // sum of terms and of weights, per row
} job;

typedef struct {
  const mt_loss_elements *options;
  double scale;
  bool of_target, masked;
} slope_of;

#define MT_SOURCE "loss_elements.c"
#include "twice.h"

static const float one_f32 = 1;
static const double one_f64 = 1;

static const void *one_of(const mt_tensor *x) { return x && x->dtype == MT_FLOAT64 ? (const void *)&one_f64 : &one_f32; }

static int reduce_terms(const char *op, mt_tensor *y, mt_tensor *total, const mt_tensor wide[4],
                        const mt_loss_elements *options) {
  job j = {.options = options};
  for (int k = 0; k < 4; k++) {
    MT_TRY(mt_reduction_plan(op, &j.plan[k], NULL, &wide[k], (1 << wide[k].ndim) - 1, false));
    j.data[k] = wide[k].data;
  }
  const int64_t rows = j.plan[0].rows;
  MT_SCRATCH(double, out, 2 * rows);
  if (out == NULL) {
    return MT_ERROR_MEMORY;
  }
  j.out = out;
  const int64_t grain = MT_MAX(1, 16384 / MT_MAX(1, MT_MIN(j.plan[0].length, (int64_t)MT_ROW)));
  int status = mt_parallel(rows, grain, MT_REAL_FN(wide[0].dtype, rows_task), &j);
  mt_total terms = {0, 0}, weights = {0, 0};
  for (int64_t r = 0; r < rows && status == MT_OK; r++) {
    if (out[2 * r + 1] == 0) continue;
    mt_total_add(&terms, out[2 * r]);
    mt_total_add(&weights, out[2 * r + 1]);
  }
  mt_free(out);
  const double sum = mt_total_value(&terms), weight = mt_total_value(&weights);
  const double value = options->reduction == MT_LOSS_SUM ? sum : sum / weight;
  *(double *)total->data = weight;
  if (y->dtype == MT_FLOAT32) {
    *(float *)y->data = (float)value;
  } else {
    *(double *)y->data = value;
  }
  return status;
}

int mt_loss_elements_forward(mt_tensor *y, mt_tensor *total, const mt_tensor *x, const mt_tensor *target,
                             const mt_tensor *mask, const mt_tensor *pos_weight, const mt_loss_elements *options) {
  mt_tensor wide[4];
  MT_TRY(mt_loss_check_elements_forward(wide, y, total, x, target, mask, pos_weight, options, one_of(x)));
  if (options->reduction != MT_LOSS_NONE) {
    return reduce_terms(mt_loss_elements_name(options), y, total, wide, options);
  }
  *(double *)total->data = 1;
  const slope_of s = {options, 1, false, mask != NULL};
  return mt_loop_valid(5, (const mt_tensor *const[]){y, &wide[0], &wide[1], &wide[3], mask ? &wide[2] : NULL},
                       MT_REAL_FN(x->dtype, each_row), &s, MT_BRIDGE);
}

int mt_loss_elements_backward(mt_tensor *d, const mt_tensor *dy, const mt_tensor *total, const mt_tensor *x,
                              const mt_tensor *target, const mt_tensor *mask, const mt_tensor *pos_weight,
                              const mt_loss_elements *options, int32_t of_target) {
  mt_tensor wide[4];
  MT_TRY(mt_loss_check_elements_backward(wide, d, dy, total, x, target, mask, pos_weight, options, one_of(x)));
  const slope_of s = {options, options->reduction == MT_LOSS_MEAN ? 1 / *(const double *)total->data : 1, of_target != 0,
                      mask != NULL};
  return mt_loop_valid(6, (const mt_tensor *const[]){d, dy, &wide[0], &wide[1], &wide[3], mask ? &wide[2] : NULL},
                       MT_REAL_FN(x->dtype, backward_row), &s, options->kind <= MT_LOSS_HUBER ? MT_BRIDGE_CHEAP : MT_BRIDGE);
}

#endif
