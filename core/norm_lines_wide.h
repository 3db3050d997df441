// norm_lines_wide: the inner loops of layer and RMS norm over dense float32 rows, eight rows side by side: the terms of norm_rows.c and
// the formulas of norm_lines.c, to the bit. Built per instruction set; NULL where it has no vectors of eight doubles. Internal.
#pragma once
#include "norm_sums.h"

enum { NORM_SIDE = 8 };           // rows; D is a multiple of it

typedef struct norm_lines_wide {
  // sum[l] = the sum of row l, sum[8 + l] = that of its squares
  void (*moments)(double *sum, const float *x, int64_t D);
  // sum[l] = sum g w, sum[8 + l] = sum g w (x - mean), with g the gradient before the activation (norm_form), which is also stored
  // unless that is the identity. chain (or NULL; norm_lines.c): where the sums over rows of g and g (x - mean) rstd go on.
  void (*gradients[3])(double *sum, double *chain, float *g, const float *dy, const float *x, const norm_cell *cell, const double *w,
                       const double *b, int64_t D, double a);
  // One row. stream: the result, which starts at a multiple of 64 bytes, as D's are, goes past the caches; fence() when all is done.
  void (*forward[3])(float *y, const float *x, const norm_cell *cell, const double *w, const double *b, int64_t D, double a,
                     bool stream);
  void (*backward)(float *dx, const float *dy, const float *x, const norm_cell *cell, const double *w, int64_t D, bool stream);
  void (*fence)(void);
} norm_lines_wide;

extern const norm_lines_wide norm_lines_wide_avx512, norm_lines_wide_avx2, norm_lines_wide_portable;
