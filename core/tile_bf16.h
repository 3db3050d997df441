// tile_bf16: the micro-kernel of tile.h for bfloat16 operands with float32 sums. Internal.
//
// Terms come in pairs, one 32-bit word each: the first term in the low half. A sum adds the second term of a pair, then the first,
// each product exact and each addition rounded once; sums below 2^-126 are 0. So the float32 micro-kernels, given the rounded
// operands in that order, make the same bits (but for sums below 2^-126): that is what machines without the instruction do.
#pragma once
#include "tile.h"

// acc[m * ld + l] += sum over i = 0 .. pairs-1 of a[i * a_step + m] . b[i * lanes + l], itself summed from 0; lanes: 4, 8, 16 or 32.
void mt_tile_bf16(float *acc, int64_t ld, const uint32_t *a, int64_t a_step, const uint32_t *b, int64_t pairs, int64_t rows,
                  int64_t lanes);
// kn rows of `lanes` values become (kn + 1) / 2 rows of words, in the first half of their memory.
void mt_tile_bf16_words(uint32_t *row, int64_t kn, int64_t lanes);
// Whether this process may call them: the instruction set is avx512 and the processor has it.
bool mt_tile_has_bf16(void);

// Rounds kn rows of `lanes` values, side by side in memory, to bfloat16, in place: to the nearest, ties to even, subnormal numbers
// to 0. pairs: as words, in the first half of the memory; otherwise as floats, the two of a pair exchanged.
void mt_bf16_round(float *block, int64_t kn, int64_t lanes, bool pairs);
