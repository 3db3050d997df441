// common: what every kernel file uses. Internal to the libraries; the contract is kernels.h.
#pragma once
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "checked.h"
#include "kernels.h"

#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#error "masks rely on NaN and Inf: do not build with -ffast-math"
#endif

#define MT_MIN(a, b) ((a) < (b) ? (a) : (b))
#define MT_MAX(a, b) ((a) > (b) ? (a) : (b))

// ---- errors ----------------------------------------------------------------------------------------------------

// Stores the message and returns the status, so that a check is one line: if (bad) return mt_fail(...).
int mt_fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define MT_TRY(call)             \
  do {                           \
    int status_ = (call);        \
    if (status_ != MT_OK) {      \
      return status_;            \
    }                            \
  } while (0)

// "(2, 3, 64) float32" for messages. The text lives until the end of the enclosing block.
enum { MT_TEXT = 256 };
const char *mt_shape_text(char buffer[MT_TEXT], const mt_tensor *t);
const char *mt_sizes_text(char buffer[MT_TEXT], int32_t ndim, const int64_t *shape);
#define MT_SHAPE(t) mt_shape_text((char[MT_TEXT]){0}, t)
#define MT_SIZES(ndim, shape) mt_sizes_text((char[MT_TEXT]){0}, ndim, shape)
const char *mt_dtype_name(int32_t dtype);
int64_t mt_dtype_size(int32_t dtype);

// ---- checks: each names the operation and the argument ------------------------------------------------------------

// Not NULL, not released, of a known dtype.
int mt_check_alive(const char *op, const char *argument, const mt_tensor *t);
// And in memory that this library's kernels reach.
int mt_check_stored(const char *op, const char *argument, const mt_tensor *t);
// And of a type that is computed with: not bfloat16, which a kernel takes only where it was taught to.
int mt_check_tensor(const char *op, const char *argument, const mt_tensor *t);
int mt_check_dtype(const char *op, const char *argument, const mt_tensor *t, int32_t dtype);
// float32, float64 or bfloat16, which is computed with as float32.
int mt_check_floating(const char *op, const char *argument, const mt_tensor *t);
// Of that type, or float32 where it is bfloat16: a result that need not be rounded.
int mt_check_result(const char *op, const char *argument, const mt_tensor *t, int32_t dtype);
// Of that type, or the other one of float32 and bfloat16.
int mt_check_beside(const char *op, const char *argument, const mt_tensor *t, int32_t dtype);
// float32 or float64.
int mt_check_real(const char *op, const char *argument, const mt_tensor *t);
// int64 or int32.
int mt_check_integer(const char *op, const char *argument, const mt_tensor *t);
int mt_check_ndim(const char *op, const char *argument, const mt_tensor *t, int32_t ndim);
// Exactly this shape.
int mt_check_shape(const char *op, const char *argument, const mt_tensor *t, int32_t ndim, const int64_t *shape);
// The same shape and dtype as `like`.
int mt_check_like(const char *op, const char *argument, const mt_tensor *t, const mt_tensor *like);
// t broadcasts to `to`: sizes 1 repeat, missing leading dims are added.
int mt_check_fits(const char *op, const char *argument, const mt_tensor *t, const mt_tensor *to);
int mt_check_dim(const char *op, int32_t dim, const mt_tensor *t);
// May be written to: no two indexes share memory.
int mt_check_output(const char *op, const char *argument, const mt_tensor *t);
// The same, bfloat16 included.
int mt_check_stored_output(const char *op, const char *argument, const mt_tensor *t);
// An output that shares memory with an input, other than being the very same view where same_view_allowed.
int mt_check_overlap(const char *op, const mt_tensor *out, const mt_tensor *in, bool same_view_allowed);

static inline bool mt_same_shape(const mt_tensor *a, const mt_tensor *b) {
  return a->ndim == b->ndim && memcmp(a->shape, b->shape, sizeof(int64_t) * (size_t)a->ndim) == 0;
}

// *numel of a shape; refuses negative sizes, too many dims, and products beyond 64 bits.
int mt_check_sizes(const char *op, int64_t *numel, int32_t ndim, const int64_t *shape);
// Strides of dims with one element or none are never walked, yet they are converted to bytes.
#define MT_STRIDE_LIMIT (INT64_MAX / 16)

// ---- memory -----------------------------------------------------------------------------------------------------

// 64-byte aligned. NULL when there is none, with the message stored.
void *mt_alloc(int64_t bytes);
void mt_free(void *block);

// Scratch memory of a kernel: count * size bytes; NULL when there is none, with the message stored. Ends with mt_free.
#define MT_SCRATCH(type, name, count)                                   \
  type *name = mt_alloc_array((count), (int64_t)sizeof(type))
void *mt_alloc_array(int64_t count, int64_t size);

// The memory of tensors. Each library has its own: storage.c, cuda/memory.cu.
int mt_storage_new(mt_storage **out, int64_t bytes, int32_t device);  // one reference, not initialised
void mt_storage_free(mt_storage *storage);                           // storage->free
int32_t mt_storage_device(void);  // where new tensors go: -1, or the CUDA device that is current
// Whether this library's kernels reach the memory of such a device. The shared files are compiled for each library.
#ifdef MT_CUDA_LIBRARY
#define MT_IS_HERE(device) ((device) >= 0)
#else
#define MT_IS_HERE(device) ((device) < 0)
#endif

// ---- parallel loops ---------------------------------------------------------------------------------------------

// Runs task over [0, n) in chunks [k * grain, (k + 1) * grain). The cut depends on n and grain alone, so results do
// not depend on the number of threads. Polls the cancel flag between chunks. Nested calls run in the caller.
typedef void (*mt_task)(void *context, int64_t begin, int64_t end);
int mt_parallel(int64_t n, int64_t grain, mt_task task, void *context);

// ---- small tensor helpers -----------------------------------------------------------------------------------------

// A contiguous copy of t (or t itself with another reference when it already is contiguous).
int mt_contiguous(mt_tensor **out, const mt_tensor *t);
// A header of no dims over the element at i (0-based); an index outside is an error of "index".
int mt_element_of(mt_tensor *element, const mt_tensor *t, const int64_t *i);
// Row-major strides of a shape.
void mt_row_major(int64_t *stride, int32_t ndim, const int64_t *shape);

// The type that is computed in: float32 for bfloat16.
static inline int32_t mt_computed(int32_t dtype) { return dtype == MT_BFLOAT16 ? MT_FLOAT32 : dtype; }

// The typed body of a kernel is compiled twice (twice.h); this picks the copy.
#define MT_REAL_CALL(dtype, function, ...) \
  ((dtype) != MT_FLOAT64 ? function##_f32(__VA_ARGS__) : function##_f64(__VA_ARGS__))
#define MT_REAL_FN(dtype, function) ((dtype) != MT_FLOAT64 ? function##_f32 : function##_f64)
