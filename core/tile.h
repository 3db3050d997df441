// tile: the register-blocked micro-kernels under convolution and linear, one build per instruction set. Internal.
//
// A call works on up to `rows` rows (pixels, or channels of a weight gradient) times one panel of lanes (output
// channels). Every (row, lane) has one accumulator that takes its terms one by one, each with one fused multiply-add
// (a multiplication and an addition in the portable build), so its bits depend on its own terms only: not on the
// size of the call, nor on the width of the vectors. avx512 and avx2 give the same bits. Long sums come in calls of at most
// MT_TILE_K terms, which bounds the rounding error.
#pragma once
#include "activation.h"
#include "common.h"

enum {
  MT_TILE_K = 256,     // longest sum of one call of chain
  MT_TILE_LANES = 32,  // widest panel of any build
  MT_TILE_FEW = 8,     // most outputs of planes
  MT_TILE_PLANES = 8,  // most vectors of a call of planes
  MT_TILE_ROWS = 112,  // the block of rows that callers prepare at a time
};

// Elements between the rows of a block given to chain: a constant, so that all rows need one pointer, and an odd number
// of cache lines, so that rows do not compete for the same sets.
#define MT_TILE_STEP(real) (MT_TILE_K + 64 / (int64_t)sizeof(real))

// Index of a dtype in the arrays below.
#define MT_TILE_TYPE(dtype) ((dtype) == MT_FLOAT32 ? 0 : 1)

// Neighbours in memory: n elements from x on.
typedef struct {
  int64_t x, n;
} mt_tile_run;

// Neighbouring pixels of a row: where their first is in each operand, and whether they end a row.
typedef struct {
  int64_t a, b;
  int32_t pixels;  // at least 1
  int32_t last;
} mt_tile_pixels;

// Neighbouring pixels of a row, and the taps that count there: bit t for tap t.
typedef struct {
  int64_t a, b, pixels;
  uint64_t taps;
} mt_tile_reached;

// What stands behind a sum, f(v): a frozen norm (norm.h: mean, scale and shift of all outputs; NULL: none), whose mask is the gate,
// then an activation with its slope (activation.h). A NULL pointer: neither.
typedef struct mt_tile_behind {
  const double *norm;
  int64_t outputs;
  int32_t activation;
  double a;
} mt_tile_behind;

// A block of neighbouring pixels of convolution with `group` channels and as many outputs per group, over rows of `width` taps that see
// neighbouring pixels: lanes = groups * group, at least a vector of them.
typedef struct mt_tile_rows {
  const float *const *from;       // [row][position], positions = (pixels - 1) * stride + width: channel 0 of what is there, or zeros
  int64_t rows, width, stride, group, lanes;
  const float *const *w;          // of each row: [tap][channel of the group][lane]
  const float *bias;              // or NULL
  const mt_tile_behind *behind;
  uintptr_t ahead[2];             // memory to be fetched, of so many streams so many lines for each vector of lanes and row
  int64_t streams, fetch;
  bool away;                      // results go past the caches where they fill lines; the caller fences
} mt_tile_rows;

// The activation, lane by lane, by masks: C has no choice between vectors. `function` is a constant.
#define MT_TILE_ACTIVATE(v, function, a)                                            \
  do {                                                                              \
    typedef __typeof__(v) lanes_;                                                   \
    typedef __typeof__((v) < (v)) bits_;                                            \
    if ((function) == MT_ACTIVATION_RELU) {                                         \
      (v) = (lanes_)((bits_)(v) & ~((v) < (lanes_){0}));                            \
    } else {                                                                        \
      const bits_ open_ = (v) > (lanes_){0};                                        \
      (v) = (lanes_)(((bits_)(v) & open_) | ((bits_)((v) * (a)) & ~open_));         \
    }                                                                               \
  } while (0)

