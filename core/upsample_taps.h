// upsample_taps: the neighbours of an output and what they count, for the C and the CUDA file; includes MT_INLINE's header first. Internal.
#pragma once
#include "upsample.h"

// The two neighbours of one output along one axis. A neighbour of weight 0 stands at the other's position.
typedef struct mt_upsample_tap {
  int64_t at[2], nearest;
  double weight[2];
} mt_upsample_tap;

// One axis: its sizes, and input positions per output position. out = 0: an axis that is not there.
typedef struct mt_upsample_axis {
  int64_t in, out;
  double scale;
  int64_t mode;
} mt_upsample_axis;

// Axis a of 3, of which the last g->dims are there.
static inline mt_upsample_axis mt_upsample_axis_of(int32_t a, int64_t in, int64_t out, const mt_upsample *g) {
  const int32_t d = a - (3 - g->dims);
  mt_upsample_axis axis = {in, d < 0 ? 0 : out, 1, g->mode};
  if (d >= 0 && g->mode == MT_UPSAMPLE_ALIGNED) {
    axis.scale = out > 1 ? (double)(in - 1) / (double)(out - 1) : 0;
  } else if (d >= 0) {
    axis.scale = g->scale[d] > 0 ? g->scale[d] : (double)in / (double)out;
  }
  return axis;
}

MT_INLINE int64_t mt_upsample_clamp(double p, int64_t size) {
  const double last = (double)(size - 1);
  return (int64_t)(p < 0 ? 0 : p > last ? last : p);
}

MT_INLINE mt_upsample_tap mt_upsample_tap_of(int64_t o, mt_upsample_axis axis) {
  mt_upsample_tap t = {{0, 0}, 0, {1, 0}};
  if (axis.out == 0) {
    return t;
  }
  if (axis.mode == MT_UPSAMPLE_NEAREST) {
    t.at[0] = t.at[1] = t.nearest = mt_upsample_clamp(floor((double)o * axis.scale), axis.in);
    return t;
  }
  double p = ((double)o + 0.5) * axis.scale - 0.5;
  if (axis.mode == MT_UPSAMPLE_ALIGNED) {
    p = axis.out > 1 ? (double)o * (double)(axis.in - 1) / (double)(axis.out - 1) : 0;
  }
  p = p < 0 ? 0 : p;
  const int64_t first = mt_upsample_clamp(floor(p), axis.in);
  const double fraction = p - (double)first;
  t.nearest = mt_upsample_clamp(floor(p + 0.5), axis.in);
  t.at[0] = t.at[1] = first;
  if (first != axis.in - 1 && fraction != 0) {
    t.at[1] = first + 1;
    t.weight[0] = 1 - fraction;
    t.weight[1] = fraction;
  }
  return t;
}

// What two neighbours of validity a and b and weights u and v count; returns the validity of their mean.
MT_INLINE double mt_upsample_join(double *first, double *second, double a, double b, double u, double v) {
  if (v == 0) {
    *first = a != 0;
    *second = 0;
    return a;
  }
  if (u == 0) {
    *first = 0;
    *second = b != 0;
    return b;
  }
  if (b == 0) {
    *first = a != 0;
    *second = 0;
    return u * a;
  }
  if (a == 0) {
    *first = 0;
    *second = 1;
    return v * b;
  }
  if (a == b) {
    *first = u;
    *second = v;
    return a;
  }
  const double sum = u * a + v * b;
  *first = u * a / sum;
  *second = v * b / sum;
  return sum;
}

// weight[8] of the 8 neighbours in raster order from their masks, valid[8], which is changed; w[a]: the two weights along axis a.
MT_INLINE void mt_upsample_weigh(double *weight, double *valid, const double *wz, const double *wy, const double *wx) {
  for (int k = 0; k < 8; k++) {
    weight[k] = 1;
  }
  // Pairs along the last axis, then pairs of pairs, then of fours: `valid` of a group is kept at its first member.
  for (int a = 2, half = 1; a >= 0; a--, half *= 2) {
    const double *w = a == 2 ? wx : a == 1 ? wy : wz;
    for (int k = 0; k < 8; k += 2 * half) {
      double first, second;
      valid[k] = mt_upsample_join(&first, &second, valid[k], valid[k + half], w[0], w[1]);
      for (int i = 0; i < half; i++) {
        weight[k + i] = first == 0 ? 0 : weight[k + i] * first;
        weight[k + half + i] = second == 0 ? 0 : weight[k + half + i] * second;
      }
    }
  }
}
