// embedding: see core/embedding.h. Both directions are those of positions.cu with the index as the outer dims.
#include "positions.cuh"

extern "C" {
#include "../core/index_check.h"
}

extern "C" int mt_embedding_forward(mt_tensor *y, const mt_tensor *weight, const mt_tensor *index) {
  mt_device *device;
  const mt_tensor *const others[] = {weight, index};
  MT_TRY(mt_embedding_check("output", y, "weight", weight, index));
  MT_TRY(mt_check_output("embedding", "output", y));
  MT_TRY(mt_check_overlap("embedding", y, weight, false));
  MT_TRY(mt_check_together("embedding", y, 2, others));
  MT_TRY(mt_enter(&device, y));
  mt_tensor to, table, at;
  mt_embedding_gather(&to, &table, &at, y, weight, index);
  return mt_places_gather(device, "embedding", &to, &table, 0, &at);
}

extern "C" int mt_embedding_backward(mt_tensor *dweight, const mt_tensor *dy, const mt_tensor *index, int64_t padding) {
  mt_device *device;
  mt_tensor *dense, *rows = NULL;
  const mt_tensor *const others[] = {dy, index};
  MT_TRY(mt_embedding_check("gradient", dy, "dweight", dweight, index));
  MT_TRY(mt_check_output("embedding", "dweight", dweight));
  MT_TRY(mt_check_overlap("embedding", dweight, dy, false));
  MT_TRY(mt_check_together("embedding", dweight, 2, others));
  MT_TRY(mt_enter(&device, dweight));
  MT_TRY(mt_contiguous(&dense, index));
  int status = mt_contiguous(&rows, dy);
  if (status == MT_OK) {
    status = mt_tensor_fill(dweight, 0);
  }
  if (status == MT_OK) {
    mt_tensor at, from;
    mt_embedding_scatter(&at, &from, dense, rows);
    status = mt_places_add(device, "embedding", dweight, 0, &at, &from, 1, padding > 0 ? padding - 1 : -1);
  }
  mt_tensor_release(dense);
  mt_tensor_release(rows);
  return status;
}
