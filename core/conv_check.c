// conv_check: see conv_check.h.
#include "conv_check.h"

#include "activation_check.h"
#include "norm_check.h"

const char *mt_conv_name(const mt_conv *g) {
  static const char *const names[] = {"conv", "conv1d", "conv2d", "conv3d"};
  return g && g->dims >= 1 && g->dims <= 3 ? names[g->dims] : names[0];
}

static int check_geometry(const mt_conv *g) {
  const char *op = mt_conv_name(g);
  if (g == NULL || g->dims < 1 || g->dims > 3) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: expected 1 to 3 spatial dimensions", op);
  }
  if (g->groups < 1) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: groups: expected at least 1, got %d", op, g->groups);
  }
  const struct {
    const char *name;
    const int64_t *value;
  } sizes[] = {{"kernel_size", g->kernel}, {"stride", g->stride}, {"dilation", g->dilation}};
  for (int32_t k = 0; k < 3; k++) {
    for (int32_t d = 0; d < g->dims; d++) {
      if (sizes[k].value[d] < 1) {
        return mt_fail(MT_ERROR_ARGUMENT, "%s: %s: expected at least 1, got %s", op, sizes[k].name,
                       MT_SIZES(g->dims, sizes[k].value));
      }
    }
  }
  return MT_OK;
}

int mt_conv_output_size(int64_t *out, const int64_t *in, const mt_conv *g) {
  MT_TRY(check_geometry(g));
  for (int32_t d = 0; d < g->dims; d++) {
    static const int64_t limit = INT64_MAX / 16;  // as for the sizes of tensors
    int64_t padded, extent;
    if (in[d] < 0 || g->pad_before[d] < -limit || g->pad_before[d] > limit || g->pad_after[d] < -limit || g->pad_after[d] > limit ||
        g->stride[d] > limit || !mt_add(&padded, in[d], g->pad_before[d]) || !mt_add(&padded, padded, g->pad_after[d]) ||
        !mt_mul(&extent, g->dilation[d], g->kernel[d] - 1) || !mt_add(&extent, extent, 1)) {
      return mt_fail(MT_ERROR_ARGUMENT, "%s: the sizes do not fit in 64 bits (input %s, kernel %s)", mt_conv_name(g),
                     MT_SIZES(g->dims, in), MT_SIZES(g->dims, g->kernel));
    }
    if (padded < extent) {
      return mt_fail(MT_ERROR_ARGUMENT, "%s: input: the padded size %lld of spatial axis %d is smaller than the kernel's "
                     "extent %lld (input %s, kernel %s)", mt_conv_name(g), (long long)padded, d + 1, (long long)extent,
                     MT_SIZES(g->dims, in), MT_SIZES(g->dims, g->kernel));
    }
    out[d] = (padded - extent) / g->stride[d] + 1;
  }
  return MT_OK;
}

// What is read: one type for both, of which the result is, or float32 beside bfloat16.
static int check_types(const mt_conv *g, const char *first, const mt_tensor *a, const char *second, const mt_tensor *b,
                       const char *result, const mt_tensor *c) {
  const char *op = mt_conv_name(g);
  MT_TRY(check_geometry(g));
  MT_TRY(mt_check_floating(op, first, a));
  MT_TRY(mt_check_dtype(op, second, b, a->dtype));
  return mt_check_result(op, result, c, a->dtype);
}

// x (N, C, *S) and w (O, C / groups, *K) against the geometry; y gets its expected shape.
static int check_shapes(int64_t *y_shape, const mt_tensor *x, const mt_tensor *w, const mt_conv *g) {
  const char *op = mt_conv_name(g);
  if (x->ndim != g->dims + 2) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: input: expected %d dimensions, got %s", op, g->dims + 2, MT_SHAPE(x));
  }
  const int64_t channels = x->shape[1];
  if (channels % g->groups != 0) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: input: %lld channels cannot be split into %d groups; input %s", op,
                   (long long)channels, g->groups, MT_SHAPE(x));
  }
  int64_t expected[MT_MAX_DIMS] = {w->ndim > 0 ? w->shape[0] : 0, channels / g->groups};
  memcpy(expected + 2, g->kernel, sizeof(int64_t) * (size_t)g->dims);
  if (w->ndim != g->dims + 2 || memcmp(w->shape, expected, sizeof(int64_t) * (size_t)w->ndim) != 0) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: weight: expected (out, %lld, kernel %s), got %s for input %s and groups %d", op,
                   (long long)expected[1], MT_SIZES(g->dims, g->kernel), MT_SHAPE(w), MT_SHAPE(x), g->groups);
  }
  if (w->shape[0] % g->groups != 0) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: weight: %lld output channels cannot be split into %d groups; weight %s", op,
                   (long long)w->shape[0], g->groups, MT_SHAPE(w));
  }
  y_shape[0] = x->shape[0];
  y_shape[1] = w->shape[0];
  return mt_conv_output_size(y_shape + 2, x->shape + 2, g);
}

// One number per channel.
static int check_bias(const char *op, const mt_tensor *b, const mt_tensor *beside, int64_t channels) {
  MT_TRY(mt_check_beside(op, "bias", b, beside->dtype));
  return mt_check_shape(op, "bias", b, 1, &channels);
}

