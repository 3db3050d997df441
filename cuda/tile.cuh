// tile: c[m, n] = sum over k of a[m, k] * b[k, n], for operands that are gathered as the problem asks. Convolutions, their
// gradients, linear layers and matrix products are such sums; each brings two sources of operands and a place for the results.
//
// A block of 256 threads computes tiles of 64 * MT by 16 * NT results, its warps as 4 rows of 2; a warp has 16 * MT by 8 * NT of
// them. Operands come through shared memory in stages of MT_TILE_K terms, copied asynchronously ahead of their use.
//
// How float32 products are computed (matmul.h):
//   3xTF32  each operand is split, x = high + low + rest, both parts with 11 bits; high * high + high * low + low * high on tensor
//           cores, 8 terms at a time from 0 (they truncate their sums), which are added up in float32, rounded to nearest.
//           Ootomo and Yokota, Recovering single precision accuracy from Tensor Cores, 2022. An element that is NaN is computed
//           again in plain float32: Inf * 0 in the parts that are left is not NaN in the product.
//   TF32    operands rounded to 11 bits, sums on tensor cores
//   BF16    operands rounded to bfloat16 (8 bits), likewise, 16 terms at a time
//   float64: fused multiply-adds.
//
// The order of a sum. Terms are taken in order, in groups of 8 (BF16: 16) that begin at multiples of 8 from the first term; the size
// of the tile does not matter. So the bits of a result depend on its own terms alone, and terms of 0 leave them as they are. What a
// tensor core does with the 8 terms of a group does not depend on their order: they are aligned to the largest (Fasi and others,
// Numerical behavior of NVIDIA tensor cores, 2021). With `fresh`, a sum of sums: each run of groups adds up from 0.
#pragma once
#include "row.cuh"

enum { MT_TILE_3XTF32, MT_TILE_TF32, MT_TILE_BF16, MT_TILE_F64 };
enum { MT_TILE_THREADS = 256, MT_TILE_STAGES = 3, MT_TILE_TERMS = 8, MT_TILE_RUN = 32 };

template <int HOW> struct mt_tile_of {
  typedef float T;
  static const int K = 32, STEP = HOW == MT_TILE_BF16 ? 16 : 8;
};
template <> struct mt_tile_of<MT_TILE_F64> {
  typedef double T;
  static const int K = 16, STEP = 8;
};

// ---- instructions -----------------------------------------------------------------------------------------------------
// Fragments, for lane = 4 * g + t (g 0..7, t 0..3):
//   m16n8k8, tf32    a: (g, t) (g + 8, t) (g, t + 4) (g + 8, t + 4)      b: (t, g) (t + 4, g)   as (k, n)
//   m16n8k16, bf16   a: (g, 2t..) (g + 8, 2t..) (g, 2t + 8..) (g + 8, 2t + 8..)   b: (2t.., g) (2t + 8.., g)   pairs, low half first
//   both             c: (g, 2t) (g, 2t + 1) (g + 8, 2t) (g + 8, 2t + 1)

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

// ---- shared memory ------------------------------------------------------------------------------------------------------

// An operand of ROWS rows (of a) or columns (of b) in a stage. INNER: its terms are neighbours, [ROWS][K + pad], else [K][ROWS + pad]:
// as its source has it, so that 16 bytes are copied at once. The pads spread a fragment over all banks.
template <int HOW, int ROWS, bool INNER> struct mt_tile_operand {
  typedef typename mt_tile_of<HOW>::T T;
  static const int K = mt_tile_of<HOW>::K;
  static const int PAD = HOW == MT_TILE_F64 ? 2 : (HOW == MT_TILE_BF16) == INNER ? 8 : 4;
  static const int WIDTH = (INNER ? K : ROWS) + PAD, COUNT = (INNER ? ROWS : K) * WIDTH;
  static const int AT_ONCE = 16 / sizeof(T), CHUNKS = (INNER ? K : ROWS) / AT_ONCE;  // per line
  static const int LINES = MT_TILE_THREADS / CHUNKS, PASSES = (INNER ? ROWS : K) / LINES;
  static_assert(MT_TILE_THREADS % CHUNKS == 0 && PASSES * LINES == (INNER ? ROWS : K), "the threads share the lines evenly");
  MT_DEVICE int at(int row, int k) { return INNER ? row * WIDTH + k : k * WIDTH + row; }
};

