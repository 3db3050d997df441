// gemm_slab: one large product. The terms go in slabs of whole blocks. Of a slab, both operands are laid out for the micro-kernels
// once, in parallel; an operand too long for that is laid out by the tasks instead, each its own part, and the tasks are cut along
// it. A task works on some rows and some lanes of c; between slabs the sums wait in c itself.
#ifdef REAL

// Terms [k0, k0 + kn) of rows [i0, i0 + rows): for every few rows that fill the registers, a strip of columns.
static void FN(pack_a_block)(const slabs *s, REAL *to, int64_t i0, int64_t rows, int64_t k0, int64_t kn) {
  const mt_gemm *g = s->g;
  const REAL *from = (const REAL *)g->a + g->offset[0] + i0 * g->a_row + k0 * g->a_col;
  const int64_t strip = s->tile->rows;
  if (g->a_row == 1) {
    FN(mt_gemm_pack_strips)(to, from, g->a_col, kn, rows, strip);
  } else {
    for (int64_t r = 0; r < rows; r += strip) {
      FN(mt_gemm_pack_panel)(to + r * kn, from + r * g->a_row, g->a_col, g->a_row, kn, MT_MIN(strip, rows - r), strip);
    }
  }
  for (int64_t r = 0; s->bf16 && r < rows; r += strip) {
    mt_bf16_round((float *)to + r * kn, kn, strip, s->pairs);
  }
}

static void FN(pack_b_panel)(const slabs *s, REAL *to, int64_t j0, int64_t lanes, int64_t k0, int64_t kn) {
  const mt_gemm *g = s->g;
  const REAL *from = (const REAL *)g->b + g->offset[1] + j0 * g->b_col + k0 * g->b_row;
  FN(mt_gemm_pack_panel)(to, from, g->b_row, g->b_col, kn, MT_MIN(lanes, g->n - j0), lanes);
}

static void FN(pack_a)(const slabs *s, REAL *to, int64_t i0, int64_t rows) {
  for (int64_t b = s->first; b < s->last; b++) {
    FN(pack_a_block)(s, to + a_at(s, b), i0, rows, block_begin(s, b), block_terms(s, b));
  }
}

// Panels of the lanes [j0, j0 + lanes); `padded` lanes lie side by side in one block.
static void FN(pack_b)(const slabs *s, REAL *to, int64_t padded, int64_t j0, int64_t lanes, int64_t b0, int64_t b1) {
  for (int64_t b = b0; b < b1; b++) {
    const int64_t k0 = block_begin(s, b), kn = block_terms(s, b);
    REAL *panel = to + (k0 - s->begin) * padded;
    int64_t l = 0;
    if (s->g->b_col == 1) {
      const int64_t widest = s->tile->lanes[MT_TILE_TYPE(s->g->dtype)];
      const REAL *from = (const REAL *)s->g->b + s->g->offset[1] + j0 + k0 * s->g->b_row;
      l = MT_MIN(lanes, s->g->n - j0) / widest * widest;
      FN(mt_gemm_pack_strips)(panel, from, s->g->b_row, kn, l, widest);
    }
    for (int64_t width; l < lanes; l += width) {
      width = mt_tile_panel(s->tile, s->g->dtype, s->padded - j0 - l);
      FN(pack_b_panel)(s, panel + l * kn, j0 + l, width, k0, kn);
    }
    for (int64_t r = 0, width; s->bf16 && r < lanes; r += width) {
      width = mt_tile_panel(s->tile, s->g->dtype, s->padded - j0 - r);
      mt_bf16_round((float *)panel + r * kn, kn, width, s->pairs);
    }
  }
}

static void FN(load)(const mt_gemm *g, REAL *sums, int64_t ld, const REAL *c, int64_t rows, int64_t columns) {
  for (int64_t y = 0; y < rows; y++, c += g->c_row, sums += ld) {
    if (g->c_col == 1) {
      memcpy(sums, c, sizeof(REAL) * (size_t)columns);
    } else {
      for (int64_t x = 0; x < columns; x++) sums[x] = c[x * g->c_col];
    }
  }
}

MT_CLONES static void FN(add_bias)(REAL *restrict c, const REAL *restrict sums, const REAL *restrict bias, int64_t n) {
  for (int64_t x = 0; x < n; x++) c[x] = sums[x] + bias[x];
}

