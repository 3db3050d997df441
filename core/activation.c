// activation: see activation.h.
#include "activation_check.h"
#include "row.h"

typedef mt_activation_parameters parameters;
#define MT_SOURCE "activation_rows.h"
#include "twice.h"

int mt_activation_forward(mt_tensor *y, const mt_tensor *x, int32_t function, double a, double b) {
  const parameters p = {a, b};
  MT_TRY(mt_activation_check_forward(y, x, function, a, b));
  return mt_loop_run(2, (const mt_tensor *const[]){y, x}, MT_REAL_FN(x->dtype, forward)[function], &p);
}

int mt_activation_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, int32_t function, double a, double b) {
  const parameters p = {a, b};
  MT_TRY(mt_activation_check_backward(dx, dy, x, function, a, b));
  return mt_loop_run(3, (const mt_tensor *const[]){dx, dy, x}, MT_REAL_FN(x->dtype, backward)[function], &p);
}
