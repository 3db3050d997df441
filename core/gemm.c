// gemm: see gemm.h.
#ifdef REAL

// c = sums, or c += sums.
static void FN(store)(const mt_gemm *g, REAL *c, const REAL *sums, int64_t ld, int64_t rows, int64_t columns, bool first) {
  for (int64_t y = 0; y < rows; y++, c += g->c_row, sums += ld) {
    if (g->c_col == 1 && first) {
      memcpy(c, sums, sizeof(REAL) * (size_t)columns);
    } else if (g->c_col == 1) {
      for (int64_t x = 0; x < columns; x++) {
        c[x] += sums[x];
      }
    } else {
      for (int64_t x = 0; x < columns; x++) {
        c[x * g->c_col] = first ? sums[x] : c[x * g->c_col] + sums[x];
      }
    }
  }
}

// One block of c: rows [i0, i0 + rows), columns [j0, j0 + columns) of matrix `which`.
static void FN(block)(const job *j, int64_t which, int64_t i0, int64_t rows, int64_t j0, int64_t columns, void *scratch) {
  const mt_gemm *g = j->g;
  const int64_t *offset = g->offset + 3 * which;
  const REAL *a = (const REAL *)g->a + offset[0] + i0 * g->a_row, *b = (const REAL *)g->b + offset[1] + j0 * g->b_col;
  REAL *c = (REAL *)g->c + offset[2] + i0 * g->c_row + j0 * g->c_col;
  REAL *packed_a = scratch, *packed_b = packed_a + PACKED_A;
  REAL *sums = packed_b + PACKED_B;
  for (int64_t k0 = 0; k0 < g->k; k0 += MT_TILE_K) {
    const int64_t kn = MT_MIN(g->k - k0, (int64_t)MT_TILE_K);
    REAL *panel = packed_b;
    for (int64_t l = 0, lanes; l < columns; l += lanes, panel += kn * lanes) {
      lanes = mt_tile_panel(j->tile, g->dtype, columns - l);
      FN(mt_gemm_pack_panel)(panel, b + k0 * g->b_row + l * g->b_col, g->b_row, g->b_col, kn, MT_MIN(lanes, columns - l), lanes);
    }
    for (int64_t r = 0, height; r < rows; r += height) {
      height = MT_MIN(rows - r, (int64_t)MT_TILE_ROWS);
      FN(mt_gemm_pack_rows)(packed_a, a + r * g->a_row + k0 * g->a_col, g->a_row, g->a_col, height, kn);
      panel = packed_b;
      for (int64_t l = 0, lanes; l < columns; l += lanes, panel += kn * lanes) {
        lanes = mt_tile_panel(j->tile, g->dtype, columns - l);
        memset(sums, 0, sizeof(REAL) * (size_t)(height * lanes));
        j->tile->chain[MT_TILE_TYPE(g->dtype)](sums, lanes, packed_a, panel, kn, height, lanes);
        FN(store)(g, c + r * g->c_row + l * g->c_col, sums, lanes, height, MT_MIN(lanes, columns - l), k0 == 0);
      }
    }
  }
}

// ---- large products: OpenBLAS on one tile of c -----------------------------------------------------------------------

// Terms [0, k) of `rows` rows of a strided matrix, row-major.
static void FN(gather)(REAL *to, const REAL *from, int64_t row, int64_t col, int64_t rows, int64_t k) {
  for (int64_t r0 = 0; r0 < rows; r0 += GROUP) {  // a few rows at a time: where rows are neighbours, lines are used whole
    const int64_t count = MT_MIN(rows - r0, (int64_t)GROUP);
    for (int64_t i = 0; i < k; i++) {
      for (int64_t r = r0; r < r0 + count; r++) {
        to[r * k + i] = from[r * row + i * col];
      }
    }
  }
}

// What BLAS can read as it is, or a copy in scratch: always row-major, because its kernels for other layouts may round otherwise.
// Returns the distance of rows.
static int FN(operand)(const REAL **at, REAL *scratch, int64_t row, int64_t col, int64_t rows, int64_t columns) {
  if (col == 1 && row >= columns && row <= INT_MAX) {
    return (int)row;
  }
  FN(gather)(scratch, *at, row, col, rows, columns);
  *at = scratch;
  return (int)columns;
}

