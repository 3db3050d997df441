// loader: batches from data that lie on the device; see core/loader.h. What a batch holds is known on the host (samplers), so all it
// sends are two numbers per row.
#include "common.cuh"

extern "C" {
#include "../core/convert.h"
#include "../core/loader_check.h"
#include "device.h"
}

typedef struct gather_work {
  const void *source;
  const int64_t *first, *length;  // length: the rows' own
  int64_t rows, row, add;
  int32_t type, align_right;
} gather_work;

MT_DEVICE int64_t token_at(const gather_work &w, int64_t i) {
  switch (w.type) {
    case MT_UINT8: return ((const uint8_t *)w.source)[i];
    case MT_UINT16: return ((const uint16_t *)w.source)[i];
    case MT_INT32: return ((const int32_t *)w.source)[i];
    default: return ((const int64_t *)w.source)[i];
  }
}

// The element of the source that belongs at column c of row r, or -1.
MT_DEVICE int64_t source_of(const gather_work &w, int64_t r, int64_t c) {
  const int64_t length = w.length[r], at = w.align_right ? c - (w.row - length) : c;
  return at >= 0 && at < length ? w.first[r] - 1 + at : -1;
}

static __global__ void gather_tokens(int64_t *out, const gather_work w, int64_t pad) {
  MT_EACH(i, w.rows * w.row) {
    const int64_t from = source_of(w, i / w.row, i % w.row);
    out[i] = from < 0 ? pad : (int64_t)((uint64_t)token_at(w, from) + (uint64_t)w.add);
  }
}

template <typename T> static __global__ void gather_elements(T *out, const gather_work w, T pad) {
  MT_EACH(i, w.rows * w.row) {
    const int64_t from = source_of(w, i / w.row, i % w.row);
    out[i] = from < 0 ? pad : ((const T *)w.source)[from];
  }
}

extern "C" int mt_device_gather(const mt_gather *g) {
  mt_device *device;
  mt_scratch lines;
  MT_TRY(mt_loader_check_gather(g));
  MT_TRY(mt_check_together("loader", g->out, 1, &g->source));
  const int64_t n = g->out->shape[0];
  if (g->out->numel == 0) {
    return MT_OK;
  }
  int64_t *both = (int64_t *)mt_alloc_array(2 * n, (int64_t)sizeof *both);
  if (both == NULL) {
    return MT_ERROR_MEMORY;
  }
  const int64_t row = g->out->numel / n;
  for (int64_t r = 0; r < n; r++) {
    both[r] = ((const int64_t *)g->first->data)[r];
    both[n + r] = g->length ? ((const int64_t *)g->length->data)[r] : row;
  }
  int status = mt_enter(&device, g->out);
  status = status == MT_OK ? lines.take(device, 2 * n, sizeof(int64_t)) : status;
  status = status == MT_OK ? mt_copy_to_device("loader", device, lines.data, both, 2 * n * (int64_t)sizeof(int64_t)) : status;
  mt_free(both);
  MT_TRY(status);
  const int64_t *first = (const int64_t *)lines.data;
  const gather_work w = {g->source->data, first, first + n, n, row, g->add, g->type, g->align_right};
  const unsigned grid = mt_grid(device, g->out->numel);
  void *out = g->out->data;
  if (g->out->dtype == MT_INT64) {
    MT_LAUNCH(device, gather_tokens, grid, MT_BLOCK, 0, (int64_t *)out, w, mt_to_int64(g->pad));
    return MT_OK;
  }
  switch (g->out->dtype) {
    case MT_FLOAT32: MT_LAUNCH(device, gather_elements<float>, grid, MT_BLOCK, 0, (float *)out, w, (float)g->pad); break;
    case MT_FLOAT64: MT_LAUNCH(device, gather_elements<double>, grid, MT_BLOCK, 0, (double *)out, w, g->pad); break;
    case MT_INT32: MT_LAUNCH(device, gather_elements<int32_t>, grid, MT_BLOCK, 0, (int32_t *)out, w, mt_to_int32(g->pad)); break;
    case MT_BOOL: MT_LAUNCH(device, gather_elements<uint8_t>, grid, MT_BLOCK, 0, (uint8_t *)out, w, (uint8_t)(g->pad != 0)); break;
    default: MT_LAUNCH(device, gather_elements<uint8_t>, grid, MT_BLOCK, 0, (uint8_t *)out, w, (uint8_t)mt_to_int64(g->pad)); break;
  }
  return MT_OK;
}
