// norm: see norm.h. Statistics per cell, then one elementwise pass over x; the backward pass likewise (norm_problem.h).
#include "norm_check.h"
#include "norm_problem.h"

// ---- one weight per channel: batch, group and instance norm ---------------------------------------------------------

static void channel_views(norm_problem *p, const mt_tensor *weight, const mt_tensor *bias) {
  p->per_channel = true;
  p->weight = norm_broadcast(weight, p->x, 1, true);
  p->bias = norm_broadcast(bias, p->x, 1, false);
}

static void channel_slopes(norm_problem *p, const double *stats) {
  const int64_t channels = p->x->shape[1];
  for (int64_t g = 0; g < p->groups; g++) {
    double a = 0, b = 0;
    for (int64_t k = g * p->members; k < (g + 1) * p->members; k++) {
      const double w = norm_get(&p->weight, k % channels * p->weight.stride[1]);
      a += w * p->sums[k * NORM_WIDTH];
      b += w * p->sums[k * NORM_WIDTH + 1];
    }
    norm_set_slopes(p, stats, g, a, b, true);
  }
}

static void channel_parameters(const norm_problem *p, mt_tensor *dweight, mt_tensor *dbias) {
  const int64_t channels = p->x->shape[1];
  for (int64_t c = 0; c < channels; c++) {
    double sum = 0, product = 0;
    for (int64_t k = c; k < p->cells; k += channels) {
      sum += p->sums[k * NORM_WIDTH];
      product += p->cell[k].rstd * p->sums[k * NORM_WIDTH + 1];
    }
    if (dweight != NULL) {
      norm_set(dweight, c * dweight->stride[0], product);
    }
    if (dbias != NULL) {
      norm_set(dbias, c * dbias->stride[0], sum);
    }
  }
}

static int channel_backward(norm_problem *p, mt_tensor *dx, mt_tensor *dweight, mt_tensor *dbias, const mt_tensor *dy,
                            const double *stats, norm_pass how) {
  const int64_t channels = p->x->shape[1];
  norm_fill_cells(p, stats);
  MT_TRY(norm_widen(p, &dy));
  if (how.compat) {
    const mt_tensor one = norm_broadcast(NULL, p->x, 0, true);
    MT_TRY(norm_gate(p, &dy, false));
    MT_TRY(norm_sum_cells(p, norm_row_gradients(p->x->dtype, false, p->activation), dy, &one));
  } else if (how.statistics || dweight != NULL || dbias != NULL) {
    MT_TRY(norm_sum_gradients(p, dy));
  }
  if (how.statistics) {
    channel_slopes(p, stats);
  }
  channel_parameters(p, dweight, dbias);
  if (how.compat && how.statistics) {
    // The mean also moves the variance, as sum m^2 d is not 0 here.
    MT_TRY(norm_sum_cells(p, norm_row_compat_skew(p->x->dtype), NULL, NULL));
    for (int64_t c = 0; c < channels; c++) {
      p->cell[c].offset -= p->cell[c].slope * p->sums[c * NORM_WIDTH] / stats[c * 3 + 2];
    }
  }
  return dx == NULL ? MT_OK : norm_pull_back(p, dx, dy, how);
}

static int batch_forward(norm_problem *p, mt_tensor *y, mt_tensor *stats, mt_tensor *running_mean, mt_tensor *running_var,
                         const mt_tensor *weight, const mt_tensor *bias, int32_t flags, double momentum, double eps) {
  const bool compat = flags & MT_NORM_COMPAT;
  const int64_t channels = p->x->shape[1];
  channel_views(p, weight, bias);
  if (flags & MT_NORM_BATCH_STATISTICS) {
    MT_TRY(norm_widen(p, NULL));
    MT_TRY(norm_statistics(p, stats, eps, false, compat));
    for (int64_t c = 0; c < channels; c++) {
      if (norm_has_mean(p->group + c) || compat) {
        norm_blend(running_mean, c, momentum, p->group[c].mean);
      }
      if (norm_has_variance(p->group + c) || compat) {
        norm_blend(running_var, c, momentum, compat ? p->group[c].variance : norm_unbiased(p->group + c));
      }
    }
  } else {
    double *s = stats->data;
    for (int64_t c = 0; c < channels; c++) {
      s[c * 3] = norm_get(running_mean, c * running_mean->stride[0]);
      s[c * 3 + 1] = 1 / sqrt(norm_get(running_var, c * running_var->stride[0]) + eps);
      s[c * 3 + 2] = 0;
    }
    norm_fill_cells(p, s);
  }
  return norm_normalise(p, y, p->masked && !compat);
}

