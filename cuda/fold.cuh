// fold: many elements to one per output, in an order that depends on the shape alone. Internal; core/reduce_plan.h has the plan.
//
// An element goes to an accumulator that its own position chooses: its lane is its place in the row mod 32, its slot the row's
// indexes along the last two outer axes and the row's piece, each modulo a constant. Rows of one slot are taken in raster order, lanes
// and slots are joined as binary trees over their numbers. Accumulators without elements hold the identity, so neither zeros at
// the end of rows nor further rows of zeros change a bit, and the trees may be cut short.
//
// An operation OP has   acc                  its accumulator
//                       identity()
//                       map(x, position, c)  one element; position: raster, among those of its output; c: the output's constant
//                       join(a, b)           a comes before b
//                       exchange(a, step)    a of the lane `step` away (xor)
// A FINISH has          operator()(o, acc)   stores output o.
#pragma once
#include "common.cuh"

extern "C" {
#include "../core/reduce_plan.h"
}

enum { MT_FOLD_PIECES = 2048, MT_FOLD_LAST = 64, MT_FOLD_NEXT = 16 };

// Slot numbers: bits of the piece, of the last outer axis, of the one before it.
typedef struct mt_slots {
  int32_t bits, bits_piece, bits_last;
  int64_t pieces, last, next, others;   // sizes; others: all further outer axes together
} mt_slots;

static inline int32_t mt_fold_bits(int64_t size, int64_t modulus) {
  int32_t bits = 0;
  while (((int64_t)1 << bits) < MT_MIN(size, modulus)) {
    bits++;
  }
  return bits;
}

static inline mt_slots mt_fold_slots(const mt_reduction *r) {
  mt_slots s;
  s.pieces = MT_MAX(r->pieces, (int64_t)1);
  s.last = r->outer > 0 ? r->outer_shape[r->outer - 1] : 1;
  s.next = r->outer > 1 ? r->outer_shape[r->outer - 2] : 1;
  s.others = 1;
  for (int32_t k = 0; k < r->outer - 2; k++) {
    s.others *= r->outer_shape[k];
  }
  s.bits_piece = mt_fold_bits(s.pieces, MT_FOLD_PIECES);
  s.bits_last = mt_fold_bits(s.last, MT_FOLD_LAST);
  s.bits = s.bits_piece + s.bits_last + mt_fold_bits(s.next, MT_FOLD_NEXT);
  return s;
}

// Offsets in elements of output o in x and in y.
MT_DEVICE void mt_fold_output(const mt_reduction &r, int64_t o, int64_t *in_x, int64_t *in_y) {
  int64_t x = 0, y = 0;
  for (int k = r.kept - 1; k >= 0; k--) {
    const int64_t i = o % r.kept_shape[k];
    o /= r.kept_shape[k];
    x += i * r.kept_stride[k];
    y += i * r.kept_out[k];
  }
  *in_x = x;
  *in_y = y;
}

// Calls visit(offset in x of the row's first element, raster position of that element, length) for the rows of a slot, in order.
template <typename VISIT> MT_DEVICE void mt_fold_rows_of(const mt_reduction &r, const mt_slots &s, int64_t slot, VISIT visit) {
  if (r.rows == 0) {
    return;
  }
  const int64_t first_piece = slot & (((int64_t)1 << s.bits_piece) - 1);
  const int64_t first_last = slot >> s.bits_piece & (((int64_t)1 << s.bits_last) - 1);
  const int64_t first_next = slot >> (s.bits_piece + s.bits_last);
  const int64_t stride_last = r.outer > 0 ? r.outer_stride[r.outer - 1] : 0;
  const int64_t stride_next = r.outer > 1 ? r.outer_stride[r.outer - 2] : 0;
  for (int64_t other = 0; other < s.others; other++) {
    int64_t rest = other, base = 0;
    for (int k = r.outer - 3; k >= 0; k--) {
      base += rest % r.outer_shape[k] * r.outer_stride[k];
      rest /= r.outer_shape[k];
    }
    for (int64_t next = first_next; next < s.next; next += MT_FOLD_NEXT) {
      for (int64_t last = first_last; last < s.last; last += MT_FOLD_LAST) {
        for (int64_t piece = first_piece; piece < s.pieces; piece += MT_FOLD_PIECES) {
          const int64_t line = (other * s.next + next) * s.last + last;
          visit(base + next * stride_next + last * stride_last + piece * MT_ROW * r.stride, line * r.length + piece * MT_ROW,
                min(r.length - piece * MT_ROW, (int64_t)MT_ROW));
        }
      }
    }
  }
}

