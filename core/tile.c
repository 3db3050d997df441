// tile: see tile.h. The Makefile builds this file once per instruction set, each with its own flags and TILE_NAME.
#ifdef REAL
#include "activate.h"

#if REAL_BITS == 32
#define FMADD(width) width##_fmadd_ps
#else
#define FMADD(width) width##_fmadd_pd
#endif

// ---- one copy of the kernels per panel width ------------------------------------------------------------------------

#define VECTOR_BYTES WIDEST
#define VECTORS 2
#define WIDTH(name) FN(name##_double)
#include "tile_width.h"
#undef VECTORS
#undef WIDTH

#define VECTORS 1
#define WIDTH(name) FN(name##_single)
#include "tile_width.h"
#include "tile_planes.h"
#undef WIDTH
#undef VECTOR_BYTES

#if WIDEST > 16
#define VECTOR_BYTES (WIDEST / 2)
#define WIDTH(name) FN(name##_half)
#include "tile_width.h"
#undef WIDTH
#undef VECTOR_BYTES
#endif

#if WIDEST > 32
#define VECTOR_BYTES (WIDEST / 4)
#define WIDTH(name) FN(name##_quarter)
#include "tile_width.h"
#undef WIDTH
#undef VECTOR_BYTES
#endif

#undef VECTORS

enum { FN(widest) = WIDEST / sizeof(REAL) };

static void FN(chain)(void *acc, int64_t ld, const void *a, const void *w, int64_t k, int64_t rows, int64_t lanes) {
  if (lanes == 2 * FN(widest)) {
    FN(chain_double)(acc, ld, a, w, k, rows);
  } else if (lanes == FN(widest)) {
    FN(chain_single)(acc, ld, a, w, k, rows);
#if WIDEST > 16
  } else if (lanes == FN(widest) / 2) {
    FN(chain_half)(acc, ld, a, w, k, rows);
#endif
#if WIDEST > 32
  } else {
    FN(chain_quarter)(acc, ld, a, w, k, rows);
#endif
  }
}

static void FN(reach)(void *acc, const void *const *rows_of, const mt_tile_run *run, int64_t runs, const void *w, bool first,
                      int64_t rows, int64_t lanes) {
  const REAL *const *a = (const REAL *const *)rows_of;
  if (lanes == 2 * FN(widest)) {
    FN(reach_double)(acc, a, run, runs, w, first, rows);
  } else if (lanes == FN(widest)) {
    FN(reach_single)(acc, a, run, runs, w, first, rows);
#if WIDEST > 16
  } else if (lanes == FN(widest) / 2) {
    FN(reach_half)(acc, a, run, runs, w, first, rows);
#endif
#if WIDEST > 32
  } else {
    FN(reach_quarter)(acc, a, run, runs, w, first, rows);
#endif
  }
}

#define THEN(v) FN(activate)(norm ? FN(normalise_frozen)(v, g, frozen + l, outputs) : (v), f, a)

// A sum of products so small that they vanish may be -0; +0 is added so that terms that are 0 make no difference.
// `norm` and `f` are constants: whether there is a norm, and the activation.
INLINE void FN(finish_as)(const bool norm, const int32_t f, void *const *y, const void *sums, int64_t ld, const void *bias,
                          const void *scale, const void *gate, const mt_tile_behind *behind, int64_t output, int64_t rows,
                          int64_t lanes) {
  const REAL *b = bias, a = behind ? (REAL)behind->a : 0;
  const double *restrict frozen = norm ? behind->norm + output : NULL;
  const int64_t outputs = norm ? behind->outputs : 0;
  for (int64_t m = 0; m < rows; m++) {
    const REAL *restrict acc = (const REAL *)sums + m * ld;
    const REAL r = ((const REAL *)scale)[m], g = ((const REAL *)gate)[m];
    REAL *restrict to = y[m];
    if (r == 0) {
      for (int64_t l = 0; l < lanes; l++) to[l] = THEN((b ? b[l] + (REAL)0 : 0) * g);
    } else if (b) {
      for (int64_t l = 0; l < lanes; l++) to[l] = THEN(((acc[l] + (REAL)0) * r + b[l]) * g);
    } else {
      for (int64_t l = 0; l < lanes; l++) to[l] = THEN((acc[l] + (REAL)0) * r * g);
    }
  }
}
#undef THEN

