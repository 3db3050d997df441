// elementwise_check: what elementwise.h asks of its arguments, and the walk of sum_to, for both libraries. Internal.
#pragma once
#include "common.h"

int mt_elementwise_check_unary(const mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, int32_t op);
int mt_elementwise_check_unary_backward(const mt_tensor *dx, const mt_tensor *dy, const mt_tensor *kept, const mt_tensor *mask,
                                        int32_t op);

int mt_elementwise_check_binary(const mt_tensor *y, const mt_tensor *a, const mt_tensor *b, int32_t op);
int mt_elementwise_check_binary_backward(const mt_tensor *d, const mt_tensor *dy, const mt_tensor *a, const mt_tensor *b,
                                         int32_t op);
// FMOD and REMAINDER of integers: the caller looks for zeros in b, and gives up with this.
bool mt_elementwise_divides_integers(const mt_tensor *a, int32_t op);
int mt_elementwise_refuse_zero(int32_t op);

int mt_elementwise_check_add(const mt_tensor *y, const mt_tensor *a, const mt_tensor *b);
int mt_elementwise_check_clamp(const mt_tensor *y, const mt_tensor *x, double low, double high);
int mt_elementwise_check_clamp_backward(const mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x);
int mt_elementwise_check_where(const mt_tensor *y, const mt_tensor *condition, const mt_tensor *a, const mt_tensor *b);
int mt_elementwise_check_sum_to(const mt_tensor *out, const mt_tensor *g);
int mt_elementwise_check_differences(const mt_tensor *a, const mt_tensor *b);

typedef struct mt_tolerance {
  double relative, absolute;
  bool equal_nan;
} mt_tolerance;

// How sum_to walks g. Strides in elements; the row is the last dim that is summed, `sum_*` are the ones before it,
// `inner` is the last dim that is kept, `keep_*` are the ones before it with their strides in g and in out.
typedef struct mt_elementwise_sum_plan {
  const void *g;
  void *out;
  int64_t rows, row, row_step, inner, inner_from, inner_to;
  int32_t summed, kept;
  int64_t sum_size[MT_MAX_DIMS], sum_step[MT_MAX_DIMS];
  int64_t keep_size[MT_MAX_DIMS], keep_from[MT_MAX_DIMS], keep_to[MT_MAX_DIMS];
} mt_elementwise_sum_plan;
// g has elements.
void mt_elementwise_plan_sum(mt_elementwise_sum_plan *plan, const mt_tensor *out, const mt_tensor *g);
