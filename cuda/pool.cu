// pool: see core/pool.h; the windows are in core/pool_window.h. One thread for each element, or for 16 bytes of neighbouring
// channels: forward walks the window, backward the windows around an input, both in raster order.
#include "spatial.cuh"

extern "C" {
#include "../core/pool_check.h"
}
#include "../core/pool_window.h"

typedef struct {
  mt_spatial x, y, mask, index;     // x also stands for dx, y for dy
  mt_pool_axis axis[3];
  const double *divisor;            // of averages, per (image, channel) of the mask and output
  int32_t has_mask, rule, count_window, unused;
} pool_problem;

typedef struct { mt_pool_window z, y, x; } pool_windows;

MT_DEVICE pool_windows windows_of(const pool_problem &p, const mt_place &o) {
  return pool_windows{mt_pool_window_of(o.z, p.axis[0]), mt_pool_window_of(o.y, p.axis[1]), mt_pool_window_of(o.x, p.axis[2])};
}

template <typename T> MT_DEVICE T mask_at(const pool_problem &p, int64_t n, int64_t c, int64_t z, int64_t y, int64_t x) {
  return ((const T *)p.mask.data)[mt_spatial_at(p.mask, n, c, z, y, x)];
}

// Rule KEEP: the output exists only where the centre of its window is valid.
template <typename T> MT_DEVICE bool gated(const pool_problem &p, int64_t n, int64_t c, const pool_windows &w) {
  return p.rule == MT_POOL_KEEP && p.has_mask && mask_at<T>(p, n, c, w.z.centre, w.y.centre, w.x.centre) == 0;
}

#define EACH_TAP(w)                                               \
  for (int64_t z = (w).z.begin; z < (w).z.end; z += (w).z.step)   \
    for (int64_t y = (w).y.begin; y < (w).y.end; y += (w).y.step) \
      for (int64_t x = (w).x.begin; x < (w).x.end; x += (w).x.step)

// ---- maximum ------------------------------------------------------------------------------------------------------------------

template <typename T, int V> static __global__ void max_forward(const pool_problem p, const mt_places places) {
  MT_EACH(i, places.count) {
    const mt_place o = mt_place_of(places, i);
    const pool_windows w = windows_of(p, o);
    mt_pack<T, V> best;
    mt_pack<int32_t, V> where;
#pragma unroll
    for (int v = 0; v < V; v++) {
      best.v[v] = 0;
      where.v[v] = 0;
    }
    if (!gated<T>(p, o.n, o.c, w)) {
      EACH_TAP(w) {
        if (p.has_mask && mask_at<T>(p, o.n, o.c, z, y, x) == 0) {
          continue;
        }
        const mt_pack<T, V> value = *(const mt_pack<T, V> *)((const T *)p.x.data + mt_spatial_at(p.x, o.n, o.c, z, y, x));
        const int32_t position = (int32_t)((z * p.x.size[1] + y) * p.x.size[2] + x) + 1;
#pragma unroll
        for (int v = 0; v < V; v++) {
          const T a = value.v[v], b = best.v[v];
          const bool take = where.v[v] == 0 || a > b || (a != a && b == b);
          best.v[v] = take ? a : b;
          where.v[v] = take ? position : where.v[v];
        }
      }
    }
    *(mt_pack<T, V> *)((T *)p.y.data + mt_spatial_at(p.y, o.n, o.c, o.z, o.y, o.x)) = best;
    *(mt_pack<int32_t, V> *)((int32_t *)p.index.data + mt_spatial_at(p.index, o.n, o.c, o.z, o.y, o.x)) = where;
  }
}

#define EACH_OUTPUT(at)                                                          \
  int64_t z0, z1, y0, y1, x0, x1;                                                \
  mt_pool_outputs_of(&z0, &z1, (at).z, p.axis[0]);                               \
  mt_pool_outputs_of(&y0, &y1, (at).y, p.axis[1]);                               \
  mt_pool_outputs_of(&x0, &x1, (at).x, p.axis[2]);                               \
  for (int64_t z = z0; z < z1; z++)                                              \
    for (int64_t y = y0; y < y1 && mt_pool_meets((at).z, z, p.axis[0]); y++)     \
      for (int64_t x = x0; x < x1 && mt_pool_meets((at).y, y, p.axis[1]); x++)   \
        if (mt_pool_meets((at).x, x, p.axis[2]))

