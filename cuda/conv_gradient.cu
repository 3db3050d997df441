// conv_gradient: gradients of a convolution's weights and bias, and what is behind the sums, see core/conv.h.
//
// Terms are the active pixels, in groups of 8 that begin anew with every row (conv_pixels.cuh): tensor cores add up a group, groups add
// up in order within a row, in runs of 32; runs and rows add up in order within a split; the splits are added in order, in double. What a
// split is depends on the number of samples, the size of the weights and on which rows have active pixels: on nothing that padding
// changes.
#include "conv.cuh"
#include "row.cuh"

// ---- weights ------------------------------------------------------------------------------------------------------------

// dy at the listed pixels: line i is the i-th pixel, column j an output.
template <typename E> struct gradient_source {
  static const bool INNER = false;
  const E *base;
  int64_t sample, step[3], outputs;
  mt_pixel_walk pixels;
  int64_t vector;
  typedef int64_t Line;
  typedef int64_t Column;
  __device__ __forceinline__ Line line(int64_t i) const {
    const mt_pixel p = mt_pixel_at(pixels, i);
    return p.n < 0 ? -1 : mt_pixel_offset(sample, step, p);
  }
  __device__ __forceinline__ Column column(int64_t j) const { return j; }
  __device__ __forceinline__ const E *at(Line l, Column c, int64_t shift) const { return l < 0 ? NULL : base + (l + c + shift); }
  __device__ __forceinline__ int64_t shift(int64_t z) const { return z * outputs; }
};

// Sums of splits, (group, split, tap and channel, output); or, where there is one split, the weights themselves. E: of the operands.
template <typename E> struct weight_place {
  typedef typename mt_wider<E>::type T;
  void *to;
  int32_t direct, narrow;
  int64_t rows, columns;
  mt_divisor by_channels;
  int32_t unused;
  const mt_tap *taps;
  int64_t w_group, w_channel, w_output;
  struct Row {
    void *to;
  };
  __device__ __forceinline__ Row row(int64_t m, int64_t z) const {
    if (!direct) {
      return Row{(T *)to + (z * rows + m) * columns};
    }
    const uint32_t tap = mt_divide((uint32_t)m, by_channels);
    return Row{mt_beside_at<E>(to, taps[tap].w + ((uint32_t)m - tap * by_channels.size) * w_channel + z * w_group, narrow)};
  }
  __device__ __forceinline__ void store(const Row &r, int64_t n, T v, int64_t) const {
    if (direct) {
      mt_beside_store<E>(r.to, n * w_output, narrow, v);
    } else {
      ((T *)r.to)[n] = v;
    }
  }
};

