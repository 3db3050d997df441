// dropout: y = x / (1 - p) with probability 1 - p, else 0 (selected, so NaN and Inf can be dropped).
#pragma once
#include "random.h"
#include "tensor.h"

#pragma GCC visibility push(default)

// Each position of the first `dims` dims draws once and the elements under it share the draw: dims = x->ndim for every element
// by itself, 2 for whole channels of (N, C, *S). Draw i, in row-major order, is element i of mt_random_bernoulli with
// probability 1 - p. 0 <= p <= 1. mask: bool, broadcasts to x, or NULL; where it is 0 so is y, and x is not looked at. It is its own backward: with dy for x and the same `random` it gives dx. In place allowed.
int mt_dropout_apply(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, const mt_random *random, double p, int32_t dims);

#pragma GCC visibility pop
