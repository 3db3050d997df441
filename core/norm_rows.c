// norm_rows: the rows of norm_sums.h. A term says what one element adds. Four cells side by side are one vector: cells that are
// neighbours in memory are loaded as such, rows that are dense in memory are turned as they are read. Whatever fits neither takes
// the strip, one element at a time; the sums are the same to the bit. The Makefile builds this file once per instruction set, like
// tile.c: conversions to double are whole vectors only where the compiler knows the set from the start.
#ifdef REAL
#include "norm_gate.h"

// `width` cells side by side, in registers where the compiler knows width and x_lane.
static inline __attribute__((always_inline)) void FN(strip)(double *sum, char *const *p, const int64_t *step,
                                                            const int64_t *lane, int64_t n, int64_t width, norm_term term,
                                                            int uses, int64_t x_lane, double a) {
  double total[NORM_WIDTH][STRIP] = {{0}};
  for (int64_t i = 0; i < n; i++) {
    for (int64_t l = 0; l < width; l++) {
      const double m = uses & MASK ? *(const REAL *)(p[1] + i * step[1] + l * lane[1]) : 1.0;
      if (m == 0 && !(uses & HOLES)) {
        continue;
      }
      const double x = *(const REAL *)(p[0] + i * step[0] + l * x_lane);
      const norm_cell *cell = uses & CELL ? (const norm_cell *)(p[2] + i * step[2] + l * lane[2]) : NULL;
      double dy = uses & DY ? *(const REAL *)(p[3] + i * step[3] + l * lane[3]) : 0.0;
      if (uses & (RELU | LEAKY)) {
        dy = FN(gated)(dy, (x - m * cell->mean) * cell->scale + m * cell->bias, activation_of(uses), a);
      }
      const double w = uses & WEIGHT ? *(const REAL *)(p[4] + i * step[4] + l * lane[4]) : 1.0;
      const norm_value value = term(x, m, cell, dy, w);
      total[0][l] += value.a;
      total[1][l] += value.b;
      total[2][l] += value.c;
      total[3][l] += value.d;
    }
  }
  for (int32_t k = 0; k < NORM_WIDTH; k++) {
    for (int64_t l = 0; l < width; l++) {
      sum[k * NORM_LANES + l] += total[k][l];
    }
  }
}

static inline __attribute__((always_inline)) void FN(row)(double *sum, char *const *p, const int64_t *step,
                                                          const int64_t *lane, int64_t n, int64_t lanes, norm_term term,
                                                          int uses, double a) {
  char *q[NORM_OPERANDS];
  memcpy(q, p, sizeof(q));
  for (int64_t l = 0; l < lanes; l += STRIP) {
    const int64_t width = MT_MIN(STRIP, lanes - l);
    if (width == STRIP && lane[0] == (int64_t)sizeof(REAL)) {
      FN(strip)(sum + l, q, step, lane, n, STRIP, term, uses, sizeof(REAL), a);
    } else if (width == STRIP) {
      FN(strip)(sum + l, q, step, lane, n, STRIP, term, uses, lane[0], a);
    } else {
      FN(strip)(sum + l, q, step, lane, n, width, term, uses, lane[0], a);
    }
    for (int32_t k = 0; k < NORM_OPERANDS; k++) {
      q[k] = lane[k] == 0 ? q[k] : q[k] + STRIP * lane[k];
    }
  }
}


