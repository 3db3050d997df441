// index: see core/index.h. masked_*, nonzero and triangle stand in index_mask.cu.
#include "positions.cuh"

extern "C" {
#include "../core/index_check.h"
}

extern "C" int mt_index_gather(mt_tensor *y, const mt_tensor *x, int32_t dim, const mt_tensor *index, const char *op) {
  mt_device *device;
  const mt_tensor *const others[] = {x, index};
  op = op ? op : "gather";
  MT_TRY(mt_index_check_gather(op, y, x, dim, index));
  MT_TRY(mt_check_together(op, y, 2, others));
  MT_TRY(mt_enter(&device, y));
  return mt_places_gather(device, op, y, x, dim, index);
}

// ---- scatter ------------------------------------------------------------------------------------------------------------
//
// Where positions repeat the last one stays: the largest order number wins, whoever comes first.

// A tensor without memory whose element i "lies at" the address i[dim].
static mt_tensor numbers_along(const mt_tensor *like, int32_t dim) {
  mt_tensor t = *like;
  t.data = NULL;
  t.dtype = MT_UINT8;
  memset(t.stride, 0, sizeof t.stride);
  t.stride[dim] = 1;
  return t;
}

// operands: index, last (standing still along dim), numbers
static __global__ void find_last(const mt_walk walk, const mt_places places, int64_t step) {
  MT_EACH(i, walk.numel) {
    char *p[3];
    mt_walk_at(p, walk, i);
    const int64_t at = mt_place_at(places, p[0]);
    if (at >= 0) {
      atomicMax((unsigned long long *)(p[1] + at * step), (unsigned long long)(uintptr_t)p[2] + 1);
    }
  }
}

// operands: src, y and last (both standing still along dim), index, numbers
template <typename T>
static __global__ void write_last(const mt_walk walk, const mt_places places, int64_t y_step, int64_t last_step) {
  MT_EACH(i, walk.numel) {
    char *p[5];
    mt_walk_at(p, walk, i);
    const int64_t at = mt_place_at(places, p[3]);
    if (at >= 0 && *(const int64_t *)(p[2] + at * last_step) == (int64_t)(uintptr_t)p[4] + 1) {
      *(T *)(p[1] + at * y_step) = *(const T *)p[0];
    }
  }
}

// operands: dsrc, dy and last (both standing still along dim), index, numbers
template <typename T>
static __global__ void read_last(const mt_walk walk, const mt_places places, int64_t dy_step, int64_t last_step) {
  MT_EACH(i, walk.numel) {
    char *p[5];
    mt_walk_at(p, walk, i);
    const int64_t at = mt_place_at(places, p[3]);
    const bool own = at >= 0 && *(const int64_t *)(p[2] + at * last_step) == (int64_t)(uintptr_t)p[4] + 1;
    *(T *)p[0] = own ? *(const T *)(p[1] + at * dy_step) : (T)0;
  }
}

// What scatter and its backward need: who wrote last, and the walk over x's elements (src or dsrc) and those of y (or dy).
typedef struct scatter_plan {
  mt_scratch block;
  mt_storage storage;
  mt_tensor last;   // (index without broadcast dims, y's size at dim) int64: 0, or the order number from 1
  mt_walk walk;
  mt_places places;
  int64_t y_step, last_step;
} scatter_plan;

