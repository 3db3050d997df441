// linear_check: see linear_check.h.
#include "linear_check.h"

// The shapes of x and w, which the caller has looked at.
static int check_weight(const mt_tensor *w, const mt_tensor *x) {
  if (x->ndim < 1) {
    return mt_fail(MT_ERROR_ARGUMENT, "linear: input: expected at least one dimension, got %s", MT_SHAPE(x));
  }
  if (w->ndim != 2 || w->shape[1] != x->shape[x->ndim - 1]) {
    return mt_fail(MT_ERROR_ARGUMENT, "linear: weight: expected (out, %lld), got %s; input %s",
                   (long long)x->shape[x->ndim - 1], MT_SHAPE(w), MT_SHAPE(x));
  }
  return MT_OK;
}

static int check_bias(const mt_tensor *b, const mt_tensor *like, int64_t out) {
  MT_TRY(mt_check_beside("linear", "bias", b, like->dtype));
  return mt_check_shape("linear", "bias", b, 1, &out);
}

// y belongs to x: the same shape but for the last dim, which is w's first.
static int check_result(const char *argument, const mt_tensor *y, const mt_tensor *x, const mt_tensor *w) {
  int64_t shape[MT_MAX_DIMS];
  memcpy(shape, x->shape, sizeof shape);
  shape[x->ndim - 1] = w->shape[0];
  return mt_check_shape("linear", argument, y, x->ndim, shape);
}

static int check_written(const mt_tensor *out, const mt_tensor *a, const mt_tensor *b) {
  MT_TRY(mt_check_stored_output("linear", "output", out));
  MT_TRY(mt_check_overlap("linear", out, a, false));
  return mt_check_overlap("linear", out, b, false);
}

int mt_linear_check_forward(const mt_tensor *y, const mt_tensor *x, const mt_tensor *w, const mt_tensor *b) {
  MT_TRY(mt_check_floating("linear", "input", x));
  MT_TRY(mt_check_dtype("linear", "weight", w, x->dtype));
  MT_TRY(check_weight(w, x));
  MT_TRY(mt_check_result("linear", "output", y, x->dtype));
  MT_TRY(b ? check_bias(b, x, w->shape[0]) : MT_OK);
  MT_TRY(check_result("output", y, x, w));
  MT_TRY(check_written(y, x, w));
  return b ? mt_check_overlap("linear", y, b, false) : MT_OK;
}

int mt_linear_check_backward_input(const mt_tensor *dx, const mt_tensor *dy, const mt_tensor *w) {
  MT_TRY(mt_check_floating("linear", "gradient", dy));
  MT_TRY(mt_check_dtype("linear", "weight", w, dy->dtype));
  MT_TRY(mt_check_result("linear", "input", dx, dy->dtype));
  MT_TRY(check_weight(w, dx));
  MT_TRY(check_result("gradient", dy, dx, w));
  return check_written(dx, dy, w);
}

int mt_linear_check_backward_weight(const mt_tensor *dw, const mt_tensor *dy, const mt_tensor *x) {
  MT_TRY(mt_check_floating("linear", "input", x));
  MT_TRY(mt_check_dtype("linear", "gradient", dy, x->dtype));
  MT_TRY(mt_check_result("linear", "weight", dw, x->dtype));
  MT_TRY(check_weight(dw, x));
  MT_TRY(check_result("gradient", dy, x, dw));
  return check_written(dw, dy, x);
}

int mt_linear_check_backward_bias(const mt_tensor *db, const mt_tensor *dy) {
  MT_TRY(mt_check_floating("linear", "gradient", dy));
  if (dy->ndim < 1) {
    return mt_fail(MT_ERROR_ARGUMENT, "linear: gradient: expected at least one dimension, got %s", MT_SHAPE(dy));
  }
  MT_TRY(check_bias(db, dy, dy->shape[dy->ndim - 1]));
  return check_written(db, dy, dy);
}

// ---- tensors as matrices --------------------------------------------------------------------------------------------------

// (*, features) as (rows, features) with one distance between rows: t itself with another reference, or a copy.
int mt_linear_matrix(mt_tensor **out, const mt_tensor *t) {
  const int32_t last = t->ndim - 1;
  bool even = true;
  int64_t row = 0, rows = 1;  // rows counted from the innermost dim on
  for (int32_t d = last - 1; d >= 0; d--) {
    if (t->shape[d] != 1) {
      even = even && (rows == 1 || t->stride[d] == row * rows);
      row = rows == 1 ? t->stride[d] : row;
      rows *= t->shape[d];
    }
  }
  mt_tensor *dense;
  *out = NULL;
  if (even && rows > 0) {
    return mt_tensor_view(out, t, 2, (const int64_t[]){rows, t->shape[last]}, (const int64_t[]){row, t->stride[last]}, 0);
  }
  MT_TRY(mt_contiguous(&dense, t));
  const int status = mt_tensor_view(out, dense, 2, (const int64_t[]){rows, t->shape[last]}, (const int64_t[]){t->shape[last], 1}, 0);
  mt_tensor_release(dense);
  return status;
}

// A matrix to write to: over t itself, or over a new tensor that finish_output copies to t.
int mt_linear_output(mt_tensor **out, const mt_tensor *t) {
  *out = NULL;
  if (mt_tensor_is_contiguous(t)) {
    return mt_linear_matrix(out, t);
  }
  mt_tensor *rows;
  MT_TRY(mt_tensor_new(&rows, t->dtype, t->ndim, t->shape, NULL));
  const int status = mt_linear_matrix(out, rows);
  mt_tensor_release(rows);
  return status;
}

int mt_linear_finish(mt_tensor *t, mt_tensor *matrix) {
  if (matrix->storage == t->storage) {
    return MT_OK;
  }
  mt_tensor rows = *t;  // t's shape over the new memory
  rows.data = matrix->data;
  rows.storage = matrix->storage;
  mt_row_major(rows.stride, rows.ndim, rows.shape);
  return mt_tensor_copy(t, &rows);
}

// (*, features) as (rows, features, positions); the elements must be in row-major order.
static int as_image(mt_tensor **out, const mt_tensor *t) {
  const int64_t features = t->shape[t->ndim - 1], positions = t->ndim > 1 ? t->shape[t->ndim - 2] : 1;
  int64_t shape[3] = {1, features, positions}, stride[3] = {positions * features, 1, features};
  for (int32_t d = 0; d < t->ndim - 2; d++) {
    shape[0] *= t->shape[d];
  }
  if (positions == 0) {  // an image has at least one
    shape[0] = 0;
    shape[2] = 1;
  }
  return mt_tensor_view(out, t, 3, shape, stride, 0);
}

int mt_linear_image(mt_tensor **out, const mt_tensor *t) {
  mt_tensor *rows;
  *out = NULL;
  MT_TRY(mt_contiguous(&rows, t));
  const int status = as_image(out, rows);
  mt_tensor_release(rows);
  return status;
}