template <int HOW>
static int tile_gradient(mt_device *device, mt_tensor *dw, const mt_image *dy, const mt_image *x, const mt_conv *g,
                         const mt_tap_list *taps, const mt_pixel_map *active) {
  typedef typename mt_tile_of<HOW>::E E;
  typedef typename mt_tile_of<HOW>::T T;
  static const int GROUP = mt_tile_of<HOW>::STEP;
  mt_conv_source<E, false> a;
  gradient_source<E> b;
  weight_place<E> out;
  mt_tile_plan p;
  mt_pixels pixels;
  mt_scratch sums;
  int64_t mul[3];
  const int64_t channels = dw->shape[1], outputs = dw->shape[0] / g->groups;
  memset(&p, 0, sizeof p);
  for (int d = 0; d < 3; d++) {
    mul[d] = d < 3 - g->dims ? 1 : g->stride[d - (3 - g->dims)];
  }
  MT_TRY(pixels.find(device, dy->samples, dy->size, active, GROUP));
  mt_conv_source_of(&a, x, channels, taps, &pixels.walk, mul);
  p.m = taps->count * channels;
  p.n = outputs;
  p.k = pixels.most;
  p.parts = g->groups;
  // Few samples and few weights: parts of samples too.
  const int64_t tiles = ((p.m + 127) / 128) * ((p.n + 63) / 64) * p.parts;
  const bool within = tiles * dy->samples < 256;
  const mt_pixel_cut cut = {MT_MAX(1, dy->samples / 64), within ? 16 : 0, within && g->dims == 1 ? 512 : 0};
  MT_TRY(pixels.cut(&cut, GROUP));
  p.splits = pixels.splits;
  p.begin = pixels.begin;
  p.end = pixels.end;
  p.fresh = pixels.fresh;
  memset(&b, 0, sizeof b);
  const int64_t together = 16 / (int64_t)sizeof(E);
  b.base = (const E *)dy->data;
  b.sample = dy->sample;
  b.outputs = outputs;
  b.pixels = pixels.walk;
  b.vector = outputs % together == 0 && dy->sample % together == 0 && (uintptr_t)dy->data % 16 == 0;
  for (int d = 0; d < 3; d++) {
    b.step[d] = dy->step[d];
    b.vector = b.vector && dy->step[d] % together == 0;
  }
  memset((void *)&out, 0, sizeof out);
  out.to = dw->data;
  out.direct = true;
  out.narrow = dw->dtype == MT_BFLOAT16;
  out.rows = p.m;
  out.columns = p.n;
  out.by_channels = mt_divisor_of(MT_MAX(1, channels));
  out.taps = taps->taps;
  out.w_group = outputs * dw->stride[0];
  out.w_channel = dw->stride[1];
  out.w_output = dw->stride[0];
  if (p.splits == 1) {
    return mt_tile_run<HOW, true>(device, p, a, b, out);
  }
  weight_place<E> apart = out;
  MT_TRY(sums.take(device, p.parts * p.splits * p.m * p.n, sizeof(T)));
  apart.to = sums.data;
  apart.direct = false;
  MT_TRY((mt_tile_run<HOW, true>(device, p, a, b, apart)));
  MT_LAUNCH(device, (mt_tile_add_splits<T, weight_place<E>>), mt_grid(device, p.parts * p.m * p.n), MT_BLOCK, 0, out,
            (const T *)sums.data, p.parts, p.splits);
  return MT_OK;
}

extern "C" int mt_conv_backward_weight(mt_tensor *dw, const mt_tensor *dy, const mt_tensor *x, const mt_conv *g,
                                       const mt_tensor *valid, const mt_tensor *active) {
  mt_device *device;
  mt_tensor *rows = NULL, *gradient = NULL;
  mt_conv_taps list = {0, NULL, NULL};
  mt_tap_list taps;
  MT_TRY(mt_conv_check_backward_weight(dw, dy, x, g, valid, active));
  const mt_tensor *const t[] = {dy, x, valid, active};
  const char *op = mt_conv_name(g);
  MT_TRY(mt_check_together(op, dw, 4, t));
  if (dw->numel == 0) {
    return MT_OK;
  }
  if (dy->numel == 0 || x->numel == 0) {
    return mt_tensor_fill(dw, 0);
  }
  MT_TRY(mt_enter(&device, dw));
  int status = mt_conv_side_by_side(&rows, x);
  status = status ? status : mt_conv_side_by_side(&gradient, dy);
  status = status ? status : mt_conv_taps_new(&list, g);
  if (status == MT_OK) {
    mt_conv_taps_forward(&list, g, dw->stride + 2);
    const mt_image from = mt_image_of(rows, valid), to = mt_image_of(gradient, active);
    status = mt_conv_check_limits(op, &from, list.count * dw->shape[1]);
    status = status ? status : taps.take(device, op, &list, g->dims, &from);
    if (status != MT_OK) {
    } else if (g->groups > 1 && dw->shape[1] == 1 && dw->shape[0] == g->groups) {
      status = mt_conv_depthwise_gradient(device, dw, &to, &from, x->dtype, g, &taps);
    } else {
      switch (mt_tile_how(x->dtype)) {
        case MT_TILE_3XTF32: status = tile_gradient<MT_TILE_3XTF32>(device, dw, &to, &from, g, &taps, &to.valid); break;
        case MT_TILE_TF32: status = tile_gradient<MT_TILE_TF32>(device, dw, &to, &from, g, &taps, &to.valid); break;
        case MT_TILE_BF16: status = tile_gradient<MT_TILE_BF16>(device, dw, &to, &from, g, &taps, &to.valid); break;
        case MT_TILE_NARROW: status = tile_gradient<MT_TILE_NARROW>(device, dw, &to, &from, g, &taps, &to.valid); break;
        default: status = tile_gradient<MT_TILE_F64>(device, dw, &to, &from, g, &taps, &to.valid);
      }
    }
  }
  mt_free(list.offset);
  mt_tensor_release(gradient);
  mt_tensor_release(rows);
  return status;
}

