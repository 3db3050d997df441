// vector_math: exp, log and their kin without branches or calls, so that a loop over neighbours becomes vector code. Internal.
//
// float32 results are computed in double by short polynomials and rounded once: at most 0.51 ulp from the exact value (tested).
// float64 stays with the C library, whose functions are exact to about 1 ulp.
// Functions named mt_wide_* take and give a double good for a float32 result: relative error below 1e-9.
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

// nvcc compiles the same text for the device, so that float32 results have the same bits there.
#ifdef __CUDACC__
#define MT_VECTOR static __host__ __device__ __forceinline__
#else
#define MT_VECTOR static inline __attribute__((always_inline))
#endif

// The loops are built for two instruction sets and the machine's best is taken when the library is loaded. Bits do not
// depend on it: without contraction every element is the same sequence of rounded operations.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define MT_CLONES __attribute__((target_clones("avx2", "default")))
#define MT_CLONES_512 __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define MT_CLONES
#define MT_CLONES_512
#endif

MT_VECTOR double mt_double_of(uint64_t bits) {
  double x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

MT_VECTOR uint64_t mt_bits_of(double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

// e^x = 2^n e^r, |r| <= ln(2) / 2; Taylor to r^8 (2e-10). Beyond +-200, where float32 has long been 0 or Inf, so is this.
MT_VECTOR double mt_wide_exp(double given) {
  const double round = 6755399441055744.0;  // 1.5 * 2^52: adding it leaves the nearest whole number in the low bits
  const double low = given < -200 ? -200 : given, x = low > 200 ? 200 : low;
  const double shifted = x * 1.4426950408889634 + round, n = shifted - round;
  const double r = x - n * 0.693147180559945286 - n * 2.3190468138462996e-17;
  double p = 1.0 / 40320;
  p = p * r + 1.0 / 5040;
  p = p * r + 1.0 / 720;
  p = p * r + 1.0 / 120;
  p = p * r + 1.0 / 24;
  p = p * r + 1.0 / 6;
  p = p * r + 0.5;
  p = p * r + 1;
  p = p * r + 1;
  const double y = p * mt_double_of((mt_bits_of(shifted) + 1023) << 52), above = given > 200 ? INFINITY : y;
  return given < -200 ? 0 : above;
}

// log(x) = n log(2) + 2 atanh(s), s = (m - 1) / (m + 1), m in [sqrt(1/2), sqrt(2)); for x > 0 and not subnormal (no float32 is
// subnormal as a double).
MT_VECTOR double mt_positive_log(double x) {
  const uint64_t bits = mt_bits_of(x), above = bits - 0x3fe6a09e667f3bcdULL;  // of sqrt(1/2)
  const double m = mt_double_of(bits - (above & 0xfff0000000000000ULL));
  // The exponent as a double: 52 bits of a number near 2^52, then subtract. The bias keeps it positive.
  const double n = mt_double_of(0x4330000000000000ULL | ((above + 0x4000000000000000ULL) >> 52)) - 4503599627371520.0;
  const double s = (m - 1) / (m + 1), t = s * s;
  double p = 1.0 / 13;
  p = p * t + 1.0 / 11;
  p = p * t + 1.0 / 9;
  p = p * t + 1.0 / 7;
  p = p * t + 1.0 / 5;
  p = p * t + 1.0 / 3;
  return n * 0.693147180559945309 + 2 * (s + s * t * p);
}

MT_VECTOR double mt_wide_log(double x) {
  const double y = mt_positive_log(x);
  const double edge = x == 0 ? -INFINITY : x < 0 ? NAN : x;  // Inf and NaN are their own logarithms
  return x > 0 && x < INFINITY ? y : edge;
}

// Near 0 the difference from 1 cancels; three terms of the series are exact enough there.
MT_VECTOR double mt_wide_expm1(double x) {
  const double far = mt_wide_exp(x) - 1, near = x + x * x * (0.5 + x * (1.0 / 6));
  return fabs(x) < 1e-4 ? near : far;
}

MT_VECTOR double mt_wide_log1p(double x) {
  const double far = mt_wide_log(1 + x), near = x - x * x * (0.5 - x * (1.0 / 3));
  return fabs(x) < 1e-4 ? near : far;
}

MT_VECTOR double mt_wide_log2(double x) { return mt_wide_log(x) * 1.4426950408889634074; }

MT_VECTOR double mt_wide_logistic(double x) { return 1 / (1 + mt_wide_exp(-x)); }

MT_VECTOR double mt_wide_tanh(double x) {
  const double a = fabs(x), e = mt_wide_exp(-2 * a), far = (1 - e) / (1 + e);
  const double t = x * x, near = a - a * t * (1.0 / 3 - t * (2.0 / 15 - t * (17.0 / 315)));
  return copysign(a < 0.01 ? near : far, x);
}

// log(1 + e^x)
MT_VECTOR double mt_wide_softplus(double x) {
  const double e = mt_wide_exp(-fabs(x)), far = mt_positive_log(1 + e), near = e - e * e * (0.5 - e * (1.0 / 3));
  const double y = (x > 0 ? x : 0) + (e < 1e-4 ? near : far);
  return x != x ? x : y;
}

// erfc(x) = e^(-x^2) r p(t), r = 1 / (|x| + 2), t = 1 - 4 r, and 2 less that where x < 0. p interpolates at 16 Chebyshev points
// of t in [-1, 1], which is all x >= 0: relative error 1e-11 besides that of the exponential, down to where float32 ends.
MT_VECTOR double mt_wide_erfc(double x) {
  const double a = fabs(x), r = 1 / (a + 2), t = 1 - 4 * r;
  double p = 2.1356738386657526e-06;
  p = p * t + 2.3603871284194611e-06;
  p = p * t - 1.3208789610530403e-05;
  p = p * t - 2.5279400311717382e-05;
  p = p * t + 3.1567972026635971e-05;
  p = p * t + 0.00014673589595304293;
  p = p * t + 3.5601375011129477e-05;
  p = p * t - 0.00066394635350963682;
  p = p * t - 0.00083761122932429766;
  p = p * t + 0.003090806663185619;
  p = p * t + 0.0064792245753933497;
  p = p * t - 0.021510684225487769;
  p = p * t - 0.03644223339036682;
  p = p * t + 0.27947209357178221;
  p = p * t - 0.68716068439909195;
  p = p * t + 1.0215827052341608;
  const double y = mt_wide_exp(-a * a) * r * p;
  return x < 0 ? 2 - y : y;
}

// In typed code (twice.h): FN(mt_exp) and so on take and give the type's own precision, FN(mt_wide_...) doubles.
#define MT_VECTOR_MATH(name, library)                                                  \
  MT_VECTOR float mt_##name##_f32(float x) { return (float)mt_wide_##name((double)x); } \
  MT_VECTOR double mt_##name##_f64(double x) { return library(x); }                    \
  MT_VECTOR double mt_wide_##name##_f32(double x) { return mt_wide_##name(x); }        \
  MT_VECTOR double mt_wide_##name##_f64(double x) { return library(x); }

// exp(x) / (1 + exp(x)) where x < 0 keeps full accuracy in the tail. A look-up, not a branch: signs are random.
MT_VECTOR double mt_exact_logistic(double x) {
  const double e = exp(-fabs(x)), above[2] = {1, e};
  return above[x < 0] / (1 + e);
}

MT_VECTOR double mt_exact_softplus(double x) { return (x > 0 ? x : 0) + log1p(exp(-fabs(x))); }

MT_VECTOR_MATH(exp, exp)
MT_VECTOR_MATH(erfc, erfc)
MT_VECTOR_MATH(softplus, mt_exact_softplus)
MT_VECTOR_MATH(expm1, expm1)
MT_VECTOR_MATH(log, log)
MT_VECTOR_MATH(log1p, log1p)
MT_VECTOR_MATH(log2, log2)
MT_VECTOR_MATH(tanh, tanh)
MT_VECTOR_MATH(logistic, mt_exact_logistic)
#undef MT_VECTOR_MATH

// a * b + c, rounded once in files that ask for it (MT_FUSED) and are built for processors that can.
#if defined(MT_FUSED) && defined(__FP_FAST_FMAF)
#define MT_MULTIPLY_ADD(a, b, c) fmaf(a, b, c)
#else
#define MT_MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#endif

// e^x for x <= 0 where speed counts more than the last bit: at most 1.3 units of it wrong (tested), and 0 from -87.7 down.
MT_VECTOR float mt_quick_exp_f32(float given) {
  const float round = 12582912.0f;  // 1.5 * 2^23, as above
  const float x = given < -88 ? -88 : given;  // there the power of 2 below is 2^-127: its bits are those of 0
  const float shifted = MT_MULTIPLY_ADD(x, 1.44269504f, round), n = shifted - round;
  // ln 2 in two parts, the first exact in products
  const float r = MT_MULTIPLY_ADD(n, 2.12194440e-4f, MT_MULTIPLY_ADD(n, -0.693359375f, x));
  float p = 1.3926203e-3f;
  p = MT_MULTIPLY_ADD(p, r, 8.363195e-3f);
  p = MT_MULTIPLY_ADD(p, r, 4.1666554e-2f);
  p = MT_MULTIPLY_ADD(p, r, 1.6666577e-1f);
  p = MT_MULTIPLY_ADD(p, r, 0.5f);
  p = MT_MULTIPLY_ADD(p, r * r, r) + 1;
  uint32_t bits;
  float power;
  memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + 127) << 23;
  memcpy(&power, &bits, sizeof power);
  return p * power;
}
MT_VECTOR double mt_quick_exp_f64(double x) { return exp(x); }

// e[i] = mt_quick_exp(x[i] - shift), shift the largest x; returns the sum of all, added in order. e may be NULL, or the same memory as x.
double mt_exponentials_f32(float *e, int64_t e_step, const float *x, int64_t x_step, float shift, int64_t n);
double mt_exponentials_f64(double *e, int64_t e_step, const double *x, int64_t x_step, double shift, int64_t n);