template <typename OP> MT_DEVICE typename OP::acc mt_fold_tree(const OP &op, typename OP::acc a, int width) {
  const int lane = threadIdx.x % MT_WARP;
  for (int step = 1; step < width; step *= 2) {
    const typename OP::acc other = op.exchange(a, step);
    a = lane & step ? op.join(other, a) : op.join(a, other);
  }
  return a;
}

// Elements of a row near each other: `width` lanes (a power of 2, 32 where rows are longer) per output and slot.
template <typename T, typename OP>
static __global__ void mt_fold_far(const mt_reduction r, const mt_slots s, const T *x, const double *c, const OP op,
                                   typename OP::acc *partial, int width) {
  const int lane = threadIdx.x % width, per_block = blockDim.x / width;
  const int64_t total = r.outputs << s.bits;
  for (int64_t first = (int64_t)blockIdx.x * per_block; first < total; first += (int64_t)gridDim.x * per_block) {
    const int64_t unit = first + threadIdx.x / width, o = unit >> s.bits;
    typename OP::acc a = op.identity();
    if (unit < total) {
      int64_t in_x, in_y;
      mt_fold_output(r, o, &in_x, &in_y);
      const double constant = c ? c[o] : 0;
      mt_fold_rows_of(r, s, unit & (((int64_t)1 << s.bits) - 1), [&](int64_t offset, int64_t position, int64_t n) {
        const T *row = x + in_x + offset;
        for (int64_t i = lane; i < n; i += MT_WARP) {
          a = op.join(a, op.map(row[i * r.stride], position + i, constant));
        }
      });
    }
    a = mt_fold_tree(op, a, width);
    if (lane == 0 && unit < total) {
      partial[unit] = a;
    }
  }
}

enum { MT_FOLD_TALL = 8, MT_FOLD_OWN = MT_WARP / MT_FOLD_TALL };

// Outputs near each other: 32 outputs beside each other, the lanes of each shared by 8 threads above each other.
template <typename T, typename OP>
static __global__ void mt_fold_near(const mt_reduction r, const mt_slots s, const T *x, const double *c, const OP op,
                                    typename OP::acc *partial) {
  __shared__ typename OP::acc lanes[MT_WARP][MT_WARP];
  const int64_t across = (r.outputs + MT_WARP - 1) / MT_WARP, total = across << s.bits;
  for (int64_t unit = blockIdx.x; unit < total; unit += gridDim.x) {
    const int64_t o = unit % across * MT_WARP + threadIdx.x, slot = unit / across;
    typename OP::acc own[MT_FOLD_OWN];
    for (int q = 0; q < MT_FOLD_OWN; q++) {
      own[q] = op.identity();
    }
    if (o < r.outputs) {
      int64_t in_x, in_y;
      mt_fold_output(r, o, &in_x, &in_y);
      const double constant = c ? c[o] : 0;
      mt_fold_rows_of(r, s, slot, [&](int64_t offset, int64_t position, int64_t n) {
        const T *row = x + in_x + offset;
        for (int64_t i = threadIdx.y; i < n; i += MT_WARP) {
#pragma unroll
          for (int q = 0; q < MT_FOLD_OWN; q++) {
            if (i + q * MT_FOLD_TALL < n) {
              own[q] = op.join(own[q], op.map(row[(i + q * MT_FOLD_TALL) * r.stride], position + i + q * MT_FOLD_TALL, constant));
            }
          }
        }
      });
    }
    for (int q = 0; q < MT_FOLD_OWN; q++) {
      lanes[threadIdx.y + q * MT_FOLD_TALL][threadIdx.x] = own[q];
    }
    __syncthreads();
    for (int step = 1; step < MT_WARP; step *= 2) {
      for (int lane = threadIdx.y * 2 * step; lane < MT_WARP; lane += MT_FOLD_TALL * 2 * step) {
        lanes[lane][threadIdx.x] = op.join(lanes[lane][threadIdx.x], lanes[lane + step][threadIdx.x]);
      }
      __syncthreads();
    }
    if (threadIdx.y == 0 && o < r.outputs) {
      partial[o << s.bits | slot] = lanes[0][threadIdx.x];
    }
    __syncthreads();
  }
}

