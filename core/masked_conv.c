// masked_conv: see masked_conv.h. First what windows hold (double precision, once per mask and geometry), then the pass
// that finishes a convolution's result.
#ifdef REAL

#define AT(k) (*(const REAL *)(p[k] + i * step[k]))

// y, raw, r, b, m
static void FN(finish_row)(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const bool has_bias = *(const bool *)context;
  for (int64_t i = 0; i < n; i++) {
    const REAL r = AT(2), m = AT(4);
    REAL v = r == 0 ? 0 : AT(1) * r;
    if (has_bias) {  // adding 0 would turn -0 into 0
      v += AT(3);
    }
    *(REAL *)(p[0] + i * step[0]) = m == 0 ? 0 : v * m;
  }
}

// draw, dy, r, m
static void FN(finish_backward_row)(char *const *p, const int64_t *step, int64_t n, const void *context) {
  (void)context;
  for (int64_t i = 0; i < n; i++) {
    const REAL r = AT(2), m = AT(3);
    *(REAL *)(p[0] + i * step[0]) = m == 0 || r == 0 ? 0 : AT(1) * m * r;
  }
}

static void FN(power_row)(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const double alpha = *(const double *)context;
  for (int64_t i = 0; i < n; i++) {
    const REAL q = AT(1);
    // Powers in double: a float32 result is then the rounded float64 one. pow(1, alpha) is 1 exactly.
    *(REAL *)(p[0] + i * step[0]) = q == 0 ? 0 : (REAL)(alpha == 1 ? q : alpha == 0.5 ? sqrt(q) : pow(q, alpha));
  }
}

// sum + the sum of dy * m * raw * r * log(q) along one row of positions of one sample and channel
static double FN(alpha_row)(double sum, char *const *p, const int64_t *step, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    const double dy = AT(0), raw = AT(1), r = AT(2), q = AT(3), m = AT(4);
    if (m != 0 && q != 0) {
      sum += dy * m * raw * r * log(q);
    }
  }
  return sum;
}

#undef AT

#else
#include "common.h"
#include "loop.h"
#define MT_SOURCE "masked_conv.c"
#include "twice.h"

// ---- windows ----------------------------------------------------------------------------------------------------

// Three spatial axes always; missing ones come first, with one position and one tap.
typedef struct {
  int64_t in[3], out[3], kernel[3], stride[3], dilation[3], pad[3];
  int64_t N, groups, channels;  // samples, mask groups, mask channels per group
  int64_t merged;               // how many channels were summed into each of those (counts)
  int64_t filters;              // results per group
  int64_t positions, pixels, taps;
  const double *mask;           // (N, groups, channels, *S)
  const double *weight;         // (groups, taps, channels, filters), NULL: counts
  const double *whole;          // (groups, filters): K of a window without taps outside the image
  double *S, *K;                // (N, *S', groups, filters); erode: S holds the minimum, K whether a tap lies inside
  bool border, erode, centre_only;
} windows;

// The offset of tap t at output position o of one axis, or -1 outside the image.
static int64_t tap_position(const windows *c, int32_t d, int64_t o, int64_t t) {
  int64_t i = o * c->stride[d] + t * c->dilation[d] - c->pad[d];
  return i >= 0 && i < c->in[d] ? i : -1;
}

// Adds the weights of one tap to K, and those times the mask to S. at: its pixel; K is NULL when it is known.
static void add_tap(const windows *c, const double *mask, const double *weight, int64_t at, double *S, double *K) {
  for (int64_t k = 0; k < c->channels; k++) {
    const double m = mask[k * c->pixels + at];
    if (weight == NULL) {
      S[0] += m;
      if (K) {
        K[0] += (double)c->merged;
      }
      continue;
    }
    const double *w = weight + k * c->filters;
    for (int64_t f = 0; f < c->filters && m != 0; f++) {
      S[f] += w[f] * m;
    }
    for (int64_t f = 0; f < c->filters && K; f++) {
      K[f] += w[f];
    }
  }
}

