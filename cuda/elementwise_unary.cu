// elementwise_unary: functions of one operand. See core/elementwise.h; the formulas are in core/elementwise_unary_rows.h.
#include "row.cuh"

extern "C" {
#include "../core/elementwise_check.h"
}

#define MT_SOURCE "elementwise_unary_rows.h"
#include "../core/five.h"

extern "C" int mt_elementwise_unary(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, int32_t op) {
  const mt_tensor *const t[] = {y, x, mask};
  MT_TRY(mt_elementwise_check_unary(y, x, mask, op));
  return mt_loop_launch_valid(3, t, MT_FIVE_FN(x->dtype, forward)[op], NULL, 0);
}

extern "C" int mt_elementwise_unary_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *kept, const mt_tensor *mask,
                                             int32_t op) {
  const mt_tensor *const t[] = {dx, dy, kept, mask};
  MT_TRY(mt_elementwise_check_unary_backward(dx, dy, kept, mask, op));
  return mt_loop_launch_valid(4, t, MT_REAL_FN(kept->dtype, backward)[op], NULL, 0);
}
