// conv: what the files of convolution share: images as operands of a tile's sums. Internal.
#pragma once
#include "activate.cuh"
#include "conv_pixels.cuh"

extern "C" {
#include "../core/conv_check.h"
}

// A tap seen from a pixel; three axes always.
typedef struct mt_tap {
  int32_t at[3];
  int32_t unused;
  int64_t x, valid;   // as offsets of the image and of its map
  int64_t w;          // of its weight
} mt_tap;

// An image (N, C, *S) whose channels are neighbours, with three axes, and what counts of it.
typedef struct mt_image {
  const void *data;
  int64_t samples, channels, sample, step[3], size[3];
  mt_pixel_map valid;
} mt_image;
mt_image mt_image_of(const mt_tensor *t, const mt_tensor *valid);

// Taps on the device, with what the kernels need to know about them. They stay there (conv_taps.cu): a step repeats its shapes.
typedef struct mt_tap_list {
  mt_scratch memory;   // theirs where they are not kept
  const mt_tap *taps;
  int64_t count;
  int take(mt_device *device, const char *op, const mt_conv_taps *list, int32_t dims, const mt_image *x);
} mt_tap_list;

// Refuses what 31 bits do not hold: sizes of an axis, terms of a sum.
int mt_conv_check_limits(const char *op, const mt_image *x, int64_t terms);

// Pixels seen through taps: line i is the i-th pixel's window, column j = tap * channels + channel. Outside the image, or where it
// does not count, there is nothing.
template <typename E, bool LINES_ARE_ROWS> struct mt_conv_source {
  static const bool INNER = LINES_ARE_ROWS;
  const E *base;
  const uint8_t *valid;
  int64_t x_sample, x_step[3], valid_sample, valid_step[3], channels;   // channels of a group
  int32_t size[3], mul[3];
  mt_pixel_walk pixels;
  const mt_tap *taps;
  mt_divisor by_channels;
  int32_t vector;
  struct Line {
    int64_t x, valid;
    int32_t at[3];
  };
  struct Column {
    int64_t x, valid;
    int32_t at[3];
  };
  __device__ __forceinline__ Line line(int64_t i) const {
    const mt_pixel p = mt_pixel_at(pixels, i);
    Line l;
    l.x = p.n * x_sample;
    l.valid = p.n * valid_sample;
#pragma unroll
    for (int d = 0; d < 3; d++) {
      l.at[d] = p.at[d] * mul[d];
      l.x += l.at[d] * x_step[d];
      l.valid += l.at[d] * valid_step[d];
    }
    if (p.n < 0) {
      l.at[0] = INT32_MIN / 2;  // outside
    }
    return l;
  }
  __device__ __forceinline__ Column column(int64_t j) const {
    const uint32_t tap = mt_divide((uint32_t)j, by_channels);
    const mt_tap *t = taps + tap;
    return Column{t->x + ((uint32_t)j - tap * by_channels.size), t->valid, {t->at[0], t->at[1], t->at[2]}};
  }
  __device__ __forceinline__ const E *at(const Line &l, const Column &c, int64_t shift) const {
    bool inside = true;
#pragma unroll
    for (int d = 0; d < 3; d++) {
      inside = inside && (uint32_t)(l.at[d] + c.at[d]) < (uint32_t)size[d];
    }
    if (!inside || (valid && !valid[l.valid + c.valid])) {
      return NULL;
    }
    return base + (l.x + c.x + shift);
  }
  __device__ __forceinline__ int64_t shift(int64_t z) const { return z * channels; }
};

template <typename E, bool R>
static void mt_conv_source_of(mt_conv_source<E, R> *s, const mt_image *x, int64_t channels, const mt_tap_list *taps,
                              const mt_pixel_walk *pixels, const int64_t mul[3]) {
  const int64_t together = 16 / (int64_t)sizeof(E);
  memset((void *)s, 0, sizeof *s);
  s->base = (const E *)x->data;
  s->valid = (const uint8_t *)x->valid.data;
  s->x_sample = x->sample;
  s->valid_sample = x->valid.sample;
  s->channels = channels;
  s->pixels = *pixels;
  s->taps = taps->taps;
  s->by_channels = mt_divisor_of(MT_MAX(1, channels));
  s->vector = channels % together == 0 && x->sample % together == 0 && (uintptr_t)x->data % 16 == 0;
  for (int d = 0; d < 3; d++) {
    s->x_step[d] = x->step[d];
    s->valid_step[d] = x->valid.step[d];
    s->size[d] = (int32_t)x->size[d];
    s->mul[d] = (int32_t)mul[d];
    s->vector = s->vector && x->step[d] % together == 0;
  }
}

