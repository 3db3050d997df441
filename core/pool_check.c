// pool_check: see pool_check.h.
#include "pool_check.h"

// ---- windows -------------------------------------------------------------------------------------------------------

static int64_t reach(const mt_pool *g, int32_t d) { return g->dilation[d] * (g->kernel[d] - 1) + 1; }

static int check_geometry(const char *op, const mt_pool *g) {
  if (g == NULL || g->dims < 1 || g->dims > 3) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: expected 1 to 3 spatial axes, got %d", op, g ? g->dims : 0);
  }
  for (int32_t d = 0; d < g->dims && !g->adaptive; d++) {
    static const int64_t limit = INT64_C(1) << 31;
    if (g->kernel[d] < 1 || g->stride[d] < 1 || g->dilation[d] < 1 || g->kernel[d] > limit || g->stride[d] > limit ||
        g->dilation[d] > limit) {
      return mt_fail(MT_ERROR_ARGUMENT, "%s: kernel %s, stride %s, dilation %s: expected at least 1", op,
                     MT_SIZES(g->dims, g->kernel), MT_SIZES(g->dims, g->stride), MT_SIZES(g->dims, g->dilation));
    }
    if (g->padding[d] < 0 || g->padding[d] > reach(g, d) / 2) {
      return mt_fail(MT_ERROR_ARGUMENT, "%s: padding %s: expected 0 to half the window, which is %lld wide on axis %d", op,
                     MT_SIZES(g->dims, g->padding), (long long)reach(g, d), d + 1);
    }
  }
  return MT_OK;
}

int mt_pool_output_size(int64_t *out, const int64_t *in, const mt_pool *g) {
  MT_TRY(check_geometry("pool", g));
  if (g->adaptive) {
    return mt_fail(MT_ERROR_ARGUMENT, "pool: an adaptive window has no output size of its own");
  }
  for (int32_t d = 0; d < g->dims; d++) {
    if (in[d] < 0 || in[d] > INT64_MAX / 16) {  // more than a tensor can have
      return mt_fail(MT_ERROR_ARGUMENT, "pool: the sizes %s do not fit in 64 bits", MT_SIZES(g->dims, in));
    }
    int64_t room = in[d] + 2 * g->padding[d] - reach(g, d);
    if (in[d] < 1 || (room < 0 && !g->ceil_mode) || room <= -g->stride[d]) {
      return mt_fail(MT_ERROR_ARGUMENT, "pool: the window %s with padding %s does not fit into the input's %s",
                     MT_SIZES(g->dims, g->kernel), MT_SIZES(g->dims, g->padding), MT_SIZES(g->dims, in));
    }
    out[d] = (room + (g->ceil_mode ? g->stride[d] - 1 : 0)) / g->stride[d] + 1;
    if (g->ceil_mode && (out[d] - 1) * g->stride[d] >= in[d] + g->padding[d]) {
      out[d]--;
    }
  }
  return MT_OK;
}

// ---- checks --------------------------------------------------------------------------------------------------------

// y (N, C, *S') fits x (N, C, *S) and g.
static int check_pooled(const char *op, const char *argument, const mt_tensor *y, const mt_tensor *x, const mt_pool *g) {
  int64_t shape[MT_MAX_DIMS] = {x->shape[0], x->shape[1]};
  MT_TRY(check_geometry(op, g));
  if (g->dims != x->ndim - 2) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: input: expected %d spatial axes, got %s", op, g->dims, MT_SHAPE(x));
  }
  if (g->adaptive) {
    MT_TRY(mt_check_ndim(op, argument, y, x->ndim));
    for (int32_t d = 2; d < x->ndim; d++) {
      if (x->shape[d] < 1 || y->shape[d] < 1 || x->shape[d] >= INT64_C(1) << 31 || y->shape[d] >= INT64_C(1) << 31) {
        return mt_fail(MT_ERROR_ARGUMENT, "%s: expected sizes of at least 1, got %s -> %s", op, MT_SHAPE(x), MT_SHAPE(y));
      }
      shape[d] = y->shape[d];
    }
  } else {
    MT_TRY(mt_pool_output_size(shape + 2, x->shape + 2, g));
  }
  MT_TRY(mt_check_dtype(op, argument, y, x->dtype));
  return mt_check_shape(op, argument, y, x->ndim, shape);
}

static int check_written(const char *op, const char *argument, const mt_tensor *y, const mt_tensor *x) {
  MT_TRY(mt_check_output(op, argument, y));
  return mt_check_overlap(op, y, x, false);
}

// ---- the contract --------------------------------------------------------------------------------------------------

int mt_pool_check_max_forward(const mt_tensor *y, const mt_tensor *index, const mt_tensor *x, const mt_tensor *mask,
                              const mt_pool *g) {
  MT_TRY(mt_spatial_check("max_pool", "input", x));
  MT_TRY(check_pooled("max_pool", "output", y, x, g));
  MT_TRY(check_written("max_pool", "output", y, x));
  MT_TRY(mt_check_dtype("max_pool", "index", index, MT_INT32));
  MT_TRY(mt_check_shape("max_pool", "index", index, y->ndim, y->shape));
  MT_TRY(check_written("max_pool", "index", index, x));
  if (mask != NULL) {
    MT_TRY(mt_spatial_check_mask("max_pool", mask, x));
  }
  const mt_spatial image = mt_spatial_of(x);
  if (image.size[0] * image.size[1] * image.size[2] > INT32_MAX - 1) {
    return mt_fail(MT_ERROR_ARGUMENT, "max_pool: input: more than 2^31 positions per channel: %s", MT_SHAPE(x));
  }
  return MT_OK;
}

