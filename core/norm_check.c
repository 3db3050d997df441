// norm_check: see norm_check.h.
#include "norm_check.h"

#include "activation_check.h"

int mt_norm_check_activation(const char *op, int32_t activation, double a) {
  return mt_activation_check_behind(op, activation, a);
}

// Each size of the mask is 1 or x's.
static int check_mask(const char *op, const mt_tensor *mask, const mt_tensor *x) {
  if (mask == NULL) {
    return MT_OK;
  }
  MT_TRY(mt_check_dtype(op, "mask", mask, mt_computed(x->dtype)));
  bool fits = mask->ndim == x->ndim;
  for (int32_t d = 0; fits && d < x->ndim; d++) {
    fits = mask->shape[d] == 1 || mask->shape[d] == x->shape[d];
  }
  if (!fits) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: mask: %s does not broadcast to the input %s", op, MT_SHAPE(mask), MT_SHAPE(x));
  }
  return MT_OK;
}

// A parameter may be NULL; it has x's dims from `first` on, ndim of them.
static int check_parameter(const char *op, const char *argument, const mt_tensor *t, const mt_tensor *x, int32_t first,
                           int32_t ndim) {
  if (t == NULL) {
    return MT_OK;
  }
  MT_TRY(mt_check_dtype(op, argument, t, mt_computed(x->dtype)));
  return mt_check_shape(op, argument, t, ndim, x->shape + first);
}

// One that the kernel writes.
static int check_written(const char *op, const char *argument, const mt_tensor *t, const mt_tensor *x, int32_t first,
                         int32_t ndim) {
  MT_TRY(check_parameter(op, argument, t, x, first, ndim));
  return t == NULL ? MT_OK : mt_check_output(op, argument, t);
}

static int check_stats(const char *op, const mt_tensor *stats, int32_t ndim, const int64_t *shape) {
  MT_TRY(mt_check_dtype(op, "stats", stats, MT_FLOAT64));
  MT_TRY(mt_check_shape(op, "stats", stats, ndim, shape));
  if (!mt_tensor_is_contiguous(stats)) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: stats: expected a row-major tensor", op);
  }
  return MT_OK;
}

// An output looks like x and shares no memory with x or dy.
static int check_output(const char *op, const char *argument, const mt_tensor *t, const mt_tensor *x, const mt_tensor *dy) {
  MT_TRY(mt_check_like(op, argument, t, x));
  MT_TRY(mt_check_stored_output(op, argument, t));
  if (dy != NULL) {
    MT_TRY(mt_check_overlap(op, t, dy, false));
  }
  return mt_check_overlap(op, t, x, false);
}

// What every backward has: gradients of the right shape, parameters from dim `first` on.
static int check_backward(const char *op, const mt_tensor *dx, const mt_tensor *dweight, const mt_tensor *dbias,
                          const mt_tensor *dy, const mt_tensor *x, const mt_tensor *weight, const mt_tensor *bias, int32_t first,
                          int32_t ndim) {
  MT_TRY(mt_check_like(op, "gradient", dy, x));
  if (dx != NULL) {
    MT_TRY(check_output(op, "dx", dx, x, dy));
  }
  MT_TRY(check_written(op, "dweight", dweight, x, first, ndim));
  MT_TRY(check_written(op, "dbias", dbias, x, first, ndim));
  MT_TRY(check_parameter(op, "bias", bias, x, first, ndim));
  return check_parameter(op, "weight", weight, x, first, ndim);
}

// ---- one weight per channel -----------------------------------------------------------------------------------------

static int check_channels(const char *op, const mt_tensor *x) {
  MT_TRY(mt_check_floating(op, "input", x));
  if (x->ndim < 2) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: input: expected (N, C, ...), got %s", op, MT_SHAPE(x));
  }
  return MT_OK;
}