typedef struct mt_tile {
  const char *isa;
  int32_t rows;       // rows that fill the registers; calls may bring any number
  int32_t vector;     // bytes of the widest vector
  int32_t lanes[2];   // widest panel; halves are panels too, down to 16 bytes
  // acc[m * ld + l] += sum over i = 0 .. k-1 of a[m * STEP + i] * w[i * lanes + l], itself summed from 0.
  void (*chain[2])(void *acc, int64_t ld, const void *a, const void *w, int64_t k, int64_t rows, int64_t lanes);
  // acc[m * lanes + l] += sum over runs q, i = 0 .. run[q].n - 1 of a[m][run[q].x + i] * w[(i and all before) * lanes + l],
  // itself summed from 0; the first time, acc is that sum.
  void (*reach[2])(void *acc, const void *const *a, const mt_tile_run *run, int64_t runs, const void *w, bool first,
                   int64_t rows, int64_t lanes);
  // y[m][l] = f(((acc[m * ld + l] + 0) * scale[m] + bias[l]) * gate[m]), the first product 0 where scale is 0; bias may be NULL.
  // output: the number of lane 0's, which f asks for.
  void (*finish[2])(void *const *y, const void *acc, int64_t ld, const void *bias, const void *scale, const void *gate,
                    const mt_tile_behind *f, int64_t output, int64_t rows, int64_t lanes);
  // acc[m * ld + l] += sum over i = 0 .. k-1 of a[i * a_step + m] * b[i * b_step + l], itself summed from 0.
  void (*outer[2])(void *acc, int64_t ld, const void *a, int64_t a_step, const void *b, int64_t b_step, int64_t k,
                   int64_t rows, int64_t lanes);
  // acc[m * ld + l] = sum over t = 0 .. taps-1 of a[m][at[t] + l] * w[t * w_step + l], for any number of lanes.
  void (*lanewise[2])(void *acc, int64_t ld, const void *const *a, const int64_t *at, const void *w, int64_t w_step,
                      int64_t taps, int64_t rows, int64_t lanes);
  // y[i * y_step + l] = f((sum over t = 0 .. taps-1 of a[i * a_step + at[t] + l] * w[t * w_step + l]) + 0 + bias[l]) for i < pixels,
  // any number of lanes, of which the first is output 0; bias may be NULL.
  void (*lanewise_span[2])(void *y, int64_t y_step, const void *a, int64_t a_step, const int64_t *at, const void *w,
                           int64_t w_step, int64_t taps, const void *bias, const mt_tile_behind *f, int64_t pixels, int64_t lanes);
  // acc[o * ld + l] (+)= sum over i = 0 .. k-1 of a[at[i] + l] * w[i * outputs + o] for `vectors` whole vectors of lanes, itself
  // summed from 0; the first time, acc is that sum. outputs: 1, 2, 3, 4, 6 or 8.
  void (*planes[2])(void *acc, int64_t ld, const void *a, const int64_t *at, const void *w, int64_t k, bool first,
                    int64_t outputs, int64_t vectors);
  // row[i][l] = from[l * step + i] for i < n, l < lanes.
  void (*turn[2])(void *const *row, const void *from, int64_t step, int64_t n, int64_t lanes);
  // acc[m][l] takes the terms x[m][i] * w[l * step + i], i = 0 .. n-1, for the lanes of one widest vector. Weights are read where they
  // lie: for so few rows that packing them costs more.
  void (*few)(float *const *acc, const float *const *x, const float *w, int64_t step, int64_t n, int64_t rows);
  // The gradient of weights, rows <= outer_rows, lanes <= outer_lanes: acc[m * outer_lanes + l] (0 when first) += for every
  // row of runs in order the sum over its pixels in order of a[a_at + i * a_step + m] * b[b_at + i * b_step + l]. The last run
  // ends a row. Lanes beyond the given ones are written, but b is not read there.
  int32_t outer_rows, outer_lanes[2];
  void (*outer_runs[2])(void *acc, bool first, const void *a, int64_t a_step, const void *b, int64_t b_step,
                        const mt_tile_pixels *runs, int64_t count, int64_t rows, int64_t lanes);
  // The same lane by lane, any number of lanes: acc[l] sums the products of a[l] and b[l].
  void (*lanewise_runs[2])(void *acc, bool first, const void *a, int64_t a_step, const void *b, int64_t b_step,
                           const mt_tile_pixels *runs, int64_t count, int64_t lanes);
  // total[(t * group + c) * ld + l] += the sum over the runs and their pixels i in order of
  // a[run.a + i * a_step + at[t] + (channel c of l's group)] * b[run.b + i * b_step + l] where tap t counts, itself summed from 0;
  // taps <= 64. A vector of lanes, or fewer with group 1. group: a power of 2 up to half a vector.
  void (*lanewise_taps[2])(void *total, int64_t ld, int64_t group, const void *a, int64_t a_step, const int64_t *at, const void *b,
                           int64_t b_step, const mt_tile_reached *runs, int64_t count, int64_t taps, int64_t lanes);
  // y[m * y_step + l] = f((sum over rows, taps k, channels c of the lane's group of from[m * stride + k][c] * w[k][c][l]) + 0 + bias[l])
  // for 8, 7, 4 or 1 pixels m. group: a power of 2 up to a vector. Pixels may be given from the right, with y_step < 0.
  void (*near_rows)(const mt_tile_rows *t, float *y, int64_t y_step, int64_t pixels);
  const struct norm_rows *norm;  // norm_sums.h
  const struct logits *logits;   // logits.h
  const struct activation_rows *activation;  // row_tables.h
  const struct unary_rows *unary;
} mt_tile;

extern const mt_tile mt_tile_avx512, mt_tile_avx2, mt_tile_portable;

// The build for this machine, or the one that MASKED_TORCH_ISA names.
const mt_tile *mt_tile_get(void);

// Width of the panel that holds the next of `left` lanes: the widest, or the narrowest that is enough.
static inline int64_t mt_tile_panel(const mt_tile *tile, int32_t dtype, int64_t left) {
  int64_t lanes = tile->lanes[MT_TILE_TYPE(dtype)], least = 16 / mt_dtype_size(dtype);
  while (lanes > least && lanes / 2 >= left) {
    lanes /= 2;
  }
  return lanes;
}

// Lanes of all panels that hold n.
static inline int64_t mt_tile_padded(const mt_tile *tile, int32_t dtype, int64_t n) {
  int64_t lanes = tile->lanes[MT_TILE_TYPE(dtype)], whole = n / lanes * lanes;
  return n == whole ? n : whole + mt_tile_panel(tile, dtype, n - whole);
}
