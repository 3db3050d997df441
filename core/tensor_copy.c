// tensor_copy: copies between layouts and types, and fill. See tensor.h.
#include "convert.h"
#include "loop.h"
#include "row.h"
#include "tensor_copy.h"

// ---- rows -------------------------------------------------------------------------------------------------------

// One inner row of the conversion, for every pair of types. `x` is the source element. Neighbours have a loop of their own, which
// vectorises.
#define COPY_ROW(D, S, CONVERT)                                                         \
  {                                                                                     \
    char *d = p[0];                                                                     \
    const char *s = p[1];                                                               \
    if (step[0] == sizeof(D) && step[1] == sizeof(S)) {                                 \
      _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++) {                            \
        const S x = ((const S *)s)[i];                                                  \
        ((D *)d)[i] = (D)(CONVERT);                                                     \
      }                                                                                 \
      return;                                                                           \
    }                                                                                   \
    for (int64_t i = 0; i < n; i++) {                                                   \
      const S x = *(const S *)s;                                                        \
      *(D *)d = (D)(CONVERT);                                                           \
      d += step[0];                                                                     \
      s += step[1];                                                                     \
    }                                                                                   \
    return;                                                                             \
  }

// Neighbours all within +-2^31, as nearly always, need no care and vectorise.
enum { SMALL_BLOCK = 256 };
#define SMALL_TO_INTEGER(D, S, CONVERT)                                          \
  if (step[0] == sizeof(D) && step[1] == sizeof(S)) {                            \
    for (int64_t i0 = 0; i0 < n; i0 += SMALL_BLOCK) {                            \
      const S *s = (const S *)p[1] + i0;                                         \
      D *d = (D *)p[0] + i0;                                                     \
      const int64_t count = MT_MIN(n - i0, (int64_t)SMALL_BLOCK);                \
      int32_t large = 0;                                                         \
      for (int64_t i = 0; i < count; i++) {                                      \
        large |= !(s[i] > (S)-2147483648.0 && s[i] < (S)2147483648.0);           \
      }                                                                          \
      if (!large) {                                                              \
        _Pragma("GCC ivdep") for (int64_t i = 0; i < count; i++) {               \
          d[i] = (D)(int32_t)s[i];                                               \
        }                                                                        \
        continue;                                                                \
      }                                                                          \
      for (int64_t i = 0; i < count; i++) {                                      \
        const S x = s[i];                                                        \
        d[i] = (D)(CONVERT);                                                     \
      }                                                                          \
    }                                                                            \
    return;                                                                      \
  }

#define FLOAT_TO_INTEGER(D, S, CONVERT)  \
  {                                      \
    SMALL_TO_INTEGER(D, S, CONVERT)      \
    COPY_ROW(D, S, CONVERT)              \
  }

#define COPY_FROM_FLOAT(S)                                            \
  switch (to) {                                                       \
    case MT_FLOAT32: COPY_ROW(float, S, x)                            \
    case MT_FLOAT64: COPY_ROW(double, S, x)                           \
    case MT_INT64: FLOAT_TO_INTEGER(int64_t, S, mt_to_int64((double)x))  \
    case MT_INT32: FLOAT_TO_INTEGER(int32_t, S, mt_to_int32((double)x))  \
    case MT_UINT8: FLOAT_TO_INTEGER(uint8_t, S, mt_to_int64((double)x))  \
    case MT_BFLOAT16: COPY_ROW(uint16_t, S, sizeof(S) == 4 ? mt_bf16_of((float)x) : mt_bf16_of_double((double)x))  \
    default: COPY_ROW(uint8_t, S, x != 0)                             \
  }

#define COPY_FROM_INTEGER(S)                    \
  switch (to) {                                 \
    case MT_FLOAT32: COPY_ROW(float, S, x)      \
    case MT_FLOAT64: COPY_ROW(double, S, x)     \
    case MT_INT64: COPY_ROW(int64_t, S, x)      \
    case MT_INT32: COPY_ROW(int32_t, S, x)      \
    case MT_UINT8: COPY_ROW(uint8_t, S, x)      \
    case MT_BFLOAT16: COPY_ROW(uint16_t, S, mt_bf16_of_double((double)x))  \
    default: COPY_ROW(uint8_t, S, x != 0)       \
  }