static int check_channel_parameters(const char *op, const mt_tensor *running_mean, const mt_tensor *running_var,
                                    const mt_tensor *x, const mt_tensor *weight, const mt_tensor *bias) {
  MT_TRY(check_parameter(op, "weight", weight, x, 1, 1));
  MT_TRY(check_parameter(op, "bias", bias, x, 1, 1));
  MT_TRY(check_written(op, "running_mean", running_mean, x, 1, 1));
  return check_written(op, "running_var", running_var, x, 1, 1);
}

static int check_batch(const mt_tensor *x, const mt_tensor *mask, int32_t flags) {
  MT_TRY(check_channels("batch_norm", x));
  if ((flags & MT_NORM_COMPAT) && mask == NULL) {
    return mt_fail(MT_ERROR_ARGUMENT, "batch_norm: mask: expected a tensor in the compat mode, got NULL");
  }
  return check_mask("batch_norm", mask, x);
}

int mt_norm_check_batch_forward(const mt_tensor *y, const mt_tensor *stats, const mt_tensor *running_mean,
                                const mt_tensor *running_var, const mt_tensor *x, const mt_tensor *mask, const mt_tensor *weight,
                                const mt_tensor *bias, int32_t flags) {
  MT_TRY(check_batch(x, mask, flags));
  MT_TRY(check_output("batch_norm", "output", y, x, NULL));
  MT_TRY(check_channel_parameters("batch_norm", running_mean, running_var, x, weight, bias));
  const int64_t channels = x->shape[1], shape[] = {channels, 3};
  MT_TRY(check_stats("batch_norm", stats, 2, shape));
  if (flags & MT_NORM_BATCH_STATISTICS) {
    if (x->numel == channels && channels > 0 && !(flags & MT_NORM_COMPAT)) {
      return mt_fail(MT_ERROR_ARGUMENT, "batch_norm: input: expected more than 1 value per channel when training, got %s",
                     MT_SHAPE(x));
    }
  } else if (running_mean == NULL || running_var == NULL) {
    return mt_fail(MT_ERROR_ARGUMENT, "batch_norm: expected running_mean and running_var when training is false");
  }
  return MT_OK;
}

int mt_norm_check_batch_backward(const mt_tensor *dx, const mt_tensor *dweight, const mt_tensor *dbias, const mt_tensor *dy,
                                 const mt_tensor *x, const mt_tensor *mask, const mt_tensor *weight, const mt_tensor *bias,
                                 const mt_tensor *stats, int32_t flags) {
  MT_TRY(check_batch(x, mask, flags));
  MT_TRY(check_backward("batch_norm", dx, dweight, dbias, dy, x, weight, bias, 1, 1));
  const int64_t shape[] = {x->shape[1], 3};
  return check_stats("batch_norm", stats, 2, shape);
}

int mt_norm_check_frozen(const char *op, const mt_tensor *table, int64_t channels) {
  const int64_t shape[] = {3, channels};
  MT_TRY(mt_check_dtype(op, "norm", table, MT_FLOAT64));
  MT_TRY(mt_check_shape(op, "norm", table, 2, shape));
  if (!mt_tensor_is_contiguous(table)) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: norm: expected a row-major table", op);
  }
  return MT_OK;
}

int mt_norm_check_batch_frozen(const mt_tensor *table, const mt_tensor *running_mean, const mt_tensor *running_var,
                               const mt_tensor *weight, const mt_tensor *bias) {
  const char *op = "batch_norm", *const names[] = {"running_mean", "running_var", "weight", "bias"};
  const mt_tensor *const given[] = {running_mean, running_var, weight, bias};
  MT_TRY(mt_check_real(op, "running_mean", running_mean));
  MT_TRY(mt_check_ndim(op, "running_mean", running_mean, 1));
  for (int i = 1; i < 4; i++) {
    if (given[i] != NULL || i == 1) {
      MT_TRY(mt_check_like(op, names[i], given[i], running_mean));
    }
  }
  MT_TRY(mt_check_output(op, "table", table));
  return mt_norm_check_frozen(op, table, running_mean->shape[0]);
}

