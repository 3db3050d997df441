// A stand-in for the CUDA runtime: the kernels of cuda/*.cu compiled by g++ and executed by the processor, one block after the
// other. See README.md beside this file for what it shows and what it cannot show.
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

#include <functional>
#include <tuple>
#include <type_traits>

// ---- words of the language ----------------------------------------------------------------------------------------------

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __constant__ static
#define __managed__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

#define MT_SIMULATED_VECTOR(T, name)                                                              \
  struct __align__(sizeof(T) * 2) name##2 { T x, y; };                                            \
  struct name##3 { T x, y, z; };                                                                  \
  struct __align__(sizeof(T) * 4 > 16 ? 16 : sizeof(T) * 4) name##4 { T x, y, z, w; };             \
  static inline name##2 make_##name##2(T x, T y) { return name##2{x, y}; }                        \
  static inline name##3 make_##name##3(T x, T y, T z) { return name##3{x, y, z}; }                \
  static inline name##4 make_##name##4(T x, T y, T z, T w) { return name##4{x, y, z, w}; }
MT_SIMULATED_VECTOR(float, float)
MT_SIMULATED_VECTOR(double, double)
MT_SIMULATED_VECTOR(int, int)
MT_SIMULATED_VECTOR(unsigned, uint)
#undef MT_SIMULATED_VECTOR

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
enum { warpSize = 32 };

// ---- status, devices, streams, events, memory: as in the CUDA runtime API ---------------------------------------------------

typedef enum cudaError {
  cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorMemoryAllocation = 2, cudaErrorInvalidConfiguration = 9,
  cudaErrorInsufficientDriver = 35, cudaErrorNoDevice = 100, cudaErrorInvalidDevice = 101, cudaErrorNoKernelImageForDevice = 209,
  cudaErrorECCUncorrectable = 214, cudaErrorNotReady = 600, cudaErrorIllegalAddress = 700, cudaErrorLaunchTimeout = 702,
  cudaErrorStreamCaptureUnsupported = 900, cudaErrorIllegalState = 401, cudaErrorAssert = 710, cudaErrorHardwareStackError = 714, cudaErrorIllegalInstruction = 715, cudaErrorMisalignedAddress = 716,
  cudaErrorInvalidAddressSpace = 717, cudaErrorInvalidPc = 718, cudaErrorLaunchFailure = 719, cudaErrorNotSupported = 801
} cudaError_t;

typedef struct mt_simulated_stream *cudaStream_t;
typedef struct mt_simulated_event *cudaEvent_t;
typedef struct mt_simulated_graph *cudaGraph_t, *cudaGraphExec_t;
typedef enum { cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal, cudaStreamCaptureModeRelaxed } cudaStreamCaptureMode;
enum { cudaStreamDefault = 0, cudaStreamNonBlocking = 1, cudaEventDefault = 0, cudaEventDisableTiming = 2 };
enum { cudaHostAllocDefault = 0, cudaHostAllocPortable = 1, cudaHostAllocMapped = 2 };
typedef enum { cudaMemcpyHostToHost, cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice, cudaMemcpyDefault } cudaMemcpyKind;
typedef enum { cudaMemoryTypeUnregistered, cudaMemoryTypeHost, cudaMemoryTypeDevice, cudaMemoryTypeManaged } cudaMemoryType;
typedef enum { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 } cudaFuncAttribute;
typedef enum {
  cudaDevAttrMultiProcessorCount = 16, cudaDevAttrComputeCapabilityMajor = 75, cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
} cudaDeviceAttr;

struct cudaPointerAttributes { cudaMemoryType type; int device; void *devicePointer, *hostPointer; };
struct cudaDeviceProp {
  char name[256];
  int major, minor, multiProcessorCount, l2CacheSize;
  size_t totalGlobalMem, sharedMemPerBlockOptin;
};

