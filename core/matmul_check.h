// matmul_check: what matmul.h asks of its arguments, for both libraries. Internal.
#pragma once
#include "common.h"

int mt_matmul_check(const mt_tensor *y, const mt_tensor *a, const mt_tensor *b);
int mt_matmul_check_precision(int32_t value);
