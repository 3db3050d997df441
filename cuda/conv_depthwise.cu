// conv_depthwise: convolution with one channel and one output per group. Nothing is shared between channels, so there is nothing for
// a matrix product: neighbouring threads take neighbouring channels of a pixel.
#include "conv.cuh"

// ---- sums over taps -----------------------------------------------------------------------------------------------------

template <typename E>
static __global__ void sum_taps(const mt_conv_source<E, true> x, const mt_conv_place<E> out, const E *w, int64_t taps, int64_t channels,
                                const int64_t *count, int64_t most) {
  typedef typename mt_wider<E>::type T;
  const int64_t n = (count ? *count : most) * channels;
  MT_EACH(i, n) {
    const int64_t m = i / channels, c = i % channels;
    const typename mt_conv_source<E, true>::Line line = x.line(m);
    T sum = 0;
    for (int64_t j = 0; j < taps; j++) {
      const mt_tap *t = x.taps + j;
      const typename mt_conv_source<E, true>::Column column = {t->x, t->valid, {t->at[0], t->at[1], t->at[2]}};
      const E *p = x.at(line, column, c);
      sum = p ? fma((T)*p, (T)w[j * channels + c], sum) : sum;
    }
    out.store(out.row(m, 0), c, sum, 0);
  }
}

template <typename E>
static int run_sum(mt_device *device, const mt_conv_sum *c, const mt_tap_list *taps, const mt_pixels *pixels, const void *w) {
  mt_conv_source<E, true> a;
  mt_conv_source_of(&a, &c->x, 1, taps, &pixels->walk, c->mul);
  const mt_conv_place<E> out = mt_conv_place_of<E>(c, &pixels->walk, c->groups);
  MT_LAUNCH(device, sum_taps<E>, mt_grid(device, pixels->most * c->groups), MT_BLOCK, 0, a, out, (const E *)w, taps->count, c->groups,
            pixels->count, pixels->most);
  return MT_OK;
}

int mt_conv_depthwise_sum(mt_device *device, const mt_conv_sum *c, const mt_tap_list *taps, const mt_pixels *pixels, const void *w) {
  return MT_STORED_TEMPLATE(c->dtype, run_sum, device, c, taps, pixels, w);
}

// ---- gradient of the weights --------------------------------------------------------------------------------------------

enum { TAPS = 8 };

// A thread adds up one tap of one channel over one split, in order, in double. Blocks: 32 channels, 8 taps.
template <typename E>
static __global__ void sum_products(const mt_conv_source<E, true> x, const mt_image dy, int64_t channels, int64_t taps,
                                    const int64_t *begin, const int64_t *end, double *sums) {
  const int64_t c = (int64_t)blockIdx.y * MT_WARP + threadIdx.x, j = (int64_t)blockIdx.z * TAPS + threadIdx.y, s = blockIdx.x;
  if (c >= channels || j >= taps) {
    return;
  }
  const mt_tap *t = x.taps + j;
  const typename mt_conv_source<E, true>::Column column = {t->x, t->valid, {t->at[0], t->at[1], t->at[2]}};
  double sum = 0;
  const int64_t last = end[s];
  for (int64_t i = begin[s]; i < last; i++) {
    const mt_pixel pixel = mt_pixel_at(x.pixels, i);
    const E *p = x.at(x.line(i), column, c);
    if (p && pixel.n >= 0) {
      sum = fma((double)*p, (double)((const E *)dy.data)[mt_pixel_offset(dy.sample, dy.step, pixel) + c], sum);
    }
  }
  sums[(s * taps + j) * channels + c] = sum;
}

template <typename E>
static __global__ void add_products(E *dw, const mt_tap *taps, int64_t count, int64_t channels, int64_t step, const double *sums,
                                    int64_t splits) {
  MT_EACH(i, count * channels) {
    double sum = 0;
    for (int64_t s = 0; s < splits; s++) {
      sum += sums[s * count * channels + i];
    }
    dw[taps[i / channels].w + i % channels * step] = (E)(typename mt_wider<E>::type)sum;
  }
}

template <typename E>
static int add_up(mt_device *device, mt_tensor *dw, const mt_tap_list *taps, int64_t channels, const double *sums, int64_t splits) {
  MT_LAUNCH(device, add_products<E>, mt_grid(device, taps->count * channels), MT_BLOCK, 0, (E *)dw->data, taps->taps, taps->count,
            channels, dw->stride[0], sums, splits);
  return MT_OK;
}

template <typename E>
static int run_gradient(mt_device *device, mt_tensor *dw, const mt_image *dy, const mt_image *x, const mt_conv *g,
                        const mt_tap_list *taps) {
  mt_conv_source<E, true> a;
  mt_pixels pixels;
  mt_scratch sums;
  int64_t mul[3];
  const int64_t channels = g->groups;
  for (int d = 0; d < 3; d++) {
    mul[d] = d < 3 - g->dims ? 1 : g->stride[d - (3 - g->dims)];
  }
  MT_TRY(pixels.find(device, dy->samples, dy->size, &dy->valid, MT_TILE_TERMS));
  const mt_pixel_cut cut = {MT_MAX(1, dy->samples / 256), 16, g->dims == 1 ? 512 : 0};
  MT_TRY(pixels.cut(&cut, MT_TILE_TERMS));
  mt_conv_source_of(&a, x, 1, taps, &pixels.walk, mul);
  MT_TRY(sums.take(device, pixels.splits * taps->count * channels, sizeof(double)));
  const dim3 grid((unsigned)pixels.splits, (unsigned)((channels + MT_WARP - 1) / MT_WARP), (unsigned)((taps->count + TAPS - 1) / TAPS));
  MT_LAUNCH(device, sum_products<E>, grid, dim3(MT_WARP, TAPS), 0, a, *dy, channels, taps->count, pixels.begin, pixels.end,
            (double *)sums.data);
  return MT_STORED_TEMPLATE(dw->dtype, add_up, device, dw, taps, channels, (const double *)sums.data, pixels.splits);
}

int mt_conv_depthwise_gradient(mt_device *device, mt_tensor *dw, const mt_image *dy, const mt_image *x, int32_t dtype,
                               const mt_conv *g, const mt_tap_list *taps) {
  return MT_STORED_TEMPLATE(dtype, run_gradient, device, dw, dy, x, g, taps);
}