int mt_norm_batch_forward(mt_tensor *y, mt_tensor *stats, mt_tensor *running_mean, mt_tensor *running_var,
                          const mt_tensor *x, const mt_tensor *mask, const mt_tensor *weight, const mt_tensor *bias,
                          int32_t flags, double momentum, double eps, int32_t activation, double a) {
  norm_problem p;
  MT_TRY(mt_norm_check_activation("batch_norm", activation, a));
  MT_TRY(mt_norm_check_batch_forward(y, stats, running_mean, running_var, x, mask, weight, bias, flags));
  norm_open(&p, "batch_norm", x, mask, -1, 1);
  int status = norm_take(&p);
  if (status == MT_OK) {
    norm_set_activation(&p, activation, a);
    status = batch_forward(&p, y, stats, running_mean, running_var, weight, bias, flags, momentum, eps);
  }
  return norm_close(&p, status);
}

int mt_norm_batch_backward(mt_tensor *dx, mt_tensor *dweight, mt_tensor *dbias, const mt_tensor *dy, const mt_tensor *x,
                           const mt_tensor *mask, const mt_tensor *weight, const mt_tensor *bias, const mt_tensor *stats,
                           int32_t flags, int32_t activation, double a) {
  norm_problem p;
  MT_TRY(mt_norm_check_activation("batch_norm", activation, a));
  MT_TRY(mt_norm_check_batch_backward(dx, dweight, dbias, dy, x, mask, weight, bias, stats, flags));
  norm_open(&p, "batch_norm", x, mask, -1, 1);
  int status = norm_take(&p);
  if (status == MT_OK) {
    norm_set_activation(&p, activation, a);
    channel_views(&p, weight, bias);
    const bool batch = flags & MT_NORM_BATCH_STATISTICS, compat = flags & MT_NORM_COMPAT;
    const norm_pass how = {.masked = p.masked && (batch || !compat), .compat = compat, .statistics = batch};
    status = channel_backward(&p, dx, dweight, dbias, dy, stats->data, how);
  }
  return norm_close(&p, status);
}

int mt_norm_batch_frozen(mt_tensor *table, const mt_tensor *running_mean, const mt_tensor *running_var, const mt_tensor *weight,
                         const mt_tensor *bias, double eps) {
  MT_TRY(mt_norm_check_batch_frozen(table, running_mean, running_var, weight, bias));
  const int64_t channels = running_mean->shape[0];
  double *to = table->data;
  for (int64_t c = 0; c < channels; c++) {
    const double rstd = 1 / sqrt(norm_get(running_var, c * running_var->stride[0]) + eps);
    to[c] = norm_get(running_mean, c * running_mean->stride[0]);
    to[channels + c] = rstd * (weight ? norm_get(weight, c * weight->stride[0]) : 1);
    to[2 * channels + c] = bias ? norm_get(bias, c * bias->stride[0]) : 0;
  }
  return MT_OK;
}

// Instance norm's running statistics: the average over the samples that have an estimate.
static void blend_samples(const norm_problem *p, mt_tensor *running_mean, mt_tensor *running_var, double momentum) {
  const int64_t channels = p->x->shape[1];
  for (int64_t c = 0; c < channels; c++) {
    double mean = 0, variance = 0, means = 0, variances = 0;
    for (int64_t g = c; g < p->groups; g += channels) {
      if (norm_has_mean(p->group + g)) {
        mean += p->group[g].mean;
        means++;
      }
      if (norm_has_variance(p->group + g)) {
        variance += norm_unbiased(p->group + g);
        variances++;
      }
    }
    if (means > 0) {
      norm_blend(running_mean, c, momentum, mean / means);
    }
    if (variances > 0) {
      norm_blend(running_var, c, momentum, variance / variances);
    }
  }
}

