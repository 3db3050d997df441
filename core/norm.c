// norm: see norm.h. Statistics per cell (norm_sums.h), then one elementwise pass; the backward pass likewise.
#ifdef REAL

static void FN(forward_row)(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const bool masked = ((const pass *)context)->masked;
  for (int64_t i = 0; i < n; i++) {
    const double m = masked ? *(const REAL *)(p[2] + i * step[2]) : 1.0;
    double y = 0;
    if (m != 0) {
      const norm_cell *cell = (const norm_cell *)(p[3] + i * step[3]);
      const double x = *(const REAL *)(p[1] + i * step[1]), w = *(const REAL *)(p[4] + i * step[4]);
      const double b = *(const REAL *)(p[5] + i * step[5]);
      y = (x - m * cell->mean) * (cell->rstd * w) + m * b;
    }
    *(REAL *)(p[0] + i * step[0]) = (REAL)y;
  }
}

static void FN(backward_row)(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const pass *how = context;
  for (int64_t i = 0; i < n; i++) {
    const double m = how->masked ? *(const REAL *)(p[3] + i * step[3]) : 1.0;
    double dx = 0;
    if (m != 0 || how->compat) {
      const norm_cell *cell = (const norm_cell *)(p[4] + i * step[4]);
      const double dy = *(const REAL *)(p[1] + i * step[1]), w = *(const REAL *)(p[5] + i * step[5]);
      dx = dy * (cell->rstd * w);
      if (how->statistics) {
        const double x = *(const REAL *)(p[2] + i * step[2]);
        const double d = how->compat ? m * m * (x - cell->mean) : x / m - cell->mean;
        dx = dx - cell->offset - d * cell->slope;
      }
    }
    *(REAL *)(p[0] + i * step[0]) = (REAL)dx;
  }
}

#else
#include "loop.h"
#include "norm_sums.h"

// What an elementwise pass does: statistics = the gradient flows through mean and variance.
typedef struct pass {
  bool masked, compat, statistics;
} pass;

#define MT_SOURCE "norm.c"
#include "twice.h"

typedef struct moment {
  double n, squares, mean, variance;   // squares = sum m^2
} moment;

// One normalisation: the cells of x and what is broadcast to x.
typedef struct problem {
  const char *op;
  const mt_tensor *x;
  bool masked, kept[MT_MAX_DIMS];
  int64_t cells, members, groups;       // `members` neighbouring cells share statistics
  mt_tensor mask, weight, bias, cell_view;
  norm_cell *cell;
  double *sums;
  moment *group;
} problem;

static const float one_f32 = 1, zero_f32 = 0;
static const double one_f64 = 1, zero_f64 = 0;

// v's dims placed at x's dims from `first` on; NULL: a constant, 1 or 0.
static mt_tensor broadcast(const mt_tensor *v, const mt_tensor *x, int32_t first, bool one) {
  mt_tensor view = {.dtype = x->dtype, .ndim = x->ndim, .numel = 1};
  const void *constant = x->dtype == MT_FLOAT32 ? (const void *)(one ? &one_f32 : &zero_f32)
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

static int check_mask(const char *op, const mt_tensor *mask, const mt_tensor *x) {
  MT_TRY(mt_check_dtype(op, "mask", mask, x->dtype));
  bool fits = mask->ndim == x->ndim;
  for (int32_t d = 0; fits && d < x->ndim; d++) {
    fits = mask->shape[d] == 1 || mask->shape[d] == x->shape[d];
  }
  if (!fits) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: mask: %s does not broadcast to the input %s", op, MT_SHAPE(mask), MT_SHAPE(x));
  }
  return MT_OK;
}

// A vector of parameters, or NULL; `first` is the dim of x it starts at, ndim its number of dims.
static int check_parameter(const problem *p, const char *argument, const mt_tensor *t, int32_t first, int32_t ndim) {
  if (t == NULL) {
    return MT_OK;
  }
  MT_TRY(mt_check_dtype(p->op, argument, t, p->x->dtype));
  return mt_check_shape(p->op, argument, t, ndim, p->x->shape + first);
}