// ---- epilogue -----------------------------------------------------------------------------------------------------------
// Two passes: sums of whole rows have too few threads to write the gradient as well.

typedef struct {
  const void *dy, *y;
  int64_t sample, step[3], y_sample, y_step[3], y_channel, channels, splits;
  mt_pixel_map m;
  mt_pixel_walk pixels;
  const int64_t *begin, *end;
  double *sums;   // (splits, channels)
  double a;
  int32_t activation, unused;
} bias_plan;

enum { BIAS_SPLITS = 8, BIAS_AHEAD = 4 };

// A thread adds up one channel over one split, in order, in double. Blocks: 32 channels, 8 splits.
template <typename E> static __global__ void sum_pixels(const bias_plan p) {
  typedef typename mt_wider<E>::type T;
  const int64_t c = (int64_t)blockIdx.y * MT_WARP + threadIdx.x;
  for (int64_t s = (int64_t)blockIdx.x * BIAS_SPLITS + threadIdx.y; s < p.splits; s += (int64_t)gridDim.x * BIAS_SPLITS) {
    double sum = 0;
    const int64_t end = p.end[s];
    for (int64_t i = p.begin[s]; i < end; i += BIAS_AHEAD) {
      T v[BIAS_AHEAD];
#pragma unroll
      for (int k = 0; k < BIAS_AHEAD; k++) {
        mt_pixel pixel = {-1, {0, 0, 0}};
        if (i + k < end) {
          pixel = mt_pixel_at(p.pixels, i + k);
        }
        v[k] = 0;
        if (pixel.n >= 0 && c < p.channels) {
          v[k] = (T)((const E *)p.dy)[mt_pixel_offset(p.sample, p.step, pixel) + c];
          if (p.y) {
            const T result = (T)((const E *)p.y)[mt_pixel_offset(p.y_sample, p.y_step, pixel) + c * p.y_channel];
            v[k] = (T)(E)mt_activation_gated<T>(v[k], result, p.activation, p.a);
          }
          if (p.m.data) {
            const T gate = ((const T *)p.m.data)[mt_pixel_offset(p.m.sample, p.m.step, pixel)];
            v[k] = gate == 0 ? (T)0 : v[k] * gate;
          }
        }
      }
#pragma unroll
      for (int k = 0; k < BIAS_AHEAD; k++) {
        sum += (double)v[k];
      }
    }
    if (c < p.channels) {
      p.sums[s * p.channels + c] = sum;
    }
  }
}

template <typename E> static __global__ void add_bias(E *db, int64_t step, const double *sums, int64_t channels, int64_t splits) {
  typedef typename mt_wider<E>::type T;
  MT_EACH(c, channels) {
    double sum = 0;
    for (int64_t s = 0; s < splits; s++) {
      sum += sums[s * channels + c];
    }
    db[c * step] = (E)(T)sum;
  }
}

template <typename E> static int add_up(mt_device *device, mt_tensor *db, const double *sums, int64_t splits) {
  MT_LAUNCH(device, add_bias<E>, mt_grid(device, db->numel), MT_BLOCK, 0, (E *)db->data, db->stride[0], sums, db->numel, splits);
  return MT_OK;
}