typedef REAL FN(four) __attribute__((vector_size(4 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));

MT_INLINE quad FN(load)(const char *p) {
#if REAL_BITS == 32 && defined(__AVX2__)  // the compiler would convert two at a time
  return (quad)_mm256_cvtps_pd(_mm_loadu_ps((const float *)p));
#else
  return __builtin_convertvector(*(const FN(four) *)p, quad);
#endif
}

// out[i] = element i of the four rows at p, `lane` bytes apart
MT_INLINE void FN(turn)(quad *out, const char *p, int64_t lane) {
  const quad a = FN(load)(p), b = FN(load)(p + lane), c = FN(load)(p + 2 * lane), d = FN(load)(p + 3 * lane);
  const quad ab = __builtin_shuffle(a, b, (quad_index){0, 4, 2, 6}), ab1 = __builtin_shuffle(a, b, (quad_index){1, 5, 3, 7});
  const quad cd = __builtin_shuffle(c, d, (quad_index){0, 4, 2, 6}), cd1 = __builtin_shuffle(c, d, (quad_index){1, 5, 3, 7});
  out[0] = __builtin_shuffle(ab, cd, (quad_index){0, 1, 4, 5});
  out[1] = __builtin_shuffle(ab1, cd1, (quad_index){0, 1, 4, 5});
  out[2] = __builtin_shuffle(ab, cd, (quad_index){2, 3, 6, 7});
  out[3] = __builtin_shuffle(ab1, cd1, (quad_index){2, 3, 6, 7});
}

// The gradient of four y, y before it is rounded, from that of f(y).
MT_INLINE quad FN(gate)(const quad *dyp, const quad *y, int uses, double a) {
  const quad dy = *dyp;
#if defined(__AVX2__)  // the compiler has no choice between vectors in C
  quad shut = {0};
  if (uses & LEAKY) {
    shut = __builtin_convertvector(__builtin_convertvector(dy * a, FN(four)), quad);
  }
  return (quad)_mm256_blendv_pd((__m256d)shut, (__m256d)dy, _mm256_cmp_pd((__m256d)*y, _mm256_set1_pd(NORM_OPEN), _CMP_GT_OQ));
#else
  quad g;
  for (int l = 0; l < 4; l++) {
    g[l] = FN(gated)(dy[l], (*y)[l], activation_of(uses), a);
  }
  return g;
#endif
}

// Adds `pixels` pixels, p[k] + at[j] * step[k], to the sums of neighbouring cells, four by four. own: of the cells, or NULL
// where every pixel has its own.
MT_INLINE void FN(add_pixels)(double *sum, char *const *p, const int64_t *step, const int64_t *at, const own_cells *own,
                              int64_t quads, int pixels, int term, int uses, double m, double a_) {
  double *const to = sum + (term == QUAD_MOMENTS || term == QUAD_POWER ? 2 : 0) * NORM_LANES;
  const char *x[4], *dy[4];
  double w[4];
  const norm_cell *cell[4];
  for (int j = 0; j < pixels; j++) {
    x[j] = p[0] + at[j] * step[0];
    dy[j] = uses & DY ? p[3] + at[j] * step[3] : NULL;
    w[j] = uses & WEIGHT ? *(const REAL *)(p[4] + at[j] * step[4]) : 1.0;
    cell[j] = (const norm_cell *)(p[2] + at[j] * step[2]);
  }
  for (int64_t k = 0; k < quads; k++) {
    quad a, b, mu = {0}, r = {0}, scale = {0}, bias = {0};
    memcpy(&a, to + 4 * k, sizeof a);
    memcpy(&b, to + NORM_LANES + 4 * k, sizeof b);
    if (own != NULL) {
      memcpy(&mu, own->mean + 4 * k, sizeof mu);
      memcpy(&r, own->rstd + 4 * k, sizeof r);
    }
    if (uses & (RELU | LEAKY)) {
      memcpy(&scale, own->scale + 4 * k, sizeof scale);
      memcpy(&bias, own->bias + 4 * k, sizeof bias);
    }
    if (pixels == 4) {
      // Four pixels at a time are no stream to the processor. By one line per step, the next but one four are fetched.
      const int64_t line = k % 4, offset = (k - line) * 4 * (int64_t)sizeof(REAL);
      __builtin_prefetch(p[0] + (at[0] + AHEAD + line) * step[0] + offset);
      if (uses & DY) {
        __builtin_prefetch(p[3] + (at[0] + AHEAD + line) * step[3] + offset);
      }
    }
    for (int j = 0; j < pixels; j++) {
      const quad v = FN(load)(x[j] + 4 * k * (int64_t)sizeof(REAL));
      quad d = uses & DY ? FN(load)(dy[j] + 4 * k * (int64_t)sizeof(REAL)) : v;
      const quad mu_j = own != NULL || !(uses & CELL) ? mu : (quad){0} + cell[j]->mean;
      const quad r_j = own != NULL || !(uses & CELL) ? r : (quad){0} + cell[j]->rstd;
      if (uses & (RELU | LEAKY)) {
        const quad y = m == 1 ? (v - mu) * scale + bias : (v - m * mu) * scale + m * bias;
        d = FN(gate)(&d, &y, uses, a_);
      }
      if (m == 1) {
        quad_term(&a, &b, term, &v, &d, w[j], &mu_j, &r_j);
      } else {
        quad_term_soft(&a, &b, term, &v, &d, w[j], &mu_j, &r_j, m);
      }
    }
    memcpy(to + 4 * k, &a, sizeof a);
    if (term != QUAD_POWER && term != QUAD_DEVIATION) {
      memcpy(to + NORM_LANES + 4 * k, &b, sizeof b);
    }
  }
}

// One row for 4 * quads neighbouring cells, all under the same mask: pixel after pixel, as they lie in memory, four at a time.
MT_INLINE void FN(across)(double *sum, char *const *p, const int64_t *step, const int64_t *lane, int64_t n, int64_t quads, int term,
                          int uses, double a) {
  double ones = 0, squares = 0;
  own_cells table;
  const own_cells *own = NULL;
  if (uses & CELL && step[2] == 0) {
    for (int64_t l = 0; l < 4 * quads; l++) {
      const norm_cell *cell = (const norm_cell *)(p[2] + l * lane[2]);
      table.mean[l] = cell->mean;
      table.rstd[l] = cell->rstd;
      if (uses & (RELU | LEAKY)) {
        table.scale[l] = cell->scale;
        table.bias[l] = cell->bias;
      }
    }
    own = &table;
  }
  for (int64_t i = 0; i < n;) {
    int64_t at[4];
    int some = 0;
    double m = 1;
    for (; i < n && some < 4; i++) {
      const double next = uses & MASK ? *(const REAL *)(p[1] + i * step[1]) : 1.0;
      if (next == 0) {
        continue;
      }
      if (next != 1 && some > 0) {
        break;
      }
      at[some++] = i;
      ones += next;
      squares += next * next;
      m = next;
      if (m != 1) {
        i++;
        break;
      }
    }
    if (some == 4) {
      FN(add_pixels)(sum, p, step, at, own, quads, 4, term, uses, 1, a);
      continue;
    }
    for (int j = 0; j < some; j++) {
      FN(add_pixels)(sum, p, step, at + j, own, quads, 1, term, uses, m, a);
    }
  }
  for (int64_t l = 0; l < 4 * quads && uses & MASK && (term == QUAD_MOMENTS || term == QUAD_POWER); l++) {
    sum[l] = ones;
    sum[NORM_LANES + l] = squares;
  }
}

// One row for 4 * count cells that lie `lane` bytes apart, the row dense in memory; the mask is the same for all of them.
MT_INLINE void FN(along)(double *sum, char *const *p, const int64_t *step, const int64_t *lane, int64_t n, int count, int term,
                         int uses, double a_) {
  quad scale[2] = {{0}}, bias[2] = {{0}};
  quad a[2] = {{0}}, b[2] = {{0}}, mean[2] = {{0}}, rstd[2] = {{0}};
  double ones = 0, squares = 0;
  for (int k = 0; k < count && uses & CELL; k++) {
    load_cells(mean + k, rstd + k, p[2] + 4 * k * lane[2], lane[2]);
    if (uses & (RELU | LEAKY)) {
      load_affine(scale + k, bias + k, p[2] + 4 * k * lane[2], lane[2]);
    }
  }
  for (int64_t i = 0; i < n; i += 4) {
    quad x[2][4], dy[2][4];
    const int64_t some = MT_MIN(4, n - i);
    for (int k = 0; k < count; k++) {
      if (some == 4) {
        FN(turn)(x[k], p[0] + 4 * k * lane[0] + i * (int64_t)sizeof(REAL), lane[0]);
        if (uses & DY) {
          FN(turn)(dy[k], p[3] + 4 * k * lane[3] + i * (int64_t)sizeof(REAL), lane[3]);
        }
        continue;
      }
      for (int64_t j = 0; j < 4; j++) {
        for (int l = 0; l < 4; l++) {
          x[k][j][l] = j < some ? ((const REAL *)(p[0] + (4 * k + l) * lane[0]))[i + j] : 0;
          dy[k][j][l] = j < some && uses & DY ? ((const REAL *)(p[3] + (4 * k + l) * lane[3]))[i + j] : 0;
        }
      }
    }
    for (int j = 0; j < 4; j++) {
      const double m = j >= some ? 0 : uses & MASK ? *(const REAL *)(p[1] + (i + j) * step[1]) : 1.0;
      if (m == 0) {
        continue;
      }
      ones += m;
      squares += m * m;
      const double w = uses & WEIGHT ? *(const REAL *)(p[4] + (i + j) * step[4]) : 1.0;
      for (int k = 0; k < count; k++) {
        quad d = uses & DY ? dy[k][j] : x[k][j];
        if (uses & (RELU | LEAKY)) {
          const quad v = x[k][j];
          const quad y = m == 1 ? (v - mean[k]) * scale[k] + bias[k] : (v - m * mean[k]) * scale[k] + m * bias[k];
          d = FN(gate)(&d, &y, uses, a_);
        }
        if (m == 1) {
          quad_term(a + k, b + k, term, &x[k][j], &d, w, mean + k, rstd + k);
        } else {
          quad_term_soft(a + k, b + k, term, &x[k][j], &d, w, mean + k, rstd + k, m);
        }
      }
    }
  }
  for (int k = 0; k < count; k++) {
    store_sums(sum + 4 * k, term, a + k, b + k, ones, squares, uses & MASK);
  }
}

// As many cells as go together; returns how many, 0: the strip has to take over.
MT_INLINE int64_t FN(quads)(double *sum, char *const *p, const int64_t *step, const int64_t *lane, int64_t n, int64_t lanes,
                            int term, int uses, double a) {
  const int64_t size = sizeof(REAL);
  bool same_mask = !(uses & MASK) || lane[1] == 0;
  if (!same_mask && step[1] == 0 && lanes >= 4) {  // a value per cell: the same for these?
    bool all = true;
    for (int64_t l = 0; l < MT_MIN(8, lanes); l++) {
      all = all && *(const REAL *)(p[1] + l * lane[1]) == 1;
    }
    same_mask = all && lanes <= 8;
  }
  const bool weight = !(uses & WEIGHT) || lane[4] == 0;
  if (!same_mask || !weight) {
    return 0;
  }
  const bool own = !(uses & CELL) || step[2] == 0 || (lane[2] == 0 && !(uses & (RELU | LEAKY)));
  if (lane[0] == size && (!(uses & DY) || lane[3] == size) && own) {
    FN(across)(sum, p, step, lane, n, lanes / 4, term, uses, a);
    return lanes / 4 * 4;
  }
  if (step[0] == size && (!(uses & DY) || step[3] == size) && (!(uses & CELL) || step[2] == 0) && lanes >= 4) {
    if (lanes >= 8) {
      FN(along)(sum, p, step, lane, n, 2, term, uses, a);
      return 8;
    }
    FN(along)(sum, p, step, lane, n, 1, term, uses, a);
    return 4;
  }
  return 0;
}

MT_INLINE void FN(rows)(double *sum, char *const *p, const int64_t *step, const int64_t *lane, int64_t n, int64_t lanes,
                        norm_term term, int quad_kind, int uses, double a) {
  char *q[NORM_OPERANDS];
  memcpy(q, p, sizeof(q));
  while (lanes > 0) {
    int64_t done = quad_kind == NO_QUAD ? 0 : FN(quads)(sum, q, step, lane, n, lanes, quad_kind, uses, a);
    if (done == 0) {
      done = lanes;
      FN(row)(sum, q, step, lane, n, lanes, term, uses, a);
    }
    for (int k = 0; k < NORM_OPERANDS; k++) {
      q[k] = lane[k] == 0 ? q[k] : q[k] + done * lane[k];
    }
    sum += done;
    lanes -= done;
  }
}

#define ROW(name, term, quad_kind, uses)                                                                                  \
  static void FN(name)(double *sum, char *const *p, const int64_t *step, const int64_t *lane, int64_t n, int64_t lanes,   \
                       double a) {                                                                                        \
    FN(rows)(sum, p, step, lane, n, lanes, term, quad_kind, uses, a);                                                     \
  }
ROW(moments, value_sum, QUAD_MOMENTS, 0)
ROW(moments_masked, value_moments, QUAD_MOMENTS, MASK)
ROW(power, value_square, QUAD_POWER, 0)
ROW(power_masked, value_power, QUAD_POWER, MASK)
ROW(squares, value_deviation, QUAD_DEVIATION, CELL)
ROW(squares_masked, value_deviation, QUAD_DEVIATION, CELL | MASK)
ROW(gradients, value_gradients, QUAD_GRADIENTS, CELL | DY | WEIGHT)
ROW(gradients_masked, value_gradients, QUAD_GRADIENTS, CELL | DY | WEIGHT | MASK)
ROW(relu_gradients, value_gradients, QUAD_GRADIENTS, CELL | DY | WEIGHT | RELU)
ROW(relu_gradients_masked, value_gradients, QUAD_GRADIENTS, CELL | DY | WEIGHT | MASK | RELU)
ROW(leaky_gradients, value_gradients, QUAD_GRADIENTS, CELL | DY | WEIGHT | LEAKY)
ROW(leaky_gradients_masked, value_gradients, QUAD_GRADIENTS, CELL | DY | WEIGHT | MASK | LEAKY)
ROW(weight_gradients, value_weight_gradients, QUAD_WEIGHT_GRADIENTS, CELL | DY)
ROW(weight_gradients_masked, value_weight_gradients, QUAD_WEIGHT_GRADIENTS, CELL | DY | MASK)
ROW(compat_moments, value_moments, NO_QUAD, MASK | HOLES)
ROW(compat_squares, value_compat_deviation, NO_QUAD, CELL | MASK | HOLES)
ROW(compat_skew, value_compat_skew, NO_QUAD, CELL | MASK | HOLES)
#undef ROW

#else
#include "norm_channels.h"
#include "norm_lines_wide.h"
#include "norm_sums.h"
#include "row.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

// What a row reads; HOLES: elements with mask 0 too; RELU, LEAKY: dy is the gradient behind that activation.
enum { MASK = 1, CELL = 2, DY = 4, WEIGHT = 8, HOLES = 16, RELU = 32, LEAKY = 64 };
enum { STRIP = 4 };

MT_INLINE int32_t activation_of(int uses) {
  return uses & RELU ? MT_ACTIVATION_RELU : uses & LEAKY ? MT_ACTIVATION_LEAKY_RELU : MT_ACTIVATION_IDENTITY;
}

typedef struct norm_value {
  double a, b, c, d;
} norm_value;

typedef norm_value (*norm_term)(double x, double m, const norm_cell *cell, double dy, double w);

static inline norm_value value_sum(double x, double m, const norm_cell *cell, double dy, double w) {
  (void)m, (void)cell, (void)dy, (void)w;
  return (norm_value){.c = x, .d = x * x};
}

static inline norm_value value_square(double x, double m, const norm_cell *cell, double dy, double w) {
  (void)m, (void)cell, (void)dy, (void)w;
  return (norm_value){.c = x * x};
}

static inline norm_value value_moments(double x, double m, const norm_cell *cell, double dy, double w) {
  (void)cell, (void)dy, (void)w;
  return (norm_value){m, m * m, x, m == 0 ? 0 : x * x / m};
}

static inline norm_value value_power(double x, double m, const norm_cell *cell, double dy, double w) {
  (void)cell, (void)dy, (void)w;
  return (norm_value){m, m * m, x * x / m, 0};
}

static inline norm_value value_deviation(double x, double m, const norm_cell *cell, double dy, double w) {
  (void)dy, (void)w;
  const double e = x - m * cell->mean;
  return (norm_value){.a = e * e / m};
}

static inline norm_value value_gradients(double x, double m, const norm_cell *cell, double dy, double w) {
  const double g = dy * w;
  return (norm_value){.a = g * m, .b = g * (x - m * cell->mean)};
}

static inline norm_value value_weight_gradients(double x, double m, const norm_cell *cell, double dy, double w) {
  (void)w;
  return (norm_value){.a = dy * m, .b = dy * ((x - m * cell->mean) * cell->rstd)};
}

static inline norm_value value_compat_deviation(double x, double m, const norm_cell *cell, double dy, double w) {
  (void)dy, (void)w;
  const double e = (x - cell->mean) * m;
  return (norm_value){.a = e * e};
}

static inline norm_value value_compat_skew(double x, double m, const norm_cell *cell, double dy, double w) {
  (void)dy, (void)w;
  return (norm_value){.a = m * m * (x - cell->mean)};
}


// ---- four cells at a time -----------------------------------------------------------------------------------------------

// All of this is inlined: no calling convention is concerned, and what looks uninitialized is not read.
#pragma GCC diagnostic ignored "-Wpsabi"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
typedef double quad __attribute__((vector_size(32)));
typedef long long quad_index __attribute__((vector_size(32)));
enum { AHEAD = 8 };  // pixels
enum { NO_QUAD, QUAD_MOMENTS, QUAD_POWER, QUAD_DEVIATION, QUAD_GRADIENTS, QUAD_WEIGHT_GRADIENTS };

// Cells that are neighbours in memory, side by side.
typedef struct own_cells {
  double mean[NORM_LANES], rstd[NORM_LANES], scale[NORM_LANES], bias[NORM_LANES];
} own_cells;

MT_INLINE void load_affine(quad *scale, quad *bias, const char *p, int64_t lane) {
  const norm_cell *a = (const norm_cell *)p, *b = (const norm_cell *)(p + lane), *c = (const norm_cell *)(p + 2 * lane);
  const norm_cell *d = (const norm_cell *)(p + 3 * lane);
  *scale = (quad){a->scale, b->scale, c->scale, d->scale};
  *bias = (quad){a->bias, b->bias, c->bias, d->bias};
}

MT_INLINE void load_cells(quad *mean, quad *rstd, const char *p, int64_t lane) {
  const norm_cell *a = (const norm_cell *)p, *b = (const norm_cell *)(p + lane), *c = (const norm_cell *)(p + 2 * lane);
  const norm_cell *d = (const norm_cell *)(p + 3 * lane);
  *mean = (quad){a->mean, b->mean, c->mean, d->mean};
  *rstd = (quad){a->rstd, b->rstd, c->rstd, d->rstd};
}

// The terms above where m is 1.
MT_INLINE void quad_term(quad *a, quad *b, int term, const quad *xp, const quad *dyp, double w, const quad *meanp,
                         const quad *rstdp) {
  const quad x = *xp, dy = *dyp, mean = *meanp, rstd = *rstdp;
  switch (term) {
    case QUAD_MOMENTS:
      *a += x;
      *b += x * x;
      return;
    case QUAD_POWER: *a += x * x; return;
    case QUAD_DEVIATION: {
      const quad e = x - mean;
      *a += e * e;
      return;
    }
    case QUAD_GRADIENTS: {
      const quad g = dy * w;
      *a += g;
      *b += g * (x - mean);
      return;
    }
    default:
      *a += dy;
      *b += dy * ((x - mean) * rstd);
  }
}

// The same for any other m.
MT_INLINE void quad_term_soft(quad *a, quad *b, int term, const quad *xp, const quad *dyp, double w, const quad *meanp,
                              const quad *rstdp, double m) {
  const quad x = *xp, dy = *dyp, mean = *meanp, rstd = *rstdp;
  const quad e = x - m * mean;
  switch (term) {
    case QUAD_MOMENTS:
      *a += x;
      *b += x * x / m;
      return;
    case QUAD_POWER: *a += x * x / m; return;
    case QUAD_DEVIATION: *a += e * e / m; return;
    case QUAD_GRADIENTS: {
      const quad g = dy * w;
      *a += g * m;
      *b += g * e;
      return;
    }
    default:
      *a += dy * m;
      *b += dy * (e * rstd);
  }
}

// Where the strip puts them.
MT_INLINE void store_sums(double *sum, int term, const quad *a, const quad *b, double ones, double squares, bool masked) {
  const bool moments = term == QUAD_MOMENTS || term == QUAD_POWER;
  const int first = moments ? 2 : 0;
  memcpy(sum + first * NORM_LANES, a, sizeof *a);
  if (term != QUAD_POWER && term != QUAD_DEVIATION) {
    memcpy(sum + (first + 1) * NORM_LANES, b, sizeof *b);
  }
  for (int l = 0; l < 4 && moments && masked; l++) {
    sum[l] = ones;
    sum[NORM_LANES + l] = squares;
  }
}

#define MT_SOURCE "norm_rows.c"
#include "twice.h"

#define TABLE3(prefix, name) prefix##name
#define TABLE2(prefix, name) TABLE3(prefix, name)
#define TABLE(prefix) TABLE2(prefix, TILE_NAME)
#define BOTH(name) {{name##_f32, name##_f64}, {name##_masked_f32, name##_masked_f64}}
const norm_rows TABLE(norm_rows_) = {
  .moments = BOTH(moments),
  .power = BOTH(power),
  .squares = BOTH(squares),
  .gradients = BOTH(gradients),
  .relu_gradients = BOTH(relu_gradients),
  .leaky_gradients = BOTH(leaky_gradients),
  .weight_gradients = BOTH(weight_gradients),
  .compat_moments = {compat_moments_f32, compat_moments_f64},
  .compat_squares = {compat_squares_f32, compat_squares_f64},
  .compat_skew = {compat_skew_f32, compat_skew_f64},
  .channels = &TABLE(norm_channels_),
  .lines = &TABLE(norm_lines_wide_),
};

#endif
