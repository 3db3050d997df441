// norm_lines: layer and RMS norm over the last dim of dense tensors: a few rows at a time, sums and results while the rows are in the
// nearest cache. See norm_problem.h; the rows of norm_sums.h and the formulas are the same, and so are the bits.
#ifdef REAL
#include "norm_gate.h"

// y = f((x - mean) rstd w + b)
MT_INLINE void FN(forward_as)(REAL *restrict y, const REAL *restrict x, const double *restrict w, const double *restrict b, int64_t D,
                              double mean, double rstd, REAL a, int32_t activation) {
  for (int64_t i = 0; i < D; i++) {
    y[i] = FN(activate)((REAL)((x[i] - mean) * (rstd * w[i]) + b[i]), activation, a);
  }
}

MT_CLONES static void FN(forward_line)(const lines *t, char *y, const char *x, const norm_cell *cell) {
  NORM_BY_ACTIVATION(t->how.activation, FN(forward_as), (REAL *)y, (const REAL *)x, t->w, t->b, t->D, cell->mean, cell->rstd,
                     (REAL)t->how.a)
}

// The gradient of y from that of f(y).
MT_INLINE void FN(gate_as)(REAL *restrict g, const REAL *restrict dy, const REAL *restrict x, const double *restrict w,
                           const double *restrict b, int64_t D, double mean, double rstd, double a, int32_t activation) {
  for (int64_t i = 0; i < D; i++) {
    g[i] = (REAL)FN(gated)(dy[i], (x[i] - mean) * (rstd * w[i]) + b[i], activation, a);
  }
}

MT_CLONES static void FN(gate_line)(const lines *t, char *g, const char *dy, const char *x, const norm_cell *cell) {
  NORM_BY_ACTIVATION(t->how.activation, FN(gate_as), (REAL *)g, (const REAL *)dy, (const REAL *)x, t->w, t->b, t->D, cell->mean,
                     cell->rstd, t->how.a)
}

// dx
MT_INLINE void FN(backward_as)(REAL *restrict dx, const REAL *restrict dy, const REAL *restrict x, const double *restrict w, int64_t D,
                               norm_cell cell) {
  for (int64_t i = 0; i < D; i++) {
    dx[i] = (REAL)(dy[i] * (cell.rstd * w[i]) - cell.offset - (x[i] - cell.mean) * cell.slope);
  }
}

MT_CLONES static void FN(backward_line)(const lines *t, char *dx, const char *dy, const char *x, const norm_cell *cell) {
  FN(backward_as)((REAL *)dx, (const REAL *)dy, (const REAL *)x, t->w, t->D, *cell);
}

#else
#include "norm_channels.h"
#include "norm_lines_wide.h"
#include "norm_problem.h"
#include "tile.h"

// Rows at a time; bytes of the longest row that is fetched; elements of a result that no cache keeps until somebody reads it.
enum { ROWS = NORM_SIDE, FETCHED = 2048, STREAMED = 1 << 21 };
enum { LONGEST = 2048 };        // elements of a row of bfloat16: ROWS of them are widened at a time

typedef struct {
  const norm_problem *p;
  int64_t D, rows, size, stored;  // bytes of an element where it is computed with, and in memory
  int64_t chain, chains;        // rows of the last leading dim; how many of those under one index of the first
  const char *x, *dy;
  char *y;                      // or dx, or NULL
  const uint8_t *valid;         // per row, or NULL
  double *stats;
  const double *w, *b;          // weight and bias, or ones and zeros
  norm_row sums, squares, parameters;
  norm_pass how;
  double eps;
  bool rms;
  double *partial;              // [index of the first dim][2][D]: sums for bias and weight, or NULL
  const norm_lines_wide *wide;  // for whole sets of rows, or NULL
  bool stream;
} lines;

#define MT_SOURCE "norm_lines.c"
#include "twice.h"

// The rows from `row` on, at most ROWS and before end, that are valid; 0: this one is not.
static int64_t run_of(const lines *t, int64_t row, int64_t end) {
  int64_t n = 0;
  while (row + n < end && n < ROWS && (t->valid == NULL || t->valid[row + n])) {
    n++;
  }
  return n;
}

// Rows of half a kilobyte that are read side by side are no stream to the processor: those of the next steps are fetched ahead, one
// with each row that is written.
static void fetch(const lines *t, const char *p, int64_t row) {
  const int64_t all = t->D * t->stored;
  if (all <= FETCHED && row < t->rows) {
    for (const char *q = p + row * all, *end = q + all; q < end; q += 64) {
      __builtin_prefetch(q);
    }
  }
}

