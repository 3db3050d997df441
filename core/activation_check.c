// activation_check: see activation_check.h.
#include "activation_check.h"
#include "loop.h"

static const char *const names[MT_ACTIVATIONS] = {"relu", "leaky_relu", "elu", "softplus", "silu", "gelu", "gelu"};

int mt_activation_check_behind(const char *op, int32_t activation, double a) {
  const bool leaky = activation == MT_ACTIVATION_LEAKY_RELU;
  if (activation != MT_ACTIVATION_IDENTITY && activation != MT_ACTIVATION_RELU && !leaky) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: activation: expected none, relu or leaky_relu, got function %d", op, activation);
  }
  if (leaky && !(a >= 0 && a <= 1)) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: activation: expected a slope from 0 to 1, got %g", op, a);
  }
  return MT_OK;
}

int mt_activation_check_forward(const mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, int32_t function, double a,
                                double b) {
  if (function < 0 || function >= MT_ACTIVATIONS) {
    return mt_fail(MT_ERROR_ARGUMENT, "activation: unknown function %d", function);
  }
  const char *op = names[function];
  if (a != a || b != b || (function == MT_ACTIVATION_SOFTPLUS && !(a > 0))) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: parameters %g, %g: expected numbers, and a beta above 0", op, a, b);
  }
  MT_TRY(mt_check_floating(op, "input", x));
  MT_TRY(mt_check_like(op, "output", y, x));
  MT_TRY(mt_check_stored_output(op, "output", y));
  MT_TRY(mt_check_overlap(op, y, x, true));
  return mt_loop_check_mask(op, mask, y);
}

int mt_activation_check_backward(const mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, const mt_tensor *mask, int32_t function,
                                 double a, double b) {
  MT_TRY(mt_activation_check_forward(dx, x, mask, function, a, b));
  MT_TRY(mt_check_like(names[function], "gradient", dy, x));
  return mt_check_overlap(names[function], dx, dy, true);
}