// ---- the kernel ---------------------------------------------------------------------------------------------------------
// A source has
//   INNER                              rows of the operand are lines (their terms are neighbours); else terms are
//   Line line(i), Column column(j)     what an element's two indexes mean: i of lines, j along them
//   const T *at(line, column, shift)   the element, or NULL: 0
//   shift(z)                           of the problem's part z: a group, a matrix of a batch
//   vector                             16 bytes along a line that begin at a multiple of their number may be read at once
//   base                               any address
// A place for results has  Row row(m, z) and  store(row, n, value, z).

typedef struct mt_tile_plan {
  int64_t m, n, k;                 // of the largest part
  const int64_t *count;            // on the device: how many rows there are really, or NULL
  int64_t parts, splits;           // parts: independent sums; splits: of the terms of one
  const int64_t *begin, *end;      // of a split: its terms [begin, end), begin a multiple of 8 (BF16: 16); NULL: each `piece` terms
  int64_t piece;
  const uint8_t *fresh;            // of every group of terms: its sum begins anew; NULL: see run
  int64_t run;                     // groups of a run, after which sums begin anew, and after 32 groups of it
} mt_tile_plan;

// An element that came out as NaN, by plain arithmetic. Rare: not inlined, called when the sums are stored and their registers free.
template <class A, class B>
static __device__ __noinline__ float mt_tile_plainly(const A &a, const B &b, int64_t m, int64_t n, int64_t from, int64_t to,
                                                     int64_t z) {
  float sum = 0;
  for (int64_t k = from; k < to; k++) {
    const float *p = A::INNER ? a.at(a.line(m), a.column(k), a.shift(z)) : a.at(a.line(k), a.column(m), a.shift(z));
    const float *q = B::INNER ? b.at(b.line(n), b.column(k), b.shift(z)) : b.at(b.line(k), b.column(n), b.shift(z));
    sum = __fmaf_rn(p ? *p : 0, q ? *q : 0, sum);
  }
  return sum;
}

// Copies a stage of one operand: terms [k, k_end), rows from `first` on, of which there are `rows`.
template <int HOW, int ROWS, class S>
MT_DEVICE void mt_tile_fetch(typename mt_tile_of<HOW>::T *to, const S &source, const typename S::Line *lines, int64_t first,
                             int64_t rows, int64_t k, int64_t k_end, int64_t shift) {
  typedef mt_tile_operand<HOW, ROWS, S::INNER> O;
  typedef typename mt_tile_of<HOW>::T T;
  const int chunk = threadIdx.x % O::CHUNKS * O::AT_ONCE, line = threadIdx.x / O::CHUNKS;
  const int64_t along = (S::INNER ? k : first) + chunk, limit = S::INNER ? k_end : rows;
  if (source.vector) {
    const typename S::Column column = source.column(along < limit ? along : 0);
#pragma unroll
    for (int i = 0; i < O::PASSES; i++) {
      const int l = line + i * O::LINES;
      const bool there = along < limit && (S::INNER ? first + l < rows : k + l < k_end);
      const T *from = NULL;
      if (there) {
        from = S::INNER ? source.at(lines[l], column, shift) : source.at(source.line(k + l), column, shift);
      }
      mt_copy_async<16>(to + l * O::WIDTH + chunk, from ? from : (const T *)source.base, from != NULL);
    }
  } else {
#pragma unroll 1
    for (int v = 0; v < O::AT_ONCE; v++) {
      const typename S::Column column = source.column(along + v < limit ? along + v : 0);
#pragma unroll 1
      for (int i = 0; i < O::PASSES; i++) {
        const int l = line + i * O::LINES;
        const bool there = along + v < limit && (S::INNER ? first + l < rows : k + l < k_end);
        const T *from = NULL;
        if (there) {
          from = S::INNER ? source.at(lines[l], column, shift) : source.at(source.line(k + l), column, shift);
        }
        mt_copy_async<sizeof(T)>(to + l * O::WIDTH + chunk + v, from ? from : (const T *)source.base, from != NULL);
      }
    }
  }
}

