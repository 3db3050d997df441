// tile_rows: the micro-kernels of convolution with few channels per group, straight from the rows of an image. The lanes of a vector
// are channels and outputs at once, `group` neighbours each. Included by tile.c for float32. See tile.h.

typedef FN(outer_vector) rows_vector;
#define STEP ((int64_t)(WIDEST / sizeof(float)))
#define LOAD(p) (*(const rows_vector *)(p))
#define ALL _Pragma("GCC unroll 24")

// Channel c of each group in all lanes of that group.
INLINE rows_vector rows_spread(const int group, const int c, rows_vector x) {
  typedef int32_t places __attribute__((vector_size(WIDEST)));
  places from;
  ALL for (int l = 0; l < STEP; l++) from[l] = l / group * group + c;
  return group == 1 ? x : __builtin_shuffle(x, from);
}

// What lies ahead is fetched a little with every row of taps.
INLINE void rows_fetch(const mt_tile_rows *t, int64_t r, int64_t l) {
  const uintptr_t at = (uintptr_t)((l / STEP * t->rows + r) * t->fetch * 64);
  for (int64_t i = 0; i < t->fetch; i++) {
    __builtin_prefetch((const char *)(t->ahead[0] + at) + 64 * i);
    if (t->streams > 1) {
      __builtin_prefetch((const char *)(t->ahead[1] + at) + 64 * i);
    }
  }
}

// Sums of neighbouring pixels over rows of taps: a pixel is loaded once for all taps of a row that see it. from: [row][position].
// Every sum takes its terms in the order (row, tap, channel).
INLINE void rows_slide(const int pixels, const int width, const int stride, const int group, rows_vector *c, const mt_tile_rows *t,
                       int64_t l) {
  const int positions = (pixels - 1) * stride + width;
  const float *const *from = t->from;
  ALL for (int m = 0; m < pixels; m++) c[m] = (rows_vector){0};
  for (int64_t r = 0; r < t->rows; r++, from += positions) {
    const float *w = t->w[r] + l;
    rows_fetch(t, r, l);
    ALL for (int s = 0; s < positions; s++) {
      const rows_vector x = LOAD(from[s] + l);
      ALL for (int i = 0; i < group; i++) {
        const rows_vector v = rows_spread(group, i, x);
        ALL for (int k = 0; k < width; k++) {
          const int m = (s - k) / stride;
          if (s >= k && m * stride == s - k && m < pixels) {
            c[m] = FN(lanewise_fma)(v, LOAD(w + (k * group + i) * t->lanes), c[m]);
          }
        }
      }
    }
  }
}

// The same for any width.
INLINE void rows_plain(const int pixels, const int group, rows_vector *c, const mt_tile_rows *t, int64_t l) {
  const int64_t positions = (pixels - 1) * t->stride + t->width;
  const float *const *from = t->from;
  ALL for (int m = 0; m < pixels; m++) c[m] = (rows_vector){0};
  for (int64_t r = 0; r < t->rows; r++, from += positions) {
    const float *w = t->w[r] + l;
    rows_fetch(t, r, l);
    for (int64_t k = 0; k < t->width; k++, w += group * t->lanes) {
      rows_vector x[8];
      ALL for (int m = 0; m < pixels; m++) x[m] = LOAD(from[m * t->stride + k] + l);
      ALL for (int i = 0; i < group; i++) {
        const rows_vector b = LOAD(w + i * t->lanes);
        ALL for (int m = 0; m < pixels; m++) c[m] = FN(lanewise_fma)(rows_spread(group, i, x[m]), b, c[m]);
      }
    }
  }
}