static int check_groups(int64_t *members, const mt_tensor *x, const mt_tensor *mask, const mt_tensor *stats) {
  MT_TRY(check_channels("group_norm", x));
  MT_TRY(mt_check_ndim("group_norm", "stats", stats, 3));
  const int64_t groups = stats->shape[1];
  if (groups < 1 || x->shape[1] % groups != 0) {
    return mt_fail(MT_ERROR_ARGUMENT, "group_norm: num_groups: expected a divisor of the %lld channels of %s, got %lld",
                   (long long)x->shape[1], MT_SHAPE(x), (long long)groups);
  }
  *members = MT_MAX(1, x->shape[1] / groups);
  return check_mask("group_norm", mask, x);
}

static int check_group_stats(const mt_tensor *x, const mt_tensor *stats) {
  const int64_t shape[] = {x->shape[0], stats->shape[1], 3};
  return check_stats("group_norm", stats, 3, shape);
}

int mt_norm_check_group_forward(int64_t *members, const mt_tensor *y, const mt_tensor *stats, const mt_tensor *running_mean,
                                const mt_tensor *running_var, const mt_tensor *x, const mt_tensor *mask, const mt_tensor *weight,
                                const mt_tensor *bias) {
  MT_TRY(check_groups(members, x, mask, stats));
  MT_TRY(check_output("group_norm", "output", y, x, NULL));
  MT_TRY(check_channel_parameters("group_norm", running_mean, running_var, x, weight, bias));
  MT_TRY(check_group_stats(x, stats));
  if ((running_mean != NULL || running_var != NULL) && *members != 1) {
    return mt_fail(MT_ERROR_ARGUMENT, "group_norm: running statistics need one group per channel");
  }
  return MT_OK;
}

int mt_norm_check_group_backward(int64_t *members, const mt_tensor *dx, const mt_tensor *dweight, const mt_tensor *dbias,
                                 const mt_tensor *dy, const mt_tensor *x, const mt_tensor *mask, const mt_tensor *weight,
                                 const mt_tensor *bias, const mt_tensor *stats) {
  MT_TRY(check_groups(members, x, mask, stats));
  MT_TRY(check_backward("group_norm", dx, dweight, dbias, dy, x, weight, bias, 1, 1));
  return check_group_stats(x, stats);
}

// ---- one weight per element -------------------------------------------------------------------------------------------

static int check_layer(const char *op, const mt_tensor *x, const mt_tensor *mask, const mt_tensor *stats) {
  MT_TRY(mt_check_floating(op, "input", x));
  MT_TRY(mt_check_tensor(op, "stats", stats));
  const int32_t kept = stats->ndim - 1;
  if (kept < 0 || kept >= x->ndim) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: normalized_shape: has more dimensions than the input %s", op, MT_SHAPE(x));
  }
  MT_TRY(check_mask(op, mask, x));
  int64_t shape[MT_MAX_DIMS];
  memcpy(shape, x->shape, sizeof(shape));
  shape[kept] = 3;
  return check_stats(op, stats, kept + 1, shape);
}

int mt_norm_check_layer_forward(const char *op, const mt_tensor *y, const mt_tensor *stats, const mt_tensor *x,
                                const mt_tensor *mask, const mt_tensor *weight, const mt_tensor *bias) {
  MT_TRY(check_layer(op, x, mask, stats));
  const int32_t kept = stats->ndim - 1;
  MT_TRY(check_output(op, "output", y, x, NULL));
  MT_TRY(check_parameter(op, "weight", weight, x, kept, x->ndim - kept));
  return check_parameter(op, "bias", bias, x, kept, x->ndim - kept);
}

int mt_norm_check_layer_backward(const char *op, const mt_tensor *dx, const mt_tensor *dweight, const mt_tensor *dbias,
                                 const mt_tensor *dy, const mt_tensor *x, const mt_tensor *mask, const mt_tensor *weight,
                                 const mt_tensor *bias, const mt_tensor *stats) {
  MT_TRY(check_layer(op, x, mask, stats));
  const int32_t kept = stats->ndim - 1;
  return check_backward(op, dx, dweight, dbias, dy, x, weight, bias, kept, x->ndim - kept);
}
