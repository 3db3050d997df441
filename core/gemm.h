// gemm: c = a b for strided matrices, many at once, on the micro-kernels of tile.h. Internal.
//
// Every element of c is computed alone: blocks of MT_TILE_K products are summed in order with fused multiply-adds, the blocks
// then added in order. So its bits depend on its row of a and its column of b only: not on the sizes m and n, the batch,
// the layout or the threads. (OpenBLAS, measured: a row's bits change with the number of rows of the call.)
#pragma once
#include "common.h"

typedef struct mt_gemm {
  int32_t dtype;                // float32 or float64
  int64_t m, n, k, batch;
  const void *a, *b;            // (m, k), (k, n)
  void *c;                      // (m, n), overwritten; zeros where k is 0
  int64_t a_row, a_col, b_row, b_col, c_row, c_col;  // strides in elements
  const int64_t *offset;        // three per matrix of the batch: where its a, b and c begin
} mt_gemm;

int mt_gemm_run(const mt_gemm *g);