// bias: NULL but for the last slab.
static void FN(store)(const mt_gemm *g, REAL *c, const REAL *sums, int64_t ld, int64_t rows, int64_t columns, const REAL *bias) {
  if (g->c_col != 1) {
    for (int64_t x = 0; x < columns; x++) {
      for (int64_t y = 0; y < rows; y++) {
        c[y * g->c_row + x * g->c_col] = bias ? sums[y * ld + x] + bias[x] : sums[y * ld + x];
      }
    }
    return;
  }
  for (int64_t y = 0; y < rows; y++, c += g->c_row, sums += ld) {
    if (bias) {
      FN(add_bias)(c, sums, bias, columns);
    } else {
      memcpy(c, sums, sizeof(REAL) * (size_t)columns);
    }
  }
}

// `count` rows, `row` apart, of an operand whose terms lie `col` apart: the slab's terms, in `calls` pieces.
static fetch FN(fetch_of)(const slabs *s, const REAL *from, int64_t row, int64_t col, int64_t count, int64_t calls) {
  const int64_t size = sizeof(REAL);
  from += s->begin * col;
  return col == 1 ? fetch_lines(from, count, row * size, s->terms * size, calls)
       : row == 1 ? fetch_lines(from, s->terms, col * size, count * size, calls)
                  : (fetch){.left = 0};
}

// Adds the slab to rows [i0, i0 + rows) and lanes [j0, j0 + lanes) of c. b: the slab's panels, `padded` lanes side by side, of
// which these begin at j0 - origin.
static void FN(multiply)(const slabs *s, REAL *sums, const REAL *a, const REAL *b, int64_t padded, int64_t origin, int64_t i0,
                         int64_t rows, int64_t j0, int64_t lanes, fetch *next) {
  const mt_gemm *g = s->g;
  const int32_t type = MT_TILE_TYPE(g->dtype);
  const int64_t strip = s->tile->rows;
  const int64_t columns = MT_MIN(lanes, g->n - j0);
  REAL *c = (REAL *)g->c + g->offset[2] + i0 * g->c_row + j0 * g->c_col;
  memset(sums, 0, sizeof(REAL) * (size_t)(rows * lanes));
  if (s->first > 0) {
    FN(load)(g, sums, lanes, c, rows, columns);
  }
  for (int64_t block = s->first; block < s->last; block++) {
    const int64_t k0 = block_begin(s, block), kn = block_terms(s, block);
    const REAL *rows_of_a = a + a_at(s, block), *panels = b + (k0 - s->begin) * padded;
    for (int64_t l = 0, width; l < lanes; l += width) {
      width = mt_tile_panel(s->tile, g->dtype, s->padded - j0 - l);
      const REAL *panel = panels + (j0 - origin + l) * kn;
      int64_t step = width;
      if (s->direct) {
        panel = (const REAL *)g->b + g->offset[1] + k0 * g->b_row + j0 + l;
        step = g->b_row;
      }
      for (int64_t r = 0; r < rows; r += strip) {
        if (block == s->last - 1 && g->c_col == 1) {  // c's lines come while the last terms are added
          for (int64_t y = r; y < MT_MIN(r + strip, rows); y++) {
            for (int64_t x = l; x <= l + width; x += LINE(REAL)) {
              __builtin_prefetch(c + y * g->c_row + x, 1);
            }
          }
        }
        fetch_some(next);
        if (s->pairs) {
          mt_tile_bf16((float *)sums + r * lanes + l, lanes, (const uint32_t *)(rows_of_a + r * kn), strip, (const uint32_t *)panel,
                       (kn + 1) / 2, MT_MIN(strip, rows - r), width);
          continue;
        }
        s->tile->outer[type](sums + r * lanes + l, lanes, rows_of_a + r * kn, strip, panel, step, kn, MT_MIN(strip, rows - r), width);
      }
    }
  }
  FN(store)(g, c, sums, lanes, rows, columns, g->bias && s->last == s->blocks ? (const REAL *)g->bias + j0 : NULL);
}

