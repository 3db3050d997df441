// reduce_store: results of a reduction into its output. See reduce_plan.h.
#include "reduce_plan.h"

void mt_reduction_store(const mt_reduction *r, mt_tensor *y, const double *values) {
  for (int64_t o = 0; o < r->outputs; o++) {
    int64_t in_x, in_y;
    mt_reduction_output(r, o, &in_x, &in_y);
    switch (y->dtype) {
      case MT_FLOAT32: ((float *)y->data)[in_y] = (float)values[o]; break;
      case MT_FLOAT64: ((double *)y->data)[in_y] = values[o]; break;
      case MT_INT64: ((int64_t *)y->data)[in_y] = (int64_t)values[o]; break;
      default: ((uint8_t *)y->data)[in_y] = values[o] != 0; break;
    }
  }
}

void mt_reduction_store_int64(const mt_reduction *r, mt_tensor *y, const int64_t *values) {
  for (int64_t o = 0; o < r->outputs; o++) {
    int64_t in_x, in_y;
    mt_reduction_output(r, o, &in_x, &in_y);
    switch (y->dtype) {
      case MT_FLOAT32: ((float *)y->data)[in_y] = (float)values[o]; break;
      case MT_FLOAT64: ((double *)y->data)[in_y] = (double)values[o]; break;
      case MT_INT64: ((int64_t *)y->data)[in_y] = values[o]; break;
      case MT_INT32: ((int32_t *)y->data)[in_y] = (int32_t)values[o]; break;
      case MT_UINT8: ((uint8_t *)y->data)[in_y] = (uint8_t)values[o]; break;
      default: ((uint8_t *)y->data)[in_y] = values[o] != 0; break;
    }
  }
}
