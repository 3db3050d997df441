// pool_mean: the mean over all spatial axes, masked or not. See core/pool.h. Sums as in sums.cuh.
#include "spatial.cuh"
#include "sums.cuh"

extern "C" {
#include "../core/pool_check.h"
}

// Of the mask, and of x where it counts.
template <typename T> struct pool_mean_term {
  enum { WIDTH = 2 };
  int32_t masked, original;
  __device__ __forceinline__ void operator()(double *sum, const char *const *p) const {
    const double m = masked ? (double)*(const T *)p[1] : 1;
    sum[0] += m;
    if (m != 0 || original) {
      sum[1] += (double)*(const T *)p[0];
    }
  }
};

template <typename T> static __global__ void means(mt_spatial y, const double *sums, double eps, int32_t masked) {
  const int64_t cells = y.n * y.c;
  MT_EACH(i, cells) {
    const double divisor = masked ? sums[i] + eps : sums[i];
    ((T *)y.data)[i / y.c * y.step_n + i % y.c * y.step_c] = masked && divisor == 0 ? (T)0 : (T)(sums[cells + i] / divisor);
  }
}

template <typename T> static __global__ void coverages(mt_spatial out, const double *sums, double pixels) {
  MT_EACH(i, out.n * out.c) {
    ((T *)out.data)[i / out.c * out.step_n + i % out.c * out.step_c] = (T)(sums[i] / pixels);
  }
}

// sums: of the mask, by image and channel of its own; NULL without one.
template <typename T, int V>
static __global__ void mean_backward(mt_spatial x, mt_spatial y, mt_spatial mask, const double *sums, double eps, int32_t holes,
                                     int32_t unused, const mt_places places) {
  (void)unused;
  MT_EACH(i, places.count) {
    const mt_place at = mt_place_of(places, i);
    mt_pack<T, V> dx;
    const T *dy = (const T *)y.data + at.n * y.step_n + at.c * y.step_c;
    double divisor = (double)(x.size[0] * x.size[1] * x.size[2]);
    if (sums != NULL) {
      divisor = sums[(mask.n == 1 ? 0 : at.n) * mask.c + (mask.c == 1 ? 0 : at.c)] + eps;
    }
    if (divisor == 0 && holes == MT_POOL_VALUES) {
      divisor = 1e-8;
    }
    const bool counts = sums == NULL || holes != MT_POOL_SELECT ||
                        ((const T *)mask.data)[mt_spatial_at(mask, at.n, at.c, at.z, at.y, at.x)] != 0;
#pragma unroll
    for (int v = 0; v < V; v++) {
      dx.v[v] = counts && divisor != 0 ? (T)((double)dy[v * y.step_c] / divisor) : (T)0;
    }
    *(mt_pack<T, V> *)((T *)x.data + mt_spatial_at(x, at.n, at.c, at.z, at.y, at.x)) = dx;
  }
}

// (N, C) as a tensor with one pixel.
static mt_spatial as_pixel(const mt_tensor *t) {
  mt_spatial v = {t->data, t->shape[0], t->shape[1], {1, 1, 1}, 0, 0, {0, 0, 0}};
  v.step_n = v.n == 1 ? 0 : t->stride[0];
  v.step_c = v.c == 1 ? 0 : t->stride[1];
  return v;
}

// sums[w * N * C + n * C + c]
template <typename T> static int sum_images(mt_device *device, mt_scratch *sums, const mt_tensor *x, const mt_tensor *mask, int32_t holes) {
  mt_sums_plan plan;
  const mt_tensor *const t[MT_SUMS_OPERANDS] = {x, mask, NULL, NULL, NULL};
  const bool kept[MT_MAX_DIMS] = {true, true};
  const pool_mean_term<T> term = {mask != NULL, holes == MT_POOL_ORIGINAL};
  mt_sums_make(&plan, t, kept);
  MT_TRY(sums->take(device, plan.cells * 2, sizeof(double)));
  return mt_sums_run(device, (double *)sums->data, &plan, term);
}

template <typename T> static int forward(mt_tensor *y, mt_tensor *coverage, const mt_tensor *x, const mt_tensor *mask, double eps,
                                         int32_t holes) {
  mt_device *device;
  mt_scratch sums, weights;
  MT_TRY(mt_enter(&device, y));
  if (y->numel > 0) {
    MT_TRY(sum_images<T>(device, &sums, x, mask, holes));
    MT_LAUNCH(device, means<T>, mt_grid(device, y->numel), MT_BLOCK, 0, as_pixel(y), (const double *)sums.data, eps,
              (int32_t)(mask != NULL));
  }
  if (coverage != NULL && coverage->numel > 0) {
    const mt_spatial image = mt_spatial_of(mask);
    MT_TRY(sum_images<T>(device, &weights, mask, mask, MT_POOL_SELECT));
    MT_LAUNCH(device, coverages<T>, mt_grid(device, coverage->numel), MT_BLOCK, 0, as_pixel(coverage), (const double *)weights.data,
              (double)(image.size[0] * image.size[1] * image.size[2]));
  }
  return MT_OK;
}

extern "C" int mt_pool_mean_forward(mt_tensor *y, mt_tensor *coverage, const mt_tensor *x, const mt_tensor *mask, double eps,
                                    int32_t holes) {
  const mt_tensor *const others[] = {coverage, x, mask};
  MT_TRY(mt_pool_check_mean_forward(y, coverage, x, mask, holes));
  MT_TRY(mt_check_together("masked_mean", y, 3, others));
  return MT_REAL_TEMPLATE(x->dtype, forward, y, coverage, x, mask, eps, holes);
}

template <typename T> static int backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *mask, double eps, int32_t holes) {
  mt_device *device;
  mt_scratch sums;
  const mt_spatial x = mt_spatial_of(dx), y = as_pixel(dy), m = mask == NULL ? x : mt_spatial_of(mask);
  const mt_spatial *const images[] = {&x};
  MT_TRY(mt_enter(&device, dx));
  if (mask != NULL) {
    MT_TRY(sum_images<T>(device, &sums, mask, mask, MT_POOL_SELECT));
  }
  const bool wide = mt_spatial_pack(1, images, (int64_t)sizeof(T)) == 16 / (int)sizeof(T) && (mask == NULL || m.step_c == 0);
  const mt_places places = mt_places_of(&x, wide ? 16 / (int)sizeof(T) : 1);
  if (wide) {
    MT_LAUNCH(device, (mean_backward<T, 16 / (int)sizeof(T)>), mt_grid(device, places.count), MT_BLOCK, 0, x, y, m,
              (const double *)sums.data, eps, holes, 0, places);
  } else {
    MT_LAUNCH(device, (mean_backward<T, 1>), mt_grid(device, places.count), MT_BLOCK, 0, x, y, m, (const double *)sums.data, eps,
              holes, 0, places);
  }
  return MT_OK;
}

extern "C" int mt_pool_mean_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *mask, double eps, int32_t holes) {
  const mt_tensor *const others[] = {dy, mask};
  MT_TRY(mt_pool_check_mean_backward(dx, dy, mask, holes));
  MT_TRY(mt_check_together("masked_mean", dx, 2, others));
  return dx->numel == 0 ? MT_OK : MT_REAL_TEMPLATE(dx->dtype, backward, dx, dy, mask, eps, holes);
}
