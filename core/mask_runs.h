// mask_runs: where the holes of a mask begin and end. Internal.
#pragma once
#include "common.h"

// The first i of [i, n) where the mask is 0 (hole) or is not (!hole), or n. m: its first element, of `size` bytes: 1 (bool), 4 or 8
// (floating); step: from one to the next in bytes.
static inline int64_t mt_mask_next(const char *m, int64_t step, int64_t size, int64_t i, int64_t n, bool hole) {
  if (size == 1) {
    const uint64_t ones = 0x0101010101010101u;
    for (uint64_t w; step == 1 && i + 8 <= n; i += 8) {
      memcpy(&w, m + i, sizeof w);
      if (hole ? (w - ones) & ~w & (ones << 7) : w) {  // some byte is 0; some is not
        break;
      }
    }
    while (i < n && (m[i * step] == 0) != hole) i++;
    return i;
  }
  if (!hole && step == size) {  // 32 bytes of zeros, of either sign, at a time
    const uint64_t value = size == 4 ? 0x7FFFFFFF7FFFFFFFu : INT64_MAX;
    for (uint64_t w[4]; i + 32 / size <= n; i += 32 / size) {
      memcpy(w, m + i * size, sizeof w);
      if ((w[0] | w[1] | w[2] | w[3]) & value) {
        break;
      }
    }
  }
  if (size == 4) {
    while (i < n && (*(const float *)(m + i * step) == 0) != hole) i++;
  } else {
    while (i < n && (*(const double *)(m + i * step) == 0) != hole) i++;
  }
  return i;
}
