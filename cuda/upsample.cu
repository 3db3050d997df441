// upsample: see core/upsample.h; positions and weights are in core/upsample_taps.h. One thread for each element, or for 16 bytes of
// neighbouring channels; backward collects, output by output in raster order, so nothing is added to by two threads.
#include "spatial.cuh"

extern "C" {
#include "../core/upsample_check.h"
#include "../core/upsample_taps.h"
}

typedef struct {
  mt_spatial x, y, mask;            // x also stands for dx, y for dy
  mt_upsample_axis axis[3];
  int32_t has_mask, rule;
} upsample_problem;

typedef struct { mt_upsample_tap z, y, x; } upsample_taps;

MT_DEVICE upsample_taps taps_of(const upsample_problem &p, int64_t z, int64_t y, int64_t x) {
  return upsample_taps{mt_upsample_tap_of(z, p.axis[0]), mt_upsample_tap_of(y, p.axis[1]), mt_upsample_tap_of(x, p.axis[2])};
}

template <typename T> MT_DEVICE double mask_at(const upsample_problem &p, int64_t n, int64_t c, int64_t z, int64_t y, int64_t x) {
  return (double)((const T *)p.mask.data)[mt_spatial_at(p.mask, n, c, z, y, x)];
}

// The weights of the 8 neighbours in raster order; 0 where one does not count.
template <typename T>
MT_DEVICE void weights(double (&weight)[8], const upsample_problem &p, int64_t n, int64_t c, const upsample_taps &t) {
  if (!p.has_mask) {
#pragma unroll
    for (int k = 0; k < 8; k++) {
      // The same products in the same order as for a mask of ones.
      weight[k] = t.x.weight[k & 1] * t.y.weight[k >> 1 & 1] * t.z.weight[k >> 2];
    }
    return;
  }
  if (p.rule == MT_UPSAMPLE_KEEP && mask_at<T>(p, n, c, t.z.nearest, t.y.nearest, t.x.nearest) == 0) {
#pragma unroll
    for (int k = 0; k < 8; k++) {
      weight[k] = 0;
    }
    return;
  }
  double valid[8];
#pragma unroll
  for (int k = 0; k < 8; k++) {
    valid[k] = mask_at<T>(p, n, c, t.z.at[k >> 2], t.y.at[k >> 1 & 1], t.x.at[k & 1]);
  }
  mt_upsample_weigh(weight, valid, t.z.weight, t.y.weight, t.x.weight);
#pragma unroll
  for (int k = 0; k < 8; k++) {
    const bool there = ((k & 1) == 0 || t.x.weight[1] != 0) && ((k >> 1 & 1) == 0 || t.y.weight[1] != 0) &&
                       (k >> 2 == 0 || t.z.weight[1] != 0);
    weight[k] = there ? weight[k] : 0;
  }
}

template <typename T, int V> static __global__ void forward(const upsample_problem p, const mt_places places) {
  MT_EACH(i, places.count) {
    const mt_place o = mt_place_of(places, i);
    const upsample_taps t = taps_of(p, o.z, o.y, o.x);
    double weight[8], sum[V];
    weights<T>(weight, p, o.n, o.c, t);
#pragma unroll
    for (int v = 0; v < V; v++) {
      sum[v] = 0;
    }
#pragma unroll
    for (int k = 0; k < 8; k++) {
      if (weight[k] != 0) {
        const int64_t at = mt_spatial_at(p.x, o.n, o.c, t.z.at[k >> 2], t.y.at[k >> 1 & 1], t.x.at[k & 1]);
        const mt_pack<T, V> x = *(const mt_pack<T, V> *)((const T *)p.x.data + at);
#pragma unroll
        for (int v = 0; v < V; v++) {
          sum[v] += weight[k] * (double)x.v[v];
        }
      }
    }
    mt_pack<T, V> y;
#pragma unroll
    for (int v = 0; v < V; v++) {
      y.v[v] = (T)sum[v];
    }
    *(mt_pack<T, V> *)((T *)p.y.data + mt_spatial_at(p.y, o.n, o.c, o.z, o.y, o.x)) = y;
  }
}

// Outputs begin .. end - 1 of an axis may have the input position `at` as a neighbour.
MT_DEVICE void reach(int64_t *begin, int64_t *end, int64_t at, const mt_upsample_axis &axis) {
  *begin = 0;
  *end = axis.out == 0 ? 1 : axis.out;
  if (axis.out == 0 || axis.scale == 0) {
    return;
  }
  // Position p = (o + 1/2) scale - 1/2 or o scale lies within 1 of `at`; what is beyond the image belongs to its edge.
  const double low = ((double)at - 1) / axis.scale - 3, high = ((double)at + 2) / axis.scale + 3;
  if (at > 0) {
    *begin = mt_upsample_clamp(floor(low), axis.out);
  }
  if (at < axis.in - 1) {
    *end = mt_upsample_clamp(ceil(high), axis.out) + 1;
  }
}

MT_DEVICE bool meets(const mt_upsample_tap &t, int64_t at) { return t.at[0] == at || t.at[1] == at; }

