// mask_scan: what a mask holds, see core/mask.h. One reading pass each; the host waits for a few numbers.
#include "common.cuh"

extern "C" {
#include "../core/mask_check.h"
}

typedef unsigned long long count_t;

// What comes back to the host. bad: the first element outside 0..1 in row-major order.
typedef struct {
  count_t kinds[MT_MASK_KINDS], bad;
} findings;
#define NONE_BAD (~(count_t)0)

static __global__ void clear_findings(findings *f) {
  if (threadIdx.x < MT_MASK_KINDS) {
    f->kinds[threadIdx.x] = 0;
  }
  f->bad = NONE_BAD;
}

// In 64-bit integers: exact in any order.
MT_DEVICE void add_count(count_t *to, count_t n) {
  n = mt_block_sum(n);
  if (threadIdx.x == 0 && n > 0) {
    atomicAdd(to, n);
  }
}

// For the next synchronisation, where nobody waits now.
static __global__ void record_bad(const findings *f, mt_fault *fault, int32_t site) {
  if (f->bad != NONE_BAD) {
    mt_record(fault, site, 0, (int64_t)f->bad, 0, MT_FAULT_VALUE);
  }
}

static int refuse(const mt_tensor *mask, count_t bad) {
  const int64_t per_sample = mask->numel / mask->shape[0];
  int64_t at[MT_MAX_DIMS], rest = (int64_t)bad;
  double value;
  for (int32_t d = mask->ndim - 1; d >= 0; d--) {
    at[d] = rest % mask->shape[d];
    rest /= mask->shape[d];
  }
  MT_TRY(mt_tensor_get(&value, mask, at));
  return mt_mask_refuse_value(mask, value, (int64_t)bad / per_sample);
}

// ---- summary ----------------------------------------------------------------------------------------------------------
// Lane l of a warp adds the elements l, l + 32, ... of a row (the last dim), the lanes add up as a tree; lane l adds the rows
// l, l + 32, ... of a plane likewise; planes are added in order. So zeros at the end of any axis change no bit.

typedef struct {
  const void *mask;
  int32_t ndim;
  int64_t shape[MT_MAX_DIMS], stride[MT_MAX_DIMS];
  int64_t samples, planes, rows, columns;   // of a sample: planes * rows * columns
  double *row_sum;
  count_t *row_valid;
  double *valid, *sum;
  int64_t valid_step, sum_step;
  findings *found;
} summary_plan;

template <typename M> static __global__ void tally_rows(const summary_plan p) {
  const int lane = threadIdx.x % MT_WARP;
  const int64_t rows = p.samples * p.planes * p.rows, warps = (int64_t)gridDim.x * (blockDim.x / MT_WARP);
  count_t others = 0;
  for (int64_t r = (int64_t)blockIdx.x * (blockDim.x / MT_WARP) + threadIdx.x / MT_WARP; r < rows; r += warps) {
    int64_t rest = r, offset = 0;
    for (int d = p.ndim - 2; d >= 0; d--) {
      offset += rest % p.shape[d] * p.stride[d];
      rest /= p.shape[d];
    }
    const M *m = (const M *)p.mask + offset;
    const int64_t step = p.ndim > 0 ? p.stride[p.ndim - 1] : 0;
    double sum = 0;
    count_t valid = 0;
    for (int64_t i = lane; i < p.columns; i += MT_WARP) {
      const M v = m[i * step];
      valid += v != 0;
      others += v != 1;
      sum += (double)v;
      if (!(v >= 0 && v <= 1)) {
        atomicMin(&p.found->bad, (count_t)(r * p.columns + i));
      }
    }
    sum = mt_warp_sum(sum);
    valid = mt_warp_sum(valid);
    if (lane == 0) {
      p.row_sum[r] = sum;
      p.row_valid[r] = valid;
    }
  }
  add_count(&p.found->kinds[0], others);
}

static __global__ void tally_samples(const summary_plan p) {
  const int lane = threadIdx.x;
  for (int64_t n = blockIdx.x; n < p.samples; n += gridDim.x) {
    double sum = 0;
    count_t valid = 0;
    for (int64_t plane = 0; plane < p.planes; plane++) {
      const int64_t first = (n * p.planes + plane) * p.rows;
      double part = 0;
      for (int64_t r = lane; r < p.rows; r += MT_WARP) {
        part += p.row_sum[first + r];
        valid += p.row_valid[first + r];
      }
      sum += mt_warp_sum(part);
    }
    valid = mt_warp_sum(valid);
    if (lane == 0) {
      p.valid[n * p.valid_step] = (double)valid;
      if (p.sum) {
        p.sum[n * p.sum_step] = sum;
      }
    }
  }
}

