// lines: kernels that treat a tensor as independent lines along one axis. Internal.
//
// A line is worked on by a team: one warp where it is short, 32 warps where it is long. Either way a sum has the same 1024 partial
// sums: element i goes to number i mod 1024 in the order of i, numbers that are equal mod 32 are added as a tree, then those 32.
// So bits do not depend on the team, and zeros behind the last element change none.
#pragma once
#include "common.cuh"

extern "C" {
#include "../core/reduce_plan.h"
}

enum { MT_SLOTS = 1024, MT_LINES_BLOCK = 256 };

typedef struct mt_lines {
  int64_t outputs, length, stride;
  int64_t kept;  // no padding: the simulator looks at the bytes of arguments
  int64_t shape[MT_MAX_DIMS], step[MT_MAX_DIMS];
} mt_lines;

static inline mt_lines mt_lines_of(const mt_reduction *r) {
  mt_lines l;
  memset(&l, 0, sizeof l);
  l.outputs = r->outputs;
  l.length = r->length;
  l.stride = r->stride;
  l.kept = r->kept;
  memcpy(l.shape, r->kept_shape, sizeof l.shape);
  memcpy(l.step, r->kept_stride, sizeof l.step);
  return l;
}

// The offset of line o's first element, in elements.
MT_DEVICE int64_t mt_line_at(const mt_lines &l, int64_t o) {
  int64_t at = 0;
  for (int k = l.kept - 1; k > 0; k--) {
    const int64_t next = o / l.shape[k];
    at += (o - next * l.shape[k]) * l.step[k];
    o = next;
  }
  return l.kept > 0 ? at + o * l.step[0] : at;
}

// ---- teams --------------------------------------------------------------------------------------------------------------

template <int FIRST, int COUNT> struct mt_tree {
  template <typename F> static __device__ __forceinline__ double sum(const F &f) {
    return mt_tree<FIRST, COUNT / 2>::sum(f) + mt_tree<FIRST + COUNT / 2, COUNT / 2>::sum(f);
  }
};
template <int FIRST> struct mt_tree<FIRST, 1> {
  template <typename F> static __device__ __forceinline__ double sum(const F &f) { return f(FIRST); }
};

// The larger of both; NaN wins.
template <typename T> MT_DEVICE T mt_larger(T a, T b) { return b > a || b != b ? b : a; }

// One warp; lines of at most 32 * K elements.
template <int K> struct mt_warp_team {
  int64_t length;
  __device__ __forceinline__ explicit mt_warp_team(int64_t n) : length(n) {}
  static __device__ __forceinline__ int64_t line() { return (int64_t)blockIdx.x * (MT_LINES_BLOCK / MT_WARP) + threadIdx.x / MT_WARP; }
  static __device__ __forceinline__ int64_t lines() { return (int64_t)gridDim.x * (MT_LINES_BLOCK / MT_WARP); }
  static __device__ __forceinline__ int rank() { return threadIdx.x % MT_WARP; }
  static __device__ __forceinline__ void wait() { __syncwarp(); }
  template <typename F> __device__ __forceinline__ void each(const F &f) const {
    for (int64_t i = threadIdx.x % MT_WARP; i < length; i += MT_WARP) {
      f(i);
    }
  }
  template <typename F> __device__ __forceinline__ double sum(const F &f) const {
    const int64_t n = length, lane = threadIdx.x % MT_WARP;
    return mt_warp_sum(mt_tree<0, K>::sum([&](int w) { return lane + w * MT_WARP < n ? (double)f(lane + w * MT_WARP) : 0.0; }));
  }
  template <typename T, typename F> __device__ __forceinline__ T largest(T least, const F &f) const {
    each([&](int64_t i) { least = mt_larger(least, f(i)); });
    return mt_warp_max(least);
  }
  static __device__ __forceinline__ bool any(bool truth) { return __any_sync(0xFFFFFFFFu, truth); }
};

// A block of 1024 threads.
struct mt_block_team {
  int64_t length;
  __device__ __forceinline__ explicit mt_block_team(int64_t n) : length(n) {}
  static __device__ __forceinline__ int64_t line() { return blockIdx.x; }
  static __device__ __forceinline__ int64_t lines() { return gridDim.x; }
  static __device__ __forceinline__ int rank() { return threadIdx.x; }
  static __device__ __forceinline__ void wait() { __syncthreads(); }
  template <typename F> __device__ __forceinline__ void each(const F &f) const {
#pragma unroll 4
    for (int64_t i = threadIdx.x; i < length; i += MT_SLOTS) {
      f(i);
    }
  }
  template <typename F> __device__ __forceinline__ double sum(const F &f) const {
    double own = 0;
    each([&](int64_t i) { own += (double)f(i); });
    return tree(own);
  }
  // The sum of the threads' numbers, in each of them.
  static __device__ __forceinline__ double tree(double own) {
    __shared__ double part[MT_WARP][MT_WARP + 1], all[MT_WARP];
    const int lane = threadIdx.x % MT_WARP, warp = threadIdx.x / MT_WARP;
    part[warp][lane] = own;
    __syncthreads();
    own = mt_warp_sum(part[lane][warp]);
    if (lane == 0) {
      all[warp] = own;
    }
    __syncthreads();
    own = mt_warp_sum(all[lane]);
    __syncthreads();
    return own;
  }
  template <typename T, typename F> __device__ __forceinline__ T largest(T least, const F &f) const {
    __shared__ T all[MT_WARP];
    each([&](int64_t i) { least = mt_larger(least, f(i)); });
    least = mt_warp_max(least);
    if (threadIdx.x % MT_WARP == 0) {
      all[threadIdx.x / MT_WARP] = least;
    }
    __syncthreads();
    least = mt_warp_max(all[threadIdx.x % MT_WARP]);
    __syncthreads();
    return least;
  }
  static __device__ __forceinline__ bool any(bool truth) { return __syncthreads_or(truth); }
};

// Launches kernel<T, team>(...) for lines of this length; `shared` bytes go to the block team alone.
#define MT_LINES_LAUNCH(device, kernel, T, outputs, length, shared, ...)                                                          \
  do {                                                                                                                            \
    const unsigned warps_ = mt_grid(device, outputs, MT_LINES_BLOCK / MT_WARP);                                                   \
    if ((length) <= MT_WARP) {                                                                                                    \
      MT_LAUNCH(device, (kernel<T, mt_warp_team<1>>), warps_, MT_LINES_BLOCK, 0, __VA_ARGS__);                                    \
    } else if ((length) <= 4 * MT_WARP) {                                                                                         \
      MT_LAUNCH(device, (kernel<T, mt_warp_team<4>>), warps_, MT_LINES_BLOCK, 0, __VA_ARGS__);                                    \
    } else if ((length) <= MT_SLOTS) {                                                                                            \
      MT_LAUNCH(device, (kernel<T, mt_warp_team<32>>), warps_, MT_LINES_BLOCK, 0, __VA_ARGS__);                                   \
    } else {                                                                                                                      \
      MT_LAUNCH(device, (kernel<T, mt_block_team>), mt_grid(device, outputs, 1), MT_SLOTS, shared, __VA_ARGS__);                  \
    }                                                                                                                             \
  } while (0)
