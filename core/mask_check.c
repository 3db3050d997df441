// mask_check: see mask_check.h.
#include "mask_check.h"

int mt_mask_check_use(const char *op, const mt_tensor *y, const mt_tensor *x, const mt_tensor *mask) {
  MT_TRY(mt_check_real(op, "input", x));
  MT_TRY(mt_check_tensor(op, "mask", mask));
  bool fits = mask->ndim == x->ndim && mask->dtype == x->dtype;
  for (int32_t d = 0; d < x->ndim && fits; d++) {
    fits = mask->shape[d] == x->shape[d] || (d < 2 && mask->shape[d] == 1);
  }
  if (!fits) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: mask: %s does not fit the input %s: expected (N or 1, C or 1, *S)", op,
                   MT_SHAPE(mask), MT_SHAPE(x));
  }
  MT_TRY(mt_check_like(op, "output", y, x));
  MT_TRY(mt_check_output(op, "output", y));
  MT_TRY(mt_check_overlap(op, y, x, true));
  return mt_check_overlap(op, y, mask, false);
}

static int check_construction(const char *op, const mt_tensor *mask, const char *argument, const mt_tensor *sizes,
                              int32_t dims) {
  MT_TRY(mt_check_ndim(op, "mask", mask, dims + 2));
  MT_TRY(mt_check_output(op, "mask", mask));
  MT_TRY(mt_check_dtype(op, argument, sizes, MT_INT64));
  if (mask->shape[1] != 1 || sizes->shape[0] != mask->shape[0]) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: mask: expected (%lld, 1, *S), got %s", op, (long long)sizes->shape[0],
                   MT_SHAPE(mask));
  }
  return MT_OK;
}

int mt_mask_check_lengths(const mt_tensor *mask, const mt_tensor *lengths) {
  MT_TRY(mt_check_ndim("mask.lengths", "lengths", lengths, 1));
  return check_construction("mask.lengths", mask, "lengths", lengths, 1);
}

int mt_mask_check_boxes(const mt_tensor *mask, const mt_tensor *sizes) {
  MT_TRY(mt_check_ndim("mask.boxes", "boxes", sizes, 2));
  const int64_t dims = sizes->shape[1];
  if (dims < 1 || dims > 3) {
    return mt_fail(MT_ERROR_ARGUMENT, "mask.boxes: boxes: expected 1 to 3 sizes per sample, got %s", MT_SHAPE(sizes));
  }
  return check_construction("mask.boxes", mask, "boxes", sizes, (int32_t)dims);
}

int mt_mask_check_values(const char *op, const char *argument, const int64_t *values, int64_t count, int32_t dims,
                         const int64_t *limit) {
  for (int64_t i = 0; i < count; i++) {
    if (values[i] < 0 || values[i] > limit[i % dims]) {
      return mt_fail(MT_ERROR_ARGUMENT, "%s: %s: %lld of sample %lld is outside 0..%lld", op, argument, (long long)values[i],
                     (long long)(i / dims) + 1, (long long)limit[i % dims]);
    }
  }
  return MT_OK;
}

int mt_mask_check_summary(const mt_tensor *valid, const mt_tensor *sum, const mt_tensor *mask) {
  MT_TRY(mt_check_tensor("mask", "mask", mask));
  if (mask->ndim < 1) {
    return mt_fail(MT_ERROR_ARGUMENT, "mask: expected at least 1 dimension, got %s", MT_SHAPE(mask));
  }
  MT_TRY(mt_check_shape("mask", "valid", valid, 1, mask->shape));
  MT_TRY(mt_check_dtype("mask", "valid", valid, MT_FLOAT64));
  return sum != NULL ? mt_check_like("mask", "sum", sum, valid) : MT_OK;
}

int mt_mask_check_kinds(const mt_tensor *valid, const mt_tensor *kinds, const mt_tensor *mask) {
  MT_TRY(mt_check_tensor("mask", "mask", mask));
  if (mask->ndim < 2 || mask->ndim > 5) {
    return mt_fail(MT_ERROR_ARGUMENT, "mask: expected (N, C, *S) with up to 3 spatial axes, got %s", MT_SHAPE(mask));
  }
  int64_t shape[5];
  memcpy(shape, mask->shape, sizeof shape);
  shape[1] = 1;
  MT_TRY(mt_check_shape("mask", "valid", valid, mask->ndim, shape));
  MT_TRY(mt_check_dtype("mask", "valid", valid, MT_BOOL));
  MT_TRY(mt_check_shape("mask", "kinds", kinds, mask->ndim, shape));
  MT_TRY(mt_check_dtype("mask", "kinds", kinds, MT_UINT8));
  if (!mt_tensor_is_contiguous(valid) || !mt_tensor_is_contiguous(kinds)) {
    return mt_fail(MT_ERROR_ARGUMENT, "mask: valid and kinds: expected row-major order");
  }
  return MT_OK;
}

int mt_mask_refuse_value(const mt_tensor *mask, double value, int64_t sample) {
  return mt_fail(MT_ERROR_ARGUMENT, "mask: expected values from 0 to 1, got %g in sample %lld of %s", value,
                 (long long)sample + 1, MT_SHAPE(mask));
}
