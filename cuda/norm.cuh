// norm: what the files of norm.h share. Internal.
#pragma once
#include "activate.cuh"
#include "sums.cuh"

extern "C" {
#include "../core/norm_check.h"
}

// What a cell knows when its elements are visited. offset and slope serve the backward pass; scale = rstd weight and bias only where
// those go along channels.
typedef struct norm_cell { double mean, rstd, offset, slope, scale, bias; } norm_cell;
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
  int32_t activation;                         // core/norm.h; a is rounded to x's type
  double a;
  mt_tensor gated;                            // norm_gate
  mt_scratch cell_table, sum_table, group_table, gate_table;
  norm_cell *cell;
  double *sums;                               // [quantity][cell]
  norm_moment *group;
};

// Kept dims are those below `kept`, or, for batch norm (kept = -1), dim 1 alone.
int norm_open(norm_problem *p, const mt_tensor *x, const mt_tensor *mask, int32_t kept, int64_t members);

void norm_set_activation(norm_problem *p, int32_t activation, double a);

// The gradient before the activation behind the norm, as in core/norm_gate.h: dy f'(y) of a y that is not rounded yet.
template <typename T> MT_DEVICE double norm_gated(double dy, double y, int32_t activation, double a) {
  if (activation == MT_ACTIVATION_IDENTITY || (T)y > 0) {
    return dy;
  }
  return activation == MT_ACTIVATION_RELU ? 0 : (double)(T)(dy * a);
}

// What a pass over the elements does; statistics = the gradient flows through mean and variance.
typedef struct norm_pass {
  int32_t masked, compat, statistics, weight, bias, activation;
  double a;
} norm_pass;
int norm_normalise(norm_problem *p, mt_tensor *y, bool masked);
int norm_pull_back(norm_problem *p, mt_tensor *dx, const mt_tensor *dy, bool masked, bool compat, bool statistics);
// Where weight and bias do not go along channels (or in the compat mode) sums do not know the activation: *dy becomes a tensor of the
// problem's, the gradient before it, and the problem forgets the activation. The cells are filled in.
int norm_gate(norm_problem *p, const mt_tensor **dy, bool masked);

// Mean and variance of every group, also in stats as (mean, rstd, n), and the cells filled in.
int norm_statistics(norm_problem *p, mt_tensor *stats, double eps, bool rms, bool compat);

// The sums of the backward passes. weight is read per element; NULL: 1.
int norm_sum_gradients(norm_problem *p, const mt_tensor *dy, bool masked, const mt_tensor *weight);
int norm_sum_skew(norm_problem *p);
// Sums of dy m and dy m d rstd over the kept dims, for every element of the others.
int norm_sum_parameters(norm_problem *p, double *sums, const mt_tensor *dy);
