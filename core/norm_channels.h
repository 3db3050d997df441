// norm_channels: the inner loops of norms over channels that are neighbours in memory, for float32 under a mask of ones: the terms of
// norm_rows.c and the formulas of norm_pixels.c, to the bit. One build per instruction set (norm_channels.c). Internal.
#pragma once
#include "common.h"

enum { NORM_CHANNELS = 1024 };  // at most; their sums are on the stack

// What is known of every channel; scale = rstd weight.
typedef struct norm_table {
  const double *mean, *scale, *bias, *offset, *slope;
  double a;                     // of the activation
} norm_table;

// Pixels of C channels each.
typedef struct norm_channels {
  // The pixels at[0] to at[n - 1] in order: sum[c] += x, sum[C + c] += x^2
  void (*moments)(double *sum, const float *x, int64_t C, const int32_t *at, int64_t n);
  // sum[c] += g, sum[C + c] += g (x - mean), g the gradient before the activation (norm_form)
  void (*gradients[3])(double *sum, const float *x, const float *dy, const norm_table *t, int64_t C, const int32_t *at, int64_t n);
  // n pixels one after the other. stream: the result goes past the caches; it starts at a multiple of 64 bytes, and so does every pixel
  void (*forward[3])(float *y, const float *x, const norm_table *t, int64_t C, int64_t n, bool stream);
  void (*backward[3])(float *dx, const float *dy, const float *x, const norm_table *t, int64_t C, int64_t n, bool stream);
} norm_channels;

extern const norm_channels norm_channels_avx512, norm_channels_avx2, norm_channels_portable;
// Identity, ReLU, leaky ReLU: 0, 1, 2.
static inline int norm_form(int32_t activation) {
  return activation == MT_ACTIVATION_IDENTITY ? 0 : activation == MT_ACTIVATION_RELU ? 1 : 2;
}