static int plan_scatter(scatter_plan *plan, mt_device *device, const char *op, const mt_tensor *x, const mt_tensor *y, int32_t dim,
                        const mt_tensor *index) {
  mt_tensor once = *index, last = *index, line = *y;
  mt_walk walk;
  int64_t step = 1;
  plan->places = mt_places_of(device, op, index, y->shape[dim]);
  last.dtype = MT_INT64;
  for (int32_t d = index->ndim - 1; d >= 0; d--) {
    const bool repeats = index->stride[d] == 0 && d != dim;
    if (repeats) {
      once.numel /= MT_MAX(once.shape[d], 1);
      once.shape[d] = 1;
    }
    last.stride[d] = repeats ? 0 : step;
    step *= repeats ? 1 : d == dim ? y->shape[d] : index->shape[d];
  }
  MT_TRY(plan->block.take(device, MT_MAX(step, 1), sizeof(int64_t)));
  MT_CUDA(cudaMemsetAsync(plan->block.data, 0, (size_t)step * sizeof(int64_t), device->stream));
  plan->last_step = last.stride[dim] * (int64_t)sizeof(int64_t);
  plan->y_step = y->stride[dim] * mt_dtype_size(y->dtype);
  last.data = plan->block.data;
  last.stride[dim] = 0;
  memcpy(line.shape, index->shape, sizeof line.shape);
  line.stride[dim] = 0;
  mt_tensor last_once = last;
  memcpy(last_once.shape, once.shape, sizeof once.shape);
  const mt_tensor numbers = numbers_along(index, dim), numbers_once = numbers_along(&once, dim);
  const mt_tensor *const first[] = {&once, &last_once, &numbers_once}, *const second[] = {x, &line, &last, index, &numbers};
  MT_TRY(mt_walk_plan(&walk, 3, first));
  MT_LAUNCH(device, find_last, mt_grid(device, walk.numel), MT_BLOCK, 0, walk, plan->places, plan->last_step);
  return mt_walk_plan(&plan->walk, 5, second);
}

extern "C" int mt_index_scatter(mt_tensor *y, int32_t dim, const mt_tensor *index, const mt_tensor *src, const char *op) {
  mt_device *device;
  scatter_plan p;
  const mt_tensor *const others[] = {index, src};
  op = op ? op : "scatter";
  MT_TRY(mt_index_check_scatter(op, y, dim, index, src));
  MT_TRY(mt_check_together(op, y, 2, others));
  if (src->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_enter(&device, y));
  MT_TRY(plan_scatter(&p, device, op, src, y, dim, index));
  const unsigned grid = mt_grid(device, src->numel);
  const int64_t size = mt_dtype_size(y->dtype);
  if (size == 4) {
    MT_LAUNCH(device, write_last<int32_t>, grid, MT_BLOCK, 0, p.walk, p.places, p.y_step, p.last_step);
  } else if (size == 8) {
    MT_LAUNCH(device, write_last<int64_t>, grid, MT_BLOCK, 0, p.walk, p.places, p.y_step, p.last_step);
  } else {
    MT_LAUNCH(device, write_last<uint8_t>, grid, MT_BLOCK, 0, p.walk, p.places, p.y_step, p.last_step);
  }
  return MT_OK;
}

extern "C" int mt_index_scatter_backward(mt_tensor *dsrc, const mt_tensor *dy, int32_t dim, const mt_tensor *index, const char *op) {
  mt_device *device;
  scatter_plan p;
  const mt_tensor *const others[] = {index, dy};
  op = op ? op : "scatter";
  MT_TRY(mt_index_check_scatter_backward(op, dsrc, dy, dim, index));
  MT_TRY(mt_check_together(op, dsrc, 2, others));
  if (dsrc->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_enter(&device, dsrc));
  MT_TRY(plan_scatter(&p, device, op, dsrc, dy, dim, index));
  const unsigned grid = mt_grid(device, dsrc->numel);
  if (dy->dtype == MT_FLOAT32) {
    MT_LAUNCH(device, read_last<float>, grid, MT_BLOCK, 0, p.walk, p.places, p.y_step, p.last_step);
  } else {
    MT_LAUNCH(device, read_last<double>, grid, MT_BLOCK, 0, p.walk, p.places, p.y_step, p.last_step);
  }
  return MT_OK;
}

extern "C" int mt_index_scatter_add(mt_tensor *y, int32_t dim, const mt_tensor *index, const mt_tensor *src, double alpha,
                                    const char *op) {
  mt_device *device;
  const mt_tensor *const others[] = {index, src};
  op = op ? op : "scatter_add";
  MT_TRY(mt_check_real(op, "output", y));
  MT_TRY(mt_index_check_scatter(op, y, dim, index, src));
  MT_TRY(mt_check_together(op, y, 2, others));
  MT_TRY(mt_enter(&device, y));
  return mt_places_add(device, op, y, dim, index, src, alpha, -1);
}

// ---- flip ---------------------------------------------------------------------------------------------------------------

extern "C" int mt_index_flip(mt_tensor *y, const mt_tensor *x, int32_t dims) {
  MT_TRY(mt_index_check_flip(y, x));
  const mt_tensor from = mt_index_flipped(x, dims);
  return mt_tensor_copy(y, &from);
}
