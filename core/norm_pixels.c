// norm_pixels: the elementwise passes where channels are neighbours in memory: one pixel after the other, its channels in vectors,
// runs of pixels under mask 0 filled at once. See norm_problem.h; the results are those of its rows to the bit.
#ifdef REAL

MT_CLONES static void FN(forward_pixels)(const pixel_task *t, int64_t begin, int64_t end) {
  const int64_t C = t->C;
  for (int64_t i = begin; i < end;) {
    int64_t zeros = 0;
    double m = 1;
    if (t->mask != NULL && t->mask_c == 0) {
      while (i + zeros < end && *(const REAL *)mask_at(t, i + zeros) == 0) {
        zeros++;
      }
      if (zeros > 0) {
        memset((REAL *)t->y + i * C, 0, sizeof(REAL) * (size_t)(zeros * C));
        i += zeros;
        continue;
      }
      m = *(const REAL *)mask_at(t, i);
    }
    const double *mean = t->mean + i / t->positions * t->cell_n, *scale = t->scale + i / t->positions * t->cell_n;
    const double *bias = t->bias;
    const REAL *x = (const REAL *)t->x + i * C;
    REAL *y = (REAL *)t->y + i * C;
    if (t->mask != NULL && t->mask_c != 0) {
      const REAL *mask = (const REAL *)mask_at(t, i);
      for (int64_t c = 0; c < C; c++) {
        const double mc = mask[c], v = (x[c] - mc * mean[c]) * scale[c] + mc * bias[c];
        y[c] = (REAL)(mc == 0 ? 0 : v);
      }
    } else if (m == 1) {
      for (int64_t c = 0; c < C; c++) {
        y[c] = (REAL)((x[c] - mean[c]) * scale[c] + bias[c]);
      }
    } else {
      for (int64_t c = 0; c < C; c++) {
        y[c] = (REAL)((x[c] - m * mean[c]) * scale[c] + m * bias[c]);
      }
    }
    i++;
  }
}

MT_CLONES static void FN(backward_pixels)(const pixel_task *t, int64_t begin, int64_t end) {
  const int64_t C = t->C;
  for (int64_t i = begin; i < end;) {
    int64_t zeros = 0;
    double m = 1;
    if (t->mask != NULL && t->mask_c == 0) {
      while (i + zeros < end && *(const REAL *)mask_at(t, i + zeros) == 0) {
        zeros++;
      }
      if (zeros > 0) {
        memset((REAL *)t->y + i * C, 0, sizeof(REAL) * (size_t)(zeros * C));
        i += zeros;
        continue;
      }
      m = *(const REAL *)mask_at(t, i);
    }
    const int64_t n = i / t->positions * t->cell_n;
    const double *mean = t->mean + n, *scale = t->scale + n, *offset = t->offset + n, *slope = t->slope + n;
    const REAL *x = (const REAL *)t->x + i * C, *dy = (const REAL *)t->dy + i * C;
    REAL *dx = (REAL *)t->y + i * C;
    if (t->mask != NULL && t->mask_c != 0) {
      const REAL *mask = (const REAL *)mask_at(t, i);
      for (int64_t c = 0; c < C; c++) {
        const double mc = mask[c], d = x[c] / mc - mean[c];
        const double v = t->statistics ? dy[c] * scale[c] - offset[c] - d * slope[c] : dy[c] * scale[c];
        dx[c] = (REAL)(mc == 0 ? 0 : v);
      }
    } else if (!t->statistics) {
      for (int64_t c = 0; c < C; c++) {
        dx[c] = (REAL)(dy[c] * scale[c]);
      }
    } else if (m == 1) {
      for (int64_t c = 0; c < C; c++) {
        const double d = x[c] - mean[c];
        dx[c] = (REAL)(dy[c] * scale[c] - offset[c] - d * slope[c]);
      }
    } else {
      for (int64_t c = 0; c < C; c++) {
        const double d = x[c] / m - mean[c];
        dx[c] = (REAL)(dy[c] * scale[c] - offset[c] - d * slope[c]);
      }
    }
    i++;
  }
}

