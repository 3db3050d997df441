// upsample_check: see upsample_check.h.
#include "upsample_check.h"

// y belongs to x: same batch, channels and dtype, sizes of at least 1.
static int check(const mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, const mt_upsample *g) {
  MT_TRY(mt_spatial_check("upsample", "input", x));
  MT_TRY(mt_check_dtype("upsample", "output", y, x->dtype));
  MT_TRY(mt_check_ndim("upsample", "output", y, x->ndim));
  if (g == NULL) {
    return mt_fail(MT_ERROR_ARGUMENT, "upsample: geometry: expected a value, got nil");
  }
  if (g->dims != x->ndim - 2 || g->mode < 0 || g->mode > MT_UPSAMPLE_ALIGNED || g->rule < 0 || g->rule > MT_UPSAMPLE_COVERAGE) {
    return mt_fail(MT_ERROR_ARGUMENT, "upsample: expected %d spatial axes and a known mode and rule, got %s", g->dims,
                   MT_SHAPE(x));
  }
  bool fits = y->shape[0] == x->shape[0] && y->shape[1] == x->shape[1];
  for (int32_t d = 2; d < x->ndim; d++) {
    fits = fits && x->shape[d] >= 1 && y->shape[d] >= 1 && g->scale[d - 2] >= 0 && isfinite(g->scale[d - 2]);
  }
  if (!fits) {
    return mt_fail(MT_ERROR_ARGUMENT, "upsample: expected sizes of at least 1, got %s -> %s", MT_SHAPE(x), MT_SHAPE(y));
  }
  return mask != NULL ? mt_spatial_check_mask("upsample", mask, x) : MT_OK;
}

static int check_written(const mt_tensor *y, const mt_tensor *x) {
  MT_TRY(mt_check_output("upsample", "output", y));
  return mt_check_overlap("upsample", y, x, false);
}

int mt_upsample_check_forward(const mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, const mt_upsample *g) {
  MT_TRY(check(y, x, mask, g));
  return check_written(y, x);
}

int mt_upsample_check_backward(const mt_tensor *dx, const mt_tensor *dy, const mt_tensor *mask, const mt_upsample *g) {
  MT_TRY(check(dy, dx, mask, g));
  return check_written(dx, dy);
}
