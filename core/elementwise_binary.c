// elementwise_binary: functions of two broadcast operands, each beside its derivatives. See elementwise.h.
#ifdef NUMBER

MT_ROW_2(FN(eq), uint8_t, NUMBER, NUMBER, a == b)
MT_ROW_2(FN(ne), uint8_t, NUMBER, NUMBER, a != b)
MT_ROW_2(FN(lt), uint8_t, NUMBER, NUMBER, a < b)
MT_ROW_2(FN(le), uint8_t, NUMBER, NUMBER, a <= b)
MT_ROW_2(FN(gt), uint8_t, NUMBER, NUMBER, a > b)
MT_ROW_2(FN(ge), uint8_t, NUMBER, NUMBER, a >= b)
#define COMPARISONS FN(eq), FN(ne), FN(lt), FN(le), FN(gt), FN(ge)

#if NUMBER_IS_REAL

// y = value, a function of a and b; da and db are functions of g = dy, a and b.
#define OF_AB(name, value, da, db)                                              \
  MT_ROW_2(FN(name), NUMBER, NUMBER, NUMBER, value)                             \
  MT_INLINE NUMBER FN(name##_by_a)(NUMBER g, NUMBER a, NUMBER b) {              \
    (void)a;                                                                    \
    (void)b;                                                                    \
    return da;                                                                  \
  }                                                                             \
  MT_INLINE NUMBER FN(name##_by_b)(NUMBER g, NUMBER a, NUMBER b) {              \
    (void)a;                                                                    \
    (void)b;                                                                    \
    return db;                                                                  \
  }                                                                             \
  MT_ROW_3(FN(name##_da), NUMBER, NUMBER, NUMBER, NUMBER, FN(name##_by_a)(a, b, c)) \
  MT_ROW_3(FN(name##_db), NUMBER, NUMBER, NUMBER, NUMBER, FN(name##_by_b)(a, b, c))

MT_INLINE NUMBER FN(floor_remainder)(NUMBER a, NUMBER b) {
  const NUMBER r = MATH(fmod)(a, b);
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

OF_AB(add, a + b, g, g)
OF_AB(sub, a - b, g, -g)
OF_AB(mul, a *b, g *b, g *a)
OF_AB(div, a / b, g / b, -g * (a / b) / b)
OF_AB(pow, MATH(pow)(a, b), b == 0 ? 0 : g * b * MATH(pow)(a, b - 1),
      a == 0 && b >= 0 ? 0 : g * MATH(pow)(a, b) * MATH(log)(a))
OF_AB(fmod, MATH(fmod)(a, b), g, -g * MATH(trunc)(a / b))
OF_AB(remainder, FN(floor_remainder)(a, b), g, -g * MATH(floor)(a / b))
OF_AB(minimum, a < b || a != a ? a : b, a > b ? 0 : a == b ? g / 2 : g, a < b ? 0 : a == b ? g / 2 : g)
OF_AB(maximum, a > b || a != a ? a : b, a < b ? 0 : a == b ? g / 2 : g, a > b ? 0 : a == b ? g / 2 : g)
OF_AB(atan2, MATH(atan2)(a, b), g *b / (a * a + b * b), -g * a / (a * a + b * b))

static const mt_loop_row FN(forward)[MT_BINARY_OPS] = {
  FN(add), FN(sub), FN(mul), FN(div), FN(pow), FN(fmod), FN(remainder), FN(minimum), FN(maximum), FN(atan2), COMPARISONS,
};
#define BY(name) {FN(name##_da), FN(name##_db)}
static const mt_loop_row FN(backward)[][2] = {
  BY(add), BY(sub), BY(mul), BY(div), BY(pow), BY(fmod), BY(remainder), BY(minimum), BY(maximum), BY(atan2),
};
#undef BY
#undef OF_AB

#else  // integers: unsigned arithmetic wraps around, signed overflow would be undefined

static NUMBER FN(power)(NUMBER a, NUMBER b) {
  if (b < 0) {
    return a == 1 ? 1 : a + 1 == 0 ? (b & 1 ? a : 1) : 0;
  }
  uint64_t result = 1, square = (uint64_t)a;
  for (uint64_t rest = (uint64_t)b; rest > 0; rest >>= 1) {
    result = rest & 1 ? result * square : result;
    square *= square;
  }
  return (NUMBER)result;
}

// b is not 0. The smallest number modulo -1 would overflow.
MT_INLINE NUMBER FN(truncated)(NUMBER a, NUMBER b) { return b + 1 == 0 ? 0 : a % b; }
MT_INLINE NUMBER FN(floored)(NUMBER a, NUMBER b) {
  const NUMBER r = FN(truncated)(a, b);
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

MT_ROW_2(FN(add), NUMBER, NUMBER, NUMBER, (uint64_t)a + (uint64_t)b)
MT_ROW_2(FN(sub), NUMBER, NUMBER, NUMBER, (uint64_t)a - (uint64_t)b)
MT_ROW_2(FN(mul), NUMBER, NUMBER, NUMBER, (uint64_t)a *(uint64_t)b)
MT_ROW_2(FN(pow), NUMBER, NUMBER, NUMBER, FN(power)(a, b))
MT_ROW_2(FN(fmod), NUMBER, NUMBER, NUMBER, FN(truncated)(a, b))
MT_ROW_2(FN(remainder), NUMBER, NUMBER, NUMBER, FN(floored)(a, b))
MT_ROW_2(FN(minimum), NUMBER, NUMBER, NUMBER, a < b ? a : b)
MT_ROW_2(FN(maximum), NUMBER, NUMBER, NUMBER, a > b ? a : b)

static const mt_loop_row FN(forward)[MT_BINARY_OPS] = {
  FN(add), FN(sub), FN(mul), NULL, FN(pow), FN(fmod), FN(remainder), FN(minimum), FN(maximum), NULL, COMPARISONS,
};

#endif
#undef COMPARISONS

#else
#include "row.h"
#define MT_SOURCE "elementwise_binary.c"
#include "five.h"

static const char *const names[MT_BINARY_OPS] = {
  "add", "sub", "mul", "div", "pow", "fmod", "remainder", "minimum", "maximum", "atan2", "eq", "ne", "lt", "le", "gt", "ge",
};

static int check_op(int32_t op, int32_t count) {
  return op >= 0 && op < count ? MT_OK : mt_fail(MT_ERROR_ARGUMENT, "binary: unknown operation %d", op);
}

static int check_operands(const char *op, const mt_tensor *a, const mt_tensor *b) {
  MT_TRY(mt_check_tensor(op, "first operand", a));
  MT_TRY(mt_check_tensor(op, "second operand", b));
  if (a->dtype != b->dtype) {
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
  MT_TRY(mt_check_output(op, "output", y));
  MT_TRY(mt_check_shape(op, "output", y, ndim, shape));
  MT_TRY(mt_check_overlap(op, y, a, true));
  return mt_check_overlap(op, y, b, true);
}

static void zero_row(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const struct { int64_t size; int32_t *found; } *c = context;
  static const char zero[8];
  for (int64_t i = 0; i < n; i++) {
    if (memcmp(p[0] + i * step[0], zero, (size_t)c->size) == 0) {
      __atomic_store_n(c->found, 1, __ATOMIC_RELAXED);
    }
  }
}

static int refuse_zero(const char *op, const mt_tensor *b) {
  int32_t found = 0;
  struct { int64_t size; int32_t *found; } context = {mt_dtype_size(b->dtype), &found};
  MT_TRY(mt_loop_run(1, (const mt_tensor *const[]){b}, zero_row, &context));
  return found ? mt_fail(MT_ERROR_ARGUMENT, "%s: division of integers by zero", op) : MT_OK;
}

int mt_elementwise_binary(mt_tensor *y, const mt_tensor *a, const mt_tensor *b, int32_t op) {
  MT_TRY(check_op(op, MT_BINARY_OPS));
  MT_TRY(check_operands(names[op], a, b));
  MT_TRY(check_broadcast(names[op], y, a, b));
  MT_TRY(mt_check_dtype(names[op], "output", y, op >= MT_BINARY_EQ ? MT_BOOL : a->dtype));
  const mt_loop_row row = MT_FIVE_FN(a->dtype, forward)[op];
  if (row == NULL) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: expected float32 or float64, got %s", names[op], MT_SHAPE(a));
  }
  if (a->dtype == MT_BOOL && op < MT_BINARY_EQ && op != MT_BINARY_MINIMUM && op != MT_BINARY_MAXIMUM) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: expected numbers, got %s", names[op], MT_SHAPE(a));
  }
  if ((op == MT_BINARY_FMOD || op == MT_BINARY_REMAINDER) && a->dtype != MT_FLOAT32 && a->dtype != MT_FLOAT64) {
    MT_TRY(refuse_zero(names[op], b));
  }
  return mt_loop_elements(3, (const mt_tensor *const[]){y, a, b}, row, NULL);
}

int mt_elementwise_binary_backward(mt_tensor *d, const mt_tensor *dy, const mt_tensor *a, const mt_tensor *b, int32_t op,
                                   int32_t by_b) {
  MT_TRY(check_op(op, MT_BINARY_EQ));
  MT_TRY(check_operands(names[op], a, b));
  MT_TRY(mt_check_real(names[op], "first operand", a));
  MT_TRY(check_broadcast(names[op], d, a, b));
  MT_TRY(mt_check_dtype(names[op], "output", d, a->dtype));
  MT_TRY(mt_check_like(names[op], "gradient", dy, d));
  MT_TRY(mt_check_overlap(names[op], d, dy, true));
  return mt_loop_elements(4, (const mt_tensor *const[]){d, dy, a, b}, MT_REAL_FN(a->dtype, backward)[op][by_b != 0], NULL);
}

#endif
