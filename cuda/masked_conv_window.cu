// masked_conv_window: masks and ratios from what every window of a convolution holds, see core/masked_conv.h and
// core/masked_conv_window.h, which has the problem. A thread adds up one window, in double: its taps in order, and at each the
// channels in order. So S and K of a full window are the same numbers, added in the same order.
#include "masked_conv_window.cuh"

enum { SUM = MT_MERGE_SUM, SMALLEST = MT_MERGE_SMALLEST };

// The problem as kernels see it: core/masked_conv_window.h without what only the host needs. Steps in elements.
typedef struct {
  int64_t in[3], out[3], kernel[3], stride[3], dilation[3], pad[3], from[3], to[3];
  int64_t N, groups, channels, filters, pixels, windows, taps;
  int64_t border, strict, finish;
  double eps, multiplicity;
  const void *mask;
  int64_t step_n, step_c, step[3];
  const uint8_t *kinds;
} windows;

// Where a result goes.
typedef struct {
  void *data;
  int64_t finish, n, c, step[3];
} result;

static windows windows_of(const mt_windows *c) {
  windows w;
  memset(&w, 0, sizeof w);
  w.windows = 1;
  for (int d = 0; d < 3; d++) {
    w.in[d] = c->in[d];
    w.out[d] = c->out[d];
    w.kernel[d] = c->kernel[d];
    w.stride[d] = c->stride[d];
    w.dilation[d] = c->dilation[d];
    w.pad[d] = c->pad[d];
    w.from[d] = c->from[d];
    w.to[d] = c->to[d];
    w.step[d] = c->step[d] / c->size;
    w.windows *= c->out[d];
  }
  w.N = c->N;
  w.groups = c->groups;
  w.channels = c->channels;
  w.filters = c->filters;
  w.pixels = c->pixels;
  w.taps = c->taps;
  w.border = c->border;
  w.strict = c->strict;
  w.finish = c->finish;
  w.eps = c->eps;
  w.multiplicity = c->multiplicity;
  w.mask = c->mask;
  w.step_n = c->step_n / c->size;
  w.step_c = c->step_c / c->size;
  w.kinds = c->kinds;
  return w;
}

static result result_of(const mt_tensor *t, int64_t finish) {
  result r;
  memset(&r, 0, sizeof r);
  r.data = t->data;
  r.finish = finish;
  r.n = t->stride[0];
  r.c = t->stride[1];
  for (int32_t d = 2, a = 5 - t->ndim; d < t->ndim; d++, a++) {
    r.step[a] = t->stride[d];
  }
  return r;
}

// core/masked_conv_window.c has the same for rows.
MT_DEVICE double finished(const windows &w, int64_t how, double S, double K) {
  switch (how) {
    case MT_FINISH_KEEP: return S;
    case MT_FINISH_GROW: {
      const double v = S * w.multiplicity;
      return v < 1 ? v : 1;
    }
    case MT_FINISH_SMALLEST: return K == 0 ? 0 : S;
    case MT_FINISH_COVERAGE: return K == 0 ? 0 : S / K;
    case MT_FINISH_CONFIDENCE: return K + w.eps == 0 ? 0 : S / (K + w.eps);
    default: {
      const double valid = S * w.multiplicity + w.eps, q = valid > 0 ? K * w.multiplicity / valid : 0;
      return how == MT_FINISH_ROOT ? sqrt(q) : q;
    }
  }
}

// The window's position, and the number of the pixel under a tap, or -1.
MT_DEVICE void window_at(const windows &w, int64_t i, int64_t o[3]) {
#pragma unroll
  for (int d = 2; d >= 0; d--) {
    o[d] = i % w.out[d];
    i /= w.out[d];
  }
}

MT_DEVICE int64_t pixel_at(const windows &w, const int64_t o[3], int64_t a, int64_t b, int64_t e, int64_t at[3]) {
  const int64_t tap[3] = {a, b, e};
  bool inside = true;
#pragma unroll
  for (int d = 0; d < 3; d++) {
    at[d] = o[d] * w.stride[d] + tap[d] * w.dilation[d] - w.pad[d];
    inside = inside && at[d] >= 0 && at[d] < w.in[d];
  }
  return inside ? (at[0] * w.in[1] + at[1]) * w.in[2] + at[2] : -1;
}

