// shuffle: see shuffle.h. Both directions are one strided copy between the views of shuffle_check.h. Where a block's elements or a
// row's lie side by side, loops of their own do it.
#include "row.h"
#include "shuffle_check.h"

// coarse[c * K + k] <-> fine[k][c * fine_step] for c < n: the channels of a coarse pixel, from the K pixels of its block.
#define JOIN(T, K)                                                                                               \
  MT_INLINE void MT_PASTE(join_##T##_, K)(T *coarse, T *const *fine, int64_t fine_step, int64_t n, bool inwards) { \
    if (inwards) {                                                                                               \
      _Pragma("GCC ivdep") for (int64_t c = 0; c < n; c++) {                                                     \
        _Pragma("GCC unroll 8") for (int k = 0; k < K; k++) coarse[c * K + k] = fine[k][c * fine_step];          \
      }                                                                                                          \
    } else {                                                                                                     \
      _Pragma("GCC ivdep") for (int64_t c = 0; c < n; c++) {                                                     \
        _Pragma("GCC unroll 8") for (int k = 0; k < K; k++) fine[k][c * fine_step] = coarse[c * K + k];          \
      }                                                                                                          \
    }                                                                                                            \
  }

// Coarse pixels i < n of a row. A fine row holds r pixels of each block; all steps in elements.
#define JOIN_ROW(T, K)                                                                                           \
  MT_CLONES static void MT_PASTE(join_row_##T##_, K)(T *coarse, int64_t coarse_step, T *const *rows, int64_t r,  \
                                                     int64_t fine_step, int64_t pixel, int64_t channels, int64_t n, \
                                                     bool inwards) {                                             \
    T *fine[K];                                                                                                  \
    for (int k = 0; k < K; k++) fine[k] = rows[k / r] + k % r * pixel;                                           \
    for (int64_t i = 0; i < n; i++, coarse += coarse_step) {                                                     \
      if (fine_step == 1) {                                                                                      \
        MT_PASTE(join_##T##_, K)(coarse, fine, 1, channels, inwards);                                            \
      } else {                                                                                                   \
        MT_PASTE(join_##T##_, K)(coarse, fine, fine_step, channels, inwards);                                    \
      }                                                                                                          \
      for (int k = 0; k < K; k++) fine[k] += r * pixel;                                                          \
    }                                                                                                            \
  }

// coarse[j * plane + i] <-> fine[i * R + j]: a row of planes.
#define SPLIT_ROW(T, R)                                                                                          \
  MT_CLONES static void MT_PASTE(split_row_##T##_, R)(T *coarse, int64_t plane, T *fine, int64_t n, bool inwards) { \
    if (inwards) {                                                                                               \
      _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++) {                                                     \
        _Pragma("GCC unroll 8") for (int j = 0; j < R; j++) coarse[j * plane + i] = fine[i * R + j];             \
      }                                                                                                          \
    } else {                                                                                                     \
      _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++) {                                                     \
        _Pragma("GCC unroll 8") for (int j = 0; j < R; j++) fine[i * R + j] = coarse[j * plane + i];             \
      }                                                                                                          \
    }                                                                                                            \
  }

#define ROWS_OF(T) \
  JOIN(T, 2) JOIN(T, 4) JOIN(T, 8) JOIN_ROW(T, 2) JOIN_ROW(T, 4) JOIN_ROW(T, 8) SPLIT_ROW(T, 2) SPLIT_ROW(T, 4)
ROWS_OF(uint8_t)
ROWS_OF(uint32_t)

typedef struct {
  const mt_tensor *coarse, *fine;   // both (N, C, r.., S..)
  int64_t r, block, channels;       // block: r^d
  int32_t dims;
  bool inwards, planes;             // from fine to coarse; rows are split into planes, or blocks joined to pixels
} rearrangement;

// The elements at which line `index` of all but channels, block and last axis (planes: the last digit of the block) begins.
static void find_line(const rearrangement *s, int64_t index, int64_t *coarse, int64_t *fine) {
  const int32_t last = 1 + 2 * s->dims, digits = s->planes ? s->dims : 1;  // dims [2, 1 + digits) are walked too
  *coarse = *fine = 0;
  for (int32_t d = last - 1; d >= 0; d--) {
    if ((!s->planes && d == 1) || (d > digits && d <= 1 + s->dims)) {
      continue;
    }
    const int64_t at = index % s->coarse->shape[d];
    index /= s->coarse->shape[d];
    *coarse += at * s->coarse->stride[d];
    *fine += at * s->fine->stride[d];
  }
}

