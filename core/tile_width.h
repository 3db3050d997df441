// tile_width: the micro-kernels for panels of VECTORS vectors of VECTOR_BYTES. Included by tile.c for every width, with
// WIDTH(name) giving the names of that width. The loops over rows and vectors have constant bounds and are unrolled, so
// that `c` lives in registers.

// Like the processor's vector types, but without their alignment.
typedef REAL WIDTH(vector) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));
#define VECTOR WIDTH(vector)
#define STEP (VECTOR_BYTES / (int64_t)sizeof(REAL))
#define LOAD(p) (*(const VECTOR *)(p))
#define STORE(p, v) (*(VECTOR *)(p) = (v))

INLINE VECTOR WIDTH(fma)(REAL a, VECTOR b, VECTOR c) {
  const VECTOR broadcast = a - (VECTOR){0};
#if !defined(__FMA__)
  return broadcast * b + c;
#elif VECTOR_BYTES == 64
  return FMADD(_mm512)(broadcast, b, c);
#elif VECTOR_BYTES == 32
  return FMADD(_mm256)(broadcast, b, c);
#else
  return FMADD(_mm)(broadcast, b, c);
#endif
}

INLINE void WIDTH(chain_rows)(const int rows, REAL *acc, int64_t ld, const REAL *a, const REAL *w, int64_t k) {
  VECTOR c[ROWS][VECTORS];
  UNROLL for (int m = 0; m < rows; m++) {
    UNROLL for (int v = 0; v < VECTORS; v++) c[m][v] = (VECTOR){0};
  }
  for (int64_t i = 0; i < k; i++) {
    VECTOR b[VECTORS];
    UNROLL for (int v = 0; v < VECTORS; v++) b[v] = LOAD(w + v * STEP);
    w += VECTORS * STEP;
    UNROLL for (int m = 0; m < rows; m++) {
      UNROLL for (int v = 0; v < VECTORS; v++) c[m][v] = WIDTH(fma)(a[m * MT_TILE_STEP(REAL) + i], b[v], c[m][v]);
    }
  }
  UNROLL for (int m = 0; m < rows; m++) {
    UNROLL for (int v = 0; v < VECTORS; v++) STORE(acc + m * ld + v * STEP, LOAD(acc + m * ld + v * STEP) + c[m][v]);
  }
}

static void WIDTH(chain)(REAL *acc, int64_t ld, const REAL *a, const REAL *w, int64_t k, int64_t rows) {
#define CHAIN(n) \
  WIDTH(chain_rows)(n, acc, ld, a, w, k); \
  acc += (n) * ld; \
  a += (n) * MT_TILE_STEP(REAL);
  for (; rows >= ROWS; rows -= ROWS) { CHAIN(ROWS) }
#if ROWS > 8
  if (rows & 8) { CHAIN(8) }
#endif
  if (rows & 4) { CHAIN(4) }
  if (rows & 2) { CHAIN(2) }
  if (rows & 1) { CHAIN(1) }
#undef CHAIN
}

INLINE void WIDTH(reach_rows)(const int rows, REAL *acc, const REAL *const *a, const mt_tile_run *run, int64_t runs,
                              const REAL *w, bool first) {
  VECTOR c[ROWS][VECTORS];
  UNROLL for (int m = 0; m < rows; m++) {
    UNROLL for (int v = 0; v < VECTORS; v++) c[m][v] = (VECTOR){0};
  }
  for (const mt_tile_run *end = run + runs; run < end; run++) {
    for (int64_t i = run->x; i < run->x + run->n; i++) {
      VECTOR b[VECTORS];
      UNROLL for (int v = 0; v < VECTORS; v++) b[v] = LOAD(w + v * STEP);
      w += VECTORS * STEP;
      UNROLL for (int m = 0; m < rows; m++) {
        UNROLL for (int v = 0; v < VECTORS; v++) c[m][v] = WIDTH(fma)(a[m][i], b[v], c[m][v]);
      }
    }
  }
  UNROLL for (int m = 0; m < rows; m++) {
    UNROLL for (int v = 0; v < VECTORS; v++) {
      REAL *to = acc + (m * VECTORS + v) * STEP;
      if (!first) {
        c[m][v] += LOAD(to);
      }
      STORE(to, c[m][v]);
    }
  }
}

