// matmul_check: see matmul_check.h.
#include "matmul_check.h"

int mt_matmul_check(const mt_tensor *y, const mt_tensor *a, const mt_tensor *b) {
  MT_TRY(mt_check_floating("matmul", "a", a));
  MT_TRY(mt_check_dtype("matmul", "b", b, a->dtype));
  MT_TRY(mt_check_result("matmul", "output", y, a->dtype));
  const int32_t n = a->ndim;
  bool fits = n >= 2 && b->ndim == n && a->shape[n - 1] == b->shape[n - 2];
  int64_t shape[MT_MAX_DIMS];
  for (int32_t d = 0; fits && d < n - 2; d++) {
    shape[d] = a->shape[d] == 1 ? b->shape[d] : a->shape[d];
    fits = a->shape[d] == shape[d] ? b->shape[d] == shape[d] || b->shape[d] == 1 : true;
  }
  if (!fits) {
    return mt_fail(MT_ERROR_ARGUMENT, "matmul: %s and %s do not fit: the last size of the first must be the last but one of the "
                   "second, leading sizes equal or 1", MT_SHAPE(a), MT_SHAPE(b));
  }
  shape[n - 2] = a->shape[n - 2];
  shape[n - 1] = b->shape[n - 1];
  MT_TRY(mt_check_shape("matmul", "output", y, n, shape));
  MT_TRY(mt_check_stored_output("matmul", "output", y));
  MT_TRY(mt_check_overlap("matmul", y, a, false));
  return mt_check_overlap("matmul", y, b, false);
}

int mt_matmul_check_precision(int32_t value) {
  if (value < MT_PRECISION_HIGHEST || value > MT_PRECISION_MEDIUM) {
    return mt_fail(MT_ERROR_ARGUMENT, "set_float32_matmul_precision: expected 0, 1 or 2, got %d", value);
  }
  return MT_OK;
}
