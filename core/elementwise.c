// elementwise: add with a factor, clamp, where, comparison of whole tensors, and the gradient of broadcasting.
// See elementwise.h; the formulas are in elementwise_rows.h.
#ifdef NUMBER

#if NUMBER_IS_REAL

// The outputs k = 0..count-1 of a block, `apart` elements from one to the next in g, accumulate side by side: the loads are
// neighbours where the layout allows, and each sum keeps its own order.
static void FN(sum_block)(double *total, const NUMBER *g, int64_t count, int64_t apart, const sum_plan *plan) {
  int64_t index[MT_MAX_DIMS] = {0};
  memset(total, 0, sizeof(double) * (size_t)count);
  for (int64_t r = 0; r < plan->rows; r++) {
    double row[SUM_BLOCK] = {0};
    for (int64_t i = 0; i < plan->row; i++) {
      for (int64_t k = 0; k < count; k++) {
        row[k] += g[i * plan->row_step + k * apart];
      }
    }
    for (int64_t k = 0; k < count; k++) {
      total[k] += row[k];
    }
    for (int32_t d = plan->summed - 1; d >= 0; d--) {
      g += plan->sum_step[d];
      if (++index[d] < plan->sum_size[d]) {
        break;
      }
      g -= plan->sum_size[d] * plan->sum_step[d];
      index[d] = 0;
    }
  }
}

static void FN(sum_task)(void *context, int64_t begin, int64_t end) {
  const sum_plan *plan = context;
  const int64_t blocks = (plan->inner + SUM_BLOCK - 1) / SUM_BLOCK;
  for (int64_t t = begin; t < end; t++) {
    int64_t rest = t / blocks, first = t % blocks * SUM_BLOCK, count = MT_MIN(SUM_BLOCK, plan->inner - first);
    const NUMBER *g = (const NUMBER *)plan->g + first * plan->inner_from;
    NUMBER *out = (NUMBER *)plan->out + first * plan->inner_to;
    for (int32_t d = plan->kept - 1; d >= 0; d--) {
      g += rest % plan->keep_size[d] * plan->keep_from[d];
      out += rest % plan->keep_size[d] * plan->keep_to[d];
      rest /= plan->keep_size[d];
    }
    double total[SUM_BLOCK];
    FN(sum_block)(total, g, count, plan->inner_from, plan);
    for (int64_t k = 0; k < count; k++) {
      out[k * plan->inner_to] = (NUMBER)total[k];
    }
  }
}

#endif

static int FN(clamp)(mt_tensor *y, const mt_tensor *x, double low, double high) {
  const FN(bounds) bounds = FN(bounds_of)(low, high);
  return mt_loop_run(2, (const mt_tensor *const[]){y, x}, FN(clamp_row), &bounds);
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
#include "convert.h"
#include "row.h"

enum { SUM_BLOCK = 16 };

typedef mt_elementwise_sum_plan sum_plan;

typedef struct {
  mt_tolerance tolerance;
  int64_t *count;
} counting;

#define MT_SOURCE "elementwise_rows.h"
#include "five.h"
#undef MT_SOURCE
#define MT_SOURCE "elementwise.c"
#include "five.h"

MT_ROW_2(add_row_bf16, uint16_t, uint16_t, uint16_t, mt_bf16_of(mt_bf16_value(a) + *(const float *)context * mt_bf16_value(b)))

int mt_elementwise_add(mt_tensor *y, const mt_tensor *a, const mt_tensor *b, double alpha) {
  MT_TRY(mt_elementwise_check_add(y, a, b));
  const float single = (float)alpha;
  const void *factor = y->dtype == MT_FLOAT64 ? &alpha : (const void *)&single;
  return mt_loop_elements(3, (const mt_tensor *const[]){y, a, b},
                          y->dtype == MT_BFLOAT16 ? add_row_bf16 : MT_REAL_FN(y->dtype, add_row), factor);
}

int mt_elementwise_clamp(mt_tensor *y, const mt_tensor *x, double low, double high) {
  MT_TRY(mt_elementwise_check_clamp(y, x, low, high));
  return MT_FIVE_FN(x->dtype, clamp)(y, x, low, high);
}

int mt_elementwise_clamp_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, double low, double high) {
  MT_TRY(mt_elementwise_check_clamp_backward(dx, dy, x));
  const bounds_f32 single = bounds_of_f32(low, high);
  const bounds_f64 exact = bounds_of_f64(low, high);
  return mt_loop_run(3, (const mt_tensor *const[]){dx, dy, x}, MT_REAL_FN(x->dtype, clamp_backward_row),
                     x->dtype == MT_FLOAT32 ? (const void *)&single : &exact);
}

MT_ROW_3(where_8, int64_t, uint8_t, int64_t, int64_t, a ? b : c)
MT_ROW_3(where_4, int32_t, uint8_t, int32_t, int32_t, a ? b : c)
MT_ROW_3(where_1, uint8_t, uint8_t, uint8_t, uint8_t, a ? b : c)

int mt_elementwise_where(mt_tensor *y, const mt_tensor *condition, const mt_tensor *a, const mt_tensor *b) {
  MT_TRY(mt_elementwise_check_where(y, condition, a, b));
  const int64_t size = mt_dtype_size(y->dtype);
  const mt_tensor *const t[] = {y, condition, a, b};
  return mt_loop_elements(4, t, size == 8 ? where_8 : size == 4 ? where_4 : where_1, NULL);
}

int mt_elementwise_sum_to(mt_tensor *out, const mt_tensor *g) {
  sum_plan plan;
  MT_TRY(mt_elementwise_check_sum_to(out, g));
  if (g->numel == 0) {  // its other sizes may be beyond counting
    return mt_tensor_fill(out, 0);
  }
  mt_elementwise_plan_sum(&plan, out, g);
  if (out->numel == 0) {
    return MT_OK;
  }
  const int64_t work = plan.rows * plan.row * SUM_BLOCK, grain = MT_MAX(1, 32768 / MT_MAX(1, work));
  const int64_t tasks = out->numel / plan.inner * ((plan.inner + SUM_BLOCK - 1) / SUM_BLOCK);
  return mt_parallel(tasks, grain, MT_REAL_FN(g->dtype, sum_task), &plan);
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
