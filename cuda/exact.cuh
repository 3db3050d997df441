// exact: sums of doubles that do not depend on the order, nor on zeros among them. Internal.
//
// Every number is cut into three whole numbers of 32 bits relative to the largest one; whole numbers add without rounding. What is
// lost lies 96 bits below the largest number. So partial sums may be made by any cut of the work into blocks, and promise 2 (masked
// positions change no bit) holds wherever they stand.
#pragma once
#include "lines.cuh"

// By a block of MT_SLOTS threads; the sum of v[0], v[step], ... in each of them. n < 2^30 times MT_SLOTS.
MT_DEVICE double mt_exact_sum(const double *v, int64_t n, int64_t step) {
  const mt_block_team team(n);
  const double most = team.largest(0.0, [&](int64_t i) { return fabs(v[i * step]); });
  if (!(most < INFINITY)) {  // NaN, Inf, or NaN where infinities of both signs meet: in any order
    return team.sum([&](int64_t i) { return v[i * step] - v[i * step] == 0 ? 0.0 : v[i * step]; });
  }
  if (most == 0) {
    return 0;
  }
  const int e = ilogb(most) + 1;
  long long word[3] = {0, 0, 0};
  team.each([&](int64_t i) {
    double rest = ldexp(v[i * step], 32 - e);
    for (int k = 0; k < 3; k++) {
      const double whole = trunc(rest);
      word[k] += (long long)whole;
      rest = (rest - whole) * 4294967296.0;
    }
  });
  for (int k = 0; k < 3; k++) {
    word[k] = mt_block_sum(word[k]);
  }
  for (int k = 2; k > 0; k--) {
    word[k - 1] += word[k] >> 32;
    word[k] &= 0xFFFFFFFFll;
  }
  return ldexp(((double)word[2] / 4294967296.0 + (double)word[1]) / 4294967296.0 + (double)word[0], e - 32);
}