static void WIDTH(reach)(REAL *acc, const REAL *const *a, const mt_tile_run *run, int64_t runs, const REAL *w, bool first,
                         int64_t rows) {
#define REACH(n) \
  WIDTH(reach_rows)(n, acc, a, run, runs, w, first); \
  acc += (n) * VECTORS * STEP; \
  a += (n);
  for (; rows >= ROWS; rows -= ROWS) { REACH(ROWS) }
#if ROWS > 8
  if (rows & 8) { REACH(8) }
#endif
  if (rows & 4) { REACH(4) }
  if (rows & 2) { REACH(2) }
  if (rows & 1) { REACH(1) }
#undef REACH
}

INLINE void WIDTH(outer_rows)(const int rows, REAL *acc, int64_t ld, const REAL *a, int64_t a_step, const REAL *b,
                              int64_t b_step, int64_t k) {
  VECTOR c[ROWS][VECTORS];
  UNROLL for (int m = 0; m < rows; m++) {
    UNROLL for (int v = 0; v < VECTORS; v++) c[m][v] = (VECTOR){0};
  }
  for (int64_t i = 0; i < k; i++) {
    VECTOR x[VECTORS];
    UNROLL for (int v = 0; v < VECTORS; v++) x[v] = LOAD(b + v * STEP);
    UNROLL for (int m = 0; m < rows; m++) {
      UNROLL for (int v = 0; v < VECTORS; v++) c[m][v] = WIDTH(fma)(a[m], x[v], c[m][v]);
    }
    a += a_step;
    b += b_step;
  }
  UNROLL for (int m = 0; m < rows; m++) {
    UNROLL for (int v = 0; v < VECTORS; v++) STORE(acc + m * ld + v * STEP, LOAD(acc + m * ld + v * STEP) + c[m][v]);
  }
}

static void WIDTH(outer)(REAL *acc, int64_t ld, const REAL *a, int64_t a_step, const REAL *b, int64_t b_step, int64_t k,
                         int64_t rows) {
#define OUTER(n) \
  WIDTH(outer_rows)(n, acc, ld, a, a_step, b, b_step, k); \
  acc += (n) * ld; \
  a += (n);
  for (; rows >= ROWS; rows -= ROWS) { OUTER(ROWS) }
#if ROWS > 8
  if (rows & 8) { OUTER(8) }
#endif
  if (rows & 4) { OUTER(4) }
  if (rows & 2) { OUTER(2) }
  if (rows & 1) { OUTER(1) }
#undef OUTER
}

INLINE VECTOR WIDTH(fma_both)(VECTOR a, VECTOR b, VECTOR c) {
#if !defined(__FMA__)
  return a * b + c;
#elif VECTOR_BYTES == 64
  return FMADD(_mm512)(a, b, c);
#elif VECTOR_BYTES == 32
  return FMADD(_mm256)(a, b, c);
#else
  return FMADD(_mm)(a, b, c);
#endif
}

INLINE void WIDTH(lanewise_rows)(const int rows, REAL *acc, int64_t ld, const REAL *const *a, int64_t lane, const int64_t *at,
                                 const REAL *w, int64_t w_step, int64_t taps) {
  VECTOR c[4][VECTORS];
  UNROLL for (int m = 0; m < rows; m++) {
    UNROLL for (int v = 0; v < VECTORS; v++) c[m][v] = (VECTOR){0};
  }
  for (int64_t t = 0; t < taps; t++) {
    VECTOR b[VECTORS];
    UNROLL for (int v = 0; v < VECTORS; v++) b[v] = LOAD(w + t * w_step + v * STEP);
    UNROLL for (int m = 0; m < rows; m++) {
      UNROLL for (int v = 0; v < VECTORS; v++) c[m][v] = WIDTH(fma_both)(LOAD(a[m] + at[t] + lane + v * STEP), b[v], c[m][v]);
    }
  }
  UNROLL for (int m = 0; m < rows; m++) {
    UNROLL for (int v = 0; v < VECTORS; v++) STORE(acc + m * ld + v * STEP, c[m][v]);
  }
}

static void WIDTH(lanewise)(REAL *acc, int64_t ld, const REAL *const *a, int64_t lane, const int64_t *at, const REAL *w,
                            int64_t w_step, int64_t taps, int64_t rows) {
  for (; rows >= 4; rows -= 4, a += 4, acc += 4 * ld) {
    WIDTH(lanewise_rows)(4, acc, ld, a, lane, at, w, w_step, taps);
  }
  for (; rows > 0; rows--, a++, acc += ld) {
    WIDTH(lanewise_rows)(1, acc, ld, a, lane, at, w, w_step, taps);
  }
}

#undef VECTOR
#undef STEP
#undef LOAD
#undef STORE
