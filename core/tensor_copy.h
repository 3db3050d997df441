// tensor_copy: one row of a copy. Internal.
#pragma once
#include "common.h"

// n elements from p[1] to p[0], step[k] bytes apart, converted; context: int32_t[2] = {dtype of p[0], dtype of p[1]}. A row function
// of loop.h.
void mt_copy_row(char *const *p, const int64_t *step, int64_t n, const void *context);
