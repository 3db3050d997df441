// norm: see core/norm.h. Sums per cell, a small kernel that makes statistics of them, one pass over x; backward likewise. All of it
// is queued: the host reads nothing back.
#include "norm.cuh"

// ---- small kernels over channels, groups, cells -----------------------------------------------------------------------------

MT_DEVICE double has_variance(const norm_moment &s) { return s.n * s.n - s.squares > 0; }
MT_DEVICE double unbiased(const norm_moment &s) { return s.variance * (s.n * s.n / (s.n * s.n - s.squares)); }

template <typename T> MT_DEVICE void blend(T *running, double momentum, double value) {
  *running = (T)((1 - momentum) * (double)*running + momentum * value);
}

// Channel c's groups are c, c + channels, ...: for batch norm one, for instance norm one per sample, of which those that have an
// estimate are averaged.
template <typename T>
static __global__ void update_running(T *mean, T *variance, int64_t mean_step, int64_t variance_step, const norm_moment *group,
                                      int64_t channels, int64_t groups, double momentum, int32_t compat, int32_t unused) {
  (void)unused;
  MT_EACH(c, channels) {
    double m = 0, v = 0, means = 0, variances = 0;
    for (int64_t g = c; g < groups; g += channels) {
      const norm_moment s = group[g];
      if (s.n != 0 || compat) {
        m += s.mean;
        means++;
      }
      if (compat || has_variance(s)) {
        v += compat ? s.variance : unbiased(s);
        variances++;
      }
    }
    if (mean != NULL && means > 0) {
      blend(mean + c * mean_step, momentum, m / means);
    }
    if (variance != NULL && variances > 0) {
      blend(variance + c * variance_step, momentum, v / variances);
    }
  }
}

static int run_update(norm_problem *p, mt_tensor *mean, mt_tensor *variance, double momentum, bool compat) {
  const int64_t channels = p->x->shape[1], mean_step = mean ? mean->stride[0] : 0, variance_step = variance ? variance->stride[0] : 0;
  if ((mean == NULL && variance == NULL) || channels == 0) {
    return MT_OK;
  }
  void *m = mean ? mean->data : NULL, *v = variance ? variance->data : NULL;
  if (p->x->dtype != MT_FLOAT64) {
    MT_LAUNCH(p->device, update_running<float>, mt_grid(p->device, channels), MT_BLOCK, 0, (float *)m, (float *)v, mean_step,
              variance_step, (const norm_moment *)p->group, channels, p->groups, momentum, (int32_t)compat, 0);
  } else {
    MT_LAUNCH(p->device, update_running<double>, mt_grid(p->device, channels), MT_BLOCK, 0, (double *)m, (double *)v, mean_step,
              variance_step, (const norm_moment *)p->group, channels, p->groups, momentum, (int32_t)compat, 0);
  }
  return MT_OK;
}

template <typename T>
static __global__ void use_running(double *stats, norm_cell *cell, const T *mean, const T *variance, int64_t mean_step,
                                   int64_t variance_step, int64_t channels, double eps) {
  MT_EACH(c, channels) {
    const double rstd = 1 / sqrt((double)variance[c * variance_step] + eps);
    stats[c * 3] = (double)mean[c * mean_step];
    stats[c * 3 + 1] = rstd;
    stats[c * 3 + 2] = 0;
    cell[c] = norm_cell{(double)mean[c * mean_step], rstd, 0, 0, 0, 0};
  }
}

static __global__ void fill_cells(norm_cell *cell, const double *stats, int64_t cells, int64_t members) {
  MT_EACH(k, cells) {
    cell[k] = norm_cell{stats[k / members * 3], stats[k / members * 3 + 1], 0, 0, 0, 0};
  }
}

// What the activation's gradient needs of a channel; NULL: 1 or 0.
template <typename T>
static __global__ void fill_affine(norm_cell *cell, const T *weight, const T *bias, int64_t weight_step, int64_t bias_step,
                                   int64_t channels, int64_t cells) {
  MT_EACH(k, cells) {
    cell[k].scale = cell[k].rstd * (weight == NULL ? 1 : (double)weight[k % channels * weight_step]);
    cell[k].bias = bias == NULL ? 0 : (double)bias[k % channels * bias_step];
  }
}

