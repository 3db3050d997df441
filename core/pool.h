// pool: maxima and averages of windows over 1 to 3 spatial axes, x (N, C, *S) -> y (N, C, *S'); and the mean over all
// spatial axes. Masks (mask.h) weigh the elements; NULL means everything is valid, and equals a mask of ones bit for bit.
//
// Windows. Regular: output o covers o * stride - padding + t * dilation, t = 0 .. kernel - 1, clipped to the image;
//   S' = (S + 2 padding - dilation * (kernel - 1) - 1) / stride + 1, rounded down, or up with ceil_mode (then a last
//   window that would begin past the image and its left padding is dropped).
// Adaptive: S' is y's own size; output o covers floor(o S / S') .. ceil((o + 1) S / S') - 1.
//
// Sums run over the window in raster order in double precision, so elements of mask 0 change no bit wherever they are.
#pragma once
#include "tensor.h"

#pragma GCC visibility push(default)

// How the mask of an output follows from those of its window.
//   GROW      the largest (1 where any element is valid)
//   KEEP      that of the window's centre (tap kernel / 2, clamped to the image); the output is 0 where this is 0
//   COVERAGE  their mean over the window's elements inside the image
enum { MT_POOL_GROW = 0, MT_POOL_KEEP = 1, MT_POOL_COVERAGE = 2 };

typedef struct mt_pool {
  int32_t dims;           // spatial axes, 1 to 3; entries [0, dims) of the arrays count
  int32_t adaptive;       // 1: the arrays are not read
  int32_t ceil_mode;
  int32_t rule;           // MT_POOL_...
  int32_t count_window;   // average: 1 divides by the window's size, image padding and masked elements counted as zeros
  int64_t kernel[3];
  int64_t stride[3];
  int64_t padding[3];     // at most half the window
  int64_t dilation[3];    // 1 for averages
} mt_pool;

// Sizes of the output's spatial axes for an input of spatial sizes `in`; an error when one is below 1.
int mt_pool_output_size(int64_t *out, const int64_t *in, const mt_pool *g);

// y = largest valid x of the window; NaN wins; 0 without a valid element. index (int32): its 1-based position in the
// image in raster order, the first of equal ones; 0 for none.
int mt_pool_max_forward(mt_tensor *y, mt_tensor *index, const mt_tensor *x, const mt_tensor *mask, const mt_pool *g);
// dx = dy at the positions of index, summed where windows overlap; 0 elsewhere. index and g are forward's.
int mt_pool_max_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *index, const mt_pool *g);

// y = sum(m x) / sum(m) over the window, 0 where sum(m) is 0; with count_window sum(m x) / window size
int mt_pool_avg_forward(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, const mt_pool *g);
// dx = sum over the windows around it of m dy / divisor
int mt_pool_avg_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *mask, const mt_pool *g);

// out (N|1, C|1, *S') from mask (N|1, C|1, *S) by g->rule
int mt_pool_mask(mt_tensor *out, const mt_tensor *mask, const mt_pool *g);

// Mean over all spatial axes. y (N, C) = sum of x where mask is not 0 / (sum(mask) + eps), 0 where that is 0: x is taken as
// already weighted by a soft mask. coverage (N|1, C|1) or NULL = mean(mask). holes, what lies under mask 0:
//   MT_POOL_SELECT    does not count and gets no gradient
//   MT_POOL_VALUES    does not count; its gradient is what it would be if it did, dy / (sum(mask) + eps), with 1e-8 for 0
//   MT_POOL_ORIGINAL  counts (masked_torch's own formula)
enum { MT_POOL_SELECT = 0, MT_POOL_VALUES = 1, MT_POOL_ORIGINAL = 2 };
int mt_pool_mean_forward(mt_tensor *y, mt_tensor *coverage, const mt_tensor *x, const mt_tensor *mask, double eps,
                         int32_t holes);
// dx = dy / (sum(mask) + eps), in the holes as above
int mt_pool_mean_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *mask, double eps, int32_t holes);

#pragma GCC visibility pop
