// dropout: see dropout.h.
#ifdef REAL

// The product's bits, or none: choosing them by arithmetic keeps the loop free of branches.
MT_INLINE REAL FN(chosen)(REAL product, uint8_t keep) {
#if REAL_BITS == 32
  uint32_t bits;
#else
  uint64_t bits;
#endif
  memcpy(&bits, &product, sizeof bits);
  bits &= -(__typeof__(bits))(keep != 0);
  memcpy(&product, &bits, sizeof bits);
  return product;
}
MT_ROW_2(FN(apply_row), REAL, REAL, uint8_t, FN(chosen)(a * *(const REAL *)context, b))

static int FN(apply)(mt_tensor *y, const mt_tensor *x, const mt_tensor *keep, double p) {
  const REAL scale = (REAL)(1 / (1 - p));
  return mt_loop_elements(3, (const mt_tensor *const[]){y, x, keep}, FN(apply_row), &scale);
}

#else
#include "dropout_check.h"
#include "row.h"
#define MT_SOURCE "dropout.c"
#include "twice.h"

int mt_dropout_apply(mt_tensor *y, const mt_tensor *x, const mt_random *random, double p, int32_t dims) {
  int64_t shape[MT_MAX_DIMS];
  MT_TRY(mt_dropout_check(shape, y, x, p, dims));
  mt_tensor *keep;
  MT_TRY(mt_tensor_new(&keep, MT_BOOL, x->ndim, shape, NULL));
  int status = mt_random_bernoulli(keep, random, 1 - p);
  if (status == MT_OK) {
    status = MT_REAL_CALL(x->dtype, apply, y, x, keep, p);
  }
  mt_tensor_release(keep);
  return status;
}

#endif