static void FN(blas_tile)(const mt_gemm *g, int64_t which, int64_t i0, int64_t rows, int64_t j0, int64_t columns, void *scratch) {
  const int64_t *offset = g->offset + 3 * which;
  const REAL *a = (const REAL *)g->a + offset[0] + i0 * g->a_row, *b = (const REAL *)g->b + offset[1] + j0 * g->b_col;
  REAL *c = (REAL *)g->c + offset[2] + i0 * g->c_row + j0 * g->c_col;
  REAL *copy_a = scratch, *copy_b = copy_a + BLAS_ROWS * BLAS_K, *copy_c = copy_b + BLAS_K * BLAS_COLUMNS;
  const bool direct = g->c_col == 1 && g->c_row >= columns && g->c_row <= INT_MAX;
  REAL *to = direct ? c : copy_c;
  const int ldc = direct ? (int)g->c_row : (int)columns;
  for (int64_t k0 = 0; k0 < g->k; k0 += BLAS_K) {
    const int64_t kn = MT_MIN(g->k - k0, (int64_t)BLAS_K);
    const REAL *at_a = a + k0 * g->a_col, *at_b = b + k0 * g->b_row;
    const int lda = FN(operand)(&at_a, copy_a, g->a_row, g->a_col, rows, kn);
    const int ldb = FN(operand)(&at_b, copy_b, g->b_row, g->b_col, kn, columns);
    FN(blas_gemm)((int)rows, (int)columns, (int)kn, at_a, lda, at_b, ldb, k0 == 0 ? 0 : 1, to, ldc);
  }
  for (int64_t y = 0; !direct && y < rows; y++) {
    for (int64_t x = 0; x < columns; x++) {
      c[y * g->c_row + x * g->c_col] = copy_c[y * columns + x];
    }
  }
}

#else
#include <cblas.h>
#include <limits.h>

#include "gemm.h"
#include "gemm_pack.h"

enum {
  BLOCK_ROWS = 4 * MT_TILE_ROWS,
  BLOCK_COLUMNS = 256,
  LANES_MAX = 64,
  GROUP = 8,
  PACKED_A = MT_TILE_ROWS * MT_TILE_STEP(float),  // of float: the step of double is smaller
  PACKED_B = MT_TILE_K * (BLOCK_COLUMNS + LANES_MAX),
  SCRATCH = PACKED_A + PACKED_B + MT_TILE_ROWS * LANES_MAX,
};

typedef struct {
  const mt_gemm *g;
  const mt_tile *tile;
  int64_t rows, columns, down, across;  // size of a block, blocks per matrix
  int status;
} job;

// Where large products go to OpenBLAS, they do in tiles of c that depend on the shape alone, each one call on one thread, so that the
// number of threads cannot change a bit.
enum { BLAS_ROWS = 256, BLAS_COLUMNS = 512, BLAS_K = 2048 };
static const double LARGE = 4e6;  // multiplications of one matrix

static void blas_gemm_f32(int m, int n, int k, const float *a, int lda, const float *b, int ldb, float beta,
                          float *c, int ldc) {
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1, a, lda, b, ldb, beta, c, ldc);
}

static void blas_gemm_f64(int m, int n, int k, const double *a, int lda, const double *b, int ldb, double beta,
                          double *c, int ldc) {
  cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1, a, lda, b, ldb, beta, c, ldc);
}

#define MT_SOURCE "gemm.c"
#include "twice.h"

static void task(void *context, int64_t begin, int64_t end) {
  job *j = context;
  const mt_gemm *g = j->g;
  void *scratch = mt_alloc_array(SCRATCH, mt_dtype_size(g->dtype));
  if (scratch == NULL) {
    __atomic_store_n(&j->status, MT_ERROR_MEMORY, __ATOMIC_RELAXED);
    return;
  }
  for (int64_t unit = begin; unit < end; unit++) {
    const int64_t which = unit / (j->down * j->across), at = unit % (j->down * j->across);
    const int64_t i0 = at / j->across * j->rows, j0 = at % j->across * j->columns;
    MT_REAL_CALL(g->dtype, block, j, which, i0, MT_MIN(j->rows, g->m - i0), j0, MT_MIN(j->columns, g->n - j0), scratch);
  }
  mt_free(scratch);
}

static void blas_task(void *context, int64_t begin, int64_t end) {
  job *j = context;
  const mt_gemm *g = j->g;
  void *scratch = mt_alloc_array((int64_t)BLAS_K * (BLAS_ROWS + BLAS_COLUMNS) + BLAS_ROWS * BLAS_COLUMNS, mt_dtype_size(g->dtype));
  if (scratch == NULL) {
    __atomic_store_n(&j->status, MT_ERROR_MEMORY, __ATOMIC_RELAXED);
    return;
  }
  for (int64_t unit = begin; unit < end; unit++) {
    const int64_t which = unit / (j->down * j->across), at = unit % (j->down * j->across);
    const int64_t i0 = at / j->across * j->rows, j0 = at % j->across * j->columns;
    MT_REAL_CALL(g->dtype, blas_tile, g, which, i0, MT_MIN(j->rows, g->m - i0), j0, MT_MIN(j->columns, g->n - j0), scratch);
  }
  mt_free(scratch);
}