static void clear(const lines *t, int64_t row) {
  if (t->y != NULL) {
    memset(t->y + row * t->D * t->stored, 0, (size_t)(t->D * t->stored));
  }
}

// n rows as they are computed with.
static const char *rows_at(const lines *t, const char *p, int64_t row, int64_t n, float *staged) {
  p += row * t->D * t->stored;
  if (t->stored == t->size) {
    return p;
  }
  mt_bf16_widen(staged, p, t->stored, n * t->D);
  return (const char *)staged;
}

// Where a row of the result goes, and what is left to do when it is there.
static char *result_at(const lines *t, int64_t row, float *staged) {
  return t->stored == t->size ? t->y + row * t->D * t->size : (char *)staged;
}

static void settle(const lines *t, int64_t row, const float *staged) {
  if (t->stored != t->size) {
    mt_bf16_narrow(t->y + row * t->D * t->stored, t->stored, staged, t->D);
  }
}

static void sum_rows(const lines *t, double *sum, norm_row row, const char *x, const char *dy, const norm_cell *cell, int64_t n) {
  const int64_t all = t->D * t->size;
  char *const q[NORM_OPERANDS] = {(char *)(uintptr_t)x, (char *)(uintptr_t)x, (char *)(uintptr_t)cell, (char *)(uintptr_t)dy,
                                  t->p->weight.data};
  const mt_tensor *weight = &t->p->weight;
  const int64_t step[NORM_OPERANDS] = {t->size, 0, 0, t->size, weight->stride[weight->ndim - 1] * t->size};
  const int64_t lane[NORM_OPERANDS] = {all, 0, sizeof(norm_cell), all, 0};
  for (int32_t w = 0; w < NORM_WIDTH; w++) {
    memset(sum + w * NORM_LANES, 0, sizeof(double) * (size_t)n);
  }
  row(sum, q, step, lane, t->D, n, 0);
}

// ---- forward ------------------------------------------------------------------------------------------------------

static void forward_rows(const lines *t, int64_t row, int64_t n) {
  const double count = (double)t->D;
  double sum[NORM_WIDTH * NORM_LANES];
  norm_cell cell[ROWS];
  float x_staged[ROWS * LONGEST], y_staged[LONGEST];
  const char *x = rows_at(t, t->x, row, n, x_staged);
  if (t->wide != NULL && n == ROWS && !t->rms) {
    t->wide->moments(sum + 2 * NORM_LANES, (const float *)x, t->D);
    memcpy(sum + 3 * NORM_LANES, sum + 2 * NORM_LANES + ROWS, ROWS * sizeof(double));
  } else {
    sum_rows(t, sum, t->sums, x, NULL, NULL, n);
  }
  for (int64_t l = 0; l < n; l++) {
    const double average = sum[2 * NORM_LANES + l] / count, mean = t->rms ? 0 : average;
    const double variance = t->rms ? average : MT_MAX(0, sum[3 * NORM_LANES + l] / count - mean * mean);
    cell[l] = (norm_cell){.mean = mean, .rstd = variance};
  }
  if (t->squares != NULL) {
    sum_rows(t, sum, t->squares, x, NULL, cell, n);
  }
  for (int64_t l = 0; l < n; l++) {
    double *stats = t->stats + (row + l) * 3;
    cell[l].rstd = 1 / sqrt((t->squares != NULL ? sum[l] / count : cell[l].rstd) + t->eps);
    stats[0] = cell[l].mean;
    stats[1] = cell[l].rstd;
    stats[2] = count;
  }
  const int64_t all = t->D * t->size;
  for (int64_t l = 0; l < n; l++) {
    char *y = result_at(t, row + l, y_staged);
    fetch(t, t->x, row + l + ROWS);
    if (t->wide != NULL) {
      t->wide->forward[norm_form(t->how.activation)]((float *)y, (const float *)(x + l * all), cell + l, t->w, t->b, t->D, t->how.a,
                                                     t->stream);
    } else {
      (t->size == sizeof(float) ? forward_line_f32 : forward_line_f64)(t, y, x + l * all, cell + l);
    }
    settle(t, row + l, y_staged);
  }
}

