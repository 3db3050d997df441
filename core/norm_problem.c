// norm_problem: see norm_problem.h.
#ifdef REAL

#include "norm_gate.h"

MT_INLINE REAL FN(forward)(double x, double m, double mean, double scale, double bias, int32_t activation, double a) {
  const double y = (x - m * mean) * scale + m * bias;
  return FN(activate)((REAL)(m == 0 ? 0 : y), activation, (REAL)a);
}

// A dense row inside one cell; the steps of mask, weight and bias are 0 or one element, known to the compiler.
MT_INLINE void FN(forward_dense)(char *const *p, int64_t n, bool masked, int ms, int ws, int bs, int32_t activation, double a) {
  const double mean = ((const norm_cell *)p[3])->mean, rstd = ((const norm_cell *)p[3])->rstd;
  const REAL *restrict x = (const REAL *)p[1], *restrict mask = (const REAL *)p[2];
  const REAL *restrict w = (const REAL *)p[4], *restrict b = (const REAL *)p[5];
  REAL *restrict y = (REAL *)p[0];
  for (int64_t i = 0; i < n; i++) {
    y[i] = FN(forward)(x[i], masked ? mask[i * ms] : 1.0, mean, rstd * w[i * ws], b[i * bs], activation, a);
  }
}

MT_INLINE void FN(forward_any)(char *const *p, const int64_t *step, int64_t n, const norm_pass *how, int32_t activation) {
  const int64_t size = sizeof(REAL);
  const double a = how->a;
  bool masked = how->masked;
  const norm_cell *cell = (const norm_cell *)p[3];
  if (masked && step[2] == 0) {  // one value for the row
    const double m = *(const REAL *)p[2];
    if (m == 0 && step[0] == size) {
      memset(p[0], 0, (size_t)(n * size));
      return;
    }
    masked = m != 1;
  }
  const bool neat = step[0] == size && step[1] == size && step[3] == 0 && (!masked || step[2] == size);
  if (neat && step[4] == 0 && step[5] == 0) {
    if (masked) {
      FN(forward_dense)(p, n, true, 1, 0, 0, activation, a);
    } else {
      FN(forward_dense)(p, n, false, 0, 0, 0, activation, a);
    }
    return;
  }
  if (neat && !masked && step[4] == size && (step[5] == size || step[5] == 0)) {
    if (step[5] == 0) {
      FN(forward_dense)(p, n, false, 0, 1, 0, activation, a);
    } else {
      FN(forward_dense)(p, n, false, 0, 1, 1, activation, a);
    }
    return;
  }
  for (int64_t i = 0; i < n; i++) {
    const double m = masked ? *(const REAL *)(p[2] + i * step[2]) : 1.0;
    const double x = *(const REAL *)(p[1] + i * step[1]), wi = *(const REAL *)(p[4] + i * step[4]);
    cell = (const norm_cell *)(p[3] + i * step[3]);
    *(REAL *)(p[0] + i * step[0]) =
      FN(forward)(x, m, cell->mean, cell->rstd * wi, *(const REAL *)(p[5] + i * step[5]), activation, a);
  }
}

MT_CLONES static void FN(forward_row)(char *const *p, const int64_t *step, int64_t n, const void *context) {
  NORM_BY_ACTIVATION(((const norm_pass *)context)->activation, FN(forward_any), p, step, n, context)
}

// dx. The activation sees y once more, before it is rounded.
MT_INLINE REAL FN(backward)(double dy, double x, double m, norm_cell cell, double scale, bool statistics, bool compat,
                            int32_t activation, double a) {
  const double g = FN(gated)(dy, (x - m * cell.mean) * cell.scale + m * cell.bias, activation, a);
  const double d = compat ? m * m * (x - cell.mean) : x / m - cell.mean;
  const double dx = statistics ? g * scale - cell.offset - d * cell.slope : g * scale;
  return (REAL)(m == 0 && !compat ? 0 : dx);
}

