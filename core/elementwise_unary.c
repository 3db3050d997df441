// elementwise_unary: functions of one operand. See elementwise.h; the formulas are in elementwise_unary_rows.h.
#include "elementwise_check.h"
#include "row_tables.h"
#include "tile.h"

int mt_elementwise_unary(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, int32_t op) {
  MT_TRY(mt_elementwise_check_unary(y, x, mask, op));
  return mt_loop_valid(3, (const mt_tensor *const[]){y, x, mask}, mt_tile_get()->unary->forward[mt_computed(x->dtype)][op], NULL, MT_BRIDGE);
}

int mt_elementwise_unary_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *kept, const mt_tensor *mask, int32_t op) {
  MT_TRY(mt_elementwise_check_unary_backward(dx, dy, kept, mask, op));
  return mt_loop_valid(4, (const mt_tensor *const[]){dx, dy, kept, mask}, mt_tile_get()->unary->backward[mt_computed(kept->dtype)][op], NULL,
                       MT_BRIDGE_CHEAP);
}
