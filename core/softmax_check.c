// softmax_check: see softmax_check.h.
#include "softmax_check.h"

static int plan(const char *op, mt_softmax_lines *l, const mt_tensor *y, const mt_tensor *x, int32_t dim, int32_t log) {
  memset(l, 0, sizeof *l);
  MT_TRY(mt_check_real(op, "input", x));
  MT_TRY(mt_check_like(op, "output", y, x));
  MT_TRY(mt_check_output(op, "output", y));
  MT_TRY(mt_check_overlap(op, y, x, false));
  MT_TRY(x->ndim > 0 ? mt_check_dim(op, dim, x) : MT_OK);
  MT_TRY(mt_reduction_plan(op, &l->y, NULL, y, x->ndim > 0 ? 1 << dim : 0, false));
  MT_TRY(mt_reduction_plan(op, &l->x, NULL, x, x->ndim > 0 ? 1 << dim : 0, false));
  l->y_data = y->data;
  l->x_data = x->data;
  l->log = log != 0;
  return MT_OK;
}

int mt_softmax_check_forward(mt_softmax_lines *l, const mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, int32_t dim,
                             int32_t log) {
  const char *op = log ? "log_softmax" : "softmax";
  MT_TRY(plan(op, l, y, x, dim, log));
  if (mask) {
    mt_tensor wide;
    MT_TRY(mt_reduction_expand(op, "mask", &wide, mask, x));
    MT_TRY(mt_reduction_plan(op, &l->mask, NULL, &wide, x->ndim > 0 ? 1 << dim : 0, false));
    l->mask_data = mask->data;
  }
  return MT_OK;
}

int mt_softmax_check_backward(mt_softmax_lines *l, const mt_tensor *dx, const mt_tensor *dy, const mt_tensor *y, int32_t dim,
                              int32_t log) {
  const char *op = log ? "log_softmax" : "softmax";
  MT_TRY(plan(op, l, dx, y, dim, log));
  MT_TRY(mt_check_like(op, "gradient", dy, y));
  MT_TRY(mt_check_overlap(op, dx, dy, false));
  MT_TRY(mt_reduction_plan(op, &l->mask, NULL, dy, y->ndim > 0 ? 1 << dim : 0, false));
  l->mask_data = dy->data;
  return MT_OK;
}
