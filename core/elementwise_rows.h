// elementwise_rows: the formulas of add, clamp and the comparison of elementwise.h, for both libraries, once for each type (five.h). Internal.

typedef struct {
  NUMBER low, high;
} FN(bounds);

MT_INLINE NUMBER FN(clamped)(NUMBER x, const FN(bounds) * c) {
  const NUMBER raised = x < c->low ? c->low : x;
  return raised > c->high ? c->high : raised;
}
MT_ROW_1(FN(clamp_row), NUMBER, NUMBER, FN(clamped)(x, (const FN(bounds) *)context))

#if NUMBER_IS_REAL

MT_ROW_2(FN(add_row), NUMBER, NUMBER, NUMBER, a + *(const NUMBER *)context * b)

MT_INLINE NUMBER FN(clamped_slope)(NUMBER g, NUMBER x, const FN(bounds) * c) { return c->low <= x && x <= c->high ? g : 0; }
MT_ROW_2(FN(clamp_backward_row), NUMBER, NUMBER, NUMBER, FN(clamped_slope)(a, b, (const FN(bounds) *)context))

static FN(bounds) FN(bounds_of)(double low, double high) {
  const FN(bounds) bounds = {(NUMBER)low, (NUMBER)high};
  return bounds;
}

MT_INLINE bool FN(apart)(NUMBER a, NUMBER b, const mt_tolerance *t) {
  if (a == b || (t->equal_nan && a != a && b != b)) {
    return false;
  }
  return !(fabs((double)a - (double)b) <= t->absolute + t->relative * fabs((double)b)) || isinf((double)b);
}

#else

static FN(bounds) FN(bounds_of)(double low, double high) {
  const int bits = 8 * (int)sizeof(NUMBER) - ((NUMBER)-1 > 0 ? 0 : 1);
  const double limit_low = (NUMBER)-1 > 0 ? 0 : -ldexp(1, bits), limit_high = ldexp(1, bits);
  const NUMBER smallest = (NUMBER)-1 > 0 ? 0 : (NUMBER)((uint64_t)1 << (8 * sizeof(NUMBER) - 1));
  const NUMBER largest = (NUMBER)~smallest;
  FN(bounds) bounds;
  bounds.low = low <= limit_low ? smallest : low >= limit_high ? largest : (NUMBER)ceil(low);
  bounds.high = high >= limit_high ? largest : high <= limit_low ? smallest : (NUMBER)floor(high);
  return bounds;
}

MT_INLINE bool FN(apart)(NUMBER a, NUMBER b, const mt_tolerance *t) {
  return a != b && !(fabs((double)a - (double)b) <= t->absolute + t->relative * fabs((double)b));
}

#endif
