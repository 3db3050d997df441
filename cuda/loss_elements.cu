// loss: losses of one element against its target; see core/loss.h.
#include "exact.cuh"
#include "row.cuh"

extern "C" {
#include "../core/loss_check.h"
}
#include "../core/loss_rows.h"

// What is absent (NULL) is 1.
template <typename T> MT_DEVICE double or_one(const void *p, int64_t at) { return p ? (double)((const T *)p)[at] : 1.0; }

// ---- reduced ------------------------------------------------------------------------------------------------------------

// Rows as in core/reduce_plan.h, of x, target, mask and pos_weight at once.
typedef struct loss_rows {
  int64_t rows, pieces, length, outer;
  int64_t outer_shape[MT_MAX_DIMS], outer_step[4][MT_MAX_DIMS], step[4];
  const void *data[4];
  double parameter;
  int64_t kind;
  double *terms, *weights;
} loss_rows;

// One warp for each row.
template <typename T> static __global__ void loss_sum_rows(const loss_rows w) {
  const int lane = threadIdx.x % MT_WARP;
  const int64_t warps = (int64_t)gridDim.x * (blockDim.x / MT_WARP);
  for (int64_t r = (int64_t)blockIdx.x * (blockDim.x / MT_WARP) + threadIdx.x / MT_WARP; r < w.rows; r += warps) {
    const int64_t piece = r % w.pieces, begin = piece * MT_ROW, end = MT_MIN(begin + MT_ROW, w.length);
    int64_t rest = r / w.pieces, at[4] = {0, 0, 0, 0};
    for (int d = (int)w.outer - 1; d >= 0; d--) {
      const int64_t i = rest % w.outer_shape[d];
      rest /= w.outer_shape[d];
      for (int k = 0; k < 4; k++) {
        at[k] += i * w.outer_step[k][d];
      }
    }
    double sum = 0, weight = 0;
    for (int64_t i = begin + lane; i < end; i += MT_WARP) {
      const double m = or_one<T>(w.data[2], at[2] + i * w.step[2]);
      if (m != 0) {
        const double x = (double)((const T *)w.data[0])[at[0] + i * w.step[0]], t = (double)((const T *)w.data[1])[at[1] + i * w.step[1]];
        sum += m * mt_loss_term((int)w.kind, w.parameter, x, t, or_one<T>(w.data[3], at[3] + i * w.step[3]));
        weight += m;
      }
    }
    sum = mt_warp_sum(sum);
    weight = mt_warp_sum(weight);
    if (lane == 0) {
      w.terms[r] = sum;
      w.weights[r] = weight;
    }
  }
}

// One block.
template <typename T> static __global__ void loss_sum_all(T *y, double *total, const double *terms, const double *weights, int64_t n,
                                                          int32_t mean) {
  const double sum = mt_exact_sum(terms, n, 1), weight = mt_exact_sum(weights, n, 1);
  if (threadIdx.x == 0) {
    *total = weight;
    *y = (T)(mean ? sum / weight : sum);
  }
}

template <typename T>
static int reduce_terms(mt_device *device, mt_tensor *y, mt_tensor *total, const mt_tensor wide[4], const mt_loss_elements *options) {
  loss_rows w;
  mt_scratch numbers;
  mt_reduction r;
  memset(&w, 0, sizeof w);
  for (int k = 0; k < 4; k++) {
    mt_tensor t = wide[k];
    t.data = wide[0].data;  // ones may have none
    MT_TRY(mt_reduction_plan(mt_loss_elements_name(options), &r, NULL, &t, (1 << t.ndim) - 1, false));
    memcpy(w.outer_step[k], r.outer_stride, sizeof r.outer_stride);
    w.step[k] = r.stride;
    w.data[k] = wide[k].data;
  }
  memcpy(w.outer_shape, r.outer_shape, sizeof r.outer_shape);
  w.rows = r.rows;
  w.pieces = r.pieces;
  w.length = r.length;
  w.outer = r.outer;
  w.parameter = options->parameter;
  w.kind = options->kind;
  MT_TRY(numbers.take(device, 2 * MT_MAX(w.rows, 1), sizeof(double)));
  w.terms = (double *)numbers.data;
  w.weights = w.terms + w.rows;
  if (w.rows > 0) {
    MT_LAUNCH(device, loss_sum_rows<T>, mt_grid(device, w.rows, MT_BLOCK / MT_WARP), MT_BLOCK, 0, w);
  }
  MT_LAUNCH(device, loss_sum_all<T>, 1, MT_SLOTS, 0, (T *)y->data, (double *)total->data, (const double *)w.terms,
            (const double *)w.weights, w.rows, (int32_t)(options->reduction == MT_LOSS_MEAN));
  return MT_OK;
}

