// tile_bf16: see tile_bf16.h. The Makefile gives this file the flags of its instruction.
#include "tile_bf16.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>

enum { ROWS = 14 };

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 14")

INLINE void two_vectors(const int rows, float *acc, int64_t ld, const uint32_t *a, int64_t a_step, const uint32_t *b, int64_t pairs) {
  __m512 c[ROWS][2];
  UNROLL for (int m = 0; m < rows; m++) c[m][0] = c[m][1] = _mm512_setzero_ps();
  for (int64_t i = 0; i < pairs; i++, a += a_step, b += 32) {
    const __m512bh b0 = (__m512bh)_mm512_loadu_si512(b), b1 = (__m512bh)_mm512_loadu_si512(b + 16);
    UNROLL for (int m = 0; m < rows; m++) {
      const __m512bh x = (__m512bh)_mm512_set1_epi32((int)a[m]);
      c[m][0] = _mm512_dpbf16_ps(c[m][0], x, b0);
      c[m][1] = _mm512_dpbf16_ps(c[m][1], x, b1);
    }
  }
  UNROLL for (int m = 0; m < rows; m++) {
    _mm512_storeu_ps(acc + m * ld, _mm512_add_ps(_mm512_loadu_ps(acc + m * ld), c[m][0]));
    _mm512_storeu_ps(acc + m * ld + 16, _mm512_add_ps(_mm512_loadu_ps(acc + m * ld + 16), c[m][1]));
  }
}

// At most 16 lanes.
INLINE void one_vector(const int rows, float *acc, int64_t ld, const uint32_t *a, int64_t a_step, const uint32_t *b, int64_t pairs,
                       int64_t lanes) {
  const __mmask16 mask = (__mmask16)((1u << lanes) - 1);
  __m512 c[ROWS];
  UNROLL for (int m = 0; m < rows; m++) c[m] = _mm512_setzero_ps();
  for (int64_t i = 0; i < pairs; i++, a += a_step, b += lanes) {
    const __m512bh x = (__m512bh)_mm512_maskz_loadu_epi32(mask, b);
    UNROLL for (int m = 0; m < rows; m++) c[m] = _mm512_dpbf16_ps(c[m], (__m512bh)_mm512_set1_epi32((int)a[m]), x);
  }
  UNROLL for (int m = 0; m < rows; m++) {
    _mm512_mask_storeu_ps(acc + m * ld, mask, _mm512_add_ps(_mm512_maskz_loadu_ps(mask, acc + m * ld), c[m]));
  }
}

INLINE void some_rows(const int rows, float *acc, int64_t ld, const uint32_t *a, int64_t a_step, const uint32_t *b, int64_t pairs,
                      int64_t lanes) {
  if (lanes == 32) {
    two_vectors(rows, acc, ld, a, a_step, b, pairs);
  } else {
    one_vector(rows, acc, ld, a, a_step, b, pairs, lanes);
  }
}

void mt_tile_bf16(float *acc, int64_t ld, const uint32_t *a, int64_t a_step, const uint32_t *b, int64_t pairs, int64_t rows,
                  int64_t lanes) {
#define CALL(n)                                       \
  some_rows(n, acc, ld, a, a_step, b, pairs, lanes);  \
  acc += (n) * ld;                                    \
  a += (n);
  for (; rows >= ROWS; rows -= ROWS) { CALL(ROWS) }
  if (rows & 8) { CALL(8) }
  if (rows & 4) { CALL(4) }
  if (rows & 2) { CALL(2) }
  if (rows & 1) { CALL(1) }
#undef CALL
}

// What the instruction takes for 0 and how it rounds is what bf16_round.c says.
void mt_tile_bf16_words(uint32_t *row, int64_t kn, int64_t lanes) {
  for (int64_t k = 0; k < kn; k += 2, row += lanes) {
    const uint32_t *first = row + k / 2 * lanes;
    for (int64_t l = 0; l < lanes; l += 16) {
      const __mmask16 mask = lanes - l >= 16 ? 0xffff : (__mmask16)((1u << (lanes - l)) - 1);
      const __m512 low = _mm512_maskz_loadu_ps(mask, first + l);
      const __m512 high = k + 1 < kn ? _mm512_maskz_loadu_ps(mask, first + lanes + l) : _mm512_setzero_ps();
      const __m512i low_half = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(low));
      const __m512i high_half = _mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(high)), 16);
      _mm512_mask_storeu_epi32(row + l, mask, _mm512_or_si512(low_half, high_half));
    }
  }
}

bool mt_tile_has_bf16(void) {
  return mt_tile_get() == &mt_tile_avx512 && __builtin_cpu_supports("avx512bf16");
}

#else

void mt_tile_bf16(float *acc, int64_t ld, const uint32_t *a, int64_t a_step, const uint32_t *b, int64_t pairs, int64_t rows,
                  int64_t lanes) {
  (void)acc, (void)ld, (void)a, (void)a_step, (void)b, (void)pairs, (void)rows, (void)lanes;
}

void mt_tile_bf16_words(uint32_t *row, int64_t kn, int64_t lanes) { (void)row, (void)kn, (void)lanes; }

bool mt_tile_has_bf16(void) { return false; }

#endif
