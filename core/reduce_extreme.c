// reduce: the reductions that choose or test elements (max, min, argmax, any, all) and the product.
#ifdef REAL

static void FN(prod_task)(void *context, int64_t begin, int64_t end) {
  const walk *w = context;
  const mt_reduction *r = &w->of_x;
  for (int64_t o = begin; o < end; o++) {
    int64_t in_x, in_y;
    double product = 1;
    mt_row_cursor cursor;
    mt_reduction_output(r, o, &in_x, &in_y);
    mt_row_seek(r, &cursor, 0);
    for (int64_t row = 0; row < r->rows; row++, mt_row_next(r, &cursor)) {
      const REAL *x = (const REAL *)w->x->data + in_x + mt_row_offset(r, &cursor);
      for (int64_t i = 0, n = mt_row_length(r, &cursor); i < n; i++) {
        product *= (double)x[i * r->stride];
      }
    }
    ((REAL *)w->y->data)[in_y] = (REAL)product;
  }
}

// With one zero only its own gradient is not zero; with two or more every gradient is.
static void FN(prod_backward_task)(void *context, int64_t begin, int64_t end) {
  const walk *w = context;
  const mt_reduction *r = &w->of_x, *rd = &w->of_dx;
  for (int64_t o = begin; o < end; o++) {
    int64_t in_x, in_dx, in_dy, unused, zeros = 0;
    double product = 1;  // of the elements that are not 0
    mt_row_cursor cursor, cursor_dx;
    mt_reduction_output(r, o, &in_x, &unused);
    mt_reduction_output(rd, o, &in_dx, &in_dy);
    mt_row_seek(r, &cursor, 0);
    for (int64_t row = 0; row < r->rows; row++, mt_row_next(r, &cursor)) {
      const REAL *x = (const REAL *)w->x->data + in_x + mt_row_offset(r, &cursor);
      for (int64_t i = 0, n = mt_row_length(r, &cursor); i < n; i++) {
        zeros += x[i * r->stride] == 0;
        product *= x[i * r->stride] == 0 ? 1 : (double)x[i * r->stride];
      }
    }
    const double g = (double)((const REAL *)w->dy->data)[in_dy] * product;
    mt_row_seek(r, &cursor, 0);
    mt_row_seek(rd, &cursor_dx, 0);
    for (int64_t row = 0; row < r->rows; row++, mt_row_next(r, &cursor), mt_row_next(rd, &cursor_dx)) {
      const REAL *x = (const REAL *)w->x->data + in_x + mt_row_offset(r, &cursor);
      REAL *dx = (REAL *)w->dx->data + in_dx + mt_row_offset(rd, &cursor_dx);
      for (int64_t i = 0, n = mt_row_length(r, &cursor); i < n; i++) {
        const double v = x[i * r->stride];
        dx[i * rd->stride] = (REAL)(zeros == 0 ? g / v : zeros == 1 && v == 0 ? g : 0);
      }
    }
  }
}

static void FN(extreme_abs_task)(void *context, int64_t begin, int64_t end) {
  const walk *w = context;
  const mt_reduction *r = &w->of_x;
  for (int64_t o = begin; o < end; o++) {
    int64_t in_x, in_y;
    double best = w->largest ? 0 : INFINITY;
    mt_row_cursor cursor;
    mt_reduction_output(r, o, &in_x, &in_y);
    mt_row_seek(r, &cursor, 0);
    for (int64_t row = 0; row < r->rows && best == best; row++, mt_row_next(r, &cursor)) {
      const REAL *x = (const REAL *)w->x->data + in_x + mt_row_offset(r, &cursor);
      for (int64_t i = 0, n = mt_row_length(r, &cursor); i < n && best == best; i++) {
        const double v = fabs((double)x[i * r->stride]);
        best = v != v || (w->largest ? v > best : v < best) ? v : best;
      }
    }
    w->out[o] = best;
  }
}

static inline bool FN(equal)(REAL a, REAL b) { return a == b || (a != a && b != b); }