// Shared layout: units of one block of terms and one block of rows, then of one block of terms and one chunk of lanes.
static void FN(pack_task)(void *context, int64_t begin, int64_t end) {
  slabs *s = context;
  const int64_t blocks = s->last - s->first, of_a = s->share_a ? s->down * blocks : 0;
  for (int64_t unit = begin; unit < end; unit++) {
    const int64_t at = unit < of_a ? unit : unit - of_a, b = s->first + at % blocks, part = at / blocks;
    if (unit < of_a) {
      const int64_t i0 = part * s->rows;
      FN(pack_a_block)(s, (REAL *)s->a + part * s->a_block + a_at(s, b), i0, MT_MIN(s->rows, s->g->m - i0), block_begin(s, b),
                       block_terms(s, b));
    } else {
      const int64_t j0 = part * s->lanes;
      FN(pack_b)(s, (REAL *)s->b + j0 * block_terms(s, b), s->padded, j0, MT_MIN(s->lanes, s->padded - j0), b, b + 1);
    }
  }
}

// The next unit's own part of an operand, fetched while this unit is multiplied. (Fetching the next slab of shared operands
// gained nothing.)
static fetch FN(plan_fetch)(const slabs *s, int64_t unit) {
  const mt_gemm *g = s->g;
  const int64_t calls = up(s->rows, s->tile->rows) * up(s->lanes, s->tile->lanes[MT_TILE_TYPE(g->dtype)]) * (s->last - s->first);
  if (!s->share_a && unit + 1 < s->down) {
    const int64_t i0 = (unit + 1) * s->rows;
    const REAL *a = (const REAL *)g->a + g->offset[0] + i0 * g->a_row;
    return FN(fetch_of)(s, a, g->a_row, g->a_col, MT_MIN(s->rows, g->m - i0), calls * s->across);
  }
  if (!s->share_b && !s->direct && unit + 1 < s->across) {
    const int64_t j0 = (unit + 1) * s->lanes;
    const REAL *b = (const REAL *)g->b + g->offset[1] + j0 * g->b_col;
    return FN(fetch_of)(s, b, g->b_col, g->b_row, MT_MIN(s->lanes, g->n - j0), calls * s->down);
  }
  return (fetch){.left = 0};
}

static void FN(task)(void *context, int64_t begin, int64_t end) {
  slabs *s = context;
  const int32_t slot = claim(s);
  REAL *sums = (REAL *)s->scratch + slot * s->scratch_block, *own = sums + s->rows * s->lanes;
  for (int64_t unit = begin; unit < end; unit++) {
    // The blocks of rows of one chunk of lanes follow one another, so that its panels stay near.
    const int64_t i_first = s->share_a && s->share_b ? unit % s->down : s->share_b ? unit : 0;
    const int64_t i_last = s->share_b ? i_first : s->down - 1;
    const int64_t j_first = s->share_a && s->share_b ? unit / s->down : s->share_b ? 0 : unit;
    const int64_t j_last = s->share_a ? j_first : s->across - 1;
    fetch next = FN(plan_fetch)(s, unit);
    if (!s->share_a) {
      FN(pack_a)(s, own, i_first * s->rows, MT_MIN(s->rows, s->g->m - i_first * s->rows));
    }
    for (int64_t j = j_first; j <= j_last; j++) {
      const int64_t j0 = j * s->lanes, lanes = MT_MIN(s->lanes, s->padded - j0);
      if (!s->share_b) {
        FN(pack_b)(s, own, lanes, j0, lanes, s->first, s->last);
      }
      for (int64_t i = i_first; i <= i_last; i++) {
        const REAL *a = s->share_a ? (REAL *)s->a + i * s->a_block : own, *b = s->share_b ? s->b : own;
        FN(multiply)(s, sums, a, b, s->share_b ? s->padded : lanes, s->share_b ? 0 : j0, i * s->rows,
                     MT_MIN(s->rows, s->g->m - i * s->rows), j0, lanes, &next);
      }
    }
  }
  release(s, slot);
}

#else
#include "gemm.h"
#include "gemm_pack.h"
#include "tile_bf16.h"
#include "vector_math.h"

