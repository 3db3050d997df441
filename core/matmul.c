// matmul: see matmul.h.
#include "gemm.h"
#include "matmul_check.h"
#include "wide.h"

static int run(mt_tensor *y, const mt_tensor *a, const mt_tensor *b, bool bf16) {
  const int32_t n = a->ndim;
  mt_gemm g = {.dtype = a->dtype, .bf16 = bf16, .m = a->shape[n - 2], .n = b->shape[n - 1], .k = a->shape[n - 1], .batch = 1,
               .a = a->data, .b = b->data, .c = y->data, .a_row = a->stride[n - 2], .a_col = a->stride[n - 1],
               .b_row = b->stride[n - 2], .b_col = b->stride[n - 1], .c_row = y->stride[n - 2], .c_col = y->stride[n - 1]};
  for (int32_t d = 0; d < n - 2; d++) {
    g.batch *= y->shape[d];
  }
  MT_SCRATCH(int64_t, offset, 3 * g.batch);
  if (offset == NULL) {
    return MT_ERROR_MEMORY;
  }
  for (int64_t i = 0; i < g.batch; i++) {
    int64_t rest = i, at[3] = {0, 0, 0};
    for (int32_t d = n - 3; d >= 0; d--) {
      const int64_t index = rest % y->shape[d];
      rest /= y->shape[d];
      at[0] += a->shape[d] == 1 ? 0 : index * a->stride[d];
      at[1] += b->shape[d] == 1 ? 0 : index * b->stride[d];
      at[2] += index * y->stride[d];
    }
    memcpy(offset + 3 * i, at, sizeof at);
  }
  g.offset = offset;
  int status = mt_gemm_run(&g);
  mt_free(offset);
  return status;
}

int mt_matmul(mt_tensor *y, const mt_tensor *a, const mt_tensor *b) {
  MT_TRY(mt_matmul_check(y, a, b));
  mt_wide wide = {0};
  const bool bf16 = a->dtype == MT_BFLOAT16;
  a = mt_wide_input(&wide, a);
  b = mt_wide_input(&wide, b);
  y = mt_wide_output(&wide, y);
  return mt_wide_end(&wide, wide.status ? wide.status : run(y, a, b, bf16));
}

static int32_t precision = MT_PRECISION_HIGHEST;

int mt_matmul_precision_set(int32_t value) {
  MT_TRY(mt_matmul_check_precision(value));
  precision = value;
  return MT_OK;
}

int32_t mt_matmul_precision_get(void) { return precision; }
