// loss: losses of one element against its target; see loss.h.
#ifdef REAL

// out[0] += terms, out[1] += weights of one row.
static inline __attribute__((always_inline)) void FN(row)(int kind, const job *j, const int64_t *offset, int64_t n,
                                                          double *out) {
  const REAL *x = (const REAL *)j->data[0] + offset[0], *t = (const REAL *)j->data[1] + offset[1];
  const REAL *m = (const REAL *)j->data[2] + offset[2], *q = (const REAL *)j->data[3] + offset[3];
  const double a = j->options->parameter;
  double sum = 0, weight = 0;
  for (int64_t i = 0; i < n; i++) {
    const double mask = m[i * j->plan[2].stride];
    if (mask != 0) {
      sum += mask * mt_loss_term(kind, a, x[i * j->plan[0].stride], t[i * j->plan[1].stride], q[i * j->plan[3].stride]);
      weight += mask;
    }
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
  for (int64_t r = begin; r < end; r++) {
    int64_t offset[4], n = mt_row_length(&j->plan[0], &cursor[0]);
    double *out = &j->out[2 * r];
    for (int k = 0; k < 4; k++) {
      offset[k] = mt_row_offset(&j->plan[k], &cursor[k]);
      mt_row_next(&j->plan[k], &cursor[k]);
    }
    switch (j->options->kind) {
      case MT_LOSS_MSE: FN(row)(MT_LOSS_MSE, j, offset, n, out); break;
      case MT_LOSS_L1: FN(row)(MT_LOSS_L1, j, offset, n, out); break;
      default: FN(row)(j->options->kind, j, offset, n, out); break;
    }
  }
}

// operands: y, x, target, mask, pos_weight
static void FN(each_row)(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const mt_loss_elements *o = context;
  for (int64_t i = 0; i < n; i++) {
    const double x = *(const REAL *)(p[1] + i * step[1]), t = *(const REAL *)(p[2] + i * step[2]);
    const double m = *(const REAL *)(p[3] + i * step[3]), q = *(const REAL *)(p[4] + i * step[4]);
    *(REAL *)(p[0] + i * step[0]) = (REAL)(m == 0 ? 0 : m * mt_loss_term(o->kind, o->parameter, x, t, q));
  }
}

// operands: d, dy, x, target, mask, pos_weight
static void FN(backward_row)(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const slope_of *s = context;
  for (int64_t i = 0; i < n; i++) {
    const double dy = *(const REAL *)(p[1] + i * step[1]), x = *(const REAL *)(p[2] + i * step[2]);
    const double t = *(const REAL *)(p[3] + i * step[3]), m = *(const REAL *)(p[4] + i * step[4]);
    const double q = *(const REAL *)(p[5] + i * step[5]);
    double d = 0;
    if (m != 0) {
      d = dy * s->scale * m * mt_loss_slope(s->options->kind, s->options->parameter, x, t, q, s->of_target);
    }
    *(REAL *)(p[0] + i * step[0]) = (REAL)d;
  }
}

#else
#include "loss_check.h"
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
  bool of_target;
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
  return mt_loop_run(5, (const mt_tensor *const[]){y, &wide[0], &wide[1], &wide[2], &wide[3]},
                     MT_REAL_FN(x->dtype, each_row), options);
}

int mt_loss_elements_backward(mt_tensor *d, const mt_tensor *dy, const mt_tensor *total, const mt_tensor *x,
                              const mt_tensor *target, const mt_tensor *mask, const mt_tensor *pos_weight,
                              const mt_loss_elements *options, int32_t of_target) {
  mt_tensor wide[4];
  MT_TRY(mt_loss_check_elements_backward(wide, d, dy, total, x, target, mask, pos_weight, options, one_of(x)));
  const slope_of s = {options, options->reduction == MT_LOSS_MEAN ? 1 / *(const double *)total->data : 1, of_target != 0};
  return mt_loop_run(6, (const mt_tensor *const[]){d, dy, &wide[0], &wide[1], &wide[2], &wide[3]},
                     MT_REAL_FN(x->dtype, backward_row), &s);
}

#endif
