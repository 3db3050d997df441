// group_tile: rungs 5 to 7. A warpgroup (4 warps) computes 64 x N results with wgmma from tiles in shared memory: 64 rows of a, N of b, each row
// 128 bytes of terms, swizzled (lab_swizzled), the tile's address a multiple of 1024.
//
// The descriptor of such a tile (PTX ISA, "matrix descriptor", operands with neighbouring terms; CUTLASS: make_gmma_desc, Major::K, B128):
//   bits 0 to 13   address / 16
//   16 to 29       leading byte offset / 16: has no meaning with a swizzle, 1 by custom
//   32 to 45       stride byte offset / 16: from 8 rows to the next 8, here 1024
//   49 to 51       base offset: 0, since the 8 rows of a swizzle begin at a multiple of 1024
//   62, 63         1: swizzle of 128 bytes
// Rows are 128 bytes apart. The next 32 bytes of terms lie, before the swizzle, 32 bytes further, and the swizzle takes its bits from the
// whole address: adding 32 to the address of the descriptor moves along the row.
#pragma once
#include "ptx.cuh"

#ifdef LAB_HOPPER

enum { GROUP_ROWS = 64, GROUP_BYTES = GROUP_ROWS * 128, GROUP_THREADS = 128 };

LAB_DEVICE uint64_t group_descriptor(uint32_t address) {
  return (uint64_t)((address & 0x3FFFF) >> 4) | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}

template <int HOW, int N> struct group_tile {
  float sum[N / 2];

  __device__ __forceinline__ void begin() {
#pragma unroll
    for (int i = 0; i < N / 2; i++) {
      sum[i] = 0;
    }
    lab_keep(sum);
  }

  // Begins to add the products of 64 rows of a and N rows of b, 128 bytes of terms. They are read until lab_wgmma_wait.
  __device__ __forceinline__ void add(uint32_t a, uint32_t b) {
    const uint64_t left = group_descriptor(a), right = group_descriptor(b);
    lab_wgmma_fence();
#pragma unroll
    for (int i = 0; i < 4; i++) {
      lab_wgmma<HOW, N>(sum, left + 2 * i, right + 2 * i, 1);
    }
    lab_wgmma_commit();
  }

  // After the last wait. m0: the group's first row.
  __device__ __forceinline__ void store(const lab_problem &p, int m0, int n0) {
    const int warp = (int)threadIdx.x / 32 % 4, lane = (int)threadIdx.x % 32;
    lab_keep(sum);
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int m = m0 + 16 * warp + 8 * i + lane / 4;
      if (m < p.m) {
        const int64_t to = lab_row(p, m);
#pragma unroll
        for (int j = 0; j < N / 8; j++) {
          lab_store_pair(p, to, n0 + 8 * j + lane % 4 * 2, sum[4 * j + 2 * i], sum[4 * j + 2 * i + 1]);
        }
      }
    }
  }
};

// ---- stages between producers and consumers, from block to block of work without a break --------------------------------------------

// Where one side is in the ring of stages; `round` flips when it comes around.
template <int STAGES> struct group_ring {
  int stage = 0, round = 0;
  __device__ __forceinline__ void next() {
    if (++stage == STAGES) {
      stage = 0;
      round ^= 1;
    }
  }
};

// The stages' memory and their barriers: full (the stage has arrived) and empty (its readers are done).
template <int STAGES, int BYTES> struct group_stages {
  uint32_t first;
  __device__ __forceinline__ group_stages(const void *shared) : first((lab_address(shared) + 1023) & ~1023u) {}
  __device__ __forceinline__ uint32_t a(int stage) const { return first + (uint32_t)(stage * BYTES); }
  __device__ __forceinline__ uint32_t b(int stage) const { return a(stage) + 2 * GROUP_BYTES; }
  __device__ __forceinline__ uint32_t full(int stage) const { return first + (uint32_t)(STAGES * BYTES + 16 * stage); }
  __device__ __forceinline__ uint32_t empty(int stage) const { return full(stage) + 8; }

  // By all threads of the block. A reader is a warp.
  __device__ __forceinline__ void begin(int arrivals, int readers) const {
    if (threadIdx.x == 0) {
      for (int i = 0; i < STAGES; i++) {
        lab_barrier_init(full(i), arrivals);
        lab_barrier_init(empty(i), readers);
      }
      lab_barrier_init_done();
    }
    __syncthreads();
  }
};

// A consumer: adds up one tile's steps as they arrive. The products of one step run while the next is issued; a stage is given back when
// the step after it has been issued and its own products are complete.
template <int HOW, int N, int STAGES, int BYTES>
LAB_DEVICE void group_consume(group_tile<HOW, N> &sums, const group_stages<STAGES, BYTES> &stages, group_ring<STAGES> &at, int group, int steps) {
  int before = 0;
  sums.begin();
  for (int s = 0; s < steps; s++) {
    lab_barrier_wait(stages.full(at.stage), at.round);
    sums.add(stages.a(at.stage) + (uint32_t)(group * GROUP_BYTES), stages.b(at.stage));
    lab_wgmma_wait<1>();
    if (s > 0 && threadIdx.x % 32 == 0) {
      lab_barrier_arrive(stages.empty(before));
    }
    before = at.stage;
    at.next();
  }
  lab_wgmma_wait<0>();
  if (threadIdx.x % 32 == 0) {
    lab_barrier_arrive(stages.empty(before));
  }
}

#endif

// How wide a tile: 64 to 256 columns, the widest that leaves every processor a tile.
static inline int group_width(const lab_problem &p, int processors) {
  return p.n <= 64 ? 64 : p.n <= 128 || lab_blocks(p.m, 128) * lab_blocks(p.n, 256) < processors ? 128 : 256;
}