// ---- element by element -----------------------------------------------------------------------------------------------------

typedef struct loss_each {
  double parameter;
  int64_t kind, of_target;
  const double *total;  // NULL: nothing to divide by
} loss_each;

template <typename T> static __global__ void loss_one(double *total) { *total = 1; }

// operands: y, x, target, mask, pos_weight
template <typename T> static __global__ void loss_terms(const mt_walk walk, const loss_each e) {
  MT_EACH(i, walk.numel) {
    char *p[5];
    mt_walk_at(p, walk, i);
    const double m = or_one<T>(p[3], 0), x = (double)*(const T *)p[1], t = (double)*(const T *)p[2];
    *(T *)p[0] = (T)(m == 0 ? 0 : m * mt_loss_term((int)e.kind, e.parameter, x, t, or_one<T>(p[4], 0)));
  }
}

// operands: d, dy, x, target, mask, pos_weight
template <typename T> static __global__ void loss_slopes(const mt_walk walk, const loss_each e) {
  const double scale = e.total ? 1 / *e.total : 1;
  MT_EACH(i, walk.numel) {
    char *p[6];
    mt_walk_at(p, walk, i);
    const double m = or_one<T>(p[4], 0), x = (double)*(const T *)p[2], t = (double)*(const T *)p[3];
    double d = 0;
    if (m != 0) {
      d = (double)*(const T *)p[1] * scale * m * mt_loss_slope((int)e.kind, e.parameter, x, t, or_one<T>(p[5], 0), e.of_target != 0);
    }
    *(T *)p[0] = (T)d;
  }
}

extern "C" int mt_loss_elements_forward(mt_tensor *y, mt_tensor *total, const mt_tensor *x, const mt_tensor *target,
                                        const mt_tensor *mask, const mt_tensor *pos_weight, const mt_loss_elements *options) {
  mt_device *device;
  mt_tensor wide[4];
  mt_walk walk;
  const mt_tensor *const others[] = {y, total, target, mask, pos_weight};
  MT_TRY(mt_loss_check_elements_forward(wide, y, total, x, target, mask, pos_weight, options, NULL));
  MT_TRY(mt_check_together(mt_loss_elements_name(options), x, 5, others));
  MT_TRY(mt_enter(&device, x));
  if (options->reduction != MT_LOSS_NONE) {
    return MT_REAL_TEMPLATE(x->dtype, reduce_terms, device, y, total, wide, options);
  }
  MT_LAUNCH(device, loss_one<double>, 1, 1, 0, (double *)total->data);
  if (x->numel == 0) {
    return MT_OK;
  }
  const mt_tensor *const t[] = {y, &wide[0], &wide[1], &wide[2], &wide[3]};
  const loss_each e = {options->parameter, options->kind, 0, NULL};
  MT_TRY(mt_walk_plan(&walk, 5, t));
  if (x->dtype == MT_FLOAT32) {
    MT_LAUNCH(device, loss_terms<float>, mt_grid(device, walk.numel), MT_BLOCK, 0, walk, e);
  } else {
    MT_LAUNCH(device, loss_terms<double>, mt_grid(device, walk.numel), MT_BLOCK, 0, walk, e);
  }
  return MT_OK;
}

extern "C" int mt_loss_elements_backward(mt_tensor *d, const mt_tensor *dy, const mt_tensor *total, const mt_tensor *x,
                                         const mt_tensor *target, const mt_tensor *mask, const mt_tensor *pos_weight,
                                         const mt_loss_elements *options, int32_t of_target) {
  mt_device *device;
  mt_tensor wide[4];
  mt_walk walk;
  const mt_tensor *const others[] = {d, dy, total, target, mask, pos_weight};
  MT_TRY(mt_loss_check_elements_backward(wide, d, dy, total, x, target, mask, pos_weight, options, NULL));
  MT_TRY(mt_check_together(mt_loss_elements_name(options), x, 6, others));
  if (x->numel == 0) {
    return MT_OK;
  }
  const mt_tensor *const t[] = {d, dy, &wide[0], &wide[1], &wide[2], &wide[3]};
  const loss_each e = {options->parameter, options->kind, of_target,
                       options->reduction == MT_LOSS_MEAN ? (const double *)total->data : NULL};
  MT_TRY(mt_walk_plan(&walk, 6, t));
  MT_TRY(mt_enter(&device, x));
  if (x->dtype == MT_FLOAT32) {
    MT_LAUNCH(device, loss_slopes<float>, mt_grid(device, walk.numel), MT_BLOCK, 0, walk, e);
  } else {
    MT_LAUNCH(device, loss_slopes<double>, mt_grid(device, walk.numel), MT_BLOCK, 0, walk, e);
  }
  return MT_OK;
}