// One window of one group. mask: its sample's and group's; o: the output position.
static void fill_window(const windows *c, const double *mask, const double *weight, const double *whole, const int64_t *o,
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
        } else if (!outside) {
          add_tap(c, mask, weight, at, S, known ? NULL : K);
        }
        weight = weight ? weight + c->channels * c->filters : NULL;
      }
    }
  }
}

static void window_range(void *context, int64_t begin, int64_t end) {
  const windows *c = context;
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

// Everything a call needs; released in one place.
typedef struct {
  windows c;
  mt_tensor *mask;
  double *weight, *whole, *result;
} work;

static void finish_work(work *w) {
  mt_tensor_release(w->mask);
  mt_free(w->weight);
  mt_free(w->whole);
  mt_free(w->result);
}

static int check_geometry(const char *op, work *k, const mt_tensor *mask, const mt_tensor *w, const mt_conv *g,
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
  int64_t out[3];
  MT_TRY(mt_conv_output_size(out, mask->shape + 2, g));
  windows *c = &k->c;
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

// Where channels weigh the same, one pass merges those of a group: their sum, or for erode the smallest.
static void merge_channels(work *k) {
  windows *c = &k->c;
  double *out = k->mask->data;
  for (int64_t i = 0; i < c->N * c->groups; i++) {
    const double *in = c->mask + i * c->channels * c->pixels;
    double *to = out + i * c->pixels;  // never ahead of what is read
    memmove(to, in, sizeof(double) * (size_t)c->pixels);
    for (int64_t m = 1; m < c->channels; m++) {
      const double *from = in + m * c->pixels;
      for (int64_t p = 0; p < c->pixels; p++) {
        to[p] = !c->erode ? to[p] + from[p] : from[p] < to[p] ? from[p] : to[p];
      }
    }
  }
  c->merged = c->channels;
  c->channels = 1;
}

// |w| or w^2 as (groups, taps, channels, filters); `centre` sums over the taps first. A one-channel mask sees the sum over
// the input channels.
static int load_weights(work *k, const mt_tensor *w, const mt_conv *g, int32_t norm, bool centre) {
  windows *c = &k->c;
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
static int sum_windows(work *k) {
  windows *c = &k->c;
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
  for (int64_t i = 0; i < c->groups * c->filters; i++) {
    const double *w = c->weight ? c->weight + i / c->filters * c->taps * c->channels * c->filters + i % c->filters : NULL;
    k->whole[i] = w ? 0 : (double)((c->centre_only ? 1 : c->taps) * c->merged);
    for (int64_t t = 0; t < c->taps * c->channels && w; t++) {
      k->whole[i] += w[t * c->filters];
    }
  }
  c->whole = k->whole;
  int64_t cost = c->taps * c->channels * c->filters * c->groups;
  return mt_parallel(rows, MT_MAX(1, 16384 / MT_MAX(1, cost)), window_range, c);
}

// Writes S, (N, *S', groups, filters), to out (N, 1 or O, *S'): a group's value repeats for each of its filters.
static int write_windows(const char *op, mt_tensor *out, const work *k, const mt_conv *g) {
  const windows *c = &k->c;
  MT_TRY(mt_check_output(op, "output", out));
  MT_TRY(mt_check_real(op, "output", out));
  MT_TRY(mt_check_ndim(op, "output", out, g->dims + 2));
  int64_t have = c->groups * c->filters, want = out->shape[1];
  bool fits = out->shape[0] == c->N && want >= have && want % have == 0;
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

static int64_t results(const windows *c) { return c->N * c->positions * c->groups * c->filters; }

// ---- mask rules ---------------------------------------------------------------------------------------------------

// The unweighted rules, into S.
static int unweighted_mask(work *k, const mt_tensor *mask, const mt_conv *g, const mt_window *v, int32_t rule) {
  MT_TRY(check_geometry("masked_conv", k, mask, NULL, g, v));
  windows *c = &k->c;
  c->erode = rule == MT_RULE_ERODE;
  c->centre_only = rule == MT_RULE_KEEP;
  merge_channels(k);
  MT_TRY(sum_windows(k));
  double multiplicity = (double)v->multiplicity;
  for (int64_t i = 0; i < results(c); i++) {
    double *S = c->S + i;
    switch (rule) {
      case MT_RULE_KEEP: *S /= (double)c->merged; break;
      case MT_RULE_GROW: *S = MT_MIN(1, *S * multiplicity); break;
      case MT_RULE_ERODE: *S = c->K[i] == 0 ? 0 : *S; break;
      default: *S = c->K[i] == 0 ? 0 : *S / c->K[i];
    }
  }
  return MT_OK;
}

static int weighted_mask(work *k, const mt_tensor *mask, const mt_tensor *w, const mt_conv *g, const mt_window *v,
                         int32_t rule) {
  bool centre = rule == MT_RULE_CENTRE, zeros = false;
  MT_TRY(check_geometry("masked_conv", k, mask, w, g, v));
  windows *c = &k->c;
  MT_TRY(load_weights(k, w, g, MT_NORM_L1, centre));
  c->centre_only = centre;
  // Outside the image the centre has weight but no validity.
  c->border = c->border || centre;
  MT_TRY(sum_windows(k));
  for (int64_t i = 0; i < results(c); i++) {
    double total = c->K[i] + v->eps;
    zeros = zeros || c->K[i] == 0;
    c->S[i] = total == 0 ? 0 : c->S[i] / total;
  }
  if (!zeros || v->strict) {
    return MT_OK;
  }
  work plain = {0};
  int status = unweighted_mask(&plain, mask, g, v, centre ? MT_RULE_KEEP : MT_RULE_COVERAGE);
  for (int64_t i = 0; i < results(c) && status == MT_OK; i++) {
    c->S[i] = c->K[i] == 0 ? plain.c.S[i / c->filters] : c->S[i];
  }
  finish_work(&plain);
  return status;
}

int mt_masked_conv_mask(mt_tensor *out, const mt_tensor *mask, const mt_tensor *w, const mt_conv *g, const mt_window *v,
                        int32_t rule) {
  work k = {0};
  if (rule < 0 || rule >= MT_RULES) {
    return mt_fail(MT_ERROR_ARGUMENT, "masked_conv: rule: expected 0 to %d, got %d", MT_RULES - 1, rule);
  }
  bool weighted = rule == MT_RULE_CONFIDENCE || rule == MT_RULE_CENTRE;
  if (weighted) {
    MT_TRY(mt_check_tensor("masked_conv", "weight", w));
  }
  int status = weighted ? weighted_mask(&k, mask, w, g, v, rule) : unweighted_mask(&k, mask, g, v, rule);
  status = status == MT_OK ? write_windows("masked_conv", out, &k, g) : status;
  finish_work(&k);
  return status;
}

// ---- re-weighting -------------------------------------------------------------------------------------------------

static int ratio(work *k, const mt_tensor *mask, const mt_tensor *w, const mt_conv *g, const mt_window *v, int32_t norm) {
  bool count = norm == MT_NORM_COUNT;
  MT_TRY(check_geometry("masked_conv", k, mask, count ? NULL : w, g, v));
  windows *c = &k->c;
  if (count) {
    merge_channels(k);
  } else {
    MT_TRY(load_weights(k, w, g, norm, false));
  }
  MT_TRY(sum_windows(k));
  double multiplicity = count ? (double)v->multiplicity : 1;
  for (int64_t i = 0; i < results(c); i++) {
    double valid = c->S[i] * multiplicity + v->eps, all = c->K[i] * multiplicity;
    double q = valid > 0 ? all / valid : 0;
    c->S[i] = norm == MT_NORM_L2 ? sqrt(q) : q;
  }
  return MT_OK;
}

int mt_masked_conv_ratio(mt_tensor *q, const mt_tensor *mask, const mt_tensor *w, const mt_conv *g, const mt_window *v,
                         int32_t norm) {
  work k = {0};
  if (norm < 0 || norm >= MT_NORMS) {
    return mt_fail(MT_ERROR_ARGUMENT, "masked_conv: reweight: expected 0 to %d, got %d", MT_NORMS - 1, norm);
  }
  if (norm != MT_NORM_COUNT) {
    MT_TRY(mt_check_tensor("masked_conv", "weight", w));
  }
  int status = ratio(&k, mask, w, g, v, norm);
  status = status == MT_OK ? write_windows("masked_conv", q, &k, g) : status;
  finish_work(&k);
  return status;
}

int mt_masked_conv_power(mt_tensor *r, const mt_tensor *q, double alpha) {
  MT_TRY(mt_check_real("masked_conv", "ratio", q));
  MT_TRY(mt_check_like("masked_conv", "output", r, q));
  MT_TRY(mt_check_output("masked_conv", "output", r));
  MT_TRY(mt_check_overlap("masked_conv", r, q, true));
  return mt_loop_run(2, (const mt_tensor *const[]){r, q}, MT_REAL_FN(q->dtype, power_row), &alpha);
}

// ---- the finishing pass -------------------------------------------------------------------------------------------

// A tensor of one element, broadcast: the neutral element of an absent operand.
static mt_tensor constant(const void *value, int32_t dtype, int32_t ndim) {
  mt_tensor t = {.data = (void *)(uintptr_t)value, .numel = 1, .dtype = dtype, .ndim = ndim};
  for (int32_t d = 0; d < ndim; d++) {
    t.shape[d] = 1;
    t.stride[d] = 1;
  }
  return t;
}

static const float one_f32 = 1, zero_f32;
static const double one_f64 = 1, zero_f64;

static mt_tensor neutral(const mt_tensor *y, bool one) {
  const void *value = y->dtype == MT_FLOAT32 ? (one ? &one_f32 : &zero_f32) : (const void *)(one ? &one_f64 : &zero_f64);
  return constant(value, y->dtype, y->ndim);
}

// *out = t, or ones when t is NULL. t is (1 or N, 1 or O, *S').
static int factor(const char *argument, mt_tensor *out, const mt_tensor *t, const mt_tensor *y) {
  if (t == NULL) {
    *out = neutral(y, true);
    return MT_OK;
  }
  MT_TRY(mt_check_dtype("masked_conv", argument, t, y->dtype));
  bool fits = t->ndim == y->ndim;
  for (int32_t d = 0; d < y->ndim && fits; d++) {
    fits = t->shape[d] == y->shape[d] || (d < 2 && t->shape[d] == 1);
  }
  if (!fits) {
    return mt_fail(MT_ERROR_ARGUMENT, "masked_conv: %s: %s does not fit the output %s", argument, MT_SHAPE(t), MT_SHAPE(y));
  }
  *out = *t;
  return MT_OK;
}

static int check_finish(mt_tensor *y, const mt_tensor *x) {
  MT_TRY(mt_check_real("masked_conv", "input", x));
  MT_TRY(mt_check_like("masked_conv", "output", y, x));
  MT_TRY(mt_check_output("masked_conv", "output", y));
  MT_TRY(mt_check_overlap("masked_conv", y, x, true));
  return y->ndim < 2 ? mt_fail(MT_ERROR_ARGUMENT, "masked_conv: input: expected (N, O, *S), got %s", MT_SHAPE(x)) : MT_OK;
}

int mt_masked_conv_finish(mt_tensor *y, const mt_tensor *raw, const mt_tensor *r, const mt_tensor *b, const mt_tensor *m) {
  mt_tensor ratios, gate, bias = {0};
  MT_TRY(check_finish(y, raw));
  MT_TRY(factor("ratio", &ratios, r, y));
  MT_TRY(factor("mask", &gate, m, y));
  bool has_bias = b != NULL;
  if (has_bias) {
    MT_TRY(mt_check_dtype("masked_conv", "bias", b, y->dtype));
    MT_TRY(mt_check_shape("masked_conv", "bias", b, 1, y->shape + 1));
    bias = constant(b->data, y->dtype, y->ndim);
    bias.shape[1] = b->shape[0];
    bias.stride[1] = b->stride[0];
  } else {
    bias = neutral(y, false);
  }
  return mt_loop_run(5, (const mt_tensor *const[]){y, raw, &ratios, &bias, &gate}, MT_REAL_FN(y->dtype, finish_row),
                     &has_bias);
}

int mt_masked_conv_finish_backward(mt_tensor *draw, const mt_tensor *dy, const mt_tensor *r, const mt_tensor *m) {
  mt_tensor ratios, gate;
  MT_TRY(check_finish(draw, dy));
  MT_TRY(factor("ratio", &ratios, r, draw));
  MT_TRY(factor("mask", &gate, m, draw));
  return mt_loop_run(4, (const mt_tensor *const[]){draw, dy, &ratios, &gate}, MT_REAL_FN(draw->dtype, finish_backward_row),
                     NULL);
}

// Sums of single channels of single samples; the caller adds them up in order.
typedef struct {
  const mt_tensor *t[5];  // dy, raw, r, q, m
  double *partial;
} alpha_task;

static void alpha_range(void *context, int64_t begin, int64_t end) {
  const alpha_task *task = context;
  const mt_tensor *y = task->t[0];
  int32_t dims = y->ndim - 2;
  int64_t size[3] = {1, 1, 1};
  for (int32_t d = 0; d < dims; d++) {
    size[3 - dims + d] = y->shape[2 + d];
  }
  for (int64_t index = begin; index < end; index++) {
    int64_t at[2] = {index / y->shape[1], index % y->shape[1]};
    double sum = 0;
    for (int64_t a = 0; a < size[0]; a++) {
      for (int64_t b = 0; b < size[1]; b++) {
        char *p[5];
        int64_t step[5];
        for (int32_t k = 0; k < 5; k++) {
          const mt_tensor *t = task->t[k];
          int64_t s[3] = {0, 0, 0}, offset = 0;
          for (int32_t d = 0; d < dims; d++) {
            s[3 - dims + d] = t->shape[2 + d] == 1 ? 0 : t->stride[2 + d];
          }
          for (int32_t d = 0; d < 2; d++) {
            offset += t->shape[d] == 1 ? 0 : at[d] * t->stride[d];
          }
          offset += a * s[0] + b * s[1];
          p[k] = (char *)t->data + offset * mt_dtype_size(t->dtype);
          step[k] = s[2] * mt_dtype_size(t->dtype);
        }
        sum = MT_REAL_CALL(y->dtype, alpha_row, sum, p, step, size[2]);
      }
    }
    task->partial[index] = sum;
  }
}

int mt_masked_conv_alpha_backward(mt_tensor *dalpha, const mt_tensor *dy, const mt_tensor *raw, const mt_tensor *r,
                                  const mt_tensor *q, const mt_tensor *m) {
  mt_tensor ratios, bases, gate;
  MT_TRY(mt_check_real("masked_conv", "gradient", dy));
  MT_TRY(mt_check_like("masked_conv", "raw", raw, dy));
  MT_TRY(mt_check_dtype("masked_conv", "alpha", dalpha, dy->dtype));
  if (dalpha->numel != 1 || dy->ndim < 3 || dy->ndim > 5) {
    return mt_fail(MT_ERROR_ARGUMENT, "masked_conv: alpha: expected one element and a gradient (N, O, *S), got %s and %s",
                   MT_SHAPE(dalpha), MT_SHAPE(dy));
  }
  MT_TRY(factor("ratio", &ratios, r, dy));
  MT_TRY(factor("ratio", &bases, q, dy));
  MT_TRY(factor("mask", &gate, m, dy));
  int64_t count = dy->shape[0] * dy->shape[1];
  MT_SCRATCH(double, partial, MT_MAX(1, count));
  if (partial == NULL) {
    return MT_ERROR_MEMORY;
  }
  alpha_task task = {{dy, raw, &ratios, &bases, &gate}, partial};
  int status = mt_parallel(count, MT_MAX(1, 16384 / MT_MAX(1, dy->numel / MT_MAX(1, count))), alpha_range, &task);
  double sum = 0;
  for (int64_t i = 0; i < count; i++) {
    sum += partial[i];
  }
  mt_free(partial);
  return status == MT_OK ? mt_tensor_fill(dalpha, sum) : status;
}

#endif
