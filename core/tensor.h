// tensor: a typed, strided view of reference-counted memory. Up to 8 dimensions, strides in elements.
// Two tensors may share a storage (views). A tensor is freed with its last reference, a storage with its
// last tensor; the order does not matter.
#pragma once
#include <stdint.h>

#pragma GCC visibility push(default)

// Element types. bool is one byte, 0 or 1. bfloat16 is the upper half of a float32: its range, 8 bits of precision; it is for storage,
// and only kernels whose header says so take it.
enum { MT_FLOAT32 = 0, MT_FLOAT64 = 1, MT_INT64 = 2, MT_INT32 = 3, MT_UINT8 = 4, MT_BOOL = 5, MT_BFLOAT16 = 6, MT_DTYPES = 7 };

// Status of every call.
enum { MT_OK = 0, MT_ERROR_ARGUMENT = 1, MT_ERROR_MEMORY = 2, MT_ERROR_INTERRUPTED = 3, MT_ERROR_INTERNAL = 4 };

enum { MT_MAX_DIMS = 8 };

typedef struct mt_storage {
  void *data;
  int64_t bytes;
  int64_t version;     // counts in-place changes; autograd compares it before it uses a saved tensor
  int32_t references;
  int32_t device;      // CUDA device number; -1 is the CPU
  int64_t mapped;      // the bytes of a memory-mapped file that data is (mapped.h); 0: allocated memory
  void (*free)(struct mt_storage *);  // by the library that made it; a view may outlive its last handle in the other one
} mt_storage;

typedef struct mt_tensor {
  void *data;          // the first element
  mt_storage *storage;
  int64_t numel;
  int32_t dtype;
  int32_t ndim;
  int64_t shape[MT_MAX_DIMS];
  int64_t stride[MT_MAX_DIMS];
} mt_tensor;

// *out = a new tensor with uninitialised elements. strides == NULL: row-major; otherwise strides of a dense,
// non-overlapping layout of that shape (a permutation of row-major).
int mt_tensor_new(mt_tensor **out, int32_t dtype, int32_t ndim, const int64_t *shape, const int64_t *strides);

// *out = a new tensor in the memory format of x: its dims lie in memory in the order of x's (row-major when several elements of x
// share memory). shape: as many sizes as x has dims, or NULL for x's own; dtype -1 is x's.
int mt_tensor_new_like(mt_tensor **out, const mt_tensor *x, const int64_t *shape, int32_t dtype);

// strides[ndim] = those of such a tensor of x's own shape.
int mt_tensor_layout(int64_t *strides, const mt_tensor *x);

// *out = a new tensor of the shape that a and b broadcast to, in the memory format of the operand that has this shape (a first; of
// none: row-major); dtype -1 is a's. Sizes that do not fit together are not refused here: the kernel that computes it does that.
int mt_tensor_new_broadcast(mt_tensor **out, const mt_tensor *a, const mt_tensor *b, int32_t dtype);

// *out = t's elements under another handle.
int mt_tensor_alias(mt_tensor **out, const mt_tensor *t);

// *out = a view of t's storage that starts `offset` elements after t's first element. Every element must lie
// inside the storage. Strides may be 0 or repeat memory (expand); such a view cannot be written to.
int mt_tensor_view(mt_tensor **out, const mt_tensor *t, int32_t ndim, const int64_t *shape, const int64_t *strides,
                   int64_t offset);

// Views without tables of sizes. select: without `dim`, at that 0-based position. permute: dim d is dim order[d] of t. squeeze:
// without the dims whose bits are set (size 1). unsqueeze: with new dims of size 1 where bits are set, counted in the result.
// expand: sizes 1 repeated, new dims in front.
int mt_tensor_select(mt_tensor **out, const mt_tensor *t, int32_t dim, int64_t position);
int mt_tensor_permute(mt_tensor **out, const mt_tensor *t, const int64_t *order);
int mt_tensor_squeeze(mt_tensor **out, const mt_tensor *t, int32_t dims);
int mt_tensor_unsqueeze(mt_tensor **out, const mt_tensor *t, int32_t dims);
int mt_tensor_expand(mt_tensor **out, const mt_tensor *t, int32_t ndim, const int64_t *shape);

// Drops one reference; NULL is allowed. Never fails: it is a finalizer.
void mt_tensor_release(mt_tensor *t);

// dst = src converted to dst's type, any two types, same shape, any strides. Float to integer truncates towards
// zero; to bool: x != 0 (NaN is true); to bfloat16: to nearest, ties to even, rounded once whatever the source is; NaN stays NaN. The
// regions may be the same view but must not partly overlap.
int mt_tensor_copy(mt_tensor *dst, const mt_tensor *src);

// t[...] = value, converted like mt_tensor_copy.
int mt_tensor_fill(mt_tensor *t, double value);

// *value = the element at 0-based position i[0..ndim-1], as a double whose NaN is the canonical one (LuaJIT boxes
// values in NaNs: a raw bit pattern from memory may not reach it). int64 beyond 2^53 is rounded.
int mt_tensor_get(double *value, const mt_tensor *t, const int64_t *i);
int mt_tensor_set(mt_tensor *t, const int64_t *i, double value);

// Copies numel elements in row-major order from or to an array of doubles (NaN canonical, as above).
int mt_tensor_read(double *values, const mt_tensor *t);
int mt_tensor_write(mt_tensor *t, const double *values);

// Raw bytes in row-major order; the byte count must be numel * size of dtype.
int mt_tensor_read_bytes(void *bytes, int64_t count, const mt_tensor *t);
int mt_tensor_write_bytes(mt_tensor *t, const void *bytes, int64_t count);

// 1 when the elements lie in row-major order without gaps.
int mt_tensor_is_contiguous(const mt_tensor *t);
// 1 when no two indexes share an element.
int mt_tensor_is_dense(const mt_tensor *t);
// 0: different sizes, or one is NULL; 1: the same sizes; 2: and dtype; 3: and strides.
int mt_tensor_alike(const mt_tensor *a, const mt_tensor *b);
// 1 when t has these sizes.
int mt_tensor_has_shape(const mt_tensor *t, int32_t ndim, const int64_t *shape);
// *result = 1 when shape, dtype and all elements are equal bit for bit.
int mt_tensor_same_bits(int32_t *result, const mt_tensor *a, const mt_tensor *b);

#pragma GCC visibility pop
