// taps: sums over (tap, channel) of pixels gathered from a channels-last image. Internal: the forward pass and the input
// gradient of convolution and of linear layers are such sums, their weight gradients are mt_taps_gradient.
//
//   y[n, i, o] = bias[o] + sum over taps j, channels c of x[n, i * mul + offset[j], c] * w[j, c, o]      (per group)
//
// i walks over `grid`; where i * mul + offset[j] is outside `size`, x is 0. One accumulator per output element takes the
// terms in the order (j, c); a bias comes last. All strides count elements; x's channels must be neighbours.
#pragma once
#include "common.h"

enum { MT_TAPS_DIMS = 3 };

typedef struct mt_taps {
  int32_t dtype, dims;
  int64_t samples, groups;
  int64_t channels, outputs;           // per group
  // the image that is read
  const void *x;
  int64_t x_sample, x_step[MT_TAPS_DIMS], size[MT_TAPS_DIMS];
  // the pixels that are written
  void *y;
  int64_t y_sample, y_step[MT_TAPS_DIMS], y_group, y_channel, grid[MT_TAPS_DIMS];
  // where tap j reads for pixel i
  int64_t taps, mul[MT_TAPS_DIMS];
  const int64_t (*offset)[MT_TAPS_DIMS];
  // element (j, c, o) of group g's weights: w[w_tap[j] + g * w_group + c * w_channel + o * w_output]
  const void *w;
  const int64_t *w_tap;
  int64_t w_group, w_channel, w_output;
  const void *bias;                    // groups * outputs neighbours, or NULL
} mt_taps;

int mt_taps_sum(const mt_taps *t);

// w[j, c, o] = sum over n, i of x[n, i * mul + offset[j], c] * y[n, i, o]: the gradient of w when y holds the gradient of
// the sums; the outputs of a group must be neighbours and followed by readable elements up to mt_tile_padded. The pixels of one row (the last dim) add up in order from 0, then the rows in order.
int mt_taps_gradient(const mt_taps *t);
