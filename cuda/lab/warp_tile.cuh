// warp_tile: rungs 3 and 4. A block of 8 warps computes 128 x 128 results, a warp 32 x 64 of them with mma.sync, from two tiles of 128 rows
// of 128 bytes in shared memory, swizzled (lab_swizzled).
//
// Float32 (LAB_F32) is 3xTF32: x = high + low, both of 11 bits; high * high + high * low + low * high, 8 terms at a time from 0, since
// tensor cores truncate their sums, added up in float32 (cuda/tile.cuh has the reference).
#pragma once
#include "ptx.cuh"

enum { WARP_TILE = 128, WARP_THREADS = 256, WARP_TILE_BYTES = WARP_TILE * 128, WARP_STAGE_BYTES = 2 * WARP_TILE_BYTES };

// Blocks that a multiprocessor holds at once: registers are shared out by it.
static constexpr int warp_blocks(int how) { return how == LAB_F32 ? 1 : 2; }

template <int HOW> struct warp_tile {
  float sum[2][8][4];
  int row, column;  // of the warp in the tile

  __device__ __forceinline__ void begin() {
    const int warp = (int)threadIdx.x / 32;
    row = warp / 2 * 32;
    column = warp % 2 * 64;
#pragma unroll
    for (int i = 0; i < 64; i++) {
      sum[i / 32][i / 4 % 8][i % 4] = 0;
    }
  }

  static __device__ __forceinline__ void round(uint32_t (&x)[4], uint32_t (&rest)[4]) {
    if constexpr (HOW != LAB_BF16) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float whole = __uint_as_float(x[i]);
        x[i] = lab_to_tf32(x[i]);
        if (HOW == LAB_F32) {
          rest[i] = lab_to_tf32(__float_as_uint(whole - __uint_as_float(x[i])));
        }
      }
    }
  }

  // The sums += the products of one stage: its tile of a begins at `stage`, that of b behind it.
  __device__ __forceinline__ void add(uint32_t stage) {
    const int lane = (int)threadIdx.x % 32, matrix = lane / 8;
#pragma unroll (HOW == LAB_F32 ? 1 : 4)
    for (int step = 0; step < 4; step++) {  // 32 bytes each
      uint32_t a[2][4], a_rest[2][4];
#pragma unroll
      for (int i = 0; i < 2; i++) {
        lab_load_matrices(a[i], stage + lab_swizzled(row + 16 * i + lane % 8 + matrix % 2 * 8, 2 * step + matrix / 2));
        round(a[i], a_rest[i]);
      }
#pragma unroll
      for (int j = 0; j < 4; j++) {  // 16 columns each
        uint32_t b[4], b_rest[4];
        lab_load_matrices(b, stage + WARP_TILE_BYTES + lab_swizzled(column + 16 * j + lane % 8 + matrix / 2 * 8, 2 * step + matrix % 2));
        round(b, b_rest);
#pragma unroll
        for (int i = 0; i < 4; i++) {
          float(&c)[4] = sum[i / 2][2 * j + i % 2];
          const int k = i % 2 * 2;
          if (HOW == LAB_BF16) {
            lab_mma_bf16(c, a[i / 2], b[k], b[k + 1]);
          } else if (HOW == LAB_TF32) {
            lab_mma_tf32(c, a[i / 2], b[k], b[k + 1]);
          } else {
            float part[4] = {0, 0, 0, 0};
            lab_mma_tf32(part, a_rest[i / 2], b[k], b[k + 1]);
            lab_mma_tf32(part, a[i / 2], b_rest[k], b_rest[k + 1]);
            lab_mma_tf32(part, a[i / 2], b[k], b[k + 1]);
#pragma unroll
            for (int e = 0; e < 4; e++) {
              c[e] += part[e];
            }
          }
        }
      }
    }
  }

  __device__ __forceinline__ void store(const lab_problem &p, const lab_tile &tile) const {
    const int lane = (int)threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int m = tile.m0 + row + 8 * i + lane / 4;
      if (m < p.m) {
        const int64_t to = lab_row(p, m);
#pragma unroll
        for (int j = 0; j < 8; j++) {
          lab_store_pair(p, to, tile.n0 + column + 8 * j + lane % 4 * 2, sum[i / 2][j][i % 2 * 2], sum[i / 2][j][i % 2 * 2 + 1]);
        }
      }
    }
  }
};
