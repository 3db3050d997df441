// reduce_plan: see reduce_plan.h. Pure shapes: both libraries use it.
#include "reduce_plan.h"

static int check_kept_shape(const char *op, const mt_tensor *y, const mt_tensor *x, int32_t dims) {
  int64_t shape[MT_MAX_DIMS];
  for (int32_t d = 0; d < x->ndim; d++) {
    shape[d] = dims >> d & 1 ? 1 : x->shape[d];
  }
  return mt_check_shape(op, "output", y, x->ndim, shape);
}

int mt_reduction_plan_into(const char *op, mt_reduction *r, const mt_tensor *y, const mt_tensor *x, int32_t dims,
                           bool side_by_side) {
  MT_TRY(mt_reduction_plan(op, r, y, x, dims, side_by_side));
  if (y) {
    MT_TRY(mt_check_output(op, "output", y));
    MT_TRY(mt_check_overlap(op, y, x, false));
  }
  return MT_OK;
}

int mt_reduction_plan(const char *op, mt_reduction *r, const mt_tensor *y, const mt_tensor *x, int32_t dims, bool side_by_side) {
  MT_TRY(mt_check_tensor(op, "input", x));
  if (dims < 0 || dims >> x->ndim) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: dims: a dim is outside 1..%d of %s", op, x->ndim, MT_SHAPE(x));
  }
  if (y) {
    MT_TRY(check_kept_shape(op, y, x, dims));
  }
  *r = (mt_reduction){.length = 1, .outputs = 1, .rows = 1, .count = 1, .lane = 1};
  int32_t inner = -1, lane = -1;
  for (int32_t d = 0; d < x->ndim; d++) {
    if (!(dims >> d & 1)) {
      r->outputs *= x->shape[d];
      if (x->shape[d] > 1 && (lane < 0 || x->stride[d] <= x->stride[lane])) {
        lane = d;
      }
    } else {
      r->count *= x->shape[d];
      inner = d;
    }
  }
  if (inner >= 0) {
    r->length = x->shape[inner];
    r->stride = x->stride[inner];
  }
  if (side_by_side && lane >= 0) {
    r->lane = x->shape[lane];
    r->near = r->length <= 1 || x->stride[lane] < r->stride;
  } else {
    lane = -1;
  }
  for (int32_t d = 0; d < x->ndim; d++) {
    if (!(dims >> d & 1)) {
      if (d != lane && x->shape[d] != 1) {
        int32_t k = r->kept++;
        r->kept_shape[k] = x->shape[d];
        r->kept_stride[k] = x->stride[d];
        r->kept_out[k] = y ? y->stride[d] : 0;
      }
    } else if (d != inner && x->shape[d] != 1) {
      int32_t k = r->outer++;
      r->outer_shape[k] = x->shape[d];
      r->outer_stride[k] = x->stride[d];
      r->rows *= x->shape[d];
    }
  }
  if (lane >= 0) {
    int32_t k = r->kept++;
    r->kept_shape[k] = x->shape[lane];
    r->kept_stride[k] = x->stride[lane];
    r->kept_out[k] = y ? y->stride[lane] : 0;
  }
  r->pieces = (r->length + MT_ROW - 1) / MT_ROW;
  r->rows *= r->pieces;
  return MT_OK;
}

void mt_reduction_output(const mt_reduction *r, int64_t o, int64_t *in_x, int64_t *in_y) {
  int64_t x = 0, y = 0;
  for (int32_t k = r->kept - 1; k >= 0; k--) {
    int64_t i = o % r->kept_shape[k];
    o /= r->kept_shape[k];
    x += i * r->kept_stride[k];
    y += i * r->kept_out[k];
  }
  *in_x = x;
  *in_y = y;
}

void mt_row_seek(const mt_reduction *r, mt_row_cursor *c, int64_t row) {
  c->base = 0;
  c->piece = 0;
  if (r->rows == 0) {
    return;
  }
  c->piece = row % r->pieces;
  row /= r->pieces;
  for (int32_t k = r->outer - 1; k >= 0; k--) {
    c->index[k] = row % r->outer_shape[k];
    row /= r->outer_shape[k];
    c->base += c->index[k] * r->outer_stride[k];
  }
}

void mt_row_next(const mt_reduction *r, mt_row_cursor *c) {
  if (++c->piece < r->pieces) {
    return;
  }
  c->piece = 0;
  for (int32_t k = r->outer - 1; k >= 0; k--) {
    c->base += r->outer_stride[k];
    if (++c->index[k] < r->outer_shape[k]) {
      return;
    }
    c->base -= r->outer_shape[k] * r->outer_stride[k];
    c->index[k] = 0;
  }
}

int64_t mt_reduction_at(const mt_reduction *r, int64_t position) {
  int64_t offset = position % r->length * r->stride;
  position /= r->length;
  for (int32_t k = r->outer - 1; k >= 0; k--) {
    offset += position % r->outer_shape[k] * r->outer_stride[k];
    position /= r->outer_shape[k];
  }
  return offset;
}

int mt_reduction_expand(const char *op, const char *argument, mt_tensor *out, const mt_tensor *t, const mt_tensor *x) {
  MT_TRY(mt_check_dtype(op, argument, t, x->dtype));
  bool fits = t->ndim == x->ndim;
  for (int32_t d = 0; fits && d < x->ndim; d++) {
    fits = t->shape[d] == 1 || t->shape[d] == x->shape[d];
  }
  if (!fits) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: %s: expected sizes of %s or 1, got %s", op, argument, MT_SHAPE(x), MT_SHAPE(t));
  }
  *out = *t;
  out->numel = x->numel;
  for (int32_t d = 0; d < x->ndim; d++) {
    out->stride[d] = t->shape[d] == x->shape[d] ? t->stride[d] : 0;
    out->shape[d] = x->shape[d];
  }
  return MT_OK;
}
