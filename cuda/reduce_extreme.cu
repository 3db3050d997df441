// reduce_extreme: the reductions that choose or test elements (max, min, argmax, any, all) and the product. See core/reduce.h.
#include "fold.cuh"
#include "row.cuh"

extern "C" {
#include "../core/reduce_check.h"
}

#define BY_DTYPE(dtype, function, ...)                                 \
  ((dtype) == MT_FLOAT32   ? function<float>(__VA_ARGS__)              \
   : (dtype) == MT_FLOAT64 ? function<double>(__VA_ARGS__)             \
   : (dtype) == MT_INT64   ? function<int64_t>(__VA_ARGS__)            \
   : (dtype) == MT_INT32   ? function<int32_t>(__VA_ARGS__)            \
                           : function<uint8_t>(__VA_ARGS__))

// ---- max, min -------------------------------------------------------------------------------------------------------------

// Either of the two may be NULL.
template <typename T> struct store_found {
  mt_reduction r, r_index;
  T *values;
  int64_t *index;
  MT_INSIDE void operator()(int64_t o, mt_found<T> found) const {
    int64_t in_x, at;
    if (values) {
      mt_fold_output(r, o, &in_x, &at);
      values[at] = found.value;
    }
    if (index) {
      mt_fold_output(r_index, o, &in_x, &at);
      index[at] = found.position + 1;
    }
  }
};

template <typename T>
static int extreme(mt_device *device, const mt_reduction *r, const mt_reduction *r_index, mt_tensor *values, mt_tensor *index,
                   const mt_tensor *x, bool largest) {
  const store_found<T> end = {*r, *r_index, values ? (T *)values->data : NULL, index ? (int64_t *)index->data : NULL};
  const mt_fold_extreme<T> op = {largest};
  return mt_fold<T>(device, r, x, NULL, op, end);
}

extern "C" int mt_reduce_extreme(mt_tensor *values, mt_tensor *index, const mt_tensor *x, int32_t dims, int32_t largest) {
  mt_device *device;
  mt_reduction r, r_index;
  const mt_tensor *const t[] = {values, index};
  MT_TRY(mt_reduce_check_extreme(&r, &r_index, values, index, x, dims, largest));
  MT_TRY(mt_check_together(largest ? "max" : "min", x, 2, t));
  MT_TRY(mt_enter(&device, x));
  return BY_DTYPE(x->dtype, extreme, device, &r, &r_index, values, index, x, largest != 0);
}

// Offset in x of the element at a raster position among those of one output.
MT_DEVICE int64_t at_position(const mt_reduction &r, int64_t position) {
  int64_t offset = position % r.length * r.stride;
  position /= r.length;
  for (int k = r.outer - 1; k >= 0; k--) {
    offset += position % r.outer_shape[k] * r.outer_stride[k];
    position /= r.outer_shape[k];
  }
  return offset;
}

template <typename T>
static __global__ void give_to_chosen(const mt_reduction of_dx, const mt_reduction of_index, T *dx, const T *dy, const int64_t *index) {
  MT_EACH(o, of_dx.outputs) {
    int64_t in_dx, in_dy, unused, in_index;
    mt_fold_output(of_dx, o, &in_dx, &in_dy);
    mt_fold_output(of_index, o, &unused, &in_index);
    const int64_t at = index[in_index];
    if (at >= 1 && at <= of_dx.count) {
      dx[in_dx + at_position(of_dx, at - 1)] = dy[in_dy];
    }
  }
}

extern "C" int mt_reduce_extreme_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *index, int32_t dims) {
  mt_device *device;
  mt_reduction of_dx, of_index;
  const mt_tensor *const t[] = {dy, index};
  MT_TRY(mt_reduce_check_chosen(&of_dx, &of_index, dx, dy, index, dims));
  MT_TRY(mt_check_together("max", dx, 2, t));
  MT_TRY(mt_tensor_fill(dx, 0));
  if (dx->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_enter(&device, dx));
  const unsigned grid = mt_grid(device, of_dx.outputs);
  const int64_t *chosen = (const int64_t *)index->data;
  if (dy->dtype == MT_FLOAT32) {
    MT_LAUNCH(device, give_to_chosen<float>, grid, MT_BLOCK, 0, of_dx, of_index, (float *)dx->data, (const float *)dy->data, chosen);
  } else {
    MT_LAUNCH(device, give_to_chosen<double>, grid, MT_BLOCK, 0, of_dx, of_index, (double *)dx->data, (const double *)dy->data, chosen);
  }
  return MT_OK;
}

