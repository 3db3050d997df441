// tile_few: the micro-kernel for few rows, whose weights are worth no packing: they are read where they lie, the terms of an output
// side by side, turned in registers, and used at once. Included by tile.c for float32.
#define LANES (WIDEST / 4)
typedef FN(vector_single) few_vector;
typedef float few_part __attribute__((vector_size(16), aligned(4), may_alias));

// Four terms of outputs 0, 4, 8, ...
INLINE few_vector few_load(const float *p, int64_t step) {
#if WIDEST == 64
  __m512 v = _mm512_castps128_ps512(_mm_loadu_ps(p));
  v = _mm512_insertf32x4(v, _mm_loadu_ps(p + 4 * step), 1);
  v = _mm512_insertf32x4(v, _mm_loadu_ps(p + 8 * step), 2);
  return _mm512_insertf32x4(v, _mm_loadu_ps(p + 12 * step), 3);
#elif WIDEST == 32
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps(p + 4 * step), 1);
#else
  (void)step;
  return *(const few_part *)p;
#endif
}

#if WIDEST == 64
#define LOW(a, b) _mm512_unpacklo_ps(a, b)
#define HIGH(a, b) _mm512_unpackhi_ps(a, b)
#define LOW_PAIR(a, b) (few_vector)_mm512_unpacklo_pd((__m512d)(a), (__m512d)(b))
#define HIGH_PAIR(a, b) (few_vector)_mm512_unpackhi_pd((__m512d)(a), (__m512d)(b))
#elif WIDEST == 32
#define LOW(a, b) _mm256_unpacklo_ps(a, b)
#define HIGH(a, b) _mm256_unpackhi_ps(a, b)
#define LOW_PAIR(a, b) (few_vector)_mm256_unpacklo_pd((__m256d)(a), (__m256d)(b))
#define HIGH_PAIR(a, b) (few_vector)_mm256_unpackhi_pd((__m256d)(a), (__m256d)(b))
#else
#define LOW(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define HIGH(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#define LOW_PAIR(a, b) __builtin_shufflevector(a, b, 0, 1, 4, 5)
#define HIGH_PAIR(a, b) __builtin_shufflevector(a, b, 2, 3, 6, 7)
#endif

// v[k][l] = p[l * step + k]
INLINE void few_turn(few_vector v[4], const float *p, int64_t step) {
  few_vector a[4];
  UNROLL for (int k = 0; k < 4; k++) a[k] = few_load(p + k * step, step);
  const few_vector b0 = LOW(a[0], a[1]), b1 = LOW(a[2], a[3]), b2 = HIGH(a[0], a[1]), b3 = HIGH(a[2], a[3]);
  v[0] = LOW_PAIR(b0, b1);
  v[1] = HIGH_PAIR(b0, b1);
  v[2] = LOW_PAIR(b2, b3);
  v[3] = HIGH_PAIR(b2, b3);
}

#undef LOW
#undef HIGH
#undef LOW_PAIR
#undef HIGH_PAIR

enum { FEW_ROWS = WIDEST == 64 ? 12 : 6, FEW_AHEAD = 128 };

INLINE void few_rows(const int rows, float *const *acc, const float *const *x, const float *w, int64_t step, int64_t n) {
  few_vector c[FEW_ROWS], v[4] = {{0}};
  UNROLL for (int m = 0; m < rows; m++) c[m] = *(const few_vector *)acc[m];
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) {
    if (i % 16 == 0) {  // every row is a stream of its own, more of them than the processor follows
      UNROLL for (int l = 0; l < LANES; l++) __builtin_prefetch(w + i + l * step + FEW_AHEAD);
    }
    few_turn(v, w + i, step);
    UNROLL for (int k = 0; k < 4; k++) {
      UNROLL for (int m = 0; m < rows; m++) c[m] = FN(fma_single)(x[m][i + k], v[k], c[m]);
    }
  }
  for (; i < n; i++) {
    UNROLL for (int l = 0; l < LANES; l++) v[0][l] = w[i + l * step];
    UNROLL for (int m = 0; m < rows; m++) c[m] = FN(fma_single)(x[m][i], v[0], c[m]);
  }
  UNROLL for (int m = 0; m < rows; m++) *(few_vector *)acc[m] = c[m];
}

static void few(float *const *acc, const float *const *x, const float *w, int64_t step, int64_t n, int64_t rows) {
#define FEW(count) \
  few_rows(count, acc, x, w, step, n); \
  acc += (count); \
  x += (count);
  for (; rows >= FEW_ROWS; rows -= FEW_ROWS) { FEW(FEW_ROWS) }
#if WIDEST == 64
  if (rows > 8) {
    FEW(9)
    rows -= 9;
  }
  if (rows > 5) {
    FEW(6)
    rows -= 6;
  }
#endif
  if (rows & 4) { FEW(4) }
  if (rows & 2) { FEW(2) }
  if (rows & 1) { FEW(1) }
#undef FEW
}
#undef LANES