#define COPY_FROM_BFLOAT16                                                       \
  switch (to) {                                                                  \
    case MT_FLOAT32: COPY_ROW(float, uint16_t, mt_bf16_value(x))                 \
    case MT_FLOAT64: COPY_ROW(double, uint16_t, mt_bf16_value(x))                \
    case MT_INT64: COPY_ROW(int64_t, uint16_t, mt_to_int64(mt_bf16_value(x)))    \
    case MT_INT32: COPY_ROW(int32_t, uint16_t, mt_to_int32(mt_bf16_value(x)))    \
    case MT_UINT8: COPY_ROW(uint8_t, uint16_t, mt_to_int64(mt_bf16_value(x)))    \
    default: COPY_ROW(uint8_t, uint16_t, mt_bf16_value(x) != 0)                  \
  }

MT_CLONES static void convert_row(char *const *p, const int64_t *step, int64_t n, int32_t to, int32_t from) {
  switch (from) {
    case MT_FLOAT32: COPY_FROM_FLOAT(float)
    case MT_FLOAT64: COPY_FROM_FLOAT(double)
    case MT_INT64: COPY_FROM_INTEGER(int64_t)
    case MT_INT32: COPY_FROM_INTEGER(int32_t)
    case MT_BFLOAT16: COPY_FROM_BFLOAT16
    default: COPY_FROM_INTEGER(uint8_t)
  }
}

static void move_row(char *const *p, const int64_t *step, int64_t n, int64_t size) {
  if (step[0] == size && step[1] == size) {
    memmove(p[0], p[1], (size_t)(n * size));
    return;
  }
  if (size == 4) COPY_ROW(int32_t, int32_t, x)
  if (size == 8) COPY_ROW(int64_t, int64_t, x)
  if (size == 2) COPY_ROW(uint16_t, uint16_t, x)
  COPY_ROW(uint8_t, uint8_t, x)
}

void mt_copy_row(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const int32_t *types = context;
  if (types[0] == types[1]) {
    move_row(p, step, n, mt_dtype_size(types[0]));
  } else {
    convert_row(p, step, n, types[0], types[1]);
  }
}

// ---- transposition ------------------------------------------------------------------------------------------------

// Elements that are neighbours along one dim in the source and along another in the destination, as from NCHW to channels-last
// and back: small squares are turned in registers or cache, so that both sides are read and written by whole cache lines.
typedef struct {
  const mt_loop *loop;
  int32_t other;      // the dim along which the source's elements are neighbours; the destination's are along dim 0
  int64_t strips;     // of STRIP positions of dim `other`
  int64_t size;
} turning;

enum { STRIP = 64, SQUARE = 8 };

