// sums: the counterpart of core/norm_sums.h: sums over some dims of a tensor for every combination (a cell) of the others, in double
// precision, of up to four quantities. Internal.
//
// The order of additions depends on positions, not on layout: an element at position x of the last summed dim and y of the one before
// is added to one of 32 x R sums (32 lanes; R row groups, from the number of cells alone), each in raster order; the lanes' sums are
// added as a tree, then the groups'. So zeros behind rows, more rows of zeros, and the memory format change no bit. Two mappings do
// the same additions: `across` has a warp's threads on 32 neighbouring cells, `along` on the 32 lanes of one cell.
#pragma once
#include "row.cuh"

enum { MT_SUMS_OPERANDS = 5, MT_SUMS_WIDTH = 4, MT_SUMS_PIECE = 256, MT_SUMS_GROUPS = 256, MT_SUMS_ENOUGH = 512 };

// A few dims walked in row-major order, the last one first in the arrays; steps in bytes, per operand.
typedef struct mt_sums_dims {
  int64_t count, ndim, size[MT_MAX_DIMS], step[MT_SUMS_OPERANDS][MT_MAX_DIMS], cell[MT_MAX_DIMS];
} mt_sums_dims;

typedef struct mt_sums_plan {
  const char *base[MT_SUMS_OPERANDS];
  int64_t cells;
  mt_sums_dims kept, middle;                        // kept: the lanes' dim first
  int64_t lanes, chunks;                            // of `across`: neighbouring cells, and how many blocks they are
  int64_t first, rows, row;                         // sizes: first summed dim, the last but one, the last
  int64_t first_step[MT_SUMS_OPERANDS], rows_step[MT_SUMS_OPERANDS], row_step[MT_SUMS_OPERANDS];
  int64_t has_rows, across;
  int64_t groups, group_pieces, group_rows, group_first;   // R and its three factors
} mt_sums_plan;

// t[0] decides the shape; sizes 1 of the others repeat; NULL: no such operand. kept[d]: dim d belongs to cells.
static inline void mt_sums_make(mt_sums_plan *s, const mt_tensor *const *t, const bool *kept) {
  const mt_tensor *x = t[0];
  int32_t summed[MT_MAX_DIMS], n = 0, lane = -1;
  int64_t cell[MT_MAX_DIMS];
  memset(s, 0, sizeof *s);
  s->cells = s->kept.count = s->middle.count = s->first = s->rows = s->row = 1;
  for (int32_t d = x->ndim - 1; d >= 0; d--) {
    cell[d] = s->cells;
    if (!kept[d]) {
      summed[n++] = d;
      continue;
    }
    s->cells *= x->shape[d];
    if (x->shape[d] > 1 && (lane < 0 || x->stride[d] < x->stride[lane])) {
      lane = d;
    }
  }
  const auto step = [&](int k, int32_t d) {
    return t[k] == NULL || t[k]->shape[d] == 1 ? (int64_t)0 : t[k]->stride[d] * mt_dtype_size(t[k]->dtype);
  };
  const auto add = [&](mt_sums_dims *dims, int32_t d) {
    const int64_t i = dims->ndim++;
    dims->size[i] = x->shape[d];
    dims->count *= x->shape[d];
    dims->cell[i] = cell[d];
    for (int k = 0; k < MT_SUMS_OPERANDS; k++) {
      dims->step[k][i] = step(k, d);
    }
  };
  if (lane >= 0) {
    add(&s->kept, lane);
  }
  for (int32_t d = x->ndim - 1; d >= 0; d--) {
    if (kept[d] && d != lane) {
      add(&s->kept, d);
    }
  }
  for (int32_t i = 2; i < n - 1; i++) {
    add(&s->middle, summed[i]);
  }
  s->has_rows = n > 1;
  for (int k = 0; k < MT_SUMS_OPERANDS; k++) {
    s->base[k] = t[k] == NULL ? NULL : (const char *)t[k]->data;
    s->row_step[k] = n > 0 ? step(k, summed[0]) : 0;
    s->rows_step[k] = n > 1 ? step(k, summed[1]) : 0;
    s->first_step[k] = n > 2 ? step(k, summed[n - 1]) : 0;
  }
  s->row = n > 0 ? x->shape[summed[0]] : 1;
  s->rows = n > 1 ? x->shape[summed[1]] : 1;
  s->first = n > 2 ? x->shape[summed[n - 1]] : 1;
  s->lanes = lane < 0 ? 1 : x->shape[lane];
  s->chunks = (s->lanes + MT_WARP - 1) / MT_WARP;
  s->across = lane >= 0 && s->lanes >= 8 && (n == 0 || x->stride[lane] < x->stride[summed[0]]);
  s->groups = 1;
  while (s->groups < MT_SUMS_GROUPS && s->groups * ((s->cells + MT_WARP - 1) / MT_WARP) < MT_SUMS_ENOUGH) {
    s->groups *= 2;
  }
  s->group_pieces = n <= 1 ? s->groups : n == 2 ? MT_MIN(s->groups, 4) : 1;
  s->group_rows = n <= 1 ? 1 : n == 2 ? s->groups / s->group_pieces : MT_MIN(s->groups, 16);
  s->group_first = s->groups / s->group_pieces / s->group_rows;
}