static void forward_range(void *context, int64_t begin, int64_t end) {
  const lines *t = context;
  for (int64_t row = begin, n; row < end; row += MT_MAX(1, n)) {
    n = run_of(t, row, end);
    if (n > 0) {
      forward_rows(t, row, n);
    } else {
      clear(t, row);
      memset(t->stats + row * 3, 0, 3 * sizeof(double));
    }
  }
  if (t->stream) {
    t->wide->fence();
  }
}

// ---- backward -----------------------------------------------------------------------------------------------------

// The sums for dx of n rows, and those that go on in chain; returns the gradient before the activation.
static const char *sum_apart(const lines *t, double *sum, const char *dy, const char *x, const norm_cell *cell, int64_t n, char *gated,
                             double *chain) {
  const int64_t all = t->D * t->size;
  const bool single = t->size == sizeof(float);
  if (t->how.activation != MT_ACTIVATION_IDENTITY) {
    for (int64_t l = 0; l < n; l++) {
      (single ? gate_line_f32 : gate_line_f64)(t, gated + l * all, dy + l * all, x + l * all, cell + l);
    }
    dy = gated;
  }
  for (int64_t d = 0; d < t->D && chain != NULL; d += NORM_LANES, chain += NORM_WIDTH * NORM_LANES) {
    char *const q[NORM_OPERANDS] = {(char *)(uintptr_t)x + d * t->size, (char *)(uintptr_t)x, (char *)(uintptr_t)cell,
                                    (char *)(uintptr_t)dy + d * t->size};
    const int64_t step[NORM_OPERANDS] = {all, 0, sizeof(norm_cell), all}, lane[NORM_OPERANDS] = {t->size, 0, 0, t->size};
    t->parameters(chain, q, step, lane, n, MT_MIN(NORM_LANES, t->D - d), 0);
  }
  if (t->y != NULL) {
    sum_rows(t, sum, t->sums, x, dy, cell, n);
  }
  return dy;
}

// gated: room for ROWS rows. chain: where the sums for bias and weight go on, [blocks of NORM_LANES][NORM_WIDTH][NORM_LANES], or NULL.
static void backward_rows(const lines *t, int64_t row, int64_t n, char *gated, double *chain) {
  const int64_t all = t->D * t->size;
  const bool single = t->size == sizeof(float);
  float x_staged[ROWS * LONGEST], dy_staged[ROWS * LONGEST], dx_staged[LONGEST];
  const char *x = rows_at(t, t->x, row, n, x_staged), *dy = rows_at(t, t->dy, row, n, dy_staged);
  norm_cell cell[ROWS];
  for (int64_t l = 0; l < n; l++) {
    const double *s = t->stats + (row + l) * 3;
    cell[l] = (norm_cell){.mean = s[0], .rstd = s[1]};
  }
  double sum[NORM_WIDTH * NORM_LANES];
  if (t->wide != NULL && n == ROWS) {
    t->wide->gradients[norm_form(t->how.activation)](sum, chain, (float *)gated, (const float *)dy, (const float *)x, cell, t->w, t->b,
                                                     t->D, t->how.a);
    memcpy(sum + NORM_LANES, sum + ROWS, ROWS * sizeof(double));
    dy = t->how.activation != MT_ACTIVATION_IDENTITY ? gated : dy;
  } else {
    dy = sum_apart(t, sum, dy, x, cell, n, gated, chain);
  }
  if (t->y == NULL) {
    return;
  }
  for (int64_t l = 0; l < n; l++) {
    const double count = t->stats[(row + l) * 3 + 2], rstd = cell[l].rstd;
    cell[l].offset = t->rms ? 0 : rstd * (sum[l] / count);
    cell[l].slope = rstd * rstd * rstd * (sum[NORM_LANES + l] / count);
    fetch(t, t->x, row + l + 2 * ROWS);
    fetch(t, t->dy, row + l + 2 * ROWS);
    char *dx = result_at(t, row + l, dx_staged);
    if (t->wide != NULL) {
      t->wide->backward((float *)dx, (const float *)(dy + l * all), (const float *)(x + l * all), cell + l, t->w, t->D, t->stream);
    } else {
      (single ? backward_line_f32 : backward_line_f64)(t, dx, dy + l * all, x + l * all, cell + l);
    }
    settle(t, row + l, dx_staged);
  }
}

static void backward_some(const lines *t, int64_t begin, int64_t end, char *gated, double *chain) {
  for (int64_t row = begin, n; row < end; row += MT_MAX(1, n)) {
    n = run_of(t, row, end);
    if (n > 0) {
      backward_rows(t, row, n, gated, chain);
    } else {
      clear(t, row);
    }
  }
  if (t->stream) {
    t->wide->fence();
  }
}