static int blas_run(const mt_gemm *g) {
  static bool alone;
  if (!alone) {  // our pool is the only one: two pools fight for the cores
    openblas_set_num_threads(1);
    alone = true;
  }
  job j = {.g = g, .rows = BLAS_ROWS, .columns = BLAS_COLUMNS};
  j.down = (g->m + j.rows - 1) / j.rows;
  j.across = (g->n + j.columns - 1) / j.columns;
  int status = mt_parallel(g->batch * j.down * j.across, 1, blas_task, &j);
  return status != MT_OK ? status : j.status;
}

// Nothing to add up: the bias alone, or 0.
static void empty_task(void *context, int64_t begin, int64_t end) {
  const mt_gemm *g = context;
  for (int64_t which = begin; which < end; which++) {
    for (int64_t i = 0; i < g->m * g->n; i++) {
      const int64_t at = g->offset[3 * which + 2] + i / g->n * g->c_row + i % g->n * g->c_col;
      if (g->dtype == MT_FLOAT32) {
        ((float *)g->c)[at] = g->bias ? ((const float *)g->bias)[i % g->n] : 0;
      } else {
        ((double *)g->c)[at] = g->bias ? ((const double *)g->bias)[i % g->n] : 0;
      }
    }
  }
}

static int slabs_run(const mt_gemm *given) {
  mt_gemm g = *given;
  for (int64_t i = 0; i < given->batch; i++) {
    g.offset = given->offset + 3 * i;
    MT_TRY(mt_gemm_slabs(&g));
  }
  return MT_OK;
}

int mt_gemm_run(const mt_gemm *given) {
  mt_gemm g = *given;
  if (g.m == 0 || g.n == 0 || g.batch == 0) {
    return MT_OK;
  }
  if (g.k == 0) {
    return mt_parallel(g.batch, MT_MAX(1, 32768 / (g.m * g.n)), empty_task, &g);
  }
  g.run = g.run ? g.run : g.k;
  const double work = (double)g.m * (double)g.n * (double)g.k;
  g.bf16 = g.dtype == MT_FLOAT32 && (g.bf16 || mt_matmul_precision_get() == MT_PRECISION_MEDIUM);
  if (!g.fixed && !g.bf16 && mt_tile_get() == &mt_tile_portable && g.m >= 32 && g.n >= 32 && work >= LARGE) {
    return blas_run(&g);
  }
  if (g.batch == 1 || g.run < g.k || g.bias || g.bf16 || work >= LARGE) {
    return slabs_run(&g);
  }
  int64_t *swapped = NULL;
  if (g.m > 4 * g.n && g.n < 16) {  // tall and thin: c^T = b^T a^T fills the lanes; a product is the same either way
    swapped = mt_alloc_array(3 * g.batch, (int64_t)sizeof(int64_t));
    if (swapped == NULL) {
      return MT_ERROR_MEMORY;
    }
    for (int64_t i = 0; i < g.batch; i++) {
      swapped[3 * i] = g.offset[3 * i + 1];
      swapped[3 * i + 1] = g.offset[3 * i];
      swapped[3 * i + 2] = g.offset[3 * i + 2];
    }
    g = (mt_gemm){.dtype = g.dtype, .m = g.n, .n = g.m, .k = g.k, .batch = g.batch, .a = g.b, .b = g.a, .c = g.c,
                  .a_row = g.b_col, .a_col = g.b_row, .b_row = g.a_col, .b_col = g.a_row, .c_row = g.c_col,
                  .c_col = g.c_row, .offset = swapped};
  }
  // Smaller blocks where large ones would leave threads idle. The cut changes no bit.
  job j = {.g = &g, .tile = mt_tile_get(), .rows = BLOCK_ROWS, .columns = BLOCK_COLUMNS};
  for (;;) {
    j.down = (g.m + j.rows - 1) / j.rows;
    j.across = (g.n + j.columns - 1) / j.columns;
    if (g.batch * j.down * j.across >= 16 || (j.rows == MT_TILE_ROWS && j.columns == LANES_MAX)) {
      break;
    }
    if (j.rows > MT_TILE_ROWS) {
      j.rows /= 2;
    } else {
      j.columns /= 2;
    }
  }
  const double block = (double)MT_MIN(j.rows, g.m) * (double)MT_MIN(j.columns, g.n) * (double)g.k;
  const int64_t grain = MT_MAX(1, (int64_t)(262144 / block));
  int status = mt_parallel(g.batch * j.down * j.across, grain, task, &j);
  mt_free(swapped);
  return status != MT_OK ? status : j.status;
}

#endif