// 16 * MT by 8 * NT sums of a warp += STEP terms from shared memory.
template <int HOW, int MT, int NT, class OA, class OB> struct mt_tile_step {
  MT_DEVICE void run(float (&sum)[MT][NT][4], const float *a, const float *b, int row, int column, int k) {
    const int g = threadIdx.x % MT_WARP / 4, t = threadIdx.x % 4;
    if constexpr (HOW == MT_TILE_BF16) {
      uint32_t right[NT][2];
#pragma unroll
      for (int j = 0; j < NT; j++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
          const int at = k + 2 * t + 8 * i, n = column + 8 * j + g;
          right[j][i] = mt_bf16_pair(b[OB::at(n, at)], b[OB::at(n, at + 1)]);
        }
      }
#pragma unroll
      for (int i = 0; i < MT; i++) {
        uint32_t left[4];
#pragma unroll
        for (int e = 0; e < 4; e++) {
          const int at = k + 2 * t + 8 * (e / 2), m = row + 16 * i + g + 8 * (e % 2);
          left[e] = mt_bf16_pair(a[OA::at(m, at)], a[OA::at(m, at + 1)]);
        }
#pragma unroll
        for (int j = 0; j < NT; j++) {
          mt_mma_bf16(sum[i][j], left, right[j]);
        }
      }
    } else {
      uint32_t high[NT][2], low[NT][2];
#pragma unroll
      for (int j = 0; j < NT; j++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
          const float x = b[OB::at(column + 8 * j + g, k + t + 4 * i)];
          if (HOW == MT_TILE_3XTF32) {
            mt_split_tf32(&high[j][i], &low[j][i], x);
          } else {
            high[j][i] = mt_to_tf32(x);
          }
        }
      }
#pragma unroll
      for (int i = 0; i < MT; i++) {
        uint32_t left[4], left_low[4];
#pragma unroll
        for (int e = 0; e < 4; e++) {
          const float x = a[OA::at(row + 16 * i + g + 8 * (e % 2), k + t + 4 * (e / 2))];
          if (HOW == MT_TILE_3XTF32) {
            mt_split_tf32(&left[e], &left_low[e], x);
          } else {
            left[e] = mt_to_tf32(x);
          }
        }
#pragma unroll
        for (int j = 0; j < NT; j++) {
          if (HOW == MT_TILE_3XTF32) {
            float part[4] = {0, 0, 0, 0};
            mt_mma_tf32(part, left_low, high[j]);
            mt_mma_tf32(part, left, low[j]);
            mt_mma_tf32(part, left, high[j]);
#pragma unroll
            for (int e = 0; e < 4; e++) {
              sum[i][j][e] += part[e];
            }
          } else {
            mt_mma_tf32(sum[i][j], left, high[j]);
          }
        }
      }
    }
  }
};

template <int MT, int NT, class OA, class OB> struct mt_tile_step<MT_TILE_F64, MT, NT, OA, OB> {
  MT_DEVICE void run(double (&sum)[MT][NT][4], const double *a, const double *b, int row, int column, int k) {
    const int g = threadIdx.x % MT_WARP / 4, t = threadIdx.x % 4;
    for (int s = 0; s < MT_TILE_TERMS; s++) {
      double right[NT][2];
#pragma unroll
      for (int j = 0; j < NT; j++) {
        right[j][0] = b[OB::at(column + 8 * j + 2 * t, k + s)];
        right[j][1] = b[OB::at(column + 8 * j + 2 * t + 1, k + s)];
      }
#pragma unroll
      for (int i = 0; i < MT; i++) {
        const double up = a[OA::at(row + 16 * i + g, k + s)], down = a[OA::at(row + 16 * i + g + 8, k + s)];
#pragma unroll
        for (int j = 0; j < NT; j++) {
          sum[i][j][0] = fma(up, right[j][0], sum[i][j][0]);
          sum[i][j][1] = fma(up, right[j][1], sum[i][j][1]);
          sum[i][j][2] = fma(down, right[j][0], sum[i][j][2]);
          sum[i][j][3] = fma(down, right[j][1], sum[i][j][3]);
        }
      }
    }
  }
};