MT_INLINE void FN(backward_dense)(char *const *p, int64_t n, bool masked, int ws, int32_t activation, double a) {
  const norm_cell cell = *(const norm_cell *)p[4];
  const REAL *restrict dy = (const REAL *)p[1], *restrict x = (const REAL *)p[2], *restrict mask = (const REAL *)p[3];
  const REAL *restrict w = (const REAL *)p[5];
  REAL *restrict dx = (REAL *)p[0];
  for (int64_t i = 0; i < n; i++) {
    dx[i] = FN(backward)(dy[i], x[i], masked ? mask[i] : 1.0, cell, cell.rstd * w[i * ws], true, false, activation, a);
  }
}

MT_INLINE void FN(backward_neat)(char *const *p, int64_t n, bool masked, bool ws, double a, int32_t activation) {
  if (masked && !ws) {
    FN(backward_dense)(p, n, true, 0, activation, a);
  } else if (masked) {
    FN(backward_dense)(p, n, true, 1, activation, a);
  } else if (!ws) {
    FN(backward_dense)(p, n, false, 0, activation, a);
  } else {
    FN(backward_dense)(p, n, false, 1, activation, a);
  }
}

// A function of its own: in one with the loop for any steps, the compiler makes one loop of them that does not vectorise.
MT_CLONES static void FN(backward_vectors)(char *const *p, int64_t n, bool masked, bool ws, const norm_pass *how) {
  NORM_BY_ACTIVATION(how->activation, FN(backward_neat), p, n, masked, ws, how->a)
}

static void FN(backward_row)(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const norm_pass *how = context;
  const int64_t size = sizeof(REAL);
  bool masked = how->masked;
  if (masked && step[3] == 0 && !how->compat) {
    const double m = *(const REAL *)p[3];
    if (m == 0 && step[0] == size) {
      memset(p[0], 0, (size_t)(n * size));
      return;
    }
    masked = m != 1;
  }
  const bool neat = step[0] == size && step[1] == size && step[2] == size && step[4] == 0 && how->statistics &&
                    !how->compat && (!masked || step[3] == size);
  if (neat && (step[5] == 0 || step[5] == size)) {
    FN(backward_vectors)(p, n, masked, step[5] != 0, how);
    return;
  }
  for (int64_t i = 0; i < n; i++) {
    const double m = masked ? *(const REAL *)(p[3] + i * step[3]) : 1.0;
    const norm_cell *cell = (const norm_cell *)(p[4] + i * step[4]);
    const double dy = *(const REAL *)(p[1] + i * step[1]), x = *(const REAL *)(p[2] + i * step[2]);
    const double scale = cell->rstd * *(const REAL *)(p[5] + i * step[5]);
    *(REAL *)(p[0] + i * step[0]) =
      FN(backward)(dy, x, m, *cell, scale, how->statistics, how->compat, how->activation, how->a);
  }
}

// The gradient of y from that of f(y), whatever the weights go along: operands g, dy, x, mask, cell, weight, bias.
MT_INLINE void FN(gate_dense)(char *const *p, int64_t n, int ws, int bs, double a, int32_t activation) {
  const norm_cell cell = *(const norm_cell *)p[4];
  const REAL *restrict dy = (const REAL *)p[1], *restrict x = (const REAL *)p[2];
  const REAL *restrict w = (const REAL *)p[5], *restrict b = (const REAL *)p[6];
  REAL *restrict g = (REAL *)p[0];
  for (int64_t i = 0; i < n; i++) {
    g[i] = (REAL)FN(gated)(dy[i], (x[i] - cell.mean) * (cell.rstd * w[i * ws]) + b[i * bs], activation, a);
  }
}

MT_CLONES static void FN(gate_row)(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const norm_pass *how = context;
  const int64_t size = sizeof(REAL);
  if (step[0] == size && step[1] == size && step[2] == size && step[4] == 0 && !how->masked) {
    const bool ws = step[5] == size, bs = step[6] == size;
    if (ws && bs) {
      NORM_BY_ACTIVATION(how->activation, FN(gate_dense), p, n, 1, 1, how->a)
      return;
    }
    if ((ws || step[5] == 0) && step[6] == 0) {
      NORM_BY_ACTIVATION(how->activation, FN(gate_dense), p, n, ws, 0, how->a)
      return;
    }
  }
  for (int64_t i = 0; i < n; i++) {
    const norm_cell *cell = (const norm_cell *)(p[4] + i * step[4]);
    const double m = how->masked ? *(const REAL *)(p[3] + i * step[3]) : 1.0, x = *(const REAL *)(p[2] + i * step[2]);
    const double scale = cell->rstd * *(const REAL *)(p[5] + i * step[5]), bias = *(const REAL *)(p[6] + i * step[6]);
    const double y = (x - m * cell->mean) * scale + m * bias;
    *(REAL *)(p[0] + i * step[0]) = (REAL)FN(gated)(*(const REAL *)(p[1] + i * step[1]), y, how->activation, how->a);
  }
}

