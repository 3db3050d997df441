// norm_pixels: the elementwise passes where channels are neighbours in memory: one pixel after the other, its channels in vectors,
// by runs of pixels under one mask value. See norm_problem.h; the results are those of its rows to the bit.
#ifdef REAL
#include "norm_gate.h"

// The pixels from i on, before `end` and in i's sample, under the same mask value, which is *m. One value per pixel.
MT_INLINE int64_t FN(run_of_pixels)(const pixel_task *t, int64_t i, int64_t end, double *m) {
  const int64_t stop = MT_MIN(end, (i / t->positions + 1) * t->positions);
  const REAL *mask = (const REAL *)mask_at(t, i), value = *mask;
  int64_t n = 1;
  while (i + n < stop && mask[n] == value) {
    n++;
  }
  *m = value;
  return n;
}

MT_INLINE void FN(forward_run_of)(REAL *restrict y, const REAL *restrict x, const double *restrict mean,
                                  const double *restrict scale, const double *restrict bias, int64_t C, int64_t n, double m, REAL a,
                                  int32_t activation) {
  for (int64_t i = 0; i < n; i++, y += C, x += C) {
    if (m == 1) {
      for (int64_t c = 0; c < C; c++) {
        y[c] = FN(activate)((REAL)((x[c] - mean[c]) * scale[c] + bias[c]), activation, a);
      }
    } else {
      for (int64_t c = 0; c < C; c++) {
        y[c] = FN(activate)((REAL)((x[c] - m * mean[c]) * scale[c] + m * bias[c]), activation, a);
      }
    }
  }
}

MT_CLONES static void FN(forward_run)(REAL *y, const REAL *x, const double *mean, const double *scale, const double *bias, int64_t C,
                                      int64_t n, double m, const pixel_task *t) {
  NORM_BY_ACTIVATION(t->activation, FN(forward_run_of), y, x, mean, scale, bias, C, n, m, (REAL)t->a)
}

MT_INLINE void FN(forward_own_of)(REAL *restrict y, const REAL *restrict x, const REAL *restrict mask, const double *restrict mean,
                                  const double *restrict scale, const double *restrict bias, int64_t C, REAL a, int32_t activation) {
  for (int64_t c = 0; c < C; c++) {
    const double m = mask[c], v = (x[c] - m * mean[c]) * scale[c] + m * bias[c];
    y[c] = FN(activate)((REAL)(m == 0 ? 0 : v), activation, a);
  }
}

MT_CLONES static void FN(forward_own)(REAL *y, const REAL *x, const REAL *mask, const double *mean, const double *scale,
                                      const double *bias, int64_t C, const pixel_task *t) {
  NORM_BY_ACTIVATION(t->activation, FN(forward_own_of), y, x, mask, mean, scale, bias, C, (REAL)t->a)
}

static void FN(forward_pixels)(const pixel_task *t, int64_t begin, int64_t end) {
  const int64_t C = t->C;
  for (int64_t i = begin, n; i < end; i += n) {
    double m = 1;
    const double *mean = t->mean + i / t->positions * t->cell_n, *scale = t->scale + i / t->positions * t->cell_n;
    const REAL *x = (const REAL *)t->x + (i - t->first) * C;
    REAL *y = (REAL *)t->y + (i - t->first) * C;
    n = 1;
    if (t->mask != NULL && t->mask_c != 0) {
      FN(forward_own)(y, x, (const REAL *)mask_at(t, i), mean, scale, t->bias, C, t);
      continue;
    }
    n = t->mask ? FN(run_of_pixels)(t, i, end, &m) : MT_MIN(end, (i / t->positions + 1) * t->positions) - i;
    if (m == 0) {
      memset(y, 0, sizeof(REAL) * (size_t)(n * C));
    } else if (t->wide != NULL && m == 1) {
      const norm_table table = {.mean = mean, .scale = scale, .bias = t->bias, .a = t->a};
      t->wide->forward[norm_form(t->activation)]((float *)y, (const float *)x, &table, C, n, t->stream);
    } else {
      FN(forward_run)(y, x, mean, scale, t->bias, C, n, m, t);
    }
  }
}

// The gradient of y, y before it is rounded, from that of f(y).
#define GATED(y) FN(gated)(dy[c], y, activation, a)
MT_INLINE void FN(backward_run_of)(REAL *restrict dx, const REAL *restrict dy, const REAL *restrict x, const double *restrict mean,
                                   const double *restrict scale, const double *restrict bias, const double *restrict offset,
                                   const double *restrict slope, int64_t C, int64_t n, double m, bool statistics, double a,
                                   int32_t activation) {
  for (int64_t i = 0; i < n; i++, dx += C, dy += C, x += C) {
    if (!statistics) {
      for (int64_t c = 0; c < C; c++) {
        dx[c] = (REAL)(GATED((x[c] - m * mean[c]) * scale[c] + m * bias[c]) * scale[c]);
      }
    } else if (m == 1) {
      for (int64_t c = 0; c < C; c++) {
        const double d = x[c] - mean[c];
        dx[c] = (REAL)(GATED(d * scale[c] + bias[c]) * scale[c] - offset[c] - d * slope[c]);
      }
    } else {
      for (int64_t c = 0; c < C; c++) {
        const double d = x[c] / m - mean[c];
        dx[c] = (REAL)(GATED((x[c] - m * mean[c]) * scale[c] + m * bias[c]) * scale[c] - offset[c] - d * slope[c]);
      }
    }
  }
}

