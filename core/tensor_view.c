// tensor_view: other handles on the memory of a tensor. See tensor.h.
#include "common.h"

// Another handle on t's storage.
static int share(mt_tensor **out, const mt_tensor *t) {
  mt_tensor *v = mt_alloc((int64_t)sizeof *v);
  if (v == NULL) {
    return MT_ERROR_MEMORY;
  }
  *v = *t;
  __atomic_add_fetch(&t->storage->references, 1, __ATOMIC_RELAXED);
  *out = v;
  return MT_OK;
}

int mt_tensor_alias(mt_tensor **out, const mt_tensor *t) {
  *out = NULL;
  MT_TRY(mt_check_stored("detach", "input", t));
  return share(out, t);
}

int mt_tensor_view(mt_tensor **out, const mt_tensor *t, int32_t ndim, const int64_t *shape, const int64_t *strides,
                   int64_t offset) {
  int64_t numel;
  *out = NULL;
  MT_TRY(mt_check_stored("view", "input", t));
  MT_TRY(mt_check_sizes("view", &numel, ndim, shape));
  int64_t size = mt_dtype_size(t->dtype), first = ((char *)t->data - (char *)t->storage->data) / size;
  int64_t low = 0, high = 0, reach;
  if (!mt_add(&low, first, offset)) {
    low = -1;
  }
  high = low;
  for (int32_t d = 0; d < ndim && low >= 0; d++) {
    if (strides[d] < 0 || strides[d] > MT_STRIDE_LIMIT ||
        (numel > 0 && (!mt_mul(&reach, shape[d] - 1, strides[d]) || !mt_add(&high, high, reach)))) {
      low = -1;
    }
  }
  if (low < 0 || (numel > 0 && high >= t->storage->bytes / size) || (numel == 0 && low > t->storage->bytes / size)) {
    return mt_fail(MT_ERROR_ARGUMENT, "view: %s at offset %lld reaches outside the memory of %s", MT_SIZES(ndim, shape),
                   (long long)offset, MT_SHAPE(t));
  }
  MT_TRY(share(out, t));
  mt_tensor *v = *out;
  v->data = (char *)t->data + offset * size;
  v->numel = numel;
  v->ndim = ndim;
  memcpy(v->shape, shape, sizeof(int64_t) * (size_t)ndim);
  memcpy(v->stride, strides, sizeof(int64_t) * (size_t)ndim);
  return MT_OK;
}

int mt_tensor_select(mt_tensor **out, const mt_tensor *t, int32_t dim, int64_t position) {
  *out = NULL;
  MT_TRY(mt_check_stored("select", "input", t));
  MT_TRY(mt_check_dim("select", dim, t));
  if (position < 0 || position >= t->shape[dim]) {
    return mt_fail(MT_ERROR_ARGUMENT, "select: position %lld is outside 1..%lld (dim %d of %s)",
                   (long long)MT_MIN(position, INT64_MAX - 1) + 1, (long long)t->shape[dim], dim + 1, MT_SHAPE(t));
  }
  MT_TRY(share(out, t));
  mt_tensor *v = *out;
  v->ndim = t->ndim - 1;
  v->numel = t->numel / t->shape[dim];
  if (v->numel > 0) {
    v->data = (char *)t->data + position * t->stride[dim] * mt_dtype_size(t->dtype);
  }
  for (int32_t d = dim; d < v->ndim; d++) {
    v->shape[d] = t->shape[d + 1];
    v->stride[d] = t->stride[d + 1];
  }
  return MT_OK;
}

int mt_tensor_permute(mt_tensor **out, const mt_tensor *t, const int64_t *order) {
  *out = NULL;
  MT_TRY(mt_check_stored("permute", "input", t));
  uint32_t seen = 0;
  for (int32_t d = 0; d < t->ndim; d++) {
    if (order[d] < 0 || order[d] >= t->ndim || seen >> order[d] & 1) {
      return mt_fail(MT_ERROR_ARGUMENT, "permute: %s is no order of the dims of %s", MT_SIZES(t->ndim, order), MT_SHAPE(t));
    }
    seen |= 1u << order[d];
  }
  MT_TRY(share(out, t));
  for (int32_t d = 0; d < t->ndim; d++) {
    (*out)->shape[d] = t->shape[order[d]];
    (*out)->stride[d] = t->stride[order[d]];
  }
  return MT_OK;
}

