// masked_conv_window: see masked_conv_window.h.
#include "masked_conv_window.h"

// The offset of tap t at output position o of one axis, or -1 outside the image.
static int64_t tap_position(const mt_windows *c, int32_t d, int64_t o, int64_t t) {
  int64_t i = o * c->stride[d] + t * c->dilation[d] - c->pad[d];
  return i >= 0 && i < c->in[d] ? i : -1;
}

// Adds the weights of one tap to K, and those times the mask to S. mask: at the tap's pixel, NULL: all valid; S or K may be
// NULL. The channels of a tap are summed first: a mask of one channel, whose weights were summed when they were loaded, and
// one that repeats it in every channel give the same bits.
static void add_weights(const mt_windows *c, const double *mask, const double *weight, double *S, double *K) {
  enum { BLOCK = 64 };
  for (int64_t first = 0; first < c->filters; first += BLOCK) {
    double valid[BLOCK] = {0}, all[BLOCK] = {0};
    int64_t count = MT_MIN(BLOCK, c->filters - first);
    for (int64_t k = 0; k < c->channels; k++) {
      const double m = mask ? mask[k * c->pixels] : 1, *w = weight + k * c->filters + first;
      for (int64_t f = 0; f < count && S && m != 0; f++) {
        valid[f] += w[f] * m;
      }
      for (int64_t f = 0; f < count && K; f++) {
        all[f] += w[f];
      }
    }
    for (int64_t f = 0; f < count; f++) {
      if (S) {
        S[first + f] += valid[f];
      }
      if (K) {
        K[first + f] += all[f];
      }
    }
  }
}

// One window of one group. mask: its sample's and group's; o: the output position.
static void fill_window(const mt_windows *c, const double *mask, const double *weight, const double *whole, const int64_t *o,
                        double *S, double *K) {
  int64_t from[3] = {0, 0, 0}, to[3] = {c->kernel[0], c->kernel[1], c->kernel[2]};
  bool inside = true;
  for (int32_t d = 0; d < 3; d++) {
    if (c->centre_only) {
      from[d] = c->kernel[d] / 2;
      to[d] = from[d] + 1;
    }
    inside = inside && tap_position(c, d, o[d], from[d]) >= 0 && tap_position(c, d, o[d], to[d] - 1) >= 0;
  }
  bool known = !c->erode && (c->border || inside);
  for (int64_t f = 0; f < c->filters; f++) {
    S[f] = c->erode ? 1 : 0;
    K[f] = known ? whole[f] : 0;
  }
  for (int64_t a = from[0]; a < to[0]; a++) {
    int64_t ia = tap_position(c, 0, o[0], a);
    for (int64_t b = from[1]; b < to[1]; b++) {
      int64_t ib = tap_position(c, 1, o[1], b);
      for (int64_t e = from[2]; e < to[2]; e++) {
        int64_t ie = tap_position(c, 2, o[2], e), at = (ia * c->in[1] + ib) * c->in[2] + ie;
        bool outside = ia < 0 || ib < 0 || ie < 0;
        if (c->erode) {
          const double m = outside ? (c->border ? 0 : 1) : mask[at];
          S[0] = m < S[0] ? m : S[0];
          K[0] = outside ? K[0] : 1;
        } else if (!outside && weight) {
          add_weights(c, mask + at, weight, S, known ? NULL : K);
        } else if (!outside) {
          S[0] += mask[at];
          K[0] += known ? 0 : (double)c->merged;
        }
        weight = weight ? weight + c->channels * c->filters : NULL;
      }
    }
  }
}

static void window_range(void *context, int64_t begin, int64_t end) {
  const mt_windows *c = context;
  for (int64_t index = begin; index < end; index++) {
    int64_t n = index / c->positions, p = index % c->positions;
    int64_t o[3] = {p / (c->out[1] * c->out[2]), p / c->out[2] % c->out[1], p % c->out[2]};
    for (int64_t g = 0; g < c->groups; g++) {
      int64_t result = (index * c->groups + g) * c->filters;
      fill_window(c, c->mask + (n * c->groups + g) * c->channels * c->pixels,
                  c->weight ? c->weight + g * c->taps * c->channels * c->filters : NULL, c->whole + g * c->filters, o,
                  c->S + result, c->K + result);
    }
  }
}

void mt_window_release(mt_window_work *w) {
  mt_tensor_release(w->mask);
  mt_free(w->weight);
  mt_free(w->whole);
  mt_free(w->result);
}

