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
      to[x] = kinds[x] == MT_MASK_ZERO  ? 0
              : kinds[x] == MT_MASK_ONE ? (task->how == MT_MERGE_SUM ? (double)c->channels : 1)
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