static int check_written(const char *op, const mt_tensor *out, const mt_tensor *a, const mt_tensor *b, const mt_tensor *c) {
  MT_TRY(mt_check_stored_output(op, "output", out));
  MT_TRY(mt_check_overlap(op, out, a, false));
  MT_TRY(mt_check_overlap(op, out, b, false));
  return c ? mt_check_overlap(op, out, c, false) : MT_OK;
}

// bfloat16 would have to be rounded before the norm.
static int check_norm(const char *op, const mt_tensor *norm, const mt_tensor *y, int64_t channels) {
  if (y->dtype == MT_BFLOAT16) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: norm: expected an output of float32 or float64, got %s", op, MT_SHAPE(y));
  }
  return mt_norm_check_frozen(op, norm, channels);
}

int mt_conv_check_map(const char *op, const char *argument, const mt_tensor *m, int32_t dtype, const mt_tensor *t) {
  if (m == NULL) {
    return MT_OK;
  }
  MT_TRY(mt_check_dtype(op, argument, m, dtype));
  int64_t shape[MT_MAX_DIMS];
  memcpy(shape, t->shape, sizeof shape);
  shape[0] = m->ndim > 0 && m->shape[0] == 1 ? 1 : t->shape[0];
  shape[1] = 1;
  return mt_check_shape(op, argument, m, t->ndim, shape);
}

int mt_conv_check_forward(const mt_tensor *y, const mt_tensor *x, const mt_tensor *w, const mt_tensor *b, const mt_conv *g,
                          const mt_tensor *valid, const mt_tensor *active, const mt_tensor *r, const mt_tensor *m,
                          const mt_tensor *norm, int32_t activation, double a) {
  int64_t shape[MT_MAX_DIMS];
  MT_TRY(check_types(g, "input", x, "weight", w, "output", y));
  MT_TRY(check_shapes(shape, x, w, g));
  const char *op = mt_conv_name(g);
  MT_TRY(mt_activation_check_behind(op, activation, a));
  MT_TRY(b ? check_bias(op, b, x, shape[1]) : MT_OK);
  MT_TRY(norm ? check_norm(op, norm, y, shape[1]) : MT_OK);
  MT_TRY(mt_check_shape(op, "output", y, x->ndim, shape));
  MT_TRY(check_written(op, y, x, w, b));
  MT_TRY(mt_conv_check_map(op, "valid", valid, MT_BOOL, x));
  MT_TRY(mt_conv_check_map(op, "active", active, MT_BOOL, y));
  MT_TRY(mt_conv_check_map(op, "r", r, mt_computed(x->dtype), y));
  return mt_conv_check_map(op, "m", m, mt_computed(x->dtype), y);
}

int mt_conv_check_backward_input(const mt_tensor *dx, const mt_tensor *dy, const mt_tensor *w, const mt_tensor *b,
                                 const mt_conv *g, const mt_tensor *valid, const mt_tensor *active) {
  int64_t shape[MT_MAX_DIMS];
  MT_TRY(check_types(g, "gradient", dy, "weight", w, "input", dx));
  MT_TRY(check_shapes(shape, dx, w, g));
  const char *op = mt_conv_name(g);
  MT_TRY(mt_check_shape(op, "gradient", dy, dx->ndim, shape));
  MT_TRY(b ? check_bias(op, b, dx, dx->shape[1]) : MT_OK);
  MT_TRY(check_written(op, dx, dy, w, b));
  MT_TRY(mt_conv_check_map(op, "valid", valid, MT_BOOL, dx));
  return mt_conv_check_map(op, "active", active, MT_BOOL, dy);
}

int mt_conv_check_backward_weight(const mt_tensor *dw, const mt_tensor *dy, const mt_tensor *x, const mt_conv *g,
                                  const mt_tensor *valid, const mt_tensor *active) {
  int64_t shape[MT_MAX_DIMS];
  MT_TRY(check_types(g, "input", x, "gradient", dy, "weight", dw));
  MT_TRY(check_shapes(shape, x, dw, g));
  const char *op = mt_conv_name(g);
  MT_TRY(mt_check_shape(op, "gradient", dy, x->ndim, shape));
  MT_TRY(check_written(op, dw, dy, x, NULL));
  MT_TRY(mt_conv_check_map(op, "valid", valid, MT_BOOL, x));
  return mt_conv_check_map(op, "active", active, MT_BOOL, dy);
}

