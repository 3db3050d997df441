// logits: see logits.h. The Makefile builds this file once per instruction set, like tile.c.
#ifdef REAL

// Two sets of vectors take turns: one would wait for its own last comparison.
static REAL FN(largest)(const REAL *x, int64_t n) {
  REAL most[WIDE], all = -INFINITY;
  int32_t bad[WIDE] = {0}, any = 0;
  int64_t i = 0;
  for (int k = 0; k < WIDE; k++) {
    most[k] = -INFINITY;
  }
  for (; i + WIDE <= n; i += WIDE) {
    _Pragma("GCC unroll 1") for (int k = 0; k < WIDE; k++) {
      const REAL v = x[i + k];
      most[k] = v > most[k] ? v : most[k];
      bad[k] |= v != v ? -1 : 0;
    }
  }
  for (; i < n; i++) {
    all = x[i] > all ? x[i] : all;
    any |= x[i] != x[i];
  }
  for (int k = 0; k < WIDE; k++) {
    all = most[k] > all ? most[k] : all;
    any |= bad[k];
  }
  return any ? (REAL)NAN : all;
}

// n values, at most BLOCK; the sum goes from lane to lane.
MT_INLINE double FN(block)(REAL *e, const REAL *x, REAL shift, int64_t n) {
  REAL lane[LANES] = {0};
  const int64_t whole = n / LANES * LANES;
  double sum = 0;
  _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++) e[i] = FN(mt_quick_exp)(x[i] - shift);
  for (int64_t i = 0; i < whole; i += LANES) {
    for (int k = 0; k < LANES; k++) lane[k] += e[i + k];
  }
  for (int64_t i = whole; i < n; i++) lane[i - whole] += e[i];
  for (int k = 0; k < LANES; k++) sum += (double)lane[k];
  return sum;
}

static double FN(exponentials)(REAL *e, const REAL *x, REAL shift, int64_t n, const REAL *next) {
  REAL out[BLOCK];
  double sum = 0;
  int64_t i = 0;
  for (; i + BLOCK <= n; i += BLOCK) {
    for (int64_t k = 0; next && k < BLOCK; k += 64 / (int64_t)sizeof(REAL)) __builtin_prefetch(next + i + k);
    sum += FN(block)(e ? e + i : out, x + i, shift, BLOCK);
  }
  return sum + FN(block)(e ? e + i : out, x + i, shift, n - i);
}

static void FN(shares)(REAL *g, const REAL *x, REAL shift, REAL factor, int64_t n) {
  _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++) g[i] = FN(mt_quick_exp)(x[i] - shift) * factor;
}

static void FN(scale)(REAL *g, REAL factor, int64_t n) {
  for (int64_t i = 0; i < n; i++) g[i] *= factor;
}

#else
#define MT_FUSED  // mt_quick_exp with fused operations
#include "logits.h"
#include "row.h"
#include "vector_math.h"

enum {
  WIDE = 32,
  LANES = 16,
  BLOCK = 256,  // exponentials summed in their own type before they go on in double
};

#define MT_SOURCE "logits.c"
#include "twice.h"

#define TABLE2(name) logits_##name
#define TABLE(name) TABLE2(name)
const logits TABLE(TILE_NAME) = {largest_f32, largest_f64, exponentials_f32, exponentials_f64,
                                 shares_f32, shares_f64, scale_f32, scale_f64};

#endif
