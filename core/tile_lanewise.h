// tile_lanewise: the micro-kernels of depthwise convolution along a row of pixels, all taps together. Included by tile.c for both
// types, after tile_outer.h. See tile.h.

#define VECTOR FN(outer_vector)
#define STEP ((int64_t)(WIDEST / sizeof(REAL)))
#define STEP_REALS (WIDEST * 8 / REAL_BITS)
#define UNROLL_ALL _Pragma("GCC unroll 24")
#define LOAD(p) (*(const VECTOR *)(p))
#define STORE(p, v) (*(VECTOR *)(p) = (v))

// A vector or, when `whole` is false, its first lanes.
INLINE VECTOR FN(lanewise_load)(const bool whole, const REAL *p, int64_t lanes) {
  if (whole) {
    return LOAD(p);
  }
  return FN(outer_part)(p, lanes);
}

INLINE void FN(lanewise_store)(const bool whole, REAL *p, VECTOR v, int64_t lanes) {
  if (whole) {
    STORE(p, v);
  } else {
    for (int64_t i = 0; i < lanes; i++) p[i] = v[i];
  }
}

// ---- sums ----------------------------------------------------------------------------------------------------------------

INLINE void FN(span_pixels)(const int pixels, const bool whole, REAL *y, int64_t y_step, const REAL *a, int64_t a_step,
                            const int64_t *at, const REAL *w, int64_t w_step, int64_t taps, const REAL *bias,
                            const mt_tile_behind *f, int64_t output, int64_t lanes) {
  VECTOR c[8];
  UNROLL for (int m = 0; m < pixels; m++) c[m] = (VECTOR){0};
  for (int64_t t = 0; t < taps; t++) {
    const REAL *from = a + at[t];
    const VECTOR b = FN(lanewise_load)(whole, w + t * w_step, lanes);
    UNROLL for (int m = 0; m < pixels; m++) c[m] = FN(lanewise_fma)(FN(lanewise_load)(whole, from + m * a_step, lanes), b, c[m]);
  }
  UNROLL for (int m = 0; m < pixels; m++) c[m] += (VECTOR){0};
  if (bias) {
    const VECTOR add = FN(lanewise_load)(whole, bias, lanes);
    UNROLL for (int m = 0; m < pixels; m++) c[m] += add;
  }
  if (f && f->norm) {
    UNROLL for (int m = 0; m < pixels; m++) {
      for (int64_t l = 0; l < lanes; l++) c[m][l] = FN(normalise_frozen)(c[m][l], 1, f->norm + output + l, f->outputs);
    }
  }
  if (f && f->activation == MT_ACTIVATION_RELU) {
    UNROLL for (int m = 0; m < pixels; m++) MT_TILE_ACTIVATE(c[m], MT_ACTIVATION_RELU, 0);
  } else if (f && f->activation == MT_ACTIVATION_LEAKY_RELU) {
    const REAL slope = (REAL)f->a;
    UNROLL for (int m = 0; m < pixels; m++) MT_TILE_ACTIVATE(c[m], MT_ACTIVATION_LEAKY_RELU, slope);
  }
  UNROLL for (int m = 0; m < pixels; m++) FN(lanewise_store)(whole, y + m * y_step, c[m], lanes);
}

INLINE void FN(span_block)(const int pixels, REAL *y, int64_t y_step, const REAL *a, int64_t a_step, const int64_t *at,
                           const REAL *w, int64_t w_step, int64_t taps, const REAL *bias, const mt_tile_behind *f,
                           int64_t lanes) {
  int64_t l = 0;
  for (; l + STEP <= lanes; l += STEP) {
    FN(span_pixels)(pixels, true, y + l, y_step, a + l, a_step, at, w + l, w_step, taps, bias ? bias + l : NULL, f, l, STEP);
  }
  if (l < lanes) {
    FN(span_pixels)(pixels, false, y + l, y_step, a + l, a_step, at, w + l, w_step, taps, bias ? bias + l : NULL, f, l, lanes - l);
  }
}

static void FN(lanewise_span)(void *outputs, int64_t y_step, const void *windows, int64_t a_step, const int64_t *at, const void *w,
                              int64_t w_step, int64_t taps, const void *bias, const mt_tile_behind *f, int64_t pixels,
                              int64_t lanes) {
  REAL *y = outputs;
  const REAL *a = windows;
#define SPAN(n)                                                                    \
  FN(span_block)(n, y, y_step, a, a_step, at, w, w_step, taps, bias, f, lanes);    \
  y += (n) * y_step;                                                               \
  a += (n) * a_step;
  for (; pixels >= 8; pixels -= 8) { SPAN(8) }
  if (pixels & 4) { SPAN(4) }
  if (pixels & 2) { SPAN(2) }
  if (pixels & 1) { SPAN(1) }
#undef SPAN
}

// ---- gradients -----------------------------------------------------------------------------------------------------------

