// conv: see core/conv.h. The forward pass and the input gradient as sums of tile.cuh over the active pixels (implicit: no window is
// ever written to memory). Gradients of weights and bias are in conv_gradient.cu.
//
// Sums are direct, in the order of tile.cuh: the transform (core/winograd.h) is for processors without tensor cores. Precision:
// mt_matmul_precision_set.
#include "conv.cuh"

mt_image mt_image_of(const mt_tensor *t, const mt_tensor *valid) {
  mt_image x = {t->data, t->shape[0], t->shape[1], t->stride[0], {0, 0, 0}, {1, 1, 1}, mt_pixel_map_of(valid)};
  for (int32_t d = 2, a = 5 - t->ndim; d < t->ndim; d++, a++) {
    x.step[a] = t->stride[d];
    x.size[a] = t->shape[d];
  }
  return x;
}

int mt_conv_check_limits(const char *op, const mt_image *x, int64_t terms) {
  const int64_t limit = INT32_MAX / 4;
  for (int d = 0; d < 3; d++) {
    if (x->size[d] > limit || x->samples > limit) {
      return mt_fail(MT_ERROR_ARGUMENT, "%s: a size of %lld is more than the GPU kernels handle (%lld)", op,
                     (long long)MT_MAX(x->size[d], x->samples), (long long)limit);
    }
  }
  return terms > limit ? mt_fail(MT_ERROR_ARGUMENT, "%s: %lld taps times channels are more than the GPU kernels handle (%lld)", op,
                                 (long long)terms, (long long)limit)
                       : MT_OK;
}

// ---- kernels ------------------------------------------------------------------------------------------------------------

typedef struct {
  const void *w;
  void *to;
  const mt_tap *taps;
  int64_t groups, count, channels, outputs, padded, w_group, w_channel, w_output;
} pack_plan;

// Weights as (groups, tap and channel, outputs), the outputs filled up to 16 bytes.
template <typename T> static __global__ void pack(const pack_plan p) {
  MT_EACH(i, p.groups * p.count * p.channels * p.padded) {
    const int64_t o = i % p.padded, c = i / p.padded % p.channels, j = i / p.padded / p.channels;
    const int64_t tap = j % p.count, g = j / p.count;
    ((T *)p.to)[i] = o < p.outputs ? ((const T *)p.w)[p.taps[tap].w + g * p.w_group + c * p.w_channel + o * p.w_output] : 0;
  }
}

typedef struct {
  mt_pixel_walk grid;
  mt_pixel_map active;
  int64_t pixels, channels, sample, step[3], channel;
  void *y;
} clear_plan;

// 0 where nothing is computed. A warp per pixel.
template <typename T> static __global__ void clear_inactive(const clear_plan p) {
  const int lane = threadIdx.x % MT_WARP;
  const int64_t warps = (int64_t)gridDim.x * (blockDim.x / MT_WARP);
  for (int64_t i = (int64_t)blockIdx.x * (blockDim.x / MT_WARP) + threadIdx.x / MT_WARP; i < p.pixels; i += warps) {
    const mt_pixel pixel = mt_pixel_at(p.grid, i);
    if (((const uint8_t *)p.active.data)[mt_pixel_offset(p.active.sample, p.active.step, pixel)] == 0) {
      T *y = (T *)p.y + mt_pixel_offset(p.sample, p.step, pixel);
      for (int64_t c = lane; c < p.channels; c += MT_WARP) {
        y[c * p.channel] = 0;
      }
    }
  }
}

// ---- sums ---------------------------------------------------------------------------------------------------------------

template <int HOW> static int tile_sum(mt_device *device, const mt_conv_sum *c, const mt_tap_list *taps, const mt_pixels *pixels,
                                       const void *w, int64_t padded) {
  typedef typename mt_tile_of<HOW>::E E;
  mt_conv_source<E, true> a;
  mt_tile_matrix<E, false> b;
  mt_tile_plan p;
  memset(&p, 0, sizeof p);
  memset(&b, 0, sizeof b);
  mt_conv_source_of(&a, &c->x, c->channels, taps, &pixels->walk, c->mul);
  p.m = pixels->most;
  p.n = c->outputs;
  p.k = p.piece = taps->count * c->channels;
  p.count = pixels->count;
  p.parts = c->groups;
  p.splits = 1;
  b.base = (const E *)w;
  b.line_step = padded;
  b.step = 1;
  b.batch_dims = 1;
  b.batch_size[0] = c->groups;
  b.batch_step[0] = p.k * padded;
  mt_tile_align(&b, padded);
  return mt_tile_run<HOW, false>(device, p, a, b, mt_conv_place_of<E>(c, &pixels->walk, c->outputs));
}

