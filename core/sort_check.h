// sort_check: what sort.h asks of its arguments, for both libraries. Internal.
#pragma once
#include "reduce_plan.h"

typedef struct mt_sort_plan {
  mt_reduction of_x, of_values, of_index;
  const mt_tensor *x;
  mt_tensor *values, *index;
  uint64_t flip;       // of the keys: all bits where the largest come first
  int64_t take, skip;  // outputs per line, and the rank of the first
  bool median;
} mt_sort_plan;

int mt_sort_check(mt_sort_plan *p, mt_tensor *values, mt_tensor *index, const mt_tensor *x, int32_t dim, int32_t descending);
int mt_sort_check_topk(mt_sort_plan *p, mt_tensor *values, mt_tensor *index, const mt_tensor *x, int32_t dim, int64_t k, int32_t largest);
int mt_sort_check_kth(mt_sort_plan *p, mt_tensor *values, mt_tensor *index, const mt_tensor *x, int32_t dim, int64_t k);
int mt_sort_check_backward(mt_reduction *of_dx, mt_reduction *of_dy, mt_reduction *of_index, const mt_tensor *dx, const mt_tensor *dy,
                           const mt_tensor *index, int32_t dim);
int mt_sort_check_unique(const mt_tensor *values, const mt_tensor *inverse, const mt_tensor *counts, const mt_tensor *x);