static int64_t chain_size(const lines *t) { return (t->D + NORM_LANES - 1) / NORM_LANES * NORM_WIDTH * NORM_LANES; }

// Task by rows, or where parameters have gradients by indexes of the first dim. Room for gated rows and a chain is part of the task's
// scratch memory, which the caller has, one piece for each.
typedef struct {
  const lines *t;
  int64_t grain, piece;         // of a task; bytes of its scratch memory
  char *scratch;
} backward_task;

static void backward_range(void *context, int64_t begin, int64_t end) {
  const backward_task *task = context;
  const lines *t = task->t;
  char *scratch = task->scratch + begin / task->grain * task->piece;
  if (t->partial == NULL) {
    backward_some(t, begin, end, scratch, NULL);
    return;
  }
  double *chain = (double *)scratch;
  char *gated = scratch + chain_size(t) * (int64_t)sizeof(double);
  for (int64_t n = begin; n < end; n++) {
    double *to = t->partial + n * 2 * t->D;
    for (int64_t k = 0; k < t->chains; k++) {
      const int64_t row = (n * t->chains + k) * t->chain;
      memset(chain, 0, (size_t)chain_size(t) * sizeof(double));
      backward_some(t, row, row + t->chain, gated, chain);
      for (int64_t d = 0; d < t->D; d++) {
        const double *from = chain + d / NORM_LANES * NORM_WIDTH * NORM_LANES + d % NORM_LANES;
        to[d] = k == 0 ? from[0] : to[d] + from[0];
        to[t->D + d] = k == 0 ? from[NORM_LANES] : to[t->D + d] + from[NORM_LANES];
      }
    }
  }
}

// ---- when it applies ----------------------------------------------------------------------------------------------

static bool dense(const mt_tensor *t) { return t == NULL || mt_tensor_is_contiguous(t); }

// valid[row] from a mask with one value per row; false where there are others than 0 and 1.
static bool read_mask(uint8_t *valid, const norm_problem *p, int64_t rows) {
  const mt_tensor *m = &p->mask;
  int64_t index[MT_MAX_DIMS] = {0}, offset = 0;
  const int32_t leading = p->x->ndim - 1;
  for (int64_t row = 0; row < rows; row++) {
    const double value = norm_get(m, offset);
    if (value != 0 && value != 1) {
      return false;
    }
    valid[row] = value != 0;
    for (int32_t d = leading - 1; d >= 0; d--) {
      const int64_t stride = m->shape[d] == 1 ? 0 : m->stride[d];
      offset += stride;
      if (++index[d] < p->x->shape[d]) {
        break;
      }
      offset -= stride * index[d];
      index[d] = 0;
    }
  }
  return true;
}

// *done stays false where this file has nothing to offer. *tables: to be freed.
static int open_lines(bool *done, lines *t, double **tables, const norm_problem *p, const mt_tensor *y, const mt_tensor *dy) {
  const mt_tensor *x = p->x;
  const int32_t last = x->ndim - 1;
  *done = false;
  *tables = NULL;
  if (last < 1 || x->numel == 0 || p->kept[last] || !p->kept[last - 1] || !dense(x) || !dense(y) || !dense(dy)) {
    return MT_OK;
  }
  const int64_t D = x->shape[last], stored = mt_dtype_size(x->dtype), size = mt_dtype_size(mt_computed(x->dtype));
  if ((p->masked && p->mask.shape[last] != 1) || (stored != size && D > LONGEST)) {
    return MT_OK;
  }
  *t = (lines){.p = p, .D = D, .rows = x->numel / D, .size = size, .stored = stored, .chain = x->shape[last - 1], .x = x->data,
               .dy = dy == NULL ? NULL : dy->data, .y = y == NULL ? NULL : y->data,
               .how = {.activation = p->activation, .a = p->a}};
  const norm_lines_wide *wide = mt_tile_get()->norm->lines;
  t->wide = wide->moments != NULL && size == sizeof(float) && D % ROWS == 0 ? wide : NULL;
  t->stream = t->wide != NULL && stored == size && y != NULL && x->numel >= STREAMED && D % 16 == 0 && (uintptr_t)y->data % 64 == 0;
  t->chains = last < 2 ? 1 : t->rows / x->shape[0] / t->chain;
  double *table = *tables = mt_alloc_array(2 * D + (p->masked ? (t->rows + 7) / 8 : 0), sizeof(double));
  if (table == NULL) {
    return MT_ERROR_MEMORY;
  }
  for (int64_t i = 0; i < D; i++) {
    table[i] = norm_get(&p->weight, i * p->weight.stride[last]);
    table[D + i] = norm_get(&p->bias, i * p->bias.stride[last]);
  }
  t->w = table;
  t->b = table + D;
  if (p->masked) {
    uint8_t *valid = (uint8_t *)(table + 2 * D);
    if (!read_mask(valid, p, t->rows)) {
      return MT_OK;
    }
    t->valid = valid;
  }
  *done = true;
  return MT_OK;
}