static int sum_bias(mt_device *device, mt_tensor *db, const mt_tensor *dy, const mt_tensor *y, const mt_tensor *active, const mt_tensor *m,
                    int32_t activation, double a) {
  mt_pixels pixels;
  mt_scratch sums;
  if (db->numel == 0) {
    return MT_OK;
  }
  if (dy->numel == 0) {
    return mt_tensor_fill(db, 0);
  }
  const mt_image image = mt_image_of(dy, active);
  const mt_pixel_cut cut = {1, 8, dy->ndim == 3 ? 256 : 0};
  MT_TRY(pixels.find(device, image.samples, image.size, &image.valid, MT_TILE_TERMS));
  MT_TRY(pixels.cut(&cut, MT_TILE_TERMS));
  bias_plan p;
  memset(&p, 0, sizeof p);
  p.dy = image.data;
  p.sample = image.sample;
  p.channels = image.channels;
  p.splits = pixels.splits;
  p.m = mt_pixel_map_of(m);
  p.pixels = pixels.walk;
  p.begin = pixels.begin;
  p.end = pixels.end;
  p.activation = activation;
  p.a = a;
  memcpy(p.step, image.step, sizeof p.step);
  if (y) {
    const mt_image result = mt_image_of(y, NULL);
    p.y = result.data;
    p.y_sample = result.sample;
    p.y_channel = y->stride[1];
    memcpy(p.y_step, result.step, sizeof p.y_step);
  }
  MT_TRY(sums.take(device, p.splits * p.channels, sizeof(double)));
  p.sums = (double *)sums.data;
  const dim3 grid(mt_grid(device, p.splits, BIAS_SPLITS), (unsigned)((p.channels + MT_WARP - 1) / MT_WARP)), block(MT_WARP, BIAS_SPLITS);
  switch (dy->dtype) {
    case MT_FLOAT32: MT_LAUNCH(device, sum_pixels<float>, grid, block, 0, p); break;
    case MT_FLOAT64: MT_LAUNCH(device, sum_pixels<double>, grid, block, 0, p); break;
    default: MT_LAUNCH(device, sum_pixels<mt_bf16>, grid, block, 0, p);
  }
  return MT_STORED_TEMPLATE(db->dtype, add_up, device, db, p.sums, p.splits);
}

// draw, dy, y, r, m; what is given says which of the last three count
typedef struct {
  int32_t y, r, m, activation;
  double a;
} given_factors;

// E: of dy and y; D: of draw.
template <typename E, typename D> static __global__ void pull_back(const mt_walk walk, const given_factors has) {
  typedef typename mt_wider<E>::type T;
  MT_EACH(i, walk.numel) {
    char *p[5];
    mt_walk_at(p, walk, i);
    T v = (T)*(const E *)p[1];
    const T r = has.r ? *(const T *)p[3] : 1, m = has.m ? *(const T *)p[4] : 1;
    if (has.y) {
      v = (T)(E)mt_activation_gated<T>(v, (T)*(const E *)p[2], has.activation, has.a);
    }
    *(D *)p[0] = (D)(T)(m == 0 || r == 0 ? 0 : v * m * r);
  }
}

extern "C" int mt_conv_backward_epilogue(mt_tensor *draw, mt_tensor *db, const mt_tensor *dy, const mt_tensor *y, const mt_tensor *active,
                                         const mt_tensor *r, const mt_tensor *m, int32_t activation, double a) {
  mt_device *device;
  mt_tensor *rows = NULL;
  MT_TRY(mt_conv_check_backward_epilogue(draw, db, dy, y, active, r, m, activation, a));
  y = activation == MT_ACTIVATION_IDENTITY ? NULL : y;
  const mt_tensor *const t[] = {draw, db, y, active, r, m};
  MT_TRY(mt_check_together("conv", dy, 6, t));
  MT_TRY(mt_enter(&device, dy));
  if (db) {  // first: draw may be dy
    MT_TRY(mt_conv_side_by_side(&rows, dy));
    const int status = sum_bias(device, db, rows, y, active, m, activation, a);
    mt_tensor_release(rows);
    MT_TRY(status);
  }
  if (draw == NULL || draw->numel == 0) {
    return MT_OK;
  }
  mt_walk walk;
  const mt_tensor *const operands[] = {draw, dy, y ? y : dy, r ? r : dy, m ? m : dy};
  const given_factors has = {y != NULL, r != NULL, m != NULL, activation, a};
  MT_TRY(mt_walk_plan(&walk, 5, operands));
  const unsigned grid = mt_grid(device, walk.numel);
  if (dy->dtype == MT_FLOAT32) {
    MT_LAUNCH(device, (pull_back<float, float>), grid, MT_BLOCK, 0, walk, has);
  } else if (dy->dtype == MT_FLOAT64) {
    MT_LAUNCH(device, (pull_back<double, double>), grid, MT_BLOCK, 0, walk, has);
  } else if (draw->dtype == MT_FLOAT32) {
    MT_LAUNCH(device, (pull_back<mt_bf16, float>), grid, MT_BLOCK, 0, walk, has);
  } else {
    MT_LAUNCH(device, (pull_back<mt_bf16, mt_bf16>), grid, MT_BLOCK, 0, walk, has);
  }
  return MT_OK;
}