static int check_stats(const problem *p, const mt_tensor *stats, int32_t ndim, const int64_t *shape) {
  MT_TRY(mt_check_dtype(p->op, "stats", stats, MT_FLOAT64));
  MT_TRY(mt_check_shape(p->op, "stats", stats, ndim, shape));
  if (!mt_tensor_is_contiguous(stats)) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: stats: expected a row-major tensor", p->op);
  }
  return MT_OK;
}

static int check_output(const problem *p, const char *argument, const mt_tensor *t, const mt_tensor *dy) {
  if (t == NULL) {
    return MT_OK;
  }
  MT_TRY(mt_check_like(p->op, argument, t, p->x));
  MT_TRY(mt_check_output(p->op, argument, t));
  if (dy != NULL) {
    MT_TRY(mt_check_overlap(p->op, t, dy, false));
  }
  return mt_check_overlap(p->op, t, p->x, false);
}

// Kept dims are those below `kept`, or, for batch norm (kept = -1), dim 1 alone.
static int problem_open(problem *p, const char *op, const mt_tensor *x, const mt_tensor *mask, int32_t kept,
                        int64_t members) {
  *p = (problem){.op = op, .x = x, .masked = mask != NULL, .cells = 1, .members = members};
  if (mask != NULL) {
    MT_TRY(check_mask(op, mask, x));
  }
  p->mask = mask == NULL ? *x : *mask;
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
  p->cell = mt_alloc_array(MT_MAX(1, p->cells), sizeof(norm_cell));
  p->sums = mt_alloc_array(MT_MAX(1, p->cells), NORM_WIDTH * sizeof(double));
  p->group = mt_alloc_array(MT_MAX(1, p->groups), sizeof(moment));
  p->cell_view.data = p->cell;
  return p->cell == NULL || p->sums == NULL || p->group == NULL ? MT_ERROR_MEMORY : MT_OK;
}

static int problem_close(problem *p, int status) {
  mt_free(p->cell);
  mt_free(p->sums);
  mt_free(p->group);
  return status;
}

static int sum_cells(problem *p, norm_row row, const mt_tensor *dy, const mt_tensor *weight) {
  const mt_tensor *t[] = {p->x, &p->mask, &p->cell_view, dy, weight};
  return norm_sums(p->sums, row, dy == NULL ? 3 : weight == NULL ? 4 : 5, t, p->kept);
}

// ---- statistics ---------------------------------------------------------------------------------------------------

static double group_sum(const problem *p, int64_t group, int32_t w) {
  double sum = 0;
  for (int64_t k = group * p->members; k < (group + 1) * p->members; k++) {
    sum += p->sums[k * NORM_WIDTH + w];
  }
  return sum;
}

static double ratio(double sum, double n, bool compat) { return n == 0 && !compat ? 0 : sum / n; }

static void fill_cells(problem *p, const double *stats) {
  for (int64_t k = 0; k < p->cells; k++) {
    const double *s = stats + k / p->members * 3;
    p->cell[k] = (norm_cell){.mean = s[0], .rstd = s[1]};
  }
}

// Mean and variance of every group, also in stats as (mean, rstd, n), and the cells filled in. rms: the mean is 0.
static int statistics(problem *p, mt_tensor *stats_tensor, double eps, bool rms, bool compat) {
  double *stats = stats_tensor->data;
  const int32_t dtype = p->x->dtype;
  MT_TRY(sum_cells(p, compat ? norm_row_compat_moments(dtype) : rms ? norm_row_power(dtype, p->masked)
                                                                    : norm_row_moments(dtype, p->masked), NULL, NULL));
  // masked_torch counts a mask of batch 1 once, however many samples it serves.
  const double repeats = compat && p->mask.shape[0] == 1 ? (double)p->x->shape[0] : 1;
  for (int64_t g = 0; g < p->groups; g++) {
    moment *s = p->group + g;
    const double count = p->masked ? 0 : (double)(p->x->numel / p->groups);
    s->n = p->masked ? group_sum(p, g, 0) / repeats : count;
    s->squares = p->masked ? group_sum(p, g, 1) : count;
    const double average = ratio(group_sum(p, g, 2), s->n, compat);
    s->mean = rms ? 0 : average;
    s->variance = rms ? average : 0;
    stats[g * 3] = s->mean;
    stats[g * 3 + 2] = s->n;
  }
  if (!rms) {
    fill_cells(p, stats);
    MT_TRY(sum_cells(p, compat ? norm_row_compat_squares(dtype) : norm_row_squares(dtype, p->masked), NULL, NULL));
  }
  for (int64_t g = 0; g < p->groups; g++) {
    moment *s = p->group + g;
    if (!rms) {
      s->variance = ratio(group_sum(p, g, 0), s->n, compat);
    }
    stats[g * 3 + 1] = s->n == 0 && !compat ? 0 : 1 / sqrt(s->variance + eps);
  }
  fill_cells(p, stats);
  return MT_OK;
}