template <typename T, int V> static __global__ void max_backward(const pool_problem p, const mt_places places) {
  MT_EACH(i, places.count) {
    const mt_place at = mt_place_of(places, i);
    const int32_t position = (int32_t)((at.z * p.x.size[1] + at.y) * p.x.size[2] + at.x) + 1;
    double sum[V];
#pragma unroll
    for (int v = 0; v < V; v++) {
      sum[v] = 0;
    }
    EACH_OUTPUT(at) {
      const mt_pack<int32_t, V> index =
        *(const mt_pack<int32_t, V> *)((const int32_t *)p.index.data + mt_spatial_at(p.index, at.n, at.c, z, y, x));
      const mt_pack<T, V> dy = *(const mt_pack<T, V> *)((const T *)p.y.data + mt_spatial_at(p.y, at.n, at.c, z, y, x));
#pragma unroll
      for (int v = 0; v < V; v++) {
        sum[v] += index.v[v] == position ? (double)dy.v[v] : 0;
      }
    }
    mt_pack<T, V> dx;
#pragma unroll
    for (int v = 0; v < V; v++) {
      dx.v[v] = (T)sum[v];
    }
    *(mt_pack<T, V> *)((T *)p.x.data + mt_spatial_at(p.x, at.n, at.c, at.z, at.y, at.x)) = dx;
  }
}

// ---- average ------------------------------------------------------------------------------------------------------------------

// What the sum of a window is divided by, from the sum of its mask; 0 where there is no output.
MT_DEVICE double divisor_of(const pool_problem &p, const pool_windows &w, double weights) {
  if (p.count_window && !(p.has_mask && weights == 0)) {
    return (double)(w.z.extent * w.y.extent * w.x.extent);
  }
  return p.has_mask ? weights : (double)(w.z.taps * w.y.taps * w.x.taps);
}

template <typename T, int V> static __global__ void avg_forward(const pool_problem p, const mt_places places) {
  MT_EACH(i, places.count) {
    const mt_place o = mt_place_of(places, i);
    const pool_windows w = windows_of(p, o);
    double sum[V], weights = 0;
#pragma unroll
    for (int v = 0; v < V; v++) {
      sum[v] = 0;
    }
    const bool none = gated<T>(p, o.n, o.c, w);
    if (!none) {
      EACH_TAP(w) {
        const double weight = p.has_mask ? (double)mask_at<T>(p, o.n, o.c, z, y, x) : 1;
        if (weight == 0) {
          continue;
        }
        weights += weight;
        const mt_pack<T, V> value = *(const mt_pack<T, V> *)((const T *)p.x.data + mt_spatial_at(p.x, o.n, o.c, z, y, x));
#pragma unroll
        for (int v = 0; v < V; v++) {
          sum[v] += (double)value.v[v] * weight;
        }
      }
    }
    const double divisor = none ? 0 : divisor_of(p, w, weights);
    mt_pack<T, V> out;
#pragma unroll
    for (int v = 0; v < V; v++) {
      out.v[v] = divisor == 0 ? (T)0 : (T)(sum[v] / divisor);
    }
    *(mt_pack<T, V> *)((T *)p.y.data + mt_spatial_at(p.y, o.n, o.c, o.z, o.y, o.x)) = out;
  }
}

// divisor[n, c, z, y, x] over the mask's images and channels and y's positions.
template <typename T> static __global__ void divisors(const pool_problem p, double *divisor, int64_t count) {
  MT_EACH(i, count) {
    const int64_t *size = p.y.size;
    int64_t rest = i;
    mt_place o;
    o.x = rest % size[2], rest /= size[2];
    o.y = rest % size[1], rest /= size[1];
    o.z = rest % size[0], rest /= size[0];
    o.c = rest % p.mask.c, o.n = rest / p.mask.c;
    const pool_windows w = windows_of(p, o);
    double weights = 0;
    if (gated<T>(p, o.n, o.c, w)) {
      divisor[i] = 0;
      continue;
    }
    EACH_TAP(w) {
      weights += (double)mask_at<T>(p, o.n, o.c, z, y, x);
    }
    divisor[i] = divisor_of(p, w, weights);
  }
}

