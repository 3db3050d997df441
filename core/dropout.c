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

static int FN(apply)(mt_tensor *y, const mt_tensor *x, const mt_tensor *keep, const mt_tensor *mask, double p) {
  const REAL scale = (REAL)(1 / (1 - p));
  const mt_tensor *const t[] = {y, x, keep, mask};
  return mask ? mt_loop_valid(4, t, FN(apply_row), &scale, MT_BRIDGE_CHEAP) : mt_loop_elements(3, t, FN(apply_row), &scale);
}

#else
#include "dropout_check.h"
#include "random_check.h"
#include "row.h"
#define MT_SOURCE "dropout.c"
#include "twice.h"

typedef struct {
  const mt_tensor *keep;
  const mt_random *random;
  double p;
} drawing;

// Operand 0 is row-major: its address is the number of a draw.
static void draw_row(char *const *p, const int64_t *step, int64_t n, const void *context) {
  (void)step;
  const drawing *d = context;
  mt_tensor part = *d->keep;
  mt_random random = *d->random;
  part.data = p[0];
  part.ndim = 1;
  part.shape[0] = part.numel = n;
  part.stride[0] = 1;
  random.first += p[0] - (char *)d->keep->data;
  mt_random_bernoulli(&part, &random, 1 - d->p);  // everything has been checked
}

// Where every element draws, what lies under the mask need not.
static int draw(mt_tensor *keep, const mt_tensor *mask, const mt_random *random, double p) {
  if (mask == NULL || keep->numel < mask->numel) {
    return mt_random_bernoulli(keep, random, 1 - p);
  }
  for (int32_t d = 0; d < mask->ndim; d++) {
    if (mask->shape[mask->ndim - 1 - d] > keep->shape[keep->ndim - 1 - d]) {
      return mt_random_bernoulli(keep, random, 1 - p);
    }
  }
  MT_TRY(mt_random_check_bernoulli(keep, random, 1 - p));
  const drawing d = {keep, random, p};
  return mt_loop_valid(2, (const mt_tensor *const[]){keep, mask}, draw_row, &d, 256);
}

int mt_dropout_apply(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, const mt_random *random, double p, int32_t dims) {
  int64_t shape[MT_MAX_DIMS];
  MT_TRY(mt_dropout_check(shape, y, x, mask, p, dims));
  mt_tensor *keep;
  MT_TRY(mt_tensor_new(&keep, MT_BOOL, x->ndim, shape, NULL));
  int status = draw(keep, mask, random, p);
  if (status == MT_OK) {
    status = MT_REAL_CALL(x->dtype, apply, y, x, keep, mask, p);
  }
  mt_tensor_release(keep);
  return status;
}

#endif