const char *cudaGetErrorString(cudaError_t);
const char *cudaGetErrorName(cudaError_t);
cudaError_t cudaGetLastError(void);
cudaError_t cudaPeekAtLastError(void);
cudaError_t cudaDriverGetVersion(int *);
cudaError_t cudaRuntimeGetVersion(int *);
cudaError_t cudaGetDeviceCount(int *);
cudaError_t cudaSetDevice(int);
cudaError_t cudaGetDevice(int *);
cudaError_t cudaDeviceSynchronize(void);
cudaError_t cudaDeviceGetAttribute(int *, cudaDeviceAttr, int);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *, int);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *, unsigned);
cudaError_t cudaStreamSynchronize(cudaStream_t);
cudaError_t cudaStreamDestroy(cudaStream_t);
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode);
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *, cudaGraph_t, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t);
cudaError_t cudaGraphDestroy(cudaGraph_t);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t);
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned flags = 0);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *, unsigned);
cudaError_t cudaEventDestroy(cudaEvent_t);
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t stream = NULL);
cudaError_t cudaEventSynchronize(cudaEvent_t);
cudaError_t cudaEventQuery(cudaEvent_t);
cudaError_t cudaEventElapsedTime(float *, cudaEvent_t, cudaEvent_t);
cudaError_t cudaMalloc(void **, size_t);
cudaError_t cudaFree(void *);
cudaError_t cudaHostAlloc(void **, size_t, unsigned);
cudaError_t cudaFreeHost(void *);
cudaError_t cudaMemGetInfo(size_t *, size_t *);
cudaError_t cudaMemcpyAsync(void *, const void *, size_t, cudaMemcpyKind, cudaStream_t stream = NULL);
cudaError_t cudaMemcpyPeerAsync(void *, int, const void *, int, size_t, cudaStream_t stream = NULL);
cudaError_t cudaMemsetAsync(void *, int, size_t, cudaStream_t stream = NULL);
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *, const void *);
template <typename F> cudaError_t cudaFuncSetAttribute(F *, cudaFuncAttribute, int) { return cudaSuccess; }

// ---- launches ----------------------------------------------------------------------------------------------------------------

// Runs body(context) for every thread of every block. Errors: cudaGetLastError.
void mt_simulator_run(const char *name, dim3 grid, dim3 block, size_t shared, void (*body)(void *), void *context);
// Complains when an argument holds the address of ordinary host memory. Structs with padding or floating point numbers, whose bytes
// may look like anything, are passed over.
void mt_simulator_argument(const char *name, const void *bytes, size_t count);
// Whether `stream` (NULL: the one that kernels go to) is captured; keeps work for the launches of the graph.
bool mt_simulator_captures(cudaStream_t stream);
void mt_simulator_keep(std::function<void()> work);
void *mt_simulator_shared(void);
int mt_simulator_damaged(void);

template <typename... P, typename... A>
void mt_simulator_launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, A... arguments) {
  struct launch {
    void (*kernel)(P...);
    std::tuple<std::decay_t<P>...> arguments;
  } l = {kernel, std::tuple<std::decay_t<P>...>((P)arguments...)};
  std::apply([&](auto &...argument) {
    ((std::has_unique_object_representations_v<std::decay_t<decltype(argument)>> ?
      mt_simulator_argument(name, &argument, sizeof argument) : void()), ...);
  }, l.arguments);
  void (*const run)(void *) = [](void *context) {
    launch *self = (launch *)context;
    std::apply(self->kernel, self->arguments);
  };
  if (mt_simulator_captures(NULL)) {
    mt_simulator_keep([=]() mutable { mt_simulator_run(name, grid, block, shared, run, &l); });
  } else {
    mt_simulator_run(name, grid, block, shared, run, &l);
  }
}

// ---- threads of a block together ------------------------------------------------------------------------------------------------

void mt_simulator_block_barrier(void);
// Publishes `bits`, waits for the lanes of `mask`, returns what lane `source` published (its own where source is not among them).
uint64_t mt_simulator_exchange(unsigned mask, uint64_t bits, int source);
// The lanes of mask whose `truth` is not 0.
unsigned mt_simulator_ballot(unsigned mask, int truth);
int mt_simulator_lane(void);
// Leaves this thread aside until *generation is no longer `seen`.
void mt_simulator_wait(const uint64_t *generation, uint64_t seen);
// The kernel that runs does what no kernel may: said, and the launch fails.
void mt_simulator_complain(const char *text);

static inline void __syncthreads(void) { mt_simulator_block_barrier(); }
int __syncthreads_count(int truth);
static inline int __syncthreads_or(int truth) { return __syncthreads_count(truth != 0) > 0; }
static inline int __syncthreads_and(int truth) { return __syncthreads_count(truth == 0) == 0; }
static inline void __syncwarp(unsigned mask = 0xFFFFFFFFu) { mt_simulator_ballot(mask, 0); }
static inline unsigned __ballot_sync(unsigned mask, int truth) { return mt_simulator_ballot(mask, truth); }
static inline int __any_sync(unsigned mask, int truth) { return mt_simulator_ballot(mask, truth) != 0; }
static inline int __all_sync(unsigned mask, int truth) { return mt_simulator_ballot(mask, truth) == mask; }
static inline void __threadfence(void) {}
static inline void __threadfence_block(void) {}
static inline void __threadfence_system(void) {}