int mt_conv_check_backward_epilogue(const mt_tensor *draw, const mt_tensor *db, const mt_tensor *dy, const mt_tensor *y,
                                    const mt_tensor *active, const mt_tensor *r, const mt_tensor *m, int32_t activation, double a) {
  MT_TRY(mt_activation_check_behind("conv", activation, a));
  MT_TRY(mt_check_floating("conv", "gradient", dy));
  if (dy->ndim < 3) {
    return mt_fail(MT_ERROR_ARGUMENT, "conv: gradient: expected (batch, out, size, ...), got %s", MT_SHAPE(dy));
  }
  if (db) {
    MT_TRY(check_bias("conv", db, dy, dy->shape[1]));
    MT_TRY(check_written("conv", db, dy, dy, NULL));
  }
  if (draw) {
    MT_TRY(mt_check_result("conv", "output", draw, dy->dtype));
    MT_TRY(mt_check_shape("conv", "output", draw, dy->ndim, dy->shape));
    MT_TRY(mt_check_stored_output("conv", "output", draw));
    MT_TRY(mt_check_overlap("conv", draw, dy, true));
  }
  if (activation != MT_ACTIVATION_IDENTITY) {
    MT_TRY(mt_check_like("conv", "result", y, dy));
    MT_TRY(draw ? mt_check_overlap("conv", draw, y, false) : MT_OK);
  }
  MT_TRY(mt_conv_check_map("conv", "active", active, MT_BOOL, dy));
  MT_TRY(mt_conv_check_map("conv", "r", r, mt_computed(dy->dtype), dy));
  return mt_conv_check_map("conv", "m", m, mt_computed(dy->dtype), dy);
}

int mt_conv_check_algorithm(int32_t wanted) {
  if (wanted < 0 || wanted >= MT_CONV_ALGORITHMS) {
    return mt_fail(MT_ERROR_ARGUMENT, "conv_algorithm: expected 0 to %d, got %d", MT_CONV_ALGORITHMS - 1, wanted);
  }
  return MT_OK;
}

// ---- layouts --------------------------------------------------------------------------------------------------------------

static int new_channels_last(mt_tensor **out, const mt_tensor *t) {
  int64_t stride[MT_MAX_DIMS], step = t->shape[1];
  for (int32_t d = t->ndim - 1; d >= 2; d--) {
    stride[d] = step;
    step *= MT_MAX(1, t->shape[d]);
  }
  stride[0] = step;
  stride[1] = 1;
  return mt_tensor_new(out, t->dtype, t->ndim, t->shape, stride);
}

// (N, C, *S) with its channels side by side: t itself with another reference, or a copy.
int mt_conv_side_by_side(mt_tensor **out, const mt_tensor *t) {
  if (t->shape[1] == 1 || t->stride[1] == 1) {
    return mt_tensor_view(out, t, t->ndim, t->shape, t->stride, 0);
  }
  MT_TRY(new_channels_last(out, t));
  const int status = mt_tensor_copy(*out, t);
  if (status != MT_OK) {
    mt_tensor_release(*out);
    *out = NULL;
  }
  return status;
}

int64_t mt_conv_kernel_taps(const mt_conv *g) {
  int64_t taps = 1;
  for (int32_t d = 0; d < g->dims; d++) {
    taps *= g->kernel[d];
  }
  return taps;
}

int mt_conv_taps_new(mt_conv_taps *list, const mt_conv *g) {
  *list = (mt_conv_taps){0, NULL, NULL};
  list->offset = mt_alloc_array(mt_conv_kernel_taps(g), (int64_t)(sizeof *list->offset + sizeof *list->w));
  if (list->offset == NULL) {
    return MT_ERROR_MEMORY;
  }
  list->w = (int64_t *)(list->offset + mt_conv_kernel_taps(g));
  return MT_OK;
}

static void tap_position(int64_t at[MT_CONV_DIMS], const mt_conv *g, int64_t tap) {
  for (int32_t d = g->dims - 1; d >= 0; d--) {
    at[d] = tap % g->kernel[d];
    tap /= g->kernel[d];
  }
}

// All taps, as the forward pass reads x.
void mt_conv_taps_forward(mt_conv_taps *list, const mt_conv *g, const int64_t *step) {
  list->count = mt_conv_kernel_taps(g);
  for (int64_t j = 0; j < list->count; j++) {
    int64_t at[MT_CONV_DIMS];
    tap_position(at, g, j);
    list->w[j] = 0;
    for (int32_t d = 0; d < g->dims; d++) {
      list->offset[j][d] = at[d] * g->dilation[d] - g->pad_before[d];
      list->w[j] += at[d] * step[d];
    }
  }
}

// The taps that reach the pixels phase, phase + stride, ... of x from dy: pixel phase + i * stride is seen through tap t by
// output i + (phase + pad - t * dilation) / stride, if that is a whole number.
void mt_conv_taps_adjoint(mt_conv_taps *list, const mt_conv *g, const int64_t *step, const int64_t phase[MT_CONV_DIMS]) {
  list->count = 0;
  for (int64_t tap = 0; tap < mt_conv_kernel_taps(g); tap++) {
    int64_t at[MT_CONV_DIMS], offset[MT_CONV_DIMS], weight = 0;
    bool whole = true;
    tap_position(at, g, tap);
    for (int32_t d = 0; d < g->dims; d++) {
      const int64_t distance = phase[d] + g->pad_before[d] - at[d] * g->dilation[d];
      whole = whole && distance % g->stride[d] == 0;
      offset[d] = distance / g->stride[d];
      weight += at[d] * step[d];
    }
    if (whole) {
      memcpy(list->offset[list->count], offset, sizeof offset[0] * (size_t)g->dims);
      list->w[list->count++] = weight;
    }
  }
}
