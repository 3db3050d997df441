// winograd_points: the transforms of winograd.h at the points 0, a, -a, b, -b, infinity, for 16 channels side by side. Internal.
//
// A tile of m outputs under a kernel of r reads n = m + r - 1 values and needs n points. Smaller tiles take some of the six: the
// weights at a point are then those of the large tiles, and what the missing factors of M change is put into B'.
// A tile of one output that sees one value alone, all others being 0, needs one point: infinity, whose weight is the last tap, where
// that is the last value, and 0, whose weight is a multiple of the first tap, where it is the first.
#pragma once
#include "vector_math.h"

// As MT_CLONES, and for vectors of 64 bytes too: a tile's points then stay in registers. No bit depends on the choice.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define WINO_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WINO_CLONES
#endif

enum { WINO_IN = 6, WINO_OUT = 5, WINO_TAPS = 5, WINO_LANES = 16, WINO_ZERO = 0, WINO_INFINITY = 5 };

// What a tile reads along an axis: 1 to 6 values (1: there is no such axis), or one of them alone.
enum { WINO_LAST = WINO_IN + 1, WINO_FIRST, WINO_KINDS };
static inline int wino_values(int kind) { return kind > WINO_IN ? 1 : kind; }

// The points that they need.
static const int8_t wino_points[WINO_KINDS][WINO_IN] = {
    [1] = {0}, [2] = {0, 5}, [3] = {1, 2, 5}, [4] = {0, 1, 2, 5}, [5] = {1, 2, 3, 4, 5}, [6] = {0, 1, 2, 3, 4, 5},
    [WINO_LAST] = {WINO_INFINITY}, [WINO_FIRST] = {WINO_ZERO}};

typedef float wino_lanes __attribute__((vector_size(4 * WINO_LANES), aligned(4), may_alias));

#define WINO_A 0.75f
#define WINO_B 1.5f
#define WINO_A2 (WINO_A * WINO_A)
#define WINO_B2 (WINO_B * WINO_B)

// d = B' d over n values `step` apart, or a kind of one; the results lie at the places of their points. The rows of B' are the coefficients of
// M(x) / (x - p) and, for infinity, of M itself, where M is the product of x - p over the n - 1 finite points; a row of fewer than
// six points is multiplied by what M lacks at p.
MT_VECTOR void wino_input(wino_lanes *d, int step, int n) {
  const wino_lanes d0 = d[0];
  if (n == WINO_LAST) {
    d[5 * step] = d0;
    return;
  }
  if (n == WINO_FIRST) {
    d[0] = (WINO_A2 * WINO_B2) * d0;
    return;
  }
  const wino_lanes d1 = d[step];
  if (n == 2) {
    d[0] = (WINO_A2 * WINO_B2) * d0;
    d[5 * step] = d1;
    return;
  }
  const wino_lanes d2 = d[2 * step];
  if (n == 3) {
    const wino_lanes even = ((WINO_A2 - WINO_B2) * WINO_A2) * d0, odd = ((WINO_A2 - WINO_B2) * WINO_A) * d1;
    d[step] = even + odd;
    d[2 * step] = even - odd;
    d[5 * step] = d2 - WINO_A2 * d0;
    return;
  }
  const wino_lanes d3 = d[3 * step];
  if (n == 4) {
    const wino_lanes even = (WINO_A2 - WINO_B2) * d2, odd = ((WINO_A2 - WINO_B2) * WINO_A) * d1;
    d[0] = WINO_B2 * (WINO_A2 * d0 - d2);
    d[step] = even + odd;
    d[2 * step] = even - odd;
    d[5 * step] = d3 - WINO_A2 * d1;
    return;
  }
  const wino_lanes d4 = d[4 * step], odd_a = WINO_A * (d3 - WINO_B2 * d1), odd_b = WINO_B * (d3 - WINO_A2 * d1);
  const wino_lanes first = (WINO_A2 * WINO_B2) * d0 - (WINO_A2 + WINO_B2) * d2 + d4;
  if (n == 5) {
    const wino_lanes even_a = WINO_A2 * (d2 - WINO_B2 * d0), even_b = WINO_B2 * (d2 - WINO_A2 * d0);
    d[step] = even_a + odd_a;
    d[2 * step] = even_a - odd_a;
    d[3 * step] = even_b + odd_b;
    d[4 * step] = even_b - odd_b;
    d[5 * step] = first;
    return;
  }
  const wino_lanes d5 = d[5 * step], even_a = d4 - WINO_B2 * d2, even_b = d4 - WINO_A2 * d2;
  d[0] = first;
  d[step] = even_a + odd_a;
  d[2 * step] = even_a - odd_a;
  d[3 * step] = even_b + odd_b;
  d[4 * step] = even_b - odd_b;
  d[5 * step] = (WINO_A2 * WINO_B2) * d1 - (WINO_A2 + WINO_B2) * d3 + d5;
}

