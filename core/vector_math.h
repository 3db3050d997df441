// vector_math: exp, log and their kin without branches or calls, so that a loop over neighbours becomes vector code. Internal.
//
// float32 is computed in float32, sixteen to a vector of 64 bytes. Every function is one sequence of additions, multiplications and
// divisions, each rounded, and of integer operations on the bits: no fused operation (-ffp-contract=off, --fmad=false), which some
// processors lack, so results have the same bits on every instruction set and on the GPU. float64 stays with the C library.
//
// Largest errors in units of the last place, subnormal results included, from sweeps over all magnitudes (tests/vector_math_spec.lua):
//   exp 1.0, expm1 1.1, log 0.9, log1p 1.5, log2 1.4, tanh 1.2, log(1 + e^x) 1.7
//   logistic, and x logistic(x): 1.7; 2.5 below -16
//   x Phi(x): 6; 9e-8 of the larger of |x| and 1
// Slopes, which cross 0: 2e-7.
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
// depend on it: without contraction every element is the same sequence of rounded operations. Files that the Makefile builds per
// instruction set have one already.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && !defined(TILE_NAME)
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

MT_VECTOR float mt_float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

MT_VECTOR uint32_t mt_float_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

// ---- float32: exponentials -----------------------------------------------------------------------------------------
// e^x = 2^n e^r, |r| <= ln(2) / 2. Polynomials were fitted to the smallest relative error and end in float32 coefficients; pairs of their
// terms are summed side by side, which is what a processor waits for least.

// Adding it leaves the nearest whole number in the low bits: 1.5 * 2^23.
#define MT_ROUND 12582912.0f
// ln 2 in two parts, the first exact in products with n
#define MT_LN2_HIGH 0.693359375f
#define MT_LN2_LOW -2.12194440e-4f

// (e^r - 1 - r) / r^2; 3e-9 of e^r
MT_VECTOR float mt_bend(float r) {
  const float s = r * r;
  return (0.49999994f + 0.166665211f * r) + s * ((0.0416682921f + 0.00836871564f * r) + s * 0.00138186978f);
}

// e^(x + low) = (1 + *grown) * 2^n; returns the float whose bits end in n. low is what rounding took from x.
MT_VECTOR float mt_reduced(float x, float low, float *grown) {
  const float shifted = x * 1.44269504f + MT_ROUND, n = shifted - MT_ROUND, r = (x - n * MT_LN2_HIGH) - (n * MT_LN2_LOW - low);
  *grown = r + r * r * mt_bend(r);
  return shifted;
}

// 2^(n + more), which has to be a normal number
MT_VECTOR float mt_power(float shifted, int32_t more) { return mt_float_of((mt_float_bits(shifted) + (uint32_t)(127 + more)) << 23); }

MT_VECTOR float mt_exp_f32(float given) {
  const float low = given < -104 ? -104 : given, x = low > 89 ? 89 : low;
  float grown;
  const int32_t n = (int32_t)(mt_float_bits(mt_reduced(x, 0, &grown)) - mt_float_bits(MT_ROUND)), half = n >> 1;
  // Two steps: 2^n alone may be beyond the type where the result is not.
  return (1 + grown) * mt_float_of((uint32_t)(half + 127) << 23) * mt_float_of((uint32_t)(n - half + 127) << 23);
}

// e^-(a + low) for a >= 0: one power of 2 and a constant do.
MT_VECTOR float mt_decay(float given, float low) {
  const float a = given > 104 ? 104 : given;
  float grown;
  const float power = mt_power(mt_reduced(-a, -low, &grown), 64);
  return (1 + grown) * power * 0x1p-64f;
}

// e^x - 1. r keeps what rounding took from it, and the sum with the power what that took.
MT_VECTOR float mt_expm1_f32(float given) {
  const float low = given < -20 ? -20 : given, x = low > 89 ? 89 : low;
  const float shifted = x * 1.44269504f + MT_ROUND, n = shifted - MT_ROUND, high = x - n * MT_LN2_HIGH, rest = n * MT_LN2_LOW;
  const float r = high - rest, lost = (high - r) - rest, q = lost + r * r * mt_bend(r);
  const float power = mt_power(shifted, -1), base = power - 0.5f, step = power * r, sum = base + step;  // halves: 2^128 is too large
  const float y = 2 * (sum + (((base - sum) + step) + power * q));
  return fabsf(given) < 1e-8f ? given : y;
}

// ---- float32: logarithms -------------------------------------------------------------------------------------------

// log(1 + f) - f for 1 + f from sqrt(1/2) to sqrt(2); 1e-9 of log(1 + f)
MT_VECTOR float mt_log_bend(float f) {
  const float s = f * f;
  const float far = (0.142203107f - 0.124061137f * f) + s * ((0.11883872f - 0.116711877f * f) + s * 0.0674988553f);
  return s * (f * ((0.333333135f - 0.250000089f * f) + s * ((0.20002073f - 0.166679919f * f) + s * far)) - 0.5f);
}