// ---- something per output, then something per element ------------------------------------------------------------------------

// A float64 tensor of like's shape that ends with its scope.
struct numbers {
  mt_tensor *t;
  numbers() : t(NULL) {}
  ~numbers() { mt_tensor_release(t); }
  int take(const mt_tensor *like) {
    MT_TRY(mt_device_set(like->storage->device));
    return mt_tensor_new(&t, MT_FLOAT64, like->ndim, like->shape, NULL);
  }
};

struct store_number {
  mt_reduction r;
  double *y;
  MT_INSIDE void operator()(int64_t o, double v) const {
    int64_t in_x, in_y;
    mt_fold_output(r, o, &in_x, &in_y);
    y[in_y] = v;
  }
};

template <typename T> static __global__ void read_outputs(double *c, const mt_reduction r, const T *y) {
  MT_EACH(o, r.outputs) {
    int64_t in_x, in_y;
    mt_fold_output(r, o, &in_x, &in_y);
    c[o] = (double)y[in_y];
  }
}

// Operands: dx, dy, x, y, ties.
template <typename T> static __global__ void share_evenly(const mt_walk walk, bool absolute) {
  MT_EACH(i, walk.numel) {
    char *p[5];
    mt_walk_at(p, walk, i);
    const T g = *(const T *)p[1] / (T)max(*(const double *)p[4], 1.0), x = *(const T *)p[2], y = *(const T *)p[3];
    const T v = absolute && x < 0 ? -x : x;
    T d = 0;
    if (v == y || (v != v && y != y)) {
      d = !absolute ? g : x > 0 ? g : x < 0 ? -g : x == 0 ? 0 : x;
    }
    *(T *)p[0] = d;
  }
}

template <typename T>
static int even(mt_device *device, mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, const mt_tensor *y, int32_t dims,
                bool absolute) {
  numbers ties;
  mt_scratch scratch;
  mt_reduction of_y, of_ties;
  mt_walk walk;
  MT_TRY(ties.take(y));
  MT_TRY(mt_reduction_plan("max", &of_y, y, x, dims, true));
  MT_TRY(mt_reduction_plan("max", &of_ties, ties.t, x, dims, true));
  MT_TRY(scratch.take(device, of_y.outputs, (int64_t)sizeof(double)));
  double *c = (double *)scratch.data;
  MT_LAUNCH(device, read_outputs<T>, mt_grid(device, of_y.outputs), MT_BLOCK, 0, c, of_y, (const T *)y->data);
  const store_number end = {of_ties, (double *)ties.t->data};
  MT_TRY(absolute ? mt_fold<T>(device, &of_y, x, c, mt_fold_sum<T, MT_MAP_EQUAL_ABS>(), end)
                  : mt_fold<T>(device, &of_y, x, c, mt_fold_sum<T, MT_MAP_EQUAL>(), end));
  const mt_tensor *const t[] = {dx, dy, x, y, ties.t};
  MT_TRY(mt_walk_plan(&walk, 5, t));
  MT_LAUNCH(device, share_evenly<T>, mt_grid(device, walk.numel), MT_BLOCK, 0, walk, absolute);
  return MT_OK;
}

int mt_reduce_even(const char *op, mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, const mt_tensor *y, int32_t dims,
                   bool absolute) {
  mt_device *device;
  mt_reduction unused, of_dx;
  const mt_tensor *const t[] = {dy, x, y};
  MT_TRY(mt_reduce_check_even(op, &unused, &of_dx, dx, dy, x, y, dims));
  MT_TRY(mt_check_together(op, dx, 3, t));
  if (dx->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_enter(&device, dx));
  return MT_REAL_TEMPLATE(x->dtype, even, device, dx, dy, x, y, dims, absolute);
}

extern "C" int mt_reduce_extreme_backward_even(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, const mt_tensor *values,
                                               int32_t dims) {
  return mt_reduce_even("max", dx, dy, x, values, dims, false);
}

// ---- any, all -----------------------------------------------------------------------------------------------------------------

struct store_truth {
  mt_reduction r;
  uint8_t *y;
  MT_INSIDE void operator()(int64_t o, int v) const {
    int64_t in_x, in_y;
    mt_fold_output(r, o, &in_x, &in_y);
    y[in_y] = v != 0;
  }
};

template <typename T> static int truth(mt_device *device, const mt_reduction *r, mt_tensor *y, const mt_tensor *x, bool every) {
  const mt_fold_truth<T> op = {every};
  const store_truth end = {*r, (uint8_t *)y->data};
  return mt_fold<T>(device, r, x, NULL, op, end);
}

