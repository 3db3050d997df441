// activation: see core/activation.h; the formulas are in core/activation_rows.h.
#include "row.cuh"

extern "C" {
#include "../core/activation_check.h"
}

typedef mt_activation_parameters parameters;
#define MT_SOURCE "activation_rows.h"
#include "../core/twice.h"

extern "C" int mt_activation_forward(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, int32_t function,
                                     double a, double b) {
  const parameters p = {a, b};
  const mt_tensor *const t[] = {y, x, mask};
  MT_TRY(mt_activation_check_forward(y, x, mask, function, a, b));
  return mt_loop_launch_valid(3, t, MT_REAL_FN(x->dtype, forward)[function], &p, sizeof p);
}

extern "C" int mt_activation_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, const mt_tensor *mask,
                                      int32_t function, double a, double b) {
  const parameters p = {a, b};
  const mt_tensor *const t[] = {dx, dy, x, mask};
  MT_TRY(mt_activation_check_backward(dx, dy, x, mask, function, a, b));
  return mt_loop_launch_valid(4, t, MT_REAL_FN(x->dtype, backward)[function], &p, sizeof p);
}
