// norm_sums: the sums behind every normalisation. Internal.
//
// A tensor's dims are split into kept ones and summed ones; each combination of kept indexes is a cell. Per cell up to
// four sums are taken in double precision, in one fixed order: along the last summed dim element by element (a row), row by row
// under one index of the first summed dim, then these in order. Elements with mask 0 are skipped, so padding at either end of a
// row, and more rows, change no bit. Memory layout, threads and blocking never change the order.
#pragma once
#include "common.h"

enum { NORM_LANES = 256, NORM_WIDTH = 4, NORM_OPERANDS = 5 };

// What a cell knows when its elements are visited. offset and slope serve the backward pass; scale = rstd weight and bias only where
// those go along channels.
typedef struct norm_cell {
  double mean, rstd, offset, slope, scale, bias;
} norm_cell;

// One row of n elements for `lanes` neighbouring cells: sum[w * NORM_LANES + lane], which is 0 before. p[k] is the first element of
// operand k, step[k] the distance along the row, lane[k] between cells, in bytes. a: of the activation (norm.h).
typedef void (*norm_row)(double *sum, char *const *p, const int64_t *step, const int64_t *lane, int64_t n, int64_t lanes, double a);

// sums[cell * NORM_WIDTH + w] for every cell, cells in row-major order of the kept dims. Operands have t[0]'s number of
// dims; their sizes 1 repeat. alone: called by one of several tasks that run side by side.
int norm_sums(double *sums, norm_row row, int32_t operands, const mt_tensor *const *t, const bool *kept, double a, bool alone);

// The rows of the different passes, one build per instruction set (norm_rows.c), by [masked][0: float32, 1: float64]. Operands: x,
// mask (or x again), cell, dy, weight.
typedef struct norm_rows {
  norm_row moments[2][2];           // sum m, sum m^2, sum x, sum x^2 / m; the first two are left 0 without a mask
  norm_row power[2][2];             // sum m, sum m^2, sum x^2 / m; likewise
  norm_row squares[2][2];           // sum (x - m mean)^2 / m
  norm_row gradients[2][2];         // sum g m, sum g (x - m mean), g = dy * weight
  norm_row relu_gradients[2][2], leaky_gradients[2][2];   // dy is the gradient behind the activation; cells know scale and bias
  norm_row weight_gradients[2][2];  // sum dy m, sum dy (x - m mean) rstd
  norm_row compat_moments[2];       // sum m, -, sum x, holes of x included
  norm_row compat_squares[2];       // sum ((x - mean) m)^2
  norm_row compat_skew[2];          // sum m^2 (x - mean)
  const struct norm_channels *channels;
  const struct norm_lines_wide *lines;
} norm_rows;

extern const norm_rows norm_rows_avx512, norm_rows_avx2, norm_rows_portable;
norm_row norm_row_moments(int32_t dtype, bool masked);
norm_row norm_row_power(int32_t dtype, bool masked);
norm_row norm_row_squares(int32_t dtype, bool masked);
norm_row norm_row_gradients(int32_t dtype, bool masked, int32_t activation);
norm_row norm_row_weight_gradients(int32_t dtype, bool masked);
norm_row norm_row_compat_moments(int32_t dtype);
norm_row norm_row_compat_squares(int32_t dtype);
norm_row norm_row_compat_skew(int32_t dtype);