int mt_window_begin(const char *op, mt_window_work *k, const mt_tensor *mask, const mt_tensor *w, const mt_conv *g,
                          const mt_window *v) {
  MT_TRY(mt_check_real(op, "mask", mask));
  if (g == NULL || v == NULL || g->dims < 1 || g->dims > 3 || g->groups < 1) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: geometry: expected 1 to 3 spatial axes and at least 1 group", op);
  }
  MT_TRY(mt_check_ndim(op, "mask", mask, g->dims + 2));
  if (w != NULL) {
    MT_TRY(mt_check_dtype(op, "weight", w, mask->dtype));
    MT_TRY(mt_check_ndim(op, "weight", w, g->dims + 2));
    for (int32_t d = 0; d < g->dims; d++) {
      if (w->shape[2 + d] != g->kernel[d]) {
        return mt_fail(MT_ERROR_ARGUMENT, "%s: weight: expected kernel size %lld on axis %d, got %s", op,
                       (long long)g->kernel[d], d + 1, MT_SHAPE(w));
      }
    }
    if (w->shape[0] % g->groups != 0 || (mask->shape[1] != 1 && mask->shape[1] != w->shape[1] * g->groups)) {
      return mt_fail(MT_ERROR_ARGUMENT, "%s: mask %s and weight %s do not fit with %d groups", op, MT_SHAPE(mask), MT_SHAPE(w),
                     g->groups);
    }
  }
  if (mask->shape[1] != 1 && mask->shape[1] % g->groups != 0) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: mask: the channels of %s do not divide into %d groups", op, MT_SHAPE(mask),
                   g->groups);
  }
  if (v->multiplicity < 1 || !(v->eps >= 0)) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: multiplicity and eps: expected at least 1 and at least 0, got %lld and %g", op,
                   (long long)v->multiplicity, v->eps);
  }
  int64_t out[3], unused;
  MT_TRY(mt_conv_output_size(out, mask->shape + 2, g));
  int64_t results[6] = {mask->shape[0], mask->shape[1], w ? w->shape[0] : 1};
  memcpy(results + 3, out, sizeof(int64_t) * (size_t)g->dims);
  if (!mt_numel(&unused, g->dims + 3, results) || !mt_numel(&unused, g->dims, g->kernel)) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: the output size %s or the kernel %s does not fit in 64 bits", op,
                   MT_SIZES(g->dims, out), MT_SIZES(g->dims, g->kernel));
  }
  mt_windows *c = &k->c;
  for (int32_t d = 0; d < 3; d++) {
    int32_t s = d - (3 - g->dims);
    c->in[d] = s < 0 ? 1 : mask->shape[2 + s];
    c->out[d] = s < 0 ? 1 : out[s];
    c->kernel[d] = s < 0 ? 1 : g->kernel[s];
    c->stride[d] = s < 0 ? 1 : g->stride[s];
    c->dilation[d] = s < 0 ? 1 : g->dilation[s];
    c->pad[d] = s < 0 ? 0 : g->pad_before[s];
  }
  c->N = mask->shape[0];
  c->groups = mask->shape[1] == 1 ? 1 : g->groups;
  c->channels = mask->shape[1] / c->groups;
  c->merged = 1;
  c->filters = 1;
  c->positions = c->out[0] * c->out[1] * c->out[2];
  c->pixels = c->in[0] * c->in[1] * c->in[2];
  c->taps = c->kernel[0] * c->kernel[1] * c->kernel[2];
  c->border = v->border != 0;
  MT_TRY(mt_tensor_new(&k->mask, MT_FLOAT64, mask->ndim, mask->shape, NULL));
  MT_TRY(mt_tensor_copy(k->mask, mask));
  c->mask = k->mask->data;
  return MT_OK;
}

void mt_window_merge(mt_window_work *k, int how) {
  mt_windows *c = &k->c;
  double *out = k->mask->data;
  for (int64_t i = 0; i < c->N * c->groups; i++) {
    const double *in = c->mask + i * c->channels * c->pixels;
    double *to = out + i * c->pixels;  // never ahead of what is read
    memmove(to, in, sizeof(double) * (size_t)c->pixels);
    for (int64_t m = 1; m < c->channels; m++) {
      const double *from = in + m * c->pixels;
      for (int64_t p = 0; p < c->pixels; p++) {
        bool take = how == MT_MERGE_SMALLEST ? from[p] < to[p] : from[p] > to[p];
        to[p] = how == MT_MERGE_SUM ? to[p] + from[p] : take ? from[p] : to[p];
      }
    }
  }
  c->merged = how == MT_MERGE_SUM ? c->channels : 1;
  c->channels = 1;
}