static double unbiased(const moment *s) { return s->variance * (s->n * s->n / (s->n * s->n - s->squares)); }
static bool has_mean(const moment *s) { return s->n != 0; }
static bool has_variance(const moment *s) { return s->n * s->n - s->squares > 0; }

static double get_real(const mt_tensor *t, int64_t offset) {
  return t->dtype == MT_FLOAT32 ? ((const float *)t->data)[offset] : ((const double *)t->data)[offset];
}

static void set_real(const mt_tensor *t, int64_t offset, double value) {
  if (t->dtype == MT_FLOAT32) {
    ((float *)t->data)[offset] = (float)value;
  } else {
    ((double *)t->data)[offset] = value;
  }
}

static void blend(const mt_tensor *running, int64_t channel, double momentum, double value) {
  if (running != NULL) {
    const int64_t offset = channel * running->stride[0];
    set_real(running, offset, (1 - momentum) * get_real(running, offset) + momentum * value);
  }
}

// t[...] = values[0], values[NORM_WIDTH], ... in row-major order.
static void write_sums(const mt_tensor *t, const double *values) {
  for (int64_t i = 0; t != NULL && i < t->numel; i++) {
    int64_t offset = 0, rest = i;
    for (int32_t d = t->ndim - 1; d >= 0; d--) {
      offset += rest % t->shape[d] * t->stride[d];
      rest /= t->shape[d];
    }
    set_real(t, offset, values[i * NORM_WIDTH]);
  }
}

// ---- the elementwise passes ---------------------------------------------------------------------------------------

static int normalise(problem *p, mt_tensor *y, bool masked) {
  const pass how = {.masked = masked};
  return mt_loop_run(6, (const mt_tensor *const[]){y, p->x, &p->mask, &p->cell_view, &p->weight, &p->bias},
                     MT_REAL_FN(y->dtype, forward_row), &how);
}

static int pull_back(problem *p, mt_tensor *dx, const mt_tensor *dy, pass how) {
  return mt_loop_run(6, (const mt_tensor *const[]){dx, dy, p->x, &p->mask, &p->cell_view, &p->weight},
                     MT_REAL_FN(dx->dtype, backward_row), &how);
}

// The part of dx that flows through mean and variance, per group: from A n = sum g m and B n = sum g m d.
static void set_slopes(problem *p, const double *stats, int64_t group, double a, double b, bool mean) {
  const double n = stats[group * 3 + 2];
  for (int64_t k = group * p->members; k < (group + 1) * p->members; k++) {
    norm_cell *cell = p->cell + k;
    cell->offset = mean ? cell->rstd * (a / n) : 0;
    cell->slope = cell->rstd * cell->rstd * cell->rstd * (b / n);
  }
}

// ---- one weight per channel: batch, group and instance norm ---------------------------------------------------------

static int check_channels(const char *op, const mt_tensor *x) {
  MT_TRY(mt_check_real(op, "input", x));
  if (x->ndim < 2) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: input: expected (N, C, ...), got %s", op, MT_SHAPE(x));
  }
  return MT_OK;
}

static int channel_views(problem *p, const mt_tensor *weight, const mt_tensor *bias) {
  MT_TRY(check_parameter(p, "weight", weight, 1, 1));
  MT_TRY(check_parameter(p, "bias", bias, 1, 1));
  p->weight = broadcast(weight, p->x, 1, true);
  p->bias = broadcast(bias, p->x, 1, false);
  return MT_OK;
}

