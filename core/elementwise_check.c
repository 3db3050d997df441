// elementwise_check: see elementwise_check.h.
#include "elementwise_check.h"
#include "loop.h"

// ---- one operand ----------------------------------------------------------------------------------------------------

static const char *const unary[MT_UNARY_OPS] = {
  "neg", "abs", "sign", "square", "reciprocal", "sqrt", "rsqrt", "exp", "expm1", "log", "log1p",
  "log2", "sin", "cos", "tan", "atan", "tanh", "sigmoid", "floor", "ceil", "round", "trunc",
};

int mt_elementwise_check_unary(const mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, int32_t op) {
  if (op < 0 || op >= MT_UNARY_OPS) {
    return mt_fail(MT_ERROR_ARGUMENT, "unary: unknown operation %d", op);
  }
  MT_TRY(mt_check_stored(unary[op], "input", x));
  MT_TRY(mt_check_like(unary[op], "output", y, x));
  MT_TRY(mt_check_stored_output(unary[op], "output", y));
  MT_TRY(mt_check_overlap(unary[op], y, x, true));
  if (x->dtype == MT_BOOL || op > MT_UNARY_SQUARE) {
    MT_TRY(mt_check_floating(unary[op], "input", x));
  }
  return mt_loop_check_mask(unary[op], mask, y);
}

int mt_elementwise_check_unary_backward(const mt_tensor *dx, const mt_tensor *dy, const mt_tensor *kept, const mt_tensor *mask,
                                        int32_t op) {
  if (op < 0 || op >= MT_UNARY_OPS) {
    return mt_fail(MT_ERROR_ARGUMENT, "unary: unknown operation %d", op);
  }
  MT_TRY(mt_check_floating(unary[op], "input", kept));
  MT_TRY(mt_check_like(unary[op], "output", dx, kept));
  MT_TRY(mt_check_like(unary[op], "gradient", dy, kept));
  MT_TRY(mt_check_stored_output(unary[op], "output", dx));
  MT_TRY(mt_check_overlap(unary[op], dx, dy, true));
  MT_TRY(mt_check_overlap(unary[op], dx, kept, true));
  return mt_loop_check_mask(unary[op], mask, dx);
}

// ---- two operands ---------------------------------------------------------------------------------------------------

static const char *const binary[MT_BINARY_OPS] = {
  "add", "sub", "mul", "div", "pow", "fmod", "remainder", "minimum", "maximum", "atan2", "eq", "ne", "lt", "le", "gt", "ge",
};

static int check_operands(const char *op, const mt_tensor *a, const mt_tensor *b) {
  MT_TRY(mt_check_stored(op, "first operand", a));
  MT_TRY(mt_check_stored(op, "second operand", b));
  if (mt_computed(a->dtype) != mt_computed(b->dtype)) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: operands of different types: %s and %s", op, MT_SHAPE(a), MT_SHAPE(b));
  }
  return MT_OK;
}

// The output has the broadcast shape of the operands and may be one of them.
static int check_broadcast(const char *op, const mt_tensor *y, const mt_tensor *a, const mt_tensor *b) {
  const int32_t ndim = MT_MAX(a->ndim, b->ndim);
  int64_t shape[MT_MAX_DIMS];
  for (int32_t d = 0; d < ndim; d++) {
    const int32_t da = d - (ndim - a->ndim), db = d - (ndim - b->ndim);
    const int64_t sa = da < 0 ? 1 : a->shape[da], sb = db < 0 ? 1 : b->shape[db];
    if (sa != sb && sa != 1 && sb != 1) {
      return mt_fail(MT_ERROR_ARGUMENT, "%s: %s and %s do not broadcast: dim %d has sizes %lld and %lld", op, MT_SHAPE(a),
                     MT_SHAPE(b), d + 1, (long long)sa, (long long)sb);
    }
    shape[d] = sa == 1 ? sb : sa;
  }
  MT_TRY(mt_check_stored_output(op, "output", y));
  MT_TRY(mt_check_shape(op, "output", y, ndim, shape));
  MT_TRY(mt_check_overlap(op, y, a, true));
  return mt_check_overlap(op, y, b, true);
}

int mt_elementwise_check_binary(const mt_tensor *y, const mt_tensor *a, const mt_tensor *b, int32_t op) {
  if (op < 0 || op >= MT_BINARY_OPS) {
    return mt_fail(MT_ERROR_ARGUMENT, "binary: unknown operation %d", op);
  }
  MT_TRY(check_operands(binary[op], a, b));
  MT_TRY(check_broadcast(binary[op], y, a, b));
  MT_TRY(mt_check_beside(binary[op], "output", y, op >= MT_BINARY_EQ ? MT_BOOL : a->dtype));
  if (op == MT_BINARY_DIV || op == MT_BINARY_ATAN2) {
    MT_TRY(mt_check_floating(binary[op], "first operand", a));
  }
  if (a->dtype == MT_BOOL && op < MT_BINARY_EQ && op != MT_BINARY_MINIMUM && op != MT_BINARY_MAXIMUM) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: expected numbers, got %s", binary[op], MT_SHAPE(a));
  }
  return MT_OK;
}

bool mt_elementwise_divides_integers(const mt_tensor *a, int32_t op) {
  return (op == MT_BINARY_FMOD || op == MT_BINARY_REMAINDER) && mt_computed(a->dtype) != MT_FLOAT32 && a->dtype != MT_FLOAT64;
}

int mt_elementwise_refuse_zero(int32_t op) {
  return mt_fail(MT_ERROR_ARGUMENT, "%s: division of integers by zero", binary[op]);
}

