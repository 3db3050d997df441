// masked_conv_norm: how much the taps and channels of filters weigh, |w| or w^2; see masked_conv_window.h. Eight filters at a time: what
// they weigh in one channel is one cache line of the result.
#ifdef REAL

// to[i] = the sum over `count` taps, in order, of what they weigh in channel i < n; channels lie `step` elements apart.
MT_CLONES_512 static void FN(weigh_channels)(double *to, const REAL *w, const int64_t *tap, int64_t count, int64_t step, int64_t n,
                                             bool squares) {
  for (int64_t i = 0; i < n; i++) {
    to[i] = 0;
  }
  for (int64_t t = 0; t < count; t++) {
    const REAL *p = w + tap[t];
    if (squares) {
      for (int64_t i = 0; i < n; i++) to[i] += (double)p[i * step] * (double)p[i * step];
    } else if (step == 1) {
      for (int64_t i = 0; i < n; i++) to[i] += fabs((double)p[i]);
    } else {
      for (int64_t i = 0; i < n; i++) to[i] += fabs((double)p[i * step]);
    }
  }
}

#else
#include "masked_conv_window.h"
#include "row.h"
#define MT_SOURCE "masked_conv_norm.c"
#include "twice.h"

enum { BLOCK = 8, CHANNELS = 256 };

typedef struct {
  const mt_windows *c;
  const mt_tensor *w;
  bool squares;
  int64_t blocks;        // of filters, per group
  int64_t padded, taps;  // taps of a filter
  const int64_t *tap;    // where they are
  double *merged, *each;
} norms;

// Filters [f, f + n) of group g.
static void weigh_block(const norms *k, int64_t g, int64_t f, int64_t n) {
  const mt_windows *c = k->c;
  const mt_tensor *w = k->w;
  const int64_t size = mt_dtype_size(w->dtype), C = w->shape[1];
  const char *from = (const char *)w->data + (g * c->filters + f) * w->stride[0] * size;
  double values[BLOCK][CHANNELS];
  for (int64_t t = 0; t < c->taps; t++) {
    double *merged = k->merged + (g * c->taps + t) * k->padded + f, sum[BLOCK] = {0};
    double *each = k->each == NULL ? NULL : k->each + (g * c->taps + t) * C * k->padded + f;
    const int64_t *tap = c->centre ? k->tap : k->tap + t, count = c->centre ? k->taps : 1;
    for (int64_t first = 0; first < C; first += CHANNELS) {
      const int64_t channels = MT_MIN(CHANNELS, C - first);
      for (int64_t i = 0; i < n; i++) {
        const char *p = from + (i * w->stride[0] + first * w->stride[1]) * size;
        if (w->dtype == MT_FLOAT32) {
          weigh_channels_f32(values[i], (const float *)p, tap, count, w->stride[1], channels, k->squares);
        } else {
          weigh_channels_f64(values[i], (const double *)p, tap, count, w->stride[1], channels, k->squares);
        }
      }
      for (int64_t ch = 0; ch < channels; ch++) {
        for (int64_t i = 0; i < n; i++) sum[i] += values[i][ch];
        for (int64_t i = 0; i < n && each != NULL; i++) each[(first + ch) * k->padded + i] = values[i][ch];
      }
    }
    memcpy(merged, sum, sizeof(double) * (size_t)n);
  }
}

static void weigh_blocks(void *context, int64_t begin, int64_t end) {
  const norms *k = context;
  for (int64_t b = begin; b < end; b++) {
    const int64_t f = b % k->blocks * BLOCK;
    weigh_block(k, b / k->blocks, f, MT_MIN(BLOCK, k->c->filters - f));
  }
}

int mt_window_norms(const mt_windows *c, const mt_tensor *w, bool squares, int64_t padded, double *merged, double *each) {
  norms k = {.c = c, .w = w, .squares = squares, .blocks = (c->filters + BLOCK - 1) / BLOCK, .padded = padded, .taps = 1,
             .merged = merged, .each = each};
  for (int32_t d = 2; d < w->ndim; d++) {
    k.taps *= w->shape[d];
  }
  MT_SCRATCH(int64_t, tap, k.taps);
  if (tap == NULL) {
    return MT_ERROR_MEMORY;
  }
  for (int64_t t = 0; t < k.taps; t++) {
    tap[t] = 0;
    for (int32_t d = w->ndim - 1, rest = (int32_t)t; d >= 2; d--) {
      tap[t] += rest % w->shape[d] * w->stride[d];
      rest /= (int32_t)w->shape[d];
    }
  }
  k.tap = tap;
  const int64_t of_filter = MT_MAX(1, w->numel / MT_MAX(1, w->shape[0]));
  const int status = mt_parallel(c->groups * k.blocks, MT_MAX(1, 16384 / (BLOCK * of_filter)), weigh_blocks, &k);
  mt_free(tap);
  return status;
}

#endif
