// dropout_check: see dropout_check.h.
#include "dropout_check.h"
#include "loop.h"

int mt_dropout_check(int64_t shape[MT_MAX_DIMS], const mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, double p,
                     int32_t dims) {
  MT_TRY(mt_check_floating("dropout", "input", x));
  MT_TRY(mt_check_like("dropout", "output", y, x));
  MT_TRY(mt_check_stored_output("dropout", "output", y));
  MT_TRY(mt_check_overlap("dropout", y, x, true));
  MT_TRY(mt_loop_check_mask("dropout", mask, y));
  if (!(p >= 0 && p <= 1)) {
    return mt_fail(MT_ERROR_ARGUMENT, "dropout: p: expected a probability from 0 to 1, got %g", p);
  }
  if (dims < 0 || dims > x->ndim) {
    return mt_fail(MT_ERROR_ARGUMENT, "dropout: %d dims draw, the input has the shape %s", dims, MT_SHAPE(x));
  }
  for (int32_t d = 0; d < x->ndim; d++) {
    shape[d] = d < dims ? x->shape[d] : 1;
  }
  return MT_OK;
}