// Results in an image of any strides: f((sum * scale + bias) * gate), core/conv.h. E: of the operands. all: the outputs of all groups.
template <typename E> struct mt_conv_place {
  typedef typename mt_wider<E>::type T;
  void *y;
  int64_t sample, step[3], channel, outputs;    // outputs of a group
  mt_pixel_walk pixels;
  const void *bias;
  const T *scale, *gate;
  int32_t y_narrow, bias_narrow;
  int64_t bias_step, scale_sample, scale_step[3], gate_sample, gate_step[3];
  const double *norm;
  int64_t all;
  int32_t activation;
  double a;
  struct Row {
    void *y;
    T scale, gate;
  };
  __device__ __forceinline__ Row row(int64_t m, int64_t) const {
    const mt_pixel p = mt_pixel_at(pixels, m);
    Row r = {mt_beside_at<E>(y, mt_pixel_offset(sample, step, p), y_narrow), 1, 1};
    if (scale) {
      r.scale = scale[mt_pixel_offset(scale_sample, scale_step, p)];
    }
    if (gate) {
      r.gate = gate[mt_pixel_offset(gate_sample, gate_step, p)];
    }
    return r;
  }
  __device__ __forceinline__ void store(const Row &r, int64_t n, T v, int64_t z) const {
    const int64_t o = z * outputs + n;
    if (scale) {
      v = r.scale == 0 ? 0 : v * r.scale;
    }
    if (bias) {  // adding 0 would turn -0 into 0
      v += mt_beside_load<E>(bias, o * bias_step, bias_narrow);
    }
    if (gate) {
      v = r.gate == 0 ? 0 : v * r.gate;
    }
    if (norm) {  // never over bfloat16
      const double m = (double)r.gate;
      v = r.gate == 0 ? (T)0 : (T)(((double)v - m * norm[o]) * norm[all + o] + m * norm[2 * all + o]);
    }
    if (sizeof(E) == 2 && y_narrow) {  // as an activation of its own finds it
      v = (T)(E)v;
    }
    mt_beside_store<E>(r.y, o * channel, y_narrow, mt_activate<T>(v, activation, a));
  }
};

// y = sums over taps at the active pixels of the grid, 0 at the others: forward and input gradient.
typedef struct mt_conv_sum {
  const char *op;
  mt_image x;
  const mt_conv_taps *list;
  int32_t dims, dtype, y_dtype;
  void *y;
  int64_t y_sample, y_step[3], y_channel, grid[3], mul[3], groups, channels, outputs;
  const void *w;
  int64_t w_group, w_channel, w_output;
  const mt_tensor *bias;
  mt_pixel_map active, scale, gate;
  const double *norm;
  int32_t activation;
  double a;
} mt_conv_sum;

// Where its results go; outputs: of a group, as the one who sums them counts.
template <typename E>
static mt_conv_place<E> mt_conv_place_of(const mt_conv_sum *c, const mt_pixel_walk *pixels, int64_t outputs) {
  typedef typename mt_wider<E>::type T;
  mt_conv_place<E> out;
  memset((void *)&out, 0, sizeof out);
  out.y = c->y;
  out.y_narrow = c->y_dtype == MT_BFLOAT16;
  out.sample = c->y_sample;
  out.channel = c->y_channel;
  out.outputs = outputs;
  out.pixels = *pixels;
  out.bias = c->bias ? c->bias->data : NULL;
  out.bias_narrow = c->bias && c->bias->dtype == MT_BFLOAT16;
  out.bias_step = c->bias ? c->bias->stride[0] : 0;
  out.scale = (const T *)c->scale.data;
  out.gate = (const T *)c->gate.data;
  out.scale_sample = c->scale.sample;
  out.gate_sample = c->gate.sample;
  out.norm = c->norm;
  out.all = c->groups * c->outputs;
  out.activation = c->activation;
  out.a = c->a;
  for (int d = 0; d < 3; d++) {
    out.step[d] = c->y_step[d];
    out.scale_step[d] = c->scale.step[d];
    out.gate_step[d] = c->gate.step[d];
  }
  return out;
}

// One channel and one output per group: conv_depthwise.cu. w: packed, (taps, channels).
int mt_conv_depthwise_sum(mt_device *device, const mt_conv_sum *c, const mt_tap_list *taps, const mt_pixels *pixels, const void *w);
int mt_conv_depthwise_gradient(mt_device *device, mt_tensor *dw, const mt_image *dy, const mt_image *x, int32_t dtype,
                               const mt_conv *g, const mt_tap_list *taps);