MT_DEVICE int64_t mask_offset(const windows &w, int64_t n, int64_t g, const int64_t at[3]) {
  return n * w.step_n + g * w.channels * w.step_c + at[0] * w.step[0] + at[1] * w.step[1] + at[2] * w.step[2];
}

// ---- counts -------------------------------------------------------------------------------------------------------------

// merged (N, groups, pixels): the channels of a pixel as one number.
template <typename M> static __global__ void merge_channels(const windows w, int how, double *merged) {
  MT_EACH(i, w.N * w.groups * w.pixels) {
    const int64_t p = i % w.pixels, g = i / w.pixels % w.groups, n = i / w.pixels / w.groups;
    const uint8_t kind = w.kinds[n * w.pixels + p];
    double v = kind == MT_MASK_ZERO ? 0 : how == SUM ? (double)w.channels : 1;
    if (kind > MT_MASK_ONE) {
      const int64_t at[3] = {p / w.in[2] / w.in[1], p / w.in[2] % w.in[1], p % w.in[2]};
      const M *m = (const M *)w.mask + mask_offset(w, n, g, at);
      v = (double)m[0];
      for (int64_t c = 1; c < w.channels; c++) {
        const double u = (double)m[c * w.step_c];
        v = how == SUM ? v + u : how == SMALLEST ? (u < v ? u : v) : u > v ? u : v;
      }
    }
    merged[i] = v;
  }
}

// values (N, groups, windows)
static __global__ void count_windows(const windows w, int how, const double *merged, double *values) {
  const double per_tap = how == SUM ? (double)w.channels : 1;
  MT_EACH(i, w.N * w.groups * w.windows) {
    const double *m = merged + i / w.windows * w.pixels;
    int64_t o[3], at[3];
    window_at(w, i % w.windows, o);
    double S = how == SMALLEST ? 1 : 0, K = 0;
    for (int64_t a = w.from[0]; a < w.to[0]; a++) {
      for (int64_t b = w.from[1]; b < w.to[1]; b++) {
        for (int64_t e = w.from[2]; e < w.to[2]; e++) {
          const int64_t p = pixel_at(w, o, a, b, e, at);
          if (how == SMALLEST) {
            const double v = p >= 0 ? m[p] : w.border ? 0 : 1;
            S = v < S ? v : S;
            K = p >= 0 ? 1 : K;
          } else {
            S += p >= 0 ? m[p] : 0;
            K += p >= 0 || w.border ? per_tap : 0;
          }
        }
      }
    }
    values[i] = finished(w, w.finish, S, K);
  }
}

// The group's value for each of its filters. channels_first: neighbouring threads take neighbouring channels.
template <typename T> static __global__ void spread(const windows w, const result r, const double *values, int channels_first) {
  const int64_t outputs = w.groups * w.filters;
  MT_EACH(i, w.N * outputs * w.windows) {
    const int64_t n = i / outputs / w.windows, rest = i % (outputs * w.windows);
    const int64_t c = channels_first ? rest % outputs : rest / w.windows, p = channels_first ? rest / outputs : rest % w.windows;
    int64_t o[3];
    window_at(w, p, o);
    ((T *)r.data)[n * r.n + c * r.c + o[0] * r.step[0] + o[1] * r.step[1] + o[2] * r.step[2]] =
      (T)values[(n * w.groups + c / w.filters) * w.windows + p];
  }
}

