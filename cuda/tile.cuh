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
// Operands that are bfloat16 in memory (NARROW) stay it on their way to the tensor cores: the sums of BF16, half the traffic.
//
// The order of a sum. Terms are taken in order, in groups of 8 (bfloat16: 16) that begin at multiples of 8 from the first term; the size
// of the tile does not matter. So the bits of a result depend on its own terms alone, and terms of 0 leave them as they are. What a
// tensor core does with the 8 terms of a group does not depend on their order: they are aligned to the largest (Fasi and others,
// Numerical behavior of NVIDIA tensor cores, 2021). With `fresh`, a sum of sums: each run of groups adds up from 0.
#pragma once
#include "row.cuh"
#include "tensor_core.cuh"

enum { MT_TILE_3XTF32, MT_TILE_TF32, MT_TILE_BF16, MT_TILE_F64, MT_TILE_NARROW };
enum { MT_TILE_THREADS = 256, MT_TILE_STAGES = 3, MT_TILE_TERMS = 8, MT_TILE_RUN = 32 };

// E: an operand's element in memory; T: a sum.
template <int HOW> struct mt_tile_of {
  typedef float E;
  typedef float T;
  static const int K = 32, STEP = HOW == MT_TILE_BF16 ? 16 : 8;
};
template <> struct mt_tile_of<MT_TILE_F64> {
  typedef double E;
  typedef double T;
  static const int K = 16, STEP = 8;
};
template <> struct mt_tile_of<MT_TILE_NARROW> {
  typedef mt_bf16 E;
  typedef float T;
  static const int K = 64, STEP = 16;
};

// What stands beside operands of type E, results and biases, is of their sums' type or, beside bfloat16, `narrow`: bfloat16 too.
template <typename E> MT_DEVICE char *mt_beside_at(const void *p, int64_t i, int32_t narrow) {
  typedef typename mt_wider<E>::type T;
  return (char *)p + i * (int64_t)(sizeof(E) == 2 && narrow ? sizeof(E) : sizeof(T));
}
template <typename E> MT_DEVICE typename mt_wider<E>::type mt_beside_load(const void *p, int64_t i, int32_t narrow) {
  typedef typename mt_wider<E>::type T;
  return sizeof(E) == 2 && narrow ? (T)((const E *)p)[i] : ((const T *)p)[i];
}
template <typename E> MT_DEVICE void mt_beside_store(void *p, int64_t i, int32_t narrow, typename mt_wider<E>::type v) {
  typedef typename mt_wider<E>::type T;
  if (sizeof(E) == 2 && narrow) {
    ((E *)p)[i] = (E)v;
  } else {
    ((T *)p)[i] = v;
  }
}

// ---- shared memory ------------------------------------------------------------------------------------------------------

// An operand of ROWS rows (of a) or columns (of b) in a stage. INNER: its terms are neighbours, [ROWS][K + pad], else [K][ROWS + pad]:
// as its source has it, so that 16 bytes are copied at once. The pads spread a fragment over all banks.
template <int HOW, int ROWS, bool INNER> struct mt_tile_operand {
  typedef typename mt_tile_of<HOW>::E E;
  static const bool TURNED = !INNER;
  static const int K = mt_tile_of<HOW>::K;
  static const int PAD = HOW == MT_TILE_F64 ? 2 : HOW == MT_TILE_NARROW || (HOW == MT_TILE_BF16) == INNER ? 8 : 4;
  static const int WIDTH = (INNER ? K : ROWS) + PAD, COUNT = (INNER ? ROWS : K) * WIDTH;
  static const int AT_ONCE = 16 / sizeof(E), CHUNKS = (INNER ? K : ROWS) / AT_ONCE;  // per line
  static const int LINES = MT_TILE_THREADS / CHUNKS, PASSES = (INNER ? ROWS : K) / LINES;
  static_assert(MT_TILE_THREADS % CHUNKS == 0 && PASSES * LINES == (INNER ? ROWS : K), "the threads share the lines evenly");
  MT_DEVICE int at(int row, int k) { return INNER ? row * WIDTH + k : k * WIDTH + row; }
};

// ---- the kernel ---------------------------------------------------------------------------------------------------------
// A source has
//   INNER                              rows of the operand are lines (their terms are neighbours); else terms are
//   Line line(i), Column column(j)     what an element's two indexes mean: i of lines, j along them
//   const E *at(line, column, shift)   the element, or NULL: 0
//   shift(z)                           of the problem's part z: a group, a matrix of a batch
//   vector                             16 bytes along a line that begin at a multiple of their number may be read at once
//   base                               any address
// A place for results has  Row row(m, z) and  store(row, n, value, z).

