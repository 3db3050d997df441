// elementwise: arithmetic over broadcast strided tensors, one typed row loop each, walked by loop.c.
#ifdef REAL

static void FN(add_row)(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const REAL alpha = (REAL) * (const double *)context;
  for (int64_t i = 0; i < n; i++) {
    *(REAL *)(p[0] + i * step[0]) = *(const REAL *)(p[1] + i * step[1]) + alpha * *(const REAL *)(p[2] + i * step[2]);
  }
}

#else
#include "common.h"
#include "loop.h"
#define MT_SOURCE "elementwise.c"
#include "twice.h"

int mt_elementwise_add(mt_tensor *y, const mt_tensor *a, const mt_tensor *b, double alpha) {
  MT_TRY(mt_check_output("add", "output", y));
  MT_TRY(mt_check_real("add", "output", y));
  MT_TRY(mt_check_dtype("add", "a", a, y->dtype));
  MT_TRY(mt_check_dtype("add", "b", b, y->dtype));
  return mt_loop_run(3, (const mt_tensor *const[]){y, a, b}, MT_REAL_FN(y->dtype, add_row), &alpha);
}

#endif
