// mask_check: what mask.h asks of its arguments, for both libraries. Internal.
#pragma once
#include "common.h"

// y = x under a mask
int mt_mask_check_use(const char *op, const mt_tensor *y, const mt_tensor *x, const mt_tensor *mask);
int mt_mask_check_lengths(const mt_tensor *mask, const mt_tensor *lengths);
int mt_mask_check_boxes(const mt_tensor *mask, const mt_tensor *sizes);
// The sizes of samples, `dims` each: within 0..limit.
int mt_mask_check_values(const char *op, const char *argument, const int64_t *values, int64_t count, int32_t dims,
                         const int64_t *limit);
int mt_mask_check_summary(const mt_tensor *valid, const mt_tensor *sum, const mt_tensor *mask);
int mt_mask_check_kinds(const mt_tensor *valid, const mt_tensor *kinds, const mt_tensor *mask);
// The element `value` of that sample (0-based) is outside 0..1.
int mt_mask_refuse_value(const mt_tensor *mask, double value, int64_t sample);