#else
#include "loop.h"
#include "norm_problem.h"
#define MT_SOURCE "norm_problem.c"
#include "twice.h"

static const float one_f32 = 1, zero_f32 = 0;
static const double one_f64 = 1, zero_f64 = 0;

mt_tensor norm_broadcast(const mt_tensor *v, const mt_tensor *x, int32_t first, bool one) {
  mt_tensor view = {.dtype = mt_computed(x->dtype), .ndim = x->ndim, .numel = 1};
  const void *constant = x->dtype != MT_FLOAT64 ? (const void *)(one ? &one_f32 : &zero_f32)
                                                : (const void *)(one ? &one_f64 : &zero_f64);
  view.data = v == NULL ? (void *)(uintptr_t)constant : v->data;
  for (int32_t d = 0; d < x->ndim; d++) {
    view.shape[d] = 1;
  }
  for (int32_t d = 0; v != NULL && d < v->ndim; d++) {
    view.shape[first + d] = v->shape[d];
    view.stride[first + d] = v->stride[d];
    view.numel *= v->shape[d];
  }
  return view;
}

void norm_open(norm_problem *p, const char *op, const mt_tensor *x, const mt_tensor *mask, int32_t kept, int64_t members) {
  *p = (norm_problem){.op = op, .x = x, .masked = mask != NULL, .cells = 1, .members = members, .activation = MT_ACTIVATION_IDENTITY};
  p->mask = mask != NULL ? *mask : x->dtype == MT_BFLOAT16 ? norm_broadcast(NULL, x, 0, true) : *x;
  for (int32_t d = x->ndim - 1; d >= 0; d--) {
    p->kept[d] = kept < 0 ? d == 1 : d < kept;
  }
  p->cell_view = (mt_tensor){.dtype = MT_FLOAT64, .ndim = x->ndim};
  for (int32_t d = x->ndim - 1; d >= 0; d--) {
    p->cell_view.shape[d] = p->kept[d] ? x->shape[d] : 1;
    p->cell_view.stride[d] = p->cells * (int64_t)(sizeof(norm_cell) / sizeof(double));
    p->cells *= p->cell_view.shape[d];
  }
  p->groups = p->cells / members;
}

int norm_take(norm_problem *p) {
  p->cell = mt_alloc_array(MT_MAX(1, p->cells), sizeof(norm_cell));
  p->sums = mt_alloc_array(MT_MAX(1, p->cells), NORM_WIDTH * sizeof(double));
  p->group = mt_alloc_array(MT_MAX(1, p->groups), sizeof(norm_moment));
  p->cell_view.data = p->cell;
  return p->cell == NULL || p->sums == NULL || p->group == NULL ? MT_ERROR_MEMORY : MT_OK;
}

int norm_close(norm_problem *p, int status) {
  mt_free(p->cell);
  mt_free(p->sums);
  mt_free(p->group);
  mt_free(p->gated.data);
  return mt_wide_end(&p->wide, status);
}

int norm_widen(norm_problem *p, const mt_tensor **dy) {
  if (p->x->dtype != MT_BFLOAT16 || (p->x->shape[1] >= 8 && norm_channels_last(p, dy == NULL ? NULL : *dy, p->masked))) {
    return MT_OK;
  }
  p->x = mt_wide_input(&p->wide, p->x);
  if (dy != NULL) {
    *dy = mt_wide_input(&p->wide, *dy);
  }
  return p->wide.status;
}

