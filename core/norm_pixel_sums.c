// norm_pixel_sums: the sums behind norms with weights along channels, where channels are neighbours in memory: rows of pixels, in the
// order of norm_sums.h and to the bit what that file gives.
#include "norm_channels.h"
#include "norm_problem.h"
#include "tile.h"

#define REAL float
#define REAL_BITS 32
#define FN(name) name##_f32
#include "norm_gate.h"

// Sums of a row, or of several: two per channel, then sum m and sum m^2.
// Of bfloat16, as many pixels are widened at a time as hold STAGED elements.
enum { MOST = 2 * NORM_CHANNELS + 2, SOME = 256, STAGED = 2048, ENOUGH_SAMPLES = 16 };

typedef struct {
  const norm_problem *p;
  const norm_channels *f;
  const char *x, *dy;           // dy = NULL: moments
  bool narrow, narrow_dy;       // bfloat16
  const char *mask;
  int64_t mask_row, mask_n;     // in bytes; mask_n: of a sample, or 0
  int64_t C, length, rows;      // pixels of a row, rows of a sample
  int64_t group;                // rows that are added up before
  int64_t width;
  norm_table table;
  double *each;                 // the sums of every row or of every sample
} pixel_sums;

static norm_table table_of(const pixel_sums *t, int64_t n) {
  const int64_t k = t->p->kept[0] ? n * t->C : 0;
  return (norm_table){.mean = t->table.mean + k, .scale = t->table.scale + k, .bias = t->table.bias, .a = t->table.a};
}

MT_INLINE void soft_gradients(double *restrict sum, const float *restrict x, const float *restrict dy, norm_table t, int64_t C, double m,
                              int32_t activation) {
  for (int64_t c = 0; c < C; c++) {
    const double d = x[c] - m * t.mean[c], g = gated_f32(dy[c], d * t.scale[c] + m * t.bias[c], activation, t.a);
    sum[c] += g * m;
    sum[C + c] += g * d;
  }
}

// One pixel with another weight than 0 and 1.
MT_CLONES static void add_soft(const pixel_sums *t, double *restrict sum, const float *restrict x, const float *dy, norm_table table,
                               double m) {
  const int64_t C = t->C;
  if (dy == NULL) {
    for (int64_t c = 0; c < C; c++) {
      const double v = x[c];
      sum[c] += v;
      sum[C + c] += v * v / m;
    }
    return;
  }
  NORM_BY_ACTIVATION(t->p->activation, soft_gradients, sum, x, dy, table, C, m)
}

static void add_some(const pixel_sums *t, double *sum, const float *x, const float *dy, const norm_table *table, const int32_t *at,
                     int64_t n) {
  if (dy == NULL) {
    t->f->moments(sum, x, t->C, at, n);
  } else {
    t->f->gradients[norm_form(t->p->activation)](sum, x, dy, table, t->C, at, n);
  }
}

// n pixels from `first` on, widened where they are of bfloat16.
static const float *pixels_at(const char *x, bool narrow, float *staged, int64_t first, int64_t n, int64_t C) {
  if (!narrow) {
    return (const float *)(const void *)x + first * C;
  }
  mt_bf16_widen(staged, x + first * C * 2, 2, n * C);
  return staged;
}

static void sum_row(const pixel_sums *t, double *sum, int64_t n, int64_t row) {
  const int64_t first = (n * t->rows + row) * t->length, most = t->narrow ? MT_MIN(SOME, STAGED / t->C) : SOME;
  const float *mask = t->mask == NULL ? NULL : (const float *)(t->mask + n * t->mask_n + row * t->mask_row);
  const norm_table table = table_of(t, n);
  double ones = 0, squares = 0;
  int32_t at[SOME];
  float x_staged[STAGED], dy_staged[STAGED];
  memset(sum, 0, sizeof(double) * (size_t)t->width);
  for (int64_t i = 0; i < t->length;) {
    const int64_t begin = i, end = MT_MIN(t->length, i + most);
    double m = 1;
    int64_t some = 0;
    for (; i < end; i++) {
      m = mask == NULL ? 1 : mask[i];
      at[some] = (int32_t)(i - begin);
      some += m == 1;
      ones += m;
      squares += m * m;
      if (m != 0 && m != 1) {
        break;
      }
    }
    const int64_t pixels = MT_MIN(i + 1, end) - begin;
    const float *x = pixels_at(t->x, t->narrow, x_staged, first + begin, pixels, t->C);
    const float *dy = t->dy == NULL ? NULL : pixels_at(t->dy, t->narrow_dy, dy_staged, first + begin, pixels, t->C);
    add_some(t, sum, x, dy, &table, at, some);
    if (i < end) {
      add_soft(t, sum, x + (i - begin) * t->C, dy == NULL ? NULL : dy + (i - begin) * t->C, table, m);
      i++;
    }
  }
  if (mask != NULL) {
    sum[t->width - 2] = ones;
    sum[t->width - 1] = squares;
  }
}

static void add(double *restrict to, const double *restrict from, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    to[i] += from[i];
  }
}