template <int HOW, int MT, int NT, class A, class B> struct mt_tile_shape {
  static const int M = 64 * MT, N = 16 * NT;
  typedef mt_tile_operand<HOW, M, A::INNER> OA;
  typedef mt_tile_operand<HOW, N, B::INNER> OB;
  typedef typename mt_tile_of<HOW>::T T;
  static const int STAGE = OA::COUNT + OB::COUNT;
  static const int BYTES = MT_TILE_STAGES * STAGE * (int)sizeof(T);
};

// Blocks that a processor holds at once: the compiler limits registers by it.
static constexpr int mt_tile_blocks(int how, int results, bool totals) { return how == MT_TILE_3XTF32 && totals && results >= 8 ? 1 : 2; }

// TOTALS: with fresh sums.
template <int HOW, int MT, int NT, bool TOTALS, class A, class B, class OUT>
static __global__ void __launch_bounds__(MT_TILE_THREADS, mt_tile_blocks(HOW, MT * NT, TOTALS))
    mt_tile_sum(const __grid_constant__ mt_tile_plan p, const __grid_constant__ A a, const __grid_constant__ B b,
                const __grid_constant__ OUT out) {
  typedef mt_tile_shape<HOW, MT, NT, A, B> shape;
  typedef typename mt_tile_of<HOW>::T T;
  static const int K = mt_tile_of<HOW>::K, STEP = mt_tile_of<HOW>::STEP;
  MT_DYNAMIC_SHARED(T, stages);
  __shared__ typename A::Line a_lines[A::INNER ? shape::M : 1];
  __shared__ typename B::Line b_lines[B::INNER ? shape::N : 1];
  const int warp = threadIdx.x / MT_WARP, row = warp / 2 * 16 * MT, column = warp % 2 * 8 * NT;
  const int64_t rows = p.count ? *p.count : p.m;
  const int64_t tiles_m = (rows + shape::M - 1) / shape::M, tiles_n = (p.n + shape::N - 1) / shape::N;
  const int64_t work = tiles_m * tiles_n * p.parts * p.splits;
  for (int64_t w = blockIdx.x; w < work; w += gridDim.x) {
    // Neighbours share the rows that they read.
    const int64_t n0 = w % tiles_n * shape::N, m0 = w / tiles_n % tiles_m * shape::M, z = w / tiles_n / tiles_m;
    const int64_t part = z / p.splits, split = z % p.splits;
    int64_t from = p.begin ? p.begin[split] : split * p.piece, to = p.begin ? p.end[split] : from + p.piece;
    to = to < p.k ? to : p.k;
    const int64_t shift_a = a.shift(part), shift_b = b.shift(part);
    const bool needed = m0 + row < rows && n0 + column < p.n;
    __syncthreads();  // of the last tile's stages and lines
    if (A::INNER) {
      for (int i = threadIdx.x; i < shape::M; i += MT_TILE_THREADS) {
        a_lines[i] = a.line(m0 + i < rows ? m0 + i : m0);
      }
    }
    if (B::INNER) {
      for (int i = threadIdx.x; i < shape::N; i += MT_TILE_THREADS) {
        b_lines[i] = b.line(n0 + i < p.n ? n0 + i : n0);
      }
    }
    __syncthreads();
    T sum[MT][NT][4], total[TOTALS ? MT : 1][TOTALS ? NT : 1][4];
#pragma unroll
    for (int i = 0; i < MT * NT * 4; i++) {
      sum[i / 4 / NT][i / 4 % NT][i % 4] = 0;
      if (TOTALS) {
        total[i / 4 / NT % (TOTALS ? MT : 1)][i / 4 % (TOTALS ? NT : 1)][i % 4] = 0;
      }
    }
    const int64_t count = to > from ? (to - from + K - 1) / K : 0;
    const auto fetch = [&](int64_t s) {
      if (s < count) {
        T *stage = stages + s % MT_TILE_STAGES * shape::STAGE;
        mt_tile_fetch<HOW, shape::M>(stage, a, a_lines, m0, rows, from + s * K, to, shift_a);
        mt_tile_fetch<HOW, shape::N>(stage + shape::OA::COUNT, b, b_lines, n0, p.n, from + s * K, to, shift_b);
      }
      mt_copy_commit();  // an empty group too, so that the last MT_TILE_STAGES - 1 are always those of later stages
    };
    for (int64_t s = -(MT_TILE_STAGES - 1); s < count; s++) {
      if (s >= 0) {
        mt_copy_wait<MT_TILE_STAGES - 2>();
        __syncthreads();  // this stage has arrived for all, and all are done with the one that is fetched over
      }
      fetch(s + MT_TILE_STAGES - 1);
      if (s < 0 || !needed) {
        continue;
      }
      const T *left = stages + s % MT_TILE_STAGES * shape::STAGE, *right = left + shape::OA::COUNT;
#pragma unroll (HOW == MT_TILE_3XTF32 ? 1 : 2)
      for (int k = 0; k < K; k += STEP) {
        if (TOTALS) {
          const int64_t group = (from + s * K + k) / STEP;
          const bool inside = from + s * K + k < to;
          if (inside && (p.fresh ? p.fresh[group] != 0 : group % p.run % MT_TILE_RUN == 0)) {
#pragma unroll
            for (int i = 0; i < MT * NT * 4; i++) {
              T *t = &total[i / 4 / NT % (TOTALS ? MT : 1)][i / 4 % (TOTALS ? NT : 1)][i % 4], *u = &sum[i / 4 / NT][i / 4 % NT][i % 4];
              *t += *u;
              *u = 0;
            }
          }
        }
        mt_tile_step<HOW, MT, NT, typename shape::OA, typename shape::OB>::run(sum, left, right, row, column, k);
      }
    }
    if (!needed) {
      continue;
    }
    static_assert(MT * NT * 4 <= 32, "a bit per result of a thread");
    const int g = threadIdx.x % MT_WARP / 4, t = threadIdx.x % 4;
    unsigned bad = 0;
#pragma unroll
    for (int i = 0; i < MT * 2; i++) {
      const int64_t m = m0 + row + 16 * (i / 2) + 8 * (i % 2) + g;
      if (m >= rows) {
        continue;
      }
      const typename OUT::Row to_row = out.row(m, z);
#pragma unroll
      for (int j = 0; j < NT * 2; j++) {
        const int64_t n = n0 + column + 8 * (j / 2) + 2 * t + j % 2;
        T value = sum[i / 2][j / 2][i % 2 * 2 + j % 2];
        if (TOTALS) {
          value = total[TOTALS ? i / 2 : 0][TOTALS ? j / 2 : 0][i % 2 * 2 + j % 2] + value;
        }
        if (n < p.n) {
          out.store(to_row, n, value, z);
          bad |= (unsigned)(value != value) << (i * NT * 2 + j);
        }
      }
    }
    if constexpr (HOW == MT_TILE_3XTF32) {
      for (; bad; bad &= bad - 1) {
        const int e = __ffs((int)bad) - 1, i = e / (NT * 2), j = e % (NT * 2);
        const int64_t m = m0 + row + 16 * (i / 2) + 8 * (i % 2) + g, n = n0 + column + 8 * (j / 2) + 2 * t + j % 2;
        out.store(out.row(m, z), n, mt_tile_plainly(a, b, m, n, from, to, part), z);
      }
    }
  }
}

