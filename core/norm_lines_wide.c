// norm_lines_wide: see norm_lines_wide.h. A row's sums go element by element, so eight rows are eight lanes: squares of 8 x 8 are turned
// in registers, as floats, and each of their lines is widened to doubles.
#include "norm_lines_wide.h"

#define TABLE2(name) norm_lines_wide_##name
#define TABLE(name) TABLE2(name)

#if defined(__AVX512F__)
#include <immintrin.h>

#include "row.h"

// r[i] = element i of the eight rows
MT_INLINE void turn(__m256 *r) {
  __m256 t[8];
  for (int i = 0; i < 4; i++) {
    t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  __m256 u[8];
  for (int i = 0; i < 2; i++) {
    u[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
    u[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
    u[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
    u[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
  }
  for (int i = 0; i < 4; i++) {
    r[i] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
    r[i + 4] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
  }
}

static void moments(double *sum, const float *x, int64_t D) {
  __m512d s = _mm512_setzero_pd(), q = s;
  for (int64_t d = 0; d < D; d += 8) {
    __m256 r[8];
    for (int l = 0; l < 8; l++) {
      r[l] = _mm256_loadu_ps(x + l * D + d);
    }
    turn(r);
    for (int i = 0; i < 8; i++) {
      const __m512d v = _mm512_cvtps_pd(r[i]);
      s = _mm512_add_pd(s, v);
      q = _mm512_fmadd_pd(v, v, q);  // squares of floats are exact
    }
  }
  _mm512_storeu_pd(sum, s);
  _mm512_storeu_pd(sum + 8, q);
}

MT_INLINE __m256 gated(__m256 dy, __m512d y, int32_t activation, double a) {
  const __mmask8 open = _mm512_cmp_pd_mask(y, _mm512_set1_pd(0x1p-150), _CMP_GT_OQ);  // NORM_OPEN
  if (activation == MT_ACTIVATION_RELU) {
    return _mm256_maskz_mov_ps(open, dy);
  }
  const __m256 shut = _mm512_cvtpd_ps(_mm512_mul_pd(_mm512_cvtps_pd(dy), _mm512_set1_pd(a)));
  return _mm256_mask_mov_ps(shut, open, dy);
}

MT_INLINE void gradients(double *sum, double *chain, float *g, const float *dy, const float *x, const norm_cell *cell, const double *w,
                         const double *b, int64_t D, double a, int32_t activation, bool parameters) {
  double table[8];
  for (int l = 0; l < 8; l++) {
    table[l] = cell[l].mean;
  }
  const __m512d mean = _mm512_loadu_pd(table);
  __m512d A = _mm512_setzero_pd(), B = A;
  for (int64_t d = 0; d < D; d += 8) {
    double *to = parameters ? chain + d / NORM_LANES * NORM_WIDTH * NORM_LANES + d % NORM_LANES : NULL;
    __m512d db = A, dw = A;
    __m256 r[8], q[8];
    if (parameters) {
      db = _mm512_loadu_pd(to);
      dw = _mm512_loadu_pd(to + NORM_LANES);
    }
    for (int l = 0; l < 8; l++) {
      r[l] = _mm256_loadu_ps(x + l * D + d);
      q[l] = _mm256_loadu_ps(dy + l * D + d);
      const __m512d rstd = _mm512_set1_pd(cell[l].rstd), e = _mm512_sub_pd(_mm512_cvtps_pd(r[l]), _mm512_set1_pd(cell[l].mean));
      if (activation != MT_ACTIVATION_IDENTITY) {
        const __m512d scale = _mm512_mul_pd(rstd, _mm512_loadu_pd(w + d));
        q[l] = gated(q[l], _mm512_add_pd(_mm512_mul_pd(e, scale), _mm512_loadu_pd(b + d)), activation, a);
        _mm256_storeu_ps(g + l * D + d, q[l]);
      }
      if (parameters) {
        const __m512d v = _mm512_cvtps_pd(q[l]);
        db = _mm512_add_pd(db, v);
        dw = _mm512_add_pd(dw, _mm512_mul_pd(v, _mm512_mul_pd(e, rstd)));
      }
    }
    if (parameters) {
      _mm512_storeu_pd(to, db);
      _mm512_storeu_pd(to + NORM_LANES, dw);
    }
    turn(r);
    turn(q);
    for (int i = 0; i < 8; i++) {
      const __m512d v = _mm512_mul_pd(_mm512_cvtps_pd(q[i]), _mm512_set1_pd(w[d + i]));
      A = _mm512_add_pd(A, v);
      B = _mm512_add_pd(B, _mm512_mul_pd(v, _mm512_sub_pd(_mm512_cvtps_pd(r[i]), mean)));
    }
  }
  _mm512_storeu_pd(sum, A);
  _mm512_storeu_pd(sum + 8, B);
}

MT_INLINE void put(float *to, __m256 low, __m256 high, bool stream) {
  if (stream) {
    _mm512_stream_pd((void *)to, _mm512_insertf64x4(_mm512_castpd256_pd512(_mm256_castps_pd(low)), _mm256_castps_pd(high), 1));
  } else {
    _mm256_storeu_ps(to, low);
    _mm256_storeu_ps(to + 8, high);
  }
}

MT_INLINE __m256 forward_step(const float *x, __m512d mean, __m512d rstd, const double *w, const double *b, __m256 a,
                              int32_t activation) {
  const __m512d scale = _mm512_mul_pd(rstd, _mm512_loadu_pd(w)), e = _mm512_sub_pd(_mm512_cvtps_pd(_mm256_loadu_ps(x)), mean);
  const __m256 y = _mm512_cvtpd_ps(_mm512_add_pd(_mm512_mul_pd(e, scale), _mm512_loadu_pd(b)));
  if (activation == MT_ACTIVATION_RELU) {
    return _mm256_max_ps(_mm256_setzero_ps(), y);  // the second where one is NaN or both are 0
  }
  if (activation == MT_ACTIVATION_LEAKY_RELU) {
    return _mm256_mask_mul_ps(y, _mm256_cmp_ps_mask(y, _mm256_setzero_ps(), _CMP_NGT_UQ), y, a);
  }
  return y;
}

MT_INLINE void forward(float *y, const float *x, const norm_cell *cell, const double *w, const double *b, int64_t D, double a_,
                       bool stream, int32_t activation) {
  const __m512d mean = _mm512_set1_pd(cell->mean), rstd = _mm512_set1_pd(cell->rstd);
  const __m256 a = _mm256_set1_ps((float)a_);
  int64_t d = 0;
  for (; d + 16 <= D; d += 16) {
    put(y + d, forward_step(x + d, mean, rstd, w + d, b + d, a, activation),
        forward_step(x + d + 8, mean, rstd, w + d + 8, b + d + 8, a, activation), stream);
  }
  if (d < D) {
    _mm256_storeu_ps(y + d, forward_step(x + d, mean, rstd, w + d, b + d, a, activation));
  }
}

MT_INLINE __m256 backward_step(const float *dy, const float *x, const norm_cell *cell, const double *w) {
  const __m512d scale = _mm512_mul_pd(_mm512_set1_pd(cell->rstd), _mm512_loadu_pd(w));
  const __m512d e = _mm512_sub_pd(_mm512_cvtps_pd(_mm256_loadu_ps(x)), _mm512_set1_pd(cell->mean));
  const __m512d g = _mm512_mul_pd(_mm512_cvtps_pd(_mm256_loadu_ps(dy)), scale);
  return _mm512_cvtpd_ps(_mm512_sub_pd(_mm512_sub_pd(g, _mm512_set1_pd(cell->offset)), _mm512_mul_pd(e, _mm512_set1_pd(cell->slope))));
}

static void backward(float *dx, const float *dy, const float *x, const norm_cell *own, const double *w, int64_t D, bool stream) {
  const norm_cell cell = *own;
  int64_t d = 0;
  for (; d + 16 <= D; d += 16) {
    put(dx + d, backward_step(dy + d, x + d, &cell, w + d), backward_step(dy + d + 8, x + d + 8, &cell, w + d + 8), stream);
  }
  if (d < D) {
    _mm256_storeu_ps(dx + d, backward_step(dy + d, x + d, &cell, w + d));
  }
}

static void fence(void) { _mm_sfence(); }

#define FORM(name, activation)                                                                                                 \
  static void gradients_##name(double *sum, double *chain, float *g, const float *dy, const float *x, const norm_cell *cell,   \
                               const double *w, const double *b, int64_t D, double a) {                                        \
    if (chain != NULL) {                                                                                                       \
      gradients(sum, chain, g, dy, x, cell, w, b, D, a, activation, true);                                                     \
    } else {                                                                                                                   \
      gradients(sum, chain, g, dy, x, cell, w, b, D, a, activation, false);                                                    \
    }                                                                                                                          \
  }                                                                                                                            \
  static void forward_##name(float *y, const float *x, const norm_cell *cell, const double *w, const double *b, int64_t D,     \
                             double a, bool stream) {                                                                          \
    forward(y, x, cell, w, b, D, a, stream, activation);                                                                       \
  }
FORM(plain, MT_ACTIVATION_IDENTITY)
FORM(relu, MT_ACTIVATION_RELU)
FORM(leaky, MT_ACTIVATION_LEAKY_RELU)

const norm_lines_wide TABLE(TILE_NAME) = {
  .moments = moments,
  .gradients = {gradients_plain, gradients_relu, gradients_leaky},
  .forward = {forward_plain, forward_relu, forward_leaky},
  .backward = backward,
  .fence = fence,
};
#else
const norm_lines_wide TABLE(TILE_NAME) = {.moments = NULL};
#endif
