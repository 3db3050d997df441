// masked_conv_window: see masked_conv_window.h.
#ifdef NUMBER

static void FN(load_row)(double *to, const char *m, int64_t n, int64_t step) {
  for (int64_t i = 0; i < n; i++) {
    to[i] = (double)*(const NUMBER *)(m + i * step);
  }
}

// One more channel of a row.
MT_INLINE void FN(merge_steps)(double *to, const char *m, int64_t n, int64_t step, int how) {
  for (int64_t i = 0; i < n; i++) {
    const double v = (double)*(const NUMBER *)(m + i * step), t = to[i];
    to[i] = how == MT_MERGE_SUM ? t + v : how == MT_MERGE_SMALLEST ? (v < t ? v : t) : v > t ? v : t;
  }
}

MT_CLONES static void FN(merge_row)(double *to, const char *m, int64_t n, int64_t step, int how) {
  if (step == (int64_t)sizeof(NUMBER) && how == MT_MERGE_SUM) {
    FN(merge_steps)(to, m, n, sizeof(NUMBER), MT_MERGE_SUM);
  } else {
    FN(merge_steps)(to, m, n, step, how);
  }
}

// The channels of one pixel, neighbours in memory. Zeros and ones have the same sum in any order.
MT_CLONES static double FN(merge_pixel)(const char *p, int64_t channels, int how) {
  const NUMBER *m = (const NUMBER *)p;
  double result = (double)m[0];
  if (how == MT_MERGE_SUM) {
    int ones = 0, other = 0;
    for (int64_t c = 0; c < channels; c++) {
      ones += m[c] == 1;
      other |= m[c] != 1 && m[c] != 0;
    }
    if (!other) {
      return ones;
    }
    for (int64_t c = 1; c < channels; c++) {
      result += (double)m[c];
    }
    return result;
  }
  for (int64_t c = 1; c < channels; c++) {
    const double v = (double)m[c];
    result = how == MT_MERGE_SMALLEST ? (v < result ? v : result) : v > result ? v : result;
  }
  return result;
}

#else
#include "masked_conv_window.h"
#include "row.h"
#define MT_SOURCE "masked_conv_window.c"
#include "five.h"

// ---- the problem ------------------------------------------------------------------------------------------------------

static int check_weight(const char *op, const mt_tensor *out, const mt_tensor *mask, const mt_tensor *w, const mt_conv *g) {
  MT_TRY(mt_check_dtype(op, "weight", w, out->dtype));
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
  return MT_OK;
}

static int check_arguments(const char *op, const mt_tensor *out, const mt_tensor *mask, const mt_tensor *w, const mt_conv *g,
                           const mt_window *v) {
  MT_TRY(mt_check_tensor(op, "mask", mask));
  if (g == NULL || v == NULL || g->dims < 1 || g->dims > 3 || g->groups < 1) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: geometry: expected 1 to 3 spatial axes and at least 1 group", op);
  }
  MT_TRY(mt_check_ndim(op, "mask", mask, g->dims + 2));
  MT_TRY(mt_check_real(op, "output", out));
  if (mask->dtype != MT_BOOL) {
    MT_TRY(mt_check_dtype(op, "mask", mask, out->dtype));
  }
  if (w != NULL) {
    MT_TRY(check_weight(op, out, mask, w, g));
  }
  if (mask->shape[1] != 1 && mask->shape[1] % g->groups != 0) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: mask: the channels of %s do not divide into %d groups", op, MT_SHAPE(mask),
                   g->groups);
  }
  if (v->multiplicity < 1 || !(v->eps >= 0)) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: multiplicity and eps: expected at least 1 and at least 0, got %lld and %g", op,
                   (long long)v->multiplicity, v->eps);
  }
  for (int32_t d = 0; d < g->dims; d++) {
    if (v->centre[d] < 0 || v->centre[d] >= g->kernel[d]) {
      return mt_fail(MT_ERROR_ARGUMENT, "%s: centre: expected a tap of the kernel %s, got %s", op, MT_SIZES(g->dims, g->kernel),
                     MT_SIZES(g->dims, v->centre));
    }
  }
  return mt_check_output(op, "output", out);
}