int mt_window_launch_count(mt_device *device, const mt_windows *c, const mt_tensor *out, int how) {
  mt_scratch merged, values;
  const windows w = windows_of(c);
  const result r = result_of(out, c->finish);
  const int64_t pixels = w.N * w.groups * w.pixels, results = w.N * w.groups * w.windows;
  if (out->numel == 0) {
    return MT_OK;
  }
  MT_TRY(merged.take(device, pixels, sizeof(double)));
  MT_TRY(values.take(device, results, sizeof(double)));
  double *m = (double *)merged.data, *v = (double *)values.data;
  const unsigned grid = mt_grid(device, pixels), all = mt_grid(device, out->numel);
  const int channels_first = r.c == 1 && w.groups * w.filters > 1;
  switch (c->dtype) {
    case MT_FLOAT32: MT_LAUNCH(device, merge_channels<float>, grid, MT_BLOCK, 0, w, how, m); break;
    case MT_FLOAT64: MT_LAUNCH(device, merge_channels<double>, grid, MT_BLOCK, 0, w, how, m); break;
    default: MT_LAUNCH(device, merge_channels<uint8_t>, grid, MT_BLOCK, 0, w, how, m);
  }
  MT_LAUNCH(device, count_windows, mt_grid(device, results), MT_BLOCK, 0, w, how, (const double *)m, v);
  if (out->dtype == MT_FLOAT32) {
    MT_LAUNCH(device, spread<float>, all, MT_BLOCK, 0, w, r, (const double *)v, channels_first);
  } else {
    MT_LAUNCH(device, spread<double>, all, MT_BLOCK, 0, w, r, (const double *)v, channels_first);
  }
  return MT_OK;
}

// ---- weights ------------------------------------------------------------------------------------------------------------

typedef struct {
  const void *w;
  int64_t outputs, channels;         // of w; the channels of a group
  int64_t step_o, step_c, step[3];
  int64_t squares, centre;
  double *merged, *each;             // (taps, outputs), (taps, channels, outputs) or NULL; centre: one tap
} weight_plan;

MT_DEVICE double weight_of(double v, int64_t squares) { return squares ? v * v : fabs(v); }

// A thread per filter and tap. Channels in order; for the centre, each with all its taps.
template <typename T> static __global__ void weigh_filters(const windows w, const weight_plan p) {
  const int64_t taps = p.centre ? 1 : w.taps, all = w.kernel[0] * w.kernel[1] * w.kernel[2];
  MT_EACH(i, taps * p.outputs) {
    const int64_t o = i % p.outputs, tap = i / p.outputs;
    double total = 0;
    for (int64_t c = 0; c < p.channels; c++) {
      double sum = 0;
      for (int64_t t = p.centre ? 0 : tap; t < (p.centre ? all : tap + 1); t++) {
        const int64_t at = t / w.kernel[2] / w.kernel[1] * p.step[0] + t / w.kernel[2] % w.kernel[1] * p.step[1] + t % w.kernel[2] * p.step[2];
        sum += weight_of((double)((const T *)p.w)[o * p.step_o + c * p.step_c + at], p.squares);
      }
      total += sum;
      if (p.each) {
        p.each[(tap * p.channels + c) * p.outputs + o] = sum;
      }
    }
    p.merged[i] = total;
  }
}

// The unweighted coverage: what a filter of zeros gets.
template <typename M> static __device__ __noinline__ double coverage(const windows &w, int64_t n, int64_t g, const int64_t o[3]) {
  double S = 0, K = 0;
  for (int64_t a = w.from[0]; a < w.to[0]; a++) {
    for (int64_t b = w.from[1]; b < w.to[1]; b++) {
      for (int64_t e = w.from[2]; e < w.to[2]; e++) {
        int64_t at[3];
        const bool inside = pixel_at(w, o, a, b, e, at) >= 0;
        double sum = 0;
        for (int64_t c = 0; c < w.channels && inside; c++) {
          sum += (double)((const M *)w.mask)[mask_offset(w, n, g, at) + c * w.step_c];
        }
        S += sum;
        K += inside || w.border ? (double)w.channels : 0;
      }
    }
  }
  return K == 0 ? 0 : S / K;
}