// The part of dx that flows through mean and variance: A = sum g m / n and B = sum g m d / n of each group, from the cells' sums,
// which are multiplied by their channel's weight here where it is not NULL.
template <typename T>
static __global__ void set_slopes(norm_cell *cell, const double *sums, const double *stats, const T *weight, int64_t weight_step,
                                  int64_t channels, int64_t cells, int64_t members, int64_t groups, int32_t mean, int32_t unused) {
  (void)unused;
  MT_EACH(g, groups) {
    double a = 0, b = 0;
    for (int64_t k = g * members; k < (g + 1) * members; k++) {
      const double w = weight == NULL ? 1 : (double)weight[k % channels * weight_step];
      a += w * sums[k];
      b += w * sums[cells + k];
    }
    const double n = stats[g * 3 + 2];
    for (int64_t k = g * members; k < (g + 1) * members; k++) {
      const double rstd = cell[k].rstd;
      cell[k].offset = mean ? rstd * (a / n) : 0;
      cell[k].slope = rstd * rstd * rstd * (b / n);
    }
  }
}

template <typename T>
static __global__ void channel_parameters(T *dweight, T *dbias, int64_t weight_step, int64_t bias_step, const norm_cell *cell,
                                          const double *sums, int64_t channels, int64_t cells) {
  MT_EACH(c, channels) {
    double sum = 0, product = 0;
    for (int64_t k = c; k < cells; k += channels) {
      sum += sums[k];
      product += cell[k].rstd * sums[cells + k];
    }
    if (dweight != NULL) {
      dweight[c * weight_step] = (T)product;
    }
    if (dbias != NULL) {
      dbias[c * bias_step] = (T)sum;
    }
  }
}

// In the compat mode the mean also moves the variance, as sum m^2 d is not 0 there.
static __global__ void add_skew(norm_cell *cell, const double *sums, const double *stats, int64_t channels) {
  MT_EACH(c, channels) {
    cell[c].offset -= cell[c].slope * sums[c] / stats[c * 3 + 2];
  }
}

// Operand 0, of type T, = operand 1, of type double.
template <typename T> static __global__ void write_sums(const mt_walk walk) {
  MT_EACH(i, walk.numel) {
    char *p[2];
    mt_walk_at(p, walk, i);
    *(T *)p[0] = (T)*(const double *)p[1];
  }
}

// ---- batch, group and instance norm --------------------------------------------------------------------------------------------

extern "C" int mt_norm_batch_forward(mt_tensor *y, mt_tensor *stats, mt_tensor *running_mean, mt_tensor *running_var,
                                     const mt_tensor *x, const mt_tensor *mask, const mt_tensor *weight, const mt_tensor *bias,
                                     int32_t flags, double momentum, double eps, int32_t activation, double a) {
  norm_problem p;
  MT_TRY(mt_norm_check_activation("batch_norm", activation, a));
  const bool compat = flags & MT_NORM_COMPAT;
  const mt_tensor *const others[] = {stats, running_mean, running_var, x, mask, weight, bias};
  MT_TRY(mt_norm_check_batch_forward(y, stats, running_mean, running_var, x, mask, weight, bias, flags));
  MT_TRY(mt_check_together("batch_norm", y, 7, others));
  MT_TRY(norm_open(&p, x, mask, -1, 1));
  norm_set_activation(&p, activation, a);
  p.weight = weight;
  p.bias = bias;
  p.first = 1;
  const int64_t channels = x->shape[1];
  if (flags & MT_NORM_BATCH_STATISTICS) {
    MT_TRY(norm_statistics(&p, stats, eps, false, compat));
    MT_TRY(run_update(&p, running_mean, running_var, momentum, compat));
  } else if (channels > 0 && x->dtype != MT_FLOAT64) {
    MT_LAUNCH(p.device, use_running<float>, mt_grid(p.device, channels), MT_BLOCK, 0, (double *)stats->data, p.cell,
              (const float *)running_mean->data, (const float *)running_var->data, running_mean->stride[0], running_var->stride[0],
              channels, eps);
  } else if (channels > 0) {
    MT_LAUNCH(p.device, use_running<double>, mt_grid(p.device, channels), MT_BLOCK, 0, (double *)stats->data, p.cell,
              (const double *)running_mean->data, (const double *)running_var->data, running_mean->stride[0], running_var->stride[0],
              channels, eps);
  }
  return norm_normalise(&p, y, mask != NULL && !compat);
}

template <typename T>
static __global__ void freeze(double *table, const T *mean, const T *variance, const T *weight, const T *bias, int64_t mean_step,
                              int64_t variance_step, int64_t weight_step, int64_t bias_step, int64_t channels, double eps) {
  MT_EACH(c, channels) {
    const double rstd = 1 / sqrt((double)variance[c * variance_step] + eps);
    table[c] = (double)mean[c * mean_step];
    table[channels + c] = rstd * (weight == NULL ? 1 : (double)weight[c * weight_step]);
    table[2 * channels + c] = bias == NULL ? 0 : (double)bias[c * bias_step];
  }
}

