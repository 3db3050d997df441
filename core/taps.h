// taps: sums over (tap, channel) of pixels gathered from a channels-last image. Internal: the forward pass and the input
// gradient of convolution and of linear layers are such sums, their weight gradients are mt_taps_gradient.
//
//   y[n, i, o] = f((scale[n, i] * sum over taps j, channels c of x[n, i * mul + offset[j], c] * w[j, c, o] + bias[o]) * gate[n, i])
//
// (per group). i walks over `grid`; where i * mul + offset[j] is outside `size`, or not valid, x is 0; where i is not active, y
// is 0. f: norm and activation, if any; the norm's mask is gate. One accumulator per output element takes the terms in the order (j, c). All strides count
// elements; x's channels must be neighbours, unless mt_taps_takes_planes.
#pragma once
#include "common.h"
#include "tile.h"

enum { MT_TAPS_DIMS = 3 };

// A number per pixel, or a byte. data NULL: all are 1.
typedef struct {
  const void *data;
  int64_t sample, step[MT_TAPS_DIMS];
} mt_taps_map;

typedef struct mt_taps {
  int32_t dtype, dims;
  int64_t samples, groups;
  int64_t channels, outputs;           // per group
  // the image that is read
  const void *x;
  int64_t x_sample, x_step[MT_TAPS_DIMS], size[MT_TAPS_DIMS];
  int64_t x_channel;                   // 0: channels are neighbours; else their distance (mt_taps_takes_planes)
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
  mt_taps_map valid, active;           // bytes: over the image that is read, over the grid
  bool leave;                          // outputs that are not active as they are: somebody else's
  mt_taps_map scale, gate;             // reals over the grid
  const mt_tile_behind *behind;        // norm and activation
} mt_taps;

// One channel and one output per group.
static inline bool mt_taps_depthwise(const mt_taps *t) { return t->groups > 1 && t->channels == 1 && t->outputs == 1; }

// The number of sample n's pixel `at` in a map with data.
static inline int64_t mt_taps_at(const mt_taps *t, const mt_taps_map *map, int64_t n, const int64_t at[MT_TAPS_DIMS]) {
  int64_t offset = n * map->sample;
  for (int32_t d = 0; d < t->dims; d++) {
    offset += at[d] * map->step[d];
  }
  return offset;
}

int mt_taps_sum(const mt_taps *t);
// Can mt_taps_sum read an image whose channels are not neighbours? Known from types and numbers alone.
bool mt_taps_takes_planes(const mt_taps *t);

// w[j, c, o] = sum over n, active i of x[n, i * mul + offset[j], c] * y[n, i, o]: the gradient of w when y holds the gradient
// of the sums; the outputs of a group must be neighbours. The pixels of one row (the last dim) add up in order from 0, in
// pieces of 256 from the first active one; then the pieces, rows and samples in order. scale, gate, bias and what stands behind are
// not looked at.
int mt_taps_gradient(const mt_taps *t);