enum {
  LANES = 128,           // lanes of a task, a multiple of every panel
  LEAST_BYTES = 4096,    // terms of a slab, in bytes of one row or column
  MOST_BYTES = 16384,
  SLAB_BYTES = 8 << 20,  // of one operand
  SHARED_BYTES = 16 << 20,
  TASKS = 24,            // below this number, tasks are made smaller
  SLOTS = 256,
};
#define LINE(type) (64 / (int64_t)sizeof(type))
static const double LITTLE = 4e5;  // multiplications that are not worth a second thread

typedef struct {
  const mt_gemm *g;
  const mt_tile *tile;
  int64_t run_blocks, blocks;        // blocks of a run, of all terms
  int64_t first, last, begin, terms; // the slab: blocks [first, last), its first term, how many
  int64_t rows, lanes, down, across; // of a task, and how many of these
  int64_t padded, stored;            // lanes of all panels; rows of all strips of a task
  int64_t a_block;                   // elements of one block of rows of a slab
  int64_t scratch_block;             // elements of a slot: sums, then a task's own part of an operand
  bool share_a, share_b;             // laid out once for all tasks
  bool direct;                       // b is read as it lies
  bool bf16, pairs;                  // operands are rounded; for mt_tile_bf16
  void *a, *b, *scratch;
  int32_t slots;
  char busy[SLOTS];
} slabs;

// Where block b of the terms begins, and its length.
static inline int64_t block_begin(const slabs *s, int64_t b) {
  return b / s->run_blocks * s->g->run + b % s->run_blocks * MT_TILE_K;
}

static inline int64_t block_terms(const slabs *s, int64_t b) {
  return MT_MIN((int64_t)MT_TILE_K, s->g->run - b % s->run_blocks * MT_TILE_K);
}

// Where block b begins within a block of rows, per row.
static inline int64_t a_at(const slabs *s, int64_t b) { return (block_begin(s, b) - s->begin) * s->stored; }

// One slot of scratch memory per running task; there are as many as threads.
static int32_t claim(slabs *s) {
  for (int32_t i = 0;; i = (i + 1) % s->slots) {
    if (!__atomic_test_and_set(&s->busy[i], __ATOMIC_ACQUIRE)) {
      return i;
    }
  }
}

static void release(slabs *s, int32_t slot) { __atomic_clear(&s->busy[slot], __ATOMIC_RELEASE); }

static int64_t up(int64_t n, int64_t by) { return (n + by - 1) / by; }

// ---- memory ahead -----------------------------------------------------------------------------------------------------------

// Lines of memory still to be fetched, a few per call of a micro-kernel: laying out an operand would wait for most of them.
typedef struct {
  const char *at;              // the row of the next line
  int64_t stride, per, inside; // bytes between rows, lines of a row, the next one within it
  int64_t left, each;
} fetch;

static fetch fetch_lines(const void *from, int64_t rows, int64_t stride, int64_t bytes, int64_t calls) {
  const int64_t per = bytes / 64 + 1;
  return (fetch){from, stride, per, 0, rows * per, up(rows * per, calls)};
}

static inline void fetch_some(fetch *f) {
  const int64_t count = MT_MIN(f->each, f->left);
  for (int64_t i = 0; i < count; i++) {
    __builtin_prefetch(f->at + f->inside * 64);
    if (++f->inside == f->per) {
      f->inside = 0;
      f->at += f->stride;
    }
  }
  f->left -= count;
}

#define MT_SOURCE "gemm_slab.c"
#include "twice.h"

// The most blocks that a slab may have: the more, the less often c is read and written.
static int64_t slab_blocks(const slabs *s, int64_t size) {
  const int64_t block = MT_MIN(s->g->run, (int64_t)MT_TILE_K), longer = MT_MAX(s->g->m, s->padded);
  const int64_t terms = MT_MIN(MT_MAX(LEAST_BYTES, SLAB_BYTES / longer), MOST_BYTES) / size;
  return MT_MIN(s->blocks, MT_MAX(1, terms / block));
}