// Samples have nothing in common but the weights: those that fit into a near cache are summed and written one by one.
enum { SAMPLE_BYTES = 1 << 19 };

typedef struct {
  const norm_problem *p;
  mt_tensor *y, *stats;         // y: or dx
  const mt_tensor *dy;          // NULL: forward
  double eps;
  _Atomic int status;
} sample_task;

// t's sample n, or all of t where every sample has the same.
static mt_tensor sample_of(const mt_tensor *t, int64_t n) {
  mt_tensor one = *t;
  if (t->shape[0] != 1) {
    one.numel /= t->shape[0];
    one.shape[0] = 1;
    one.data = (char *)t->data + n * t->stride[0] * mt_dtype_size(t->dtype);
  }
  return one;
}

static int run_sample(const sample_task *task, int64_t n) {
  norm_problem p = *task->p;
  const mt_tensor x = sample_of(p.x, n);
  mt_tensor y = sample_of(task->y, n), stats = sample_of(task->stats, n);
  p.cells /= p.x->shape[0];
  p.groups /= p.x->shape[0];
  p.x = &x;
  p.mask = sample_of(&p.mask, n);
  p.alone = true;
  p.cell += n * p.cells;
  p.sums += n * p.cells * NORM_WIDTH;
  p.group += n * p.groups;
  p.cell_view = sample_of(&p.cell_view, n);
  if (task->dy == NULL) {
    MT_TRY(norm_statistics(&p, &stats, task->eps, false, false));
    return norm_normalise(&p, &y, p.masked);
  }
  const mt_tensor dy = sample_of(task->dy, n);
  norm_fill_cells(&p, stats.data);
  MT_TRY(norm_sum_gradients(&p, &dy));
  channel_slopes(&p, stats.data);
  return norm_pull_back(&p, &y, &dy, (norm_pass){.masked = p.masked, .statistics = true});
}

static void run_samples(void *context, int64_t begin, int64_t end) {
  sample_task *task = context;
  for (int64_t n = begin; n < end; n++) {
    const int status = run_sample(task, n);
    if (status != MT_OK) {
      task->status = status;
    }
  }
}

// *done stays false where all samples go together: a few large ones, or many small ones.
static int each_sample(bool *done, const norm_problem *p, mt_tensor *y, const mt_tensor *dy, mt_tensor *stats, double eps) {
  const int64_t samples = p->x->shape[0], bytes = p->x->numel / MT_MAX(1, samples) * mt_dtype_size(p->x->dtype);
  *done = y != NULL && samples >= 2 * mt_threads_get() && bytes <= SAMPLE_BYTES && bytes >= SAMPLE_BYTES / 64;
  if (!*done) {
    return MT_OK;
  }
  sample_task task = {.p = p, .y = y, .stats = stats, .dy = dy, .eps = eps};
  MT_TRY(mt_parallel(samples, 1, run_samples, &task));
  // The message of another thread stayed there.
  return task.status == MT_OK ? MT_OK : mt_fail(task.status, "%s: out of memory", p->op);
}

static int group_forward(norm_problem *p, mt_tensor *y, mt_tensor *stats, mt_tensor *running_mean, mt_tensor *running_var,
                         const mt_tensor *weight, const mt_tensor *bias, double momentum, double eps) {
  bool done;
  channel_views(p, weight, bias);
  MT_TRY(norm_widen(p, NULL));
  MT_TRY(each_sample(&done, p, y, NULL, stats, eps));
  if (!done) {
    MT_TRY(norm_statistics(p, stats, eps, false, false));
  }
  blend_samples(p, running_mean, running_var, momentum);
  return done ? MT_OK : norm_normalise(p, y, p->masked);
}