template <typename T> T mt_simulator_shuffle(unsigned mask, T x, int source) {
  static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
  uint64_t bits = 0;
  memcpy(&bits, &x, sizeof x);
  bits = mt_simulator_exchange(mask, bits, source);
  memcpy(&x, &bits, sizeof x);
  return x;
}
template <typename T> T __shfl_sync(unsigned mask, T x, int source, int width = 32) {
  const int lane = mt_simulator_lane();
  return mt_simulator_shuffle(mask, x, lane / width * width + (source & (width - 1)));
}
template <typename T> T __shfl_xor_sync(unsigned mask, T x, int step, int width = 32) {
  const int lane = mt_simulator_lane(), source = lane ^ step;
  return mt_simulator_shuffle(mask, x, source / width == lane / width ? source : lane);
}
template <typename T> T __shfl_down_sync(unsigned mask, T x, unsigned step, int width = 32) {
  const int lane = mt_simulator_lane(), source = lane + (int)step;
  return mt_simulator_shuffle(mask, x, source / width == lane / width ? source : lane);
}
template <typename T> T __shfl_up_sync(unsigned mask, T x, unsigned step, int width = 32) {
  const int lane = mt_simulator_lane(), source = lane - (int)step;
  return mt_simulator_shuffle(mask, x, source >= 0 && source / width == lane / width ? source : lane);
}

// ---- atomics: integers only; sums of floating point numbers would depend on the order -------------------------------------------

#define MT_SIMULATED_ATOMICS(T)                                                                                    \
  static inline T atomicAdd(T *p, T v) { const T old = *p; *p = (T)(old + v); return old; }                        \
  static inline T atomicExch(T *p, T v) { const T old = *p; *p = v; return old; }                                  \
  static inline T atomicMin(T *p, T v) { const T old = *p; *p = v < old ? v : old; return old; }                   \
  static inline T atomicMax(T *p, T v) { const T old = *p; *p = v > old ? v : old; return old; }                   \
  static inline T atomicAnd(T *p, T v) { const T old = *p; *p = old & v; return old; }                             \
  static inline T atomicOr(T *p, T v) { const T old = *p; *p = old | v; return old; }                              \
  static inline T atomicCAS(T *p, T compare, T v) { const T old = *p; *p = old == compare ? v : old; return old; }
MT_SIMULATED_ATOMICS(int)
MT_SIMULATED_ATOMICS(unsigned)
MT_SIMULATED_ATOMICS(unsigned long long)
#undef MT_SIMULATED_ATOMICS

// ---- device functions -------------------------------------------------------------------------------------------------------------

static inline uint32_t __umulhi(uint32_t a, uint32_t b) { return (uint32_t)((uint64_t)a * b >> 32); }
static inline uint64_t __umul64hi(uint64_t a, uint64_t b) { return (uint64_t)((unsigned __int128)a * b >> 64); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline unsigned __float_as_uint(float x) { unsigned u; memcpy(&u, &x, 4); return u; }
static inline int __float_as_int(float x) { int u; memcpy(&u, &x, 4); return u; }
static inline float __uint_as_float(unsigned x) { float f; memcpy(&f, &x, 4); return f; }
static inline float __int_as_float(int x) { float f; memcpy(&f, &x, 4); return f; }
static inline long long __double_as_longlong(double x) { long long u; memcpy(&u, &x, 8); return u; }
static inline double __longlong_as_double(long long x) { double f; memcpy(&f, &x, 8); return f; }
static inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static inline double __fma_rn(double a, double b, double c) { return __builtin_fma(a, b, c); }
#define __expf(x) expf(x)
#define __logf(x) logf(x)
static inline float rsqrtf(float x) { return 1 / sqrtf(x); }
static inline double rsqrt(double x) { return 1 / sqrt(x); }
template <typename T> static inline T __ldg(const T *p) { return *p; }
template <typename T> static inline T min(T a, T b) { return b < a ? b : a; }
template <typename T> static inline T max(T a, T b) { return a < b ? b : a; }