static int channel_backward(problem *p, mt_tensor *dx, mt_tensor *dweight, mt_tensor *dbias, const mt_tensor *dy,
                            const double *stats, pass how) {
  const int64_t channels = p->x->shape[1];
  const mt_tensor one = broadcast(NULL, p->x, 0, true);
  fill_cells(p, stats);
  if (how.statistics || dweight != NULL || dbias != NULL) {
    MT_TRY(sum_cells(p, norm_row_gradients(p->x->dtype, p->masked && !how.compat), dy, &one));
  }
  for (int64_t g = 0; how.statistics && g < p->groups; g++) {
    double a = 0, b = 0;
    for (int64_t k = g * p->members; k < (g + 1) * p->members; k++) {
      const double w = get_real(&p->weight, k % channels * p->weight.stride[1]);
      a += w * p->sums[k * NORM_WIDTH];
      b += w * p->sums[k * NORM_WIDTH + 1];
    }
    set_slopes(p, stats, g, a, b, true);
  }
  for (int64_t c = 0; c < channels; c++) {
    double sum = 0, product = 0;
    for (int64_t k = c; k < p->cells; k += channels) {
      sum += p->sums[k * NORM_WIDTH];
      product += p->cell[k].rstd * p->sums[k * NORM_WIDTH + 1];
    }
    if (dweight != NULL) {
      set_real(dweight, c * dweight->stride[0], product);
    }
    if (dbias != NULL) {
      set_real(dbias, c * dbias->stride[0], sum);
    }
  }
  if (how.compat && how.statistics) {
    // The mean also moves the variance, as sum m^2 d is not 0 here.
    MT_TRY(sum_cells(p, norm_row_compat_skew(p->x->dtype), NULL, NULL));
    for (int64_t c = 0; c < channels; c++) {
      p->cell[c].offset -= p->cell[c].slope * p->sums[c * NORM_WIDTH] / stats[c * 3 + 2];
    }
  }
  return dx == NULL ? MT_OK : pull_back(p, dx, dy, how);
}

static int batch_forward(problem *p, mt_tensor *y, mt_tensor *stats, mt_tensor *running_mean, mt_tensor *running_var,
                         const mt_tensor *weight, const mt_tensor *bias, int32_t flags, double momentum, double eps) {
  const bool compat = flags & MT_NORM_COMPAT;
  const int64_t channels = p->x->shape[1];
  MT_TRY(channel_views(p, weight, bias));
  MT_TRY(check_parameter(p, "running_mean", running_mean, 1, 1));
  MT_TRY(check_parameter(p, "running_var", running_var, 1, 1));
  MT_TRY(check_stats(p, stats, 2, (const int64_t[]){channels, 3}));
  if (flags & MT_NORM_BATCH_STATISTICS) {
    if (p->x->numel == channels && !compat) {
      return mt_fail(MT_ERROR_ARGUMENT, "%s: input: expected more than 1 value per channel when training, got %s", p->op,
                     MT_SHAPE(p->x));
    }
    MT_TRY(statistics(p, stats, eps, false, compat));
    for (int64_t c = 0; c < channels; c++) {
      if (has_mean(p->group + c) || compat) {
        blend(running_mean, c, momentum, p->group[c].mean);
      }
      if (has_variance(p->group + c) || compat) {
        blend(running_var, c, momentum, compat ? p->group[c].variance : unbiased(p->group + c));
      }
    }
  } else if (running_mean == NULL || running_var == NULL) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: expected running_mean and running_var when training is false", p->op);
  } else {
    double *s = stats->data;
    for (int64_t c = 0; c < channels; c++) {
      s[c * 3] = get_real(running_mean, c * running_mean->stride[0]);
      s[c * 3 + 1] = 1 / sqrt(get_real(running_var, c * running_var->stride[0]) + eps);
      s[c * 3 + 2] = 0;
    }
    fill_cells(p, s);
  }
  return normalise(p, y, p->masked && !compat);
}

