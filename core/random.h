// random: numbers from Philox4x32-10. A call is identified by a seed (the key) and a call number (counter words 2 and 3); its
// elements are numbered in row-major order whatever the memory format. Element i takes word i mod 4 of block i / 4, or, where it
// needs 64 bits (float64, whole numbers), words 2 (i mod 2) and 2 (i mod 2) + 1 of block i / 2. So any slice can be made
// anywhere, and threads do not matter.
#pragma once
#include "tensor.h"

#pragma GCC visibility push(default)

typedef struct mt_random {
  uint64_t seed;
  uint64_t call;
  int64_t first;   // the number of the tensor's first element: 0, or where a slice begins
} mt_random;

// out[4] = Philox4x32-10 of counter[4] under key[2]. For tests.
int mt_random_philox(uint32_t *out, const uint32_t *counter, const uint32_t *key);

// t = low + (high - low) * u with u = k * 2^-24 (float32) or k * 2^-53 (float64) in [0, 1); never high unless low = high.
int mt_random_uniform(mt_tensor *t, const mt_random *random, double low, double high);

// t = mean + std * z, z standard normal: elements 2 j and 2 j + 1 are cosine and sine of one Box-Muller pair, computed in double
// (error below 3e-15 (1 + |z|)) from two 32-bit (float32) or 53-bit (float64) uniforms; |z| stays below 6.67 and 8.58.
int mt_random_normal(mt_tensor *t, const mt_random *random, double mean, double std);

// t (int64): whole numbers low..high, both included, each exactly equally likely (rejection; attempt a of an element reads
// block + a * 2^56).
int mt_random_integers(mt_tensor *t, const mt_random *random, int64_t low, int64_t high);

// t (bool): 1 with probability p, to 2^-32.
int mt_random_bernoulli(mt_tensor *t, const mt_random *random, double p);

// t (n) int64: a random order of 1..n (Fisher and Yates; step i draws like element i of mt_random_integers).
int mt_random_permutation(mt_tensor *t, const mt_random *random);

#pragma GCC visibility pop