static void cut(slabs *s, int64_t size) {
  const mt_gemm *g = s->g;
  const int64_t terms = slab_blocks(s, size) * MT_MIN(g->run, (int64_t)MT_TILE_K);
  s->rows = MT_MIN((int64_t)MT_TILE_ROWS, g->m);
  s->lanes = LANES;
  s->share_a = g->m * terms * size <= SHARED_BYTES || g->m <= g->n;
  s->share_b = s->padded * terms * size <= SHARED_BYTES || g->m > g->n;
  for (;;) {
    s->down = up(g->m, s->rows);
    s->across = up(s->padded, s->lanes);
    const int64_t tasks = s->share_a && s->share_b ? s->down * s->across : s->share_b ? s->down : s->across;
    const bool rows = s->share_b && s->rows > 2 * s->tile->rows, lanes = s->share_a && s->lanes > s->tile->lanes[MT_TILE_TYPE(g->dtype)];
    if (tasks >= TASKS || !(rows || lanes)) {
      break;
    }
    if (rows && (s->rows > s->lanes || !lanes)) {
      s->rows = up(up(s->rows, 2), s->tile->rows) * s->tile->rows;
    } else {
      s->lanes /= 2;
    }
  }
}

// What only one task would read is laid out by the tasks, near to where it is used.
static void keep_near(slabs *s) {
  if (s->share_a && s->share_b && s->down == 1 && s->across >= TASKS) {
    s->share_b = false;
  } else if (s->share_a && s->share_b && s->across == 1 && s->down >= TASKS) {
    s->share_a = false;
  }
}

static int run_slab(slabs *s, bool little) {
  const int64_t blocks = s->last - s->first;
  const int64_t packs = ((s->share_a ? s->down : 0) + (s->share_b && !s->direct ? s->across : 0)) * blocks;
  const int64_t tasks = s->share_a && s->share_b ? s->down * s->across : s->share_b ? s->down : s->across;
  MT_TRY(mt_parallel(packs, little ? MT_MAX(1, packs) : 1, MT_REAL_FN(s->g->dtype, pack_task), s));
  return mt_parallel(tasks, little ? tasks : 1, MT_REAL_FN(s->g->dtype, task), s);
}

int mt_gemm_slabs(const mt_gemm *g) {
  const int64_t size = mt_dtype_size(g->dtype);
  slabs s = {.g = g, .tile = mt_tile_get(), .run_blocks = up(g->run, MT_TILE_K)};
  s.blocks = g->k / g->run * s.run_blocks;
  s.padded = mt_tile_padded(s.tile, g->dtype, g->n);
  s.bf16 = g->bf16 && g->dtype == MT_FLOAT32;
  s.pairs = s.bf16 && mt_tile_has_bf16();
  s.direct = !s.bf16 && g->m <= s.tile->rows && g->b_col == 1 && s.padded == g->n;
  cut(&s, size);
  keep_near(&s);
  const int64_t most = slab_blocks(&s, size), terms = most * MT_MIN(g->run, (int64_t)MT_TILE_K);
  s.stored = up(s.rows, s.tile->rows) * s.tile->rows;
  s.a_block = terms * s.stored;
  s.scratch_block = s.rows * s.lanes + (s.share_a ? 0 : s.a_block) + (s.share_b ? 0 : terms * s.lanes);
  s.slots = MT_MIN(mt_threads_get(), (int32_t)SLOTS);
  int64_t shared_b = 0;
  if (s.share_b && !s.direct && !mt_mul(&shared_b, terms, s.padded)) {
    return mt_fail(MT_ERROR_MEMORY, "out of memory: a matrix does not fit in 64 bits");
  }
  s.a = s.share_a ? mt_alloc_array(s.down * s.a_block, size) : NULL;
  s.b = shared_b ? mt_alloc_array(shared_b, size) : NULL;
  s.scratch = mt_alloc_array(s.slots * s.scratch_block, size);
  int status = (s.share_a && !s.a) || (shared_b && !s.b) || !s.scratch ? MT_ERROR_MEMORY : MT_OK;
  const bool little = (double)g->m * (double)g->n * (double)g->k < LITTLE;
  while (status == MT_OK && s.last < s.blocks) {
    s.first = s.last;
    s.begin = block_begin(&s, s.first);
    s.last = MT_MIN(s.blocks, s.first + most);
    s.terms = (s.last < s.blocks ? block_begin(&s, s.last) : g->k) - s.begin;
    status = run_slab(&s, little);
  }
  mt_free(s.scratch);
  mt_free(s.b);
  mt_free(s.a);
  return status;
}

#endif