static int check_compat(const mt_tensor *mask, int32_t flags) {
  if ((flags & MT_NORM_COMPAT) && mask == NULL) {
    return mt_fail(MT_ERROR_ARGUMENT, "batch_norm: mask: expected a tensor in the compat mode, got NULL");
  }
  return MT_OK;
}

int mt_norm_batch_forward(mt_tensor *y, mt_tensor *stats, mt_tensor *running_mean, mt_tensor *running_var,
                          const mt_tensor *x, const mt_tensor *mask, const mt_tensor *weight, const mt_tensor *bias,
                          int32_t flags, double momentum, double eps) {
  problem p;
  MT_TRY(check_channels("batch_norm", x));
  MT_TRY(check_compat(mask, flags));
  int status = problem_open(&p, "batch_norm", x, mask, -1, 1);
  if (status == MT_OK && (status = check_output(&p, "output", y, NULL)) == MT_OK) {
    status = batch_forward(&p, y, stats, running_mean, running_var, weight, bias, flags, momentum, eps);
  }
  return problem_close(&p, status);
}

// What every backward checks: gradients of the right shape, parameters from dim `first` on.
static int check_backward(problem *p, const mt_tensor *dx, const mt_tensor *dweight, const mt_tensor *dbias,
                          const mt_tensor *dy, int32_t first, int32_t ndim) {
  MT_TRY(mt_check_like(p->op, "gradient", dy, p->x));
  MT_TRY(check_output(p, "dx", dx, dy));
  MT_TRY(check_parameter(p, "dweight", dweight, first, ndim));
  return check_parameter(p, "dbias", dbias, first, ndim);
}

int mt_norm_batch_backward(mt_tensor *dx, mt_tensor *dweight, mt_tensor *dbias, const mt_tensor *dy, const mt_tensor *x,
                           const mt_tensor *mask, const mt_tensor *weight, const mt_tensor *stats, int32_t flags) {
  problem p;
  MT_TRY(check_channels("batch_norm", x));
  MT_TRY(check_compat(mask, flags));
  int status = problem_open(&p, "batch_norm", x, mask, -1, 1);
  if (status == MT_OK && (status = check_backward(&p, dx, dweight, dbias, dy, 1, 1)) == MT_OK &&
      (status = channel_views(&p, weight, NULL)) == MT_OK &&
      (status = check_stats(&p, stats, 2, (const int64_t[]){x->shape[1], 3})) == MT_OK) {
    const bool batch = flags & MT_NORM_BATCH_STATISTICS, compat = flags & MT_NORM_COMPAT;
    const pass how = {.masked = p.masked && (batch || !compat), .compat = compat, .statistics = batch};
    status = channel_backward(&p, dx, dweight, dbias, dy, stats->data, how);
  }
  return problem_close(&p, status);
}

// Instance norm's running statistics: the average over the samples that have an estimate.
static void blend_samples(const problem *p, mt_tensor *running_mean, mt_tensor *running_var, double momentum) {
  const int64_t channels = p->x->shape[1];
  for (int64_t c = 0; c < channels; c++) {
    double mean = 0, variance = 0, means = 0, variances = 0;
    for (int64_t g = c; g < p->groups; g += channels) {
      if (has_mean(p->group + g)) {
        mean += p->group[g].mean;
        means++;
      }
      if (has_variance(p->group + g)) {
        variance += unbiased(p->group + g);
        variances++;
      }
    }
    if (means > 0) {
      blend(running_mean, c, momentum, mean / means);
    }
    if (variances > 0) {
      blend(running_var, c, momentum, variance / variances);
    }
  }
}

static int group_members(int64_t *members, const mt_tensor *x, const mt_tensor *stats) {
  MT_TRY(check_channels("group_norm", x));
  MT_TRY(mt_check_ndim("group_norm", "stats", stats, 3));
  const int64_t groups = stats->shape[1];
  if (groups < 1 || x->shape[1] % groups != 0) {
    return mt_fail(MT_ERROR_ARGUMENT, "group_norm: num_groups: expected a divisor of the %lld channels of %s, got %lld",
                   (long long)x->shape[1], MT_SHAPE(x), (long long)groups);
  }
  *members = MT_MAX(1, x->shape[1] / groups);
  return MT_OK;
}

