// winograd_points: the transforms of winograd.h at the points 0, a, -a, b, -b, infinity, for 16 channels side by side. Internal.
#pragma once
#include "vector_math.h"

// As MT_CLONES, and for vectors of 64 bytes too: a tile's points then stay in registers. No bit depends on the choice.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define WINO_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WINO_CLONES
#endif

enum { WINO_IN = 6, WINO_OUT = 4, WINO_LANES = 16 };

typedef float wino_lanes __attribute__((vector_size(4 * WINO_LANES), aligned(4), may_alias));

#define WINO_A 0.75f
#define WINO_B 1.5f
#define WINO_A2 (WINO_A * WINO_A)
#define WINO_B2 (WINO_B * WINO_B)

// d = B' d over 6 values `step` apart. The rows of B' are the coefficients of M(x) / (x - p), M(x) = x (x^2 - a^2) (x^2 - b^2),
// and of M itself for infinity.
MT_VECTOR void wino_input(wino_lanes *d, int step) {
  const wino_lanes d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step], d5 = d[5 * step];
  const wino_lanes even_a = d4 - WINO_B2 * d2, odd_a = WINO_A * (d3 - WINO_B2 * d1);
  const wino_lanes even_b = d4 - WINO_A2 * d2, odd_b = WINO_B * (d3 - WINO_A2 * d1);
  d[0] = (WINO_A2 * WINO_B2) * d0 - (WINO_A2 + WINO_B2) * d2 + d4;
  d[step] = even_a + odd_a;
  d[2 * step] = even_a - odd_a;
  d[3 * step] = even_b + odd_b;
  d[4 * step] = even_b - odd_b;
  d[5 * step] = (WINO_A2 * WINO_B2) * d1 - (WINO_A2 + WINO_B2) * d3 + d5;
}

// 4 values y, `y_step` apart, = A' m over 6 values `step` apart: column p of A' holds the powers 0 to 3 of point p.
MT_VECTOR void wino_output(wino_lanes *y, int y_step, const wino_lanes *m, int step) {
  const wino_lanes sum_a = m[step] + m[2 * step], difference_a = m[step] - m[2 * step];
  const wino_lanes sum_b = m[3 * step] + m[4 * step], difference_b = m[3 * step] - m[4 * step];
  y[0] = m[0] + (sum_a + sum_b);
  y[y_step] = WINO_A * difference_a + WINO_B * difference_b;
  y[2 * y_step] = WINO_A2 * sum_a + WINO_B2 * sum_b;
  y[3 * y_step] = (WINO_A * WINO_A2 * difference_a + WINO_B * WINO_B2 * difference_b) + m[5 * step];
}

// 6 values u, `u_step` apart, = G w over 3 values `step` apart: row p of G is (1, p, p^2) / product of (p - other points).
MT_VECTOR void wino_weight(wino_lanes *u, int u_step, const wino_lanes *w, int step) {
  const float zero = 1 / (WINO_A2 * WINO_B2);
  const float na = (float)(1 / (2.0 * WINO_A2 * (WINO_A2 - WINO_B2))), nb = (float)(1 / (2.0 * WINO_B2 * (WINO_B2 - WINO_A2)));
  const wino_lanes w0 = w[0], w1 = w[step], w2 = w[2 * step];
  const wino_lanes even_a = na * (w0 + WINO_A2 * w2), odd_a = (na * WINO_A) * w1;
  const wino_lanes even_b = nb * (w0 + WINO_B2 * w2), odd_b = (nb * WINO_B) * w1;
  u[0] = zero * w0;
  u[u_step] = even_a + odd_a;
  u[2 * u_step] = even_a - odd_a;
  u[3 * u_step] = even_b + odd_b;
  u[4 * u_step] = even_b - odd_b;
  u[5 * u_step] = w2;
}

// The adjoints. 6 values z, `z_step` apart, = A y over 4 values `step` apart.
MT_VECTOR void wino_output_adjoint(wino_lanes *z, int z_step, const wino_lanes *y, int step) {
  const wino_lanes y0 = y[0], y1 = y[step], y2 = y[2 * step], y3 = y[3 * step];
  const wino_lanes even_a = y0 + WINO_A2 * y2, odd_a = WINO_A * y1 + (WINO_A * WINO_A2) * y3;
  const wino_lanes even_b = y0 + WINO_B2 * y2, odd_b = WINO_B * y1 + (WINO_B * WINO_B2) * y3;
  z[0] = y0;
  z[z_step] = even_a + odd_a;
  z[2 * z_step] = even_a - odd_a;
  z[3 * z_step] = even_b + odd_b;
  z[4 * z_step] = even_b - odd_b;
  z[5 * z_step] = y3;
}

// 3 values w, `w_step` apart, = G' u over 6 values `step` apart.
MT_VECTOR void wino_weight_adjoint(wino_lanes *w, int w_step, const wino_lanes *u, int step) {
  const float zero = 1 / (WINO_A2 * WINO_B2);
  const float na = (float)(1 / (2.0 * WINO_A2 * (WINO_A2 - WINO_B2))), nb = (float)(1 / (2.0 * WINO_B2 * (WINO_B2 - WINO_A2)));
  const wino_lanes sum_a = na * (u[step] + u[2 * step]), difference_a = na * (u[step] - u[2 * step]);
  const wino_lanes sum_b = nb * (u[3 * step] + u[4 * step]), difference_b = nb * (u[3 * step] - u[4 * step]);
  w[0] = zero * u[0] + (sum_a + sum_b);
  w[w_step] = WINO_A * difference_a + WINO_B * difference_b;
  w[2 * w_step] = (WINO_A2 * sum_a + WINO_B2 * sum_b) + u[5 * step];
}