// A sample's sums from those of its rows, which are computed or (rows) given.
static void sum_sample(const pixel_sums *t, double *sum, int64_t n, const double *rows) {
  double group[MOST], row[MOST];
  const size_t bytes = sizeof(double) * (size_t)t->width;
  memset(sum, 0, bytes);
  for (int64_t r = 0; r < t->rows; r++) {
    const bool first = r % t->group == 0;
    if (rows == NULL) {
      sum_row(t, first ? group : row, n, r);
    } else if (first) {
      memcpy(group, rows + r * t->width, bytes);
    }
    if (!first) {
      add(group, rows == NULL ? row : rows + r * t->width, t->width);
    }
    if ((r + 1) % t->group == 0) {
      if (t->p->kept[0]) {
        add(sum, group, t->width);
      } else {
        memcpy(sum, group, bytes);  // the only one; it is added to those of other samples
      }
    }
  }
}

static void store(const pixel_sums *t, const double *sum, int64_t n) {
  double *to = t->p->sums + n * t->C * NORM_WIDTH;
  const int first = t->dy == NULL ? 2 : 0;
  for (int64_t c = 0; c < t->C; c++, to += NORM_WIDTH) {
    if (first > 0) {
      to[0] = sum[t->width - 2];
      to[1] = sum[t->width - 1];
    }
    to[first] = sum[c];
    to[first + 1] = sum[t->C + c];
  }
}

static void run_rows(void *context, int64_t begin, int64_t end) {
  const pixel_sums *t = context;
  for (int64_t i = begin; i < end; i++) {
    sum_row(t, t->each + i * t->width, i / t->rows, i % t->rows);
  }
}

static void run_samples(void *context, int64_t begin, int64_t end) {
  const pixel_sums *t = context;
  for (int64_t n = begin; n < end; n++) {
    sum_sample(t, t->each + n * t->width, n, NULL);
  }
}

static int run(pixel_sums *t, int64_t samples) {
  const bool by_row = samples < ENOUGH_SAMPLES && !t->p->alone;
  const int64_t count = by_row ? samples * t->rows : samples, work = t->C * t->length * (by_row ? 1 : t->rows);
  double sum[MOST], total[MOST] = {0};
  t->each = mt_alloc_array(count * t->width, sizeof(double));
  if (t->each == NULL) {
    return MT_ERROR_MEMORY;
  }
  const int status = mt_parallel(count, MT_MAX(1, 16384 / work), by_row ? run_rows : run_samples, t);
  for (int64_t n = 0; n < samples && status == MT_OK; n++) {
    const double *of_sample = t->each + n * t->width;
    if (by_row) {
      sum_sample(t, sum, n, t->each + n * t->rows * t->width);
      of_sample = sum;
    }
    if (t->p->kept[0]) {
      store(t, of_sample, n);
    } else {
      add(total, of_sample, t->width);
    }
  }
  if (!t->p->kept[0]) {
    store(t, total, 0);
  }
  mt_free(t->each);
  return status;
}

int norm_sum_pixels(bool *done, norm_problem *p, const mt_tensor *dy) {
  const mt_tensor *x = p->x, *mask = &p->mask;
  const int32_t last = x->ndim - 1;
  *done = false;
  if (x->dtype == MT_FLOAT64 || !p->per_channel || x->ndim < 3 || x->shape[1] < 8 || x->shape[1] > NORM_CHANNELS ||
      !norm_channels_last(p, dy, p->masked) || (p->masked && mask->shape[1] != 1)) {
    return MT_OK;
  }
  const int64_t C = x->shape[1], cells = p->cells, length = x->shape[last];
  MT_SCRATCH(double, table, 2 * cells + C);
  if (table == NULL) {
    return MT_ERROR_MEMORY;
  }
  pixel_sums t = {.p = p, .f = mt_tile_get()->norm->channels, .x = x->data, .dy = dy == NULL ? NULL : dy->data, .C = C,
                  .narrow = x->dtype == MT_BFLOAT16, .narrow_dy = dy != NULL && dy->dtype == MT_BFLOAT16,
                  .length = length, .rows = x->numel / x->shape[0] / C / length, .width = 2 * C + 2};
  t.group = !p->kept[0] ? t.rows : x->ndim > 3 ? t.rows / x->shape[2] : 1;
  t.table = (norm_table){.mean = table, .scale = table + cells, .bias = table + 2 * cells, .a = p->a};
  for (int64_t k = 0; k < cells && dy != NULL; k++) {
    table[k] = p->cell[k].mean;
    table[cells + k] = p->cell[k].scale;
  }
  for (int64_t c = 0; c < C; c++) {
    table[2 * cells + c] = norm_get(&p->bias, c * p->bias.stride[1]);
  }
  if (p->masked) {
    t.mask = mask->data;
    t.mask_row = length * (int64_t)sizeof(float);
    t.mask_n = mask->shape[0] == 1 ? 0 : t.rows * t.mask_row;
  }
  *done = true;
  const int status = run(&t, x->shape[0]);
  mt_free(table);
  return status;
}
