// dropout_check: what dropout.h asks of its arguments, for both libraries. Internal.
#pragma once
#include "common.h"

// shape: of the draws, seen in x's.
int mt_dropout_check(int64_t shape[MT_MAX_DIMS], const mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, double p,
                     int32_t dims);