// A thread per window and filter; neighbours take neighbouring filters, whose weights lie together and whose pixels are the same.
template <typename T, typename M>
static __global__ void weigh_windows(const windows w, const weight_plan p, const result first, const result second) {
  MT_EACH(i, w.N * w.windows * p.outputs) {
    const int64_t f = i % p.outputs, window = i / p.outputs % w.windows, n = i / p.outputs / w.windows, g = f / w.filters;
    const uint8_t *kinds = w.kinds + n * w.pixels;
    int64_t o[3], at[3], t = 0;
    window_at(w, window, o);
    double S = 0, K = 0;
    for (int64_t a = w.from[0]; a < w.to[0]; a++) {
      for (int64_t b = w.from[1]; b < w.to[1]; b++) {
        for (int64_t e = w.from[2]; e < w.to[2]; e++, t++) {
          const double weight = p.merged[t * p.outputs + f];
          const int64_t pixel = pixel_at(w, o, a, b, e, at);
          const uint8_t kind = pixel >= 0 ? kinds[pixel] : (uint8_t)MT_MASK_ZERO;
          K += pixel >= 0 || w.border ? weight : 0;
          if (kind == MT_MASK_ONE) {
            S += weight;
          } else if (kind > MT_MASK_ONE) {
            const M *m = (const M *)w.mask + mask_offset(w, n, g, at);
            if (kind == MT_MASK_EQUAL || w.channels == 1) {
              S += weight * (double)m[0];
            } else {
              double sum = 0;
              for (int64_t c = 0; c < w.channels; c++) {
                sum += (double)m[c * w.step_c] * p.each[(t * w.channels + c) * p.outputs + f];
              }
              S += sum;
            }
          }
        }
      }
    }
    const int64_t x[3] = {o[0], o[1], o[2]};
    for (int k = 0; k < 2; k++) {
      const result &r = k == 0 ? first : second;
      if (r.data) {
        double v = finished(w, r.finish, S, K);
        if (r.finish == MT_FINISH_CONFIDENCE && K == 0) {
          v = w.strict ? 0 : coverage<M>(w, n, g, x);
        }
        ((T *)r.data)[n * r.n + f * r.c + x[0] * r.step[0] + x[1] * r.step[1] + x[2] * r.step[2]] = (T)v;
      }
    }
  }
}

template <typename T, typename M>
static int launch_weigh(mt_device *device, const windows &w, const weight_plan &p, const result &first, const result &second) {
  MT_LAUNCH(device, weigh_filters<T>, mt_grid(device, (p.centre ? 1 : w.taps) * p.outputs), MT_BLOCK, 0, w, p);
  MT_LAUNCH(device, (weigh_windows<T, M>), mt_grid(device, w.N * w.windows * p.outputs), MT_BLOCK, 0, w, p, first, second);
  return MT_OK;
}

int mt_window_launch_weigh(mt_device *device, const mt_windows *c, const mt_tensor *out, const mt_tensor *w, bool squares) {
  mt_scratch merged, each;
  const windows s = windows_of(c);
  if (out->numel == 0) {
    return MT_OK;
  }
  const result first = result_of(out, c->finish);
  result second;
  memset(&second, 0, sizeof second);
  if (c->ratio) {
    second = result_of(c->ratio, MT_FINISH_RATIO);
  }
  weight_plan p;
  memset(&p, 0, sizeof p);
  p.w = w->data;
  p.outputs = w->shape[0];
  p.channels = w->shape[1];
  p.step_o = w->stride[0];
  p.step_c = w->stride[1];
  for (int32_t d = 2, a = 5 - w->ndim; d < w->ndim; d++, a++) {
    p.step[a] = w->stride[d];
  }
  p.squares = squares;
  p.centre = c->centre;
  MT_TRY(merged.take(device, MT_MAX(1, s.taps * p.outputs), sizeof(double)));
  p.merged = (double *)merged.data;
  if (s.channels > 1) {
    MT_TRY(each.take(device, MT_MAX(1, s.taps * p.outputs * p.channels), sizeof(double)));
    p.each = (double *)each.data;
  }
  const bool single = out->dtype == MT_FLOAT32;
  if (c->dtype == MT_BOOL) {
    return single ? launch_weigh<float, uint8_t>(device, s, p, first, second) : launch_weigh<double, uint8_t>(device, s, p, first, second);
  }
  return single ? launch_weigh<float, float>(device, s, p, first, second) : launch_weigh<double, double>(device, s, p, first, second);
}