template <typename T>
static int run_freeze(mt_device *device, mt_tensor *table, const mt_tensor *mean, const mt_tensor *variance, const mt_tensor *weight,
                      const mt_tensor *bias, double eps) {
  const int64_t channels = mean->shape[0];
  if (channels > 0) {
    MT_LAUNCH(device, freeze<T>, mt_grid(device, channels), MT_BLOCK, 0, (double *)table->data, (const T *)mean->data,
              (const T *)variance->data, (const T *)(weight ? weight->data : NULL), (const T *)(bias ? bias->data : NULL),
              mean->stride[0], variance->stride[0], weight ? weight->stride[0] : 0, bias ? bias->stride[0] : 0, channels, eps);
  }
  return MT_OK;
}

extern "C" int mt_norm_batch_frozen(mt_tensor *table, const mt_tensor *running_mean, const mt_tensor *running_var,
                                    const mt_tensor *weight, const mt_tensor *bias, double eps) {
  mt_device *device;
  MT_TRY(mt_norm_check_batch_frozen(table, running_mean, running_var, weight, bias));
  const mt_tensor *const others[] = {running_mean, running_var, weight, bias};
  MT_TRY(mt_check_together("batch_norm", table, 4, others));
  MT_TRY(mt_enter(&device, table));
  return MT_REAL_TEMPLATE(running_mean->dtype, run_freeze, device, table, running_mean, running_var, weight, bias, eps);
}

template <typename T>
static int channel_backward(norm_problem *p, mt_tensor *dx, mt_tensor *dweight, mt_tensor *dbias, const mt_tensor *dy,
                            const mt_tensor *stats_tensor, bool masked, bool compat, bool statistics) {
  const int64_t channels = p->x->shape[1];
  const double *stats = (const double *)stats_tensor->data;
  if (p->cells > 0) {
    MT_LAUNCH(p->device, fill_cells, mt_grid(p->device, p->cells), MT_BLOCK, 0, p->cell, stats, p->cells, p->members);
    if (compat) {
      MT_TRY(norm_gate(p, &dy, false));
    } else if (p->activation != MT_ACTIVATION_IDENTITY) {
      MT_LAUNCH(p->device, fill_affine<T>, mt_grid(p->device, p->cells), MT_BLOCK, 0, p->cell,
                (const T *)(p->weight ? p->weight->data : NULL), (const T *)(p->bias ? p->bias->data : NULL),
                p->weight ? p->weight->stride[0] : 0, p->bias ? p->bias->stride[0] : 0, channels, p->cells);
    }
    if (statistics || dweight != NULL || dbias != NULL) {
      MT_TRY(norm_sum_gradients(p, dy, p->mask != NULL && !compat, NULL));
    }
    if (statistics) {
      MT_LAUNCH(p->device, set_slopes<T>, mt_grid(p->device, p->groups), MT_BLOCK, 0, p->cell, (const double *)p->sums, stats,
                (const T *)(p->weight ? p->weight->data : NULL), p->weight ? p->weight->stride[0] : 0, channels, p->cells, p->members,
                p->groups, 1, 0);
    }
  }
  if ((dweight != NULL || dbias != NULL) && channels > 0) {
    MT_LAUNCH(p->device, channel_parameters<T>, mt_grid(p->device, channels), MT_BLOCK, 0, (T *)(dweight ? dweight->data : NULL),
              (T *)(dbias ? dbias->data : NULL), dweight ? dweight->stride[0] : 0, dbias ? dbias->stride[0] : 0,
              (const norm_cell *)p->cell, (const double *)p->sums, channels, p->cells);
  }
  if (compat && statistics && channels > 0) {
    MT_TRY(norm_sum_skew(p));
    MT_LAUNCH(p->device, add_skew, mt_grid(p->device, channels), MT_BLOCK, 0, p->cell, (const double *)p->sums, stats, channels);
  }
  return dx == NULL ? MT_OK : norm_pull_back(p, dx, dy, masked, compat, statistics);
}

