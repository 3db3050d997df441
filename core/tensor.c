// tensor: creation, reference counts, bulk transfer, for both libraries: memory comes from storage.c or cuda/memory.cu.
// Views: tensor_view.c; copies between layouts and types: tensor_copy.c; single elements: tensor_element.c
#include "common.h"

// ---- layout -----------------------------------------------------------------------------------------------------

void mt_row_major(int64_t *stride, int32_t ndim, const int64_t *shape) {
  int64_t step = 1;
  for (int32_t d = ndim - 1; d >= 0; d--) {
    stride[d] = step;
    step *= shape[d] > 0 ? shape[d] : 1;
  }
}

int mt_tensor_is_contiguous(const mt_tensor *t) {
  int64_t step = 1;
  for (int32_t d = t->ndim - 1; d >= 0; d--) {
    if (t->shape[d] != 1 && t->stride[d] != step) {
      return t->numel == 0;
    }
    step *= t->shape[d];
  }
  return 1;
}

// Sorted by stride, each dimension must step over all that the smaller ones reach.
int mt_tensor_is_dense(const mt_tensor *t) {
  int32_t order[MT_MAX_DIMS], n = 0;
  if (t->numel <= 1) {
    return 1;
  }
  for (int32_t d = 0; d < t->ndim; d++) {
    if (t->shape[d] == 1) {
      continue;
    }
    int32_t i = n++;
    for (; i > 0 && t->stride[order[i - 1]] > t->stride[d]; i--) {
      order[i] = order[i - 1];
    }
    order[i] = d;
  }
  int64_t reach = 0;
  for (int32_t i = 0; i < n; i++) {
    if (t->stride[order[i]] <= reach) {
      return 0;
    }
    reach += (t->shape[order[i]] - 1) * t->stride[order[i]];
  }
  return 1;
}

int mt_tensor_has_shape(const mt_tensor *t, int32_t ndim, const int64_t *shape) {
  return t != NULL && t->ndim == ndim && memcmp(t->shape, shape, sizeof(int64_t) * (size_t)ndim) == 0;
}

int mt_tensor_alike(const mt_tensor *a, const mt_tensor *b) {
  if (a == NULL || b == NULL || !mt_same_shape(a, b)) {
    return 0;
  }
  if (a->dtype != b->dtype) {
    return 1;
  }
  return memcmp(a->stride, b->stride, sizeof(int64_t) * (size_t)a->ndim) == 0 ? 3 : 2;
}

// ---- creation ------------------------------------------------------------------------------------------------------

int mt_check_sizes(const char *op, int64_t *numel, int32_t ndim, const int64_t *shape) {
  if (ndim < 0 || ndim > MT_MAX_DIMS) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: %d dimensions; a tensor has 0 to %d", op, ndim, MT_MAX_DIMS);
  }
  for (int32_t d = 0; d < ndim; d++) {
    if (shape[d] < 0) {
      return mt_fail(MT_ERROR_ARGUMENT, "%s: size %lld of dim %d is negative in %s", op, (long long)shape[d], d + 1,
                     MT_SIZES(ndim, shape));
    }
  }
  if (!mt_numel(numel, ndim, shape)) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: the number of elements of %s does not fit in 64 bits", op, MT_SIZES(ndim, shape));
  }
  return MT_OK;
}

// Whether such strides give every one of numel elements a place of its own in [0, numel).
static bool fills(int64_t numel, int32_t ndim, const int64_t *shape, const int64_t *strides) {
  mt_tensor t = {.numel = numel, .ndim = ndim};
  int64_t last = 0, reach;
  memcpy(t.shape, shape, sizeof(int64_t) * (size_t)ndim);
  memcpy(t.stride, strides, sizeof(int64_t) * (size_t)ndim);
  for (int32_t d = 0; d < ndim; d++) {
    if (strides[d] < 0 || strides[d] > MT_STRIDE_LIMIT ||
        (numel > 0 && (!mt_mul(&reach, shape[d] - 1, strides[d]) || !mt_add(&last, last, reach)))) {
      return false;
    }
  }
  return numel == 0 || (last == numel - 1 && mt_tensor_is_dense(&t));
}