INLINE void rows_finish(const int pixels, rows_vector *c, float *y, int64_t y_step, const float *bias, const mt_tile_behind *f,
                        int64_t output, bool away) {
  ALL for (int m = 0; m < pixels; m++) c[m] += (rows_vector){0};
  if (bias) {
    const rows_vector add = LOAD(bias);
    ALL for (int m = 0; m < pixels; m++) c[m] += add;
  }
  if (f && f->norm) {
    ALL for (int m = 0; m < pixels; m++) {
      for (int64_t i = 0; i < STEP; i++) c[m][i] = FN(normalise_frozen)(c[m][i], 1, f->norm + output + i, f->outputs);
    }
  }
  if (f && f->activation == MT_ACTIVATION_RELU) {
    ALL for (int m = 0; m < pixels; m++) MT_TILE_ACTIVATE(c[m], MT_ACTIVATION_RELU, 0);
  } else if (f && f->activation == MT_ACTIVATION_LEAKY_RELU) {
    const float slope = (float)f->a;
    ALL for (int m = 0; m < pixels; m++) MT_TILE_ACTIVATE(c[m], MT_ACTIVATION_LEAKY_RELU, slope);
  }
#if WIDEST == 64
  if (away && (((uintptr_t)y | (uintptr_t)y_step * sizeof *y) & 63) == 0) {
    ALL for (int m = 0; m < pixels; m++) _mm512_stream_ps(y + m * y_step, (__m512)c[m]);
    return;
  }
#endif
  (void)away;
  ALL for (int m = 0; m < pixels; m++) *(rows_vector *)(y + m * y_step) = c[m];
}

// All lanes; the last vector may begin inside the one before.
#define EACH(pixels, sums)                                                                               \
  for (int64_t l = 0; l < t->lanes; l += STEP) {                                                         \
    rows_vector c[8];                                                                                    \
    l = MT_MIN(l, t->lanes - STEP);                                                                      \
    sums;                                                                                                \
    rows_finish(pixels, c, y + l, y_step, t->bias ? t->bias + l : NULL, t->behind, l, t->away);          \
  }
#define NAME(pixels, width, stride, group) rows_slide_##pixels##_##width##_##stride##_##group
#define SLIDE(pixels, width, stride, group)                                                              \
  static __attribute__((noinline)) void NAME(pixels, width, stride, group)(const mt_tile_rows *t, float *y, int64_t y_step) { \
    EACH(pixels, rows_slide(pixels, width, stride, group, c, t, l))                                      \
  }
#define PLAIN(pixels, group)                                                                             \
  static __attribute__((noinline)) void rows_plain_##pixels##_##group(const mt_tile_rows *t, float *y, int64_t y_step) { \
    EACH(pixels, rows_plain(pixels, group, c, t, l))                                                     \
  }
#if WIDEST == 64
#define FOR_GROUPS(F) F(1) F(2) F(4) F(8) F(16)
#elif WIDEST == 32
#define FOR_GROUPS(F) F(1) F(2) F(4) F(8)
#else
#define FOR_GROUPS(F) F(1) F(2) F(4)
#endif
#define BOTH(pixels, group) SLIDE(pixels, 3, 1, group) PLAIN(pixels, group)
#define GROUP(group) BOTH(8, group) BOTH(7, group) PLAIN(4, group) PLAIN(1, group)
FOR_GROUPS(GROUP)
SLIDE(8, 5, 1, 1) SLIDE(7, 5, 1, 1) SLIDE(8, 7, 1, 1) SLIDE(7, 7, 1, 1) SLIDE(8, 3, 2, 1) SLIDE(7, 3, 2, 1)
#undef GROUP
#undef BOTH
#undef PLAIN
#undef SLIDE
#undef EACH

static void near_rows(const mt_tile_rows *t, float *y, int64_t y_step, int64_t pixels) {
#define SLIDE(width_, stride_, group_)                                                                     \
  if (t->width == width_ && t->stride == stride_ && t->group == group_ && pixels >= 7) {                   \
    (pixels == 7 ? NAME(7, width_, stride_, group_) : NAME(8, width_, stride_, group_))(t, y, y_step);     \
    return;                                                                                                \
  }
#define PLAIN(pixels_, group_)                                                                             \
  if (pixels == pixels_) {                                                                                 \
    rows_plain_##pixels_##_##group_(t, y, y_step);                                                         \
    return;                                                                                                \
  }
#define GROUP(group_)                                                                                      \
  SLIDE(3, 1, group_)                                                                                      \
  if (t->group == group_) {                                                                                \
    PLAIN(8, group_) PLAIN(7, group_) PLAIN(4, group_) PLAIN(1, group_)                                    \
  }
  SLIDE(5, 1, 1) SLIDE(7, 1, 1) SLIDE(3, 2, 1)
  FOR_GROUPS(GROUP)
#undef GROUP
#undef PLAIN
#undef SLIDE
}

#undef NAME
#undef FOR_GROUPS
#undef ALL
#undef STEP
#undef LOAD
