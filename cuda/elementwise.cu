// elementwise: add with a factor, clamp, where, comparison of whole tensors, and the gradient of broadcasting.
// See core/elementwise.h; the formulas are in core/elementwise_rows.h.
#include "row.cuh"

extern "C" {
#include "../core/elementwise_check.h"
}

#define MT_SOURCE "elementwise_rows.h"
#include "../core/five.h"

extern "C" int mt_elementwise_add(mt_tensor *y, const mt_tensor *a, const mt_tensor *b, double alpha) {
  const float single = (float)alpha;
  const mt_tensor *const t[] = {y, a, b};
  MT_TRY(mt_elementwise_check_add(y, a, b));
  const bool is_single = y->dtype == MT_FLOAT32;
  return mt_loop_launch(3, t, MT_REAL_FN(y->dtype, add_row), is_single ? (const void *)&single : &alpha, is_single ? 4 : 8);
}

// ---- clamp ------------------------------------------------------------------------------------------------------------

#define CLAMP(T)                                                                          \
  {                                                                                       \
    const bounds_##T bounds = bounds_of_##T(low, high);                                   \
    return mt_loop_launch(2, t, clamp_row_##T, &bounds, sizeof bounds);                   \
  }

extern "C" int mt_elementwise_clamp(mt_tensor *y, const mt_tensor *x, double low, double high) {
  const mt_tensor *const t[] = {y, x};
  MT_TRY(mt_elementwise_check_clamp(y, x, low, high));
  switch (x->dtype) {
    case MT_FLOAT32: CLAMP(f32)
    case MT_FLOAT64: CLAMP(f64)
    case MT_INT64: CLAMP(i64)
    case MT_INT32: CLAMP(i32)
    default: CLAMP(u8)
  }
}

extern "C" int mt_elementwise_clamp_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, double low, double high) {
  const mt_tensor *const t[] = {dx, dy, x};
  MT_TRY(mt_elementwise_check_clamp_backward(dx, dy, x));
  const bounds_f32 single = bounds_of_f32(low, high);
  const bounds_f64 exact = bounds_of_f64(low, high);
  return x->dtype == MT_FLOAT32 ? mt_loop_launch(3, t, clamp_backward_row_f32, &single, sizeof single)
                                : mt_loop_launch(3, t, clamp_backward_row_f64, &exact, sizeof exact);
}

// ---- where ------------------------------------------------------------------------------------------------------------

MT_ROW_3(where_8, int64_t, uint8_t, int64_t, int64_t, a ? b : c)
MT_ROW_3(where_4, int32_t, uint8_t, int32_t, int32_t, a ? b : c)
MT_ROW_3(where_1, uint8_t, uint8_t, uint8_t, uint8_t, a ? b : c)

extern "C" int mt_elementwise_where(mt_tensor *y, const mt_tensor *condition, const mt_tensor *a, const mt_tensor *b) {
  const mt_tensor *const t[] = {y, condition, a, b};
  MT_TRY(mt_elementwise_check_where(y, condition, a, b));
  const int64_t size = mt_dtype_size(y->dtype);
  return mt_loop_launch(4, t, size == 8 ? where_8 : size == 4 ? where_4 : where_1, NULL, 0);
}

// ---- the gradient of broadcasting ---------------------------------------------------------------------------------------

