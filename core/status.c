// status: the thread's last error message, and the checks that write it.
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "common.h"

static _Thread_local char last_error[2048];
static _Thread_local double last_error_time = -1;

const char *mt_version(void) { return MT_VERSION; }

const char *mt_last_error(void) { return last_error; }

double mt_last_error_time(void) { return last_error_time; }

int mt_fail(int status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(last_error, sizeof last_error, format, arguments);
  va_end(arguments);
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  last_error_time = (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
  return status;
}

const char *mt_dtype_name(int32_t dtype) {
  static const char *const names[MT_DTYPES] = {"float32", "float64", "int64", "int32", "uint8", "bool", "bfloat16"};
  return dtype >= 0 && dtype < MT_DTYPES ? names[dtype] : "released";
}

int64_t mt_dtype_size(int32_t dtype) {
  static const int64_t sizes[MT_DTYPES] = {4, 8, 8, 4, 1, 1, 2};
  return sizes[dtype];
}

const char *mt_sizes_text(char buffer[MT_TEXT], int32_t ndim, const int64_t *shape) {
  int n = snprintf(buffer, MT_TEXT, "(");
  for (int32_t d = 0; d < ndim && n < MT_TEXT; d++) {
    n += snprintf(buffer + n, (size_t)(MT_TEXT - n), d ? ", %lld" : "%lld", (long long)shape[d]);
  }
  if (n < MT_TEXT) {
    snprintf(buffer + n, (size_t)(MT_TEXT - n), ")");
  }
  return buffer;
}

const char *mt_shape_text(char buffer[MT_TEXT], const mt_tensor *t) {
  if (t == NULL) {
    return "nil";
  }
  mt_sizes_text(buffer, t->ndim, t->shape);
  size_t n = strlen(buffer);
  snprintf(buffer + n, MT_TEXT - n, " %s", mt_dtype_name(t->dtype));
  return buffer;
}

// ---- checks -----------------------------------------------------------------------------------------------------

int mt_check_alive(const char *op, const char *argument, const mt_tensor *t) {
  if (t == NULL) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: %s: expected a tensor, got nil", op, argument);
  }
  if (t->dtype < 0 || t->dtype >= MT_DTYPES || t->storage == NULL) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: %s: the tensor was released", op, argument);
  }
  return MT_OK;
}

int mt_check_stored(const char *op, const char *argument, const mt_tensor *t) {
  MT_TRY(mt_check_alive(op, argument, t));
  if (!MT_IS_HERE(t->storage->device)) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: %s: is on %s, where this kernel does not reach; move it with :to{device = ...}", op,
                   argument, t->storage->device < 0 ? "the CPU" : "a CUDA device");
  }
  return MT_OK;
}

int mt_check_tensor(const char *op, const char *argument, const mt_tensor *t) {
  MT_TRY(mt_check_stored(op, argument, t));
  if (t->dtype == MT_BFLOAT16) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: %s: expected another type, got %s; use :float()", op, argument, MT_SHAPE(t));
  }
  return MT_OK;
}

int mt_check_dtype(const char *op, const char *argument, const mt_tensor *t, int32_t dtype) {
  MT_TRY(mt_check_stored(op, argument, t));
  if (t->dtype != dtype) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: %s: expected %s, got %s", op, argument, mt_dtype_name(dtype), MT_SHAPE(t));
  }
  return MT_OK;
}

int mt_check_real(const char *op, const char *argument, const mt_tensor *t) {
  MT_TRY(mt_check_stored(op, argument, t));
  if (t->dtype != MT_FLOAT32 && t->dtype != MT_FLOAT64) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: %s: expected float32 or float64, got %s%s", op, argument, MT_SHAPE(t),
                   t->dtype == MT_BFLOAT16 ? "; use :float()" : "");
  }
  return MT_OK;
}

int mt_check_floating(const char *op, const char *argument, const mt_tensor *t) {
  MT_TRY(mt_check_stored(op, argument, t));
  if (t->dtype != MT_FLOAT32 && t->dtype != MT_FLOAT64 && t->dtype != MT_BFLOAT16) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: %s: expected float32, float64 or bfloat16, got %s", op, argument, MT_SHAPE(t));
  }
  return MT_OK;
}

int mt_check_result(const char *op, const char *argument, const mt_tensor *t, int32_t dtype) {
  MT_TRY(mt_check_stored(op, argument, t));
  if (t->dtype != dtype && t->dtype != mt_computed(dtype)) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: %s: expected %s%s, got %s", op, argument, mt_dtype_name(dtype),
                   dtype == MT_BFLOAT16 ? " or float32" : "", MT_SHAPE(t));
  }
  return MT_OK;
}