static int group_backward(norm_problem *p, mt_tensor *dx, mt_tensor *dweight, mt_tensor *dbias, const mt_tensor *dy,
                          const mt_tensor *stats) {
  bool done;
  mt_tensor table = *stats;
  MT_TRY(norm_widen(p, &dy));
  MT_TRY(each_sample(&done, p, dx, dy, &table, 0));
  if (!done) {
    return channel_backward(p, dx, dweight, dbias, dy, stats->data, (norm_pass){.masked = p->masked, .statistics = true});
  }
  channel_parameters(p, dweight, dbias);
  return MT_OK;
}

int mt_norm_group_forward(mt_tensor *y, mt_tensor *stats, mt_tensor *running_mean, mt_tensor *running_var,
                          const mt_tensor *x, const mt_tensor *mask, const mt_tensor *weight, const mt_tensor *bias,
                          double momentum, double eps, int32_t activation, double a) {
  norm_problem p;
  int64_t members = 1;
  MT_TRY(mt_norm_check_activation("group_norm", activation, a));
  MT_TRY(mt_norm_check_group_forward(&members, y, stats, running_mean, running_var, x, mask, weight, bias));
  norm_open(&p, "group_norm", x, mask, 2, members);
  int status = norm_take(&p);
  if (status == MT_OK) {
    norm_set_activation(&p, activation, a);
    status = group_forward(&p, y, stats, running_mean, running_var, weight, bias, momentum, eps);
  }
  return norm_close(&p, status);
}

int mt_norm_group_backward(mt_tensor *dx, mt_tensor *dweight, mt_tensor *dbias, const mt_tensor *dy, const mt_tensor *x,
                           const mt_tensor *mask, const mt_tensor *weight, const mt_tensor *bias, const mt_tensor *stats,
                           int32_t activation, double a) {
  norm_problem p;
  int64_t members = 1;
  MT_TRY(mt_norm_check_activation("group_norm", activation, a));
  MT_TRY(mt_norm_check_group_backward(&members, dx, dweight, dbias, dy, x, mask, weight, bias, stats));
  norm_open(&p, "group_norm", x, mask, 2, members);
  int status = norm_take(&p);
  if (status == MT_OK) {
    norm_set_activation(&p, activation, a);
    channel_views(&p, weight, bias);
    status = group_backward(&p, dx, dweight, dbias, dy, stats);
  }
  return norm_close(&p, status);
}

// ---- one weight per element: layer and RMS norm -----------------------------------------------------------------------

static void layer_views(norm_problem *p, const mt_tensor *weight, const mt_tensor *bias, int32_t kept) {
  p->weight = norm_broadcast(weight, p->x, kept, true);
  p->bias = norm_broadcast(bias, p->x, kept, false);
}

static int layer_forward(const char *op, mt_tensor *y, mt_tensor *stats, const mt_tensor *x, const mt_tensor *mask,
                         const mt_tensor *weight, const mt_tensor *bias, double eps, int32_t activation, double a, bool rms) {
  norm_problem p;
  MT_TRY(mt_norm_check_activation(op, activation, a));
  MT_TRY(mt_norm_check_layer_forward(op, y, stats, x, mask, weight, bias));
  norm_open(&p, op, x, mask, stats->ndim - 1, 1);
  norm_set_activation(&p, activation, a);
  layer_views(&p, weight, bias, stats->ndim - 1);
  bool done = false;
  int status = norm_lines_forward(&done, &p, y, stats, eps, rms);
  if (status == MT_OK && !done && (status = norm_take(&p)) == MT_OK &&
      (status = norm_statistics(&p, stats, eps, rms, false)) == MT_OK) {
    status = norm_normalise(&p, y, p.masked);
  }
  return norm_close(&p, status);
}