template <typename T, int V> static __global__ void backward(const upsample_problem p, const mt_places places) {
  MT_EACH(i, places.count) {
    const mt_place at = mt_place_of(places, i);
    int64_t z0, z1, y0, y1, x0, x1;
    double sum[V];
#pragma unroll
    for (int v = 0; v < V; v++) {
      sum[v] = 0;
    }
    reach(&z0, &z1, at.z, p.axis[0]);
    reach(&y0, &y1, at.y, p.axis[1]);
    reach(&x0, &x1, at.x, p.axis[2]);
    upsample_taps t;
    for (int64_t z = z0; z < z1; z++) {
      t.z = mt_upsample_tap_of(z, p.axis[0]);
      for (int64_t y = y0; y < y1 && meets(t.z, at.z); y++) {
        t.y = mt_upsample_tap_of(y, p.axis[1]);
        for (int64_t x = x0; x < x1 && meets(t.y, at.y); x++) {
          t.x = mt_upsample_tap_of(x, p.axis[2]);
          if (!meets(t.x, at.x)) {
            continue;
          }
          double weight[8], w = 0;
          weights<T>(weight, p, at.n, at.c, t);
          const int mine = (t.z.at[0] != at.z) * 4 + (t.y.at[0] != at.y) * 2 + (t.x.at[0] != at.x);
#pragma unroll
          for (int k = 0; k < 8; k++) {
            w = k == mine ? weight[k] : w;
          }
          if (w == 0) {
            continue;
          }
          const mt_pack<T, V> dy = *(const mt_pack<T, V> *)((const T *)p.y.data + mt_spatial_at(p.y, at.n, at.c, z, y, x));
#pragma unroll
          for (int v = 0; v < V; v++) {
            sum[v] += w * (double)dy.v[v];
          }
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

// p.x is the mask, p.y the output's.
template <typename T> static __global__ void mask_forward(const upsample_problem p, const mt_places places) {
  MT_EACH(i, places.count) {
    const mt_place o = mt_place_of(places, i);
    const upsample_taps t = taps_of(p, o.z, o.y, o.x);
    double smallest = INFINITY, largest = 0, mean = 0;
#pragma unroll
    for (int k = 0; k < 8; k++) {
      const double weight = t.z.weight[k >> 2] * t.y.weight[k >> 1 & 1] * t.x.weight[k & 1];
      if (weight > 0) {
        const double m = mask_at<T>(p, o.n, o.c, t.z.at[k >> 2], t.y.at[k >> 1 & 1], t.x.at[k & 1]);
        largest = m > largest ? m : largest;
        smallest = m < smallest ? m : smallest;
        mean += weight * m;
      }
    }
    if (p.rule == MT_UPSAMPLE_KEEP) {
      largest = mask_at<T>(p, o.n, o.c, t.z.nearest, t.y.nearest, t.x.nearest);
    }
    // The weights add up to 1 but for rounding: equal masks give exactly that mask.
    const double value = p.rule == MT_UPSAMPLE_COVERAGE && smallest != largest ? mean : largest;
    ((T *)p.y.data)[mt_spatial_at(p.y, o.n, o.c, o.z, o.y, o.x)] = (T)value;
  }
}

// ---- the contract -----------------------------------------------------------------------------------------------------------

static upsample_problem problem_of(const mt_tensor *x, const mt_tensor *y, const mt_tensor *mask, const mt_upsample *g) {
  upsample_problem p;
  memset(&p, 0, sizeof p);
  p.x = mt_spatial_of(x);
  p.y = mt_spatial_of(y);
  p.has_mask = mask != NULL;
  p.rule = g->rule;
  if (mask != NULL) {
    p.mask = mt_spatial_of(mask);
  }
  for (int32_t a = 0; a < 3; a++) {
    p.axis[a] = mt_upsample_axis_of(a, p.x.size[a], p.y.size[a], g);
  }
  return p;
}

// How many channels go to one thread. Those with masks of their own have weights of their own.
static int pack_of(const upsample_problem *p, int64_t size) {
  const mt_spatial *const images[] = {&p->x, &p->y};
  return p->has_mask && p->mask.step_c != 0 ? 1 : mt_spatial_pack(2, images, size);
}

extern "C" int mt_upsample_forward(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, const mt_upsample *g) {
  mt_device *device;
  const mt_tensor *const others[] = {x, mask};
  MT_TRY(mt_upsample_check_forward(y, x, mask, g));
  MT_TRY(mt_check_together("upsample", y, 2, others));
  if (y->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_enter(&device, y));
  const upsample_problem p = problem_of(x, y, mask, g);
  MT_RUN_PACKED(device, forward, x->dtype, pack_of(&p, mt_dtype_size(x->dtype)), p.y, p)
}

extern "C" int mt_upsample_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *mask, const mt_upsample *g) {
  mt_device *device;
  const mt_tensor *const others[] = {dy, mask};
  MT_TRY(mt_upsample_check_backward(dx, dy, mask, g));
  MT_TRY(mt_check_together("upsample", dx, 2, others));
  if (dx->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_enter(&device, dx));
  const upsample_problem p = problem_of(dx, dy, mask, g);
  MT_RUN_PACKED(device, backward, dx->dtype, pack_of(&p, mt_dtype_size(dx->dtype)), p.x, p)
}

extern "C" int mt_upsample_mask(mt_tensor *out, const mt_tensor *mask, const mt_upsample *g) {
  mt_device *device;
  MT_TRY(mt_upsample_check_forward(out, mask, NULL, g));
  MT_TRY(mt_check_together("upsample", out, 1, &mask));
  if (out->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_enter(&device, out));
  upsample_problem p = problem_of(mask, out, NULL, g);
  p.mask = p.x;
  const mt_places places = mt_places_of(&p.y, 1);
  if (mask->dtype == MT_FLOAT32) {
    MT_LAUNCH(device, mask_forward<float>, mt_grid(device, places.count), MT_BLOCK, 0, p, places);
  } else {
    MT_LAUNCH(device, mask_forward<double>, mt_grid(device, places.count), MT_BLOCK, 0, p, places);
  }
  return MT_OK;
}
