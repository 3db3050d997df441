// elementwise: add with a factor, clamp, where and comparison of whole tensors; the gradient of broadcasting is in elementwise_sum.c.
// See elementwise.h; the formulas are in elementwise_rows.h.
#ifdef NUMBER

static int FN(clamp)(mt_tensor *y, const mt_tensor *x, double low, double high) {
  const FN(bounds) bounds = FN(bounds_of)(low, high);
  return mt_loop_elements(2, (const mt_tensor *const[]){y, x}, FN(clamp_row), &bounds);
}

static void FN(differences_row)(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const counting *c = context;
  int64_t count = 0;
  for (int64_t i = 0; i < n; i++) {
    count += FN(apart)(*(const NUMBER *)(p[0] + i * step[0]), *(const NUMBER *)(p[1] + i * step[1]), &c->tolerance);
  }
  __atomic_add_fetch(c->count, count, __ATOMIC_RELAXED);
}

#else
#include "elementwise_check.h"
#include "row.h"

typedef struct {
  mt_tolerance tolerance;
  int64_t *count;
} counting;

#define MT_SOURCE "elementwise_rows.h"
#include "five.h"
#undef MT_SOURCE
#define MT_SOURCE "elementwise.c"
#include "five.h"

int mt_elementwise_add(mt_tensor *y, const mt_tensor *a, const mt_tensor *b, double alpha) {
  MT_TRY(mt_elementwise_check_add(y, a, b));
  const float single = (float)alpha;
  const void *factor = y->dtype == MT_FLOAT64 ? &alpha : (const void *)&single;
  return mt_loop_elements(3, (const mt_tensor *const[]){y, a, b}, MT_REAL_FN(y->dtype, add_row), factor);
}

int mt_elementwise_clamp(mt_tensor *y, const mt_tensor *x, double low, double high) {
  MT_TRY(mt_elementwise_check_clamp(y, x, low, high));
  return MT_FIVE_FN(x->dtype, clamp)(y, x, low, high);
}

int mt_elementwise_clamp_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, double low, double high) {
  MT_TRY(mt_elementwise_check_clamp_backward(dx, dy, x));
  const bounds_f32 single = bounds_of_f32(low, high);
  const bounds_f64 exact = bounds_of_f64(low, high);
  return mt_loop_elements(3, (const mt_tensor *const[]){dx, dy, x}, MT_REAL_FN(x->dtype, clamp_backward_row),
                          x->dtype == MT_FLOAT64 ? (const void *)&exact : &single);
}

MT_ROW_3(where_8, int64_t, uint8_t, int64_t, int64_t, a ? b : c)
MT_ROW_3(where_4, int32_t, uint8_t, int32_t, int32_t, a ? b : c)
MT_ROW_3(where_1, uint8_t, uint8_t, uint8_t, uint8_t, a ? b : c)

int mt_elementwise_where(mt_tensor *y, const mt_tensor *condition, const mt_tensor *a, const mt_tensor *b) {
  MT_TRY(mt_elementwise_check_where(y, condition, a, b));
  const int64_t size = mt_dtype_size(mt_computed(y->dtype));
  const mt_tensor *const t[] = {y, condition, a, b};
  return mt_loop_elements(4, t, size == 8 ? where_8 : size == 4 ? where_4 : where_1, NULL);
}

int mt_elementwise_differences(double *count, const mt_tensor *a, const mt_tensor *b, double rtol, double atol,
                               int32_t equal_nan) {
  int64_t found = 0;
  const counting c = {{rtol, atol, equal_nan != 0}, &found};
  MT_TRY(mt_elementwise_check_differences(a, b));
  MT_TRY(mt_loop_run(2, (const mt_tensor *const[]){a, b}, MT_FIVE_FN(a->dtype, differences_row), &c));
  *count = (double)found;
  return MT_OK;
}

#endif
