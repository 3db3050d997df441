// tile_lanewise: the micro-kernels of depthwise convolution along a row of pixels, all taps together. Included by tile.c for both
// types, after tile_outer.h. See tile.h.

#define VECTOR FN(outer_vector)
#define STEP ((int64_t)(WIDEST / sizeof(REAL)))
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
                            const mt_tile_activation *f, int64_t lanes) {
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
  if (f && f->function == MT_ACTIVATION_RELU) {
    UNROLL for (int m = 0; m < pixels; m++) MT_TILE_ACTIVATE(c[m], MT_ACTIVATION_RELU, 0);
  } else if (f) {
    const REAL slope = (REAL)f->a;
    UNROLL for (int m = 0; m < pixels; m++) MT_TILE_ACTIVATE(c[m], MT_ACTIVATION_LEAKY_RELU, slope);
  }
  UNROLL for (int m = 0; m < pixels; m++) FN(lanewise_store)(whole, y + m * y_step, c[m], lanes);
}

INLINE void FN(span_block)(const int pixels, REAL *y, int64_t y_step, const REAL *a, int64_t a_step, const int64_t *at,
                           const REAL *w, int64_t w_step, int64_t taps, const REAL *bias, const mt_tile_activation *f,
                           int64_t lanes) {
  int64_t l = 0;
  for (; l + STEP <= lanes; l += STEP) {
    FN(span_pixels)(pixels, true, y + l, y_step, a + l, a_step, at, w + l, w_step, taps, bias ? bias + l : NULL, f, STEP);
  }
  if (l < lanes) {
    FN(span_pixels)(pixels, false, y + l, y_step, a + l, a_step, at, w + l, w_step, taps, bias ? bias + l : NULL, f, lanes - l);
  }
}

static void FN(lanewise_span)(void *outputs, int64_t y_step, const void *windows, int64_t a_step, const int64_t *at, const void *w,
                              int64_t w_step, int64_t taps, const void *bias, const mt_tile_activation *f, int64_t pixels,
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

// n taps, of which `first` is the first. Where a tap does not count, zeros take the place of pixels: they change no bit.
INLINE void FN(taps_together)(const int n, const bool whole, REAL *total, int64_t ld, const REAL *a, int64_t a_step,
                              const int64_t *at, const REAL *b, int64_t b_step, const mt_tile_reached *run, int64_t count,
                              int first, int64_t lanes) {
  static const REAL zeros[WIDEST / sizeof(REAL)];
  const uint64_t all = (UINT64_C(1) << n) - 1;
  VECTOR c[9];
  UNROLL for (int t = 0; t < n; t++) c[t] = (VECTOR){0};
  for (const mt_tile_reached *end = run + count; run < end; run++) {
    const uint64_t taps = run->taps >> first & all;
    const REAL *q = b + run->b, *p = a + run->a;
    if (taps == all) {
      for (int64_t i = 0; i < run->pixels; i++, p += a_step, q += b_step) {
        const VECTOR y = FN(lanewise_load)(whole, q, lanes);
        __builtin_prefetch(q + 32 * b_step);
        __builtin_prefetch(p + at[n - 1] + 32 * a_step);
        UNROLL for (int t = 0; t < n; t++) c[t] = FN(lanewise_fma)(FN(lanewise_load)(whole, p + at[t], lanes), y, c[t]);
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
        UNROLL for (int t = 0; t < n; t++) c[t] = FN(lanewise_fma)(FN(lanewise_load)(whole, from[t] + i * step[t], lanes), y, c[t]);
      }
    }
  }
  UNROLL for (int t = 0; t < n; t++) {
    FN(lanewise_store)(whole, total + t * ld, FN(lanewise_load)(whole, total + t * ld, lanes) + c[t], lanes);
  }
}

static void FN(lanewise_taps)(void *total, int64_t ld, const void *a, int64_t a_step, const int64_t *at, const void *b,
                              int64_t b_step, const mt_tile_reached *runs, int64_t count, int64_t taps, int64_t lanes) {
  int t = 0;
#define TAPS(n)                                                                                                              \
  for (; taps - t >= (n); t += (n)) {                                                                                        \
    if (lanes == STEP) {                                                                                                     \
      FN(taps_together)(n, true, (REAL *)total + t * ld, ld, a, a_step, at + t, b, b_step, runs, count, t, lanes);           \
    } else {                                                                                                                 \
      FN(taps_together)(n, false, (REAL *)total + t * ld, ld, a, a_step, at + t, b, b_step, runs, count, t, lanes);          \
    }                                                                                                                        \
  }
  TAPS(9) TAPS(5) TAPS(3) TAPS(1)
#undef TAPS
}

#undef VECTOR
#undef STEP
#undef LOAD
#undef STORE
