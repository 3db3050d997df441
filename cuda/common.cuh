// common: the one door to the CUDA runtime. Internal to the CUDA library; the contract is core/kernels.h.
//
// A kernel file holds, for every function of its stem: the checks that the C file makes too (core/<stem>_check.h), mt_enter, and
// MT_LAUNCH. README.md shows one.
#pragma once
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cuda_runtime.h>

extern "C" {
#include "../core/common.h"
#include "device.h"
}

// C's compound literals are not C++: the text lives until the end of the full expression here too.
struct mt_text { char text[MT_TEXT]; };
#undef MT_SHAPE
#undef MT_SIZES
#define MT_SHAPE(t) mt_shape_text(mt_text().text, t)
#define MT_SIZES(ndim, shape) mt_sizes_text(mt_text().text, ndim, shape)

// Device functions. They are always inlined.
#define MT_DEVICE static __device__ __forceinline__
#define MT_INLINE MT_DEVICE
#define MT_INSIDE __device__ __forceinline__  // the same for members of a struct

// ---- status ---------------------------------------------------------------------------------------------------------

// The status for a CUDA error, with the message stored. Errors after which the context is lost are remembered: every later call
// fails with the advice to start a new process.
int mt_cuda_fail(cudaError_t error, const char *what);

#define MT_CUDA(call)                            \
  do {                                           \
    const cudaError_t error_ = (call);           \
    if (error_ != cudaSuccess) {                 \
      return mt_cuda_fail(error_, #call);        \
    }                                            \
  } while (0)

// Queues kernel<<<grid, block, shared bytes>>>(...) on the device's stream; returns from the caller when it is refused. The only
// way to launch: the simulator (tests/cuda_simulator) has its own. A kernel with a comma in its name stands in parentheses.
#ifdef MT_SIMULATOR
#define MT_LAUNCH(device, kernel, grid, block, shared, ...)                                                       \
  do {                                                                                                            \
    (void)(device);                                                                                               \
    mt_simulator_launch(#kernel, kernel, grid, block, shared, __VA_ARGS__);                                       \
    MT_CUDA(cudaGetLastError());                                                                                  \
  } while (0)
#define MT_DYNAMIC_SHARED(type, name) type *name = (type *)mt_simulator_shared()
#else
#define MT_LAUNCH(device, kernel, grid, block, shared, ...)                                                       \
  do {                                                                                                            \
    (kernel)<<<(grid), (block), (shared), (device)->stream>>>(__VA_ARGS__);                                       \
    const cudaError_t error_ = cudaGetLastError();                                                                \
    if (error_ != cudaSuccess) {                                                                                  \
      return mt_cuda_fail(error_, #kernel);                                                                       \
    }                                                                                                             \
  } while (0)
// The launch's dynamic shared memory; 16-byte aligned, once per kernel.
#define MT_DYNAMIC_SHARED(type, name)                            \
  extern __shared__ __align__(16) unsigned char mt_shared_[];    \
  type *name = (type *)mt_shared_
#endif

// ---- devices --------------------------------------------------------------------------------------------------------

// What a kernel met that is an error: an index out of range, a mask's value outside 0..1 or size outside its canvas, a gradient that
// is not finite. Kernels write it to host memory; it is raised at the next synchronisation.
enum { MT_FAULT_INDEX, MT_FAULT_VALUE, MT_FAULT_SIZE, MT_FAULT_GRADIENT };
typedef struct mt_fault {
  int32_t site;      // 0: none; otherwise 1 + the index of its text (mt_fault_site)
  int32_t kind;
  int64_t value, position, limit;
} mt_fault;

enum { MT_MAX_DEVICES = 64 };

#define MT_NONE_BAD 0x7F7F7F7F7F7F7F7Full

typedef struct mt_device {
  int32_t number;
  cudaStream_t stream;        // everything of this device runs here, in order
  int32_t processors;         // streaming multiprocessors
  int32_t shared_limit;       // dynamic shared memory that a block may ask for
  int32_t capability;         // 90 for 9.0
  mt_fault *fault;            // pinned
  unsigned long long *bad;    // the first gradient that is not finite (mt_optim_guard); MT_NONE_BAD: none
  struct mt_graph *capture;   // the graph that what is queued belongs to (graph.cuh)
  struct mt_graph *renewed;   // the graph whose numbers are being renewed
} mt_device;

// *device = that of t, made CUDA's current one. The first line after the checks.
int mt_enter(mt_device **device, const mt_tensor *t);
int mt_enter_number(mt_device **device, int32_t number);
// All of them on t's device (NULL is passed over).
int mt_check_together(const char *op, const mt_tensor *t, int32_t count, const mt_tensor *const *others);
// Waits for the device's stream, then raises what kernels recorded. Refused while a graph is captured; op: who waits.
int mt_wait(const char *op, mt_device *device);
// Raises what kernels have recorded by now, without waiting for more.
int mt_poll(const char *op, mt_device *device);
// The refusal: op waits for the device.
int mt_check_may_wait(const char *op, const mt_device *device);

// The number of a text "op: argument" for mt_record. The text must be a literal.
int32_t mt_fault_site(const char *text);
// value (1-based, as the user wrote it) is not in 1..limit; position: which element of the index tensor, 0-based.
MT_DEVICE void mt_record(mt_fault *fault, int32_t site, int64_t value, int64_t position, int64_t limit,
                         int32_t kind = MT_FAULT_INDEX) {
  if (atomicCAS(&fault->site, 0, -1) == 0) {
    fault->kind = kind;
    fault->value = value;
    fault->position = position;
    fault->limit = limit;
    __threadfence_system();
    atomicExch(&fault->site, site + 1);
  }
}

// ---- memory ---------------------------------------------------------------------------------------------------------

// Memory of the device from the caching allocator. Freed memory may be handed out again at once: all work of a device is queued
// on one stream, so the next user comes after the last one.
int mt_device_alloc(void **block, mt_device *device, int64_t bytes);
void mt_device_free(void *block, int32_t device, int64_t bytes);

// Scratch memory that ends with its scope: mt_scratch sums; MT_TRY(sums.take(device, bytes)); ... (double *)sums.data
struct mt_scratch {
  void *data;
  int64_t bytes;
  int32_t device;
  mt_scratch() : data(NULL), bytes(0), device(0) {}
  mt_scratch(const mt_scratch &) = delete;
  mt_scratch &operator=(const mt_scratch &) = delete;
  ~mt_scratch() {
    if (data) {
      mt_device_free(data, device, bytes);
    }
  }
  int take(mt_device *d, int64_t count, int64_t size = 1) {
    if (count < 0 || !mt_mul(&bytes, count, size)) {
      return mt_fail(MT_ERROR_MEMORY, "out of memory: %lld elements of %lld bytes", (long long)count, (long long)size);
    }
    device = d->number;
    return mt_device_alloc(&data, d, bytes);
  }
};

// *out = a row-major tensor of t's shape, dtype and device, not initialised.
static inline int mt_plain_like(mt_tensor **out, const mt_tensor *t) {
  MT_TRY(mt_device_set(t->storage->device));
  return mt_tensor_new(out, t->dtype, t->ndim, t->shape, NULL);
}

// Bytes between host and device through pinned staging memory. to_device returns when the host memory may be changed, to_host when
// it holds the bytes (after mt_wait's checks). Both are refused while a graph is captured.
int mt_copy_to_device(const char *op, mt_device *device, void *to, const void *from, int64_t bytes);
int mt_copy_to_host(const char *op, mt_device *device, void *to, const void *from, int64_t bytes);

// ---- shapes of launches ---------------------------------------------------------------------------------------------

enum { MT_BLOCK = 256, MT_WARP = 32 };

// Blocks for n elements, one or more per thread: enough to fill the device, no more. Kernels loop with MT_EACH.
static inline unsigned mt_grid(const mt_device *device, int64_t n, int64_t per_block = MT_BLOCK) {
  const int64_t blocks = (n + per_block - 1) / per_block, most = (int64_t)device->processors * 16;
  return (unsigned)(blocks < 1 ? 1 : blocks < most ? blocks : most);
}

#define MT_EACH(i, n)                                                                       \
  for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += (int64_t)gridDim.x * blockDim.x)

// ---- sums over threads, in a fixed order --------------------------------------------------------------------------------

// The sum over `width` neighbouring lanes (a power of 2), in each of them. Every lane of the warp takes part. A tree: adding
// zeros anywhere changes no bit.
template <typename T> MT_DEVICE T mt_warp_sum(T x, int width = MT_WARP) {
  for (int step = 1; step < width; step *= 2) {
    x += __shfl_xor_sync(0xFFFFFFFFu, x, step);
  }
  return x;
}

template <typename T> MT_DEVICE T mt_warp_max(T x, int width = MT_WARP) {
  for (int step = 1; step < width; step *= 2) {
    const T other = __shfl_xor_sync(0xFFFFFFFFu, x, step);
    x = other > x || other != other ? other : x;
  }
  return x;
}

// The sum over the block's threads (a multiple of 32, at most 1024), in each of them. Every thread takes part.
template <typename T> MT_DEVICE T mt_block_sum(T x) {
  __shared__ T part[MT_WARP];
  const int warps = blockDim.x / MT_WARP, lane = threadIdx.x % MT_WARP;
  x = mt_warp_sum(x);
  if (lane == 0) {
    part[threadIdx.x / MT_WARP] = x;
  }
  __syncthreads();
  x = mt_warp_sum(lane < warps ? part[lane] : (T)0);
  __syncthreads();
  return x;
}

// One kernel for both precisions: MT_REAL_LAUNCH-like choices are written as a template call. bfloat16 is computed with as float32.
#define MT_REAL_TEMPLATE(dtype, function, ...) \
  ((dtype) != MT_FLOAT64 ? function<float>(__VA_ARGS__) : function<double>(__VA_ARGS__))
