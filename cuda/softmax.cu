// softmax: see core/softmax.h. Three passes over a line, of which the first reads memory and the others the caches: maximum, sum of
// exponentials, result.
#include "lines.cuh"

extern "C" {
#include "../core/softmax_check.h"
#include "../core/vector_math.h"
}

MT_DEVICE float quick_exp(float x) { return mt_quick_exp_f32(x); }
MT_DEVICE double quick_exp(double x) { return mt_quick_exp_f64(x); }

typedef struct softmax_work {
  mt_lines y, x, mask;
  void *y_data;
  const void *x_data, *mask_data;
  int64_t log;
} softmax_work;

static softmax_work work_of(const mt_softmax_lines *l) {
  return softmax_work{mt_lines_of(&l->y), mt_lines_of(&l->x), mt_lines_of(&l->mask), l->y_data, l->x_data, l->mask_data, l->log};
}

template <typename T, typename Team> static __global__ void softmax_forward(const softmax_work w) {
  const Team team(w.x.length);
  const int64_t sx = w.x.stride, sy = w.y.stride, sm = w.mask.stride;
  for (int64_t o = Team::line(); o < w.x.outputs; o += Team::lines()) {
    const T *x = (const T *)w.x_data + mt_line_at(w.x, o);
    const T *mask = w.mask_data ? (const T *)w.mask_data + mt_line_at(w.mask, o) : NULL;
    T *y = (T *)w.y_data + mt_line_at(w.y, o);
    const T none = -(T)INFINITY;
    const T largest = team.largest(none, [&](int64_t i) { return mask == NULL || mask[i * sm] != 0 ? x[i * sx] : none; });
    if (largest == none) {
      team.each([&](int64_t i) { y[i * sy] = w.log ? none : (T)0; });
      continue;
    }
    const double sum = team.sum([&](int64_t i) {
      return mask == NULL || mask[i * sm] != 0 ? quick_exp((T)(x[i * sx] - largest)) : (T)0;
    });
    if (w.log) {
      const double shift = (double)largest + log(sum);
      team.each([&](int64_t i) { y[i * sy] = mask == NULL || mask[i * sm] != 0 ? (T)((double)x[i * sx] - shift) : none; });
    } else {
      const double scale = 1 / sum;
      team.each([&](int64_t i) {
        y[i * sy] = mask == NULL || mask[i * sm] != 0 ? (T)((double)quick_exp((T)(x[i * sx] - largest)) * scale) : (T)0;
      });
    }
  }
}

extern "C" int mt_softmax_forward(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, int32_t dim, int32_t log) {
  mt_device *device;
  mt_softmax_lines l;
  const mt_tensor *const others[] = {x, mask};
  MT_TRY(mt_softmax_check_forward(&l, y, x, mask, dim, log));
  MT_TRY(mt_check_together(log ? "log_softmax" : "softmax", y, 2, others));
  if (y->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_enter(&device, y));
  const softmax_work w = work_of(&l);
  if (x->dtype == MT_FLOAT32) {
    MT_LINES_LAUNCH(device, softmax_forward, float, w.x.outputs, w.x.length, 0, w);
  } else {
    MT_LINES_LAUNCH(device, softmax_forward, double, w.x.outputs, w.x.length, 0, w);
  }
  return MT_OK;
}

// Here y is dx, x is y, mask is dy.
template <typename T, typename Team> static __global__ void softmax_backward(const softmax_work w) {
  const Team team(w.x.length);
  const int64_t sdx = w.y.stride, sy = w.x.stride, sdy = w.mask.stride;
  const T outside = w.log ? -(T)INFINITY : (T)0;
  for (int64_t o = Team::line(); o < w.x.outputs; o += Team::lines()) {
    const T *y = (const T *)w.x_data + mt_line_at(w.x, o), *dy = (const T *)w.mask_data + mt_line_at(w.mask, o);
    T *dx = (T *)w.y_data + mt_line_at(w.y, o);
    const double sum = team.sum([&](int64_t i) {
      const T v = y[i * sy];
      return v == outside ? 0.0 : w.log ? (double)dy[i * sdy] : (double)dy[i * sdy] * (double)v;
    });
    team.each([&](int64_t i) {
      const T v = y[i * sy];
      const double g = (double)dy[i * sdy];
      dx[i * sdx] = v == outside ? (T)0 : (T)(w.log ? g - (double)quick_exp(v) * sum : (double)v * (g - sum));
    });
  }
}

extern "C" int mt_softmax_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *y, int32_t dim, int32_t log) {
  mt_device *device;
  mt_softmax_lines l;
  const mt_tensor *const others[] = {dy, y};
  MT_TRY(mt_softmax_check_backward(&l, dx, dy, y, dim, log));
  MT_TRY(mt_check_together(log ? "log_softmax" : "softmax", dx, 2, others));
  if (dx->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_enter(&device, dx));
  const softmax_work w = work_of(&l);
  if (y->dtype == MT_FLOAT32) {
    MT_LINES_LAUNCH(device, softmax_backward, float, w.x.outputs, w.x.length, 0, w);
  } else {
    MT_LINES_LAUNCH(device, softmax_backward, double, w.x.outputs, w.x.length, 0, w);
  }
  return MT_OK;
}