int norm_sum_cells(norm_problem *p, norm_row row, const mt_tensor *dy, const mt_tensor *weight) {
  const mt_tensor *t[] = {p->x, &p->mask, &p->cell_view, dy, weight};
  return norm_sums(p->sums, row, dy == NULL ? 3 : weight == NULL ? 4 : 5, t, p->kept, p->a, p->alone);
}

int norm_sum_gradients(norm_problem *p, const mt_tensor *dy) {
  const mt_tensor one = norm_broadcast(NULL, p->x, 0, true);
  bool done;
  MT_TRY(norm_sum_pixels(&done, p, dy));
  return done ? MT_OK : norm_sum_cells(p, norm_row_gradients(p->x->dtype, p->masked, p->activation), dy, &one);
}

void norm_set_activation(norm_problem *p, int32_t activation, double a) {
  p->activation = activation;
  p->a = p->x->dtype != MT_FLOAT64 ? (float)a : a;
}

// ---- statistics ---------------------------------------------------------------------------------------------------

static double group_sum(const norm_problem *p, int64_t group, int32_t w) {
  double sum = 0;
  for (int64_t k = group * p->members; k < (group + 1) * p->members; k++) {
    sum += p->sums[k * NORM_WIDTH + w];
  }
  return sum;
}

static double ratio(double sum, double n, bool compat) { return n == 0 && !compat ? 0 : sum / n; }

void norm_fill_cells(norm_problem *p, const double *stats) {
  for (int64_t k = 0; k < p->cells; k++) {
    const double *s = stats + k / p->members * 3;
    norm_cell *cell = p->cell + k;
    *cell = (norm_cell){.mean = s[0], .rstd = s[1]};
    if (p->per_channel) {
      const int64_t c = k % p->x->shape[1];
      cell->scale = cell->rstd * norm_get(&p->weight, c * p->weight.stride[1]);
      cell->bias = norm_get(&p->bias, c * p->bias.stride[1]);
    }
  }
}

int norm_statistics(norm_problem *p, mt_tensor *stats_tensor, double eps, bool rms, bool compat) {
  double *stats = stats_tensor->data;
  const int32_t dtype = mt_computed(p->x->dtype);
  const bool once = dtype == MT_FLOAT32 && !compat && !rms;
  bool done = false;
  if (once) {
    MT_TRY(norm_sum_pixels(&done, p, NULL));
  }
  if (!done) {
    MT_TRY(norm_sum_cells(p, compat ? norm_row_compat_moments(dtype) : rms ? norm_row_power(dtype, p->masked)
                                                                      : norm_row_moments(dtype, p->masked), NULL, NULL));
  }
  // masked_torch counts a mask of batch 1 once, however many samples it serves.
  const double repeats = compat && p->mask.shape[0] == 1 ? (double)p->x->shape[0] : 1;
  for (int64_t g = 0; g < p->groups; g++) {
    norm_moment *s = p->group + g;
    const double count = p->masked ? 0 : (double)(p->x->numel / p->groups);
    s->n = p->masked ? group_sum(p, g, 0) / repeats : count;
    s->squares = p->masked ? group_sum(p, g, 1) : count;
    const double average = ratio(group_sum(p, g, 2), s->n, compat);
    s->mean = rms ? 0 : average;
    // Squares of float32 values are exact in double, and its 53 bits leave enough after the subtraction: one pass will do.
    s->variance = rms ? average : once ? MT_MAX(0, ratio(group_sum(p, g, 3), s->n, false) - s->mean * s->mean) : 0;
    stats[g * 3] = s->mean;
    stats[g * 3 + 2] = s->n;
  }
  if (!rms && !once) {
    norm_fill_cells(p, stats);
    MT_TRY(norm_sum_cells(p, compat ? norm_row_compat_squares(dtype) : norm_row_squares(dtype, p->masked), NULL, NULL));
  }
  for (int64_t g = 0; g < p->groups; g++) {
    norm_moment *s = p->group + g;
    if (!rms && !once) {
      s->variance = ratio(group_sum(p, g, 0), s->n, compat);
    }
    stats[g * 3 + 1] = s->n == 0 && !compat ? 0 : 1 / sqrt(s->variance + eps);
  }
  norm_fill_cells(p, stats);
  return MT_OK;
}

