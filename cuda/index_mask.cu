// index_mask: the half of core/index.h that works with masks: nonzero, masked_fill, masked_select, masked_scatter, triangle.
#include "order.cuh"
#include "row.cuh"

extern "C" {
#include "../core/convert.h"
#include "../core/index_check.h"
}

// Raster order whatever the layout: the walk follows its first operand, so the first is a row-major stand-in that is not read.
static int raster(mt_walk *walk, int32_t operands, const mt_tensor *const *t) {
  const mt_tensor *all[MT_LOOP_OPERANDS];
  mt_tensor order = *t[0];
  mt_row_major(order.stride, order.ndim, order.shape);
  all[0] = &order;
  memcpy(all + 1, t, sizeof *t * (size_t)operands);
  return mt_walk_plan(walk, operands + 1, all);
}

// ---- nonzero --------------------------------------------------------------------------------------------------------------

struct is_nonzero {
  mt_walk walk;  // stand-in, x
  int64_t dtype;
  __device__ bool operator()(int64_t i) const {
    char *p[2];
    mt_walk_at(p, walk, i);
    switch (dtype) {
      case MT_FLOAT32: return *(const float *)p[1] != 0;
      case MT_FLOAT64: return *(const double *)p[1] != 0;
      case MT_INT64: return *(const int64_t *)p[1] != 0;
      case MT_INT32: return *(const int32_t *)p[1] != 0;
      default: return *(const uint8_t *)p[1] != 0;
    }
  }
};

extern "C" int mt_index_count(int64_t *count, const mt_tensor *x) {
  mt_device *device;
  mt_scratch tiles;
  is_nonzero choice;
  int64_t *found = NULL;
  MT_TRY(mt_check_tensor("count_nonzero", "input", x));
  *count = 0;
  if (x->numel == 0) {
    return MT_OK;
  }
  MT_TRY(raster(&choice.walk, 1, &x));
  choice.dtype = x->dtype;
  MT_TRY(mt_enter(&device, x));
  MT_TRY(mt_choose(&tiles, &found, device, choice, x->numel));
  return mt_copy_to_host("count_nonzero", device, count, found, (int64_t)sizeof *count);
}

struct write_nonzero {
  int64_t *y;
  mt_fault *fault;
  int64_t site, rows, row_step, column_step, ndim;
  int64_t shape[MT_MAX_DIMS];
  __device__ void operator()(int64_t i, int64_t rank) const {
    if (rank >= rows) {
      mt_record(fault, (int32_t)site, rank + 1, i, rows);
      return;
    }
    for (int d = (int)ndim - 1; d >= 0; d--) {
      y[rank * row_step + d * column_step] = i % shape[d] + 1;
      i /= shape[d];
    }
  }
};

extern "C" int mt_index_nonzero(mt_tensor *y, const mt_tensor *x) {
  mt_device *device;
  mt_scratch tiles;
  is_nonzero choice;
  write_nonzero use;
  int64_t *found = NULL;
  MT_TRY(mt_check_tensor("nonzero", "input", x));
  MT_TRY(mt_check_dtype("nonzero", "output", y, MT_INT64));
  MT_TRY(mt_check_ndim("nonzero", "output", y, 2));
  const int64_t shape[] = {y->shape[0], x->ndim};  // the number of rows is looked at on the device
  MT_TRY(mt_check_shape("nonzero", "output", y, 2, shape));
  MT_TRY(mt_check_output("nonzero", "output", y));
  MT_TRY(mt_check_overlap("nonzero", y, x, false));
  MT_TRY(mt_check_together("nonzero", y, 1, &x));
  if (x->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_enter(&device, x));
  MT_TRY(raster(&choice.walk, 1, &x));
  choice.dtype = x->dtype;
  memset(&use, 0, sizeof use);
  use.y = (int64_t *)y->data;
  use.fault = device->fault;
  use.site = mt_fault_site("nonzero: output");
  use.rows = y->shape[0];
  use.row_step = y->stride[0];
  use.column_step = y->stride[1];
  use.ndim = x->ndim;
  memcpy(use.shape, x->shape, sizeof use.shape);
  MT_TRY(mt_choose(&tiles, &found, device, choice, x->numel));
  return mt_rank(&tiles, device, choice, use, x->numel);
}

// ---- masks ----------------------------------------------------------------------------------------------------------------

template <typename T> static __global__ void masked_fill(const mt_walk walk, T value) {
  MT_EACH(i, walk.numel) {
    char *p[3];
    mt_walk_at(p, walk, i);
    *(T *)p[0] = *(const uint8_t *)p[2] ? value : *(const T *)p[1];
  }
}