int mt_check_beside(const char *op, const char *argument, const mt_tensor *t, int32_t dtype) {
  MT_TRY(mt_check_stored(op, argument, t));
  if (mt_computed(t->dtype) != mt_computed(dtype)) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: %s: expected %s, got %s", op, argument,
                   mt_computed(dtype) == MT_FLOAT32 ? "float32 or bfloat16" : mt_dtype_name(dtype), MT_SHAPE(t));
  }
  return MT_OK;
}

int mt_check_integer(const char *op, const char *argument, const mt_tensor *t) {
  MT_TRY(mt_check_tensor(op, argument, t));
  if (t->dtype != MT_INT64 && t->dtype != MT_INT32) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: %s: expected int64 or int32, got %s", op, argument, MT_SHAPE(t));
  }
  return MT_OK;
}

int mt_check_ndim(const char *op, const char *argument, const mt_tensor *t, int32_t ndim) {
  MT_TRY(mt_check_tensor(op, argument, t));
  if (t->ndim != ndim) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: %s: expected %d dimensions, got %s", op, argument, ndim, MT_SHAPE(t));
  }
  return MT_OK;
}

int mt_check_shape(const char *op, const char *argument, const mt_tensor *t, int32_t ndim, const int64_t *shape) {
  MT_TRY(mt_check_stored(op, argument, t));
  if (t->ndim != ndim || memcmp(t->shape, shape, sizeof(int64_t) * (size_t)ndim) != 0) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: %s: expected %s, got %s", op, argument, MT_SIZES(ndim, shape), MT_SHAPE(t));
  }
  return MT_OK;
}

int mt_check_like(const char *op, const char *argument, const mt_tensor *t, const mt_tensor *like) {
  MT_TRY(mt_check_stored(op, argument, t));
  if (t->dtype != like->dtype || !mt_same_shape(t, like)) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: %s: expected %s, got %s", op, argument, MT_SHAPE(like), MT_SHAPE(t));
  }
  return MT_OK;
}

int mt_check_fits(const char *op, const char *argument, const mt_tensor *t, const mt_tensor *to) {
  MT_TRY(mt_check_stored(op, argument, t));
  bool fits = t->ndim <= to->ndim;
  for (int32_t d = 0; fits && d < t->ndim; d++) {
    fits = t->shape[d] == 1 || t->shape[d] == to->shape[d + to->ndim - t->ndim];
  }
  return fits ? MT_OK : mt_fail(MT_ERROR_ARGUMENT, "%s: %s: %s does not broadcast to %s", op, argument, MT_SHAPE(t), MT_SHAPE(to));
}

int mt_check_dim(const char *op, int32_t dim, const mt_tensor *t) {
  if (dim < 0 || dim >= t->ndim) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: dim %lld is outside 1..%d of %s", op, dim + 1LL, t->ndim,
                   MT_SHAPE(t));
  }
  return MT_OK;
}

int mt_check_output(const char *op, const char *argument, const mt_tensor *t) {
  MT_TRY(mt_check_tensor(op, argument, t));
  return mt_check_stored_output(op, argument, t);
}

int mt_check_stored_output(const char *op, const char *argument, const mt_tensor *t) {
  MT_TRY(mt_check_stored(op, argument, t));
  if (!mt_tensor_is_dense(t)) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: %s: several elements of %s share memory (an expanded view); write to a :clone()",
                   op, argument, MT_SHAPE(t));
  }
  return MT_OK;
}

// First and last byte that a tensor touches.
static void extent(const mt_tensor *t, const char **first, const char **last) {
  int64_t low = 0, high = 0, size = mt_dtype_size(t->dtype);
  for (int32_t d = 0; d < t->ndim; d++) {
    int64_t reach = (t->shape[d] - 1) * t->stride[d];
    if (reach > 0) {
      high += reach;
    } else {
      low += reach;
    }
  }
  *first = (const char *)t->data + low * size;
  *last = (const char *)t->data + (high + 1) * size - 1;
}

int mt_check_overlap(const char *op, const mt_tensor *out, const mt_tensor *in, bool same_view_allowed) {
  if (out->storage != in->storage || out->numel == 0 || in->numel == 0) {
    return MT_OK;
  }
  if (same_view_allowed && out->data == in->data && out->dtype == in->dtype && mt_same_shape(out, in) &&
      memcmp(out->stride, in->stride, sizeof(int64_t) * (size_t)out->ndim) == 0) {
    return MT_OK;
  }
  const char *a0, *a1, *b0, *b1;
  extent(out, &a0, &a1);
  extent(in, &b0, &b1);
  if (a1 < b0 || b1 < a0) {
    return MT_OK;
  }
  // Interleaved views (even and odd columns) have overlapping extents without a common element; telling them apart
  // exactly is a Diophantine problem, so they are refused too and a clone() is the way out.
  return mt_fail(MT_ERROR_ARGUMENT, "%s: the output %s shares memory with the input %s; use a :clone() of one of them", op,
                 MT_SHAPE(out), MT_SHAPE(in));
}