// Everything is checked; strides NULL: row-major.
static int create(mt_tensor **out, int32_t device, int32_t dtype, int64_t numel, int32_t ndim, const int64_t *shape,
                  const int64_t *strides) {
  if (dtype < 0 || dtype >= MT_DTYPES) {
    return mt_fail(MT_ERROR_ARGUMENT, "tensor: unknown dtype %d", dtype);
  }
  mt_tensor *t = mt_alloc((int64_t)sizeof *t);
  mt_storage *s = NULL;
  if (t == NULL || mt_storage_new(&s, numel * mt_dtype_size(dtype), device) != MT_OK) {
    mt_free(t);
    return MT_ERROR_MEMORY;
  }
  *t = (mt_tensor){.data = s->data, .storage = s, .numel = numel, .dtype = dtype, .ndim = ndim};
  memcpy(t->shape, shape, sizeof(int64_t) * (size_t)ndim);
  if (strides) {
    memcpy(t->stride, strides, sizeof(int64_t) * (size_t)ndim);
  } else {
    mt_row_major(t->stride, ndim, shape);
  }
  *out = t;
  return MT_OK;
}

int mt_tensor_new(mt_tensor **out, int32_t dtype, int32_t ndim, const int64_t *shape, const int64_t *strides) {
  int64_t numel;
  *out = NULL;
  MT_TRY(mt_check_sizes("tensor", &numel, ndim, shape));
  if (strides && !fills(numel, ndim, shape, strides)) {
    return mt_fail(MT_ERROR_ARGUMENT, "tensor: strides %s are not those of a dense layout of %s", MT_SIZES(ndim, strides),
                   MT_SIZES(ndim, shape));
  }
  return create(out, mt_storage_device(), dtype, numel, ndim, shape, strides);
}

// The strides of `shape` whose dims lie in memory in the order of x's; false when x has no order of its own.
static bool strides_like(int64_t *strides, const mt_tensor *x, const int64_t *shape) {
  int32_t order[MT_MAX_DIMS];
  int64_t step = 1;
  if (mt_tensor_is_contiguous(x) || !mt_tensor_is_dense(x)) {
    return false;
  }
  // Insertion sort, the last dim first among equals. Gaps (a slice is dense too) are squeezed out.
  for (int32_t n = 0; n < x->ndim; n++) {
    const int32_t d = x->ndim - 1 - n;
    int32_t i = n;
    for (; i > 0 && x->stride[order[i - 1]] > x->stride[d]; i--) {
      order[i] = order[i - 1];
    }
    order[i] = d;
  }
  for (int32_t i = 0; i < x->ndim; i++) {
    strides[order[i]] = step;
    step *= MT_MAX(1, shape[order[i]]);
  }
  return true;
}

int mt_tensor_layout(int64_t *strides, const mt_tensor *x) {
  MT_TRY(mt_check_stored("layout", "input", x));
  if (!strides_like(strides, x, x->shape)) {
    mt_row_major(strides, x->ndim, x->shape);
  }
  return MT_OK;
}

int mt_tensor_new_like(mt_tensor **out, const mt_tensor *x, const int64_t *shape, int32_t dtype) {
  int64_t strides[MT_MAX_DIMS], numel;
  *out = NULL;
  MT_TRY(mt_check_stored("empty_like", "input", x));
  shape = shape ? shape : x->shape;
  MT_TRY(mt_check_sizes("tensor", &numel, x->ndim, shape));
  return create(out, x->storage->device, dtype < 0 ? x->dtype : dtype, numel, x->ndim, shape,
                strides_like(strides, x, shape) ? strides : NULL);
}

// Does x's shape hold y's, so that y broadcasts to x?
static bool holds(const mt_tensor *x, const mt_tensor *y) {
  const int32_t missing = x->ndim - y->ndim;
  if (missing < 0) {
    return false;
  }
  for (int32_t d = 0; d < y->ndim; d++) {
    if (y->shape[d] != 1 && y->shape[d] != x->shape[d + missing]) {
      return false;
    }
  }
  return true;
}

