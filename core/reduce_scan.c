// reduce: running sums and products along one axis.
#ifdef REAL

static void FN(sum_task)(void *context, int64_t begin, int64_t end) {
  const scan *s = context;
  const int64_t n = s->of_x.length;
  for (int64_t o = begin; o < end; o++) {
    int64_t in_x, in_y, unused;
    mt_reduction_output(&s->of_x, o, &in_x, &unused);
    mt_reduction_output(&s->of_y, o, &in_y, &unused);
    const REAL *x = (const REAL *)s->x->data + in_x;
    REAL *y = (REAL *)s->y->data + in_y;
    double sum = 0;
    for (int64_t k = 0; k < n; k++) {
      const int64_t i = s->reverse ? n - 1 - k : k;
      sum += (double)x[i * s->of_x.stride];
      y[i * s->of_y.stride] = (REAL)sum;
    }
  }
}

static void FN(prod_task)(void *context, int64_t begin, int64_t end) {
  const scan *s = context;
  for (int64_t o = begin; o < end; o++) {
    int64_t in_x, in_y, unused;
    mt_reduction_output(&s->of_x, o, &in_x, &unused);
    mt_reduction_output(&s->of_y, o, &in_y, &unused);
    const REAL *x = (const REAL *)s->x->data + in_x;
    REAL *y = (REAL *)s->y->data + in_y;
    double product = 1;
    for (int64_t i = 0; i < s->of_x.length; i++) {
      product *= (double)x[i * s->of_x.stride];
      y[i * s->of_y.stride] = (REAL)product;
    }
  }
}

// dx[k] = prefix(k - 1) * R(k) with R(k) = dy[k] + x[k + 1] R(k + 1): no division, so zeros need no special case.
static void FN(prod_backward_task)(void *context, int64_t begin, int64_t end) {
  const scan *s = context;
  const int64_t n = s->of_x.length;
  for (int64_t o = begin; o < end; o++) {
    int64_t in_x, in_dx, in_dy, unused;
    mt_reduction_output(&s->of_x, o, &in_x, &unused);
    mt_reduction_output(&s->of_y, o, &in_dx, &unused);
    mt_reduction_output(&s->of_dy, o, &in_dy, &unused);
    const REAL *x = (const REAL *)s->x->data + in_x, *dy = (const REAL *)s->dy->data + in_dy;
    REAL *dx = (REAL *)s->y->data + in_dx;
    double prefix = 1, rest = 0;
    for (int64_t k = 0; k < n; k++) {
      dx[k * s->of_y.stride] = (REAL)prefix;
      prefix *= (double)x[k * s->of_x.stride];
    }
    for (int64_t k = n - 1; k >= 0; k--) {
      rest = (double)dy[k * s->of_dy.stride] + (k + 1 < n ? (double)x[(k + 1) * s->of_x.stride] * rest : 0);
      dx[k * s->of_y.stride] = (REAL)((double)dx[k * s->of_y.stride] * rest);
    }
  }
}

#else
#include "reduce_check.h"

typedef struct {
  mt_reduction of_x, of_y, of_dy;
  const mt_tensor *x, *dy;
  mt_tensor *y;
  bool reverse, product;
} scan;

#define MT_SOURCE "reduce_scan.c"
#include "twice.h"

static void integer_task(void *context, int64_t begin, int64_t end) {
  const scan *s = context;
  const int64_t n = s->of_x.length;
  for (int64_t o = begin; o < end; o++) {
    int64_t in_x, in_y, unused;
    mt_reduction_output(&s->of_x, o, &in_x, &unused);
    mt_reduction_output(&s->of_y, o, &in_y, &unused);
    uint64_t total = s->product;
    for (int64_t k = 0; k < n; k++) {
      const int64_t i = s->reverse ? n - 1 - k : k;
      const uint64_t v = (uint64_t)mt_integer_at(s->x->data, s->x->dtype, in_x + i * s->of_x.stride);
      total = s->product ? total * v : total + v;
      ((int64_t *)s->y->data)[in_y + i * s->of_y.stride] = (int64_t)total;
    }
  }
}

int mt_reduce_cumsum(mt_tensor *y, const mt_tensor *x, int32_t dim, int32_t reverse) {
  scan s = {.x = x, .y = y, .reverse = reverse != 0};
  MT_TRY(mt_reduce_check_scan("cumsum", &s.of_x, &s.of_y, y, x, dim));
  const bool real = x->dtype == MT_FLOAT32 || x->dtype == MT_FLOAT64;
  return mt_parallel(s.of_x.outputs, mt_reduction_grain(&s.of_x), real ? MT_REAL_FN(x->dtype, sum_task) : integer_task, &s);
}

int mt_reduce_cumprod(mt_tensor *y, const mt_tensor *x, int32_t dim) {
  scan s = {.x = x, .y = y, .product = true};
  MT_TRY(mt_reduce_check_scan("cumprod", &s.of_x, &s.of_y, y, x, dim));
  const bool real = x->dtype == MT_FLOAT32 || x->dtype == MT_FLOAT64;
  return mt_parallel(s.of_x.outputs, mt_reduction_grain(&s.of_x), real ? MT_REAL_FN(x->dtype, prod_task) : integer_task, &s);
}

int mt_reduce_cumprod_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, int32_t dim) {
  scan s = {.x = x, .dy = dy, .y = dx};
  MT_TRY(mt_reduce_check_cumprod_backward(&s.of_x, &s.of_y, &s.of_dy, dx, dy, x, dim));
  return mt_parallel(s.of_x.outputs, mt_reduction_grain(&s.of_x), MT_REAL_FN(x->dtype, prod_backward_task), &s);
}

#endif