// The slots of each output by `width` lanes: trees of 32 neighbours, then of those, as a binary counter carries.
template <typename OP, typename FINISH>
static __global__ void mt_fold_join(int64_t outputs, int bits, const typename OP::acc *partial, const OP op, const FINISH finish,
                                    int width) {
  const int lane = threadIdx.x % width, per_block = blockDim.x / width;
  const int64_t chunks = ((int64_t)1 << bits) / width;
  for (int64_t first = (int64_t)blockIdx.x * per_block; first < outputs; first += (int64_t)gridDim.x * per_block) {
    const int64_t o = first + threadIdx.x / width;
    typename OP::acc level[32], a = op.identity();
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
      a = o < outputs ? partial[(o << bits) + chunk * width + lane] : op.identity();
      a = mt_fold_tree(op, a, width);
      int k = 0;
      for (; chunk >> k & 1; k++) {
        a = op.join(level[k], a);
      }
      level[k] = a;
    }
    if (lane == 0 && o < outputs) {
      finish(o, a);
    }
  }
}

// r: a plan of x. c: one constant per output in device memory, or NULL.
template <typename T, typename OP, typename FINISH>
static int mt_fold(mt_device *device, const mt_reduction *r, const mt_tensor *x, const double *c, const OP op, const FINISH finish) {
  mt_scratch scratch;
  if (r->outputs == 0) {
    return MT_OK;
  }
  const mt_slots s = mt_fold_slots(r);
  const int64_t units = r->outputs << s.bits;
  MT_TRY(scratch.take(device, units, (int64_t)sizeof(typename OP::acc)));
  typename OP::acc *partial = (typename OP::acc *)scratch.data;
  const T *data = (const T *)x->data;
  if (r->near && r->lane >= 8) {
    const int64_t blocks = (r->outputs + MT_WARP - 1) / MT_WARP << s.bits;
    MT_LAUNCH(device, (mt_fold_near<T, OP>), mt_grid(device, blocks, 1), dim3(MT_WARP, MT_FOLD_TALL), 0, *r, s, data, c, op, partial);
  } else {
    const int width = 1 << mt_fold_bits(r->length, MT_WARP);
    MT_LAUNCH(device, (mt_fold_far<T, OP>), mt_grid(device, units, MT_BLOCK / width), MT_BLOCK, 0, *r, s, data, c, op, partial,
              width);
  }
  const int width = 1 << MT_MIN(s.bits, 5);
  MT_LAUNCH(device, (mt_fold_join<OP, FINISH>), mt_grid(device, r->outputs, MT_BLOCK / width), MT_BLOCK, 0, r->outputs, s.bits,
            (const typename OP::acc *)partial, op, finish, width);
  return MT_OK;
}

// ---- operations -----------------------------------------------------------------------------------------------------

enum { MT_MAP_IDENTITY, MT_MAP_DEVIATION, MT_MAP_SQUARE, MT_MAP_ABS, MT_MAP_POWER, MT_MAP_EXP, MT_MAP_NONZERO, MT_MAP_EQUAL,
  MT_MAP_EQUAL_ABS, MT_MAP_ZERO };