MT_CLONES static void FN(backward_run)(REAL *dx, const REAL *dy, const REAL *x, int64_t cell, int64_t n, double m,
                                       const pixel_task *t) {
  NORM_BY_ACTIVATION(t->activation, FN(backward_run_of), dx, dy, x, t->mean + cell, t->scale + cell, t->bias, t->offset + cell,
                     t->slope + cell, t->C, n, m, t->statistics, t->a)
}

MT_INLINE void FN(backward_own_of)(REAL *restrict dx, const REAL *restrict dy, const REAL *restrict x, const REAL *restrict mask,
                                   const double *restrict mean, const double *restrict scale, const double *restrict bias,
                                   const double *restrict offset, const double *restrict slope, int64_t C, bool statistics, double a,
                                   int32_t activation) {
  for (int64_t c = 0; c < C; c++) {
    const double m = mask[c], d = x[c] / m - mean[c], g = GATED((x[c] - m * mean[c]) * scale[c] + m * bias[c]);
    const double v = statistics ? g * scale[c] - offset[c] - d * slope[c] : g * scale[c];
    dx[c] = (REAL)(m == 0 ? 0 : v);
  }
}
#undef GATED

MT_CLONES static void FN(backward_own)(REAL *dx, const REAL *dy, const REAL *x, const REAL *mask, int64_t cell, const pixel_task *t) {
  NORM_BY_ACTIVATION(t->activation, FN(backward_own_of), dx, dy, x, mask, t->mean + cell, t->scale + cell, t->bias, t->offset + cell,
                     t->slope + cell, t->C, t->statistics, t->a)
}

static void FN(backward_pixels)(const pixel_task *t, int64_t begin, int64_t end) {
  const int64_t C = t->C;
  for (int64_t i = begin, n; i < end; i += n) {
    double m = 1;
    const int64_t cell = i / t->positions * t->cell_n;
    const REAL *x = (const REAL *)t->x + (i - t->first) * C, *dy = (const REAL *)t->dy + (i - t->first) * C;
    REAL *dx = (REAL *)t->y + (i - t->first) * C;
    n = 1;
    if (t->mask != NULL && t->mask_c != 0) {
      FN(backward_own)(dx, dy, x, (const REAL *)mask_at(t, i), cell, t);
      continue;
    }
    n = t->mask ? FN(run_of_pixels)(t, i, end, &m) : MT_MIN(end, (i / t->positions + 1) * t->positions) - i;
    if (m == 0) {
      memset(dx, 0, sizeof(REAL) * (size_t)(n * C));
    } else if (t->wide != NULL && m == 1) {
      const norm_table table = {.mean = t->mean + cell, .scale = t->scale + cell, .bias = t->bias, .offset = t->offset + cell,
                                .slope = t->slope + cell, .a = t->a};
      t->wide->backward[norm_form(t->activation)]((float *)dx, (const float *)dy, (const float *)x, &table, C, n, t->stream);
    } else {
      FN(backward_run)(dx, dy, x, cell, n, m, t);
    }
  }
}

#else
#include "norm_channels.h"
#include "norm_problem.h"
#include "tile.h"

// Elements of a result that no cache keeps until somebody reads it; of bfloat16 that are widened at a time.
enum { STREAMED = 1 << 21, STAGED = 2048 };

typedef struct {
  int64_t C, positions, first, cell_n;  // first: where x, dy and y begin; cell_n: the cells of one sample follow those of the one before, or 0
  const void *x, *dy;
  void *y;
  const char *mask;
  int64_t mask_c, mask_pixel, mask_n;   // bytes; mask_c 0: one value per pixel
  int64_t size;
  bool statistics, narrow, narrow_x, narrow_dy;   // bfloat16: y, x, dy
  double *mean, *scale, *bias, *offset, *slope;
  int32_t activation;
  double a;
  const norm_channels *wide;      // float32: for the mask 1
  bool stream;
} pixel_task;

static inline const char *mask_at(const pixel_task *t, int64_t i) {
  return t->mask + (t->mask_n == 0 ? i % t->positions : i) * t->mask_pixel;
}

#define MT_SOURCE "norm_pixels.c"
#include "twice.h"

// Do the elements follow each other as in (N, *S, C)? Where t has the batch 1 of a mask, without the batch.
static bool channels_last(const mt_tensor *t) {
  int64_t step = t->shape[1];
  bool dense = t->shape[1] == 1 || t->stride[1] == 1;
  for (int32_t d = t->ndim - 1; d >= 0; d--) {
    if (d != 1) {
      dense = dense && (t->shape[d] == 1 || t->stride[d] == step);
      step *= t->shape[d];
    }
  }
  return dense;
}

