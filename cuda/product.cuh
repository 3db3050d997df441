// product: matrix products for the kernels that need one, by the sums of tile.cuh or (cublas.cuh) by cuBLASLt. The counterpart of
// core/gemm.h.
#pragma once
#include "tile.cuh"

typedef struct mt_product {
  int32_t dtype;                     // of a and b; beside bfloat16
  int32_t c_narrow, bias_narrow;     // these are bfloat16 too, otherwise float32
  int64_t m, n, k;
  int64_t run;                       // terms come in runs that begin anew (core/linear.h); divides k; 0: no
  const void *a, *b;                 // (m, k), (k, n)
  const void *bias;                  // one per column, or NULL
  void *c;                           // (m, n), overwritten
  int64_t a_row, a_col, b_row, b_col, c_row, c_col, bias_step;  // strides in elements
  int32_t batch_dims;                // matrices of a batch, row-major over these dims
  int64_t batch, batch_size[MT_TILE_BATCH], a_batch[MT_TILE_BATCH], b_batch[MT_TILE_BATCH], c_batch[MT_TILE_BATCH];
} mt_product;

int mt_product_run(mt_device *device, const mt_product *p);
