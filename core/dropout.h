// dropout: y = x / (1 - p) with probability 1 - p, else 0 (selected, so NaN and Inf can be dropped). float32, float64, bfloat16.
#pragma once
#include "random.h"
#include "tensor.h"

#pragma GCC visibility push(default)

// Each position of the first `dims` dims draws once for all under it: x->ndim: every element by itself, 2: whole channels of (N, C, *S).
// Draw i, row-major, is element i of mt_random_bernoulli with 1 - p; 0 <= p <= 1. mask: bool, broadcasts to x, or NULL; y is 0 where it is,
// and x not looked at. It is its own backward: with dy for x and the same `random` it gives dx. In place allowed.
int mt_dropout_apply(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, const mt_random *random, double p, int32_t dims);

#pragma GCC visibility pop