// `outputs` values y, `y_step` apart, = A' m over the points of n values, `step` apart: column p of A' holds the powers of point p,
// that of infinity a 1 at the end.
MT_VECTOR void wino_output(wino_lanes *y, int y_step, const wino_lanes *m, int step, int n, int outputs) {
  if (n > WINO_IN) {
    y[0] = m[wino_points[n][0] * step];
    return;
  }
  const wino_lanes last = m[5 * step];
  if (n == 2) {
    y[0] = m[0] + last;
    return;
  }
  const wino_lanes sum_a = m[step] + m[2 * step], difference_a = m[step] - m[2 * step];
  wino_lanes sum_b = {0}, difference_b = {0};
  if (n >= 5) {
    sum_b = m[3 * step] + m[4 * step];
    difference_b = m[3 * step] - m[4 * step];
  }
  y[0] = sum_a + sum_b;
  if (n % 2 == 0) {
    y[0] += m[0];
  }
  if (outputs >= 2) {
    y[y_step] = WINO_A * difference_a + WINO_B * difference_b;
  }
  if (outputs >= 3) {
    y[2 * y_step] = WINO_A2 * sum_a + WINO_B2 * sum_b;
  }
  if (outputs >= 4) {
    y[3 * y_step] = WINO_A * WINO_A2 * difference_a + WINO_B * WINO_B2 * difference_b;
  }
  if (outputs >= 5) {
    y[4 * y_step] = WINO_A2 * WINO_A2 * sum_a + WINO_B2 * WINO_B2 * sum_b;
  }
  y[(outputs - 1) * y_step] += last;
}

// 6 values u, `u_step` apart, = G w over 2, 3 or 5 values `step` apart: row p of G is (1, p, p^2 ...) / product of (p - other points).
MT_VECTOR void wino_weight(wino_lanes *u, int u_step, const wino_lanes *w, int step, int taps) {
  const float zero = 1 / (WINO_A2 * WINO_B2);
  const float na = (float)(1 / (2.0 * WINO_A2 * (WINO_A2 - WINO_B2))), nb = (float)(1 / (2.0 * WINO_B2 * (WINO_B2 - WINO_A2)));
  const wino_lanes w0 = w[0], w1 = w[step];
  wino_lanes high_a = {0}, high_b = {0}, odd_a = w1, odd_b = w1;
  if (taps >= 3) {
    high_a = WINO_A2 * w[2 * step];
    high_b = WINO_B2 * w[2 * step];
  }
  if (taps == 5) {
    high_a += (WINO_A2 * WINO_A2) * w[4 * step];
    high_b += (WINO_B2 * WINO_B2) * w[4 * step];
    odd_a += WINO_A2 * w[3 * step];
    odd_b += WINO_B2 * w[3 * step];
  }
  const wino_lanes even_a = na * (w0 + high_a), even_b = nb * (w0 + high_b);
  odd_a *= na * WINO_A;
  odd_b *= nb * WINO_B;
  u[0] = zero * w0;
  u[u_step] = even_a + odd_a;
  u[2 * u_step] = even_a - odd_a;
  u[3 * u_step] = even_b + odd_b;
  u[4 * u_step] = even_b - odd_b;
  u[5 * u_step] = w[(taps - 1) * step];
}

// The adjoints. 6 values z, `z_step` apart, = A y over 1 to 5 values `step` apart; those at points that the tile does not have are
// of no use.
MT_VECTOR void wino_output_adjoint(wino_lanes *z, int z_step, const wino_lanes *y, int step, int outputs) {
  wino_lanes even_a = y[0], even_b = y[0], odd_a = {0}, odd_b = {0};
  if (outputs >= 2) {
    odd_a = WINO_A * y[step];
    odd_b = WINO_B * y[step];
  }
  if (outputs >= 3) {
    even_a += WINO_A2 * y[2 * step];
    even_b += WINO_B2 * y[2 * step];
  }
  if (outputs >= 4) {
    odd_a += (WINO_A * WINO_A2) * y[3 * step];
    odd_b += (WINO_B * WINO_B2) * y[3 * step];
  }
  if (outputs >= 5) {
    even_a += (WINO_A2 * WINO_A2) * y[4 * step];
    even_b += (WINO_B2 * WINO_B2) * y[4 * step];
  }
  z[0] = y[0];
  z[z_step] = even_a + odd_a;
  z[2 * z_step] = even_a - odd_a;
  z[3 * z_step] = even_b + odd_b;
  z[4 * z_step] = even_b - odd_b;
  z[5 * z_step] = y[(outputs - 1) * step];
}

// 2, 3 or 5 values w, `w_step` apart, = G' u over 6 values `step` apart.
MT_VECTOR void wino_weight_adjoint(wino_lanes *w, int w_step, const wino_lanes *u, int step, int taps) {
  const float zero = 1 / (WINO_A2 * WINO_B2);
  const float na = (float)(1 / (2.0 * WINO_A2 * (WINO_A2 - WINO_B2))), nb = (float)(1 / (2.0 * WINO_B2 * (WINO_B2 - WINO_A2)));
  const wino_lanes sum_a = na * (u[step] + u[2 * step]), difference_a = na * (u[step] - u[2 * step]);
  const wino_lanes sum_b = nb * (u[3 * step] + u[4 * step]), difference_b = nb * (u[3 * step] - u[4 * step]);
  w[0] = zero * u[0] + (sum_a + sum_b);
  w[w_step] = WINO_A * difference_a + WINO_B * difference_b;
  if (taps >= 3) {
    w[2 * w_step] = WINO_A2 * sum_a + WINO_B2 * sum_b;
  }
  if (taps == 5) {
    w[3 * w_step] = (WINO_A * WINO_A2) * difference_a + (WINO_B * WINO_B2) * difference_b;
    w[4 * w_step] = (WINO_A2 * WINO_A2) * sum_a + (WINO_B2 * WINO_B2) * sum_b;
  }
  w[(taps - 1) * w_step] += u[5 * step];
}