// |w| or w^2 as (groups, taps, channels, filters); `centre` sums over the taps first. A one-channel mask sees the sum over
// the input channels.
int mt_window_weigh(mt_window_work *k, const mt_tensor *w, const mt_conv *g, int32_t norm, bool centre) {
  mt_windows *c = &k->c;
  mt_tensor *flat;
  MT_TRY(mt_tensor_new(&flat, MT_FLOAT64, w->ndim, w->shape, NULL));
  int status = mt_tensor_copy(flat, w);
  int64_t O = w->shape[0], C = w->shape[1], per_group = O / g->groups, taps = centre ? 1 : c->taps;
  // With one mask channel there is one mask group, and all filters belong to it.
  c->filters = c->groups == 1 ? O : per_group;
  int64_t count = c->groups * taps * c->channels * c->filters;
  k->weight = mt_alloc_array(MT_MAX(1, count), (int64_t)sizeof(double));
  if (k->weight == NULL || status != MT_OK) {
    mt_tensor_release(flat);
    return status != MT_OK ? status : MT_ERROR_MEMORY;
  }
  memset(k->weight, 0, sizeof(double) * (size_t)count);
  const double *value = flat->data;
  for (int64_t o = 0; o < O; o++) {
    int64_t group = c->groups == 1 ? 0 : o / per_group, f = c->groups == 1 ? o : o % per_group;
    for (int64_t i = 0; i < C; i++) {
      int64_t channel = c->channels == 1 ? 0 : i;
      for (int64_t t = 0; t < c->taps; t++, value++) {
        int64_t tap = centre ? 0 : t;
        k->weight[((group * taps + tap) * c->channels + channel) * c->filters + f] +=
            norm == MT_NORM_L2 ? *value * *value : fabs(*value);
      }
    }
  }
  c->taps = taps;
  c->weight = k->weight;
  mt_tensor_release(flat);
  return MT_OK;
}

// Fills S and K of every window.
int mt_window_sum(mt_window_work *k) {
  mt_windows *c = &k->c;
  int64_t count, rows;
  if (!mt_mul(&rows, c->N, c->positions) || !mt_mul(&count, rows, c->groups * c->filters)) {
    return mt_fail(MT_ERROR_ARGUMENT, "masked_conv: the output is too large");
  }
  k->result = mt_alloc_array(MT_MAX(1, 2 * count), (int64_t)sizeof(double));
  if (k->result == NULL) {
    return MT_ERROR_MEMORY;
  }
  c->S = k->result;
  c->K = k->result + count;
  // In the order in which windows are summed, so that a full window has S = K to the bit.
  k->whole = mt_alloc_array(c->groups * c->filters, (int64_t)sizeof(double));
  if (k->whole == NULL) {
    return MT_ERROR_MEMORY;
  }
  for (int64_t g = 0; g < c->groups; g++) {
    double *whole = k->whole + g * c->filters;
    for (int64_t f = 0; f < c->filters; f++) {
      whole[f] = c->weight ? 0 : (double)((c->centre_only ? 1 : c->taps) * c->merged);
    }
    for (int64_t t = 0; t < c->taps && c->weight; t++) {
      add_weights(c, NULL, c->weight + (g * c->taps + t) * c->channels * c->filters, NULL, whole);
    }
  }
  c->whole = k->whole;
  int64_t cost = c->taps * c->channels * c->filters * c->groups;
  return mt_parallel(rows, MT_MAX(1, 16384 / MT_MAX(1, cost)), window_range, c);
}

// Writes S, (N, *S', groups, filters), to out (N, 1 or O, *S'): a group's value repeats for each of its filters.
int mt_window_write(const char *op, mt_tensor *out, const mt_window_work *k, const mt_conv *g) {
  const mt_windows *c = &k->c;
  MT_TRY(mt_check_output(op, "output", out));
  MT_TRY(mt_check_real(op, "output", out));
  MT_TRY(mt_check_ndim(op, "output", out, g->dims + 2));
  int64_t have = c->groups * c->filters, want = out->shape[1];
  bool fits = out->shape[0] == c->N && (have == 0 ? want == 0 : want >= have && want % have == 0);
  for (int32_t d = 0; d < g->dims; d++) {
    fits = fits && out->shape[2 + d] == c->out[3 - g->dims + d];
  }
  if (!fits) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: output: expected (%lld, a multiple of %lld, *S'), got %s", op, (long long)c->N,
                   (long long)have, MT_SHAPE(out));
  }
  mt_tensor *flat;
  int64_t stride[MT_MAX_DIMS];
  mt_row_major(stride, out->ndim, out->shape);
  for (int32_t d = 2; d < out->ndim; d++) {
    stride[d] *= want;
  }
  stride[1] = 1;
  MT_TRY(mt_tensor_new(&flat, MT_FLOAT64, out->ndim, out->shape, stride));
  double *value = flat->data;
  for (int64_t i = 0; i < c->N * c->positions; i++) {
    for (int64_t o = 0; o < want; o++) {
      *value++ = c->S[i * have + o / (want / have)];
    }
  }
  int status = mt_tensor_copy(out, flat);
  mt_tensor_release(flat);
  return status;
}
