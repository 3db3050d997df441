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
  mt_tensor at = mt_embedding_raised(index, index->ndim, weight->shape[1], 0), out = *y;
  if (index->ndim == 0) {
    at = mt_embedding_raised(&at, 0, 1, 0);
    out = mt_embedding_raised(y, 0, 1, 0);
  }
  mt_tensor table = out;  // y's shape over the weight's memory: the first dim chooses the row, the last runs along it
  memset(table.stride, 0, sizeof table.stride);
  table.data = weight->data;
  table.storage = weight->storage;
  table.shape[0] = weight->shape[0];
  table.stride[0] = weight->stride[0];
  table.stride[out.ndim - 1] = weight->stride[1];
  return mt_places_gather(device, "embedding", &out, &table, 0, &at);
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
    const int64_t n = index->numel, d = dweight->shape[1];
    mt_tensor at = *dense, src = *rows;
    at.ndim = src.ndim = 2;
    at.shape[0] = src.shape[0] = n;
    at.shape[1] = src.shape[1] = d;
    at.stride[0] = 1;
    at.stride[1] = 0;
    src.stride[0] = d;
    src.stride[1] = 1;
    status = mt_places_add(device, "embedding", dweight, 0, &at, &src, 1, padding > 0 ? padding - 1 : -1);
  }
  mt_tensor_release(dense);
  mt_tensor_release(rows);
  return status;
}
