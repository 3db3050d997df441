// tensor: copies between types, layouts, devices and the host; fill; single elements. See core/tensor.h. Creation and views are
// core/tensor.c and core/tensor_view.c, compiled for this library too.
#include <stdlib.h>

#include "row.cuh"

extern "C" {
#include "../core/convert.h"
}

// ---- conversion on the device -----------------------------------------------------------------------------------------

MT_ROW_1(move_8, int64_t, int64_t, x)
MT_ROW_1(move_4, int32_t, int32_t, x)
MT_ROW_1(move_2, uint16_t, uint16_t, x)
MT_ROW_1(move_1, uint8_t, uint8_t, x)

#define FROM_FLOAT(suffix, S)                                       \
  MT_ROW_1(f32_of_##suffix, float, S, x)                            \
  MT_ROW_1(f64_of_##suffix, double, S, x)                           \
  MT_ROW_1(i64_of_##suffix, int64_t, S, mt_to_int64((double)x))     \
  MT_ROW_1(i32_of_##suffix, int32_t, S, mt_to_int32((double)x))     \
  MT_ROW_1(u8_of_##suffix, uint8_t, S, mt_to_int64((double)x))      \
  MT_ROW_1(bool_of_##suffix, uint8_t, S, x != 0)                    \
  MT_ROW_1(bf16_of_##suffix, uint16_t, S, sizeof(S) == 4 ? mt_bf16_of((float)x) : mt_bf16_of_double((double)x))
#define FROM_INTEGER(suffix, S)              \
  MT_ROW_1(f32_of_##suffix, float, S, x)     \
  MT_ROW_1(f64_of_##suffix, double, S, x)    \
  MT_ROW_1(i64_of_##suffix, int64_t, S, x)   \
  MT_ROW_1(i32_of_##suffix, int32_t, S, x)   \
  MT_ROW_1(u8_of_##suffix, uint8_t, S, x)    \
  MT_ROW_1(bool_of_##suffix, uint8_t, S, x != 0) \
  MT_ROW_1(bf16_of_##suffix, uint16_t, S, mt_bf16_of_double((double)x))

FROM_FLOAT(f32, float)
FROM_FLOAT(f64, double)
FROM_INTEGER(i64, int64_t)
FROM_INTEGER(i32, int32_t)
FROM_INTEGER(u8, uint8_t)
MT_ROW_1(f32_of_bf16, float, uint16_t, mt_bf16_value(x))
MT_ROW_1(f64_of_bf16, double, uint16_t, mt_bf16_value(x))
MT_ROW_1(i64_of_bf16, int64_t, uint16_t, mt_to_int64(mt_bf16_value(x)))
MT_ROW_1(i32_of_bf16, int32_t, uint16_t, mt_to_int32(mt_bf16_value(x)))
MT_ROW_1(u8_of_bf16, uint8_t, uint16_t, mt_to_int64(mt_bf16_value(x)))
MT_ROW_1(bool_of_bf16, uint8_t, uint16_t, mt_bf16_value(x) != 0)

// [source][destination], in the order of the dtypes; a bool is read as a byte.
#define TO_ALL(s) {f32_of_##s, f64_of_##s, i64_of_##s, i32_of_##s, u8_of_##s, bool_of_##s, bf16_of_##s}
static const mt_row_function conversions[MT_DTYPES][MT_DTYPES] = {TO_ALL(f32), TO_ALL(f64), TO_ALL(i64),
                                                                  TO_ALL(i32), TO_ALL(u8),  TO_ALL(u8),
                                                                  {f32_of_bf16, f64_of_bf16, i64_of_bf16, i32_of_bf16, u8_of_bf16,
                                                                   bool_of_bf16, move_2}};

static int convert(mt_tensor *dst, const mt_tensor *src) {
  const mt_tensor *const t[] = {dst, src};
  const int64_t size = mt_dtype_size(dst->dtype);
  if (dst->dtype == src->dtype) {
    return mt_loop_launch(2, t, size == 8 ? move_8 : size == 4 ? move_4 : size == 2 ? move_2 : move_1, NULL, 0);
  }
  return mt_loop_launch(2, t, conversions[src->dtype][dst->dtype], NULL, 0);
}

// ---- layouts ------------------------------------------------------------------------------------------------------------

// Elements in one piece of memory without gaps, in any order of the dims.
static bool is_solid(const mt_tensor *t) {
  int64_t reach = 0;
  for (int32_t d = 0; d < t->ndim; d++) {
    reach += (t->shape[d] - 1) * t->stride[d];
  }
  return t->numel == 0 || (reach == t->numel - 1 && mt_tensor_is_dense(t));
}

static bool same_strides(const mt_tensor *a, const mt_tensor *b) {
  for (int32_t d = 0; d < a->ndim; d++) {
    if (a->shape[d] != 1 && a->stride[d] != b->stride[d]) {
      return false;
    }
  }
  return true;
}

// A header for t's shape over other memory, row-major unless `strides`.
static mt_tensor header(const mt_tensor *t, void *data, mt_storage *storage, int32_t device, int32_t dtype, const int64_t *strides) {
  mt_tensor h = *t;
  memset(storage, 0, sizeof *storage);
  storage->data = h.data = data;
  storage->bytes = t->numel * mt_dtype_size(dtype);
  storage->references = 1;
  storage->device = device;
  h.storage = storage;
  h.dtype = dtype;
  if (strides) {
    memcpy(h.stride, strides, sizeof h.stride);
  } else {
    mt_row_major(h.stride, h.ndim, h.shape);
  }
  return h;
}

// ---- between host and device ----------------------------------------------------------------------------------------------

// Host memory: the elements of `to`, any strides, from those of `from`, of one dtype.
static int move_on_host(mt_tensor *to, const mt_tensor *from) {
  mt_loop loop;
  const mt_tensor *const t[] = {to, from};
  MT_TRY(mt_loop_plan(&loop, 2, t));
  const size_t size = (size_t)mt_dtype_size(to->dtype);
  for (int64_t i = 0; i < loop.numel; i++) {
    int64_t rest = i;
    char *p = loop.base[0], *q = loop.base[1];
    for (int32_t d = 0; d < loop.ndim; d++) {
      const int64_t at = rest % loop.shape[d];
      rest /= loop.shape[d];
      p += at * loop.step[0][d];
      q += at * loop.step[1][d];
    }
    memcpy(p, q, size);
  }
  return MT_OK;
}

// Host memory that ends with its scope.
struct host_block {
  void *data;
  explicit host_block(int64_t bytes) : data(mt_alloc(bytes)) {}
  ~host_block() { mt_free(data); }
};

static int to_device(mt_tensor *dst, const mt_tensor *src) {
  mt_device *device;
  mt_storage here, there;
  mt_scratch scratch;
  const int64_t bytes = src->numel * mt_dtype_size(src->dtype);
  MT_TRY(mt_enter(&device, dst));
  if (!is_solid(src)) {
    host_block block(bytes);
    if (block.data == NULL) {
      return MT_ERROR_MEMORY;
    }
    mt_tensor plain = header(src, block.data, &here, -1, src->dtype, NULL);
    MT_TRY(move_on_host(&plain, src));
    return to_device(dst, &plain);
  }
  if (dst->dtype == src->dtype && is_solid(dst) && same_strides(dst, src)) {
    return mt_copy_to_device("copy", device, dst->data, src->data, bytes);
  }
  MT_TRY(scratch.take(device, bytes));
  MT_TRY(mt_copy_to_device("copy", device, scratch.data, src->data, bytes));
  const mt_tensor arrived = header(src, scratch.data, &there, dst->storage->device, src->dtype, src->stride);
  return convert(dst, &arrived);
}

static int to_host(mt_tensor *dst, const mt_tensor *src) {
  mt_device *device;
  mt_storage here, there;
  mt_scratch scratch;
  const int64_t bytes = dst->numel * mt_dtype_size(dst->dtype);
  MT_TRY(mt_enter(&device, src));
  if (!is_solid(dst)) {
    host_block block(bytes);
    if (block.data == NULL) {
      return MT_ERROR_MEMORY;
    }
    mt_tensor plain = header(dst, block.data, &here, -1, dst->dtype, NULL);
    MT_TRY(to_host(&plain, src));
    return move_on_host(dst, &plain);
  }
  if (dst->dtype == src->dtype && is_solid(src) && same_strides(dst, src)) {
    return mt_copy_to_host("copy", device, dst->data, src->data, bytes);
  }
  MT_TRY(scratch.take(device, bytes));
  mt_tensor leaving = header(dst, scratch.data, &there, src->storage->device, dst->dtype, dst->stride);
  MT_TRY(convert(&leaving, src));
  return mt_copy_to_host("copy", device, dst->data, scratch.data, bytes);
}

// ---- between devices --------------------------------------------------------------------------------------------------------

// dst's device waits for what src's has queued, and the other way round, so that the scratch may be used again at once.
static int wait_for(mt_device *waiting, mt_device *working) {
  cudaEvent_t event;
  MT_TRY(mt_enter_number(&working, working->number));
  MT_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  cudaError_t error = cudaEventRecord(event, working->stream);
  if (error == cudaSuccess) {
    error = cudaStreamWaitEvent(waiting->stream, event, 0);
  }
  (void)cudaEventDestroy(event);
  return error == cudaSuccess ? MT_OK : mt_cuda_fail(error, "cudaStreamWaitEvent");
}

static int across(mt_tensor *dst, const mt_tensor *src) {
  mt_device *from, *to;
  mt_storage there, here;
  mt_scratch leaving, arriving;
  const int64_t bytes = src->numel * mt_dtype_size(dst->dtype);
  MT_TRY(mt_enter(&to, dst));
  MT_TRY(arriving.take(to, bytes));
  MT_TRY(mt_enter(&from, src));
  MT_TRY(mt_check_may_wait("copy", to));
  MT_TRY(mt_check_may_wait("copy", from));
  MT_TRY(leaving.take(from, bytes));
  mt_tensor packed = header(src, leaving.data, &there, from->number, dst->dtype, NULL);
  MT_TRY(convert(&packed, src));
  MT_TRY(wait_for(from, to));
  MT_TRY(mt_enter_number(&from, from->number));
  MT_CUDA(cudaMemcpyPeerAsync(arriving.data, to->number, leaving.data, from->number, (size_t)bytes, from->stream));
  MT_TRY(wait_for(to, from));
  const mt_tensor arrived = header(src, arriving.data, &here, to->number, dst->dtype, NULL);
  return convert(dst, &arrived);
}

extern "C" int mt_tensor_copy(mt_tensor *dst, const mt_tensor *src) {
  MT_TRY(mt_check_alive("copy", "destination", dst));
  MT_TRY(mt_check_alive("copy", "source", src));
  if (!mt_tensor_is_dense(dst)) {
    return mt_fail(MT_ERROR_ARGUMENT, "copy: destination: several elements of %s share memory (an expanded view); write to a :clone()",
                   MT_SHAPE(dst));
  }
  if (!mt_same_shape(dst, src)) {
    return mt_fail(MT_ERROR_ARGUMENT, "copy: source: expected %s, got %s", MT_SIZES(dst->ndim, dst->shape), MT_SHAPE(src));
  }
  MT_TRY(mt_check_overlap("copy", dst, src, true));
  const int32_t to = dst->storage->device, from = src->storage->device;
  if (to < 0 && from < 0) {
    return mt_fail(MT_ERROR_ARGUMENT, "copy: both tensors are on the CPU");
  }
  if (dst->numel == 0) {
    return MT_OK;
  }
  return to == from ? convert(dst, src) : from < 0 ? to_device(dst, src) : to < 0 ? to_host(dst, src) : across(dst, src);
}

// ---- fill -------------------------------------------------------------------------------------------------------------------

static __global__ void fill_8(const mt_walk walk, const mt_context context) {
  MT_EACH(i, walk.numel) {
    char *p[1];
    mt_walk_at(p, walk, i);
    *(int64_t *)p[0] = *(const int64_t *)&context;
  }
}
static __global__ void fill_4(const mt_walk walk, const mt_context context) {
  MT_EACH(i, walk.numel) {
    char *p[1];
    mt_walk_at(p, walk, i);
    *(int32_t *)p[0] = *(const int32_t *)&context;
  }
}
static __global__ void fill_2(const mt_walk walk, const mt_context context) {
  MT_EACH(i, walk.numel) {
    char *p[1];
    mt_walk_at(p, walk, i);
    *(uint16_t *)p[0] = *(const uint16_t *)&context;
  }
}
static __global__ void fill_1(const mt_walk walk, const mt_context context) {
  MT_EACH(i, walk.numel) {
    char *p[1];
    mt_walk_at(p, walk, i);
    *(uint8_t *)p[0] = *(const uint8_t *)&context;
  }
}

// value in t's type, in the first bytes of `words`.
static void convert_value(mt_context *words, int32_t dtype, double value) {
  const float f = (float)value;
  const int64_t i64 = mt_to_int64(value);
  const int32_t i32 = mt_to_int32(value);
  const uint16_t bf16 = mt_bf16_of_double(value);
  const uint8_t u8 = (uint8_t)i64, truth = value != 0;
  memset(words, 0, sizeof *words);
  switch (dtype) {
    case MT_FLOAT32: memcpy(words, &f, sizeof f); break;
    case MT_FLOAT64: memcpy(words, &value, sizeof value); break;
    case MT_INT64: memcpy(words, &i64, sizeof i64); break;
    case MT_INT32: memcpy(words, &i32, sizeof i32); break;
    case MT_UINT8: memcpy(words, &u8, sizeof u8); break;
    case MT_BFLOAT16: memcpy(words, &bf16, sizeof bf16); break;
    default: memcpy(words, &truth, sizeof truth); break;
  }
}

extern "C" int mt_tensor_fill(mt_tensor *t, double value) {
  MT_TRY(mt_check_stored_output("fill", "tensor", t));
  mt_context words;
  const mt_tensor *const operands[] = {t};
  const int64_t size = mt_dtype_size(t->dtype);
  convert_value(&words, t->dtype, value);
  return mt_loop_launch(1, operands, size == 8 ? fill_8 : size == 4 ? fill_4 : size == 2 ? fill_2 : fill_1, &words, sizeof words);
}

// ---- single elements ----------------------------------------------------------------------------------------------------------

extern "C" int mt_tensor_get(double *value, const mt_tensor *t, const int64_t *i) {
  mt_tensor element;
  MT_TRY(mt_element_of(&element, t, i));
  return mt_tensor_read(value, &element);
}

extern "C" int mt_tensor_set(mt_tensor *t, const int64_t *i, double value) {
  mt_tensor element;
  MT_TRY(mt_element_of(&element, t, i));
  return mt_tensor_fill(&element, value);
}

// ---- comparison -----------------------------------------------------------------------------------------------------------------

template <typename T> static __global__ void differ(const mt_walk walk, int32_t *found) {
  MT_EACH(i, walk.numel) {
    char *p[2];
    mt_walk_at(p, walk, i);
    if (*(const T *)p[0] != *(const T *)p[1]) {
      atomicExch(found, 1);
    }
  }
}

extern "C" int mt_tensor_same_bits(int32_t *result, const mt_tensor *a, const mt_tensor *b) {
  mt_device *device;
  mt_walk walk;
  mt_scratch flag;
  int32_t found = 0;
  const mt_tensor *const t[] = {a, b};
  MT_TRY(mt_check_stored("same_bits", "a", a));
  MT_TRY(mt_check_stored("same_bits", "b", b));
  MT_TRY(mt_check_together("same_bits", a, 2, t));
  *result = a->dtype == b->dtype && mt_same_shape(a, b);
  if (!*result || a->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_walk_plan(&walk, 2, t));
  MT_TRY(mt_enter(&device, a));
  MT_TRY(flag.take(device, (int64_t)sizeof found));
  MT_CUDA(cudaMemsetAsync(flag.data, 0, sizeof found, device->stream));
  const int64_t size = mt_dtype_size(a->dtype);
  const unsigned grid = mt_grid(device, walk.numel);
  if (size == 8) {
    MT_LAUNCH(device, differ<uint64_t>, grid, MT_BLOCK, 0, walk, (int32_t *)flag.data);
  } else if (size == 4) {
    MT_LAUNCH(device, differ<uint32_t>, grid, MT_BLOCK, 0, walk, (int32_t *)flag.data);
  } else if (size == 2) {
    MT_LAUNCH(device, differ<uint16_t>, grid, MT_BLOCK, 0, walk, (int32_t *)flag.data);
  } else {
    MT_LAUNCH(device, differ<uint8_t>, grid, MT_BLOCK, 0, walk, (int32_t *)flag.data);
  }
  MT_TRY(mt_copy_to_host("equal", device, &found, flag.data, (int64_t)sizeof found));
  *result = found == 0;
  return MT_OK;
}
