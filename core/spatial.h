// spatial: a tensor (N, C, *S) with 1 to 3 spatial axes as one with exactly 3, so that kernels are written once.
// Internal.
#pragma once
#include "common.h"

typedef struct mt_spatial {
  void *data;
  int64_t n, c, size[3];                     // missing leading axes have size 1
  int64_t step_n, step_c, step[3];           // in elements
} mt_spatial;

// Axes of size 1 get step 0, so a mask is walked with x's indexes (broadcast).
static inline mt_spatial mt_spatial_of(const mt_tensor *t) {
  mt_spatial v = {t->data, t->shape[0], t->shape[1], {1, 1, 1}, 0, 0, {0, 0, 0}};  // C++ reads this too
  v.step_n = v.n == 1 ? 0 : t->stride[0];
  v.step_c = v.c == 1 ? 0 : t->stride[1];
  for (int32_t d = 2, a = 5 - t->ndim; d < t->ndim; d++, a++) {
    v.size[a] = t->shape[d];
    v.step[a] = t->shape[d] == 1 ? 0 : t->stride[d];
  }
  return v;
}

// Of the element (n, c) at the position p, in elements.
static inline int64_t mt_spatial_offset(const mt_spatial *v, int64_t n, int64_t c, const int64_t *p) {
  return n * v->step_n + c * v->step_c + p[0] * v->step[0] + p[1] * v->step[1] + p[2] * v->step[2];
}

// (N, C, *S), float32 or float64, 1 to 3 spatial axes.
static inline int mt_spatial_check(const char *op, const char *argument, const mt_tensor *t) {
  MT_TRY(mt_check_real(op, argument, t));
  if (t->ndim < 3 || t->ndim > 5) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: %s: expected (N, C, *S) with 1 to 3 spatial axes, got %s", op, argument,
                   MT_SHAPE(t));
  }
  return MT_OK;
}

// A mask for x: its dtype and spatial sizes, its batch and channels or 1.
static inline int mt_spatial_check_mask(const char *op, const mt_tensor *mask, const mt_tensor *x) {
  MT_TRY(mt_check_dtype(op, "mask", mask, x->dtype));
  bool fits = mask->ndim == x->ndim;
  for (int32_t d = 0; fits && d < x->ndim; d++) {
    fits = mask->shape[d] == x->shape[d] || (d < 2 && mask->shape[d] == 1);
  }
  if (!fits) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: mask: %s does not broadcast to the input %s", op, MT_SHAPE(mask), MT_SHAPE(x));
  }
  return MT_OK;
}

// Channels are handled in blocks: neighbours in memory many at once, distant ones few (they would evict each other).
enum { MT_CHANNEL_BLOCK = 64 };
static inline int64_t mt_channel_block(const mt_spatial *v) { return v->step_c == 1 ? MT_CHANNEL_BLOCK : 8; }
