// loop_plan: how several tensors of one shape are walked together. See loop.h. Pure shapes: both libraries use it.
#include "loop.h"

int mt_loop_plan(mt_loop *loop, int32_t operands, const mt_tensor *const *t) {
  const mt_tensor *out = t[0];
  int32_t order[MT_MAX_DIMS], n = 0;
  *loop = (mt_loop){.operands = operands, .numel = out->numel};
  // Insertion sort of the dims by the output's stride, smallest first; size-1 dims carry no step.
  for (int32_t d = out->ndim - 1; d >= 0; d--) {
    if (out->shape[d] == 1) {
      continue;
    }
    int32_t i = n++;
    for (; i > 0 && out->stride[order[i - 1]] > out->stride[d]; i--) {
      order[i] = order[i - 1];
    }
    order[i] = d;
  }
  for (int32_t k = 0; k < operands; k++) {
    loop->base[k] = t[k]->data;
    loop->size[k] = mt_dtype_size(t[k]->dtype);
    bool fits = t[k]->ndim <= out->ndim;
    for (int32_t d = 0; fits && d < t[k]->ndim; d++) {
      fits = t[k]->shape[d] == 1 || t[k]->shape[d] == out->shape[d + out->ndim - t[k]->ndim];
    }
    if (!fits) {
      return mt_fail(MT_ERROR_INTERNAL, "loop: %s does not broadcast to %s", MT_SHAPE(t[k]), MT_SHAPE(out));
    }
  }
  for (int32_t i = 0; i < n; i++) {
    int32_t d = order[i], m = loop->ndim;
    bool merge = m > 0;
    for (int32_t k = 0; k < operands; k++) {
      int32_t dk = d - (out->ndim - t[k]->ndim);
      int64_t size = dk < 0 ? 1 : t[k]->shape[dk];
      loop->step[k][m] = size == 1 ? 0 : t[k]->stride[dk] * mt_dtype_size(t[k]->dtype);
      merge = merge && loop->step[k][m] == loop->step[k][m - 1] * loop->shape[m - 1];
    }
    if (merge) {
      loop->shape[m - 1] *= out->shape[d];
    } else {
      loop->shape[m] = out->shape[d];
      loop->ndim++;
    }
  }
  if (loop->ndim == 0) {
    loop->ndim = 1;
    loop->shape[0] = 1;
    for (int32_t k = 0; k < operands; k++) {
      loop->step[k][0] = 0;
    }
  }
  return MT_OK;
}

int mt_loop_check_mask(const char *op, const mt_tensor *mask, const mt_tensor *y) {
  if (mask == NULL) {
    return MT_OK;
  }
  MT_TRY(mt_check_dtype(op, "mask", mask, MT_BOOL));
  MT_TRY(mt_check_fits(op, "mask", mask, y));
  return mt_check_overlap(op, y, mask, false);
}
