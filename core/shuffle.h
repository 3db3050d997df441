// shuffle: rearranges space into channels and back (pixel unshuffle and shuffle), 1 to 3 spatial axes, any dtype.
//
//   unshuffle   y[n, c * r^d + k, p] = x[n, c, p * r + offset(k)]   x (N, C, *S) -> y (N, C * r^d, *S / r)
//   shuffle     its inverse                                         x (N, C * r^d, *S) -> y (N, C, *S * r)
//   offset(k): the digits of k in base r, the first spatial axis most significant.
//
// Each is the other's gradient.
#pragma once
#include "tensor.h"

#pragma GCC visibility push(default)

// An error when a spatial size of x is no multiple of the factor.
int mt_shuffle_unshuffle(mt_tensor *y, const mt_tensor *x, int64_t factor);
// An error when the channels of x are no multiple of factor^d.
int mt_shuffle_shuffle(mt_tensor *y, const mt_tensor *x, int64_t factor);

#pragma GCC visibility pop