// n log(2) + log(1 + f)
MT_VECTOR float mt_log_sum(float n, float f) {
  const float high = n * MT_LN2_HIGH, sum = high + f;
  return sum + (((high - sum) + f) + (mt_log_bend(f) + n * MT_LN2_LOW));
}

// x = 2^n m, m from sqrt(1/2) to sqrt(2); for x > 0 and normal
MT_VECTOR int32_t mt_exponent(float x, float *m) {
  const uint32_t bits = mt_float_bits(x), above = bits - 0x3f3504f3u;  // of sqrt(1/2)
  *m = mt_float_of(bits - (above & 0xff800000u));
  return (int32_t)above >> 23;
}

// What replaces the logarithm y where x is no number above 0; Inf and NaN are their own.
MT_VECTOR float mt_log_edge(float x, float y) {
  const float edge = x == 0 ? -INFINITY : x < 0 ? NAN : x;
  return x > 0 && x < INFINITY ? y : edge;
}

MT_VECTOR float mt_normal_number(float x, float *steps) {
  const float factor = x < 1.17549435e-38f ? 33554432.0f : 1.0f;  // 2^25: no longer subnormal
  *steps = x < 1.17549435e-38f ? 25.0f : 0.0f;
  return x * factor;
}

MT_VECTOR float mt_log_f32(float x) {
  float steps, m;
  const int32_t n = mt_exponent(mt_normal_number(x, &steps), &m);
  return mt_log_edge(x, mt_log_sum((float)n - steps, m - 1));
}

MT_VECTOR float mt_log2_f32(float x) {
  float steps, m;
  const int32_t k = mt_exponent(mt_normal_number(x, &steps), &m);
  const float n = (float)k - steps, f = m - 1, s = f * f;
  // log2(1 + f) = f + f (log2(e) - 1) + f^2 p(f); 7e-9
  const float far = (-0.239567354f + 0.204486579f * f) + s * ((-0.191390827f + 0.187088192f * f) - s * 0.110255897f);
  const float bend = f * 0.442695041f + s * ((-0.721347332f + 0.480898201f * f) + s * ((-0.36069867f + 0.288571417f * f) + s * far));
  const float sum = n + f;
  return mt_log_edge(x, sum + (((n - sum) + f) + bend));
}

// 1 + x = 2^n m, and m - 1 = 2^-n x + (2^-n - 1) has lost nothing of x.
MT_VECTOR float mt_log1p_f32(float x) {
  float m;
  const float u = 1 + x;
  const int32_t n = mt_exponent(u, &m);
  const float power = mt_float_of((uint32_t)(127 - n) << 23), near = x * power + (power - 1);
  const float y = mt_log_edge(u, mt_log_sum((float)n, x < 16777216.0f ? near : m - 1));
  return fabsf(x) < 1e-8f ? x : y;
}

// ---- float32: sigmoids ---------------------------------------------------------------------------------------------
// 1 + e^-x = (1 + 2^n) + 2^n grown: nothing is lost between the exponential and the sum. All of it is multiplied by 2^-40, so that the
// powers stay in the type down to where e^x ends. Above MT_SATURATED 1 + e^-x is 1.

#define MT_SATURATED 30
#define MT_LOGISTIC_UNIT 0x1p-40f

// 2^-40 (1 + e^-(x + low)), x from -114 to 59; *power: 2^-40 e^-(x + low)
MT_VECTOR float mt_logistic_divisor(float x, float low, float *power) {
  float grown;
  const float p = mt_power(mt_reduced(-x, -low, &grown), -40), step = p * grown;
  *power = p + step;
  return (MT_LOGISTIC_UNIT + p) + step;
}

MT_VECTOR float mt_logistic_f32(float x) {
  float unused;
  const float y = MT_LOGISTIC_UNIT / mt_logistic_divisor(x < -114 ? -114 : x, 0, &unused);
  return x > MT_SATURATED ? 1 : y;
}

// x logistic(t + low), where t below 0 comes with x > -1000
MT_VECTOR float mt_times_logistic_f32(float x, float t, float low) {
  float unused;
  const float y = x / mt_logistic_divisor(t < -114 ? -114 : t, low, &unused) * MT_LOGISTIC_UNIT;
  return t > MT_SATURATED ? x : y;
}

// d(x logistic(t + low)) / dx, slope = dt/dx: s + x s (1 - s) slope
MT_VECTOR float mt_times_logistic_slope_f32(float x, float t, float low, float slope) {
  float power;
  const float q = 1 / mt_logistic_divisor(t < -114 ? -114 : t, low, &power);
  const float y = q * (1 + x * slope * (power * q)) * MT_LOGISTIC_UNIT;
  return t > MT_SATURATED ? 1 : y;
}

// log(1 + e^-(a + low)), a >= 0
MT_VECTOR float mt_log1p_decay_f32(float a, float low) {
  const float e = mt_decay(a, low), half = e > 0.414213562f ? 0.5f : 1;  // 1 + e = (1 + f) / half
  return mt_log_sum(2 - 2 * half, half * e + (half - 1));
}