extern "C" int mt_mask_summary(mt_tensor *valid, mt_tensor *sum, int32_t *all_ones, const mt_tensor *mask) {
  mt_device *device;
  mt_scratch found, rows;
  findings host;
  MT_TRY(mt_mask_check_summary(valid, sum, mask));
  const mt_tensor *const t[] = {valid, sum};
  MT_TRY(mt_check_together("mask", mask, 2, t));
  *all_ones = 1;
  if (mask->shape[0] == 0) {
    return MT_OK;
  }
  MT_TRY(mt_enter(&device, mask));
  // A mask of one value per sample has one row of one column.
  const bool flat = mask->ndim == 1;
  summary_plan p;
  memset(&p, 0, sizeof p);
  p.mask = mask->data;
  p.ndim = mask->ndim + flat;
  for (int32_t d = 0; d < p.ndim; d++) {
    p.shape[d] = flat && d == 1 ? 1 : mask->shape[d];
    p.stride[d] = flat && d == 1 ? 0 : mask->stride[d];
  }
  p.samples = p.shape[0];
  p.columns = p.shape[p.ndim - 1];
  p.rows = p.ndim > 2 ? p.shape[p.ndim - 2] : 1;
  p.planes = 1;
  for (int32_t d = 1; d < p.ndim - 2; d++) {
    p.planes *= p.shape[d];
  }
  const int64_t count = p.samples * p.planes * p.rows;
  MT_TRY(found.take(device, 1, sizeof(findings)));
  MT_TRY(rows.take(device, MT_MAX(1, count), sizeof(double) + sizeof(count_t)));
  p.row_sum = (double *)rows.data;
  p.row_valid = (count_t *)(p.row_sum + MT_MAX(1, count));
  p.found = (findings *)found.data;
  p.valid = (double *)valid->data;
  p.valid_step = valid->stride[0];
  p.sum = sum ? (double *)sum->data : NULL;
  p.sum_step = sum ? sum->stride[0] : 0;
  MT_LAUNCH(device, clear_findings, 1, MT_WARP, 0, p.found);
  const unsigned grid = mt_grid(device, count, MT_BLOCK / MT_WARP);
  switch (mask->dtype) {
    case MT_FLOAT32: MT_LAUNCH(device, tally_rows<float>, grid, MT_BLOCK, 0, p); break;
    case MT_FLOAT64: MT_LAUNCH(device, tally_rows<double>, grid, MT_BLOCK, 0, p); break;
    case MT_INT64: MT_LAUNCH(device, tally_rows<int64_t>, grid, MT_BLOCK, 0, p); break;
    case MT_INT32: MT_LAUNCH(device, tally_rows<int32_t>, grid, MT_BLOCK, 0, p); break;
    default: MT_LAUNCH(device, tally_rows<uint8_t>, grid, MT_BLOCK, 0, p);
  }
  MT_LAUNCH(device, tally_samples, mt_grid(device, p.samples, 1), MT_WARP, 0, p);
  MT_TRY(mt_copy_to_host("mask", device, &host, p.found, sizeof host));
  *all_ones = host.kinds[0] == 0;
  return host.bad == NONE_BAD ? MT_OK : refuse(mask, host.bad);
}

// ---- kinds --------------------------------------------------------------------------------------------------------------

typedef struct {
  const void *mask;
  uint8_t *kinds, *valid;
  int64_t positions, channels, pixels, size[3], step[3], step_n, step_c;
  findings *found;
} kinds_plan;

