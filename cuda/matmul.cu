// matmul: see core/matmul.h.
//
// bfloat16 goes to the tensor cores as it is. Of float32, HIGHEST is three TF32 products per product, about as exact as float32
// (tile.cuh); HIGH is TF32; MEDIUM is bfloat16.
#include "product.cuh"

extern "C" {
#include "../core/matmul_check.h"
}

extern "C" int mt_matmul(mt_tensor *y, const mt_tensor *a, const mt_tensor *b) {
  mt_device *device;
  mt_product p;
  MT_TRY(mt_matmul_check(y, a, b));
  const mt_tensor *const t[] = {a, b};
  MT_TRY(mt_check_together("matmul", y, 2, t));
  if (y->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_enter(&device, y));
  const int32_t n = a->ndim;
  memset(&p, 0, sizeof p);
  p.dtype = a->dtype;
  p.c_narrow = y->dtype == MT_BFLOAT16;
  p.m = a->shape[n - 2];
  p.n = b->shape[n - 1];
  p.k = a->shape[n - 1];
  p.a = a->data;
  p.b = b->data;
  p.c = y->data;
  p.a_row = a->stride[n - 2];
  p.a_col = a->stride[n - 1];
  p.b_row = b->stride[n - 2];
  p.b_col = b->stride[n - 1];
  p.c_row = y->stride[n - 2];
  p.c_col = y->stride[n - 1];
  p.batch = 1;
  p.batch_dims = n - 2;
  for (int32_t d = 0; d < n - 2; d++) {
    p.batch *= y->shape[d];
    p.batch_size[d] = y->shape[d];
    p.a_batch[d] = a->shape[d] == 1 ? 0 : a->stride[d];
    p.b_batch[d] = b->shape[d] == 1 ? 0 : b->stride[d];
    p.c_batch[d] = y->stride[d];
  }
  return mt_product_run(device, &p);
}

// ---- precision ------------------------------------------------------------------------------------------------------------

static int32_t precision = MT_PRECISION_HIGHEST;

extern "C" int mt_matmul_precision_set(int32_t value) {
  MT_TRY(mt_matmul_check_precision(value));
  precision = value;
  return MT_OK;
}

extern "C" int32_t mt_matmul_precision_get(void) { return precision; }

int32_t mt_tile_how(int32_t dtype) {
  static const int32_t how[] = {MT_TILE_3XTF32, MT_TILE_TF32, MT_TILE_BF16};
  return dtype == MT_FLOAT32 ? how[precision] : dtype == MT_BFLOAT16 ? (int32_t)MT_TILE_NARROW : (int32_t)MT_TILE_F64;
}