#define TURN(name, T)                                                                                              \
  /* d[i][j] = s[j][i] for i < rows, j < columns; d_step and s_step in elements. */                                \
  MT_CLONES static void name(T *restrict d, int64_t d_step, const T *restrict s, int64_t s_step, int64_t rows,     \
                             int64_t columns) {                                                                    \
    if (columns <= 4) { /* few channels: walk along the source */                                                  \
      switch (columns) {                                                                                           \
        case 1: for (int64_t i = 0; i < rows; i++) d[i * d_step] = s[i]; return;                                   \
        case 2:                                                                                                    \
          for (int64_t i = 0; i < rows; i++) {                                                                     \
            d[i * d_step] = s[i];                                                                                  \
            d[i * d_step + 1] = s[s_step + i];                                                                     \
          }                                                                                                        \
          return;                                                                                                  \
        case 3:                                                                                                    \
          for (int64_t i = 0; i < rows; i++) {                                                                     \
            d[i * d_step] = s[i];                                                                                  \
            d[i * d_step + 1] = s[s_step + i];                                                                     \
            d[i * d_step + 2] = s[2 * s_step + i];                                                                 \
          }                                                                                                        \
          return;                                                                                                  \
        default:                                                                                                   \
          for (int64_t i = 0; i < rows; i++) {                                                                     \
            d[i * d_step] = s[i];                                                                                  \
            d[i * d_step + 1] = s[s_step + i];                                                                     \
            d[i * d_step + 2] = s[2 * s_step + i];                                                                 \
            d[i * d_step + 3] = s[3 * s_step + i];                                                                 \
          }                                                                                                        \
          return;                                                                                                  \
      }                                                                                                            \
    }                                                                                                              \
    for (int64_t j = 0; j < columns; j += SQUARE) {                                                                \
      const int64_t width = MT_MIN(columns - j, (int64_t)SQUARE);                                                  \
      for (int64_t i = 0; i < rows; i += SQUARE) {                                                                 \
        const int64_t height = MT_MIN(rows - i, (int64_t)SQUARE);                                                  \
        if (width == SQUARE && height == SQUARE) {                                                                 \
          T square[SQUARE][SQUARE];                                                                                \
          for (int b = 0; b < SQUARE; b++) {                                                                       \
            for (int a = 0; a < SQUARE; a++) {                                                                     \
              square[a][b] = s[(j + b) * s_step + i + a];                                                          \
            }                                                                                                      \
          }                                                                                                        \
          for (int a = 0; a < SQUARE; a++) {                                                                       \
            memcpy(d + (i + a) * d_step + j, square[a], sizeof square[a]);                                         \
          }                                                                                                        \
        } else {                                                                                                   \
          for (int64_t a = 0; a < height; a++) {                                                                   \
            for (int64_t b = 0; b < width; b++) {                                                                  \
              d[(i + a) * d_step + j + b] = s[(j + b) * s_step + i + a];                                           \
            }                                                                                                      \
          }                                                                                                        \
        }                                                                                                          \
      }                                                                                                            \
    }                                                                                                              \
  }
TURN(turn_4, uint32_t)
TURN(turn_8, uint64_t)
TURN(turn_2, uint16_t)
TURN(turn_1, uint8_t)

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
#include <immintrin.h>

__attribute__((target("avx2"))) static void turn_4_avx2(uint32_t *d, int64_t d_step, const uint32_t *s, int64_t s_step,
                                                        int64_t rows, int64_t columns) {
  const int64_t tall = rows / 8 * 8, wide = columns / 8 * 8, down = tall / 8, across = wide / 8;
  // The side with the longer steps is finished first, while its few cache lines, which compete for the same sets, are at hand.
  for (int64_t k = 0; k < down * across; k++) {
    const int64_t i = 8 * (d_step > s_step ? k / across : k % down), j = 8 * (d_step > s_step ? k % across : k / down);
    __m256 r[8], t[8], u[8];
    for (int b = 0; b < 8; b++) {
      r[b] = _mm256_loadu_ps((const float *)(s + (j + b) * s_step + i));
    }
    for (int b = 0; b < 8; b += 2) {
      t[b] = _mm256_unpacklo_ps(r[b], r[b + 1]);
      t[b + 1] = _mm256_unpackhi_ps(r[b], r[b + 1]);
    }
    for (int b = 0; b < 8; b += 4) {
      u[b] = _mm256_shuffle_ps(t[b], t[b + 2], 0x44);
      u[b + 1] = _mm256_shuffle_ps(t[b], t[b + 2], 0xEE);
      u[b + 2] = _mm256_shuffle_ps(t[b + 1], t[b + 3], 0x44);
      u[b + 3] = _mm256_shuffle_ps(t[b + 1], t[b + 3], 0xEE);
    }
    for (int a = 0; a < 4; a++) {
      _mm256_storeu_ps((float *)(d + (i + a) * d_step + j), _mm256_permute2f128_ps(u[a], u[a + 4], 0x20));
      _mm256_storeu_ps((float *)(d + (i + a + 4) * d_step + j), _mm256_permute2f128_ps(u[a], u[a + 4], 0x31));
    }
  }
  if (tall < rows && wide > 0) {
    turn_4(d + tall * d_step, d_step, s + tall, s_step, rows - tall, wide);
  }
  if (wide < columns) {
    turn_4(d + wide, d_step, s + wide * s_step, s_step, rows, columns - wide);
  }
}
#endif

