// elementwise_binary_rows: the formulas of elementwise.h for two operands, for both libraries, once for each type (five.h). Internal.
// Each function stands beside its derivatives.

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

static const mt_row_function FN(forward)[MT_BINARY_OPS] = {
  FN(add), FN(sub), FN(mul), FN(div), FN(pow), FN(fmod), FN(remainder), FN(minimum), FN(maximum), FN(atan2), COMPARISONS,
};
#define BY(name) {FN(name##_da), FN(name##_db)}
static const mt_row_function FN(backward)[][2] = {
  BY(add), BY(sub), BY(mul), BY(div), BY(pow), BY(fmod), BY(remainder), BY(minimum), BY(maximum), BY(atan2),
};
#undef BY
#undef OF_AB

#else  // integers: unsigned arithmetic wraps around, signed overflow would be undefined

MT_INLINE NUMBER FN(power)(NUMBER a, NUMBER b) {
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

static const mt_row_function FN(forward)[MT_BINARY_OPS] = {
  FN(add), FN(sub), FN(mul), NULL, FN(pow), FN(fmod), FN(remainder), FN(minimum), FN(maximum), NULL, COMPARISONS,
};

#endif
#undef COMPARISONS
