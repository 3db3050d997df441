// index: see index.h. Gradients of views that repeat or reorder elements.
#ifdef REAL

enum { FN(EXPAND_BLOCK) = 16 };

// One block of dx at a time; the reduced dims outside, the block inside, so that a column sum reads whole cache lines.
static void FN(expand_row)(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const expand_plan *plan = context;
  for (int64_t i = 0; i < n; i += FN(EXPAND_BLOCK)) {
    const int64_t block = MT_MIN(n - i, FN(EXPAND_BLOCK)), last = plan->ndim - 1;
    const char *dy = p[1] + i * step[1];
    double sum[FN(EXPAND_BLOCK)] = {0};
    int64_t index[MT_MAX_DIMS] = {0};
    for (int64_t row = 0; row < plan->rows; row++) {
      for (int64_t k = 0; k < plan->shape[last]; k++) {
        for (int64_t b = 0; b < block; b++) {
          sum[b] += *(const REAL *)(dy + k * plan->step[last] + b * step[1]);
        }
      }
      for (int64_t d = last - 1; d >= 0; d--) {
        dy += plan->step[d];
        if (++index[d] < plan->shape[d]) {
          break;
        }
        dy -= plan->shape[d] * plan->step[d];
        index[d] = 0;
      }
    }
    for (int64_t b = 0; b < block; b++) {
      *(REAL *)(p[0] + (i + b) * step[0]) = (REAL)sum[b];
    }
  }
}

#else
#include "common.h"
#include "loop.h"

// The reduced dims of dy; the last is the inner loop, rows counts the others.
typedef struct {
  int32_t ndim;
  int64_t rows, shape[MT_MAX_DIMS + 1], step[MT_MAX_DIMS + 1];
} expand_plan;

#define MT_SOURCE "index.c"
#include "twice.h"

int mt_index_expand_backward(mt_tensor *dx, const mt_tensor *dy) {
  MT_TRY(mt_check_real("expand", "gradient", dy));
  MT_TRY(mt_check_dtype("expand", "dx", dx, dy->dtype));
  MT_TRY(mt_check_output("expand", "dx", dx));
  MT_TRY(mt_check_overlap("expand", dx, dy, false));
  const int32_t lead = dy->ndim - dx->ndim;
  expand_plan plan = {.rows = 1};
  mt_tensor kept = *dy;
  bool fits = lead >= 0;
  kept.ndim = dx->ndim;
  for (int32_t d = 0; fits && d < dy->ndim; d++) {
    if (d >= lead) {
      kept.shape[d - lead] = dx->shape[d - lead];
      kept.stride[d - lead] = dy->stride[d];
    }
    if (d < lead || dx->shape[d - lead] != dy->shape[d]) {
      fits = d < lead || dx->shape[d - lead] == 1;
      plan.shape[plan.ndim] = dy->shape[d];
      plan.step[plan.ndim++] = dy->stride[d] * mt_dtype_size(dy->dtype);
    }
  }
  if (!fits) {
    return mt_fail(MT_ERROR_ARGUMENT, "expand: gradient: %s is not an expansion of %s", MT_SHAPE(dy), MT_SHAPE(dx));
  }
  if (plan.ndim == 0) {
    plan.shape[plan.ndim++] = 1;
  }
  for (int32_t d = 0; d + 1 < plan.ndim; d++) {
    plan.rows *= plan.shape[d];
  }
  return mt_loop_run(2, (const mt_tensor *const[]){dx, &kept}, MT_REAL_FN(dx->dtype, expand_row), &plan);
}

int mt_index_flip(mt_tensor *y, const mt_tensor *x, int32_t dims) {
  MT_TRY(mt_check_tensor("flip", "input", x));
  MT_TRY(mt_check_like("flip", "output", y, x));
  MT_TRY(mt_check_overlap("flip", y, x, false));
  mt_tensor from = *x;
  if (x->numel == 0) {
    return MT_OK;
  }
  for (int32_t d = 0; d < x->ndim; d++) {
    if (dims >> d & 1) {
      from.data = (char *)from.data + (x->shape[d] - 1) * x->stride[d] * mt_dtype_size(x->dtype);
      from.stride[d] = -x->stride[d];
    }
  }
  return mt_tensor_copy(y, &from);
}

#endif