static void turn(char *d, int64_t d_step, const char *s, int64_t s_step, int64_t rows, int64_t columns, int64_t size) {
  if (size == 4) {
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
    if (columns >= 8 && mt_isa()[0] == 'a') {  // avx2, avx512
      turn_4_avx2((uint32_t *)d, d_step / 4, (const uint32_t *)s, s_step / 4, rows, columns);
      return;
    }
#endif
    turn_4((uint32_t *)d, d_step / 4, (const uint32_t *)s, s_step / 4, rows, columns);
  } else if (size == 8) {
    turn_8((uint64_t *)d, d_step / 8, (const uint64_t *)s, s_step / 8, rows, columns);
  } else if (size == 2) {
    turn_2((uint16_t *)d, d_step / 2, (const uint16_t *)s, s_step / 2, rows, columns);
  } else {
    turn_1((uint8_t *)d, d_step, (const uint8_t *)s, s_step, rows, columns);
  }
}

static void turn_strips(void *context, int64_t begin, int64_t end) {
  const turning *t = context;
  const mt_loop *l = t->loop;
  for (int64_t k = begin; k < end; k++) {
    const int64_t first = k % t->strips * STRIP;
    int64_t rest = k / t->strips;
    char *d = l->base[0] + first * l->step[0][t->other];
    const char *s = l->base[1] + first * t->size;
    for (int32_t dim = 1; dim < l->ndim; dim++) {
      if (dim != t->other) {
        d += rest % l->shape[dim] * l->step[0][dim];
        s += rest % l->shape[dim] * l->step[1][dim];
        rest /= l->shape[dim];
      }
    }
    turn(d, l->step[0][t->other], s, l->step[1][0], MT_MIN(l->shape[t->other] - first, (int64_t)STRIP), l->shape[0], t->size);
  }
}

// Whether the plan is a transposition worth its squares.
static bool is_turning(turning *t, const mt_loop *l, int64_t size) {
  if (l->step[0][0] != size || l->step[1][0] == size || l->shape[0] < 2) {
    return false;
  }
  for (int32_t d = 1; d < l->ndim; d++) {
    if (l->step[1][d] == size && l->shape[d] >= 8) {
      *t = (turning){l, d, (l->shape[d] + STRIP - 1) / STRIP, size};
      return true;
    }
  }
  return false;
}

// ---- short runs ---------------------------------------------------------------------------------------------------

// A few neighbours on both sides, as the taps of a small kernel: each run is moved whole, and the next dim is walked.
typedef struct {
  mt_loop loop;       // without the dim of the run
  int64_t bytes;
} runs;

enum { LONGEST_RUN = 64 };

#define MOVE_RUNS(B)                                                           \
  case B:                                                                      \
    for (int64_t i = 0; i < n; i++, d += d_step, s += s_step) memcpy(d, s, B); \
    return;

static void move_runs(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const int64_t bytes = *(const int64_t *)context, d_step = step[0], s_step = step[1];
  char *d = p[0];
  const char *s = p[1];
  switch (bytes) {
    MOVE_RUNS(8)
    MOVE_RUNS(12)
    MOVE_RUNS(16)
    MOVE_RUNS(20)
    MOVE_RUNS(24)
    MOVE_RUNS(32)
    MOVE_RUNS(36)
    default:
      for (int64_t i = 0; i < n; i++, d += d_step, s += s_step) memmove(d, s, (size_t)bytes);
  }
}

static void run_range(void *context, int64_t begin, int64_t end) {
  const runs *r = context;
  mt_loop_range(&r->loop, begin, end, move_runs, &r->bytes);
}

