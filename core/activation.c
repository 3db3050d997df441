// activation: see activation.h.
#include "activation_check.h"
#include "row_tables.h"
#include "tile.h"

static int64_t bridge_of(int32_t function) { return function <= MT_ACTIVATION_LEAKY_RELU ? MT_BRIDGE_CHEAP : MT_BRIDGE; }

int mt_activation_forward(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, int32_t function, double a, double b) {
  const mt_activation_parameters p = {a, b};
  MT_TRY(mt_activation_check_forward(y, x, mask, function, a, b));
  const mt_loop_row row = mt_tile_get()->activation->forward[mt_computed(x->dtype)][function];
  return mt_loop_valid(3, (const mt_tensor *const[]){y, x, mask}, row, &p, bridge_of(function));
}

int mt_activation_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, const mt_tensor *mask, int32_t function, double a,
                           double b) {
  const mt_activation_parameters p = {a, b};
  MT_TRY(mt_activation_check_backward(dx, dy, x, mask, function, a, b));
  const mt_loop_row row = mt_tile_get()->activation->backward[mt_computed(x->dtype)][function];
  return mt_loop_valid(4, (const mt_tensor *const[]){dx, dy, x, mask}, row, &p, bridge_of(function));
}