// dweight and dbias: sums over the leading dims, one cell per element of the trailing ones.
static int layer_parameters(norm_problem *p, mt_tensor *dweight, mt_tensor *dbias, const mt_tensor *dy) {
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
                               (const mt_tensor *const[]){p->x, &p->mask, &p->cell_view, dy}, trailing, 0, false);
  if (status == MT_OK) {
    norm_write_sums(dbias, sums);
    norm_write_sums(dweight, sums + 1);
  }
  mt_free(sums);
  return status;
}

static int layer_run_backward(norm_problem *p, mt_tensor *dx, mt_tensor *dweight, mt_tensor *dbias, const mt_tensor *dy,
                              const double *stats, bool rms) {
  norm_fill_cells(p, stats);
  MT_TRY(norm_gate(p, &dy, p->masked));
  if (dweight != NULL || dbias != NULL) {
    MT_TRY(layer_parameters(p, dweight, dbias, dy));
  }
  if (dx == NULL) {
    return MT_OK;
  }
  MT_TRY(norm_sum_cells(p, norm_row_gradients(p->x->dtype, p->masked, MT_ACTIVATION_IDENTITY), dy, &p->weight));
  for (int64_t g = 0; g < p->groups; g++) {
    norm_set_slopes(p, stats, g, p->sums[g * NORM_WIDTH], p->sums[g * NORM_WIDTH + 1], !rms);
  }
  return norm_pull_back(p, dx, dy, (norm_pass){.masked = p->masked, .statistics = true});
}

static int layer_backward(const char *op, mt_tensor *dx, mt_tensor *dweight, mt_tensor *dbias, const mt_tensor *dy,
                          const mt_tensor *x, const mt_tensor *mask, const mt_tensor *weight, const mt_tensor *bias,
                          const mt_tensor *stats, int32_t activation, double a, bool rms) {
  norm_problem p;
  MT_TRY(mt_norm_check_activation(op, activation, a));
  MT_TRY(mt_norm_check_layer_backward(op, dx, dweight, dbias, dy, x, mask, weight, bias, stats));
  norm_open(&p, op, x, mask, stats->ndim - 1, 1);
  norm_set_activation(&p, activation, a);
  layer_views(&p, weight, bias, stats->ndim - 1);
  bool done = false;
  int status = norm_lines_backward(&done, &p, dx, dweight, dbias, dy, stats, rms);
  if (status == MT_OK && !done && (status = norm_take(&p)) == MT_OK) {
    status = layer_run_backward(&p, dx, dweight, dbias, dy, stats->data, rms);
  }
  return norm_close(&p, status);
}

int mt_norm_layer_forward(mt_tensor *y, mt_tensor *stats, const mt_tensor *x, const mt_tensor *mask,
                          const mt_tensor *weight, const mt_tensor *bias, double eps, int32_t activation, double a) {
  return layer_forward("layer_norm", y, stats, x, mask, weight, bias, eps, activation, a, false);
}

int mt_norm_layer_backward(mt_tensor *dx, mt_tensor *dweight, mt_tensor *dbias, const mt_tensor *dy, const mt_tensor *x,
                           const mt_tensor *mask, const mt_tensor *weight, const mt_tensor *bias, const mt_tensor *stats,
                           int32_t activation, double a) {
  return layer_backward("layer_norm", dx, dweight, dbias, dy, x, mask, weight, bias, stats, activation, a, false);
}

int mt_norm_rms_forward(mt_tensor *y, mt_tensor *stats, const mt_tensor *x, const mt_tensor *mask,
                        const mt_tensor *weight, double eps, int32_t activation, double a) {
  return layer_forward("rms_norm", y, stats, x, mask, weight, NULL, eps, activation, a, true);
}

int mt_norm_rms_backward(mt_tensor *dx, mt_tensor *dweight, const mt_tensor *dy, const mt_tensor *x,
                         const mt_tensor *mask, const mt_tensor *weight, const mt_tensor *stats, int32_t activation, double a) {
  return layer_backward("rms_norm", dx, dweight, NULL, dy, x, mask, weight, NULL, stats, activation, a, true);
}
