// tile_outer: the micro-kernel of weight gradients, sums of outer products over runs of pixels. Included by tile.c for
// both types. See tile.h.

typedef REAL FN(outer_vector) __attribute__((vector_size(WIDEST), aligned(sizeof(REAL)), may_alias));
#define VECTOR FN(outer_vector)
#define STEP ((int64_t)(WIDEST / sizeof(REAL)))
#define LANES (OUTER_VECTORS * STEP)
#define LOAD(p) (*(const VECTOR *)(p))
#define STORE(p, v) (*(VECTOR *)(p) = (v))

INLINE VECTOR FN(outer_spread)(REAL a) { return a - (VECTOR){0}; }

INLINE VECTOR FN(lanewise_fma)(VECTOR a, VECTOR b, VECTOR c) {
#if !defined(__FMA__)
  return a * b + c;
#elif WIDEST == 64
  return FMADD(_mm512)(a, b, c);
#else
  return FMADD(_mm256)(a, b, c);
#endif
}

INLINE VECTOR FN(outer_fma)(REAL a, VECTOR b, VECTOR c) {
  return FN(lanewise_fma)(FN(outer_spread)(a), b, c);
}

// The first n elements (n < STEP; none when it is not positive); the others are 0 and not read.
INLINE VECTOR FN(outer_part)(const REAL *p, int64_t n) {
#if WIDEST == 64 && REAL_BITS == 32
  return (VECTOR)_mm512_maskz_loadu_ps((__mmask16)((1u << MT_MAX(n, 0)) - 1), p);
#elif WIDEST == 64
  return (VECTOR)_mm512_maskz_loadu_pd((__mmask8)((1u << MT_MAX(n, 0)) - 1), p);
#elif WIDEST == 32 && REAL_BITS == 32
  const __m256i place = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return (VECTOR)_mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32((int32_t)n), place));
#elif WIDEST == 32
  const __m256i place = _mm256_setr_epi64x(0, 1, 2, 3);
  return (VECTOR)_mm256_maskload_pd(p, _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), place));
#else
  VECTOR v = {0};
  for (int64_t i = 0; i < n; i++) v[i] = p[i];
  return v;
#endif
}

INLINE void FN(outer_load)(const bool whole, VECTOR *x, const REAL *b, int64_t lanes) {
  UNROLL for (int v = 0; v < OUTER_VECTORS; v++) {
    x[v] = whole || lanes >= (v + 1) * STEP ? LOAD(b + v * STEP) : FN(outer_part)(b + v * STEP, lanes - v * STEP);
  }
}

// The first term of a sum is a product alone: that saves clearing c. Where registers allow, the totals live in them too, or
// short rows would spend their time on memory.
INLINE void FN(outer_rows)(const int rows, const bool whole, REAL *acc, bool first, const REAL *a, int64_t a_step,
                           const REAL *b, int64_t b_step, const mt_tile_pixels *run, const mt_tile_pixels *end, int64_t lanes) {
  VECTOR c[OUTER_ROWS][OUTER_VECTORS], x[OUTER_VECTORS];
#if OUTER_TOTALS
  VECTOR total[OUTER_ROWS][OUTER_VECTORS];
  UNROLL for (int m = 0; m < rows; m++) {
    UNROLL for (int v = 0; v < OUTER_VECTORS; v++) {
      total[m][v] = first ? (VECTOR){0} : LOAD(acc + m * LANES + v * STEP);
    }
  }
#else
  if (first) {
    memset(acc, 0, sizeof(REAL) * (size_t)(rows * LANES));
  }
#endif
  while (run < end) {
    const REAL *p = a + run->a, *q = b + run->b;
    FN(outer_load)(whole, x, q, lanes);
    UNROLL for (int m = 0; m < rows; m++) {
      UNROLL for (int v = 0; v < OUTER_VECTORS; v++) c[m][v] = FN(outer_spread)(p[m]) * x[v];
    }
    p += a_step;
    q += b_step;
    for (int64_t left = run->pixels - 1;; left = run->pixels) {
      for (; left > 0; left--) {
        FN(outer_load)(whole, x, q, lanes);
        UNROLL for (int m = 0; m < rows; m++) {
          UNROLL for (int v = 0; v < OUTER_VECTORS; v++) c[m][v] = FN(outer_fma)(p[m], x[v], c[m][v]);
        }
        p += a_step;
        q += b_step;
      }
      if ((run++)->last) {
        break;
      }
      p = a + run->a;
      q = b + run->b;
    }
    UNROLL for (int m = 0; m < rows; m++) {
      UNROLL for (int v = 0; v < OUTER_VECTORS; v++) {
#if OUTER_TOTALS
        total[m][v] += c[m][v];
#else
        STORE(acc + m * LANES + v * STEP, LOAD(acc + m * LANES + v * STEP) + c[m][v]);
#endif
      }
    }
  }
#if OUTER_TOTALS
  UNROLL for (int m = 0; m < rows; m++) {
    UNROLL for (int v = 0; v < OUTER_VECTORS; v++) STORE(acc + m * LANES + v * STEP, total[m][v]);
  }
#endif
}