static void FN(finish)(void *const *y, const void *sums, int64_t ld, const void *bias, const void *scale, const void *gate,
                       const mt_tile_behind *f, int64_t output, int64_t rows, int64_t lanes) {
  const int32_t activation = f ? f->activation : MT_ACTIVATION_IDENTITY;
#define FINISH(norm, activation) FN(finish_as)(norm, activation, y, sums, ld, bias, scale, gate, f, output, rows, lanes)
  if (f && f->norm) {
    switch (activation) {
      case MT_ACTIVATION_IDENTITY: FINISH(true, MT_ACTIVATION_IDENTITY); break;
      case MT_ACTIVATION_RELU: FINISH(true, MT_ACTIVATION_RELU); break;
      default: FINISH(true, MT_ACTIVATION_LEAKY_RELU);
    }
  } else {
    switch (activation) {
      case MT_ACTIVATION_IDENTITY: FINISH(false, MT_ACTIVATION_IDENTITY); break;
      case MT_ACTIVATION_RELU: FINISH(false, MT_ACTIVATION_RELU); break;
      default: FINISH(false, MT_ACTIVATION_LEAKY_RELU);
    }
  }
#undef FINISH
}

static void FN(outer)(void *acc, int64_t ld, const void *a, int64_t a_step, const void *b, int64_t b_step, int64_t k,
                      int64_t rows, int64_t lanes) {
  if (lanes == 2 * FN(widest)) {
    FN(outer_double)(acc, ld, a, a_step, b, b_step, k, rows);
  } else if (lanes == FN(widest)) {
    FN(outer_single)(acc, ld, a, a_step, b, b_step, k, rows);
#if WIDEST > 16
  } else if (lanes == FN(widest) / 2) {
    FN(outer_half)(acc, ld, a, a_step, b, b_step, k, rows);
#endif
#if WIDEST > 32
  } else {
    FN(outer_quarter)(acc, ld, a, a_step, b, b_step, k, rows);
#endif
  }
}

#include "tile_outer.h"
#include "tile_lanewise.h"
#if REAL_BITS == 32
#include "tile_few.h"
#include "tile_rows.h"
#endif
#undef FMADD

// ---- transposition -----------------------------------------------------------------------------------------------------

#define TURN_BYTES (WIDEST > 32 ? 32 : WIDEST)
enum { FN(side) = TURN_BYTES / sizeof(REAL) };
typedef REAL FN(square_row) __attribute__((vector_size(TURN_BYTES), aligned(sizeof(REAL)), may_alias));