// The pixels from begin on in buffers of float32, as many as fit.
static void staged_range(const pixel_task *whole, int64_t begin, int64_t end, void (*pixels)(const pixel_task *, int64_t, int64_t)) {
  float x[STAGED], dy[STAGED], y[STAGED];
  pixel_task t = *whole;
  const int64_t C = t.C, most = STAGED / C;
  t.x = x;
  t.y = y;
  for (int64_t i = begin, n; i < end; i += n) {
    n = MT_MIN(most, end - i);
    t.first = i;
    if (whole->narrow_x) {
      mt_bf16_widen(x, (const uint16_t *)whole->x + i * C, 2, n * C);
    } else {
      t.x = (const float *)whole->x + i * C;
    }
    if (whole->narrow_dy) {
      mt_bf16_widen(dy, (const uint16_t *)whole->dy + i * C, 2, n * C);
      t.dy = dy;
    } else if (whole->dy != NULL) {
      t.dy = (const float *)whole->dy + i * C;
    }
    pixels(&t, i, i + n);
    mt_bf16_narrow((uint16_t *)whole->y + i * C, 2, y, n * C);
  }
}

static void forward_range(void *context, int64_t begin, int64_t end) {
  const pixel_task *t = context;
  if (t->narrow) {
    staged_range(t, begin, end, forward_pixels_f32);
  } else if (t->size == sizeof(float)) {
    forward_pixels_f32(t, begin, end);
  } else {
    forward_pixels_f64(t, begin, end);
  }
}

static void backward_range(void *context, int64_t begin, int64_t end) {
  const pixel_task *t = context;
  if (t->narrow) {
    staged_range(t, begin, end, backward_pixels_f32);
  } else if (t->size == sizeof(float)) {
    backward_pixels_f32(t, begin, end);
  } else {
    backward_pixels_f64(t, begin, end);
  }
}

bool norm_channels_last(const norm_problem *p, const mt_tensor *other, bool masked) {
  const mt_tensor *x = p->x, *mask = &p->mask;
  bool fits = x->numel > 0 && channels_last(x) && (other == NULL || channels_last(other)) && (!masked || channels_last(mask));
  for (int32_t d = 2; d < x->ndim && masked; d++) {
    fits = fits && mask->shape[d] == x->shape[d];
  }
  return fits;
}

int norm_run_pixels(bool *done, const norm_problem *p, mt_tensor *y, const mt_tensor *dy, norm_pass how) {
  const mt_tensor *x = p->x, *mask = &p->mask;
  *done = false;
  if (!p->per_channel || how.compat || x->shape[1] < 4 || (y->dtype == MT_BFLOAT16 && x->shape[1] > STAGED) ||
      !channels_last(y) || !norm_channels_last(p, dy, how.masked)) {
    return MT_OK;
  }
  const int64_t C = x->shape[1], cells = p->cells, size = mt_dtype_size(mt_computed(x->dtype));
  MT_SCRATCH(double, table, 5 * cells + C);
  if (table == NULL) {
    return MT_ERROR_MEMORY;
  }
  pixel_task t = {.C = C, .positions = x->numel / x->shape[0] / C, .cell_n = p->kept[0] ? C : 0, .x = x->data,
                  .dy = dy == NULL ? NULL : dy->data, .y = y->data, .size = size, .statistics = how.statistics,
                  .activation = how.activation, .a = how.a, .narrow = y->dtype == MT_BFLOAT16, .narrow_x = x->dtype == MT_BFLOAT16,
                  .narrow_dy = dy != NULL && dy->dtype == MT_BFLOAT16};
  t.mean = table;
  t.scale = table + cells;
  t.offset = table + 2 * cells;
  t.slope = table + 3 * cells;
  t.bias = table + 4 * cells;
  for (int64_t k = 0; k < cells; k++) {
    t.mean[k] = p->cell[k].mean;
    t.scale[k] = p->cell[k].rstd * norm_get(&p->weight, k % C * p->weight.stride[1]);
    t.offset[k] = p->cell[k].offset;
    t.slope[k] = p->cell[k].slope;
  }
  for (int64_t c = 0; c < C; c++) {
    t.bias[c] = norm_get(&p->bias, c * p->bias.stride[1]);
  }
  if (how.masked) {
    t.mask = mask->data;
    t.mask_c = mask->shape[1] == 1 ? 0 : size;
    t.mask_pixel = mask->shape[1] * size;
    t.mask_n = mask->shape[0] == 1 ? 0 : 1;
  }
  if (size == sizeof(float) && (dy == NULL || how.statistics)) {
    t.wide = mt_tile_get()->norm->channels;
    t.stream = !t.narrow && y->numel >= STREAMED && C % 16 == 0 && (uintptr_t)y->data % 64 == 0;
  }
  *done = true;
  const mt_task range = dy == NULL ? forward_range : backward_range;
  const int status = mt_parallel(x->shape[0] * t.positions, MT_MAX(1, norm_grain(x->numel) / C), range, &t);
  mt_free(table);
  return status;
}

#endif
