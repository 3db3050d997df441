// bf16_round: operands rounded to bfloat16; see tile_bf16.h.
#include "tile_bf16.h"
#include "vector_math.h"

// The upper half of the nearest bfloat16, ties to even; a subnormal number is 0, NaN stays one.
MT_VECTOR uint32_t rounded(uint32_t x) {
  const uint32_t near = x + 0x7fff + (x >> 16 & 1), size = x & 0x7fffffff;
  const uint32_t normal = size < 0x00800000 ? x & 0x80000000 : near;
  return (size > 0x7f800000 ? x | 0x00400000 : normal) & 0xffff0000;
}

MT_CLONES static void exchange(uint32_t *first, uint32_t *second, int64_t n) {
  _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++) {
    const uint32_t a = rounded(first[i]), b = rounded(second[i]);
    first[i] = b;
    second[i] = a;
  }
}

MT_CLONES static void alone(uint32_t *x, int64_t n) {
  for (int64_t i = 0; i < n; i++) x[i] = rounded(x[i]);
}

typedef uint32_t __attribute__((may_alias)) word;

void mt_bf16_round(float *block, int64_t kn, int64_t lanes, bool pairs) {
  word *row = (word *)block;
  if (pairs) {
    mt_tile_bf16_words(row, kn, lanes);
    return;
  }
  for (int64_t k = 0; k + 2 <= kn; k += 2) {
    exchange(row + k * lanes, row + (k + 1) * lanes, lanes);
  }
  if (kn % 2 == 1) {
    alone(row + (kn - 1) * lanes, lanes);
  }
}
