// norm_channels: see norm_channels.h. As wide as the instruction set's vectors of doubles. Several pixels side by side keep sums in
// registers for longer, but are no stream to the processor: what lies ahead is fetched in the order of memory, a line or two with
// each step.
#include "norm_problem.h"

#include "norm_channels.h"

#define REAL float
#define REAL_BITS 32
#define FN(name) name##_f32
#include "norm_gate.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

enum { AHEAD = 4096, SIDE = 4 };  // bytes; pixels

#if defined(__AVX512F__)
enum { W = 8 };
#else
enum { W = 4 };
#endif
typedef double wide __attribute__((vector_size(8 * W)));
typedef float narrow __attribute__((vector_size(4 * W)));
typedef long long wide_bits __attribute__((vector_size(8 * W)));
typedef int narrow_bits __attribute__((vector_size(4 * W)));

MT_INLINE wide load(const double *p) {
  wide v;
  memcpy(&v, p, sizeof v);
  return v;
}

MT_INLINE void store(double *p, wide v) { memcpy(p, &v, sizeof v); }

MT_INLINE wide widen(narrow v) {
#if defined(__AVX512F__)
  return (wide)_mm512_cvtps_pd((__m256)v);
#elif defined(__AVX2__)  // the compiler would convert two at a time
  return (wide)_mm256_cvtps_pd((__m128)v);
#else
  return __builtin_convertvector(v, wide);
#endif
}

MT_INLINE narrow round_off(wide v) {
#if defined(__AVX512F__)
  return (narrow)_mm512_cvtpd_ps((__m512d)v);
#elif defined(__AVX2__)
  return (narrow)_mm256_cvtpd_ps((__m256d)v);
#else
  return __builtin_convertvector(v, narrow);
#endif
}

MT_INLINE wide load_floats(const float *p) {
  narrow v;
  memcpy(&v, p, sizeof v);
  return widen(v);
}

// q + x y, where x y is exact: any instruction set has these bits.
MT_INLINE wide add_product(wide q, wide x, wide y) {
#if defined(__AVX512F__)
  return (wide)_mm512_fmadd_pd((__m512d)x, (__m512d)y, (__m512d)q);
#elif defined(__FMA__)
  return (wide)_mm256_fmadd_pd((__m256d)x, (__m256d)y, (__m256d)q);
#else
  return q + x * y;
#endif
}

// activate_f32
MT_INLINE narrow function(narrow y, int32_t activation, float a) {
  if (activation == MT_ACTIVATION_IDENTITY) {
    return y;
  }
#if defined(__AVX512F__)
  if (activation == MT_ACTIVATION_RELU) {
    return (narrow)_mm256_max_ps(_mm256_setzero_ps(), (__m256)y);  // the second where one is NaN or both are 0
  }
#elif defined(__AVX2__)
  if (activation == MT_ACTIVATION_RELU) {
    return (narrow)_mm_max_ps(_mm_setzero_ps(), (__m128)y);
  }
#endif
  if (activation == MT_ACTIVATION_RELU) {
    return (narrow)((narrow_bits)y & ~(y < 0));
  }
  const narrow_bits open = y > 0;
  return (narrow)(((narrow_bits)y & open) | ((narrow_bits)(y * a) & ~open));
}

// gated_f32
MT_INLINE wide gate(wide dy, wide y, int32_t activation, double a) {
  if (activation == MT_ACTIVATION_IDENTITY) {
    return dy;
  }
  wide shut = {0};
  if (activation == MT_ACTIVATION_LEAKY_RELU) {
    shut = widen(round_off(dy * a));
  }
#if defined(__AVX512F__)
  const __mmask8 open = _mm512_cmp_pd_mask((__m512d)y, _mm512_set1_pd(NORM_OPEN), _CMP_GT_OQ);
  return (wide)_mm512_mask_blend_pd(open, (__m512d)shut, (__m512d)dy);
#elif defined(__AVX2__)
  return (wide)_mm256_blendv_pd((__m256d)shut, (__m256d)dy, _mm256_cmp_pd((__m256d)y, _mm256_set1_pd(NORM_OPEN), _CMP_GT_OQ));
#else
  const wide_bits open = y > NORM_OPEN;
  return (wide)(((wide_bits)dy & open) | ((wide_bits)shut & ~open));
#endif
}