int mt_pool_check_max_backward(const mt_tensor *dx, const mt_tensor *dy, const mt_tensor *index, const mt_pool *g) {
  MT_TRY(mt_spatial_check("max_pool", "gradient", dy));
  MT_TRY(mt_check_dtype("max_pool", "input's gradient", dx, dy->dtype));
  MT_TRY(mt_check_ndim("max_pool", "input's gradient", dx, dy->ndim));
  MT_TRY(check_written("max_pool", "input's gradient", dx, dy));
  MT_TRY(mt_check_dtype("max_pool", "index", index, MT_INT32));
  MT_TRY(mt_check_shape("max_pool", "index", index, dy->ndim, dy->shape));
  if (dx->shape[0] != dy->shape[0] || dx->shape[1] != dy->shape[1]) {
    return mt_fail(MT_ERROR_ARGUMENT, "max_pool: the gradient %s does not belong to an input %s", MT_SHAPE(dy), MT_SHAPE(dx));
  }
  return check_pooled("max_pool", "gradient", dy, dx, g);
}

int mt_pool_check_avg_forward(const mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, const mt_pool *g) {
  MT_TRY(mt_spatial_check("avg_pool", "input", x));
  MT_TRY(check_pooled("avg_pool", "output", y, x, g));
  MT_TRY(check_written("avg_pool", "output", y, x));
  return mask != NULL ? mt_spatial_check_mask("avg_pool", mask, x) : MT_OK;
}

int mt_pool_check_avg_backward(const mt_tensor *dx, const mt_tensor *dy, const mt_tensor *mask, const mt_pool *g) {
  MT_TRY(mt_spatial_check("avg_pool", "input's gradient", dx));
  MT_TRY(check_pooled("avg_pool", "gradient", dy, dx, g));
  MT_TRY(check_written("avg_pool", "input's gradient", dx, dy));
  return mask != NULL ? mt_spatial_check_mask("avg_pool", mask, dx) : MT_OK;
}

int mt_pool_check_mask(const mt_tensor *out, const mt_tensor *mask, const mt_pool *g) {
  MT_TRY(mt_spatial_check("pool", "mask", mask));
  MT_TRY(check_pooled("pool", "output mask", out, mask, g));
  return check_written("pool", "output mask", out, mask);
}

// ---- the mean over all spatial axes -----------------------------------------------------------------------------------

static int check_holes(int32_t holes) {
  if (holes < MT_POOL_SELECT || holes > MT_POOL_ORIGINAL) {
    return mt_fail(MT_ERROR_ARGUMENT, "masked_mean: holes: %d is no way to treat them", holes);
  }
  return MT_OK;
}

int mt_pool_check_mean_forward(const mt_tensor *y, const mt_tensor *coverage, const mt_tensor *x, const mt_tensor *mask,
                               int32_t holes) {
  MT_TRY(mt_spatial_check("masked_mean", "input", x));
  MT_TRY(mt_check_dtype("masked_mean", "output", y, x->dtype));
  MT_TRY(mt_check_shape("masked_mean", "output", y, 2, x->shape));
  MT_TRY(mt_check_output("masked_mean", "output", y));
  MT_TRY(mt_check_overlap("masked_mean", y, x, false));
  MT_TRY(check_holes(holes));
  if (mask != NULL) {
    MT_TRY(mt_spatial_check_mask("masked_mean", mask, x));
  }
  if (coverage == NULL) {
    return MT_OK;
  }
  if (mask == NULL) {
    return mt_fail(MT_ERROR_ARGUMENT, "masked_mean: coverage: there is no mask");
  }
  MT_TRY(mt_check_dtype("masked_mean", "coverage", coverage, x->dtype));
  MT_TRY(mt_check_shape("masked_mean", "coverage", coverage, 2, mask->shape));
  return mt_check_output("masked_mean", "coverage", coverage);
}

int mt_pool_check_mean_backward(const mt_tensor *dx, const mt_tensor *dy, const mt_tensor *mask, int32_t holes) {
  MT_TRY(mt_spatial_check("masked_mean", "input's gradient", dx));
  MT_TRY(mt_check_dtype("masked_mean", "gradient", dy, dx->dtype));
  MT_TRY(mt_check_shape("masked_mean", "gradient", dy, 2, dx->shape));
  MT_TRY(mt_check_output("masked_mean", "input's gradient", dx));
  MT_TRY(mt_check_overlap("masked_mean", dx, dy, false));
  MT_TRY(check_holes(holes));
  return mask != NULL ? mt_spatial_check_mask("masked_mean", mask, dx) : MT_OK;
}