// ---- sources ------------------------------------------------------------------------------------------------------------

enum { MT_TILE_BATCH = MT_MAX_DIMS - 2 };

// A strided matrix, many of them: element (i, j) is line i's element j.
template <typename E, bool LINES_ARE_ROWS> struct mt_tile_matrix {
  static const bool INNER = LINES_ARE_ROWS;
  const E *base;
  int64_t line_step, step;
  int64_t run, run_slots;  // lines are terms in runs that are filled up to whole groups: `run` lines in `run_slots` terms; 0: no
  int32_t batch_dims, vector;
  int64_t batch_size[MT_TILE_BATCH], batch_step[MT_TILE_BATCH];
  typedef int64_t Line;
  typedef int64_t Column;
  __device__ __forceinline__ Line line(int64_t i) const {
    if (run == 0) {
      return i * line_step;
    }
    const int64_t at = i % run_slots;
    return at < run ? (i / run_slots * run + at) * line_step : -1;
  }
  __device__ __forceinline__ Column column(int64_t j) const { return j * step; }
  __device__ __forceinline__ const E *at(Line l, Column c, int64_t shift) const { return run && l < 0 ? NULL : base + l + c + shift; }
  __device__ __forceinline__ int64_t shift(int64_t z) const {
    int64_t offset = 0;
    for (int d = batch_dims - 1; d >= 0; d--) {
      offset += z % batch_size[d] * batch_step[d];
      z /= batch_size[d];
    }
    return offset;
  }
};