// Channel c of each group in all lanes of that group.
INLINE VECTOR FN(lanewise_spread)(const int group, const int c, VECTOR x) {
#if REAL_BITS == 32
  typedef int32_t places __attribute__((vector_size(WIDEST)));
#else
  typedef int64_t places __attribute__((vector_size(WIDEST)));
#endif
  places from;
  UNROLL_ALL for (int l = 0; l < STEP; l++) from[l] = l / group * group + c;
  return group == 1 ? x : __builtin_shuffle(x, from);
}

// n taps, of which `first` is the first. Where a tap does not count, zeros take the place of pixels: they change no bit.
INLINE void FN(taps_together)(const int n, const int group, const bool whole, REAL *total, int64_t ld, const REAL *a, int64_t a_step,
                              const int64_t *at, const REAL *b, int64_t b_step, const mt_tile_reached *run, int64_t count,
                              int first, int64_t lanes) {
  static const REAL zeros[WIDEST / sizeof(REAL)];
  const uint64_t all = (UINT64_C(1) << n) - 1;
  VECTOR c[24];
  UNROLL_ALL for (int t = 0; t < n * group; t++) c[t] = (VECTOR){0};
#define PIXEL(place)                                                                                               \
  UNROLL_ALL for (int t = 0; t < n; t++) {                                                                         \
    const VECTOR x = FN(lanewise_load)(whole, place, lanes);                                                       \
    UNROLL_ALL for (int k = 0; k < group; k++) {                                                                   \
      c[t * group + k] = FN(lanewise_fma)(FN(lanewise_spread)(group, k, x), y, c[t * group + k]);                  \
    }                                                                                                              \
  }
  for (const mt_tile_reached *end = run + count; run < end; run++) {
    const uint64_t taps = run->taps >> first & all;
    const REAL *q = b + run->b, *p = a + run->a;
    if (taps == all) {
      for (int64_t i = 0; i < run->pixels; i++, p += a_step, q += b_step) {
        const VECTOR y = FN(lanewise_load)(whole, q, lanes);
        PIXEL(p + at[t])
      }
    } else if (taps) {
      const REAL *from[9];
      int64_t step[9];
      UNROLL for (int t = 0; t < n; t++) {
        from[t] = taps >> t & 1 ? p + at[t] : zeros;
        step[t] = taps >> t & 1 ? a_step : 0;
      }
      for (int64_t i = 0; i < run->pixels; i++, q += b_step) {
        const VECTOR y = FN(lanewise_load)(whole, q, lanes);
        PIXEL(from[t] + i * step[t])
      }
    }
  }
#undef PIXEL
  UNROLL_ALL for (int t = 0; t < n * group; t++) {
    FN(lanewise_store)(whole, total + t * ld, FN(lanewise_load)(whole, total + t * ld, lanes) + c[t], lanes);
  }
}

// Accumulators for n taps fill at most the registers.
#define TAPS(n, group, whole)                                                                                           \
  for (; taps - t >= (n); t += (n)) {                                                                                   \
    FN(taps_together)(n, group, whole, total + t * group * ld, ld, a, a_step, at + t, b, b_step, runs, count, t, lanes); \
  }
#define KERNEL(name, group, whole, each)                                                                                          \
  static __attribute__((noinline)) void FN(lanewise_taps_##name)(REAL *total, int64_t ld, const REAL *a, int64_t a_step,          \
                                                                 const int64_t *at, const REAL *b, int64_t b_step,                \
                                                                 const mt_tile_reached *runs, int64_t count, int64_t taps,        \
                                                                 int64_t lanes) {                                                 \
    int t = 0;                                                                                                                    \
    each(group, whole)                                                                                                            \
  }
#define NINE(group, whole) TAPS(9, group, whole) TAPS(5, group, whole) TAPS(3, group, whole) TAPS(1, group, whole)
#define THREE(group, whole) TAPS(3, group, whole) TAPS(1, group, whole)
KERNEL(part, 1, false, NINE)
KERNEL(1, 1, true, NINE)
#if STEP_REALS >= 16
KERNEL(2, 2, true, NINE)
KERNEL(8, 8, true, THREE)
#elif STEP_REALS >= 4
KERNEL(2, 2, true, THREE)
#endif
#if STEP_REALS >= 8
KERNEL(4, 4, true, THREE)
#endif
#undef THREE
#undef NINE
#undef KERNEL
#undef TAPS

static void FN(lanewise_taps)(void *total, int64_t ld, int64_t group, const void *a, int64_t a_step, const int64_t *at, const void *b,
                              int64_t b_step, const mt_tile_reached *runs, int64_t count, int64_t taps, int64_t lanes) {
#define CALL(name) FN(lanewise_taps_##name)(total, ld, a, a_step, at, b, b_step, runs, count, taps, lanes)
  if (lanes < STEP) {
    CALL(part);
#if STEP_REALS >= 4
  } else if (group == 2) {
    CALL(2);
#endif
#if STEP_REALS >= 8
  } else if (group == 4) {
    CALL(4);
#endif
#if STEP_REALS >= 16
  } else if (group == 8) {
    CALL(8);
#endif
  } else {
    CALL(1);
  }
#undef CALL
  (void)group;
}

#undef VECTOR
#undef STEP
#undef STEP_REALS
#undef UNROLL_ALL
#undef LOAD
#undef STORE