// Near 0 an odd polynomial, 5e-9 of tanh(x); elsewhere 1 - 2 / (1 + e^2x).
MT_VECTOR float mt_tanh_f32(float x) {
  const float a = fabsf(x), b = a > 10 ? 10 : a, s = a * a, s2 = s * s;
  float grown;
  const float power = mt_power(mt_reduced(2 * b, 0, &grown), 0), far = 1 - 2 / ((1 + power) + power * grown);
  const float p = (-0.333332807f + 0.133314058f * s) + s2 * ((-0.0537365153f + 0.0206281673f * s) - s2 * 0.0056922962f);
  return copysignf(a < 0.625f ? a + a * s * p : far, x);
}

// ---- float32: the normal distribution --------------------------------------------------------------------------------
// Phi(-a) = e^(-a^2 / 2) q(a), q = r p(t), r = 1 / (a + 2), t = 1 - 4 r. Beyond MT_NORMAL_END both are 0.

#define MT_NORMAL_END 15

// a from 0 to MT_NORMAL_END; returns 2^-64 q, and *e = 2^64 e^(-a^2 / 2): a e q is rounded once where it is subnormal. The square
// is taken in two parts: half a unit of its last place would be many units of the exponential's.
MT_VECTOR float mt_normal_tail(float a, float *e) {
  const float part = mt_float_of(mt_float_bits(a) & 0xfffff000u), high = part * part * -0.5f, low = (a - part) * (a + part) * -0.5f;
  const float shifted = high * 1.44269504f + MT_ROUND, n = shifted - MT_ROUND;
  const float x = (high - n * MT_LN2_HIGH) + (low - n * MT_LN2_LOW);
  *e = (1 + (x + x * x * mt_bend(x))) * mt_power(shifted, 64);
  const float r = 0x1p-64f / (a + 2), t = 1 - 0x1p66f * r, s = t * t, s2 = s * s;
  const float even = (0.672407985f + 0.0287983362f * s) + s2 * ((-0.000482397649f - 0.00189263443f * s) + s2 * (0.000725670485f - 7.65378572e-05f * s));
  const float odd = (-0.331404448f + 0.0367203802f * s) + s2 * ((-0.00674743811f + 0.00087854563f * s) + s2 * 3.34089491e-05f);
  return (even + t * odd) * r;
}

// x Phi(x) = max(x, 0) - |x| Phi(-|x|)
MT_VECTOR float mt_times_normal_f32(float x) {
  const float b = fabsf(x), a = b > MT_NORMAL_END ? MT_NORMAL_END : b;
  float e;
  const float q = mt_normal_tail(a, &e);
  return (x < 0 ? 0 : x) - a * e * q;
}

// Phi(x) + x phi(x); of -x it is 1 less that.
MT_VECTOR float mt_times_normal_slope_f32(float x) {
  const float b = fabsf(x), a = b > MT_NORMAL_END ? MT_NORMAL_END : b;
  float e;
  const float q = mt_normal_tail(a, &e), below = e * (q - a * (0.398942280f * 0x1p-64f));
  return x < 0 ? below : 1 - below;
}

// ---- float64: the C library ------------------------------------------------------------------------------------------

MT_VECTOR double mt_exp_f64(double x) { return exp(x); }
MT_VECTOR double mt_expm1_f64(double x) { return expm1(x); }
MT_VECTOR double mt_log_f64(double x) { return log(x); }
MT_VECTOR double mt_log1p_f64(double x) { return log1p(x); }
MT_VECTOR double mt_log2_f64(double x) { return log2(x); }
MT_VECTOR double mt_tanh_f64(double x) { return tanh(x); }
MT_VECTOR double mt_log1p_decay_f64(double a, double low) { return log1p(exp(-(a + low))); }

// exp(x) / (1 + exp(x)) where x < 0 keeps full accuracy in the tail. A look-up, not a branch: signs are random.
MT_VECTOR double mt_logistic_f64(double x) {
  const double e = exp(-fabs(x)), above[2] = {1, e};
  return above[x < 0] / (1 + e);
}

MT_VECTOR double mt_times_logistic_f64(double x, double t, double low) {
  (void)low;
  return x * mt_logistic_f64(t);
}

MT_VECTOR double mt_times_logistic_slope_f64(double x, double t, double low, double slope) {
  const double s = mt_logistic_f64(t), y = s + x * s * mt_logistic_f64(-t) * slope;
  (void)low;
  return t > 1000 ? 1 : y;
}

MT_VECTOR double mt_times_normal_f64(double x) { return (x < -1000 ? -1000 : x) * 0.5 * erfc(x * -0.70710678118654752440); }

MT_VECTOR double mt_times_normal_slope_f64(double x) {
  const double a = x < -1000 ? -1000 : x, b = a > 1000 ? 1000 : a;
  return 0.5 * erfc(x * -0.70710678118654752440) + b * exp(-0.5 * b * b) * 0.39894228040143267794;
}

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
