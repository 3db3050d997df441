// checked: size arithmetic that cannot wrap. Every product of sizes goes through here.
#pragma once
#include <stdbool.h>
#include <stdint.h>

// *out = a * b; false when it does not fit.
static inline bool mt_mul(int64_t *out, int64_t a, int64_t b) { return !__builtin_mul_overflow(a, b, out); }
static inline bool mt_add(int64_t *out, int64_t a, int64_t b) { return !__builtin_add_overflow(a, b, out); }

// *out = product of the sizes, each >= 0. A size of 0 does not excuse the others: {0, 2^62, 2^62} is refused.
static inline bool mt_numel(int64_t *out, int32_t ndim, const int64_t *shape) {
  int64_t product = 1, n = 1;
  for (int32_t d = 0; d < ndim; d++) {
    if (shape[d] < 0 || !mt_mul(&product, product, shape[d] > 0 ? shape[d] : 1)) {
      return false;
    }
    n *= shape[d];
  }
  *out = n;
  return product <= INT64_MAX / 16;
}
