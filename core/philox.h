// philox: the counter-based generator Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3;
// SC 2011) and the transforms of its words. Internal; C and CUDA compile the same text, and it uses nothing but exactly rounded
// operations (+ - * / sqrt and integers), so both give the same bits.
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define MT_PORTABLE static inline __host__ __device__
#else
#define MT_PORTABLE static inline
#endif

MT_PORTABLE void mt_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]) {
  uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];
  for (int round = 0; round < 10; round++) {
    const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
    c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
    c1 = (uint32_t)p1;
    c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
    c3 = (uint32_t)p0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

// Block number `block` of a call: key = seed, counter = (block low, block high, call low, call high).
MT_PORTABLE void mt_philox_block(uint32_t out[4], uint64_t seed, uint64_t call, uint64_t block) {
  const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)call, (uint32_t)(call >> 32)};
  const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
  mt_philox(out, counter, key);
}

// The 64 bits of words 2 * half and 2 * half + 1.
MT_PORTABLE uint64_t mt_philox_long(const uint32_t words[4], int half) {
  return (uint64_t)words[2 * half + 1] << 32 | words[2 * half];
}

// log(2^k * m) for m in [sqrt(1/2), sqrt(2)): log m = 2 atanh(s), s = (m - 1) / (m + 1), by its series.
MT_PORTABLE double mt_random_log_of(double k, double m) {
  const double s = (m - 1) / (m + 1), z = s * s;
  double p = 1.0 / 23;
  p = p * z + 1.0 / 21;
  p = p * z + 1.0 / 19;
  p = p * z + 1.0 / 17;
  p = p * z + 1.0 / 15;
  p = p * z + 1.0 / 13;
  p = p * z + 1.0 / 11;
  p = p * z + 1.0 / 9;
  p = p * z + 1.0 / 7;
  p = p * z + 1.0 / 5;
  p = p * z + 1.0 / 3;
  return k * 0.69314718055994530942 + (2 * s + 2 * s * (z * p));
}

// Natural logarithm of 0 < u <= 1 (normal numbers): u = 2^k * m. Error below 1.5 ulp.
MT_PORTABLE double mt_random_log(double u) {
  int64_t bits;
  memcpy(&bits, &u, sizeof bits);
  // 0x3FE6A09E667F3BCD is sqrt(1/2).
  const int64_t k = (bits - 0x3FE6A09E667F3BCDLL) >> 52;
  bits -= k * (1LL << 52);
  double m;
  memcpy(&m, &bits, sizeof m);
  return mt_random_log_of((double)k, m);
}

// Sine and cosine of 2 pi v for 0 <= v < 1: v = q / 4 + r, |r| <= 1/8, by Taylor's series. Error below 1.5 ulp of 1.
MT_PORTABLE void mt_random_sincos(double *sine, double *cosine, double v) {
  const int q = (int)(4 * v + 0.5);
  const double t = (v - 0.25 * q) * 6.28318530717958647692, z = t * t;
  double s = 1.0 / 355687428096000.0;
  s = s * z - 1.0 / 1307674368000.0;
  s = s * z + 1.0 / 6227020800.0;
  s = s * z - 1.0 / 39916800;
  s = s * z + 1.0 / 362880;
  s = s * z - 1.0 / 5040;
  s = s * z + 1.0 / 120;
  s = s * z - 1.0 / 6;
  s = t + t * (z * s);
  double c = 1.0 / 20922789888000.0;
  c = c * z - 1.0 / 87178291200.0;
  c = c * z + 1.0 / 479001600;
  c = c * z - 1.0 / 3628800;
  c = c * z + 1.0 / 40320;
  c = c * z - 1.0 / 720;
  c = c * z + 1.0 / 24;
  c = 1 - z / 2 + z * z * c;
  *sine = q & 1 ? c : s;
  *cosine = q & 1 ? s : c;
  *sine = q & 2 ? -*sine : *sine;
  *cosine = (q + 1) & 2 ? -*cosine : *cosine;
}

// Two independent standard normal numbers from 0 < u <= 1 and 0 <= v < 1 (Box and Muller).
MT_PORTABLE void mt_random_normal_pair(double z[2], double u, double v) {
  double sine, cosine;
  const double radius = sqrt(-2 * mt_random_log(u));
  mt_random_sincos(&sine, &cosine, v);
  z[0] = radius * cosine;
  z[1] = radius * sine;
}

__extension__ typedef unsigned __int128 mt_wide;

// A number below `span` (0 stands for 2^64), each equally likely: the high half of x * span, where x is drawn again while the
// low half lies among the 2^64 mod span values that would favour some numbers (Lemire, Fast random integer generation in an
// interval, 2019).
MT_PORTABLE uint64_t mt_random_below(uint64_t span, uint64_t seed, uint64_t call, int64_t element, uint64_t x) {
  for (uint64_t attempt = 1;; attempt++) {
    if (span == 0) {
      return x;
    }
    const mt_wide product = (mt_wide)x * span;
    if ((uint64_t)product >= span || (uint64_t)product >= (0 - span) % span) {
      return (uint64_t)(product >> 64);
    }
    uint32_t words[4];
    mt_philox_block(words, seed, call, (uint64_t)element / 2 + (attempt << 56));
    x = mt_philox_long(words, (int)(element % 2));
  }
}
