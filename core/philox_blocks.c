// philox_blocks: see philox_blocks.h. Four blocks side by side in a vector of 64-bit lanes: the multiplication takes the low halves
// and what the upper halves hold does not matter until the end.
#include "common.h"
#include "philox.h"
#include "philox_blocks.h"

static void blocks_portable(uint64_t *words, uint64_t seed, uint64_t call, uint64_t first, int64_t count) {
  for (int64_t b = 0; b < count; b++) {
    uint32_t out[4];
    mt_philox_block(out, seed, call, first + (uint64_t)b);
    words[2 * b] = mt_philox_long(out, 0);
    words[2 * b + 1] = mt_philox_long(out, 1);
  }
}

#if defined(__x86_64__)
#include <immintrin.h>

enum { VECTORS = 4 };  // chains of multiplications that run side by side

__attribute__((target("avx2"))) static void blocks_avx2(uint64_t *words, uint64_t seed, uint64_t call, uint64_t first,
                                                        int64_t count) {
  const __m256i m0 = _mm256_set1_epi64x(0xD2511F53), m1 = _mm256_set1_epi64x(0xCD9E8D57);
  const __m256i low = _mm256_set1_epi64x(0xFFFFFFFF);
  const int64_t whole = count / (4 * VECTORS) * (4 * VECTORS);
  for (int64_t b = 0; b < whole; b += 4 * VECTORS) {
    __m256i c0[VECTORS], c1[VECTORS], c2[VECTORS], c3[VECTORS];
    for (int v = 0; v < VECTORS; v++) {
      const uint64_t at = first + (uint64_t)b + 4 * (uint64_t)v;
      c0[v] = _mm256_setr_epi64x((int64_t)at, (int64_t)(at + 1), (int64_t)(at + 2), (int64_t)(at + 3));
      c1[v] = _mm256_srli_epi64(c0[v], 32);
      c2[v] = _mm256_set1_epi64x((int64_t)call);
      c3[v] = _mm256_srli_epi64(c2[v], 32);
    }
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
      const __m256i key0 = _mm256_set1_epi64x(k0), key1 = _mm256_set1_epi64x(k1);
      for (int v = 0; v < VECTORS; v++) {
        const __m256i p0 = _mm256_mul_epu32(m0, c0[v]), p1 = _mm256_mul_epu32(m1, c2[v]);
        c0[v] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p1, 32), c1[v]), key0);
        c1[v] = p1;
        c2[v] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p0, 32), c3[v]), key1);
        c3[v] = p0;
      }
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    for (int v = 0; v < VECTORS; v++) {
      const __m256i w01 = _mm256_or_si256(_mm256_and_si256(c0[v], low), _mm256_slli_epi64(c1[v], 32));
      const __m256i w23 = _mm256_or_si256(_mm256_and_si256(c2[v], low), _mm256_slli_epi64(c3[v], 32));
      const __m256i even = _mm256_unpacklo_epi64(w01, w23), odd = _mm256_unpackhi_epi64(w01, w23);
      uint64_t *to = words + 2 * (b + 4 * v);
      _mm256_storeu_si256((__m256i *)to, _mm256_permute2x128_si256(even, odd, 0x20));
      _mm256_storeu_si256((__m256i *)(to + 4), _mm256_permute2x128_si256(even, odd, 0x31));
    }
  }
  blocks_portable(words + 2 * whole, seed, call, first + (uint64_t)whole, count - whole);
}
#endif

void mt_philox_blocks(uint64_t *words, uint64_t seed, uint64_t call, uint64_t first, int64_t count) {
#if defined(__x86_64__)
  if (mt_isa()[0] == 'a') {  // avx2, avx512
    blocks_avx2(words, seed, call, first, count);
    return;
  }
#endif
  blocks_portable(words, seed, call, first, count);
}