int mt_elementwise_check_binary_backward(const mt_tensor *d, const mt_tensor *dy, const mt_tensor *a, const mt_tensor *b,
                                         int32_t op) {
  if (op < 0 || op >= MT_BINARY_EQ) {
    return mt_fail(MT_ERROR_ARGUMENT, "binary: unknown operation %d", op);
  }
  MT_TRY(check_operands(binary[op], a, b));
  MT_TRY(mt_check_floating(binary[op], "first operand", a));
  MT_TRY(check_broadcast(binary[op], d, a, b));
  MT_TRY(mt_check_beside(binary[op], "output", d, a->dtype));
  MT_TRY(mt_check_shape(binary[op], "gradient", dy, d->ndim, d->shape));
  MT_TRY(mt_check_beside(binary[op], "gradient", dy, a->dtype));
  return mt_check_overlap(binary[op], d, dy, true);
}

// ---- the others -----------------------------------------------------------------------------------------------------

int mt_elementwise_check_add(const mt_tensor *y, const mt_tensor *a, const mt_tensor *b) {
  MT_TRY(mt_check_stored_output("add", "output", y));
  MT_TRY(mt_check_floating("add", "output", y));
  MT_TRY(mt_check_beside("add", "a", a, y->dtype));
  MT_TRY(mt_check_beside("add", "b", b, y->dtype));
  MT_TRY(mt_check_fits("add", "a", a, y));
  MT_TRY(mt_check_fits("add", "b", b, y));
  MT_TRY(mt_check_overlap("add", y, a, true));
  return mt_check_overlap("add", y, b, true);
}

int mt_elementwise_check_clamp(const mt_tensor *y, const mt_tensor *x, double low, double high) {
  MT_TRY(mt_check_stored("clamp", "input", x));
  MT_TRY(mt_check_like("clamp", "output", y, x));
  MT_TRY(mt_check_stored_output("clamp", "output", y));
  MT_TRY(mt_check_overlap("clamp", y, x, true));
  if (x->dtype == MT_BOOL || low != low || high != high) {
    return mt_fail(MT_ERROR_ARGUMENT, "clamp: expected numbers and bounds that are not NaN, got %s, %g to %g", MT_SHAPE(x), low,
                   high);
  }
  return MT_OK;
}

int mt_elementwise_check_clamp_backward(const mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x) {
  MT_TRY(mt_check_floating("clamp", "input", x));
  MT_TRY(mt_check_like("clamp", "output", dx, x));
  MT_TRY(mt_check_like("clamp", "gradient", dy, x));
  MT_TRY(mt_check_stored_output("clamp", "output", dx));
  MT_TRY(mt_check_overlap("clamp", dx, dy, true));
  return mt_check_overlap("clamp", dx, x, true);
}

int mt_elementwise_check_where(const mt_tensor *y, const mt_tensor *condition, const mt_tensor *a, const mt_tensor *b) {
  MT_TRY(mt_check_tensor("where", "condition", condition));
  MT_TRY(mt_check_stored_output("where", "output", y));
  MT_TRY(mt_check_beside("where", "a", a, y->dtype));
  MT_TRY(mt_check_beside("where", "b", b, y->dtype));
  if (condition->dtype != MT_BOOL && condition->dtype != MT_UINT8) {
    return mt_fail(MT_ERROR_ARGUMENT, "where: condition: expected bool or uint8, got %s", MT_SHAPE(condition));
  }
  const mt_tensor *const t[] = {y, condition, a, b};
  const char *const arguments[] = {"output", "condition", "a", "b"};
  for (int i = 1; i < 4; i++) {
    MT_TRY(mt_check_fits("where", arguments[i], t[i], y));
    MT_TRY(mt_check_overlap("where", y, t[i], true));
  }
  return MT_OK;
}

int mt_elementwise_check_sum_to(const mt_tensor *out, const mt_tensor *g) {
  MT_TRY(mt_check_floating("sum_to", "gradient", g));
  MT_TRY(mt_check_stored_output("sum_to", "output", out));
  MT_TRY(mt_check_beside("sum_to", "output", out, g->dtype));
  MT_TRY(mt_check_overlap("sum_to", out, g, false));
  return mt_check_fits("sum_to", "output", out, g);
}

void mt_elementwise_plan_sum(mt_elementwise_sum_plan *plan, const mt_tensor *out, const mt_tensor *g) {
  *plan = (mt_elementwise_sum_plan){.g = g->data, .out = out->data, .rows = 1, .row = 1, .inner = 1};
  int32_t row = -1, inner = -1;
  for (int32_t d = 0; d < g->ndim; d++) {
    const int32_t o = d - (g->ndim - out->ndim);
    *(o < 0 || out->shape[o] == 1 ? &row : &inner) = d;
  }
  for (int32_t d = 0; d < g->ndim; d++) {
    const int32_t o = d - (g->ndim - out->ndim);
    if (d == row) {
      plan->row = g->shape[d];
      plan->row_step = g->stride[d];
    } else if (d == inner) {
      plan->inner = g->shape[d];
      plan->inner_from = g->stride[d];
      plan->inner_to = out->stride[o];
    } else if (o < 0 || out->shape[o] == 1) {
      plan->sum_size[plan->summed] = g->shape[d];
      plan->sum_step[plan->summed++] = g->stride[d];
      plan->rows *= g->shape[d];
    } else {
      plan->keep_size[plan->kept] = g->shape[d];
      plan->keep_from[plan->kept] = g->stride[d];
      plan->keep_to[plan->kept++] = out->stride[o];
    }
  }
}

int mt_elementwise_check_differences(const mt_tensor *a, const mt_tensor *b) {
  MT_TRY(mt_check_tensor("allclose", "input", a));
  MT_TRY(mt_check_tensor("allclose", "other", b));
  return mt_check_like("allclose", "other", b, a);
}