static int group_forward(problem *p, mt_tensor *y, mt_tensor *stats, mt_tensor *running_mean, mt_tensor *running_var,
                         const mt_tensor *weight, const mt_tensor *bias, double momentum, double eps) {
  MT_TRY(check_output(p, "output", y, NULL));
  MT_TRY(channel_views(p, weight, bias));
  MT_TRY(check_parameter(p, "running_mean", running_mean, 1, 1));
  MT_TRY(check_parameter(p, "running_var", running_var, 1, 1));
  MT_TRY(check_stats(p, stats, 3, (const int64_t[]){p->x->shape[0], stats->shape[1], 3}));
  if ((running_mean != NULL || running_var != NULL) && p->members != 1) {
    return mt_fail(MT_ERROR_ARGUMENT, "group_norm: running statistics need one group per channel");
  }
  MT_TRY(statistics(p, stats, eps, false, false));
  blend_samples(p, running_mean, running_var, momentum);
  return normalise(p, y, p->masked);
}

int mt_norm_group_forward(mt_tensor *y, mt_tensor *stats, mt_tensor *running_mean, mt_tensor *running_var,
                          const mt_tensor *x, const mt_tensor *mask, const mt_tensor *weight, const mt_tensor *bias,
                          double momentum, double eps) {
  problem p;
  int64_t members = 1;
  MT_TRY(group_members(&members, x, stats));
  int status = problem_open(&p, "group_norm", x, mask, 2, members);
  if (status == MT_OK) {
    status = group_forward(&p, y, stats, running_mean, running_var, weight, bias, momentum, eps);
  }
  return problem_close(&p, status);
}

int mt_norm_group_backward(mt_tensor *dx, mt_tensor *dweight, mt_tensor *dbias, const mt_tensor *dy, const mt_tensor *x,
                           const mt_tensor *mask, const mt_tensor *weight, const mt_tensor *stats) {
  problem p;
  int64_t members = 1;
  MT_TRY(group_members(&members, x, stats));
  int status = problem_open(&p, "group_norm", x, mask, 2, members);
  if (status == MT_OK && (status = check_backward(&p, dx, dweight, dbias, dy, 1, 1)) == MT_OK &&
      (status = channel_views(&p, weight, NULL)) == MT_OK &&
      (status = check_stats(&p, stats, 3, (const int64_t[]){x->shape[0], stats->shape[1], 3})) == MT_OK) {
    const pass how = {.masked = p.masked, .statistics = true};
    status = channel_backward(&p, dx, dweight, dbias, dy, stats->data, how);
  }
  return problem_close(&p, status);
}

// ---- one weight per element: layer and RMS norm -----------------------------------------------------------------------

// Opens the problem whose kept dims are the leading ones of stats.
static int layer_open(problem *p, const char *op, const mt_tensor *x, const mt_tensor *mask, const mt_tensor *stats) {
  *p = (problem){0};
  MT_TRY(mt_check_real(op, "input", x));
  MT_TRY(mt_check_tensor(op, "stats", stats));
  const int32_t kept = stats->ndim - 1;
  if (kept < 0 || kept >= x->ndim) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: normalized_shape: has more dimensions than the input %s", op, MT_SHAPE(x));
  }
  MT_TRY(problem_open(p, op, x, mask, kept, 1));
  int64_t shape[MT_MAX_DIMS];
  memcpy(shape, x->shape, sizeof(shape));
  shape[kept] = 3;
  return check_stats(p, stats, kept + 1, shape);
}

static int layer_views(problem *p, const mt_tensor *weight, const mt_tensor *bias, int32_t kept) {
  MT_TRY(check_parameter(p, "weight", weight, kept, p->x->ndim - kept));
  MT_TRY(check_parameter(p, "bias", bias, kept, p->x->ndim - kept));
  p->weight = broadcast(weight, p->x, kept, true);
  p->bias = broadcast(bias, p->x, kept, false);
  return MT_OK;
}

