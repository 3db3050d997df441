// lab: the work that every rung of the ladder does, and what all rungs share.
//
//   c[row(m), n] = bias[n] + sum over t < taps, i < channels of a[row(m) + offset[t], i] * b[n, t * channels + i]
//
// This is the library's implicit GEMM. a is an image in channels-last order, one row per pixel, with a border of zeros where taps reach
// over an edge; row(m) is m, or the m-th of a list of active pixels; offset[t] is the way in rows from a pixel to what tap t sees. A row
// that does not exist is 0. One tap with offset 0 makes it a product of matrices, b the weight of a linear layer. c is float32.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <cuda_runtime.h>

#define LAB_DEVICE static __device__ __forceinline__

// wgmma and setmaxnreg exist on sm_90a alone; elsewhere the kernels of rungs 5 to 8 are empty and their hosts refuse.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL) || defined(MT_SIMULATOR)
#define LAB_HOPPER 1
#endif

// bfloat16; float32 with operands of 11 bits; float32 as it is (fused multiply-adds, or 3xTF32: see warp_tile.cuh).
enum { LAB_BF16, LAB_TF32, LAB_F32, LAB_KINDS };

template <int HOW> struct lab_of { typedef float T; };
template <> struct lab_of<LAB_BF16> { typedef uint16_t T; };

enum { LAB_TAPS = 9 };

struct lab_problem {
  const void *a, *b;  // (a_rows, channels), (n, taps * channels); bfloat16 or float32
  const float *bias;
  float *c;           // (a_rows, n)
  const int *rows;    // m of them, or NULL: row(m) is m
  int m, n, channels, taps, a_rows;
  int offset[LAB_TAPS];
};

// One rung: queues the work. cudaErrorNotSupported: this problem, or this GPU, is not for this rung.
struct lab_rung {
  const char *name;
  cudaError_t (*start)(const lab_problem &p, int how, cudaStream_t stream);
  bool dense;         // takes no list of rows
};
extern const lab_rung lab_rungs[];
extern const int lab_rung_count;

cudaError_t lab_naive(const lab_problem &p, int how, cudaStream_t stream);
cudaError_t lab_shared(const lab_problem &p, int how, cudaStream_t stream);
cudaError_t lab_tensor(const lab_problem &p, int how, cudaStream_t stream);
cudaError_t lab_pipeline(const lab_problem &p, int how, cudaStream_t stream);
cudaError_t lab_wgmma_copied(const lab_problem &p, int how, cudaStream_t stream);
cudaError_t lab_wgmma_tma(const lab_problem &p, int how, cudaStream_t stream);
cudaError_t lab_wgmma_gathered(const lab_problem &p, int how, cudaStream_t stream);
cudaError_t lab_wgmma_split(const lab_problem &p, int how, cudaStream_t stream);

// ---- launches -------------------------------------------------------------------------------------------------------------