template <typename T, int V> static __global__ void avg_backward(const pool_problem p, const mt_places places) {
  MT_EACH(i, places.count) {
    const mt_place at = mt_place_of(places, i);
    const double weight = p.has_mask ? (double)mask_at<T>(p, at.n, at.c, at.z, at.y, at.x) : 1;
    const int64_t image = p.has_mask ? (p.mask.n == 1 ? 0 : at.n) * p.mask.c + (p.mask.c == 1 ? 0 : at.c) : 0;
    double sum[V];
#pragma unroll
    for (int v = 0; v < V; v++) {
      sum[v] = 0;
    }
    if (weight != 0) {
      EACH_OUTPUT(at) {
        double divisor;
        if (p.has_mask) {
          divisor = p.divisor[((image * p.y.size[0] + z) * p.y.size[1] + y) * p.y.size[2] + x];
        } else {
          const mt_place o = {at.n, at.c, z, y, x};
          divisor = divisor_of(p, windows_of(p, o), 0);
        }
        if (divisor == 0) {
          continue;
        }
        const mt_pack<T, V> dy = *(const mt_pack<T, V> *)((const T *)p.y.data + mt_spatial_at(p.y, at.n, at.c, z, y, x));
#pragma unroll
        for (int v = 0; v < V; v++) {
          sum[v] += (double)dy.v[v] / divisor * weight;
        }
      }
    }
    mt_pack<T, V> dx;
#pragma unroll
    for (int v = 0; v < V; v++) {
      dx.v[v] = (T)sum[v];
    }
    *(mt_pack<T, V> *)((T *)p.x.data + mt_spatial_at(p.x, at.n, at.c, at.z, at.y, at.x)) = dx;
  }
}

// ---- mask ---------------------------------------------------------------------------------------------------------------------

template <typename T> static __global__ void mask_forward(const pool_problem p, const mt_places places) {
  MT_EACH(i, places.count) {
    const mt_place o = mt_place_of(places, i);
    const pool_windows w = windows_of(p, o);
    double largest = 0, sum = 0;
    if (p.rule == MT_POOL_KEEP) {
      largest = (double)mask_at<T>(p, o.n, o.c, w.z.centre, w.y.centre, w.x.centre);
    } else {
      EACH_TAP(w) {
        const double m = (double)mask_at<T>(p, o.n, o.c, z, y, x);
        largest = m > largest ? m : largest;
        sum += m;
      }
    }
    const int64_t taps = w.z.taps * w.y.taps * w.x.taps;
    const double coverage = taps > 0 ? sum / (double)taps : 0;
    ((T *)p.y.data)[mt_spatial_at(p.y, o.n, o.c, o.z, o.y, o.x)] = (T)(p.rule == MT_POOL_COVERAGE ? coverage : largest);
  }
}

// ---- the contract ---------------------------------------------------------------------------------------------------------------

static pool_problem problem_of(const mt_tensor *x, const mt_tensor *y, const mt_tensor *mask, const mt_tensor *index,
                               const mt_pool *g) {
  pool_problem p;
  memset(&p, 0, sizeof p);
  p.x = mt_spatial_of(x);
  p.y = mt_spatial_of(y);
  p.has_mask = mask != NULL;
  p.rule = g->rule;
  p.count_window = g->count_window;
  if (mask != NULL) {
    p.mask = mt_spatial_of(mask);
  }
  if (index != NULL) {
    p.index = mt_spatial_of(index);
  }
  for (int32_t a = 0; a < 3; a++) {
    p.axis[a] = mt_pool_axis_of(a, p.x.size[a], p.y.size[a], g);
  }
  return p;
}