#define OUTER(n)                                                                                                  \
  static __attribute__((noinline)) void FN(outer_whole_##n)(REAL *acc, bool first, const REAL *a, int64_t a_step, \
                                                            const REAL *b, int64_t b_step, const mt_tile_pixels *run, \
                                                            const mt_tile_pixels *end, int64_t lanes) {              \
    FN(outer_rows)(n, true, acc, first, a, a_step, b, b_step, run, end, lanes);                                   \
  }                                                                                                               \
  static __attribute__((noinline)) void FN(outer_part_##n)(REAL *acc, bool first, const REAL *a, int64_t a_step,  \
                                                           const REAL *b, int64_t b_step, const mt_tile_pixels *run, \
                                                           const mt_tile_pixels *end, int64_t lanes) {               \
    FN(outer_rows)(n, false, acc, first, a, a_step, b, b_step, run, end, lanes);                                  \
  }
OUTER(1) OUTER(2) OUTER(3) OUTER(4)
#if OUTER_ROWS > 4
OUTER(5) OUTER(6)
#endif
#if OUTER_ROWS > 6
OUTER(7) OUTER(8) OUTER(9) OUTER(10) OUTER(11) OUTER(12) OUTER(13)
#endif
#undef OUTER

static void FN(outer_runs)(void *acc, bool first, const void *a, int64_t a_step, const void *b, int64_t b_step,
                           const mt_tile_pixels *runs, int64_t count, int64_t rows, int64_t lanes) {
  typedef void kernel(REAL *, bool, const REAL *, int64_t, const REAL *, int64_t, const mt_tile_pixels *, const mt_tile_pixels *,
                      int64_t);
#define OUTER(n) {FN(outer_part_##n), FN(outer_whole_##n)}
  static kernel *const kernels[OUTER_ROWS][2] = {
      OUTER(1), OUTER(2), OUTER(3), OUTER(4),
#if OUTER_ROWS > 4
      OUTER(5), OUTER(6),
#endif
#if OUTER_ROWS > 6
      OUTER(7), OUTER(8), OUTER(9), OUTER(10), OUTER(11), OUTER(12), OUTER(13),
#endif
  };
#undef OUTER
  kernels[rows - 1][lanes == LANES](acc, first, a, a_step, b, b_step, runs, runs + count, lanes);
}

// ---- lane by lane ---------------------------------------------------------------------------------------------------------

// n vectors, or when `whole` is false the first lanes of one.
INLINE void FN(lanewise_vectors)(const int n, const bool whole, REAL *acc, bool first, const REAL *a, int64_t a_step,
                                 const REAL *b, int64_t b_step, const mt_tile_pixels *run, const mt_tile_pixels *end,
                                 int64_t lanes) {
  VECTOR c[4], total[4];
  UNROLL for (int v = 0; v < n; v++) {
    c[v] = (VECTOR){0};
    total[v] = first ? (VECTOR){0} : whole ? LOAD(acc + v * STEP) : FN(outer_part)(acc, lanes);
  }
  for (; run < end; run++) {
    const REAL *p = a + run->a, *q = b + run->b;
    for (int64_t i = 0; i < run->pixels; i++) {
      UNROLL for (int v = 0; v < n; v++) {
        const VECTOR x = whole ? LOAD(p + v * STEP) : FN(outer_part)(p, lanes);
        const VECTOR y = whole ? LOAD(q + v * STEP) : FN(outer_part)(q, lanes);
        c[v] = FN(lanewise_fma)(x, y, c[v]);
      }
      p += a_step;
      q += b_step;
    }
    if (run->last) {
      UNROLL for (int v = 0; v < n; v++) {
        total[v] += c[v];
        c[v] = (VECTOR){0};
      }
    }
  }
  UNROLL for (int v = 0; v < n; v++) {
    if (whole) {
      STORE(acc + v * STEP, total[v]);
    } else {
      for (int64_t i = 0; i < lanes; i++) acc[i] = total[v][i];
    }
  }
}

static void FN(lanewise_runs)(void *acc, bool first, const void *a, int64_t a_step, const void *b, int64_t b_step,
                              const mt_tile_pixels *runs, int64_t count, int64_t lanes) {
  REAL *sum = acc;
  const REAL *x = a, *y = b;
#define PART(n, whole, used)                                                                                         \
  FN(lanewise_vectors)(n, whole, sum, first, x, a_step, y, b_step, runs, runs + count, lanes);                       \
  sum += (used);                                                                                                     \
  x += (used);                                                                                                       \
  y += (used);                                                                                                       \
  lanes -= (used);
  while (lanes >= 4 * STEP) { PART(4, true, 4 * STEP) }
  if (lanes >= 2 * STEP) { PART(2, true, 2 * STEP) }
  if (lanes >= STEP) { PART(1, true, STEP) }
  if (lanes > 0) { PART(1, false, lanes) }
#undef PART
}

#undef VECTOR
#undef STEP
#undef LANES
#undef LOAD
#undef STORE