// Sums of mapped elements in double.
template <typename T, int MAP> struct mt_fold_sum {
  typedef double acc;
  MT_INSIDE acc identity() const { return 0; }
  MT_INSIDE acc join(acc a, acc b) const { return a + b; }
  MT_INSIDE acc exchange(acc a, int step) const { return __shfl_xor_sync(0xFFFFFFFFu, a, step); }
  MT_INSIDE acc map(T x, int64_t, double c) const {
    const double v = (double)x, size = fabs(v);
    switch (MAP) {
      case MT_MAP_IDENTITY: return v;
      case MT_MAP_DEVIATION: return (v - c) * (v - c);
      case MT_MAP_SQUARE: return (v * c) * (v * c);
      case MT_MAP_ABS: return size;
      case MT_MAP_POWER: return pow(size, c);
      case MT_MAP_EXP: return exp(v - c);
      case MT_MAP_EQUAL: return v == c || (v != v && c != c);
      case MT_MAP_EQUAL_ABS: return size == c || (v != v && c != c);
      case MT_MAP_ZERO: return v == 0;
      default: return v != 0;
    }
  }
};

// Whole numbers wrap around.
template <typename T> struct mt_fold_integers {
  typedef unsigned long long acc;
  MT_INSIDE acc identity() const { return 0; }
  MT_INSIDE acc join(acc a, acc b) const { return a + b; }
  MT_INSIDE acc exchange(acc a, int step) const { return __shfl_xor_sync(0xFFFFFFFFu, a, step); }
  MT_INSIDE acc map(T x, int64_t, double) const { return (acc)(int64_t)x; }
};

template <typename T, typename ACC> struct mt_fold_product {
  typedef ACC acc;
  bool skip_zeros;
  MT_INSIDE acc identity() const { return 1; }
  MT_INSIDE acc join(acc a, acc b) const { return a * b; }
  MT_INSIDE acc exchange(acc a, int step) const { return __shfl_xor_sync(0xFFFFFFFFu, a, step); }
  MT_INSIDE acc map(T x, int64_t, double) const { return skip_zeros && x == 0 ? (acc)1 : (acc)x; }
};

// The largest or smallest element that stands first; NaN wins.
template <typename T> struct mt_found {
  T value;
  int64_t position;   // -1: none yet
};
template <typename T> struct mt_fold_extreme {
  typedef mt_found<T> acc;
  bool largest;
  MT_INSIDE acc identity() const { return acc{0, -1}; }
  MT_INSIDE acc join(acc a, acc b) const {
    if (a.position < 0 || b.position < 0) {
      return a.position < 0 ? b : a;
    }
    const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
    if (a_nan != b_nan) {
      return a_nan ? a : b;
    }
    if (!a_nan && a.value != b.value) {
      return (a.value > b.value) == largest ? a : b;
    }
    return a.position < b.position ? a : b;
  }
  MT_INSIDE acc exchange(acc a, int step) const {
    return acc{(T)__shfl_xor_sync(0xFFFFFFFFu, a.value, step), __shfl_xor_sync(0xFFFFFFFFu, a.position, step)};
  }
  MT_INSIDE acc map(T x, int64_t position, double) const { return acc{x, position}; }
};

// The largest or smallest |x|, NaN where there is one.
template <typename T> struct mt_fold_extreme_abs {
  typedef double acc;
  bool largest;
  MT_INSIDE acc identity() const { return largest ? 0 : INFINITY; }
  MT_INSIDE acc join(acc a, acc b) const { return a != a ? a : b != b ? b : largest ? fmax(a, b) : fmin(a, b); }
  MT_INSIDE acc exchange(acc a, int step) const { return __shfl_xor_sync(0xFFFFFFFFu, a, step); }
  MT_INSIDE acc map(T x, int64_t, double) const { return fabs((double)x); }
};

template <typename T> struct mt_fold_truth {
  typedef int acc;
  int every;
  MT_INSIDE acc identity() const { return every; }
  MT_INSIDE acc join(acc a, acc b) const { return every ? a && b : a || b; }
  MT_INSIDE acc exchange(acc a, int step) const { return __shfl_xor_sync(0xFFFFFFFFu, a, step); }
  MT_INSIDE acc map(T x, int64_t, double) const { return x != 0; }
};
