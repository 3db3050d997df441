// philox_blocks: many blocks of Philox at once. Internal.
#pragma once
#include <stdint.h>

// words[2 b] and words[2 b + 1] = the words 0, 1 and 2, 3 of block first + b (the first of two in the low half), b < count.
void mt_philox_blocks(uint64_t *words, uint64_t seed, uint64_t call, uint64_t first, int64_t count);
