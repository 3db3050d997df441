// softmax_check: what softmax.h asks of its arguments, and its lines, for both libraries. Internal.
#pragma once
#include "reduce_plan.h"

// backward: y is dx, x is y, mask is dy.
typedef struct mt_softmax_lines {
  mt_reduction y, x, mask;
  void *y_data;
  const void *x_data, *mask_data;
  bool log;
} mt_softmax_lines;

int mt_softmax_check_forward(mt_softmax_lines *l, const mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, int32_t dim,
                             int32_t log);
int mt_softmax_check_backward(mt_softmax_lines *l, const mt_tensor *dx, const mt_tensor *dy, const mt_tensor *y, int32_t dim,
                              int32_t log);