#define MOVE_LINE(T)                                                                                              \
  MT_INLINE void move_line_##T(const rearrangement *s, int64_t line) {                                            \
    const int32_t last = 1 + 2 * s->dims, digit = 1 + s->dims;                                                    \
    const int64_t n = s->coarse->shape[last];                                                                     \
    int64_t c, f;                                                                                                 \
    find_line(s, line, &c, &f);                                                                                   \
    T *coarse = (T *)s->coarse->data + c, *fine = (T *)s->fine->data + f;                                         \
    if (s->planes) {                                                                                              \
      (s->r == 2 ? split_row_##T##_2 : split_row_##T##_4)(coarse, s->coarse->stride[digit], fine, n, s->inwards); \
      return;                                                                                                     \
    }                                                                                                             \
    T *rows[4];                                                                                                   \
    const int64_t pixel = s->fine->stride[digit];                                                                 \
    for (int64_t k = 0; k < s->block / s->r; k++) {                                                               \
      int64_t rest = k;                                                                                           \
      rows[k] = fine;                                                                                             \
      for (int32_t d = digit - 1; d >= 2; d--, rest /= s->r) rows[k] += rest % s->r * s->fine->stride[d];         \
    }                                                                                                             \
    (s->block == 2 ? join_row_##T##_2 : s->block == 4 ? join_row_##T##_4 : join_row_##T##_8)(                     \
        coarse, s->coarse->stride[last], rows, s->r, s->fine->stride[1], pixel, s->channels, n, s->inwards);      \
  }
MOVE_LINE(uint8_t)
MOVE_LINE(uint32_t)

static void move_lines(void *context, int64_t begin, int64_t end) {
  const rearrangement *s = context;
  for (int64_t line = begin; line < end; line++) {
    if (mt_dtype_size(s->coarse->dtype) == 4) {
      move_line_uint32_t(s, line);
    } else {
      move_line_uint8_t(s, line);
    }
  }
}

static int rearrange(mt_tensor *coarse, mt_tensor *fine, int64_t r, bool inwards) {
  rearrangement s = {.coarse = coarse, .fine = fine, .r = r, .block = 1, .channels = coarse->shape[1],
                     .dims = (coarse->ndim - 2) / 2, .inwards = inwards};
  const int32_t last = 1 + 2 * s.dims, digit = 1 + s.dims;
  for (int32_t d = 0; d < s.dims; d++) {
    s.block *= r;
  }
  const bool pixels = coarse->stride[digit] == 1 && (s.block == 2 || s.block == 4 || s.block == 8) && r <= 4;
  s.planes = !pixels && coarse->stride[last] == 1 && fine->stride[digit] == 1 && (r == 2 || r == 4);
  const int64_t size = mt_dtype_size(coarse->dtype);
  if ((!pixels && !s.planes) || (size != 4 && size != 1) || coarse->numel == 0) {
    return inwards ? mt_tensor_copy(coarse, fine) : mt_tensor_copy(fine, coarse);
  }
  const int64_t line = coarse->shape[last] * (s.planes ? r : s.channels * s.block), lines = coarse->numel / line;
  return mt_parallel(lines, MT_MAX(1, 32768 / line), move_lines, &s);
}

// ---- both directions -----------------------------------------------------------------------------------------------------

int mt_shuffle_unshuffle(mt_tensor *y, const mt_tensor *x, int64_t factor) {
  mt_tensor coarse, fine;
  MT_TRY(mt_shuffle_check_unshuffle(&coarse, &fine, y, x, factor));
  return rearrange(&coarse, &fine, factor, true);
}

int mt_shuffle_shuffle(mt_tensor *y, const mt_tensor *x, int64_t factor) {
  mt_tensor coarse, fine;
  MT_TRY(mt_shuffle_check_shuffle(&coarse, &fine, y, x, factor));
  return rearrange(&coarse, &fine, factor, false);
}
