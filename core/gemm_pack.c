// gemm_pack: see gemm_pack.h.
#ifdef REAL

typedef REAL FN(quad) __attribute__((vector_size(4 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
#if REAL_BITS == 32
typedef int32_t FN(order) __attribute__((vector_size(16)));
#else
typedef int64_t FN(order) __attribute__((vector_size(32)));
#endif

// to[k * lanes + l] = from[k + l * col] for 4 terms and 4 lanes.
static inline void FN(transpose)(REAL *to, int64_t lanes, const REAL *from, int64_t col) {
  const FN(order) low = {0, 4, 1, 5}, high = {2, 6, 3, 7}, first = {0, 1, 4, 5}, second = {2, 3, 6, 7};
  const FN(quad) a = *(const FN(quad) *)from, b = *(const FN(quad) *)(from + col);
  const FN(quad) c = *(const FN(quad) *)(from + 2 * col), d = *(const FN(quad) *)(from + 3 * col);
  const FN(quad) ab = __builtin_shuffle(a, b, low), cd = __builtin_shuffle(c, d, low);
  const FN(quad) ab2 = __builtin_shuffle(a, b, high), cd2 = __builtin_shuffle(c, d, high);
  *(FN(quad) *)to = __builtin_shuffle(ab, cd, first);
  *(FN(quad) *)(to + lanes) = __builtin_shuffle(ab, cd, second);
  *(FN(quad) *)(to + 2 * lanes) = __builtin_shuffle(ab2, cd2, first);
  *(FN(quad) *)(to + 3 * lanes) = __builtin_shuffle(ab2, cd2, second);
}

void FN(mt_gemm_pack_rows)(REAL *to, const REAL *from, int64_t row, int64_t col, int64_t rows, int64_t kn) {
  enum { STEP = MT_TILE_STEP(REAL) };
  if (col == 1) {
    for (int64_t r = 0; r < rows; r++) {
      memcpy(to + r * STEP, from + r * row, sizeof(REAL) * (size_t)kn);
    }
    return;
  }
  int64_t k = 0;
  for (; k + GROUP <= kn; k += GROUP) {  // whole cache lines on both sides
    for (int64_t r = 0; r < rows; r++) {
      for (int i = 0; i < GROUP; i++) {
        to[r * STEP + k + i] = from[r * row + (k + i) * col];
      }
    }
  }
  for (; k < kn; k++) {
    for (int64_t r = 0; r < rows; r++) {
      to[r * STEP + k] = from[r * row + k * col];
    }
  }
}

void FN(mt_gemm_pack_panel)(REAL *to, const REAL *from, int64_t row, int64_t col, int64_t kn, int64_t used, int64_t lanes) {
  int64_t l = 0;
  if (col == 1) {
    for (int64_t k = 0; k < kn; k++) {
      memcpy(to + k * lanes, from + k * row, sizeof(REAL) * (size_t)used);
    }
    l = used;
  } else if (row == 1) {
    for (; used >= 4 && l < used; l += 4) {
      const int64_t at = MT_MIN(l, used - 4);  // the last four may have been written in part
      const REAL *four = from + at * col, *next = four + 4 * col;
      for (int64_t k = 0; k < kn; k++) {
        if (k % LINE == 0) {  // streams as short as these are not foreseen
          for (int i = 0; i < 4; i++) __builtin_prefetch(next + k + i * col);
        }
        if (k + 4 <= kn) {
          FN(transpose)(to + k * lanes + at, lanes, four + k, col);
          k += 3;
          continue;
        }
        for (int i = 0; i < 4; i++) {
          to[k * lanes + at + i] = four[k + i * col];
        }
      }
    }
    l = MT_MIN(l, used);
  } else {
    for (; l + GROUP <= used; l += GROUP) {
      for (int64_t k = 0; k < kn; k++) {
        for (int i = 0; i < GROUP; i++) {
          to[k * lanes + l + i] = from[k * row + (l + i) * col];
        }
      }
    }
  }
  for (; l < lanes; l++) {
    for (int64_t k = 0; k < kn; k++) {
      to[k * lanes + l] = l < used ? from[k * row + l * col] : 0;
    }
  }
}

static inline __attribute__((always_inline)) void FN(strips)(REAL *to, const REAL *from, int64_t row, int64_t kn, int64_t lanes,
                                                            const int64_t strip) {
  const int64_t line = 64 / (int64_t)sizeof(REAL), whole = lanes / strip * strip;
  for (int64_t k = 0; k < kn; k++, from += row, to += strip) {
    for (int64_t l = 0; l < lanes + line - 1 && k + AHEAD < kn; l += line) {  // rows far apart: the machine does not guess them
      __builtin_prefetch(from + AHEAD * row + MT_MIN(l, lanes - 1));
    }
    for (int64_t l = 0; l < whole; l += strip) {
      memcpy(to + l * kn, from + l, (size_t)strip * sizeof(REAL));
    }
    for (int64_t l = whole; l < lanes; l++) {
      to[whole * kn + l - whole] = from[l];
    }
  }
}

// A constant length makes a copy a few moves.
void FN(mt_gemm_pack_strips)(REAL *to, const REAL *from, int64_t row, int64_t kn, int64_t lanes, int64_t strip) {
  switch (strip) {
    case 4: FN(strips)(to, from, row, kn, lanes, 4); break;
    case 6: FN(strips)(to, from, row, kn, lanes, 6); break;
    case 8: FN(strips)(to, from, row, kn, lanes, 8); break;
    case 14: FN(strips)(to, from, row, kn, lanes, 14); break;
    case 16: FN(strips)(to, from, row, kn, lanes, 16); break;
    case 32: FN(strips)(to, from, row, kn, lanes, 32); break;
    default: FN(strips)(to, from, row, kn, lanes, strip);
  }
}

#else
#include "gemm_pack.h"

enum { GROUP = 8, AHEAD = 8, LINE = 16 };

#define MT_SOURCE "gemm_pack.c"
#include "twice.h"

#endif