// The lines that SIDE pixels of W channels make, AHEAD of where step c is in memory when all steps follow each other.
MT_INLINE void fetch(const float *p, int64_t c) {
  const char *at = (const char *)p + c * (int64_t)(SIDE * sizeof(float)) + AHEAD;
  for (int k = 0; k < SIDE * W * (int)sizeof(float); k += 64) {
    __builtin_prefetch(at + k);
  }
}

// ---- sums -----------------------------------------------------------------------------------------------------------------

MT_INLINE void add_moments(double *sum, const float *x, int64_t C, const int32_t *at, int pixels) {
  const float *p[SIDE];
  for (int j = 0; j < pixels; j++) {
    p[j] = x + at[j] * C;
  }
  int64_t c = 0;
  for (; c + W <= C; c += W) {
    wide s = load(sum + c), q = load(sum + C + c);
    if (pixels == SIDE) {
      fetch(p[0], c);
    }
    for (int j = 0; j < pixels; j++) {
      const wide v = load_floats(p[j] + c);
      s += v;
      q = add_product(q, v, v);
    }
    store(sum + c, s);
    store(sum + C + c, q);
  }
  for (; c < C; c++) {
    for (int j = 0; j < pixels; j++) {
      const double v = p[j][c];
      sum[c] += v;
      sum[C + c] += v * v;
    }
  }
}

static void moments(double *sum, const float *x, int64_t C, const int32_t *at, int64_t n) {
  int64_t i = 0;
  for (; i + SIDE <= n; i += SIDE) {
    add_moments(sum, x, C, at + i, SIDE);
  }
  for (; i < n; i++) {
    add_moments(sum, x, C, at + i, 1);
  }
}

MT_INLINE void add_gradients(double *sum, const float *x, const float *dy, const norm_table *t, int64_t C, const int32_t *at,
                             int pixels, int32_t activation) {
  const float *p[SIDE], *from[SIDE];
  for (int j = 0; j < pixels; j++) {
    p[j] = x + at[j] * C;
    from[j] = dy + at[j] * C;
  }
  int64_t c = 0;
  for (; c + W <= C; c += W) {
    wide s = load(sum + c), q = load(sum + C + c), scale = {0}, bias = {0};
    const wide mean = load(t->mean + c);
    if (activation != MT_ACTIVATION_IDENTITY) {
      scale = load(t->scale + c);
      bias = load(t->bias + c);
    }
    if (pixels == SIDE) {
      fetch(p[0], c);
      fetch(from[0], c);
    }
    for (int j = 0; j < pixels; j++) {
      const wide d = load_floats(p[j] + c) - mean;
      const wide g = gate(load_floats(from[j] + c), d * scale + bias, activation, t->a);
      s += g;
      q += g * d;
    }
    store(sum + c, s);
    store(sum + C + c, q);
  }
  for (; c < C; c++) {
    for (int j = 0; j < pixels; j++) {
      const double d = p[j][c] - t->mean[c], g = gated_f32(from[j][c], d * t->scale[c] + t->bias[c], activation, t->a);
      sum[c] += g;
      sum[C + c] += g * d;
    }
  }
}

// ---- results ----------------------------------------------------------------------------------------------------------------

MT_INLINE narrow forward_step(const float *x, const norm_table *t, int64_t c, int32_t activation) {
  const wide y = (load_floats(x + c) - load(t->mean + c)) * load(t->scale + c) + load(t->bias + c);
  return function(round_off(y), activation, (float)t->a);
}

MT_INLINE narrow backward_step(const float *dy, const float *x, const norm_table *t, int64_t c, int32_t activation) {
  const wide d = load_floats(x + c) - load(t->mean + c), scale = load(t->scale + c);
  wide g = load_floats(dy + c);
  if (activation != MT_ACTIVATION_IDENTITY) {
    g = gate(g, d * scale + load(t->bias + c), activation, t->a);
  }
  return round_off(g * scale - load(t->offset + c) - d * load(t->slope + c));
}

