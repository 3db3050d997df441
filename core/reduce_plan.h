// reduce_plan: how a reduction walks its input. Internal.
//
// The elements that an output gathers are visited as rows: a row is (a piece of at most MT_ROW of) the innermost reduced
// axis, rows come in raster order of the logical index. The order depends on the shape alone, never on strides or threads.
// Zeros added at the end of rows, or as more rows, shift no element to another row: they leave sums unchanged to the bit.
#pragma once
#include "common.h"

enum { MT_ROW = 4096, MT_LANES = 16 };

typedef struct mt_reduction {
  int32_t kept, outer;                              // numbers of axes
  int64_t kept_shape[MT_MAX_DIMS], kept_stride[MT_MAX_DIMS], kept_out[MT_MAX_DIMS];
  int64_t outer_shape[MT_MAX_DIMS], outer_stride[MT_MAX_DIMS];
  int64_t length, stride;                           // the innermost reduced axis
  int64_t pieces;                                   // rows that the innermost axis is cut into
  int64_t outputs, rows, count;                     // count = reduced elements of one output
  int64_t lane;                                     // outputs that run side by side: the size of the last kept axis, or 1
  bool near;                                        // they are nearer in memory than the elements of a row
} mt_reduction;

// dims: bit d set = axis d of x is reduced. y has x's sizes with 1 at the reduced axes, any dtype; it may be NULL.
// side_by_side: the kept axis of the smallest stride comes last (lane); otherwise outputs come in raster order, the same for
// two tensors of one shape.
int mt_reduction_plan(const char *op, mt_reduction *r, const mt_tensor *y, const mt_tensor *x, int32_t dims, bool side_by_side);
// The same for a y that is written: it must not share memory, with itself or with x.
int mt_reduction_plan_into(const char *op, mt_reduction *r, const mt_tensor *y, const mt_tensor *x, int32_t dims,
                           bool side_by_side);

// Offsets in elements of output o: in x (its first element) and in y.
void mt_reduction_output(const mt_reduction *r, int64_t o, int64_t *in_x, int64_t *in_y);

// Neumaier's compensated sum. A compensation of 0 / Inf arithmetic is dropped: then the plain sum is the answer.
typedef struct mt_total { double sum, lost; } mt_total;
static inline void mt_total_add(mt_total *t, double v) {
  const double s = t->sum + v;
  t->lost += fabs(t->sum) >= fabs(v) ? (t->sum - s) + v : (v - s) + t->sum;
  t->sum = s;
}
static inline double mt_total_value(const mt_total *t) { return isfinite(t->lost) ? t->sum + t->lost : t->sum; }

// The rows of one output from row `row` on.
typedef struct mt_row_cursor {
  int64_t index[MT_MAX_DIMS];
  int64_t base;    // offset of the current line of the innermost axis
  int64_t piece;
} mt_row_cursor;
void mt_row_seek(const mt_reduction *r, mt_row_cursor *c, int64_t row);
void mt_row_next(const mt_reduction *r, mt_row_cursor *c);
static inline int64_t mt_row_offset(const mt_reduction *r, const mt_row_cursor *c) {
  return c->base + c->piece * MT_ROW * r->stride;
}
static inline int64_t mt_row_length(const mt_reduction *r, const mt_row_cursor *c) {
  return MT_MIN(r->length - c->piece * MT_ROW, (int64_t)MT_ROW);
}

// Offset in x of the element at raster position `position` among those of one output.
int64_t mt_reduction_at(const mt_reduction *r, int64_t position);

// Outputs per task, by shape.
static inline int64_t mt_reduction_grain(const mt_reduction *r) { return MT_MAX(1, 32768 / MT_MAX(1, r->count)); }

// y = values, one per output in plan order, converted to y's dtype (float32, float64, int64, bool).
void mt_reduction_store(const mt_reduction *r, mt_tensor *y, const double *values);
void mt_reduction_store_int64(const mt_reduction *r, mt_tensor *y, const int64_t *values);

// out[o] = max |x| (largest) or min |x| over output o's elements, NaN where there is one; floating x.
int mt_reduction_extreme_abs(const mt_reduction *r, const mt_tensor *x, bool largest, double *out);
// dx = dy / ties where x (or |x|, then times its sign) equals y, 0 elsewhere.
int mt_reduction_even_backward(const char *op, mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, const mt_tensor *y,
                               int32_t dims, bool absolute);

// The integer element i of int64, int32, uint8 or bool data.
static inline int64_t mt_integer_at(const void *x, int32_t dtype, int64_t i) {
  switch (dtype) {
    case MT_INT64: return ((const int64_t *)x)[i];
    case MT_INT32: return ((const int32_t *)x)[i];
    default: return ((const uint8_t *)x)[i];
  }
}

// *out = t seen in x's shape, sizes 1 repeated (stride 0): as many dims, x's dtype, each size x's or 1. Borrows t's memory.
int mt_reduction_expand(const char *op, const char *argument, mt_tensor *out, const mt_tensor *t, const mt_tensor *x);