typedef struct mt_sums_at { const char *p[MT_SUMS_OPERANDS]; } mt_sums_at;

MT_DEVICE int64_t mt_sums_walk(mt_sums_at &at, const mt_sums_dims &dims, int64_t index) {
  int64_t cell = 0;
  for (int i = 0; i < dims.ndim; i++) {
    const int64_t next = index / dims.size[i], k = index - next * dims.size[i];
    index = next;
    cell += k * dims.cell[i];
#pragma unroll
    for (int o = 0; o < MT_SUMS_OPERANDS; o++) {
      at.p[o] += k * dims.step[o][i];
    }
  }
  return cell;
}

// Whether any element belongs to a row group.
MT_DEVICE bool mt_sums_any(const mt_sums_plan &s, int64_t group) {
  return group % s.group_pieces * MT_SUMS_PIECE < s.row && group / s.group_pieces % s.group_rows * (s.has_rows ? 4 : 1) < s.rows &&
         group / s.group_pieces / s.group_rows < s.first;
}

// The elements of lanes (x_lane, J0 .. J0 + J - 1) of one cell and row group, each lane in raster order. Term: term(sum, p) adds
// what lies at p to sum[0 .. WIDTH - 1].
template <int J, typename Term>
MT_DEVICE void mt_sums_lanes(double (&sum)[J][MT_SUMS_WIDTH], const mt_sums_plan &s, const Term &term, const mt_sums_at &cell,
                             int64_t group, int x_lane, int j0) {
  const int64_t piece0 = group % s.group_pieces, row0 = group / s.group_pieces % s.group_rows;
  const int64_t first0 = group / s.group_pieces / s.group_rows;
  const int64_t y_lanes = s.has_rows ? 4 : 1, x_lanes = s.has_rows ? 8 : 32;
#pragma unroll
  for (int j = 0; j < J; j++) {
#pragma unroll
    for (int w = 0; w < MT_SUMS_WIDTH; w++) {
      sum[j][w] = 0;
    }
  }
  for (int64_t n = first0; n < s.first; n += s.group_first) {
    for (int64_t m = 0; m < s.middle.count; m++) {
      mt_sums_at image = cell;
#pragma unroll
      for (int o = 0; o < MT_SUMS_OPERANDS; o++) {
        image.p[o] += n * s.first_step[o];
      }
      mt_sums_walk(image, s.middle, m);
      for (int64_t y0 = row0 * y_lanes; y0 < s.rows; y0 += s.group_rows * y_lanes) {
        for (int64_t piece = piece0 * MT_SUMS_PIECE; piece < s.row; piece += s.group_pieces * MT_SUMS_PIECE) {
          const int64_t end = piece + MT_SUMS_PIECE < s.row ? piece + MT_SUMS_PIECE : s.row;
          for (int64_t x0 = piece + x_lane; x0 < end; x0 += x_lanes) {
#pragma unroll
            for (int j = 0; j < J; j++) {
              const int64_t y = s.has_rows ? y0 + j0 + j : y0, x = s.has_rows ? x0 : x0 + 8 * (j0 + j);
              if (y < s.rows && x < end) {
                mt_sums_at e;
#pragma unroll
                for (int o = 0; o < MT_SUMS_OPERANDS; o++) {
                  e.p[o] = image.p[o] + y * s.rows_step[o] + x * s.row_step[o];
                }
                term(sum[j], e.p);
              }
            }
          }
        }
      }
    }
  }
}