int norm_lines_forward(bool *done, const norm_problem *p, mt_tensor *y, mt_tensor *stats, double eps, bool rms) {
  lines t;
  double *tables;
  int status = open_lines(done, &t, &tables, p, y, NULL);
  if (status == MT_OK && *done) {
    const int32_t dtype = mt_computed(p->x->dtype);
    t.stats = stats->data;
    t.eps = eps;
    t.rms = rms;
    t.sums = rms ? norm_row_power(dtype, false) : norm_row_moments(dtype, false);
    t.squares = rms || dtype == MT_FLOAT32 ? NULL : norm_row_squares(dtype, false);
    status = mt_parallel(t.rows, MT_MAX(1, norm_grain(p->x->numel) / t.D), forward_range, &t);
  }
  mt_free(tables);
  return status;
}

static int run_backward(lines *t, mt_tensor *dweight, mt_tensor *dbias) {
  const bool parameters = dweight != NULL || dbias != NULL;
  const int64_t first = t->rows / t->chains / t->chain, tasks = parameters ? first : t->rows;
  const int64_t work = t->D * (parameters ? t->chains * t->chain : 1), grain = MT_MAX(1, norm_grain(t->rows * t->D) / work);
  backward_task task = {.t = t, .grain = grain};
  task.piece = t->how.activation != MT_ACTIVATION_IDENTITY ? ROWS * t->D * t->size : 0;
  task.piece += parameters ? chain_size(t) * (int64_t)sizeof(double) : 0;
  task.piece = (task.piece + 63) / 64 * 64;
  task.scratch = mt_alloc_array((tasks + grain - 1) / grain, task.piece);
  double *sums = parameters ? mt_alloc_array((2 * first + NORM_WIDTH) * t->D, sizeof(double)) : NULL;
  int status = task.scratch == NULL || (parameters && sums == NULL) ? MT_ERROR_MEMORY : MT_OK;
  if (status == MT_OK) {
    t->partial = parameters ? sums + NORM_WIDTH * t->D : NULL;
    status = mt_parallel(tasks, grain, backward_range, &task);
  }
  if (status == MT_OK && parameters) {
    memset(sums, 0, sizeof(double) * NORM_WIDTH * (size_t)t->D);
    for (int64_t n = 0; n < first; n++) {
      const double *from = t->partial + n * 2 * t->D;
      for (int64_t d = 0; d < t->D; d++) {
        sums[d * NORM_WIDTH] += from[d];
        sums[d * NORM_WIDTH + 1] += from[t->D + d];
      }
    }
    norm_write_sums(dbias, sums);
    norm_write_sums(dweight, sums + 1);
  }
  mt_free(task.scratch);
  mt_free(sums);
  return status;
}

int norm_lines_backward(bool *done, const norm_problem *p, mt_tensor *dx, mt_tensor *dweight, mt_tensor *dbias, const mt_tensor *dy,
                        const mt_tensor *stats, bool rms) {
  lines t;
  double *tables;
  int status = open_lines(done, &t, &tables, p, dx, dy);
  // A chain is added up by one thread, four features at a time; short ones are not worth their room.
  if (status == MT_OK && *done && (dweight != NULL || dbias != NULL)) {
    *done = p->x->ndim > 2 && t.D % 4 == 0 && t.chain * t.chains >= 8;
  }
  if (status == MT_OK && *done) {
    const int32_t dtype = mt_computed(p->x->dtype);
    t.stats = stats->data;
    t.rms = rms;
    t.sums = norm_row_gradients(dtype, false, MT_ACTIVATION_IDENTITY);
    t.parameters = norm_row_weight_gradients(dtype, false);
    status = run_backward(&t, dweight, dbias);
  }
  mt_free(tables);
  return status;
}

#endif
