// shuffle_check: see shuffle_check.h.
#include "shuffle_check.h"

// coarse and fine of the same elements; the shape of `fine` decides.
static int check_pair(const char *op, const mt_tensor *coarse, const mt_tensor *fine, int64_t r, const char *wrong) {
  int64_t shape[MT_MAX_DIMS], channels = fine->shape[1];
  shape[0] = fine->shape[0];
  for (int32_t d = 2; d < fine->ndim; d++) {
    shape[d] = fine->shape[d] / r;
    if (!mt_mul(&channels, channels, r)) {
      return mt_fail(MT_ERROR_ARGUMENT, "%s: too many channels: %s with factor %lld", op, MT_SHAPE(fine), (long long)r);
    }
  }
  shape[1] = channels;
  return mt_check_shape(op, wrong, coarse, fine->ndim, shape);
}

// The element (n, c, k.., p..) of the coarse tensor and of the fine one.
static void view_coarse(mt_tensor *v, const mt_tensor *t, int64_t channels, int64_t r) {
  int32_t dims = t->ndim - 2;
  *v = *t;
  v->ndim = 2 + 2 * dims;
  v->shape[1] = channels;
  int64_t step = t->stride[1];
  for (int32_t d = dims - 1; d >= 0; d--) {
    v->shape[2 + d] = r;
    v->stride[2 + d] = step;
    step *= r;
    v->shape[2 + dims + d] = t->shape[2 + d];
    v->stride[2 + dims + d] = t->stride[2 + d];
  }
  v->stride[1] = step;
}

static void view_fine(mt_tensor *v, const mt_tensor *t, int64_t r) {
  int32_t dims = t->ndim - 2;
  *v = *t;
  v->ndim = 2 + 2 * dims;
  for (int32_t d = 0; d < dims; d++) {
    v->shape[2 + d] = r;
    v->stride[2 + d] = t->stride[2 + d];
    v->shape[2 + dims + d] = t->shape[2 + d] / r;
    v->stride[2 + dims + d] = t->stride[2 + d] * r;
  }
}

static int check(const char *op, const mt_tensor *y, const mt_tensor *x, int64_t factor) {
  MT_TRY(mt_check_stored(op, "input", x));
  MT_TRY(mt_check_dtype(op, "output", y, x->dtype));
  if (x->ndim < 3 || x->ndim > 5) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: input: expected (N, C, *S) with 1 to 3 spatial axes, got %s", op, MT_SHAPE(x));
  }
  if (factor < 1) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: factor: expected at least 1, got %lld", op, (long long)factor);
  }
  if (y->ndim != x->ndim) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: output: expected %d dimensions, got %s", op, x->ndim, MT_SHAPE(y));
  }
  MT_TRY(mt_check_stored_output(op, "output", y));
  return mt_check_overlap(op, y, x, false);
}

int mt_shuffle_check_unshuffle(mt_tensor *coarse, mt_tensor *fine, const mt_tensor *y, const mt_tensor *x, int64_t factor) {
  MT_TRY(check("pixel_unshuffle", y, x, factor));
  for (int32_t d = 2; d < x->ndim; d++) {
    if (x->shape[d] % factor != 0) {
      static const char *const words[] = {"Length", "Height and width", "Depth, height, and width"};
      return mt_fail(MT_ERROR_ARGUMENT, "pixel_unshuffle: %s must be divisible by the downscale factor %lld, got %s",
                     words[x->ndim - 3], (long long)factor, MT_SHAPE(x));
    }
  }
  MT_TRY(check_pair("pixel_unshuffle", y, x, factor, "output"));
  view_coarse(coarse, y, x->shape[1], factor);
  view_fine(fine, x, factor);
  return MT_OK;
}

int mt_shuffle_check_shuffle(mt_tensor *coarse, mt_tensor *fine, const mt_tensor *y, const mt_tensor *x, int64_t factor) {
  MT_TRY(check("pixel_shuffle", y, x, factor));
  int64_t channels = x->shape[1];
  for (int32_t d = 2; d < x->ndim; d++) {
    if (channels % factor != 0) {
      return mt_fail(MT_ERROR_ARGUMENT,
                     "pixel_shuffle: the channels must be divisible by the upscale factor %lld to the power %d, got %s",
                     (long long)factor, x->ndim - 2, MT_SHAPE(x));
    }
    channels /= factor;
  }
  for (int32_t d = 2; d < x->ndim; d++) {
    if (y->shape[d] % factor != 0) {
      return mt_fail(MT_ERROR_ARGUMENT, "pixel_shuffle: output: %s is not %s enlarged by %lld", MT_SHAPE(y), MT_SHAPE(x),
                     (long long)factor);
    }
  }
  MT_TRY(check_pair("pixel_shuffle", x, y, factor, "input"));
  view_fine(fine, y, factor);
  view_coarse(coarse, x, channels, factor);
  return MT_OK;
}
