// mask: which elements of a tensor count. 1 = valid, 0 = hole or padding, between = confidence.
//
// Where a kernel takes a mask, it has x's dtype and broadcasts to x: shape (N or 1, C or 1, *S). Kernels select
// rather than multiply: what lies under mask 0, NaN and Inf included, changes nothing. Masks are constants: no
// gradient flows into them.
#pragma once
#include "tensor.h"

#pragma GCC visibility push(default)

// y = x * mask, 0 where mask is 0. Its own gradient: dx = dy * mask likewise. In place allowed.
int mt_mask_apply(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask);
// y = x where mask is not 0, else 0: clears the holes and leaves soft values alone. Its own gradient. In place allowed.
int mt_mask_select(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask);
// y = x / (mask + eps). Its own gradient. In place allowed.
int mt_mask_unapply(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, double eps);

// A size outside its range is an error; a device raises it at the next synchronisation.
// mask (N, 1, L) of any dtype; lengths (N) int64 within 0..L. align_right: the last `length` positions are valid.
int mt_mask_lengths(mt_tensor *mask, const mt_tensor *lengths, int32_t align_right);
// mask (N, 1, *S); sizes (N, dims) int64: the corner box [0, size) of every axis is valid.
int mt_mask_boxes(mt_tensor *mask, const mt_tensor *sizes);

// Of a mask (N, ...) of any dtype: valid (N) float64 = elements other than 0 of each sample, sum (N) float64 = their sum
// in row-major order (NULL: not wanted), *all_ones = 1 when every element is 1. An error when a value is NaN or outside 0..1.
int mt_mask_summary(mt_tensor *valid, mt_tensor *sum, int32_t *all_ones, const mt_tensor *mask);

// Of a mask (N, C, *S) of any dtype, position by position: kinds (N, 1, *S) uint8 = MT_MASK_ZERO where all channels are 0,
// MT_MASK_ONE where all are 1, MT_MASK_EQUAL where all are one other value, else MT_MASK_MIXED; valid (N, 1, *S) bool = some channel is not 0; counts[4] =
// positions of each kind (NULL: not wanted; then a device is not waited for, and refuses values at the next synchronisation). valid and
// kinds are row-major. An error when a value is NaN or outside 0..1.
enum { MT_MASK_ZERO, MT_MASK_ONE, MT_MASK_EQUAL, MT_MASK_MIXED, MT_MASK_KINDS };
int mt_mask_kinds(mt_tensor *valid, mt_tensor *kinds, int64_t *counts, const mt_tensor *mask);

#pragma GCC visibility pop