// `width` lanes for a position: the warp's where channels are many and neighbours in memory, otherwise one.
template <typename M> static __global__ void find_kinds(const kinds_plan p, int width) {
  const int lane = threadIdx.x % width;
  const int64_t together = (int64_t)gridDim.x * (blockDim.x / width);
  count_t count[MT_MASK_KINDS] = {0, 0, 0, 0};
  for (int64_t i = (int64_t)blockIdx.x * (blockDim.x / width) + threadIdx.x / width; i < p.positions; i += together) {
    int64_t rest = i, offset = 0;
    for (int d = 2; d >= 0; d--) {
      offset += rest % p.size[d] * p.step[d];
      rest /= p.size[d];
    }
    const M *m = (const M *)p.mask + rest * p.step_n + offset;
    const M first = m[0];
    int differ = 0;
    for (int64_t c = lane; c < p.channels; c += width) {
      const M v = m[c * p.step_c];
      differ |= v != first;
      if (!(v >= 0 && v <= 1)) {
        atomicMin(&p.found->bad, (count_t)((rest * p.channels + c) * p.pixels + i % p.pixels));
      }
    }
    if (width > 1) {
      differ = __any_sync(0xFFFFFFFFu, differ);
    }
    if (lane == 0) {
      const int kind = differ ? (int)MT_MASK_MIXED : first == 0 ? (int)MT_MASK_ZERO : first == 1 ? (int)MT_MASK_ONE : (int)MT_MASK_EQUAL;
      p.kinds[i] = (uint8_t)kind;
      p.valid[i] = kind != MT_MASK_ZERO;
#pragma unroll
      for (int k = 0; k < MT_MASK_KINDS; k++) {
        count[k] += kind == k;
      }
    }
  }
#pragma unroll
  for (int k = 0; k < MT_MASK_KINDS; k++) {
    add_count(&p.found->kinds[k], count[k]);
  }
}

extern "C" int mt_mask_kinds(mt_tensor *valid, mt_tensor *kinds, int64_t *counts, const mt_tensor *mask) {
  mt_device *device;
  mt_scratch found;
  findings host;
  MT_TRY(mt_mask_check_kinds(valid, kinds, mask));
  const mt_tensor *const t[] = {valid, kinds};
  MT_TRY(mt_check_together("mask", mask, 2, t));
  int64_t unwanted[MT_MASK_KINDS];
  const bool waits = counts != NULL;
  counts = waits ? counts : unwanted;
  memset(counts, 0, sizeof(int64_t) * MT_MASK_KINDS);
  if (valid->numel == 0) {
    return MT_OK;
  }
  if (mask->shape[1] == 0) {
    counts[0] = valid->numel;
    MT_TRY(mt_tensor_fill(kinds, 0));
    return mt_tensor_fill(valid, 0);
  }
  MT_TRY(mt_enter(&device, mask));
  kinds_plan p = {mask->data, (uint8_t *)kinds->data, (uint8_t *)valid->data, valid->numel, mask->shape[1], 1, {1, 1, 1},
                  {0, 0, 0}, mask->stride[0], mask->stride[1], NULL};
  for (int32_t d = 2, a = 5 - mask->ndim; d < mask->ndim; d++, a++) {
    p.size[a] = mask->shape[d];
    p.step[a] = mask->stride[d];
    p.pixels *= mask->shape[d];
  }
  MT_TRY(found.take(device, 1, sizeof(findings)));
  p.found = (findings *)found.data;
  MT_LAUNCH(device, clear_findings, 1, MT_WARP, 0, p.found);
  const int width = p.step_c == 1 && p.channels >= MT_WARP ? MT_WARP : 1;
  const unsigned grid = mt_grid(device, p.positions, MT_BLOCK / width);
  switch (mask->dtype) {
    case MT_FLOAT32: MT_LAUNCH(device, find_kinds<float>, grid, MT_BLOCK, 0, p, width); break;
    case MT_FLOAT64: MT_LAUNCH(device, find_kinds<double>, grid, MT_BLOCK, 0, p, width); break;
    case MT_INT64: MT_LAUNCH(device, find_kinds<int64_t>, grid, MT_BLOCK, 0, p, width); break;
    case MT_INT32: MT_LAUNCH(device, find_kinds<int32_t>, grid, MT_BLOCK, 0, p, width); break;
    default: MT_LAUNCH(device, find_kinds<uint8_t>, grid, MT_BLOCK, 0, p, width);
  }
  if (!waits) {
    MT_LAUNCH(device, record_bad, 1, 1, 0, (const findings *)p.found, device->fault, mt_fault_site("mask: value"));
    return MT_OK;
  }
  MT_TRY(mt_copy_to_host("mask", device, &host, p.found, sizeof host));
  for (int k = 0; k < MT_MASK_KINDS; k++) {
    counts[k] = (int64_t)host.kinds[k];
  }
  return host.bad == NONE_BAD ? MT_OK : refuse(mask, host.bad);
}
