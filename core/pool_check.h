// pool_check: what pool.h asks of its arguments, for both libraries; mt_pool_output_size is here too. Internal.
#pragma once
#include "spatial.h"

int mt_pool_check_max_forward(const mt_tensor *y, const mt_tensor *index, const mt_tensor *x, const mt_tensor *mask,
                              const mt_pool *g);
int mt_pool_check_max_backward(const mt_tensor *dx, const mt_tensor *dy, const mt_tensor *index, const mt_pool *g);
int mt_pool_check_avg_forward(const mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, const mt_pool *g);
int mt_pool_check_avg_backward(const mt_tensor *dx, const mt_tensor *dy, const mt_tensor *mask, const mt_pool *g);
int mt_pool_check_mask(const mt_tensor *out, const mt_tensor *mask, const mt_pool *g);
int mt_pool_check_mean_forward(const mt_tensor *y, const mt_tensor *coverage, const mt_tensor *x, const mt_tensor *mask,
                               int32_t holes);
int mt_pool_check_mean_backward(const mt_tensor *dx, const mt_tensor *dy, const mt_tensor *mask, int32_t holes);
