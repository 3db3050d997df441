// pool_window: which inputs belong to an output, for the C and the CUDA file; includes MT_INLINE's header first. Internal.
#pragma once
#include "pool.h"

// The taps of one output along one axis.
typedef struct mt_pool_window {
  int64_t begin, end, step;  // begin <= position < end, inside the image
  int64_t taps;              // how many
  int64_t extent;            // how many with the padding
  int64_t centre;            // position of the centre tap, clamped to the image
} mt_pool_window;

// One axis of 3: its sizes and what mt_pool says of it. kernel = 0: an adaptive window.
typedef struct mt_pool_axis {
  int64_t in, out, kernel, stride, padding, dilation;
} mt_pool_axis;

// Of the axes, the last g->dims are there; the others have one position.
static inline mt_pool_axis mt_pool_axis_of(int32_t a, int64_t in, int64_t out, const mt_pool *g) {
  const int32_t d = a - (3 - g->dims);
  mt_pool_axis axis = {in, out, 1, 1, 0, 1};
  if (d >= 0 && g->adaptive) {
    axis.kernel = 0;
  } else if (d >= 0) {
    axis.kernel = g->kernel[d];
    axis.stride = g->stride[d];
    axis.padding = g->padding[d];
    axis.dilation = g->dilation[d];
  }
  return axis;
}

MT_INLINE int64_t mt_pool_least(int64_t a, int64_t b) { return a < b ? a : b; }

MT_INLINE mt_pool_window mt_pool_window_of(int64_t o, mt_pool_axis axis) {
  mt_pool_window w;
  if (axis.kernel == 0) {
    // Sizes are below 2^31, so the products fit.
    w.begin = o * axis.in / axis.out;
    w.end = ((o + 1) * axis.in + axis.out - 1) / axis.out;
    w.step = 1;
    w.taps = w.extent = w.end - w.begin;
    w.centre = mt_pool_least(w.begin + w.taps / 2, axis.in - 1);
    return w;
  }
  const int64_t start = o * axis.stride - axis.padding, step = axis.dilation;
  w.begin = start < 0 ? start + (-start + step - 1) / step * step : start;
  w.end = mt_pool_least(start + step * (axis.kernel - 1) + 1, axis.in);
  w.step = step;
  w.taps = w.end > w.begin ? (w.end - w.begin + step - 1) / step : 0;
  w.extent = mt_pool_least(start + axis.kernel, axis.in + axis.padding) - start;
  const int64_t centre = start + axis.kernel / 2 * step;
  w.centre = mt_pool_least(centre < 0 ? 0 : centre, axis.in - 1);
  return w;
}

// Outputs *first .. *last - 1 may have the input position `at` in their windows (mt_pool_meets tells for each).
MT_INLINE void mt_pool_outputs_of(int64_t *first, int64_t *last, int64_t at, mt_pool_axis axis) {
  if (axis.kernel == 0) {
    *first = at * axis.out / axis.in;
    *last = mt_pool_least(((at + 1) * axis.out - 1) / axis.in + 1, axis.out);
    return;
  }
  const int64_t padded = at + axis.padding, low = padded - axis.dilation * (axis.kernel - 1);
  *first = low <= 0 ? 0 : (low + axis.stride - 1) / axis.stride;
  *last = mt_pool_least(padded / axis.stride + 1, axis.out);
}

MT_INLINE bool mt_pool_meets(int64_t at, int64_t o, mt_pool_axis axis) {
  return axis.kernel == 0 || (at + axis.padding - o * axis.stride) % axis.dilation == 0;
}