extern "C" int mt_index_masked_fill(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, double value) {
  mt_device *device;
  mt_walk walk;
  const mt_tensor *const t[] = {y, x, mask};
  MT_TRY(mt_index_check_fill(y, x, mask));
  MT_TRY(mt_check_together("masked_fill", y, 3, t));
  if (y->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_walk_plan(&walk, 3, t));
  MT_TRY(mt_enter(&device, y));
  const unsigned grid = mt_grid(device, walk.numel);
  switch (x->dtype) {
    case MT_FLOAT32: MT_LAUNCH(device, masked_fill<float>, grid, MT_BLOCK, 0, walk, (float)value); break;
    case MT_FLOAT64: MT_LAUNCH(device, masked_fill<double>, grid, MT_BLOCK, 0, walk, value); break;
    case MT_INT64: MT_LAUNCH(device, masked_fill<int64_t>, grid, MT_BLOCK, 0, walk, mt_to_int64(value)); break;
    case MT_INT32: MT_LAUNCH(device, masked_fill<int32_t>, grid, MT_BLOCK, 0, walk, mt_to_int32(value)); break;
    case MT_BOOL: MT_LAUNCH(device, masked_fill<uint8_t>, grid, MT_BLOCK, 0, walk, (uint8_t)(value != 0)); break;
    default: MT_LAUNCH(device, masked_fill<uint8_t>, grid, MT_BLOCK, 0, walk, (uint8_t)mt_to_int64(value)); break;
  }
  return MT_OK;
}

struct is_true {
  mt_walk walk;  // stand-in, x, mask
  __device__ bool operator()(int64_t i) const {
    char *p[3];
    mt_walk_at(p, walk, i);
    return *(const uint8_t *)p[2] != 0;
  }
};

// Element i of x, whose rank among the chosen is given, and the list: from x to the list, or back.
template <typename T> struct move_chosen {
  mt_walk walk;
  T *list;
  mt_fault *fault;
  int64_t step, length, site, back;
  __device__ void operator()(int64_t i, int64_t rank) const {
    char *p[3];
    if (rank >= length) {
      mt_record(fault, (int32_t)site, rank + 1, i, length);
      return;
    }
    mt_walk_at(p, walk, i);
    if (back) {
      *(T *)p[1] = list[rank * step];
    } else {
      list[rank * step] = *(const T *)p[1];
    }
  }
};

template <typename T>
static int move_all(mt_device *device, const is_true &choice, const mt_tensor *list, int32_t site, bool back, int64_t n) {
  mt_scratch tiles;
  int64_t *found = NULL;
  const move_chosen<T> use = {choice.walk, (T *)list->data, device->fault, list->stride[0], list->shape[0], site, back};
  MT_TRY(mt_choose(&tiles, &found, device, choice, n));
  return mt_rank(&tiles, device, choice, use, n);
}

static int move_masked(const char *op, const char *text, const mt_tensor *x, const mt_tensor *mask, const mt_tensor *list, bool back) {
  mt_device *device;
  is_true choice;
  const mt_tensor *const t[] = {x, mask}, *const others[] = {mask, list};
  MT_TRY(mt_check_together(op, x, 2, others));
  if (x->numel == 0) {
    return MT_OK;
  }
  MT_TRY(raster(&choice.walk, 2, t));
  MT_TRY(mt_enter(&device, x));
  const int32_t site = mt_fault_site(text);
  const int64_t size = mt_dtype_size(x->dtype), n = x->numel;
  return size == 4   ? move_all<int32_t>(device, choice, list, site, back, n)
         : size == 8 ? move_all<int64_t>(device, choice, list, site, back, n)
                     : move_all<uint8_t>(device, choice, list, site, back, n);
}

extern "C" int mt_index_masked_select(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask) {
  MT_TRY(mt_check_tensor("masked_select", "input", x));
  MT_TRY(mt_index_check_mask("masked_select", mask, x));
  MT_TRY(mt_check_dtype("masked_select", "output", y, x->dtype));
  MT_TRY(mt_check_ndim("masked_select", "output", y, 1));
  MT_TRY(mt_check_output("masked_select", "output", y));
  MT_TRY(mt_check_overlap("masked_select", y, x, false));
  MT_TRY(mt_check_overlap("masked_select", y, mask, false));
  return move_masked("masked_select", "masked_select: output", x, mask, y, false);
}

extern "C" int mt_index_masked_scatter(mt_tensor *y, const mt_tensor *mask, const mt_tensor *src) {
  MT_TRY(mt_check_output("masked_scatter", "output", y));
  MT_TRY(mt_index_check_mask("masked_scatter", mask, y));
  MT_TRY(mt_check_dtype("masked_scatter", "source", src, y->dtype));
  MT_TRY(mt_check_ndim("masked_scatter", "source", src, 1));
  MT_TRY(mt_check_overlap("masked_scatter", y, src, false));
  MT_TRY(mt_check_overlap("masked_scatter", y, mask, false));
  return move_masked("masked_scatter", "masked_scatter: source", y, mask, src, true);
}

// ---- triangle -------------------------------------------------------------------------------------------------------------

static __global__ void triangle(uint8_t *mask, int64_t n, int64_t columns, int64_t row_step, int64_t column_step, int64_t diagonal,
                                int32_t upper) {
  MT_EACH(k, n) {
    const int64_t i = k / columns, j = k - i * columns;
    mask[i * row_step + j * column_step] = upper ? j - i > diagonal : j - i < diagonal;
  }
}

extern "C" int mt_index_triangle(mt_tensor *mask, int64_t diagonal, int32_t upper) {
  mt_device *device;
  MT_TRY(mt_index_check_triangle(mask));
  if (mask->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_enter(&device, mask));
  MT_LAUNCH(device, triangle, mt_grid(device, mask->numel), MT_BLOCK, 0, (uint8_t *)mask->data, mask->numel, mask->shape[1],
            mask->stride[0], mask->stride[1], diagonal, upper);
  return MT_OK;
}