// step(c) for all whole vectors of a pixel, its values stored at y + c; c is what is left.
#if defined(__AVX512F__)
#define STEPS(y, step)                                                                                          \
  int64_t c = 0;                                                                                                \
  if (stream) {                                                                                                 \
    for (; c + 2 * W <= C; c += 2 * W) {                                                                        \
      const __m512i low = _mm512_castsi256_si512((__m256i)step(c));                                             \
      _mm512_stream_si512((__m512i *)((y) + c), _mm512_inserti64x4(low, (__m256i)step(c + W), 1));              \
    }                                                                                                           \
  }                                                                                                             \
  for (; c + W <= C; c += W) {                                                                                  \
    const narrow v = step(c);                                                                                   \
    memcpy((y) + c, &v, sizeof v);                                                                              \
  }
#define FENCE() _mm_sfence()
#elif defined(__AVX2__)
#define STEPS(y, step)                                  \
  int64_t c = 0;                                        \
  for (; c + W <= C; c += W) {                          \
    const narrow v = step(c);                           \
    if (stream) {                                       \
      _mm_stream_ps((y) + c, (__m128)v);                \
    } else {                                            \
      memcpy((y) + c, &v, sizeof v);                    \
    }                                                   \
  }
#define FENCE() _mm_sfence()
#else
#define STEPS(y, step)                                  \
  int64_t c = 0;                                        \
  (void)stream;                                         \
  for (; c + W <= C; c += W) {                          \
    const narrow v = step(c);                           \
    memcpy((y) + c, &v, sizeof v);                      \
  }
#define FENCE()
#endif

MT_INLINE void forward_run(float *restrict y, const float *restrict x, const norm_table *t, int64_t C, int64_t n, bool stream,
                           int32_t activation) {
  const norm_table table = *t;
  for (; n > 0; n--, x += C, y += C) {
#define STEP(c) forward_step(x, &table, c, activation)
    STEPS(y, STEP)
#undef STEP
    for (; c < C; c++) {
      y[c] = activate_f32((float)((x[c] - table.mean[c]) * table.scale[c] + table.bias[c]), activation, (float)table.a);
    }
  }
  if (stream) {
    FENCE();
  }
}

MT_INLINE void backward_run(float *restrict dx, const float *restrict dy, const float *restrict x, const norm_table *t, int64_t C,
                            int64_t n, bool stream, int32_t activation) {
  const norm_table table = *t;
  for (; n > 0; n--, x += C, dy += C, dx += C) {
#define STEP(c) backward_step(dy, x, &table, c, activation)
    STEPS(dx, STEP)
#undef STEP
    for (; c < C; c++) {
      const double d = x[c] - table.mean[c], scale = table.scale[c];
      dx[c] = (float)(gated_f32(dy[c], d * scale + table.bias[c], activation, table.a) * scale - table.offset[c] - d * table.slope[c]);
    }
  }
  if (stream) {
    FENCE();
  }
}

// ---- one function for each activation -----------------------------------------------------------------------------------------

#define FORM(name, activation)                                                                                              \
  static void gradients_##name(double *sum, const float *x, const float *dy, const norm_table *t, int64_t C,                \
                               const int32_t *at, int64_t n) {                                                              \
    int64_t i = 0;                                                                                                          \
    for (; i + SIDE <= n; i += SIDE) {                                                                                      \
      add_gradients(sum, x, dy, t, C, at + i, SIDE, activation);                                                            \
    }                                                                                                                       \
    for (; i < n; i++) {                                                                                                    \
      add_gradients(sum, x, dy, t, C, at + i, 1, activation);                                                               \
    }                                                                                                                       \
  }                                                                                                                         \
  static void forward_##name(float *y, const float *x, const norm_table *t, int64_t C, int64_t n, bool stream) {            \
    forward_run(y, x, t, C, n, stream, activation);                                                                         \
  }                                                                                                                         \
  static void backward_##name(float *dx, const float *dy, const float *x, const norm_table *t, int64_t C, int64_t n,        \
                              bool stream) {                                                                                \
    backward_run(dx, dy, x, t, C, n, stream, activation);                                                                   \
  }
FORM(plain, MT_ACTIVATION_IDENTITY)
FORM(relu, MT_ACTIVATION_RELU)
FORM(leaky, MT_ACTIVATION_LEAKY_RELU)

#define TABLE2(name) norm_channels_##name
#define TABLE(name) TABLE2(name)
const norm_channels TABLE(TILE_NAME) = {
  .moments = moments,
  .gradients = {gradients_plain, gradients_relu, gradients_leaky},
  .forward = {forward_plain, forward_relu, forward_leaky},
  .backward = {backward_plain, backward_relu, backward_leaky},
};