// 16 bytes at a time: neighbours along a line, and every line begins at a multiple.
template <typename E, bool R> static void mt_tile_align(mt_tile_matrix<E, R> *s, int64_t along) {
  const int64_t together = 16 / (int64_t)sizeof(E);
  s->vector = s->step == 1 && along % together == 0 && s->line_step % together == 0 && (uintptr_t)s->base % 16 == 0;
  for (int32_t d = 0; d < s->batch_dims; d++) {
    s->vector = s->vector && s->batch_step[d] % together == 0;
  }
}

// ---- launches -----------------------------------------------------------------------------------------------------------

int32_t mt_tile_how(int32_t dtype);  // of the precision that is set

// One kernel; rows: how many the largest part has at most.
template <int HOW, int MT, int NT, bool TOTALS, class A, class B, class OUT>
static int mt_tile_start(mt_device *device, const mt_tile_plan &p, const A &a, const B &b, const OUT &out) {
  typedef mt_tile_shape<HOW, MT, NT, A, B> shape;
  const int64_t work = ((p.m + shape::M - 1) / shape::M) * ((p.n + shape::N - 1) / shape::N) * p.parts * p.splits;
  const int64_t most = (int64_t)device->processors * mt_tile_blocks(HOW, MT * NT, TOTALS);  // as many as run at once: each takes tile after tile
  MT_CUDA(cudaFuncSetAttribute(mt_tile_sum<HOW, MT, NT, TOTALS, A, B, OUT>, cudaFuncAttributeMaxDynamicSharedMemorySize, shape::BYTES));
  MT_LAUNCH(device, (mt_tile_sum<HOW, MT, NT, TOTALS, A, B, OUT>), (unsigned)(work < most ? work : most), MT_TILE_THREADS,
            shape::BYTES, p, a, b, out);
  return MT_OK;
}

// The tile: small where there are few results. Its size changes no bit.
template <int HOW, bool TOTALS, class A, class B, class OUT>
static int mt_tile_run(mt_device *device, const mt_tile_plan &p, const A &a, const B &b, const OUT &out) {
  if (p.m <= 0 || p.n <= 0 || p.parts <= 0 || p.splits <= 0) {
    return MT_OK;
  }
  [[maybe_unused]] const int64_t large = ((p.m + 127) / 128) * ((p.n + 63) / 64) * p.parts * p.splits;
  if constexpr (HOW != MT_TILE_F64) {
    if (p.n > 32 && p.m > 64 && large >= device->processors / 2) {
      return mt_tile_start<HOW, 2, 4, TOTALS>(device, p, a, b, out);
    }
  }
  return mt_tile_start<HOW, 1, 2, TOTALS>(device, p, a, b, out);
}

// Sums of splits added up in their order: sums (parts, splits, rows, columns) to out, which has rows, columns, row() and store().
template <typename T, class OUT>
static __global__ void mt_tile_add_splits(const OUT out, const T *sums, int64_t parts, int64_t splits) {
  const int64_t each = out.rows * out.columns;
  MT_EACH(i, parts * each) {
    const int64_t z = i / each, element = i % each;
    const T *from = sums + z * splits * each + element;
    double sum = 0;
    for (int64_t s = 0; s < splits; s++) {
      sum += (double)from[s * each];
    }
    out.store(out.row(element / out.columns, z), element % out.columns, (T)sum, z);
  }
}
