// elementwise: add with a factor, clamp, where, comparison of whole tensors, and the gradient of broadcasting.
// See core/elementwise.h; the formulas are in core/elementwise_rows.h.
#include "fold.cuh"
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
  const bool is_single = y->dtype != MT_FLOAT64;
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
  switch (mt_computed(x->dtype)) {
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
  return x->dtype == MT_FLOAT64 ? mt_loop_launch(3, t, clamp_backward_row_f64, &exact, sizeof exact)
                                : mt_loop_launch(3, t, clamp_backward_row_f32, &single, sizeof single);
}

// ---- where ------------------------------------------------------------------------------------------------------------

MT_ROW_3(where_8, int64_t, uint8_t, int64_t, int64_t, a ? b : c)
MT_ROW_3(where_4, int32_t, uint8_t, int32_t, int32_t, a ? b : c)
MT_ROW_3(where_2, float, uint8_t, float, float, a ? b : c)  // bfloat16, which float32 may stand beside
MT_ROW_3(where_1, uint8_t, uint8_t, uint8_t, uint8_t, a ? b : c)

extern "C" int mt_elementwise_where(mt_tensor *y, const mt_tensor *condition, const mt_tensor *a, const mt_tensor *b) {
  const mt_tensor *const t[] = {y, condition, a, b};
  MT_TRY(mt_elementwise_check_where(y, condition, a, b));
  const int64_t size = mt_dtype_size(y->dtype);
  return mt_loop_launch(4, t, size == 8 ? where_8 : size == 4 ? where_4 : size == 2 ? where_2 : where_1, NULL, 0);
}

// ---- the gradient of broadcasting ---------------------------------------------------------------------------------------

template <typename T> struct store_sum {
  mt_reduction r;
  T *out;
  MT_INSIDE void operator()(int64_t o, double v) const {
    int64_t in_g, in_out;
    mt_fold_output(r, o, &in_g, &in_out);
    out[in_out] = (T)v;
  }
};

template <typename G, typename T> static int sum_as(mt_device *device, const mt_reduction *r, mt_tensor *out, const mt_tensor *g) {
  const store_sum<T> end = {*r, (T *)out->data};
  return mt_fold<G>(device, r, g, NULL, mt_fold_sum<G, MT_MAP_IDENTITY>(), end);
}

static int sum_to(mt_device *device, const mt_reduction *r, mt_tensor *out, const mt_tensor *g) {
  if (g->dtype == MT_FLOAT64) {
    return sum_as<double, double>(device, r, out, g);
  } else if (g->dtype == MT_FLOAT32) {
    return out->dtype == MT_FLOAT32 ? sum_as<float, float>(device, r, out, g) : sum_as<float, mt_bf16>(device, r, out, g);
  }
  return out->dtype == MT_FLOAT32 ? sum_as<mt_bf16, float>(device, r, out, g) : sum_as<mt_bf16, mt_bf16>(device, r, out, g);
}

extern "C" int mt_elementwise_sum_to(mt_tensor *out, const mt_tensor *g) {
  mt_device *device;
  mt_reduction r;
  MT_TRY(mt_elementwise_check_sum_to(out, g));
  MT_TRY(mt_check_together("sum_to", out, 1, &g));
  if (g->numel == 0) {
    return mt_tensor_fill(out, 0);
  }
  // The output with g's number of dims; the new ones in front have size 1.
  mt_tensor wide = *out;
  int32_t dims = 0;
  const int32_t missing = g->ndim - out->ndim;
  wide.ndim = g->ndim;
  for (int32_t d = 0; d < g->ndim; d++) {
    wide.shape[d] = d < missing ? 1 : out->shape[d - missing];
    wide.stride[d] = d < missing ? 1 : out->stride[d - missing];
    dims |= (wide.shape[d] == 1 && g->shape[d] != 1) << d;
  }
  mt_tensor from = *g;
  from.dtype = wide.dtype = mt_computed(g->dtype);  // of interest are sizes and strides, counted in elements
  MT_TRY(mt_reduction_plan("sum_to", &r, &wide, &from, dims, true));
  MT_TRY(mt_enter(&device, g));
  return sum_to(device, &r, out, g);
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
  MT_TRY(mt_copy_to_host("allclose", device, &found, total.data, (int64_t)sizeof found));
  *count = (double)found;
  return MT_OK;
}