// How many channels go to one thread: those with masks of their own are alone.
static int pack_of(const pool_problem *p, int64_t size) {
  const mt_spatial *const images[] = {&p->x, &p->y, &p->index};
  const int32_t count = p->index.data != NULL ? 3 : 2;
  return p->has_mask && p->mask.step_c != 0 ? 1 : mt_spatial_pack(count, images, size);
}

extern "C" int mt_pool_max_forward(mt_tensor *y, mt_tensor *index, const mt_tensor *x, const mt_tensor *mask, const mt_pool *g) {
  mt_device *device;
  const mt_tensor *const others[] = {index, x, mask};
  MT_TRY(mt_pool_check_max_forward(y, index, x, mask, g));
  MT_TRY(mt_check_together("max_pool", y, 3, others));
  if (y->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_enter(&device, y));
  const pool_problem p = problem_of(x, y, mask, index, g);
  MT_RUN_PACKED(device, max_forward, x->dtype, pack_of(&p, mt_dtype_size(x->dtype)), p.y, p)
}

extern "C" int mt_pool_max_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *index, const mt_pool *g) {
  mt_device *device;
  const mt_tensor *const others[] = {dy, index};
  MT_TRY(mt_pool_check_max_backward(dx, dy, index, g));
  MT_TRY(mt_check_together("max_pool", dx, 2, others));
  if (dx->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_enter(&device, dx));
  const pool_problem p = problem_of(dx, dy, NULL, index, g);
  MT_RUN_PACKED(device, max_backward, dx->dtype, pack_of(&p, mt_dtype_size(dx->dtype)), p.x, p)
}

extern "C" int mt_pool_avg_forward(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, const mt_pool *g) {
  mt_device *device;
  const mt_tensor *const others[] = {x, mask};
  MT_TRY(mt_pool_check_avg_forward(y, x, mask, g));
  MT_TRY(mt_check_together("avg_pool", y, 2, others));
  if (y->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_enter(&device, y));
  const pool_problem p = problem_of(x, y, mask, NULL, g);
  MT_RUN_PACKED(device, avg_forward, x->dtype, pack_of(&p, mt_dtype_size(x->dtype)), p.y, p)
}

extern "C" int mt_pool_avg_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *mask, const mt_pool *g) {
  mt_device *device;
  mt_scratch table;
  const mt_tensor *const others[] = {dy, mask};
  MT_TRY(mt_pool_check_avg_backward(dx, dy, mask, g));
  MT_TRY(mt_check_together("avg_pool", dx, 2, others));
  if (dx->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_enter(&device, dx));
  pool_problem p = problem_of(dx, dy, mask, NULL, g);
  if (mask != NULL) {
    const int64_t count = p.mask.n * p.mask.c * p.y.size[0] * p.y.size[1] * p.y.size[2];
    MT_TRY(table.take(device, count, sizeof(double)));
    p.divisor = (const double *)table.data;
    if (mask->dtype == MT_FLOAT32) {
      MT_LAUNCH(device, divisors<float>, mt_grid(device, count), MT_BLOCK, 0, p, (double *)table.data, count);
    } else {
      MT_LAUNCH(device, divisors<double>, mt_grid(device, count), MT_BLOCK, 0, p, (double *)table.data, count);
    }
  }
  MT_RUN_PACKED(device, avg_backward, dx->dtype, pack_of(&p, mt_dtype_size(dx->dtype)), p.x, p)
}

extern "C" int mt_pool_mask(mt_tensor *out, const mt_tensor *mask, const mt_pool *g) {
  mt_device *device;
  MT_TRY(mt_pool_check_mask(out, mask, g));
  MT_TRY(mt_check_together("pool", out, 1, &mask));
  if (out->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_enter(&device, out));
  pool_problem p = problem_of(mask, out, NULL, NULL, g);
  p.mask = p.x;
  const mt_places places = mt_places_of(&p.y, 1);
  if (mask->dtype == MT_FLOAT32) {
    MT_LAUNCH(device, mask_forward<float>, mt_grid(device, places.count), MT_BLOCK, 0, p, places);
  } else {
    MT_LAUNCH(device, mask_forward<double>, mt_grid(device, places.count), MT_BLOCK, 0, p, places);
  }
  return MT_OK;
}