#else
#include "norm_problem.h"
#include "row.h"

typedef struct {
  int64_t C, positions, cell_n;   // cell_n: the cells of one sample follow those of the one before, or 0
  const void *x, *dy;
  void *y;
  const char *mask;
  int64_t mask_c, mask_pixel, mask_n;   // bytes; mask_c 0: one value per pixel
  int64_t size;
  bool statistics;
  double *mean, *scale, *bias, *offset, *slope;
} pixel_task;

static inline const char *mask_at(const pixel_task *t, int64_t i) {
  return t->mask + (t->mask_n == 0 ? i % t->positions : i) * t->mask_pixel;
}

#define MT_SOURCE "norm_pixels.c"
#include "twice.h"

// Do the elements follow each other as in (N, *S, C)? Where t has the batch 1 of a mask, without the batch.
static bool channels_last(const mt_tensor *t) {
  int64_t step = t->shape[1];
  if (t->shape[1] > 1 && t->stride[1] != 1) {
    return false;
  }
  for (int32_t d = t->ndim - 1; d != 1; d = d == 2 ? 0 : d - 1) {
    if (t->shape[d] != 1 && t->stride[d] != step) {
      return false;
    }
    step *= t->shape[d];
    if (d == 0) {
      break;
    }
  }
  return true;
}

static void forward_range(void *context, int64_t begin, int64_t end) {
  const pixel_task *t = context;
  if (t->size == sizeof(float)) {
    forward_pixels_f32(t, begin, end);
  } else {
    forward_pixels_f64(t, begin, end);
  }
}

static void backward_range(void *context, int64_t begin, int64_t end) {
  const pixel_task *t = context;
  if (t->size == sizeof(float)) {
    backward_pixels_f32(t, begin, end);
  } else {
    backward_pixels_f64(t, begin, end);
  }
}

int norm_run_pixels(bool *done, const norm_problem *p, mt_tensor *y, const mt_tensor *dy, norm_pass how) {
  const mt_tensor *x = p->x;
  *done = false;
  if (!p->per_channel || how.compat || x->shape[1] < 4 || x->numel == 0 || !channels_last(x) || !channels_last(y) ||
      (dy != NULL && !channels_last(dy)) || (how.masked && !channels_last(&p->mask))) {
    return MT_OK;
  }
  const mt_tensor *mask = &p->mask;
  for (int32_t d = 2; d < x->ndim && how.masked; d++) {
    if (mask->shape[d] != x->shape[d]) {
      return MT_OK;
    }
  }
  const int64_t C = x->shape[1], cells = p->cells, size = mt_dtype_size(x->dtype);
  MT_SCRATCH(double, table, 5 * cells + C);
  if (table == NULL) {
    return MT_ERROR_MEMORY;
  }
  pixel_task t = {.C = C, .positions = x->numel / x->shape[0] / C, .cell_n = p->kept[0] ? C : 0, .x = x->data,
                  .dy = dy == NULL ? NULL : dy->data, .y = y->data, .size = size, .statistics = how.statistics};
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
  for (int64_t c = 0; c < C && dy == NULL; c++) {
    t.bias[c] = norm_get(&p->bias, c * p->bias.stride[1]);
  }
  if (how.masked) {
    t.mask = mask->data;
    t.mask_c = mask->shape[1] == 1 ? 0 : size;
    t.mask_pixel = mask->shape[1] * size;
    t.mask_n = mask->shape[0] == 1 ? 0 : 1;
  }
  *done = true;
  const int status = mt_parallel(x->shape[0] * t.positions, MT_MAX(1, 16384 / C), dy == NULL ? forward_range : backward_range, &t);
  mt_free(table);
  return status;
}

#endif
