// winograd: convolution with kernels of 3 or 5 (1-D), 3 x 3 or 5 x 5 in fewer multiplications: 6 instead of 12 for 4 outputs of a row,
// 36 instead of 144 for a tile of 4 x 4; under kernels of 5 and 5 x 5, 6 instead of 10 for 2 outputs, 36 instead of 100 for 2 x 2.
// A cube of 3 is the sum of its slices: as many times the channels. With stride 2 a kernel of 3 is the sum of one of 2 over the even
// pixels and one of 1 over the odd ones, 11 products instead of 15 for 5 outputs (winograd_tiles.h).
// Internal; conv.c chooses between this and taps.h.
//
//   Y = A' [ (G w G') * (B' d B) ] A        d: the 6 x 6 pixels that a tile reads, * element by element
//
// (Winograd 1980; Lavin and Gray 2016.) The points are 0, +-3/4, +-3/2 and infinity: coefficients of d and Y are exact in
// float32, and the error stays near 1e-6 of the largest output where the usual 0, +-1, +-2 give 1e-5.
//
// Tiles are counted from the first valid row and column of each sample, so an output does not know how much padding surrounds
// its sample; what is left at the end of the valid part is a smaller tile: m outputs need m + 2 of the points along an axis (m + 4), so a
// part of 9 x 9 costs 15 x 15 products, not 18 x 18; what lies beside it but sees it has tiles as narrow as the kernel's reach, and
// where they see one line of pixels, one product along that axis: the other points are 0, or say the same.
// Whether a sample is worth it depends on the extent of its valid part and on the channels alone, so the sample does not know its
// batch either. A tile without an active output is skipped. Channels add up in blocks of MT_TILE_K, as in taps.h; the products of
// a tile do not depend on other tiles.
//
// The gradient of the weights is the adjoint of the same three steps: G' [ sum over tiles of (B' d B) * (A dY A') ] G. Active
// tiles add up in order, in blocks of a fixed number of them: padding has none.
#pragma once
#include "taps.h"

// A problem is one sum, or several that share everything but their taps and where they write: those of the pixels that share
// their remainder modulo the stride, in the gradient of a strided convolution's input.
enum { MT_WINOGRAD_SUMS = 4 };

// float32; windows of 2, 3 or 5 with stride 1 or of 3 to 5 with stride 2, each axis its own, in one or two axes, or of 3 x 3 x 3 with
// stride 1; dilation 1. A multiple of 16 channels in three axes and for one sum with stride 2. `forced`: however few channels there are.
bool mt_winograd_suits(const mt_taps *sum, int32_t sums, bool forced);

// The sums of taps.h, for every sample this way or, where it is small, directly.
int mt_winograd_sum(const mt_taps *sum, int32_t sums, bool forced);

// Likewise for mt_taps_gradient: the samples that are worth it must have enough tiles. The others' gradients are added up first.
bool mt_winograd_gradient_suits(const mt_taps *t, bool forced);
int mt_winograd_gradient(const mt_taps *t, bool forced);