// out[(group * WIDTH + w) * cells + cell]
template <typename Term> static __global__ void mt_sums_across(const mt_sums_plan s, const Term term, double *out) {
  __shared__ double shared[MT_BLOCK / MT_WARP][Term::WIDTH][MT_WARP];
  const int lane = threadIdx.x % MT_WARP, warp = threadIdx.x / MT_WARP;
  const int64_t blocks = s.kept.count / s.lanes * s.chunks * s.groups;
  for (int64_t b = blockIdx.x; b < blocks; b += gridDim.x) {
    const int64_t group = b % s.groups, chunk = b / s.groups % s.chunks, outer = b / s.groups / s.chunks;
    const int64_t l = chunk * MT_WARP + lane;
    mt_sums_at at;
#pragma unroll
    for (int o = 0; o < MT_SUMS_OPERANDS; o++) {
      at.p[o] = s.base[o];
    }
    const int64_t cell = mt_sums_walk(at, s.kept, outer * s.lanes + (l < s.lanes ? l : 0));
    if (!mt_sums_any(s, group)) {  // the same for the whole block
      if (warp < Term::WIDTH && l < s.lanes) {
        out[(group * Term::WIDTH + warp) * s.cells + cell] = 0;
      }
      continue;
    }
    double sum[4][MT_SUMS_WIDTH];
    if (l < s.lanes) {
      mt_sums_lanes(sum, s, term, at, group, warp, 0);
#pragma unroll
      for (int w = 0; w < Term::WIDTH; w++) {
        shared[warp][w][lane] = (sum[0][w] + sum[1][w]) + (sum[2][w] + sum[3][w]);
      }
    }
    __syncthreads();
    if (warp < Term::WIDTH && l < s.lanes) {
      double v[8];
#pragma unroll
      for (int k = 0; k < 8; k++) {
        v[k] = shared[k][warp][lane];
      }
      out[(group * Term::WIDTH + warp) * s.cells + cell] = ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
    }
    __syncthreads();
  }
}

template <typename Term> static __global__ void mt_sums_along(const mt_sums_plan s, const Term term, double *out) {
  const int lane = threadIdx.x % MT_WARP;
  const int64_t warps = (int64_t)gridDim.x * (blockDim.x / MT_WARP), count = s.cells * s.groups;
  for (int64_t b = (int64_t)blockIdx.x * (blockDim.x / MT_WARP) + threadIdx.x / MT_WARP; b < count; b += warps) {
    const int64_t group = b % s.groups;
    mt_sums_at at;
#pragma unroll
    for (int o = 0; o < MT_SUMS_OPERANDS; o++) {
      at.p[o] = s.base[o];
    }
    const int64_t cell = mt_sums_walk(at, s.kept, b / s.groups);
    if (!mt_sums_any(s, group)) {
      if (lane < Term::WIDTH) {
        out[(group * Term::WIDTH + lane) * s.cells + cell] = 0;
      }
      continue;
    }
    double sum[1][MT_SUMS_WIDTH];
    mt_sums_lanes(sum, s, term, at, group, lane % 8, lane / 8);
#pragma unroll
    for (int w = 0; w < Term::WIDTH; w++) {
      double v = sum[0][w];
      v += __shfl_xor_sync(0xFFFFFFFFu, v, 8);
      v += __shfl_xor_sync(0xFFFFFFFFu, v, 16);
      v = mt_warp_sum(v, 8);
      if (lane == 0) {
        out[(group * Term::WIDTH + w) * s.cells + cell] = v;
      }
    }
  }
}

// out[i] = the sum over the groups of part[group][i], for i < n. One warp for 32 neighbours and every eighth group.
static __global__ void mt_sums_groups(double *out, const double *part, int64_t n, int64_t groups) {
  __shared__ double shared[MT_BLOCK / MT_WARP][MT_WARP];
  const int lane = threadIdx.x % MT_WARP, warp = threadIdx.x / MT_WARP;
  for (int64_t i0 = (int64_t)blockIdx.x * MT_WARP; i0 < n; i0 += (int64_t)gridDim.x * MT_WARP) {
    double sum = 0;
    for (int64_t g = warp; g < groups && i0 + lane < n; g += MT_BLOCK / MT_WARP) {
      sum += part[g * n + i0 + lane];
    }
    shared[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && i0 + lane < n) {
      double v[8];
#pragma unroll
      for (int k = 0; k < 8; k++) {
        v[k] = shared[k][lane];
      }
      out[i0 + lane] = ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
    }
    __syncthreads();
  }
}

// sums[w * cells + cell] on the device. An empty tensor has sums of 0.
template <typename Term> static int mt_sums_run(mt_device *device, double *sums, const mt_sums_plan *s, const Term &term) {
  mt_scratch part;
  double *out = sums;
  const int64_t n = s->cells * Term::WIDTH;
  if (n == 0) {
    return MT_OK;
  }
  if (s->groups > 1) {
    MT_TRY(part.take(device, n * s->groups, sizeof(double)));
    out = (double *)part.data;
  }
  if (s->across) {
    MT_LAUNCH(device, mt_sums_across<Term>, mt_grid(device, s->kept.count / s->lanes * s->chunks * s->groups, 1), MT_BLOCK, 0, *s,
              term, out);
  } else {
    MT_LAUNCH(device, mt_sums_along<Term>, mt_grid(device, s->cells * s->groups, MT_BLOCK / MT_WARP), MT_BLOCK, 0, *s, term, out);
  }
  if (s->groups > 1) {
    MT_LAUNCH(device, mt_sums_groups, mt_grid(device, n, MT_WARP), MT_BLOCK, 0, sums, (const double *)out, n, s->groups);
  }
  return MT_OK;
}