static bool has_runs(runs *r, const mt_loop *l, int64_t size) {
  r->bytes = l->shape[0] * size;
  if (l->ndim < 2 || l->shape[0] < 2 || r->bytes > LONGEST_RUN || l->step[0][0] != size || l->step[1][0] != size) {
    return false;
  }
  r->loop = *l;
  r->loop.ndim--;
  r->loop.numel /= l->shape[0];
  for (int32_t d = 0; d < r->loop.ndim; d++) {
    r->loop.shape[d] = l->shape[d + 1];
    for (int k = 0; k < 2; k++) r->loop.step[k][d] = l->step[k][d + 1];
  }
  for (int k = 0; k < 2; k++) r->loop.size[k] = r->bytes;
  if (r->loop.ndim > 1 && r->loop.shape[0] < r->loop.shape[1]) {  // the longer of two dims is the row
    const int64_t shape = r->loop.shape[0];
    r->loop.shape[0] = r->loop.shape[1];
    r->loop.shape[1] = shape;
    for (int k = 0; k < 2; k++) {
      const int64_t step = r->loop.step[k][0];
      r->loop.step[k][0] = r->loop.step[k][1];
      r->loop.step[k][1] = step;
    }
  }
  return true;
}

int mt_tensor_copy(mt_tensor *dst, const mt_tensor *src) {
  MT_TRY(mt_check_stored_output("copy", "destination", dst));
  MT_TRY(mt_check_stored("copy", "source", src));
  MT_TRY(mt_check_shape("copy", "source", src, dst->ndim, dst->shape));
  MT_TRY(mt_check_overlap("copy", dst, src, true));
  int32_t types[2] = {dst->dtype, src->dtype};
  const mt_tensor *const t[] = {dst, src};
  if (dst->dtype == src->dtype && dst->numel >= 64) {
    mt_loop loop;
    turning turned;
    MT_TRY(mt_loop_plan(&loop, 2, t));
    if (is_turning(&turned, &loop, mt_dtype_size(dst->dtype))) {
      const int64_t per_strip = STRIP * loop.shape[0];
      const int64_t strips = loop.numel / (loop.shape[0] * loop.shape[turned.other]) * turned.strips;
      return mt_parallel(strips, MT_MAX(1, 32768 / per_strip), turn_strips, &turned);
    }
    runs short_runs;
    if (has_runs(&short_runs, &loop, mt_dtype_size(dst->dtype))) {
      return mt_parallel(short_runs.loop.numel, MT_MAX(1, 131072 / short_runs.bytes), run_range, &short_runs);
    }
  }
  return mt_loop_run(2, t, mt_copy_row, types);
}

// ---- fill ---------------------------------------------------------------------------------------------------------

#define FILL_ROW(T)                                     \
  {                                                     \
    const T x = *(const T *)value;                      \
    if (step[0] == sizeof(T)) {                         \
      for (int64_t i = 0; i < n; i++) ((T *)p[0])[i] = x; \
      return;                                           \
    }                                                   \
    for (int64_t i = 0; i < n; i++) *(T *)(p[0] + i * step[0]) = x; \
    return;                                             \
  }

MT_CLONES static void fill_row(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const char *value = (const char *)context + 8;
  const int64_t size = mt_dtype_size(*(const int32_t *)context);
  if (size == 4) FILL_ROW(int32_t)
  if (size == 8) FILL_ROW(int64_t)
  if (size == 2) FILL_ROW(uint16_t)
  FILL_ROW(uint8_t)
}

int mt_tensor_fill(mt_tensor *t, double value) {
  MT_TRY(mt_check_stored_output("fill", "tensor", t));
  struct {
    int32_t dtype, unused;
    char bytes[8];
  } context = {t->dtype, 0, {0}};
  int32_t types[2] = {t->dtype, MT_FLOAT64};
  mt_copy_row((char *const[]){context.bytes, (char *)&value}, (const int64_t[]){8, 8}, 1, types);
  return mt_loop_run(1, (const mt_tensor *const[]){t}, fill_row, &context);
}