static int sum(mt_device *device, const mt_conv_sum *c) {
  mt_tap_list taps;
  mt_pixels pixels, all;
  mt_scratch packed;
  const int64_t size = mt_dtype_size(c->dtype), whole = 16 / size, terms = c->list->count * c->channels;
  int64_t count = c->x.samples;
  for (int d = 0; d < 3; d++) {
    count *= c->grid[d];
  }
  if (count == 0 || c->groups * c->outputs == 0) {
    return MT_OK;
  }
  MT_TRY(mt_conv_check_limits(c->op, &c->x, terms));
  MT_TRY(taps.take(device, c->op, c->list, c->dims, &c->x));
  MT_TRY(all.all(device, c->x.samples, c->grid));
  if (c->active.data) {
    const clear_plan clear = {all.walk, c->active, count, c->groups * c->outputs, c->y_sample,
                              {c->y_step[0], c->y_step[1], c->y_step[2]}, c->y_channel, c->y};
    const unsigned grid = mt_grid(device, count, MT_BLOCK / MT_WARP);
    switch (c->y_dtype) {
      case MT_FLOAT32: MT_LAUNCH(device, clear_inactive<uint32_t>, grid, MT_BLOCK, 0, clear); break;
      case MT_FLOAT64: MT_LAUNCH(device, clear_inactive<uint64_t>, grid, MT_BLOCK, 0, clear); break;
      default: MT_LAUNCH(device, clear_inactive<uint16_t>, grid, MT_BLOCK, 0, clear);
    }
    MT_TRY(pixels.find(device, c->x.samples, c->grid, &c->active, 1));
  } else {
    MT_TRY(pixels.all(device, c->x.samples, c->grid));
  }
  const bool depthwise = c->groups > 1 && c->channels == 1 && c->outputs == 1;
  // A depthwise convolution is (tap, channel): the groups take the place of the outputs.
  pack_plan pack_all = {c->w, NULL, taps.taps, c->groups, taps.count, c->channels, c->outputs, (c->outputs + whole - 1) / whole * whole, c->w_group,
                        c->w_channel, c->w_output};
  if (depthwise) {
    pack_all.outputs = pack_all.padded = c->groups;
    pack_all.groups = 1;
    pack_all.w_output = c->w_group;
    pack_all.w_group = 0;
  }
  const int64_t numbers = pack_all.groups * terms * pack_all.padded;
  MT_TRY(packed.take(device, MT_MAX(whole, numbers), size));
  pack_all.to = packed.data;
  if (numbers > 0) {
    const unsigned grid = mt_grid(device, numbers);
    switch (c->dtype) {
      case MT_FLOAT32: MT_LAUNCH(device, pack<uint32_t>, grid, MT_BLOCK, 0, pack_all); break;
      case MT_FLOAT64: MT_LAUNCH(device, pack<uint64_t>, grid, MT_BLOCK, 0, pack_all); break;
      default: MT_LAUNCH(device, pack<uint16_t>, grid, MT_BLOCK, 0, pack_all);
    }
  }
  if (depthwise) {
    return mt_conv_depthwise_sum(device, c, &taps, &pixels, packed.data);
  }
  switch (mt_tile_how(c->dtype)) {
    case MT_TILE_3XTF32: return tile_sum<MT_TILE_3XTF32>(device, c, &taps, &pixels, packed.data, pack_all.padded);
    case MT_TILE_TF32: return tile_sum<MT_TILE_TF32>(device, c, &taps, &pixels, packed.data, pack_all.padded);
    case MT_TILE_BF16: return tile_sum<MT_TILE_BF16>(device, c, &taps, &pixels, packed.data, pack_all.padded);
    case MT_TILE_NARROW: return tile_sum<MT_TILE_NARROW>(device, c, &taps, &pixels, packed.data, pack_all.padded);
    default: return tile_sum<MT_TILE_F64>(device, c, &taps, &pixels, packed.data, pack_all.padded);
  }
}

// ---- algorithm ----------------------------------------------------------------------------------------------------------

static int32_t algorithm;

extern "C" int mt_conv_algorithm_set(int32_t wanted) {
  MT_TRY(mt_conv_check_algorithm(wanted));
  algorithm = wanted;
  return MT_OK;
}

extern "C" int32_t mt_conv_algorithm_get(void) { return algorithm; }

// ---- forward ------------------------------------------------------------------------------------------------------------