#ifdef MT_SIMULATOR
#define LAB_LAUNCH(kernel, grid, block, shared, stream, ...) \
  (mt_simulator_launch(#kernel, kernel, dim3(grid), dim3(block), shared, __VA_ARGS__), (void)(stream), cudaGetLastError())
#define LAB_SHARED(name) char *const name = (char *)mt_simulator_shared()
#else
#define LAB_LAUNCH(kernel, grid, block, shared, stream, ...) \
  (kernel<<<(grid), (block), (shared), (stream)>>>(__VA_ARGS__), cudaGetLastError())
#define LAB_SHARED(name) extern __shared__ __align__(1024) char name[]
#endif

static inline int lab_blocks(int count, int size) { return (count + size - 1) / size; }

// Rungs from 3 on copy 16 bytes at a time.
static inline bool lab_aligned(const lab_problem &p, int how) { return p.channels % (how == LAB_BF16 ? 8 : 4) == 0; }

// What the current device has: its compute capability (as 90) and its multiprocessors.
static inline cudaError_t lab_device(int *capability, int *processors) {
  int device, minor;
  cudaError_t error = cudaGetDevice(&device);
  if (!error) error = cudaDeviceGetAttribute(capability, cudaDevAttrComputeCapabilityMajor, device);
  if (!error) error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  if (!error) error = cudaDeviceGetAttribute(processors, cudaDevAttrMultiProcessorCount, device);
  *capability = error ? 0 : *capability * 10 + minor;
  return error;
}

// ---- elements and results -----------------------------------------------------------------------------------------------------

LAB_DEVICE float lab_float(float x) { return x; }
LAB_DEVICE float lab_float(uint16_t bfloat16) { return __uint_as_float((uint32_t)bfloat16 << 16); }

LAB_DEVICE int lab_row(const lab_problem &p, int m) { return p.rows ? p.rows[m] : m; }
LAB_DEVICE bool lab_exists(const lab_problem &p, int row) { return row >= 0 && row < p.a_rows; }

// Two neighbours of row m, columns n and n + 1.
LAB_DEVICE void lab_store_pair(const lab_problem &p, int64_t row, int n, float first, float second) {
  float *const to = p.c + row * p.n + n;
  if (n + 1 < p.n && p.n % 2 == 0) {
    *(float2 *)to = make_float2(first + p.bias[n], second + p.bias[n + 1]);
  } else if (n < p.n) {
    to[0] = first + p.bias[n];
    if (n + 1 < p.n) {
      to[1] = second + p.bias[n + 1];
    }
  }
}

// ---- tiles ----------------------------------------------------------------------------------------------------------------------

// Tile number w: bands of 16 tiles of rows, in a band column after column. Tiles that run together then share rows and columns, which
// the second-level cache reads once.
struct lab_tile {
  int m0, n0;
};
LAB_DEVICE lab_tile lab_tile_at(int w, int tiles_m, int tiles_n, int high, int wide) {
  const int band = w / (16 * tiles_n), rest = w - band * 16 * tiles_n;
  const int height = tiles_m - band * 16 < 16 ? tiles_m - band * 16 : 16;
  return lab_tile{(band * 16 + rest % height) * high, rest / height * wide};
}

// A stage holds 128 bytes of the terms of each row of a tile: as many channels of one tap. Step s of a sum is tap s / chunks, its channels
// from s % chunks on; the last chunk of a tap is filled up with zeros.
template <int HOW> struct lab_steps {
  typedef typename lab_of<HOW>::T T;
  static const int CHUNK = 128 / sizeof(T), PIECE = 16 / sizeof(T);  // elements in 128 and in 16 bytes
  int chunks, count;
  __host__ __device__ lab_steps(const lab_problem &p) : chunks((p.channels + CHUNK - 1) / CHUNK), count(chunks * p.taps) {}
  __device__ __forceinline__ int tap(int step) const { return step / chunks; }
  __device__ __forceinline__ int channel(int step) const { return step % chunks * CHUNK; }
};

// Where 16 bytes, number `piece` of 8, of a row lie in a tile that begins at a multiple of 1024 bytes. Eight rows' pieces of one number lie
// in different banks; it is the 128-byte swizzle of tensor maps and of wgmma's descriptors (address bits 4 to 6 ^= bits 7 to 9).
LAB_DEVICE uint32_t lab_swizzled(int row, int piece) { return (uint32_t)(row * 128 + ((piece ^ (row & 7)) << 4)); }

// What a thread copies of an operand's tile: piece threadIdx % 8 of rows threadIdx / 8 and every THREADS / 8 further.
template <int HOW, int ROWS, int THREADS> struct lab_lines {
  typedef typename lab_of<HOW>::T T;
  typedef lab_steps<HOW> steps;
  static const int PASSES = ROWS * 8 / THREADS;
  int row[PASSES];  // of the operand in memory; one that does not exist is below 0 by more than any tap reaches
  int thread;

  __device__ __forceinline__ void of_a(const lab_problem &p, int m0, int thread_) {
    thread = thread_;
#pragma unroll
    for (int i = 0; i < PASSES; i++) {
      const int m = m0 + thread / 8 + i * (THREADS / 8);
      row[i] = m < p.m ? lab_row(p, m) : INT32_MIN / 2;
    }
  }
  __device__ __forceinline__ void of_b(const lab_problem &p, int n0, int thread_) {
    thread = thread_;
#pragma unroll
    for (int i = 0; i < PASSES; i++) {
      const int n = n0 + thread / 8 + i * (THREADS / 8);
      row[i] = n < p.n ? n : INT32_MIN / 2;
    }
  }
  // Calls copy(where in the tile, from, whether there is anything) for the thread's part of a step.
  template <typename F> __device__ __forceinline__ void each_of_a(const lab_problem &p, const steps &s, int step, F copy) const {
    const int channel = s.channel(step) + thread % 8 * steps::PIECE, offset = p.offset[s.tap(step)];
#pragma unroll
    for (int i = 0; i < PASSES; i++) {
      const bool there = lab_exists(p, row[i] + offset) && channel < p.channels;
      copy(lab_swizzled(thread / 8 + i * (THREADS / 8), thread % 8),
           (const T *)p.a + (there ? (int64_t)(row[i] + offset) * p.channels + channel : 0), there);
    }
  }
  template <typename F> __device__ __forceinline__ void each_of_b(const lab_problem &p, const steps &s, int step, F copy) const {
    const int channel = s.channel(step) + thread % 8 * steps::PIECE;
#pragma unroll
    for (int i = 0; i < PASSES; i++) {
      const bool there = row[i] >= 0 && channel < p.channels;
      copy(lab_swizzled(thread / 8 + i * (THREADS / 8), thread % 8),
           (const T *)p.b + (there ? ((int64_t)row[i] * p.taps + s.tap(step)) * p.channels + channel : 0), there);
    }
  }
};
