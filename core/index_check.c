// index_check: see index_check.h.
#include "index_check.h"

int mt_index_check(const char *op, const mt_tensor *x, int32_t dim, const mt_tensor *index, const char *name, const mt_tensor *other) {
  MT_TRY(mt_check_integer(op, "index", index));
  MT_TRY(mt_check_dim(op, dim, x));
  MT_TRY(mt_check_ndim(op, "index", index, x->ndim));
  for (int32_t d = 0; d < x->ndim; d++) {
    if (d != dim && index->shape[d] > x->shape[d]) {
      return mt_fail(MT_ERROR_ARGUMENT, "%s: index: %s is larger than %s in dim %d", op, MT_SHAPE(index), MT_SHAPE(x), d + 1);
    }
  }
  MT_TRY(mt_check_dtype(op, name, other, x->dtype));
  return mt_check_shape(op, name, other, index->ndim, index->shape);
}

int mt_index_check_gather(const char *op, const mt_tensor *y, const mt_tensor *x, int32_t dim, const mt_tensor *index) {
  MT_TRY(mt_check_tensor(op, "input", x));
  MT_TRY(mt_index_check(op, x, dim, index, "output", y));
  MT_TRY(mt_check_output(op, "output", y));
  return mt_check_overlap(op, y, x, false);
}

int mt_index_check_scatter(const char *op, const mt_tensor *y, int32_t dim, const mt_tensor *index, const mt_tensor *src) {
  MT_TRY(mt_check_output(op, "output", y));
  MT_TRY(mt_index_check(op, y, dim, index, "source", src));
  return mt_check_overlap(op, y, src, false);
}

int mt_index_check_scatter_backward(const char *op, const mt_tensor *dsrc, const mt_tensor *dy, int32_t dim, const mt_tensor *index) {
  MT_TRY(mt_check_real(op, "gradient", dy));
  MT_TRY(mt_check_output(op, "output", dsrc));
  MT_TRY(mt_index_check(op, dy, dim, index, "output", dsrc));
  return mt_check_overlap(op, dsrc, dy, false);
}

int mt_index_check_mask(const char *op, const mt_tensor *mask, const mt_tensor *x) {
  MT_TRY(mt_check_tensor(op, "mask", mask));
  if (mask->dtype != MT_BOOL && mask->dtype != MT_UINT8) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: mask: expected bool or uint8, got %s", op, MT_SHAPE(mask));
  }
  const int32_t lead = x->ndim - mask->ndim;
  bool fits = lead >= 0;
  for (int32_t d = 0; fits && d < mask->ndim; d++) {
    fits = mask->shape[d] == 1 || mask->shape[d] == x->shape[d + lead];
  }
  if (!fits) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: mask: %s does not broadcast to %s", op, MT_SHAPE(mask), MT_SHAPE(x));
  }
  return MT_OK;
}

int mt_index_check_flip(const mt_tensor *y, const mt_tensor *x) {
  MT_TRY(mt_check_tensor("flip", "input", x));
  MT_TRY(mt_check_like("flip", "output", y, x));
  return mt_check_overlap("flip", y, x, false);
}

mt_tensor mt_index_flipped(const mt_tensor *x, int32_t dims) {
  mt_tensor from = *x;
  for (int32_t d = 0; d < x->ndim && x->numel > 0; d++) {
    if (dims >> d & 1) {
      from.data = (char *)from.data + (x->shape[d] - 1) * x->stride[d] * mt_dtype_size(x->dtype);
      from.stride[d] = -x->stride[d];
    }
  }
  return from;
}

int mt_index_check_fill(const mt_tensor *y, const mt_tensor *x, const mt_tensor *mask) {
  MT_TRY(mt_check_tensor("masked_fill", "input", x));
  MT_TRY(mt_check_like("masked_fill", "output", y, x));
  MT_TRY(mt_check_output("masked_fill", "output", y));
  MT_TRY(mt_check_overlap("masked_fill", y, x, true));
  MT_TRY(mt_index_check_mask("masked_fill", mask, x));
  return mt_check_overlap("masked_fill", y, mask, true);
}

int mt_index_check_triangle(const mt_tensor *mask) {
  MT_TRY(mt_check_dtype("triangle", "mask", mask, MT_BOOL));
  MT_TRY(mt_check_ndim("triangle", "mask", mask, 2));
  return mt_check_output("triangle", "mask", mask);
}

// ---- embedding ------------------------------------------------------------------------------------------------------------

int mt_embedding_check(const char *name, const mt_tensor *rows, const char *table, const mt_tensor *weight, const mt_tensor *index) {
  int64_t shape[MT_MAX_DIMS + 1];
  MT_TRY(mt_check_real("embedding", table, weight));
  MT_TRY(mt_check_ndim("embedding", table, weight, 2));
  MT_TRY(mt_check_integer("embedding", "index", index));
  if (index->ndim == MT_MAX_DIMS) {
    return mt_fail(MT_ERROR_ARGUMENT, "embedding: index: expected at most %d dimensions, got %s", MT_MAX_DIMS - 1, MT_SHAPE(index));
  }
  memcpy(shape, index->shape, sizeof(int64_t) * (size_t)index->ndim);
  shape[index->ndim] = weight->shape[1];
  MT_TRY(mt_check_dtype("embedding", name, rows, weight->dtype));
  return mt_check_shape("embedding", name, rows, index->ndim + 1, shape);
}

// A header of t with one more dim, of this size and stride, at `at`.
static mt_tensor raised(const mt_tensor *t, int32_t at, int64_t size, int64_t stride) {
  mt_tensor r = *t;
  for (int32_t d = t->ndim; d > at; d--) {
    r.shape[d] = t->shape[d - 1];
    r.stride[d] = t->stride[d - 1];
  }
  r.shape[at] = size;
  r.stride[at] = stride;
  r.ndim = t->ndim + 1;
  r.numel = t->numel * size;
  return r;
}

void mt_embedding_gather(mt_tensor *to, mt_tensor *table, mt_tensor *at, const mt_tensor *y, const mt_tensor *weight,
                         const mt_tensor *index) {
  *to = *y;
  *at = raised(index, index->ndim, weight->shape[1], 0);
  if (index->ndim == 0) {
    *at = raised(at, 0, 1, 0);
    *to = raised(y, 0, 1, 0);
  }
  *table = *to;  // the first dim chooses the row, the last runs along it
  memset(table->stride, 0, sizeof table->stride);
  table->data = weight->data;
  table->storage = weight->storage;
  table->shape[0] = weight->shape[0];
  table->stride[0] = weight->stride[0];
  table->stride[to->ndim - 1] = weight->stride[1];
}

void mt_embedding_scatter(mt_tensor *at, mt_tensor *from, const mt_tensor *index, const mt_tensor *dy) {
  const int64_t width = dy->shape[dy->ndim - 1];
  *at = *index;
  *from = *dy;
  at->ndim = from->ndim = 2;
  at->shape[0] = from->shape[0] = index->numel;
  at->shape[1] = from->shape[1] = width;
  at->stride[0] = 1;
  at->stride[1] = 0;
  from->stride[0] = width;
  from->stride[1] = 1;
}
