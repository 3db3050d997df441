// positions: index tensors as kernels read them, gathers, and sums into positions. Internal.
#pragma once
#include "order.cuh"
#include "row.cuh"

// How to read an index tensor: int64 or int32, counted from 1. The dims along which it is broadcast are not part of the place that a
// message names; the others are kept here, largest stride first, to find an element's place from its address.
typedef struct mt_places {
  const char *data;
  mt_fault *fault;
  int64_t limit;
  int32_t site, narrow, dims, is_element;     // is_element: no dims
  int64_t stride[MT_MAX_DIMS], raster[MT_MAX_DIMS];
} mt_places;

mt_places mt_places_of(mt_device *device, const char *op, const mt_tensor *index, int64_t limit);

// The 0-based position that stands at p; -1 when it is out of range, which is recorded.
MT_DEVICE int64_t mt_place_at(const mt_places &r, const void *p) {
  const int64_t value = r.narrow ? *(const int32_t *)p : *(const int64_t *)p;
  if (value >= 1 && value <= r.limit) {
    return value - 1;
  }
  int64_t rest = ((const char *)p - r.data) / (r.narrow ? 4 : 8), place = 0;
  for (int d = 0; d < r.dims; d++) {
    place += rest / r.stride[d] * r.raster[d];
    rest %= r.stride[d];
  }
  mt_record(r.fault, r.site, value, place, r.limit);
  return -1;
}

// y[i] = x[i with i[dim] replaced by index[i]]; 0 where that is out of range. Headers are enough: y and index have one shape, x is at
// least as large outside dim.
int mt_places_gather(mt_device *device, const char *op, const mt_tensor *y, const mt_tensor *x, int32_t dim, const mt_tensor *index);

// y[i with i[dim] replaced by index[i]] += alpha src[i]. Equal positions are brought together by sorting; one thread adds them in
// the order of the index. skip: a position (from 0) that gets nothing, or -1.
int mt_places_add(mt_device *device, const char *op, const mt_tensor *y, int32_t dim, const mt_tensor *index, const mt_tensor *src,
                  double alpha, int64_t skip);
