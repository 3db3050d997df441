// gemm: c = a b + bias for strided matrices, many at once. Internal; the only door to OpenBLAS.
//
// Every element of c is summed alone by the micro-kernels of tile.h: its k terms are cut into runs of `run` terms and those into
// blocks of at most MT_TILE_K; each block is a chain of fused multiply-adds from 0, the blocks add up in order, the bias comes
// last. So its bits depend on its row of a, its column of b and `run` alone: not on the other rows and columns, the layout or the
// number of threads. Terms of 0 at the end of a run leave it unchanged to the bit.
//
// Machines for which there is only the portable build (tile.h) leave large products to OpenBLAS, unless `fixed` is set: those are
// cut into tiles by shape, each one call on one thread, so threads and layout cannot matter, but the sizes can (measured).
#pragma once
#include "common.h"

typedef struct mt_gemm {
  int32_t dtype;                // float32 or float64
  bool bf16;                    // float32: operands rounded to bfloat16, sums in float32 (tile_bf16.h); else as matmul.h's precision says
  bool fixed;                   // the bits must not depend on the sizes
  int64_t m, n, k, batch;
  int64_t run;                  // divides k; 0: k
  const void *a, *b;            // (m, k), (k, n)
  const void *bias;             // n neighbours, or NULL
  void *c;                      // (m, n), overwritten
  int64_t a_row, a_col, b_row, b_col, c_row, c_col;  // strides in elements
  const int64_t *offset;        // three per matrix of the batch: where its a, b and c begin
} mt_gemm;

int mt_gemm_run(const mt_gemm *g);

// One large product (batch 1, k above 0) by slabs of k; gemm_slab.c.
int mt_gemm_slabs(const mt_gemm *g);