// The adjoint's image is dy, its pixels are dx's; w's first two axes change places.
static void set_axes(mt_conv_sum *c, const mt_tensor *y, const mt_conv *g, bool adjoint) {
  c->dims = g->dims;
  c->y = y->data;
  c->y_dtype = y->dtype;
  c->y_sample = y->stride[0];
  c->y_channel = y->stride[1];
  c->groups = g->groups;
  for (int a = 0; a < 3; a++) {
    const int32_t d = a - (3 - g->dims);
    c->grid[a] = d < 0 ? 1 : y->shape[d + 2];
    c->y_step[a] = d < 0 ? 0 : y->stride[d + 2];
    c->mul[a] = d < 0 || adjoint ? 1 : g->stride[d];
  }
}

extern "C" int mt_conv_forward(mt_tensor *y, const mt_tensor *x, const mt_tensor *w, const mt_tensor *b, const mt_conv *g,
                               const mt_tensor *valid, const mt_tensor *active, const mt_tensor *r, const mt_tensor *m,
                               const mt_tensor *norm, int32_t activation, double a) {
  mt_device *device;
  mt_conv_sum c;
  mt_tensor *rows = NULL, *bias = NULL;
  mt_conv_taps list = {0, NULL, NULL};
  MT_TRY(mt_conv_check_forward(y, x, w, b, g, valid, active, r, m, norm, activation, a));
  const mt_tensor *const t[] = {x, w, b, valid, active, r, m, norm};
  MT_TRY(mt_check_together(mt_conv_name(g), y, 8, t));
  if (y->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_enter(&device, y));
  memset(&c, 0, sizeof c);
  int status = mt_conv_side_by_side(&rows, x);
  status = status ? status : mt_tile_bias(&bias, b, x->dtype);
  status = status ? status : mt_conv_taps_new(&list, g);
  if (status == MT_OK) {
    mt_conv_taps_forward(&list, g, w->stride + 2);
    set_axes(&c, y, g, false);
    c.op = mt_conv_name(g);
    c.dtype = x->dtype;
    c.x = mt_image_of(rows, valid);
    c.list = &list;
    c.channels = w->shape[1];
    c.outputs = w->shape[0] / g->groups;
    c.w = w->data;
    c.w_group = c.outputs * w->stride[0];
    c.w_channel = w->stride[1];
    c.w_output = w->stride[0];
    c.bias = bias;
    c.active = mt_pixel_map_of(active);
    c.scale = mt_pixel_map_of(r);
    c.gate = mt_pixel_map_of(m);
    c.norm = norm ? (const double *)norm->data : NULL;
    c.activation = activation;
    c.a = a;
    status = sum(device, &c);
  }
  mt_free(list.offset);
  mt_tensor_release(bias);
  mt_tensor_release(rows);
  return status;
}

// ---- input gradient -----------------------------------------------------------------------------------------------------

typedef struct {
  mt_pixel_walk grid;
  mt_pixel_map active;
  int64_t pixels;
  int64_t kernel[3], stride[3], dilation[3], pad[3], out[3];
  uint8_t *reached;
} reach_plan;

// Whether some active dy sees the pixel.
static __global__ void find_reached(const reach_plan p) {
  MT_EACH(i, p.pixels) {
    const mt_pixel pixel = mt_pixel_at(p.grid, i);
    bool found = false;
    for (int64_t t = 0; t < p.kernel[0] * p.kernel[1] * p.kernel[2] && !found; t++) {
      int64_t rest = t;
      mt_pixel from = pixel;
      bool whole = true;
      for (int d = 2; d >= 0; d--) {
        const int64_t distance = pixel.at[d] + p.pad[d] - rest % p.kernel[d] * p.dilation[d];
        whole = whole && distance >= 0 && distance % p.stride[d] == 0 && distance / p.stride[d] < p.out[d];
        from.at[d] = (int32_t)(distance / p.stride[d]);
        rest /= p.kernel[d];
      }
      found = whole && ((const uint8_t *)p.active.data)[mt_pixel_offset(p.active.sample, p.active.step, from)] != 0;
    }
    p.reached[i] = found;
  }
}