static int layer_forward(const char *op, mt_tensor *y, mt_tensor *stats, const mt_tensor *x, const mt_tensor *mask,
                         const mt_tensor *weight, const mt_tensor *bias, double eps, bool rms) {
  problem p;
  int status = layer_open(&p, op, x, mask, stats);
  if (status == MT_OK && (status = check_output(&p, "output", y, NULL)) == MT_OK &&
      (status = layer_views(&p, weight, bias, stats->ndim - 1)) == MT_OK &&
      (status = statistics(&p, stats, eps, rms, false)) == MT_OK) {
    status = normalise(&p, y, p.masked);
  }
  return problem_close(&p, status);
}

// dweight and dbias: sums over the leading dims, one cell per element of the trailing ones.
static int layer_parameters(problem *p, mt_tensor *dweight, mt_tensor *dbias, const mt_tensor *dy) {
  bool trailing[MT_MAX_DIMS];
  int64_t cells = 1;
  for (int32_t d = 0; d < p->x->ndim; d++) {
    trailing[d] = !p->kept[d];
    cells *= trailing[d] ? p->x->shape[d] : 1;
  }
  double *sums = mt_alloc_array(MT_MAX(1, cells), NORM_WIDTH * sizeof(double));
  if (sums == NULL) {
    return MT_ERROR_MEMORY;
  }
  const int status = norm_sums(sums, norm_row_weight_gradients(p->x->dtype, p->masked), 4,
                               (const mt_tensor *const[]){p->x, &p->mask, &p->cell_view, dy}, trailing);
  if (status == MT_OK) {
    write_sums(dbias, sums);
    write_sums(dweight, sums + 1);
  }
  mt_free(sums);
  return status;
}

static int layer_backward(const char *op, mt_tensor *dx, mt_tensor *dweight, mt_tensor *dbias, const mt_tensor *dy,
                          const mt_tensor *x, const mt_tensor *mask, const mt_tensor *weight, const mt_tensor *stats,
                          bool rms) {
  problem p;
  int status = layer_open(&p, op, x, mask, stats);
  const int32_t kept = stats == NULL ? 0 : stats->ndim - 1;
  if (status == MT_OK && (status = check_backward(&p, dx, dweight, dbias, dy, kept, x->ndim - kept)) == MT_OK &&
      (status = layer_views(&p, weight, NULL, kept)) == MT_OK) {
    fill_cells(&p, stats->data);
    if (dweight != NULL || dbias != NULL) {
      status = layer_parameters(&p, dweight, dbias, dy);
    }
    if (status == MT_OK && dx != NULL &&
        (status = sum_cells(&p, norm_row_gradients(x->dtype, p.masked), dy, &p.weight)) == MT_OK) {
      for (int64_t g = 0; g < p.groups; g++) {
        set_slopes(&p, stats->data, g, p.sums[g * NORM_WIDTH], p.sums[g * NORM_WIDTH + 1], !rms);
      }
      status = pull_back(&p, dx, dy, (pass){.masked = p.masked, .statistics = true});
    }
  }
  return problem_close(&p, status);
}

int mt_norm_layer_forward(mt_tensor *y, mt_tensor *stats, const mt_tensor *x, const mt_tensor *mask,
                          const mt_tensor *weight, const mt_tensor *bias, double eps) {
  return layer_forward("layer_norm", y, stats, x, mask, weight, bias, eps, false);
}

int mt_norm_layer_backward(mt_tensor *dx, mt_tensor *dweight, mt_tensor *dbias, const mt_tensor *dy, const mt_tensor *x,
                           const mt_tensor *mask, const mt_tensor *weight, const mt_tensor *stats) {
  return layer_backward("layer_norm", dx, dweight, dbias, dy, x, mask, weight, stats, false);
}

int mt_norm_rms_forward(mt_tensor *y, mt_tensor *stats, const mt_tensor *x, const mt_tensor *mask,
                        const mt_tensor *weight, double eps) {
  return layer_forward("rms_norm", y, stats, x, mask, weight, NULL, eps, true);
}

int mt_norm_rms_backward(mt_tensor *dx, mt_tensor *dweight, const mt_tensor *dy, const mt_tensor *x,
                         const mt_tensor *mask, const mt_tensor *weight, const mt_tensor *stats) {
  return layer_backward("rms_norm", dx, dweight, NULL, dy, x, mask, weight, stats, true);
}

#endif
