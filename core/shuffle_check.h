// shuffle_check: what shuffle.h asks of its arguments, for both libraries. Internal.
#pragma once
#include "common.h"

// Also both tensors seen with one shape (N, C, r.., S..), at most 8 dims: each function is a copy from one view to the other.
int mt_shuffle_check_unshuffle(mt_tensor *coarse, mt_tensor *fine, const mt_tensor *y, const mt_tensor *x, int64_t factor);
int mt_shuffle_check_shuffle(mt_tensor *coarse, mt_tensor *fine, const mt_tensor *y, const mt_tensor *x, int64_t factor);