// Where no pixel of dx is named, those that some active dy reaches: the others are 0.
static int reached(mt_tensor **out, mt_device *device, const mt_tensor *dx, const mt_tensor *active, const mt_conv *g) {
  int64_t shape[MT_MAX_DIMS];
  mt_pixels all;
  reach_plan p;
  memcpy(shape, dx->shape, sizeof shape);
  shape[0] = active->shape[0];
  shape[1] = 1;
  MT_TRY(mt_tensor_new(out, MT_BOOL, dx->ndim, shape, NULL));
  memset(&p, 0, sizeof p);
  int64_t size[3];
  for (int a = 0; a < 3; a++) {
    const int32_t d = a - (3 - g->dims);
    size[a] = d < 0 ? 1 : shape[d + 2];
    p.kernel[a] = d < 0 ? 1 : g->kernel[d];
    p.stride[a] = d < 0 ? 1 : g->stride[d];
    p.dilation[a] = d < 0 ? 1 : g->dilation[d];
    p.pad[a] = d < 0 ? 0 : g->pad_before[d];
    p.out[a] = d < 0 ? 1 : active->shape[d + 2];
  }
  MT_TRY(all.all(device, shape[0], size));
  p.grid = all.walk;
  p.pixels = (*out)->numel;
  p.active = mt_pixel_map_of(active);
  p.reached = (uint8_t *)(*out)->data;
  MT_LAUNCH(device, find_reached, mt_grid(device, p.pixels), MT_BLOCK, 0, p);
  return MT_OK;
}

// One sum per phase: the pixels of dx that share their remainder modulo the stride share their taps.
static int run_phases(mt_device *device, mt_tensor *dx, const mt_tensor *w, const mt_conv *g, const mt_tensor *valid,
                      mt_conv_sum *whole) {
  int64_t phases = 1;
  for (int32_t d = 0; d < g->dims; d++) {
    phases *= MT_MIN(g->stride[d], dx->shape[d + 2]);
  }
  for (int64_t k = 0; k < phases; k++) {
    mt_conv_sum c = *whole;
    mt_conv_taps list = {0, NULL, NULL};
    int64_t phase[MT_CONV_DIMS] = {0, 0, 0}, rest = k, start = 0, pixel = 0;
    c.active = mt_pixel_map_of(valid);
    for (int32_t d = g->dims - 1; d >= 0; d--) {
      const int32_t a = d + 3 - g->dims;
      const int64_t n = MT_MIN(g->stride[d], dx->shape[d + 2]);
      phase[d] = rest % n;
      rest /= n;
      start += phase[d] * c.y_step[a];
      pixel += phase[d] * c.active.step[a];
      c.grid[a] = (dx->shape[d + 2] - phase[d] - 1) / g->stride[d] + 1;
      c.y_step[a] *= g->stride[d];
      c.active.step[a] *= g->stride[d];
    }
    c.y = (char *)dx->data + start * mt_dtype_size(dx->dtype);
    if (c.active.data) {
      c.active.data = (const uint8_t *)c.active.data + pixel;
    }
    c.list = &list;
    int status = mt_conv_taps_new(&list, g);
    if (status == MT_OK) {
      mt_conv_taps_adjoint(&list, g, w->stride + 2, phase);
      status = sum(device, &c);
    }
    mt_free(list.offset);
    MT_TRY(status);
  }
  return MT_OK;
}

extern "C" int mt_conv_backward_input(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *w, const mt_tensor *b, const mt_conv *g,
                                      const mt_tensor *valid, const mt_tensor *active) {
  mt_device *device;
  mt_conv_sum c;
  mt_tensor *rows = NULL, *map = NULL, *bias = NULL;
  MT_TRY(mt_conv_check_backward_input(dx, dy, w, b, g, valid, active));
  const mt_tensor *const t[] = {dy, w, b, valid, active};
  MT_TRY(mt_check_together(mt_conv_name(g), dx, 5, t));
  if (dx->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_enter(&device, dx));
  memset(&c, 0, sizeof c);
  int status = mt_conv_side_by_side(&rows, dy);
  status = status ? status : mt_tile_bias(&bias, b, dy->dtype);
  if (status == MT_OK && active && !valid && !b) {
    status = reached(&map, device, dx, active, g);
  }
  if (status == MT_OK) {
    set_axes(&c, dx, g, true);
    c.activation = MT_ACTIVATION_IDENTITY;
    c.op = mt_conv_name(g);
    c.dtype = dy->dtype;
    c.x = mt_image_of(rows, active);
    c.channels = w->shape[0] / g->groups;
    c.outputs = w->shape[1];
    c.w = w->data;
    c.w_group = c.channels * w->stride[0];
    c.w_channel = w->stride[0];
    c.w_output = w->stride[1];
    c.bias = bias;
    status = run_phases(device, dx, w, g, map ? map : valid, &c);
  }
  mt_tensor_release(map);
  mt_tensor_release(bias);
  mt_tensor_release(rows);
  return status;
}
