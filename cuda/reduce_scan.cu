// reduce_scan: running sums and products along one axis. See core/reduce.h.
//
// A warp takes a line, 32 elements at a time: a scan over its lanes, and what came before. Results depend on earlier elements alone.
#include "fold.cuh"

extern "C" {
#include "../core/reduce_check.h"
}

template <typename ACC> struct plus {
  typedef ACC acc;
  static const int identity = 0;
  MT_INSIDE static ACC join(ACC a, ACC b) { return a + b; }
};
template <typename ACC> struct times {
  typedef ACC acc;
  static const int identity = 1;
  MT_INSIDE static ACC join(ACC a, ACC b) { return a * b; }
};

template <typename Y, typename T, typename OP>
static __global__ void scan_lines(const mt_reduction of_x, const mt_reduction of_y, Y *y, const T *x, bool reverse) {
  typedef typename OP::acc acc;
  const int lane = threadIdx.x % MT_WARP;
  const int64_t n = of_x.length, warps = (int64_t)gridDim.x * (blockDim.x / MT_WARP);
  for (int64_t o = (int64_t)blockIdx.x * (blockDim.x / MT_WARP) + threadIdx.x / MT_WARP; o < of_x.outputs; o += warps) {
    int64_t in_x, in_y, unused;
    mt_fold_output(of_x, o, &in_x, &unused);
    mt_fold_output(of_y, o, &in_y, &unused);
    acc before = (acc)OP::identity;
    for (int64_t first = 0; first < n; first += MT_WARP) {
      const int64_t k = first + lane, i = reverse ? n - 1 - k : k;
      acc v = k < n ? (acc)x[in_x + i * of_x.stride] : (acc)OP::identity;
      for (int step = 1; step < MT_WARP; step *= 2) {
        const acc earlier = __shfl_up_sync(0xFFFFFFFFu, v, step);
        v = lane >= step ? OP::join(earlier, v) : v;
      }
      v = OP::join(before, v);
      if (k < n) {
        y[in_y + i * of_y.stride] = (Y)v;
      }
      before = __shfl_sync(0xFFFFFFFFu, v, MT_WARP - 1);
    }
  }
}

template <typename Y, typename T, typename OP>
static int scan(const mt_reduction *of_x, const mt_reduction *of_y, mt_tensor *y, const mt_tensor *x, bool reverse) {
  mt_device *device;
  if (x->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_check_together("scan", y, 1, &x));
  MT_TRY(mt_enter(&device, y));
  MT_LAUNCH(device, (scan_lines<Y, T, OP>), mt_grid(device, of_x->outputs, MT_BLOCK / MT_WARP), MT_BLOCK, 0, *of_x, *of_y,
            (Y *)y->data, (const T *)x->data, reverse);
  return MT_OK;
}

template <template <typename> class OP>
static int scan_any(const mt_reduction *of_x, const mt_reduction *of_y, mt_tensor *y, const mt_tensor *x, bool reverse) {
  switch (x->dtype) {
    case MT_FLOAT32: return scan<float, float, OP<double>>(of_x, of_y, y, x, reverse);
    case MT_FLOAT64: return scan<double, double, OP<double>>(of_x, of_y, y, x, reverse);
    case MT_INT64: return scan<int64_t, int64_t, OP<unsigned long long>>(of_x, of_y, y, x, reverse);
    case MT_INT32: return scan<int64_t, int32_t, OP<unsigned long long>>(of_x, of_y, y, x, reverse);
    default: return scan<int64_t, uint8_t, OP<unsigned long long>>(of_x, of_y, y, x, reverse);
  }
}

extern "C" int mt_reduce_cumsum(mt_tensor *y, const mt_tensor *x, int32_t dim, int32_t reverse) {
  mt_reduction of_x, of_y;
  MT_TRY(mt_reduce_check_scan("cumsum", &of_x, &of_y, y, x, dim));
  return scan_any<plus>(&of_x, &of_y, y, x, reverse != 0);
}

extern "C" int mt_reduce_cumprod(mt_tensor *y, const mt_tensor *x, int32_t dim) {
  mt_reduction of_x, of_y;
  MT_TRY(mt_reduce_check_scan("cumprod", &of_x, &of_y, y, x, dim));
  return scan_any<times>(&of_x, &of_y, y, x, false);
}

// dx[k] = prefix(k - 1) * R(k) with R(k) = dy[k] + x[k + 1] R(k + 1): no division, so zeros need no special case. A thread per
// line: both recursions are chains.
template <typename T>
static __global__ void cumprod_gradient(const mt_reduction of_x, const mt_reduction of_dx, const mt_reduction of_dy, T *dx_data,
                                        const T *dy_data, const T *x_data) {
  const int64_t n = of_x.length;
  MT_EACH(o, of_x.outputs) {
    int64_t in_x, in_dx, in_dy, unused;
    mt_fold_output(of_x, o, &in_x, &unused);
    mt_fold_output(of_dx, o, &in_dx, &unused);
    mt_fold_output(of_dy, o, &in_dy, &unused);
    const T *x = x_data + in_x, *dy = dy_data + in_dy;
    T *dx = dx_data + in_dx;
    double prefix = 1, rest = 0;
    for (int64_t k = 0; k < n; k++) {
      dx[k * of_dx.stride] = (T)prefix;
      prefix *= (double)x[k * of_x.stride];
    }
    for (int64_t k = n - 1; k >= 0; k--) {
      rest = (double)dy[k * of_dy.stride] + (k + 1 < n ? (double)x[(k + 1) * of_x.stride] * rest : 0);
      dx[k * of_dx.stride] = (T)((double)dx[k * of_dx.stride] * rest);
    }
  }
}

extern "C" int mt_reduce_cumprod_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, int32_t dim) {
  mt_device *device;
  mt_reduction of_x, of_dx, of_dy;
  const mt_tensor *const t[] = {dy, x};
  MT_TRY(mt_reduce_check_cumprod_backward(&of_x, &of_dx, &of_dy, dx, dy, x, dim));
  MT_TRY(mt_check_together("cumprod", dx, 2, t));
  if (x->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_enter(&device, dx));
  const unsigned grid = mt_grid(device, of_x.outputs);
  if (x->dtype == MT_FLOAT32) {
    MT_LAUNCH(device, cumprod_gradient<float>, grid, MT_BLOCK, 0, of_x, of_dx, of_dy, (float *)dx->data, (const float *)dy->data,
              (const float *)x->data);
  } else {
    MT_LAUNCH(device, cumprod_gradient<double>, grid, MT_BLOCK, 0, of_x, of_dx, of_dy, (double *)dx->data, (const double *)dy->data,
              (const double *)x->data);
  }
  return MT_OK;
}
