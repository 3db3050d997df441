// linear: see linear.h.
#include "common.h"

static const mt_conv kernel_of_one = {
    .dims = 1, .groups = 1, .kernel = {1, 1, 1}, .stride = {1, 1, 1}, .dilation = {1, 1, 1}};

// ---- checks -------------------------------------------------------------------------------------------------------------

static int check_weight(const mt_tensor *w, const mt_tensor *x) {
  MT_TRY(mt_check_real("linear", "input", x));
  MT_TRY(mt_check_dtype("linear", "weight", w, x->dtype));
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
  MT_TRY(mt_check_dtype("linear", "bias", b, like->dtype));
  return mt_check_shape("linear", "bias", b, 1, &out);
}

// y belongs to x: the same shape but for the last dim, which is w's first.
static int check_result(const char *argument, const mt_tensor *y, const mt_tensor *x, const mt_tensor *w) {
  int64_t shape[MT_MAX_DIMS];
  memcpy(shape, x->shape, sizeof shape);
  shape[x->ndim - 1] = w->shape[0];
  MT_TRY(mt_check_dtype("linear", argument, y, x->dtype));
  return mt_check_shape("linear", argument, y, x->ndim, shape);
}

static int check_written(const mt_tensor *out, const mt_tensor *a, const mt_tensor *b) {
  MT_TRY(mt_check_output("linear", "output", out));
  MT_TRY(mt_check_overlap("linear", out, a, false));
  return mt_check_overlap("linear", out, b, false);
}

// ---- views as images ------------------------------------------------------------------------------------------------------

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

static int input_image(mt_tensor **out, const mt_tensor *t) {
  mt_tensor *rows;
  *out = NULL;
  MT_TRY(mt_contiguous(&rows, t));
  const int status = as_image(out, rows);
  mt_tensor_release(rows);
  return status;
}

// w (out, in) as (out, in, 1)
static int weight_image(mt_tensor **out, const mt_tensor *w) {
  return mt_tensor_view(out, w, 3, (const int64_t[]){w->shape[0], w->shape[1], 1},
                        (const int64_t[]){w->stride[0], w->stride[1], 1}, 0);
}

// An image to write to: over t itself, or over a new tensor that finish_output copies to t.
static int output_image(mt_tensor **out, mt_tensor **rows, const mt_tensor *t) {
  *out = NULL;
  MT_TRY(mt_tensor_is_contiguous(t) ? mt_tensor_view(rows, t, t->ndim, t->shape, t->stride, 0)
                                    : mt_tensor_new(rows, t->dtype, t->ndim, t->shape, NULL));
  return as_image(out, *rows);
}

static int finish_output(mt_tensor *t, const mt_tensor *rows) {
  return rows->storage == t->storage ? MT_OK : mt_tensor_copy(t, rows);
}

// ---- the four products ----------------------------------------------------------------------------------------------------

int mt_linear_forward(mt_tensor *y, const mt_tensor *x, const mt_tensor *w, const mt_tensor *b) {
  MT_TRY(check_weight(w, x));
  MT_TRY(b ? check_bias(b, x, w->shape[0]) : MT_OK);
  MT_TRY(check_result("output", y, x, w));
  MT_TRY(check_written(y, x, w));
  mt_tensor *xi = NULL, *wi = NULL, *yi = NULL, *rows = NULL;
  int status = input_image(&xi, x);
  status = status ? status : weight_image(&wi, w);
  status = status ? status : output_image(&yi, &rows, y);
  status = status ? status : mt_conv_forward(yi, xi, wi, b, &kernel_of_one, NULL, NULL, NULL, NULL);
  status = status ? status : finish_output(y, rows);
  mt_tensor_release(rows);
  mt_tensor_release(yi);
  mt_tensor_release(wi);
  mt_tensor_release(xi);
  return status;
}

int mt_linear_backward_input(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *w) {
  MT_TRY(check_weight(w, dx));
  MT_TRY(check_result("gradient", dy, dx, w));
  MT_TRY(check_written(dx, dy, w));
  mt_tensor *dyi = NULL, *wi = NULL, *dxi = NULL, *rows = NULL;
  int status = input_image(&dyi, dy);
  status = status ? status : weight_image(&wi, w);
  status = status ? status : output_image(&dxi, &rows, dx);
  status = status ? status : mt_conv_backward_input(dxi, dyi, wi, NULL, &kernel_of_one, NULL, NULL);
  status = status ? status : finish_output(dx, rows);
  mt_tensor_release(rows);
  mt_tensor_release(dxi);
  mt_tensor_release(wi);
  mt_tensor_release(dyi);
  return status;
}

int mt_linear_backward_weight(mt_tensor *dw, const mt_tensor *dy, const mt_tensor *x) {
  MT_TRY(check_weight(dw, x));
  MT_TRY(check_result("gradient", dy, x, dw));
  MT_TRY(check_written(dw, dy, x));
  mt_tensor *dyi = NULL, *dwi = NULL, *xi = NULL;
  int status = input_image(&xi, x);
  status = status ? status : input_image(&dyi, dy);
  status = status ? status : weight_image(&dwi, dw);
  status = status ? status : mt_conv_backward_weight(dwi, dyi, xi, &kernel_of_one, NULL, NULL);
  mt_tensor_release(dwi);
  mt_tensor_release(dyi);
  mt_tensor_release(xi);
  return status;
}

int mt_linear_backward_bias(mt_tensor *db, const mt_tensor *dy) {
  MT_TRY(mt_check_real("linear", "gradient", dy));
  if (dy->ndim < 1) {
    return mt_fail(MT_ERROR_ARGUMENT, "linear: gradient: expected at least one dimension, got %s", MT_SHAPE(dy));
  }
  MT_TRY(check_bias(db, dy, dy->shape[dy->ndim - 1]));
  MT_TRY(check_written(db, dy, dy));
  mt_tensor *dyi = NULL;
  int status = input_image(&dyi, dy);
  status = status ? status : mt_conv_backward_bias(db, dyi, NULL);
  mt_tensor_release(dyi);
  return status;
}