static void FN(even_task)(void *context, int64_t begin, int64_t end) {
  const walk *w = context;
  const mt_reduction *r = &w->of_x, *rd = &w->of_dx;
  for (int64_t o = begin; o < end; o++) {
    int64_t in_x, in_dx, in_dy, in_y, ties = 0;
    mt_row_cursor cursor, cursor_dx;
    mt_reduction_output(r, o, &in_x, &in_y);
    mt_reduction_output(rd, o, &in_dx, &in_dy);
    const REAL y = ((const REAL *)w->y->data)[in_y];
    mt_row_seek(r, &cursor, 0);
    for (int64_t row = 0; row < r->rows; row++, mt_row_next(r, &cursor)) {
      const REAL *x = (const REAL *)w->x->data + in_x + mt_row_offset(r, &cursor);
      for (int64_t i = 0, n = mt_row_length(r, &cursor); i < n; i++) {
        const REAL v = x[i * r->stride];
        ties += FN(equal)(w->absolute ? MATH(fabs)(v) : v, y);
      }
    }
    const REAL g = ((const REAL *)w->dy->data)[in_dy] / (REAL)MT_MAX(ties, 1);
    mt_row_seek(r, &cursor, 0);
    mt_row_seek(rd, &cursor_dx, 0);
    for (int64_t row = 0; row < r->rows; row++, mt_row_next(r, &cursor), mt_row_next(rd, &cursor_dx)) {
      const REAL *x = (const REAL *)w->x->data + in_x + mt_row_offset(r, &cursor);
      REAL *dx = (REAL *)w->dx->data + in_dx + mt_row_offset(rd, &cursor_dx);
      for (int64_t i = 0, n = mt_row_length(r, &cursor); i < n; i++) {
        const REAL v = x[i * r->stride];
        REAL d = 0;
        if (!w->absolute) {
          d = FN(equal)(v, y) ? g : 0;
        } else if (FN(equal)(MATH(fabs)(v), y)) {
          d = v > 0 ? g : v < 0 ? -g : v == 0 ? 0 : v;
        }
        dx[i * rd->stride] = d;
      }
    }
  }
}

static void FN(chosen_task)(void *context, int64_t begin, int64_t end) {
  const walk *w = context;
  for (int64_t o = begin; o < end; o++) {
    int64_t in_dx, in_dy, unused, in_index;
    mt_reduction_output(&w->of_dx, o, &in_dx, &in_dy);
    mt_reduction_output(&w->of_x, o, &unused, &in_index);
    const int64_t at = ((const int64_t *)w->index->data)[in_index];
    if (at >= 1 && at <= w->of_dx.count) {
      ((REAL *)w->dx->data)[in_dx + mt_reduction_at(&w->of_dx, at - 1)] = ((const REAL *)w->dy->data)[in_dy];
    }
  }
}

#else
#include "reduce_check.h"

typedef struct {
  mt_reduction of_x, of_dx;
  const mt_tensor *x, *dy, *index;
  const mt_tensor *y;
  mt_tensor *dx;
  bool largest, absolute;
  double *out;
} walk;

#define MT_SOURCE "reduce_extreme.c"
#include "twice.h"

// ---- max, min -------------------------------------------------------------------------------------------------------

typedef struct { int64_t offset, position; } found;

typedef struct {
  const mt_reduction *r;
  const mt_tensor *x;
  bool largest;
  int64_t parts, rows_per_part;
  found *best;  // parts per output
} search;

// The first element of a row that beats *best; NaN beats everything and ends the search. Returns its number or -1.
// Blocks of neighbours in which none beats it, nearly all of them, are passed over in vector code.
enum { BEST_BLOCK = 32 };
#define BEATS(v) (largest ? !((v) <= best) : !((v) >= best))
#define BEST_IN_ROW(T)                                                   \
  {                                                                      \
    const T *x = (const T *)data + offset;                               \
    T best = ((const T *)data)[best_offset];                             \
    for (int64_t i0 = 0; i0 < n && best == best; i0 += BEST_BLOCK) {     \
      const int64_t end = MT_MIN(i0 + BEST_BLOCK, n);                    \
      if (step == 1 && end == i0 + BEST_BLOCK) {                         \
        const T *block = x + i0;                                         \
        int32_t any = 0;                                                 \
        for (int64_t i = 0; i < BEST_BLOCK; i++) {                       \
          any |= BEATS(block[i]);                                        \
        }                                                                \
        if (!any) {                                                      \
          continue;                                                      \
        }                                                                \
      }                                                                  \
      for (int64_t i = i0; i < end && best == best; i++) {               \
        const T v = x[i * step];                                         \
        if (BEATS(v)) {                                                  \
          best = v;                                                      \
          at = i;                                                        \
        }                                                                \
      }                                                                  \
    }                                                                    \
    return at;                                                           \
  }

