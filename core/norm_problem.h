// norm_problem: what all normalisations share: the cells of x, their statistics and the elementwise passes. Internal.
#pragma once
#include "norm_sums.h"
#include "row.h"
#include "wide.h"

// Statistics of a group of cells; squares = sum m^2.
typedef struct norm_moment {
  double n, squares, mean, variance;
} norm_moment;

// One normalisation: the cells of x and what is broadcast to x.
typedef struct norm_problem {
  const char *op;
  const mt_tensor *x;
  bool masked, per_channel, kept[MT_MAX_DIMS];   // per_channel: weight and bias go along dim 1
  int64_t cells, members, groups;       // `members` neighbouring cells share statistics
  mt_tensor mask, weight, bias, cell_view;
  int32_t activation;                   // norm.h; a is rounded to x's type
  double a;
  mt_tensor gated;                      // norm_gate
  mt_wide wide;                         // norm_widen
  bool alone;                           // one of several tasks that run side by side
  norm_cell *cell;
  double *sums;
  norm_moment *group;
} norm_problem;

// What an elementwise pass does; statistics = the gradient flows through mean and variance.
typedef struct norm_pass {
  bool masked, compat, statistics;
  int32_t activation;                   // the problem's
  double a;
} norm_pass;

// f(..., activation), with a constant for each activation.
#define NORM_BY_ACTIVATION(activation, f, ...)                  \
  switch (activation) {                                         \
    case MT_ACTIVATION_IDENTITY: f(__VA_ARGS__, MT_ACTIVATION_IDENTITY); break;         \
    case MT_ACTIVATION_RELU: f(__VA_ARGS__, MT_ACTIVATION_RELU); break;     \
    default: f(__VA_ARGS__, MT_ACTIVATION_LEAKY_RELU);                      \
  }

// Kept dims are those below `kept`, or, for batch norm (kept = -1), dim 1 alone.
void norm_open(norm_problem *p, const char *op, const mt_tensor *x, const mt_tensor *mask, int32_t kept, int64_t members);
// The tables of cells and groups.
int norm_take(norm_problem *p);
// Frees what was taken, also after that failed, and returns the status.
int norm_close(norm_problem *p, int status);

// Where channels are not neighbours in memory, x and *dy (dy may be NULL) of bfloat16 are read several times by rows that do not know the
// type: float32 copies become the problem's. The result is written as bfloat16 all the same.
int norm_widen(norm_problem *p, const mt_tensor **dy);

void norm_set_activation(norm_problem *p, int32_t activation, double a);

// v's dims placed at x's dims from `first` on; v = NULL: a constant, 1 or 0.
mt_tensor norm_broadcast(const mt_tensor *v, const mt_tensor *x, int32_t first, bool one);

// sums of every cell with one of the rows of norm_sums.h; dy and weight may be NULL where the row does not read them.
int norm_sum_cells(norm_problem *p, norm_row row, const mt_tensor *dy, const mt_tensor *weight);
// sum g m and sum g (x - m mean) with g the gradient before the activation; weight and bias go along channels.
int norm_sum_gradients(norm_problem *p, const mt_tensor *dy);
// Mean and variance of every group, also in stats as (mean, rstd, n), and the cells filled in. rms: the mean is 0.
int norm_statistics(norm_problem *p, mt_tensor *stats_tensor, double eps, bool rms, bool compat);
// The cells' mean and rstd from stats.
void norm_fill_cells(norm_problem *p, const double *stats);
// The part of dx that flows through mean and variance of a group, from a = sum g m and b = sum g m d.
void norm_set_slopes(norm_problem *p, const double *stats, int64_t group, double a, double b, bool mean);

// The elementwise passes, from x, mask, cells, weight and bias of the problem.
int norm_normalise(norm_problem *p, mt_tensor *y, bool masked);
int norm_pull_back(norm_problem *p, mt_tensor *dx, const mt_tensor *dy, norm_pass how);
// Where weight and bias do not go along channels (or in the compat mode) sums do not know the activation: *dy becomes a tensor of the
// problem's, the gradient before it, and the problem forgets the activation. The cells are filled in.
int norm_gate(norm_problem *p, const mt_tensor **dy, bool masked);

// Elements of a task: two threads that take turns at shorter pieces of memory are slower than it, and many want enough tasks.
static inline int64_t norm_grain(int64_t numel) { return MT_MAX(1 << 14, MT_MIN(1 << 16, numel / 32)); }

// Layer and RMS norm over the last dim of dense tensors, all in one (norm_lines.c); *done tells. Weight, bias and activation are the
// problem's.
int norm_lines_forward(bool *done, const norm_problem *p, mt_tensor *y, mt_tensor *stats, double eps, bool rms);
int norm_lines_backward(bool *done, const norm_problem *p, mt_tensor *dx, mt_tensor *dweight, mt_tensor *dbias, const mt_tensor *dy,
                        const mt_tensor *stats, bool rms);

// The same where channels are neighbours in memory; *done tells. dy = NULL: normalise.
int norm_run_pixels(bool *done, const norm_problem *p, mt_tensor *y, const mt_tensor *dy, norm_pass how);

// The sums of norm_statistics (dy = NULL: sum m, sum m^2, sum x, sum x^2 / m) and of norm_sum_gradients likewise (norm_pixel_sums.c).
int norm_sum_pixels(bool *done, norm_problem *p, const mt_tensor *dy);
// Are channels neighbours in memory, pixel after pixel, in x, another tensor (or NULL) and the mask, which has a value for every pixel?
bool norm_channels_last(const norm_problem *p, const mt_tensor *other, bool masked);

double norm_unbiased(const norm_moment *s);
bool norm_has_mean(const norm_moment *s);
bool norm_has_variance(const norm_moment *s);

// Elements by offset, in t's type. norm_write_sums: t[...] = values[0], values[NORM_WIDTH], ... in row-major order.
double norm_get(const mt_tensor *t, int64_t offset);
void norm_set(const mt_tensor *t, int64_t offset, double value);
void norm_blend(const mt_tensor *running, int64_t channel, double momentum, double value);
void norm_write_sums(const mt_tensor *t, const double *values);