// One warp for each output. Lane l adds the elements l, l + 32, ... of every row, rows in order; then the lanes' sums are added as a
// tree. So zeros at the end of rows, or further rows of zeros, change no bit.
template <typename T> static __global__ void sum_to(const mt_elementwise_sum_plan plan, int64_t outputs) {
  const int lane = threadIdx.x % MT_WARP;
  const int64_t warps = (int64_t)gridDim.x * (blockDim.x / MT_WARP);
  for (int64_t o = (int64_t)blockIdx.x * (blockDim.x / MT_WARP) + threadIdx.x / MT_WARP; o < outputs; o += warps) {
    int64_t rest = o / plan.inner;
    const T *g = (const T *)plan.g + o % plan.inner * plan.inner_from;
    T *out = (T *)plan.out + o % plan.inner * plan.inner_to;
    for (int d = plan.kept - 1; d >= 0; d--) {
      g += rest % plan.keep_size[d] * plan.keep_from[d];
      out += rest % plan.keep_size[d] * plan.keep_to[d];
      rest /= plan.keep_size[d];
    }
    int64_t index[MT_MAX_DIMS] = {0};
    double sum = 0;
    for (int64_t r = 0; r < plan.rows; r++) {
      for (int64_t i = lane; i < plan.row; i += MT_WARP) {
        sum += (double)g[i * plan.row_step];
      }
      for (int d = plan.summed - 1; d >= 0; d--) {
        g += plan.sum_step[d];
        if (++index[d] < plan.sum_size[d]) {
          break;
        }
        g -= plan.sum_size[d] * plan.sum_step[d];
        index[d] = 0;
      }
    }
    sum = mt_warp_sum(sum);
    if (lane == 0) {
      *out = (T)sum;
    }
  }
}

extern "C" int mt_elementwise_sum_to(mt_tensor *out, const mt_tensor *g) {
  mt_device *device;
  mt_elementwise_sum_plan plan;
  MT_TRY(mt_elementwise_check_sum_to(out, g));
  MT_TRY(mt_check_together("sum_to", out, 1, &g));
  if (g->numel == 0) {
    return mt_tensor_fill(out, 0);
  }
  mt_elementwise_plan_sum(&plan, out, g);
  if (out->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_enter(&device, g));
  const unsigned grid = mt_grid(device, out->numel, MT_BLOCK / MT_WARP);
  if (g->dtype == MT_FLOAT32) {
    MT_LAUNCH(device, sum_to<float>, grid, MT_BLOCK, 0, plan, out->numel);
  } else {
    MT_LAUNCH(device, sum_to<double>, grid, MT_BLOCK, 0, plan, out->numel);
  }
  return MT_OK;
}

// ---- comparison -----------------------------------------------------------------------------------------------------------

#define DIFFERENCES(T, suffix)                                                                                         \
  static __global__ void count_##suffix(const mt_walk walk, const mt_tolerance tolerance, unsigned long long *count) { \
    unsigned long long found = 0;                                                                                      \
    MT_EACH(i, walk.numel) {                                                                                           \
      char *p[2];                                                                                                      \
      mt_walk_at(p, walk, i);                                                                                          \
      found += apart_##suffix(*(const T *)p[0], *(const T *)p[1], &tolerance);                                         \
    }                                                                                                                  \
    if (found > 0) {                                                                                                   \
      atomicAdd(count, found);                                                                                         \
    }                                                                                                                  \
  }
DIFFERENCES(float, f32)
DIFFERENCES(double, f64)
DIFFERENCES(int64_t, i64)
DIFFERENCES(int32_t, i32)
DIFFERENCES(uint8_t, u8)

extern "C" int mt_elementwise_differences(double *count, const mt_tensor *a, const mt_tensor *b, double rtol, double atol,
                                          int32_t equal_nan) {
  mt_device *device;
  mt_walk walk;
  mt_scratch total;
  unsigned long long found = 0;
  const mt_tolerance tolerance = {rtol, atol, equal_nan != 0};
  const mt_tensor *const t[] = {a, b};
  MT_TRY(mt_elementwise_check_differences(a, b));
  MT_TRY(mt_check_together("allclose", a, 2, t));
  *count = 0;
  if (a->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_walk_plan(&walk, 2, t));
  MT_TRY(mt_enter(&device, a));
  MT_TRY(total.take(device, (int64_t)sizeof found));
  MT_CUDA(cudaMemsetAsync(total.data, 0, sizeof found, device->stream));
  MT_LAUNCH(device, MT_FIVE_FN(a->dtype, count), mt_grid(device, walk.numel), MT_BLOCK, 0, walk, tolerance,
            (unsigned long long *)total.data);
  MT_TRY(mt_copy_to_host(device, &found, total.data, (int64_t)sizeof found));
  *count = (double)found;
  return MT_OK;
}