int mt_tensor_squeeze(mt_tensor **out, const mt_tensor *t, int32_t dims) {
  *out = NULL;
  MT_TRY(mt_check_stored("squeeze", "input", t));
  for (int32_t d = 0; d < t->ndim; d++) {
    if (dims >> d & 1 && t->shape[d] != 1) {
      return mt_fail(MT_ERROR_ARGUMENT, "squeeze: dim %d of %s has more than one element", d + 1, MT_SHAPE(t));
    }
  }
  MT_TRY(share(out, t));
  int32_t n = 0;
  for (int32_t d = 0; d < t->ndim; d++) {
    if (!(dims >> d & 1)) {
      (*out)->shape[n] = t->shape[d];
      (*out)->stride[n++] = t->stride[d];
    }
  }
  (*out)->ndim = n;
  return MT_OK;
}

int mt_tensor_unsqueeze(mt_tensor **out, const mt_tensor *t, int32_t dims) {
  *out = NULL;
  MT_TRY(mt_check_stored("unsqueeze", "input", t));
  const int32_t ndim = t->ndim + __builtin_popcount((uint32_t)dims);
  if (ndim > MT_MAX_DIMS || dims < 0 || dims >> ndim != 0) {
    return mt_fail(MT_ERROR_ARGUMENT, "unsqueeze: %s does not take the new dims %#x", MT_SHAPE(t), (unsigned)dims);
  }
  MT_TRY(share(out, t));
  for (int32_t d = 0, from = 0; d < ndim; d++) {
    const bool added = dims >> d & 1;
    (*out)->shape[d] = added ? 1 : t->shape[from];
    (*out)->stride[d] = added ? 1 : t->stride[from];
    from += !added;
  }
  (*out)->ndim = ndim;
  return MT_OK;
}

int mt_tensor_expand(mt_tensor **out, const mt_tensor *t, int32_t ndim, const int64_t *shape) {
  *out = NULL;
  int64_t numel;
  MT_TRY(mt_check_stored("expand", "input", t));
  MT_TRY(mt_check_sizes("expand", &numel, ndim, shape));
  const int32_t missing = ndim - t->ndim;
  bool fits = missing >= 0;
  for (int32_t d = 0; fits && d < t->ndim; d++) {
    fits = t->shape[d] == 1 || t->shape[d] == shape[d + missing];
  }
  if (!fits) {
    return mt_fail(MT_ERROR_ARGUMENT, "expand: %s does not expand to %s", MT_SHAPE(t), MT_SIZES(ndim, shape));
  }
  MT_TRY(share(out, t));
  for (int32_t d = 0; d < ndim; d++) {
    const int32_t from = d - missing;
    (*out)->shape[d] = shape[d];
    (*out)->stride[d] = from >= 0 && t->shape[from] == shape[d] ? t->stride[from] : 0;
  }
  (*out)->ndim = ndim;
  (*out)->numel = numel;
  return MT_OK;
}

int mt_element_of(mt_tensor *element, const mt_tensor *t, const int64_t *i) {
  int64_t offset = 0;
  MT_TRY(mt_check_stored("index", "input", t));
  for (int32_t d = 0; d < t->ndim; d++) {
    if (i[d] < 0 || i[d] >= t->shape[d]) {
      return mt_fail(MT_ERROR_ARGUMENT, "index: index %lld is outside 1..%lld (dim %d of %s)",
                     (long long)i[d] + (i[d] < INT64_MAX), (long long)t->shape[d], d + 1, MT_SHAPE(t));
    }
    offset += i[d] * t->stride[d];
  }
  *element = *t;
  element->data = (char *)t->data + offset * mt_dtype_size(t->dtype);
  element->ndim = 0;
  element->numel = 1;
  return MT_OK;
}
