// tile_planes: the micro-kernel for few outputs. The lanes of a vector are pixels, whose channels lie in planes, and the weights
// are broadcast. Included by tile.c, for the widest vectors, with WIDTH(name) giving the names.

#define VECTOR WIDTH(vector)
#define LANES (VECTOR_BYTES / (int64_t)sizeof(REAL))
#define LOAD(p) (*(const VECTOR *)(p))
#define STORE(p, v) (*(VECTOR *)(p) = (v))

INLINE void WIDTH(planes_tile)(const int outputs, const int vectors, REAL *acc, int64_t ld, const REAL *a, const int64_t *at,
                               const REAL *w, int64_t k, bool first) {
  VECTOR c[MT_TILE_FEW][MT_TILE_PLANES];
  UNROLL for (int o = 0; o < outputs; o++) {
    UNROLL for (int v = 0; v < vectors; v++) c[o][v] = (VECTOR){0};
  }
  for (int64_t i = 0; i < k; i++, w += outputs) {
    VECTOR x[MT_TILE_PLANES];
    UNROLL for (int v = 0; v < vectors; v++) x[v] = LOAD(a + at[i] + v * LANES);
    UNROLL for (int o = 0; o < outputs; o++) {
      UNROLL for (int v = 0; v < vectors; v++) c[o][v] = WIDTH(fma)(w[o], x[v], c[o][v]);
    }
  }
  UNROLL for (int o = 0; o < outputs; o++) {
    UNROLL for (int v = 0; v < vectors; v++) {
      REAL *to = acc + o * ld + v * LANES;
      if (!first) {
        c[o][v] += LOAD(to);
      }
      STORE(to, c[o][v]);
    }
  }
}

static void WIDTH(planes)(void *sums, int64_t ld, const void *pixels, const int64_t *at, const void *w, int64_t k, bool first,
                          int64_t outputs, int64_t vectors) {
  REAL *acc = sums;
  const REAL *a = pixels;
#define TILES(n, most) \
  for (; vectors >= (most); vectors -= (most), acc += (most) * LANES, a += (most) * LANES) { \
    WIDTH(planes_tile)(n, most, acc, ld, a, at, w, k, first); \
  }
  // As many vectors as the registers hold for so many outputs.
  switch (outputs) {
#if ROWS > 8
    case 1: TILES(1, 8) TILES(1, 2) TILES(1, 1) break;
    case 2: TILES(2, 8) TILES(2, 2) TILES(2, 1) break;
    case 3: TILES(3, 7) TILES(3, 4) TILES(3, 2) TILES(3, 1) break;
    case 4: TILES(4, 6) TILES(4, 2) TILES(4, 1) break;
    case 6: TILES(6, 4) TILES(6, 2) TILES(6, 1) break;
    default: TILES(8, 3) TILES(8, 1)
#else
    case 1: TILES(1, 4) TILES(1, 1) break;
    case 2: TILES(2, 4) TILES(2, 2) TILES(2, 1) break;
    case 3: TILES(3, 3) TILES(3, 1) break;
    case 4: TILES(4, 2) TILES(4, 1) break;
    case 6: TILES(6, 2) TILES(6, 1) break;
    default: TILES(8, 1)
#endif
  }
#undef TILES
}

#undef VECTOR
#undef LANES
#undef LOAD
#undef STORE