// A square of side x side: few rows of `from` are read at a time, since they often lie at a distance at which they compete for the
// same cache lines.
INLINE void FN(turn_square)(REAL *const *row, int64_t l, const REAL *p, int64_t step) {
  FN(square_row) a[FN(side)], b[FN(side)];
  UNROLL for (int k = 0; k < FN(side); k++) a[k] = *(const FN(square_row) *)(p + k * step);
#if TURN_BYTES == 32 && REAL_BITS == 32
  UNROLL for (int k = 0; k < 8; k += 2) {
    b[k] = __builtin_shufflevector(a[k], a[k + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    b[k + 1] = __builtin_shufflevector(a[k], a[k + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  UNROLL for (int k = 0; k < 8; k += 4) {
    a[k] = __builtin_shufflevector(b[k], b[k + 2], 0, 1, 8, 9, 4, 5, 12, 13);
    a[k + 1] = __builtin_shufflevector(b[k], b[k + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    a[k + 2] = __builtin_shufflevector(b[k + 1], b[k + 3], 0, 1, 8, 9, 4, 5, 12, 13);
    a[k + 3] = __builtin_shufflevector(b[k + 1], b[k + 3], 2, 3, 10, 11, 6, 7, 14, 15);
  }
  UNROLL for (int k = 0; k < 4; k++) {
    b[k] = __builtin_shufflevector(a[k], a[k + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    b[k + 4] = __builtin_shufflevector(a[k], a[k + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
#elif TURN_BYTES == 16 && REAL_BITS == 64
  b[0] = __builtin_shufflevector(a[0], a[1], 0, 2);
  b[1] = __builtin_shufflevector(a[0], a[1], 1, 3);
#elif TURN_BYTES == 32
  FN(square_row) c[4];
  UNROLL for (int k = 0; k < 4; k += 2) {
    c[k] = __builtin_shufflevector(a[k], a[k + 1], 0, 4, 2, 6);
    c[k + 1] = __builtin_shufflevector(a[k], a[k + 1], 1, 5, 3, 7);
  }
  UNROLL for (int k = 0; k < 2; k++) {
    b[k] = __builtin_shufflevector(c[k], c[k + 2], 0, 1, 4, 5);
    b[k + 2] = __builtin_shufflevector(c[k], c[k + 2], 2, 3, 6, 7);
  }
#else
  FN(square_row) c[4];
  UNROLL for (int k = 0; k < 4; k += 2) {
    c[k] = __builtin_shufflevector(a[k], a[k + 1], 0, 4, 1, 5);
    c[k + 1] = __builtin_shufflevector(a[k], a[k + 1], 2, 6, 3, 7);
  }
  UNROLL for (int k = 0; k < 2; k++) {
    b[2 * k] = __builtin_shufflevector(c[k], c[k + 2], 0, 1, 4, 5);
    b[2 * k + 1] = __builtin_shufflevector(c[k], c[k + 2], 2, 3, 6, 7);
  }
#endif
  UNROLL for (int k = 0; k < FN(side); k++) *(FN(square_row) *)(row[k] + l) = b[k];
}

#if TURN_BYTES == 32 && REAL_BITS == 32
typedef REAL FN(half_row) __attribute__((vector_size(16), aligned(sizeof(REAL)), may_alias));

// The same, 4 x 4.
INLINE void FN(turn_half)(REAL *const *row, int64_t l, const REAL *p, int64_t step) {
  FN(half_row) a[4], b[4];
  UNROLL for (int k = 0; k < 4; k++) a[k] = *(const FN(half_row) *)(p + k * step);
  UNROLL for (int k = 0; k < 4; k += 2) {
    b[k] = __builtin_shufflevector(a[k], a[k + 1], 0, 4, 1, 5);
    b[k + 1] = __builtin_shufflevector(a[k], a[k + 1], 2, 6, 3, 7);
  }
  UNROLL for (int k = 0; k < 2; k++) {
    *(FN(half_row) *)(row[2 * k] + l) = __builtin_shufflevector(b[k], b[k + 2], 0, 1, 4, 5);
    *(FN(half_row) *)(row[2 * k + 1] + l) = __builtin_shufflevector(b[k], b[k + 2], 2, 3, 6, 7);
  }
}
#endif

static void FN(turn)(void *const *rows, const void *from, int64_t step, int64_t n, int64_t lanes) {
  REAL *const *row = (REAL *const *)rows;
  int64_t l = 0;
  for (; l + FN(side) <= lanes; l += FN(side)) {
    const REAL *p = (const REAL *)from + l * step;
    int64_t i = 0;
    for (; i + FN(side) <= n; i += FN(side)) FN(turn_square)(row + i, l, p + i, step);
#if TURN_BYTES == 32 && REAL_BITS == 32
    for (; i + 4 <= n; i += 4) {
      FN(turn_half)(row + i, l, p + i, step);
      FN(turn_half)(row + i, l + 4, p + i + 4 * step, step);
    }
#endif
    for (; i < n; i++) {
      for (int64_t k = 0; k < FN(side); k++) row[i][l + k] = p[k * step + i];
    }
  }
  for (; l < lanes; l++) {
    for (int64_t i = 0; i < n; i++) row[i][l] = ((const REAL *)from)[l * step + i];
  }
}

// ---- lane by lane: depthwise convolution ------------------------------------------------------------------------------

INLINE REAL FN(one_fma)(REAL a, REAL b, REAL c) {
#ifdef __FMA__
  return MATH(__builtin_fma)(a, b, c);
#else
  return a * b + c;
#endif
}

// The compiler turns the inner loops over CHUNK lanes into vectors.
enum { FN(chunk) = 2 * WIDEST / sizeof(REAL) };

static void FN(lanewise)(void *acc, int64_t ld, const void *const *rows_of, const int64_t *at, const void *w, int64_t w_step,
                         int64_t taps, int64_t rows, int64_t lanes) {
  const REAL *const *a = (const REAL *const *)rows_of;
  int64_t l = 0;
#define LANEWISE(width, n) \
  for (; lanes - l >= (n); l += (n)) { FN(lanewise_##width)((REAL *)acc + l, ld, a, l, at, (const REAL *)w + l, w_step, taps, rows); }
  LANEWISE(double, 2 * FN(widest))
  LANEWISE(single, FN(widest))
#if WIDEST > 16
  LANEWISE(half, FN(widest) / 2)
#endif
#if WIDEST > 32
  LANEWISE(quarter, FN(widest) / 4)
#endif
#undef LANEWISE
  for (; l < lanes; l++) {
    for (int64_t m = 0; m < rows; m++) {
      REAL c = 0;
      for (int64_t t = 0; t < taps; t++) c = FN(one_fma)(a[m][at[t] + l], ((const REAL *)w)[t * w_step + l], c);
      ((REAL *)acc)[m * ld + l] = c;
    }
  }
}

#else
#include "logits.h"
#include "row_tables.h"
#include "norm_sums.h"
#include "row.h"
#include "tile.h"

#if defined(__FMA__)
#include <immintrin.h>
#endif

// Registers: 32 of 64 bytes hold 14 x 2 accumulators, or 13 and as many totals; 16 of 32 bytes hold 6 x 2, of 16 bytes 4 x 2.
#if defined(__AVX512F__)
#define WIDEST 64
#define ROWS 14
#define OUTER_ROWS 13
#define OUTER_VECTORS 1
#define OUTER_TOTALS 1
#elif defined(__FMA__)
#define WIDEST 32
#define ROWS 6
#define OUTER_ROWS 6
#define OUTER_VECTORS 2
#define OUTER_TOTALS 0
#else
#define WIDEST 16
#define ROWS 4
#define OUTER_ROWS 4
#define OUTER_VECTORS 2
#define OUTER_TOTALS 0
#endif

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 14")
#define MT_SOURCE "tile.c"
#include "twice.h"

#define TEXT2(name) #name
#define TEXT(name) TEXT2(name)
#define TABLE2(name, isa) name##isa
#define TABLE(name, isa) TABLE2(name, isa)
const mt_tile TABLE(mt_tile_, TILE_NAME) = {
    .isa = TEXT(TILE_NAME),
    .rows = ROWS,
    .vector = WIDEST,
    .lanes = {2 * widest_f32, 2 * widest_f64},
    .chain = {chain_f32, chain_f64},
    .planes = {planes_single_f32, planes_single_f64},
    .reach = {reach_f32, reach_f64},
    .finish = {finish_f32, finish_f64},
    .outer = {outer_f32, outer_f64},
    .turn = {turn_f32, turn_f64},
    .few = few,
    .outer_rows = OUTER_ROWS,
    .outer_lanes = {OUTER_VECTORS * widest_f32, OUTER_VECTORS * widest_f64},
    .outer_runs = {outer_runs_f32, outer_runs_f64},
    .lanewise = {lanewise_f32, lanewise_f64},
    .lanewise_runs = {lanewise_runs_f32, lanewise_runs_f64},
    .lanewise_span = {lanewise_span_f32, lanewise_span_f64},
    .lanewise_taps = {lanewise_taps_f32, lanewise_taps_f64},
    .near_rows = near_rows,
    .norm = &TABLE(norm_rows_, TILE_NAME),
    .logits = &TABLE(logits_, TILE_NAME),
    .activation = &TABLE(activation_rows_, TILE_NAME),
    .unary = &TABLE(unary_rows_, TILE_NAME),
};

#endif
