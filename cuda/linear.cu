// linear: see core/linear.h.
#include "product.cuh"

extern "C" {
#include "../core/linear_check.h"
}

// c = a b + bias, or with transposed a or b.
static int multiply(mt_tensor *c, const mt_tensor *a, bool a_turned, const mt_tensor *b, bool b_turned, const mt_tensor *bias,
                    int64_t run) {
  mt_device *device;
  mt_product p;
  MT_TRY(mt_enter(&device, c));
  memset(&p, 0, sizeof p);
  p.dtype = a->dtype;
  p.c_narrow = c->dtype == MT_BFLOAT16;
  p.bias_narrow = bias && bias->dtype == MT_BFLOAT16;
  p.m = c->shape[0];
  p.n = c->shape[1];
  p.k = a->shape[!a_turned];
  p.run = run;
  p.a = a->data;
  p.b = b->data;
  p.bias = bias ? bias->data : NULL;
  p.bias_step = bias ? bias->stride[0] : 0;
  p.c = c->data;
  p.a_row = a->stride[a_turned];
  p.a_col = a->stride[!a_turned];
  p.b_row = b->stride[b_turned];
  p.b_col = b->stride[!b_turned];
  p.c_row = c->stride[0];
  p.c_col = c->stride[1];
  p.batch = 1;
  return mt_product_run(device, &p);
}

// y = x w^T + bias, or x w: a product of tensors whose leading dims are rows.
static int through(mt_tensor *y, const mt_tensor *x, const mt_tensor *w, bool w_turned, const mt_tensor *bias) {
  const mt_tensor *const t[] = {x, w, bias};
  MT_TRY(mt_check_together("linear", y, 3, t));
  if (y->numel == 0) {
    return MT_OK;
  }
  mt_device *device;
  mt_tensor *xm = NULL, *ym = NULL, *added = NULL;
  MT_TRY(mt_enter(&device, y));
  int status = mt_linear_matrix(&xm, x);
  status = status ? status : mt_linear_output(&ym, y);
  status = status ? status : mt_tile_bias(&added, bias, x->dtype);
  status = status ? status : multiply(ym, xm, false, w, w_turned, added, 0);
  status = status ? status : mt_linear_finish(y, ym);
  mt_tensor_release(added);
  mt_tensor_release(ym);
  mt_tensor_release(xm);
  return status;
}

extern "C" int mt_linear_forward(mt_tensor *y, const mt_tensor *x, const mt_tensor *w, const mt_tensor *b) {
  MT_TRY(mt_linear_check_forward(y, x, w, b));
  return through(y, x, w, true, b);
}

extern "C" int mt_linear_backward_input(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *w) {
  MT_TRY(mt_linear_check_backward_input(dx, dy, w));
  return through(dx, dy, w, false, NULL);
}

extern "C" int mt_linear_backward_weight(mt_tensor *dw, const mt_tensor *dy, const mt_tensor *x) {
  MT_TRY(mt_linear_check_backward_weight(dw, dy, x));
  const mt_tensor *const t[] = {dy, x};
  MT_TRY(mt_check_together("linear", dw, 2, t));
  if (dw->numel == 0) {
    return MT_OK;
  }
  if (dy->numel == 0 || x->numel == 0) {
    return mt_tensor_fill(dw, 0);
  }
  mt_device *device;
  mt_tensor *dym = NULL, *xm = NULL;
  MT_TRY(mt_enter(&device, dw));
  int status = mt_linear_matrix(&xm, x);
  status = status ? status : mt_linear_matrix(&dym, dy);
  // A run is a row of positions: zeros at its end, or rows of zeros, change no bit.
  status = status ? status : multiply(dw, dym, true, xm, false, NULL, x->ndim > 1 ? x->shape[x->ndim - 2] : 1);
  mt_tensor_release(dym);
  mt_tensor_release(xm);
  return status;
}

extern "C" int mt_linear_backward_bias(mt_tensor *db, const mt_tensor *dy) {
  MT_TRY(mt_linear_check_backward_bias(db, dy));
  MT_TRY(mt_check_together("linear", db, 1, &dy));
  mt_device *device;
  mt_tensor *dyi = NULL;
  MT_TRY(mt_enter(&device, db));
  int status = mt_linear_image(&dyi, dy);
  status = status ? status : mt_conv_backward_epilogue(NULL, db, dyi, NULL, NULL, NULL, NULL, MT_ACTIVATION_IDENTITY, 0);
  mt_tensor_release(dyi);
  return status;
}
