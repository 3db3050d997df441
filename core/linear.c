// linear: see linear.h.
#include "gemm.h"
#include "linear_check.h"
#include "wide.h"

// c = a b + bias, or with transposed a or b.
static int multiply(mt_tensor *c, const mt_tensor *a, bool a_turned, const mt_tensor *b, bool b_turned, const mt_tensor *bias,
                    int64_t run, bool bf16) {
  const int64_t none[3] = {0, 0, 0};
  const mt_gemm g = {.dtype = c->dtype, .bf16 = bf16, .fixed = true, .m = c->shape[0], .n = c->shape[1], .k = a->shape[!a_turned], .batch = 1,
                     .run = run, .a = a->data, .b = b->data, .bias = bias ? bias->data : NULL, .c = c->data,
                     .a_row = a->stride[a_turned], .a_col = a->stride[!a_turned], .b_row = b->stride[b_turned],
                     .b_col = b->stride[!b_turned], .c_row = c->stride[0], .c_col = c->stride[1], .offset = none};
  return mt_gemm_run(&g);
}

// y = x w^T + bias, or x w: a product of tensors whose leading dims are rows.
static int through(mt_tensor *y, const mt_tensor *x, const mt_tensor *w, bool w_turned, const mt_tensor *b) {
  mt_wide wide = {0};
  const bool bf16 = x->dtype == MT_BFLOAT16;
  x = mt_wide_input(&wide, x);
  w = mt_wide_input(&wide, w);
  b = mt_wide_input(&wide, b);
  y = mt_wide_output(&wide, y);
  mt_tensor *xm = NULL, *ym = NULL, *bias = NULL;
  int status = wide.status;
  status = status || !b ? status : mt_contiguous(&bias, b);
  status = status ? status : mt_linear_matrix(&xm, x);
  status = status ? status : mt_linear_output(&ym, y);
  status = status ? status : multiply(ym, xm, false, w, w_turned, bias, 0, bf16);
  status = status ? status : mt_linear_finish(y, ym);
  mt_tensor_release(ym);
  mt_tensor_release(xm);
  mt_tensor_release(bias);
  return mt_wide_end(&wide, status);
}

// ---- the four products ----------------------------------------------------------------------------------------------------

int mt_linear_forward(mt_tensor *y, const mt_tensor *x, const mt_tensor *w, const mt_tensor *b) {
  MT_TRY(mt_linear_check_forward(y, x, w, b));
  return through(y, x, w, true, b);
}

int mt_linear_backward_input(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *w) {
  MT_TRY(mt_linear_check_backward_input(dx, dy, w));
  return through(dx, dy, w, false, NULL);
}

int mt_linear_backward_weight(mt_tensor *dw, const mt_tensor *dy, const mt_tensor *x) {
  MT_TRY(mt_linear_check_backward_weight(dw, dy, x));
  mt_wide wide = {0};
  const bool bf16 = x->dtype == MT_BFLOAT16;
  dy = mt_wide_input(&wide, dy);
  x = mt_wide_input(&wide, x);
  dw = mt_wide_output(&wide, dw);
  mt_tensor *dym = NULL, *xm = NULL;
  int status = wide.status;
  status = status ? status : mt_linear_matrix(&xm, x);
  status = status ? status : mt_linear_matrix(&dym, dy);
  // A run is a row of positions: zeros at its end, or rows of zeros, change no bit.
  status = status ? status : multiply(dw, dym, true, xm, false, NULL, x->ndim > 1 ? x->shape[x->ndim - 2] : 1, bf16);
  mt_tensor_release(dym);
  mt_tensor_release(xm);
  return mt_wide_end(&wide, status);
}

int mt_linear_backward_bias(mt_tensor *db, const mt_tensor *dy) {
  MT_TRY(mt_linear_check_backward_bias(db, dy));
  mt_tensor *dyi = NULL;
  int status = mt_linear_image(&dyi, dy);
  status = status ? status : mt_conv_backward_epilogue(NULL, db, dyi, NULL, NULL, NULL, NULL, MT_ACTIVATION_IDENTITY, 0);
  mt_tensor_release(dyi);
  return status;
}