// A kind per position: what mt_mask_kinds says, which the caller may have at hand.
static int open_kinds(mt_windows *c, const mt_tensor *mask, const mt_tensor *kinds) {
  int64_t shape[MT_MAX_DIMS], counts[MT_MASK_KINDS];
  memcpy(shape, mask->shape, sizeof shape);
  shape[1] = 1;
  if (kinds != NULL) {
    MT_TRY(mt_check_dtype(c->op, "kinds", kinds, MT_UINT8));
    MT_TRY(mt_check_shape(c->op, "kinds", kinds, mask->ndim, shape));
    if (!mt_tensor_is_contiguous(kinds)) {
      return mt_fail(MT_ERROR_ARGUMENT, "%s: kinds: expected a row-major tensor", c->op);
    }
    c->kinds = kinds->data;
    return MT_OK;
  }
  mt_tensor *valid;
  MT_TRY(mt_tensor_new(&c->own_kinds, MT_UINT8, mask->ndim, shape, NULL));
  c->kinds = c->own_kinds->data;
  MT_TRY(mt_tensor_new(&valid, MT_BOOL, mask->ndim, shape, NULL));
  int status = mt_mask_kinds(valid, c->own_kinds, counts, mask);
  mt_tensor_release(valid);
  return status;
}

int mt_window_open(mt_windows *c, const char *op, mt_tensor *out, const mt_tensor *mask, const mt_tensor *kinds,
                   const mt_tensor *w, const mt_conv *g, const mt_window *v) {
  MT_TRY(check_arguments(op, out, mask, w, g, v));
  int64_t sizes[3], unused;
  MT_TRY(mt_conv_output_size(sizes, mask->shape + 2, g));
  int64_t results[6] = {mask->shape[0], mask->shape[1], w ? w->shape[0] : 1};
  memcpy(results + 3, sizes, sizeof(int64_t) * (size_t)g->dims);
  if (!mt_numel(&unused, g->dims + 3, results) || !mt_numel(&unused, g->dims, g->kernel)) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: the output size %s or the kernel %s does not fit in 64 bits", op,
                   MT_SIZES(g->dims, sizes), MT_SIZES(g->dims, g->kernel));
  }
  c->op = op;
  c->N = mask->shape[0];
  c->groups = mask->shape[1] == 1 ? 1 : g->groups;
  c->channels = mask->shape[1] / c->groups;
  c->pixels = c->taps = 1;
  c->border = v->border != 0;
  c->strict = v->strict != 0;
  c->eps = v->eps;
  c->multiplicity = (double)v->multiplicity;
  c->dtype = mask->dtype;
  c->size = mt_dtype_size(mask->dtype);
  c->mask = mask->data;
  c->step_n = mask->stride[0] * c->size;
  c->step_c = mask->stride[1] * c->size;
  c->out_dtype = out->dtype;
  c->out_size = mt_dtype_size(out->dtype);
  c->result = out->data;
  MT_TRY(mt_check_ndim(op, "output", out, g->dims + 2));
  int64_t have = w ? MT_MAX(w->shape[0], c->groups) : c->groups;
  bool fits = out->shape[0] == c->N && (w ? out->shape[1] == w->shape[0] : out->shape[1] >= have && out->shape[1] % have == 0);
  for (int32_t d = 0; d < 3; d++) {
    int32_t s = d - (3 - g->dims);
    c->in[d] = s < 0 ? 1 : mask->shape[2 + s];
    c->out[d] = s < 0 ? 1 : sizes[s];
    c->kernel[d] = s < 0 ? 1 : g->kernel[s];
    c->stride[d] = s < 0 ? 1 : g->stride[s];
    c->dilation[d] = s < 0 ? 1 : g->dilation[s];
    c->pad[d] = s < 0 ? 0 : g->pad_before[s];
    c->step[d] = s < 0 ? 0 : mask->stride[2 + s] * c->size;
    c->out_step[d] = s < 0 ? 0 : out->stride[2 + s] * c->out_size;
    c->to[d] = c->kernel[d];
    c->middle[d] = s < 0 ? 0 : v->centre[s];
    c->pixels *= c->in[d];
    c->taps *= c->kernel[d];
    fits = fits && (s < 0 || out->shape[2 + s] == sizes[s]);
  }
  if (!fits) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: output: expected (%lld, a multiple of %lld, *S'), got %s", op, (long long)c->N,
                   (long long)have, MT_SHAPE(out));
  }
  c->filters = out->shape[1] / c->groups;
  c->out_n = out->stride[0] * c->out_size;
  c->out_c = out->stride[1] * c->out_size;
  return open_kinds(c, mask, kinds);
}

void mt_window_close(mt_windows *c) { mt_tensor_release(c->own_kinds); }

void mt_window_centre(mt_windows *c) {
  for (int32_t d = 0; d < 3; d++) {
    c->from[d] = c->middle[d];
    c->to[d] = c->from[d] + 1;
  }
  c->taps = 1;
  c->centre = c->border = true;
}