static inline __attribute__((always_inline)) int64_t best_in_row(const void *data, int32_t dtype, int64_t offset, int64_t step,
                                                                 int64_t n, int64_t best_offset, bool largest) {
  int64_t at = -1;
  switch (dtype) {
    case MT_FLOAT32: BEST_IN_ROW(float)
    case MT_FLOAT64: BEST_IN_ROW(double)
    case MT_INT64: BEST_IN_ROW(int64_t)
    case MT_INT32: BEST_IN_ROW(int32_t)
    default: BEST_IN_ROW(uint8_t)
  }
}

static void search_task(void *context, int64_t begin, int64_t end) {
  const search *s = context;
  const mt_reduction *r = s->r;
  for (int64_t unit = begin; unit < end; unit++) {
    const int64_t first = unit % s->parts * s->rows_per_part, last = MT_MIN(r->rows, first + s->rows_per_part);
    int64_t in_x, in_y;
    mt_row_cursor cursor;
    mt_reduction_output(r, unit / s->parts, &in_x, &in_y);
    mt_row_seek(r, &cursor, first);
    found best = {in_x + mt_row_offset(r, &cursor), first / r->pieces * r->length + cursor.piece * MT_ROW};
    for (int64_t row = first; row < last; row++, mt_row_next(r, &cursor)) {
      const int64_t offset = in_x + mt_row_offset(r, &cursor), n = mt_row_length(r, &cursor);
      const int64_t at = s->largest ? best_in_row(s->x->data, s->x->dtype, offset, r->stride, n, best.offset, true)
                                    : best_in_row(s->x->data, s->x->dtype, offset, r->stride, n, best.offset, false);
      if (at >= 0) {
        best = (found){offset + at * r->stride, row / r->pieces * r->length + cursor.piece * MT_ROW + at};
      }
    }
    s->best[unit] = best;
  }
}

static void store_found(const mt_tensor *x, mt_tensor *values, int64_t in_values, mt_tensor *index, int64_t in_index,
                        const found *best) {
  if (values) {
    const int64_t size = mt_dtype_size(x->dtype);
    memcpy((char *)values->data + in_values * size, (const char *)x->data + best->offset * size, (size_t)size);
  }
  if (index) {
    ((int64_t *)index->data)[in_index] = best->position + 1;
  }
}

int mt_reduce_extreme(mt_tensor *values, mt_tensor *index, const mt_tensor *x, int32_t dims, int32_t largest) {
  mt_reduction r, r_index;
  MT_TRY(mt_reduce_check_extreme(&r, &r_index, values, index, x, dims, largest));
  // Few long searches are shared out by rows, the parts compared in order: the choice is the same.
  search s = {.r = &r, .x = x, .largest = largest != 0, .parts = 1, .rows_per_part = MT_MAX(1, r.rows)};
  if (r.outputs < 16 && r.count >= 65536) {
    s.rows_per_part = MT_MAX(1, 32768 / MT_MIN(r.length, (int64_t)MT_ROW));
    s.parts = (r.rows + s.rows_per_part - 1) / s.rows_per_part;
  }
  MT_SCRATCH(found, best, r.outputs * s.parts);
  if (best == NULL) {
    return MT_ERROR_MEMORY;
  }
  s.best = best;
  int status = mt_parallel(r.outputs * s.parts, s.parts > 1 ? 1 : mt_reduction_grain(&r), search_task, &s);
  for (int64_t o = 0; o < r.outputs && status == MT_OK; o++) {
    int64_t in_x, in_values, in_index;
    found *chosen = &best[o * s.parts];
    for (int64_t k = 1; k < s.parts; k++) {
      if (best_in_row(x->data, x->dtype, chosen[k].offset, 0, 1, chosen->offset, s.largest) == 0) {
        *chosen = chosen[k];
      }
    }
    mt_reduction_output(&r, o, &in_x, &in_values);
    mt_reduction_output(&r_index, o, &in_x, &in_index);
    store_found(x, values, in_values, index, in_index, chosen);
  }
  mt_free(best);
  return status;
}

int mt_reduce_extreme_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *index, int32_t dims) {
  walk w = {.dx = dx, .dy = dy, .index = index};
  MT_TRY(mt_reduce_check_chosen(&w.of_dx, &w.of_x, dx, dy, index, dims));
  MT_TRY(mt_tensor_fill(dx, 0));
  return mt_parallel(w.of_dx.outputs, 4096, MT_REAL_FN(dy->dtype, chosen_task), &w);
}