double norm_unbiased(const norm_moment *s) { return s->variance * (s->n * s->n / (s->n * s->n - s->squares)); }
bool norm_has_mean(const norm_moment *s) { return s->n != 0; }
bool norm_has_variance(const norm_moment *s) { return s->n * s->n - s->squares > 0; }

double norm_get(const mt_tensor *t, int64_t offset) {
  return t->dtype == MT_FLOAT32 ? ((const float *)t->data)[offset] : ((const double *)t->data)[offset];
}

void norm_set(const mt_tensor *t, int64_t offset, double value) {
  if (t->dtype == MT_FLOAT32) {
    ((float *)t->data)[offset] = (float)value;
  } else {
    ((double *)t->data)[offset] = value;
  }
}

void norm_blend(const mt_tensor *running, int64_t channel, double momentum, double value) {
  if (running != NULL) {
    const int64_t offset = channel * running->stride[0];
    norm_set(running, offset, (1 - momentum) * norm_get(running, offset) + momentum * value);
  }
}

void norm_write_sums(const mt_tensor *t, const double *values) {
  for (int64_t i = 0; t != NULL && i < t->numel; i++) {
    int64_t offset = 0, rest = i;
    for (int32_t d = t->ndim - 1; d >= 0; d--) {
      offset += rest % t->shape[d] * t->stride[d];
      rest /= t->shape[d];
    }
    norm_set(t, offset, values[i * NORM_WIDTH]);
  }
}

// ---- the elementwise passes ---------------------------------------------------------------------------------------

static int run_rows(int32_t operands, const mt_tensor *const *t, mt_loop_row row, const norm_pass *how) {
  mt_loop_bf16 staging;
  const void *context = how;
  mt_loop_stage(&staging, operands, t, &row, &context);
  return mt_loop_run(operands, t, row, context);
}

int norm_normalise(norm_problem *p, mt_tensor *y, bool masked) {
  const norm_pass how = {.masked = masked, .activation = p->activation, .a = p->a};
  bool done;
  MT_TRY(norm_run_pixels(&done, p, y, NULL, how));
  return done ? MT_OK : run_rows(6, (const mt_tensor *const[]){y, p->x, &p->mask, &p->cell_view, &p->weight, &p->bias},
                     MT_REAL_FN(y->dtype, forward_row), &how);
}

int norm_gate(norm_problem *p, const mt_tensor **dy, bool masked) {
  const norm_pass how = {.masked = masked, .activation = p->activation, .a = p->a};
  if (p->activation == MT_ACTIVATION_IDENTITY) {
    return MT_OK;
  }
  p->gated = *p->x;
  p->gated.dtype = mt_computed(p->x->dtype);
  mt_row_major(p->gated.stride, p->x->ndim, p->x->shape);
  p->gated.data = mt_alloc_array(MT_MAX(1, p->x->numel), mt_dtype_size(p->gated.dtype));
  if (p->gated.data == NULL) {
    return MT_ERROR_MEMORY;
  }
  const mt_tensor *const t[] = {&p->gated, *dy, p->x, &p->mask, &p->cell_view, &p->weight, &p->bias};
  p->activation = MT_ACTIVATION_IDENTITY;
  *dy = &p->gated;
  return run_rows(7, t, MT_REAL_FN(p->x->dtype, gate_row), &how);
}

int norm_pull_back(norm_problem *p, mt_tensor *dx, const mt_tensor *dy, norm_pass how) {
  bool done;
  how.activation = p->activation;
  how.a = p->a;
  MT_TRY(norm_run_pixels(&done, p, dx, dy, how));
  return done ? MT_OK : run_rows(6, (const mt_tensor *const[]){dx, dy, p->x, &p->mask, &p->cell_view, &p->weight},
                     MT_REAL_FN(dx->dtype, backward_row), &how);
}

void norm_set_slopes(norm_problem *p, const double *stats, int64_t group, double a, double b, bool mean) {
  const double n = stats[group * 3 + 2];
  for (int64_t k = group * p->members; k < (group + 1) * p->members; k++) {
    norm_cell *cell = p->cell + k;
    cell->offset = mean ? cell->rstd * (a / n) : 0;
    cell->slope = cell->rstd * cell->rstd * cell->rstd * (b / n);
  }
}

#endif
