// gemm: c = a b for strided matrices, many at once. Internal; the only door to OpenBLAS.
//
// Large products are cut into tiles by shape alone, each one call of single-threaded OpenBLAS. Small ones, where the call would
// cost more than it gains, run on the micro-kernels of tile.h. Neither depends on the number of threads. A row's bits may depend
// on the size of the product (OpenBLAS, measured: they change with the number of rows of the call); what must not depend on
// the batch, convolution and linear, does not come here (docs/decisions.md).
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