int mt_reduction_even_backward(const char *op, mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, const mt_tensor *y,
                               int32_t dims, bool absolute) {
  walk w = {.dx = dx, .dy = dy, .x = x, .y = y, .absolute = absolute};
  MT_TRY(mt_reduce_check_even(op, &w.of_x, &w.of_dx, dx, dy, x, y, dims));
  return mt_parallel(w.of_x.outputs, mt_reduction_grain(&w.of_x), MT_REAL_FN(dy->dtype, even_task), &w);
}

int mt_reduce_extreme_backward_even(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, const mt_tensor *values,
                                    int32_t dims) {
  return mt_reduction_even_backward("max", dx, dy, x, values, dims, false);
}

int mt_reduction_extreme_abs(const mt_reduction *r, const mt_tensor *x, bool largest, double *out) {
  walk w = {.of_x = *r, .x = x, .largest = largest, .out = out};
  return mt_parallel(r->outputs, mt_reduction_grain(r), MT_REAL_FN(x->dtype, extreme_abs_task), &w);
}

// ---- any, all -------------------------------------------------------------------------------------------------------

static inline bool is_true(const void *data, int32_t dtype, int64_t i) {
  switch (dtype) {
    case MT_FLOAT32: return ((const float *)data)[i] != 0;
    case MT_FLOAT64: return ((const double *)data)[i] != 0;
    case MT_INT64: return ((const int64_t *)data)[i] != 0;
    case MT_INT32: return ((const int32_t *)data)[i] != 0;
    default: return ((const uint8_t *)data)[i] != 0;
  }
}

static void truth_task(void *context, int64_t begin, int64_t end) {
  const walk *w = context;
  const mt_reduction *r = &w->of_x;
  const bool every = w->largest;
  for (int64_t o = begin; o < end; o++) {
    int64_t in_x, in_y;
    bool result = every;
    mt_row_cursor cursor;
    mt_reduction_output(r, o, &in_x, &in_y);
    mt_row_seek(r, &cursor, 0);
    for (int64_t row = 0; row < r->rows && result == every; row++, mt_row_next(r, &cursor)) {
      const int64_t offset = in_x + mt_row_offset(r, &cursor), n = mt_row_length(r, &cursor);
      for (int64_t i = 0; i < n && result == every; i++) {
        result = is_true(w->x->data, w->x->dtype, offset + i * r->stride);
      }
    }
    ((uint8_t *)w->y->data)[in_y] = result;
  }
}

int mt_reduce_truth(mt_tensor *y, const mt_tensor *x, int32_t dims, int32_t every) {
  walk w = {.x = x, .y = y, .largest = every != 0};
  MT_TRY(mt_reduce_check_truth(&w.of_x, y, x, dims, every));
  return mt_parallel(w.of_x.outputs, mt_reduction_grain(&w.of_x), truth_task, &w);
}

// ---- product --------------------------------------------------------------------------------------------------------

static void integer_prod_task(void *context, int64_t begin, int64_t end) {
  const walk *w = context;
  const mt_reduction *r = &w->of_x;
  for (int64_t o = begin; o < end; o++) {
    int64_t in_x, in_y;
    uint64_t product = 1;
    mt_row_cursor cursor;
    mt_reduction_output(r, o, &in_x, &in_y);
    mt_row_seek(r, &cursor, 0);
    for (int64_t row = 0; row < r->rows; row++, mt_row_next(r, &cursor)) {
      const int64_t offset = in_x + mt_row_offset(r, &cursor), n = mt_row_length(r, &cursor);
      for (int64_t i = 0; i < n; i++) {
        product *= (uint64_t)mt_integer_at(w->x->data, w->x->dtype, offset + i * r->stride);
      }
    }
    ((int64_t *)w->y->data)[in_y] = (int64_t)product;
  }
}

int mt_reduce_prod(mt_tensor *y, const mt_tensor *x, int32_t dims) {
  walk w = {.x = x, .y = y};
  MT_TRY(mt_reduce_check_prod(&w.of_x, y, x, dims));
  const bool real = x->dtype == MT_FLOAT32 || x->dtype == MT_FLOAT64;
  return mt_parallel(w.of_x.outputs, mt_reduction_grain(&w.of_x),
                     real ? MT_REAL_FN(x->dtype, prod_task) : integer_prod_task, &w);
}

int mt_reduce_prod_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, int32_t dims) {
  walk w = {.dx = dx, .dy = dy, .x = x};
  MT_TRY(mt_reduce_check_prod_backward(&w.of_x, &w.of_dx, dx, dy, x, dims));
  return mt_parallel(w.of_x.outputs, mt_reduction_grain(&w.of_x), MT_REAL_FN(dy->dtype, prod_backward_task), &w);
}

#endif