typedef struct mt_tile_plan {
  int64_t m, n, k;                 // of the largest part
  const int64_t *count;            // on the device: how many rows there are really, or NULL
  int64_t parts, splits;           // parts: independent sums; splits: of the terms of one
  const int64_t *begin, *end;      // of a split: its terms [begin, end), begin a multiple of 8 (bfloat16: 16); NULL: each `piece` terms
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
MT_DEVICE void mt_tile_fetch(typename mt_tile_of<HOW>::E *to, const S &source, const typename S::Line *lines, int64_t first,
                             int64_t rows, int64_t k, int64_t k_end, int64_t shift) {
  typedef mt_tile_operand<HOW, ROWS, S::INNER> O;
  typedef typename mt_tile_of<HOW>::E E;
  const int chunk = threadIdx.x % O::CHUNKS * O::AT_ONCE, line = threadIdx.x / O::CHUNKS;
  const int64_t along = (S::INNER ? k : first) + chunk, limit = S::INNER ? k_end : rows;
  if (source.vector) {
    const typename S::Column column = source.column(along < limit ? along : 0);
#pragma unroll
    for (int i = 0; i < O::PASSES; i++) {
      const int l = line + i * O::LINES;
      const bool there = along < limit && (S::INNER ? first + l < rows : k + l < k_end);
      const E *from = NULL;
      if (there) {
        from = S::INNER ? source.at(lines[l], column, shift) : source.at(source.line(k + l), column, shift);
      }
      mt_copy_async<16>(to + l * O::WIDTH + chunk, from ? from : (const E *)source.base, from != NULL);
    }
  } else if (sizeof(E) < 4) {  // too little for an asynchronous copy: loads first, then stores
#pragma unroll 1
    for (int v = 0; v < O::AT_ONCE; v++) {
      const typename S::Column column = source.column(along + v < limit ? along + v : 0);
      E got[O::PASSES];
#pragma unroll
      for (int i = 0; i < O::PASSES; i++) {
        const int l = line + i * O::LINES;
        const bool there = along + v < limit && (S::INNER ? first + l < rows : k + l < k_end);
        const E *from = NULL;
        if (there) {
          from = S::INNER ? source.at(lines[l], column, shift) : source.at(source.line(k + l), column, shift);
        }
        got[i] = from ? *from : (E)0;
      }
#pragma unroll
      for (int i = 0; i < O::PASSES; i++) {
        to[(line + i * O::LINES) * O::WIDTH + chunk + v] = got[i];
      }
    }
  } else {
#pragma unroll 1
    for (int v = 0; v < O::AT_ONCE; v++) {
      const typename S::Column column = source.column(along + v < limit ? along + v : 0);
#pragma unroll 1
      for (int i = 0; i < O::PASSES; i++) {
        const int l = line + i * O::LINES;
        const bool there = along + v < limit && (S::INNER ? first + l < rows : k + l < k_end);
        const E *from = NULL;
        if (there) {
          from = S::INNER ? source.at(lines[l], column, shift) : source.at(source.line(k + l), column, shift);
        }
        mt_copy_async<sizeof(E)>(to + l * O::WIDTH + chunk + v, from ? from : (const E *)source.base, from != NULL);
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

template <int MT, int NT, class OA, class OB> struct mt_tile_step<MT_TILE_NARROW, MT, NT, OA, OB> {
  MT_DEVICE void run(float (&sum)[MT][NT][4], const mt_bf16 *a, const mt_bf16 *b, int row, int column, int k) {
    // Of a fragment's four matrices, `second` differ in the first index that the registers count, `last` in the other one.
    const int lane = threadIdx.x % MT_WARP, inside = lane % 8, second = lane / 8 % 2 * 8, last = lane / 16 * 8;
    static_assert(NT % 2 == 0, "columns come 16 at a time");
    uint32_t right[NT / 2][4];
#pragma unroll
    for (int j = 0; j < NT / 2; j++) {
      const int n = column + 16 * j + last, at = k + second;
      mt_load_matrices<OB::TURNED>(right[j], b + (OB::TURNED ? OB::at(n, at + inside) : OB::at(n + inside, at)));
    }
#pragma unroll
    for (int i = 0; i < MT; i++) {
      const int m = row + 16 * i + second, at = k + last;
      uint32_t left[4];
      mt_load_matrices<OA::TURNED>(left, a + (OA::TURNED ? OA::at(m, at + inside) : OA::at(m + inside, at)));
#pragma unroll
      for (int j = 0; j < NT; j++) {
        const uint32_t pairs[2] = {right[j / 2][j % 2 * 2], right[j / 2][j % 2 * 2 + 1]};
        mt_mma_bf16(sum[i][j], left, pairs);
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
  typedef typename mt_tile_of<HOW>::E E;
  static const int STAGE = OA::COUNT + OB::COUNT;
  static const int BYTES = MT_TILE_STAGES * STAGE * (int)sizeof(E);
};

// Blocks that a processor holds at once: the compiler limits registers by it.
static constexpr int mt_tile_blocks(int how, int results, bool totals) { return how == MT_TILE_3XTF32 && totals && results >= 8 ? 1 : 2; }

// TOTALS: with fresh sums.
template <int HOW, int MT, int NT, bool TOTALS, class A, class B, class OUT>
static __global__ void __launch_bounds__(MT_TILE_THREADS, mt_tile_blocks(HOW, MT * NT, TOTALS))
    mt_tile_sum(const __grid_constant__ mt_tile_plan p, const __grid_constant__ A a, const __grid_constant__ B b,
                const __grid_constant__ OUT out) {
  typedef mt_tile_shape<HOW, MT, NT, A, B> shape;
  typedef typename mt_tile_of<HOW>::E E;
  typedef typename mt_tile_of<HOW>::T T;
  static const int K = mt_tile_of<HOW>::K, STEP = mt_tile_of<HOW>::STEP;
  MT_DYNAMIC_SHARED(E, stages);
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
        E *stage = stages + s % MT_TILE_STAGES * shape::STAGE;
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
      const E *left = stages + s % MT_TILE_STAGES * shape::STAGE, *right = left + shape::OA::COUNT;
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

int32_t mt_tile_how(int32_t dtype);  // of the precision that is set; NARROW for bfloat16

// A bias as places beside operands of `dtype` take it: itself with another reference, or a copy; NULL for NULL.
static inline int mt_tile_bias(mt_tensor **out, const mt_tensor *b, int32_t dtype) {
  *out = NULL;
  if (b == NULL) {
    return MT_OK;
  }
  if (dtype == MT_BFLOAT16 || b->dtype == dtype) {
    return mt_tensor_alias(out, b);
  }
  MT_TRY(mt_tensor_new(out, dtype, b->ndim, b->shape, NULL));
  return mt_tensor_copy(*out, b);
}

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
