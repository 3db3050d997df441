// activation: see activation.h. Forward and backward of each function are neighbours.
#ifdef REAL

static void FN(relu_forward)(char *const *p, const int64_t *step, int64_t n, const void *context) {
  (void)context;
  for (int64_t i = 0; i < n; i++) {
    const REAL x = *(const REAL *)(p[1] + i * step[1]);
    *(REAL *)(p[0] + i * step[0]) = x < 0 ? 0 : x;
  }
}

static void FN(relu_backward)(char *const *p, const int64_t *step, int64_t n, const void *context) {
  (void)context;
  for (int64_t i = 0; i < n; i++) {
    const REAL dy = *(const REAL *)(p[1] + i * step[1]), y = *(const REAL *)(p[2] + i * step[2]);
    *(REAL *)(p[0] + i * step[0]) = y > 0 ? dy : 0;
  }
}

#else
#include "common.h"
#include "loop.h"
#define MT_SOURCE "activation.c"
#include "twice.h"

static int check_forward(const char *op, const mt_tensor *y, const mt_tensor *x) {
  MT_TRY(mt_check_real(op, "input", x));
  MT_TRY(mt_check_like(op, "output", y, x));
  MT_TRY(mt_check_output(op, "output", y));
  return mt_check_overlap(op, y, x, true);
}

static int check_backward(const char *op, const mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x) {
  MT_TRY(check_forward(op, dx, x));
  return mt_check_like(op, "gradient", dy, x);
}

int mt_activation_relu_forward(mt_tensor *y, const mt_tensor *x) {
  MT_TRY(check_forward("relu", y, x));
  return mt_loop_run(2, (const mt_tensor *const[]){y, x}, MT_REAL_FN(x->dtype, relu_forward), NULL);
}

int mt_activation_relu_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *y) {
  MT_TRY(check_backward("relu", dx, dy, y));
  return mt_loop_run(3, (const mt_tensor *const[]){dx, dy, y}, MT_REAL_FN(y->dtype, relu_backward), NULL);
}

#endif