extern "C" int mt_norm_batch_backward(mt_tensor *dx, mt_tensor *dweight, mt_tensor *dbias, const mt_tensor *dy, const mt_tensor *x,
                                      const mt_tensor *mask, const mt_tensor *weight, const mt_tensor *bias, const mt_tensor *stats,
                                      int32_t flags, int32_t activation, double a) {
  norm_problem p;
  MT_TRY(mt_norm_check_activation("batch_norm", activation, a));
  const bool batch = flags & MT_NORM_BATCH_STATISTICS, compat = flags & MT_NORM_COMPAT;
  const mt_tensor *const others[] = {dx, dweight, dbias, dy, mask, weight, bias, stats};
  MT_TRY(mt_norm_check_batch_backward(dx, dweight, dbias, dy, x, mask, weight, bias, stats, flags));
  MT_TRY(mt_check_together("batch_norm", x, 8, others));
  MT_TRY(norm_open(&p, x, mask, -1, 1));
  norm_set_activation(&p, activation, a);
  p.weight = weight;
  p.bias = bias;
  p.first = 1;
  return MT_REAL_TEMPLATE(x->dtype, channel_backward, &p, dx, dweight, dbias, dy, stats, mask != NULL && (batch || !compat), compat,
                          batch);
}

extern "C" int mt_norm_group_forward(mt_tensor *y, mt_tensor *stats, mt_tensor *running_mean, mt_tensor *running_var,
                                     const mt_tensor *x, const mt_tensor *mask, const mt_tensor *weight, const mt_tensor *bias,
                                     double momentum, double eps, int32_t activation, double a) {
  norm_problem p;
  int64_t members = 1;
  MT_TRY(mt_norm_check_activation("group_norm", activation, a));
  const mt_tensor *const others[] = {stats, running_mean, running_var, x, mask, weight, bias};
  MT_TRY(mt_norm_check_group_forward(&members, y, stats, running_mean, running_var, x, mask, weight, bias));
  MT_TRY(mt_check_together("group_norm", y, 7, others));
  MT_TRY(norm_open(&p, x, mask, 2, members));
  norm_set_activation(&p, activation, a);
  p.weight = weight;
  p.bias = bias;
  p.first = 1;
  MT_TRY(norm_statistics(&p, stats, eps, false, false));
  MT_TRY(run_update(&p, running_mean, running_var, momentum, false));
  return norm_normalise(&p, y, mask != NULL);
}

extern "C" int mt_norm_group_backward(mt_tensor *dx, mt_tensor *dweight, mt_tensor *dbias, const mt_tensor *dy, const mt_tensor *x,
                                      const mt_tensor *mask, const mt_tensor *weight, const mt_tensor *bias, const mt_tensor *stats,
                                      int32_t activation, double a) {
  norm_problem p;
  int64_t members = 1;
  MT_TRY(mt_norm_check_activation("group_norm", activation, a));
  const mt_tensor *const others[] = {dx, dweight, dbias, dy, mask, weight, bias, stats};
  MT_TRY(mt_norm_check_group_backward(&members, dx, dweight, dbias, dy, x, mask, weight, bias, stats));
  MT_TRY(mt_check_together("group_norm", x, 8, others));
  MT_TRY(norm_open(&p, x, mask, 2, members));
  norm_set_activation(&p, activation, a);
  p.weight = weight;
  p.bias = bias;
  p.first = 1;
  return MT_REAL_TEMPLATE(x->dtype, channel_backward, &p, dx, dweight, dbias, dy, stats, mask != NULL, false, true);
}

// ---- layer and RMS norm -----------------------------------------------------------------------------------------------------------

static int layer_forward(const char *op, mt_tensor *y, mt_tensor *stats, const mt_tensor *x, const mt_tensor *mask,
                         const mt_tensor *weight, const mt_tensor *bias, double eps, int32_t activation, double a, bool rms) {
  norm_problem p;
  MT_TRY(mt_norm_check_activation(op, activation, a));
  const mt_tensor *const others[] = {stats, x, mask, weight, bias};
  MT_TRY(mt_norm_check_layer_forward(op, y, stats, x, mask, weight, bias));
  MT_TRY(mt_check_together(op, y, 5, others));
  MT_TRY(norm_open(&p, x, mask, stats->ndim - 1, 1));
  norm_set_activation(&p, activation, a);
  p.weight = weight;
  p.bias = bias;
  p.first = stats->ndim - 1;
  MT_TRY(norm_statistics(&p, stats, eps, rms, false));
  return norm_normalise(&p, y, mask != NULL);
}

// t = sums in row-major order
template <typename T> static int write_parameter(mt_device *device, mt_tensor *t, double *sums) {
  mt_tensor from;
  mt_walk walk;
  if (t == NULL || t->numel == 0) {
    return MT_OK;
  }
  from = *t;
  from.data = sums;
  from.dtype = MT_FLOAT64;
  mt_row_major(from.stride, t->ndim, t->shape);
  const mt_tensor *const both[] = {t, &from};
  MT_TRY(mt_walk_plan(&walk, 2, both));
  MT_LAUNCH(device, write_sums<T>, mt_grid(device, t->numel), MT_BLOCK, 0, walk);
  return MT_OK;
}

