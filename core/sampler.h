// sampler: orders of samples that can be entered anywhere. What a sampler draws depends on a seed, an epoch and a position
// alone, so nothing has to be stored between batches and a position restores everything.
#pragma once
#include "tensor.h"

#pragma GCC visibility push(default)

// t (k) int64 = the elements first + 1 .. first + k of a pseudo-random order of 1..n. Memory is independent of n: 12 rounds of a
// generalised Feistel network on a x b >= n, a = the square root of n rounded up, with Philox4x32-10 as its round function, and
// cycle walking (Black and Rogaway, Ciphers with arbitrary finite domains, 2002). 1 <= n <= 2^62.
int mt_sampler_permutation(mt_tensor *t, uint64_t seed, uint64_t epoch, int64_t n, int64_t first);

// t (k) int64 = the elements first + 1 .. first + k of a sequence of independent numbers, each of 1..n equally likely.
int mt_sampler_replacement(mt_tensor *t, uint64_t seed, uint64_t epoch, int64_t n, int64_t first);

// t (k) int64: t[i] = a number from low to high[i], each equally likely (high[i] < low: high[i]), that depends on seed, epoch and
// key[i] alone. high and key (k) int64.
int mt_sampler_lengths(mt_tensor *t, uint64_t seed, uint64_t epoch, int64_t low, const mt_tensor *high, const mt_tensor *key);

#pragma GCC visibility pop