// ---- pieces -----------------------------------------------------------------------------------------------------------

MT_CLONES static void finish(int32_t how, double eps, double multiplicity, double *S, const double *K, int64_t n) {
  switch (how) {
    case MT_FINISH_KEEP: return;
    case MT_FINISH_GROW:
      for (int64_t i = 0; i < n; i++) {
        const double v = S[i] * multiplicity;
        S[i] = v < 1 ? v : 1;
      }
      return;
    case MT_FINISH_SMALLEST:
      for (int64_t i = 0; i < n; i++) {
        S[i] = K[i] == 0 ? 0 : S[i];
      }
      return;
    case MT_FINISH_COVERAGE:
    case MT_FINISH_CONFIDENCE:
      eps = how == MT_FINISH_COVERAGE ? 0 : eps;
      for (int64_t i = 0; i < n; i++) {
        const double total = K[i] + eps, v = S[i] / total;
        S[i] = total == 0 ? 0 : v;
      }
      return;
    default:
      for (int64_t i = 0; i < n; i++) {
        const double valid = S[i] * multiplicity + eps, q = K[i] * multiplicity / valid;
        S[i] = valid > 0 ? q : 0;
      }
      for (int64_t i = 0; i < n && how == MT_FINISH_ROOT; i++) {
        S[i] = sqrt(S[i]);
      }
  }
}

void mt_window_finish(const mt_windows *c, int32_t how, double *S, const double *K, int64_t n) {
  finish(how, c->eps, c->multiplicity, S, K, n);
}

static int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b > 0); }

void mt_window_inside(const mt_windows *c, int32_t d, int64_t t, int64_t *lo, int64_t *hi) {
  const int64_t shift = c->pad[d] - t * c->dilation[d], s = c->stride[d];
  *lo = MT_MIN(c->out[d], MT_MAX(0, ceil_div(shift, s)));
  *hi = MT_MAX(*lo, MT_MIN(c->out[d], ceil_div(c->in[d] + shift, s)));
}

MT_CLONES static void store_f32(char *to, int64_t step, const double *values, int64_t n) {
  for (int64_t i = 0; i < n && step == sizeof(float); i++) {
    ((float *)to)[i] = (float)values[i];
  }
  for (int64_t i = 0; i < n && step != sizeof(float); i++) {
    *(float *)(to + i * step) = (float)values[i];
  }
}

void mt_window_store(const mt_windows *c, char *to, int64_t step, const double *values, int64_t n) {
  if (c->out_dtype == MT_FLOAT32) {
    store_f32(to, step, values, n);
    return;
  }
  for (int64_t i = 0; i < n; i++) {
    *(double *)(to + i * step) = values[i];
  }
}

// ---- counts -----------------------------------------------------------------------------------------------------------

enum { BLOCK = 256 };  // windows at a time

typedef struct {
  const mt_windows *c;
  int how;
  double *merged;  // (N, groups, *S)
} count_task;

// Rows of the mask, its channels merged.
static void merge_range(void *context, int64_t begin, int64_t end) {
  const count_task *task = context;
  const mt_windows *c = task->c;
  const int64_t n = c->in[2];
  for (int64_t r = begin; r < end; r++) {
    const int64_t b = r % c->in[1], a = r / c->in[1] % c->in[0], i = r / c->in[1] / c->in[0] % c->groups;
    const int64_t sample = r / c->in[1] / c->in[0] / c->groups;
    const char *m = c->mask + sample * c->step_n + i * c->channels * c->step_c + a * c->step[0] + b * c->step[1];
    const uint8_t *kinds = c->kinds + ((sample * c->in[0] + a) * c->in[1] + b) * n;
    double *to = task->merged + r * n;
    if (c->channels == 1 || c->step_c != c->size) {
      MT_FIVE_FN(c->dtype, load_row)(to, m, n, c->step[2]);
      for (int64_t k = 1; k < c->channels; k++) {
        MT_FIVE_FN(c->dtype, merge_row)(to, m + k * c->step_c, n, c->step[2], task->how);
      }
      continue;
    }
    for (int64_t x = 0; x < n; x++) {
      to[x] = kinds[x] == 0   ? 0
              : kinds[x] == 1 ? (task->how == MT_MERGE_SUM ? (double)c->channels : 1)
                              : MT_FIVE_FN(c->dtype, merge_pixel)(m + x * c->step[2], c->channels, task->how);
    }
  }
}