int mt_tensor_new_broadcast(mt_tensor **out, const mt_tensor *a, const mt_tensor *b, int32_t dtype) {
  *out = NULL;
  MT_TRY(mt_check_stored("broadcast", "first operand", a));
  MT_TRY(mt_check_stored("broadcast", "second operand", b));
  dtype = dtype < 0 ? a->dtype : dtype;
  if (holds(a, b)) {
    return mt_tensor_new_like(out, a, NULL, dtype);
  }
  if (holds(b, a)) {
    return mt_tensor_new_like(out, b, NULL, dtype);
  }
  const int32_t ndim = MT_MAX(a->ndim, b->ndim);
  int64_t shape[MT_MAX_DIMS];
  for (int32_t d = 0; d < ndim; d++) {
    const int32_t da = d - (ndim - a->ndim), db = d - (ndim - b->ndim);
    const int64_t sa = da < 0 ? 1 : a->shape[da], sb = db < 0 ? 1 : b->shape[db];
    shape[d] = sa != 1 ? sa : sb;
  }
  return mt_tensor_new(out, dtype, ndim, shape, NULL);
}

void mt_tensor_release(mt_tensor *t) {
  if (t == NULL) {
    return;
  }
  if (__atomic_sub_fetch(&t->storage->references, 1, __ATOMIC_ACQ_REL) == 0) {
    t->storage->free(t->storage);
  }
  mt_free(t);
}

// ---- elements ------------------------------------------------------------------------------------------------------

int mt_contiguous(mt_tensor **out, const mt_tensor *t) {
  if (mt_tensor_is_contiguous(t)) {
    return mt_tensor_view(out, t, t->ndim, t->shape, t->stride, 0);
  }
  MT_TRY(mt_tensor_new(out, t->dtype, t->ndim, t->shape, NULL));
  int status = mt_tensor_copy(*out, t);
  if (status != MT_OK) {
    mt_tensor_release(*out);
    *out = NULL;
  }
  return status;
}

// ---- bulk transfer ---------------------------------------------------------------------------

static double canonical(double x) { return x != x ? __builtin_nan("") : x; }

// A tensor header over memory that is not ours.
static mt_tensor borrowed(void *data, mt_storage *storage, int32_t dtype, const mt_tensor *shape_of) {
  mt_tensor t = *shape_of;
  *storage = (mt_storage){.data = data, .bytes = t.numel * mt_dtype_size(dtype), .references = 1, .device = -1};
  t.data = data;
  t.storage = storage;
  t.dtype = dtype;
  mt_row_major(t.stride, t.ndim, t.shape);
  return t;
}

int mt_tensor_read(double *values, const mt_tensor *t) {
  mt_storage storage;
  MT_TRY(mt_check_stored("totable", "input", t));
  mt_tensor to = borrowed(values, &storage, MT_FLOAT64, t);
  MT_TRY(mt_tensor_copy(&to, t));
  for (int64_t i = 0; i < t->numel; i++) {
    values[i] = canonical(values[i]);
  }
  return MT_OK;
}

int mt_tensor_write(mt_tensor *t, const double *values) {
  mt_storage storage;
  MT_TRY(mt_check_stored("tensor", "output", t));
  mt_tensor from = borrowed((void *)(uintptr_t)values, &storage, MT_FLOAT64, t);
  return mt_tensor_copy(t, &from);
}

static int check_bytes(const char *op, const mt_tensor *t, int64_t count) {
  MT_TRY(mt_check_stored(op, "tensor", t));
  if (count != t->numel * mt_dtype_size(t->dtype)) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: %lld bytes for %s", op, (long long)count, MT_SHAPE(t));
  }
  return MT_OK;
}

int mt_tensor_read_bytes(void *bytes, int64_t count, const mt_tensor *t) {
  mt_storage storage;
  MT_TRY(check_bytes("read_bytes", t, count));
  mt_tensor to = borrowed(bytes, &storage, t->dtype, t);
  return mt_tensor_copy(&to, t);
}

int mt_tensor_write_bytes(mt_tensor *t, const void *bytes, int64_t count) {
  mt_storage storage;
  MT_TRY(check_bytes("write_bytes", t, count));
  mt_tensor from = borrowed((void *)(uintptr_t)bytes, &storage, t->dtype, t);
  MT_TRY(mt_tensor_copy(t, &from));
  if (t->dtype == MT_BOOL) {  // a file may hold any byte: a bool is 0 or 1
    mt_tensor as_bytes = *t;
    as_bytes.dtype = MT_UINT8;
    return mt_tensor_copy(t, &as_bytes);
  }
  return MT_OK;
}
