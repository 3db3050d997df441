// tensor_core: the instructions of tile.cuh, and what the simulator does in their place. Internal.
//
// Fragments, for lane = 4 * g + t (g 0..7, t 0..3):
//   m16n8k8, tf32    a: (g, t) (g + 8, t) (g, t + 4) (g + 8, t + 4)      b: (t, g) (t + 4, g)   as (k, n)
//   m16n8k16, bf16   a: (g, 2t..) (g + 8, 2t..) (g, 2t + 8..) (g + 8, 2t + 8..)   b: (2t.., g) (2t + 8.., g)   pairs, low half first
//   both             c: (g, 2t) (g, 2t + 1) (g + 8, 2t) (g + 8, 2t + 1)
// ldmatrix: four matrices of 8 x 8 elements of 16 bits; lane 8 j + i says where row i of matrix j begins, and gets (g, 2t) and (g, 2t + 1)
// of each; or, TURNED, (2t, g) and (2t + 1, g).

#pragma once
#include <assert.h>

#include "bf16.cuh"

#ifdef MT_SIMULATOR

// As tensor cores do it, or a little worse: the exact sum, truncated.
static inline float mt_truncated(double sum) {
  const float f = (float)sum;
  return f - f == 0 && fabs((double)f) > fabs(sum) ? nextafterf(f, 0) : f;
}

static inline float mt_bf16_half(uint32_t pair, int upper) { return __uint_as_float(upper ? pair & 0xFFFF0000u : pair << 16); }

// A warp's fragments meet in memory that its lanes share.
static inline void mt_mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], bool bf16) {
  static uint32_t warps[MT_WARP][MT_WARP][6];
  uint32_t(*all)[6] = warps[threadIdx.x / MT_WARP];
  const int lane = mt_simulator_lane(), g = lane / 4, t = lane % 4;
  memcpy(all[lane], a, sizeof a);
  memcpy(all[lane] + 4, b, sizeof b);
  __syncwarp();
  for (int i = 0; i < 4; i++) {
    const int upper = i / 2, n = 2 * t + i % 2;
    double sum = c[i];
    for (int k = 0; k < (bf16 ? 16 : 8); k++) {
      if (bf16) {
        const uint32_t left = all[g * 4 + k % 8 / 2][upper + 2 * (k / 8)], right = all[n * 4 + k % 8 / 2][4 + k / 8];
        sum += (double)mt_bf16_half(left, k % 2) * mt_bf16_half(right, k % 2);
      } else {
        const uint32_t left = all[g * 4 + k % 4][upper + 2 * (k / 4)], right = all[n * 4 + k % 4][4 + k / 4];
        sum += (double)__uint_as_float(left & 0xFFFFE000u) * __uint_as_float(right & 0xFFFFE000u);
      }
    }
    c[i] = mt_truncated(sum);
  }
  __syncwarp();
}

MT_DEVICE void mt_mma_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) { mt_mma(c, a, b, false); }
MT_DEVICE void mt_mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) { mt_mma(c, a, b, true); }

// Rounded to nearest, ties away from 0, as a float whose last 13 bits are 0.
MT_DEVICE uint32_t mt_to_tf32(float x) {
  const uint32_t bits = __float_as_uint(x);
  return x - x == 0 ? (bits + 0x1000u) & 0xFFFFE000u : bits;
}

static inline uint32_t mt_to_bf16(float x) {
  const uint32_t bits = __float_as_uint(x);
  return x != x ? 0x7FFFu : (bits + 0x7FFFu + (bits >> 16 & 1)) >> 16;
}
MT_DEVICE uint32_t mt_bf16_pair(float low, float high) { return mt_to_bf16(low) | mt_to_bf16(high) << 16; }

template <bool TURNED> static inline void mt_load_matrices(uint32_t (&to)[4], const mt_bf16 *row) {
  static const mt_bf16 *warps[MT_WARP][MT_WARP];
  const mt_bf16 **rows = warps[threadIdx.x / MT_WARP];
  const int lane = mt_simulator_lane(), g = lane / 4, t = lane % 4;
  assert((uintptr_t)row % 16 == 0);
  rows[lane] = row;
  __syncwarp();
  for (int j = 0; j < 4; j++) {
    const mt_bf16 low = TURNED ? rows[8 * j + 2 * t][g] : rows[8 * j + g][2 * t];
    const mt_bf16 high = TURNED ? rows[8 * j + 2 * t + 1][g] : rows[8 * j + g][2 * t + 1];
    to[j] = (uint32_t)low.bits | (uint32_t)high.bits << 16;
  }
  __syncwarp();
}

// Copies now; zeros where there is nothing to copy.
template <int BYTES> MT_DEVICE void mt_copy_async(void *to, const void *from, bool there) {
  if (there) {
    memcpy(to, from, BYTES);
  } else {
    memset(to, 0, BYTES);
  }
}
MT_DEVICE void mt_copy_commit() {}
template <int LEFT> MT_DEVICE void mt_copy_wait() {}

#else

MT_DEVICE void mt_mma_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

MT_DEVICE void mt_mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

MT_DEVICE uint32_t mt_to_tf32(float x) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}

MT_DEVICE uint32_t mt_bf16_pair(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

template <bool TURNED> MT_DEVICE void mt_load_matrices(uint32_t (&to)[4], const mt_bf16 *row) {
  const uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
  if (TURNED) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(at) : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(at) : "memory");
  }
}

template <int BYTES> MT_DEVICE void mt_copy_async(void *to, const void *from, bool there) {
  const uint32_t at = (uint32_t)__cvta_generic_to_shared(to);
  const int bytes = there ? BYTES : 0;
  if (BYTES == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(bytes) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(at), "l"(from), "n"(BYTES), "r"(bytes) : "memory");
  }
}
MT_DEVICE void mt_copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int LEFT> MT_DEVICE void mt_copy_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory"); }

#endif

// x = high + low, as far as two parts of 11 bits go. No low part of what is not finite.
MT_DEVICE void mt_split_tf32(uint32_t *high, uint32_t *low, float x) {
  *high = mt_to_tf32(x);
  const float rest = x - __uint_as_float(*high);
  *low = rest == rest ? mt_to_tf32(rest) : 0;
}