extern "C" int mt_reduce_truth(mt_tensor *y, const mt_tensor *x, int32_t dims, int32_t every) {
  mt_device *device;
  mt_reduction r;
  MT_TRY(mt_reduce_check_truth(&r, y, x, dims, every));
  MT_TRY(mt_check_together(every ? "all" : "any", y, 1, &x));
  MT_TRY(mt_enter(&device, y));
  return BY_DTYPE(x->dtype, truth, device, &r, y, x, every != 0);
}

// ---- product --------------------------------------------------------------------------------------------------------------------

template <typename T, typename ACC> struct store_product {
  mt_reduction r;
  T *y;
  MT_INSIDE void operator()(int64_t o, ACC v) const {
    int64_t in_x, in_y;
    mt_fold_output(r, o, &in_x, &in_y);
    y[in_y] = (T)v;
  }
};

template <typename T> static int product(mt_device *device, const mt_reduction *r, mt_tensor *y, const mt_tensor *x) {
  const mt_fold_product<T, double> op = {false};
  const store_product<T, double> end = {*r, (T *)y->data};
  return mt_fold<T>(device, r, x, NULL, op, end);
}

template <typename T> static int integer_product(mt_device *device, const mt_reduction *r, mt_tensor *y, const mt_tensor *x) {
  const mt_fold_product<T, unsigned long long> op = {false};
  const store_product<int64_t, unsigned long long> end = {*r, (int64_t *)y->data};
  return mt_fold<T>(device, r, x, NULL, op, end);
}

extern "C" int mt_reduce_prod(mt_tensor *y, const mt_tensor *x, int32_t dims) {
  mt_device *device;
  mt_reduction r;
  MT_TRY(mt_reduce_check_prod(&r, y, x, dims));
  MT_TRY(mt_check_together("prod", y, 1, &x));
  MT_TRY(mt_enter(&device, y));
  switch (x->dtype) {
    case MT_FLOAT32: return product<float>(device, &r, y, x);
    case MT_FLOAT64: return product<double>(device, &r, y, x);
    case MT_INT64: return integer_product<int64_t>(device, &r, y, x);
    case MT_INT32: return integer_product<int32_t>(device, &r, y, x);
    default: return integer_product<uint8_t>(device, &r, y, x);
  }
}

// Operands: dx, dy, x, zeros, product of the other elements. With one zero only its own gradient is not zero; with two or more
// every gradient is.
template <typename T> static __global__ void prod_gradient(const mt_walk walk) {
  MT_EACH(i, walk.numel) {
    char *p[5];
    mt_walk_at(p, walk, i);
    const double x = (double)*(const T *)p[2], zeros = *(const double *)p[3], g = (double)*(const T *)p[1] * *(const double *)p[4];
    *(T *)p[0] = (T)(zeros == 0 ? g / x : zeros == 1 && x == 0 ? g : 0);
  }
}

template <typename T> static int product_backward(mt_device *device, mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, int32_t dims) {
  numbers zeros, others;
  mt_reduction of_zeros, of_others;
  mt_walk walk;
  MT_TRY(zeros.take(dy));
  MT_TRY(others.take(dy));
  MT_TRY(mt_reduction_plan("prod", &of_zeros, zeros.t, x, dims, true));
  MT_TRY(mt_reduction_plan("prod", &of_others, others.t, x, dims, true));
  const mt_fold_product<T, double> op = {true};
  const store_number first = {of_zeros, (double *)zeros.t->data}, second = {of_others, (double *)others.t->data};
  MT_TRY(mt_fold<T>(device, &of_zeros, x, NULL, mt_fold_sum<T, MT_MAP_ZERO>(), first));
  MT_TRY(mt_fold<T>(device, &of_others, x, NULL, op, second));
  const mt_tensor *const t[] = {dx, dy, x, zeros.t, others.t};
  MT_TRY(mt_walk_plan(&walk, 5, t));
  MT_LAUNCH(device, prod_gradient<T>, mt_grid(device, walk.numel), MT_BLOCK, 0, walk);
  return MT_OK;
}

extern "C" int mt_reduce_prod_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, int32_t dims) {
  mt_device *device;
  mt_reduction of_x, of_dx;
  const mt_tensor *const t[] = {dy, x};
  MT_TRY(mt_reduce_check_prod_backward(&of_x, &of_dx, dx, dy, x, dims));
  MT_TRY(mt_check_together("prod", dx, 2, t));
  if (dx->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_enter(&device, dx));
  return MT_REAL_TEMPLATE(x->dtype, product_backward, device, dx, dy, x, dims);
}