template <typename T>
static int layer_run_backward(norm_problem *p, mt_tensor *dx, mt_tensor *dweight, mt_tensor *dbias, const mt_tensor *dy,
                              const mt_tensor *stats_tensor, bool rms) {
  const double *stats = (const double *)stats_tensor->data;
  if (p->cells > 0) {
    MT_LAUNCH(p->device, fill_cells, mt_grid(p->device, p->cells), MT_BLOCK, 0, p->cell, stats, p->cells, (int64_t)1);
    MT_TRY(norm_gate(p, &dy, p->mask != NULL));
  }
  if (dweight != NULL || dbias != NULL) {
    mt_scratch sums;
    int64_t elements = 1;
    for (int32_t d = p->first; d < p->x->ndim; d++) {
      elements *= p->x->shape[d];
    }
    MT_TRY(sums.take(p->device, MT_MAX(1, elements), 2 * sizeof(double)));
    MT_TRY(norm_sum_parameters(p, (double *)sums.data, dy));
    MT_TRY(write_parameter<T>(p->device, dbias, (double *)sums.data));
    MT_TRY(write_parameter<T>(p->device, dweight, (double *)sums.data + elements));
  }
  if (dx == NULL || p->cells == 0) {
    return MT_OK;
  }
  MT_TRY(norm_sum_gradients(p, dy, p->mask != NULL, p->weight));
  MT_LAUNCH(p->device, set_slopes<T>, mt_grid(p->device, p->groups), MT_BLOCK, 0, p->cell, (const double *)p->sums, stats,
            (const T *)NULL, (int64_t)0, (int64_t)1, p->cells, (int64_t)1, p->groups, (int32_t)!rms, 0);
  return norm_pull_back(p, dx, dy, p->mask != NULL, false, true);
}

static int layer_backward(const char *op, mt_tensor *dx, mt_tensor *dweight, mt_tensor *dbias, const mt_tensor *dy,
                          const mt_tensor *x, const mt_tensor *mask, const mt_tensor *weight, const mt_tensor *bias,
                          const mt_tensor *stats, int32_t activation, double a, bool rms) {
  norm_problem p;
  MT_TRY(mt_norm_check_activation(op, activation, a));
  const mt_tensor *const others[] = {dx, dweight, dbias, dy, mask, weight, bias, stats};
  MT_TRY(mt_norm_check_layer_backward(op, dx, dweight, dbias, dy, x, mask, weight, bias, stats));
  MT_TRY(mt_check_together(op, x, 8, others));
  MT_TRY(norm_open(&p, x, mask, stats->ndim - 1, 1));
  norm_set_activation(&p, activation, a);
  p.weight = weight;
  p.bias = bias;
  p.first = stats->ndim - 1;
  return MT_REAL_TEMPLATE(x->dtype, layer_run_backward, &p, dx, dweight, dbias, dy, stats, rms);
}

extern "C" int mt_norm_layer_forward(mt_tensor *y, mt_tensor *stats, const mt_tensor *x, const mt_tensor *mask,
                                     const mt_tensor *weight, const mt_tensor *bias, double eps, int32_t activation, double a) {
  return layer_forward("layer_norm", y, stats, x, mask, weight, bias, eps, activation, a, false);
}

extern "C" int mt_norm_layer_backward(mt_tensor *dx, mt_tensor *dweight, mt_tensor *dbias, const mt_tensor *dy, const mt_tensor *x,
                                      const mt_tensor *mask, const mt_tensor *weight, const mt_tensor *bias, const mt_tensor *stats,
                                      int32_t activation, double a) {
  return layer_backward("layer_norm", dx, dweight, dbias, dy, x, mask, weight, bias, stats, activation, a, false);
}

extern "C" int mt_norm_rms_forward(mt_tensor *y, mt_tensor *stats, const mt_tensor *x, const mt_tensor *mask,
                                   const mt_tensor *weight, double eps, int32_t activation, double a) {
  return layer_forward("rms_norm", y, stats, x, mask, weight, NULL, eps, activation, a, true);
}

extern "C" int mt_norm_rms_backward(mt_tensor *dx, mt_tensor *dweight, const mt_tensor *dy, const mt_tensor *x,
                                    const mt_tensor *mask, const mt_tensor *weight, const mt_tensor *stats, int32_t activation,
                                    double a) {
  return layer_backward("rms_norm", dx, dweight, NULL, dy, x, mask, weight, NULL, stats, activation, a, true);
}
