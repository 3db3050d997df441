// elementwise_sum: the gradient of broadcasting, mt_elementwise_sum_to of elementwise.h.
#include "convert.h"
#include "elementwise_check.h"
#include "row.h"

enum { SUM_BLOCK = 16 };

typedef struct {
  mt_elementwise_sum_plan plan;
  int32_t from, to;  // types
} sum_task;

// `type` is a constant where it is called.
MT_INLINE double value_at(const char *g, int64_t i, int32_t type) {
  return type == MT_FLOAT32   ? (double)((const float *)(const void *)g)[i]
         : type == MT_FLOAT64 ? ((const double *)(const void *)g)[i]
                              : (double)mt_bf16_value(((const uint16_t *)(const void *)g)[i]);
}

// The outputs k = 0..count-1 of a block, `apart` elements from one to the next in g, accumulate side by side: the loads are
// neighbours where the layout allows, and each sum keeps its own order.
MT_INLINE void sum_block(double *total, const char *g, int64_t at, int64_t count, const mt_elementwise_sum_plan *plan, int32_t type) {
  const int64_t apart = plan->inner_from;
  int64_t index[MT_MAX_DIMS] = {0};
  memset(total, 0, sizeof(double) * (size_t)count);
  for (int64_t r = 0; r < plan->rows; r++) {
    double row[SUM_BLOCK] = {0};
    for (int64_t i = 0; i < plan->row; i++) {
      for (int64_t k = 0; k < count; k++) {
        row[k] += value_at(g, at + i * plan->row_step + k * apart, type);
      }
    }
    for (int64_t k = 0; k < count; k++) {
      total[k] += row[k];
    }
    for (int32_t d = plan->summed - 1; d >= 0; d--) {
      at += plan->sum_step[d];
      if (++index[d] < plan->sum_size[d]) {
        break;
      }
      at -= plan->sum_size[d] * plan->sum_step[d];
      index[d] = 0;
    }
  }
}

static void store(char *out, int64_t at, double total, int32_t type) {
  if (type == MT_FLOAT64) {
    ((double *)(void *)out)[at] = total;
  } else if (type == MT_FLOAT32) {
    ((float *)(void *)out)[at] = (float)total;
  } else {
    ((uint16_t *)(void *)out)[at] = mt_bf16_of((float)total);
  }
}

static void run_task(void *context, int64_t begin, int64_t end) {
  const sum_task *task = context;
  const mt_elementwise_sum_plan *plan = &task->plan;
  const int64_t blocks = (plan->inner + SUM_BLOCK - 1) / SUM_BLOCK;
  for (int64_t t = begin; t < end; t++) {
    int64_t rest = t / blocks, first = t % blocks * SUM_BLOCK, count = MT_MIN(SUM_BLOCK, plan->inner - first);
    int64_t from = first * plan->inner_from, to = first * plan->inner_to;
    for (int32_t d = plan->kept - 1; d >= 0; d--) {
      from += rest % plan->keep_size[d] * plan->keep_from[d];
      to += rest % plan->keep_size[d] * plan->keep_to[d];
      rest /= plan->keep_size[d];
    }
    double total[SUM_BLOCK];
    switch (task->from) {
      case MT_FLOAT32: sum_block(total, plan->g, from, count, plan, MT_FLOAT32); break;
      case MT_FLOAT64: sum_block(total, plan->g, from, count, plan, MT_FLOAT64); break;
      default: sum_block(total, plan->g, from, count, plan, MT_BFLOAT16);
    }
    for (int64_t k = 0; k < count; k++) {
      store(plan->out, to + k * plan->inner_to, total[k], task->to);
    }
  }
}

int mt_elementwise_sum_to(mt_tensor *out, const mt_tensor *g) {
  MT_TRY(mt_elementwise_check_sum_to(out, g));
  sum_task task = {.from = g->dtype, .to = out->dtype};
  if (g->numel == 0) {  // its other sizes may be beyond counting
    return mt_tensor_fill(out, 0);
  }
  mt_elementwise_plan_sum(&task.plan, out, g);
  if (out->numel == 0) {
    return MT_OK;
  }
  const int64_t work = task.plan.rows * task.plan.row * SUM_BLOCK, grain = MT_MAX(1, 32768 / MT_MAX(1, work));
  const int64_t tasks = out->numel / task.plan.inner * ((task.plan.inner + SUM_BLOCK - 1) / SUM_BLOCK);
  return mt_parallel(tasks, grain, run_task, &task);
}
