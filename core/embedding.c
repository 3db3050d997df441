// embedding: see embedding.h. Both directions are the walks of positions.c with the index as the outer dims.
#include "index_check.h"
#include "positions.h"

int mt_embedding_forward(mt_tensor *y, const mt_tensor *weight, const mt_tensor *index) {
  mt_tensor *positions;
  MT_TRY(mt_embedding_check("output", y, "weight", weight, index));
  MT_TRY(mt_check_output("embedding", "output", y));
  MT_TRY(mt_check_overlap("embedding", y, weight, false));
  MT_TRY(mt_positions(&positions, "embedding", index, weight->shape[0], -1, NULL));
  mt_tensor to, table, at;
  mt_embedding_gather(&to, &table, &at, y, weight, positions);
  int status = mt_positions_gather(&to, &table, 0, &at);
  mt_tensor_release(positions);
  return status;
}

int mt_embedding_backward(mt_tensor *dweight, const mt_tensor *dy, const mt_tensor *index, int64_t padding) {
  mt_tensor *positions, *dense, *rows = NULL;
  MT_TRY(mt_embedding_check("gradient", dy, "dweight", dweight, index));
  MT_TRY(mt_check_output("embedding", "dweight", dweight));
  MT_TRY(mt_check_overlap("embedding", dweight, dy, false));
  MT_TRY(mt_positions(&positions, "embedding", index, dweight->shape[0], -1, NULL));
  int status = mt_contiguous(&dense, positions);
  mt_tensor_release(positions);
  MT_TRY(status);
  status = mt_contiguous(&rows, dy);
  if (status == MT_OK) {
    status = mt_tensor_fill(dweight, 0);
  }
  if (status == MT_OK) {
    mt_tensor at, from;
    mt_embedding_scatter(&at, &from, dense, rows);
    status = mt_positions_add(dweight, 0, &at, &from, 1);
  }
  mt_tensor_release(dense);
  mt_tensor_release(rows);
  if (status == MT_OK && padding > 0 && padding <= dweight->shape[0]) {
    mt_tensor row = *dweight;
    row.data = (char *)row.data + (padding - 1) * row.stride[0] * mt_dtype_size(row.dtype);
    row.shape[0] = 1;
    row.numel = row.shape[1];
    status = mt_tensor_fill(&row, 0);
  }
  return status;
}
