// norm: what the files of norm.h share. Internal.
#pragma once
#include "sums.cuh"

extern "C" {
#include "../core/norm_check.h"
}

// What a cell knows when its elements are visited; offset and slope serve the backward pass.
typedef struct norm_cell { double mean, rstd, offset, slope; } norm_cell;
// Statistics of a group of cells; squares = sum m^2.
typedef struct norm_moment { double n, squares, mean, variance; } norm_moment;

// One normalisation, as in core/norm_problem.h; tables are on the device.
struct norm_problem {
  mt_device *device;
  const mt_tensor *x, *mask, *weight, *bias;
  int32_t first;                              // where weight's and bias' dims stand among x's
  bool kept[MT_MAX_DIMS];
  int64_t cells, members, groups;             // `members` neighbouring cells share statistics
  mt_tensor cell_view;                        // the table of cells, broadcast to x
  mt_scratch cell_table, sum_table, group_table;
  norm_cell *cell;
  double *sums;                               // [quantity][cell]
  norm_moment *group;
};

// Kept dims are those below `kept`, or, for batch norm (kept = -1), dim 1 alone.
int norm_open(norm_problem *p, const mt_tensor *x, const mt_tensor *mask, int32_t kept, int64_t members);

// What a pass over the elements does; statistics = the gradient flows through mean and variance.
typedef struct norm_pass { int32_t masked, compat, statistics, weight, bias, unused; } norm_pass;
int norm_normalise(norm_problem *p, mt_tensor *y, bool masked);
int norm_pull_back(norm_problem *p, mt_tensor *dx, const mt_tensor *dy, bool masked, bool compat, bool statistics);

// Mean and variance of every group, also in stats as (mean, rstd, n), and the cells filled in.
int norm_statistics(norm_problem *p, mt_tensor *stats, double eps, bool rms, bool compat);

// The sums of the backward passes. weight is read per element; NULL: 1.
int norm_sum_gradients(norm_problem *p, const mt_tensor *dy, bool masked, const mt_tensor *weight);
int norm_sum_skew(norm_problem *p);
// Sums of dy m and dy m d rstd over the kept dims, for every element of the others.
int norm_sum_parameters(norm_problem *p, double *sums, const mt_tensor *dy);