MT_CLONES static void add_row(double *S, const double *m, int64_t n, int64_t step) {
  for (int64_t i = 0; i < n && step == 1; i++) {
    S[i] += m[i];
  }
  for (int64_t i = 0; i < n && step != 1; i++) {
    S[i] += m[i * step];
  }
}

MT_CLONES static void least_row(double *S, const double *m, int64_t n, int64_t step) {
  for (int64_t i = 0; i < n; i++) {
    const double v = m[i * step];
    S[i] = v < S[i] ? v : S[i];
  }
}

// S and K of the windows [x, x + n) of a row. Taps in order, each over the whole row: a window sees the same numbers in the same
// order wherever it lies, and those outside the image add nothing.
static void count_block(const count_task *task, const double *m, int64_t oa, int64_t ob, int64_t x, int64_t n, double *S,
                        double *K) {
  const mt_windows *c = task->c;
  const bool least = task->how == MT_MERGE_SMALLEST;
  const double per_tap = task->how == MT_MERGE_SUM ? (double)c->channels : 1;
  for (int64_t i = 0; i < n; i++) {
    S[i] = least ? 1 : 0;
    K[i] = c->border && !least ? (double)c->taps * per_tap : 0;
  }
  for (int64_t a = c->from[0]; a < c->to[0]; a++) {
    const int64_t ia = oa * c->stride[0] + a * c->dilation[0] - c->pad[0];
    for (int64_t b = c->from[1]; b < c->to[1]; b++) {
      const int64_t ib = ob * c->stride[1] + b * c->dilation[1] - c->pad[1];
      const bool row = ia >= 0 && ia < c->in[0] && ib >= 0 && ib < c->in[1];
      for (int64_t e = c->from[2]; e < c->to[2]; e++) {
        int64_t lo, hi;
        mt_window_inside(c, 2, e, &lo, &hi);
        lo = row ? MT_MIN(MT_MAX(lo, x), x + n) : x + n;
        hi = MT_MAX(lo, MT_MIN(hi, x + n));
        const double *from = m + (ia * c->in[1] + ib) * c->in[2] + lo * c->stride[2] + e * c->dilation[2] - c->pad[2];
        if (least) {
          if (hi > lo) {
            least_row(S + lo - x, from, hi - lo, c->stride[2]);
          }
          for (int64_t i = 0; i < n; i++) {
            const bool inside = i >= lo - x && i < hi - x;
            S[i] = c->border && !inside ? 0 : S[i];
            K[i] = inside ? 1 : K[i];
          }
        } else if (hi > lo) {
          add_row(S + lo - x, from, hi - lo, c->stride[2]);
          for (int64_t i = lo - x; i < hi - x && !c->border; i++) {
            K[i] += per_tap;
          }
        }
      }
    }
  }
}

static void count_range(void *context, int64_t begin, int64_t end) {
  const count_task *task = context;
  const mt_windows *c = task->c;
  double S[BLOCK], K[BLOCK];
  for (int64_t r = begin; r < end; r++) {
    const int64_t ob = r % c->out[1], oa = r / c->out[1] % c->out[0], n = r / c->out[1] / c->out[0];
    for (int64_t g = 0; g < c->groups; g++) {
      const double *m = task->merged + (n * c->groups + g) * c->pixels;
      char *to = c->result + n * c->out_n + g * c->filters * c->out_c + oa * c->out_step[0] + ob * c->out_step[1];
      for (int64_t x = 0; x < c->out[2]; x += BLOCK) {
        const int64_t count = MT_MIN(BLOCK, c->out[2] - x);
        count_block(task, m, oa, ob, x, count, S, K);
        mt_window_finish(c, c->finish, S, K, count);
        for (int64_t f = 0; f < c->filters; f++) {
          mt_window_store(c, to + f * c->out_c + x * c->out_step[2], c->out_step[2], S, count);
        }
      }
    }
  }
}

int mt_window_count(mt_windows *c, int how) {
  const int64_t rows = c->N * c->groups * c->in[0] * c->in[1];
  MT_SCRATCH(double, merged, MT_MAX(1, c->N * c->groups * c->pixels));
  if (merged == NULL) {
    return MT_ERROR_MEMORY;
  }
  count_task task = {c, how, merged};
  int status = mt_parallel(rows, MT_MAX(1, 32768 / MT_MAX(1, c->in[2] * c->channels)), merge_range, &task);
  if (status == MT_OK) {
    status = mt_parallel(c->N * c->out[0] * c->out[1],
                         MT_MAX(1, 16384 / MT_MAX(1, c->out[2] * c->groups * (c->taps + c->filters))), count_range, &task);
  }
  mt_free(merged);
  return status;
}

#endif
