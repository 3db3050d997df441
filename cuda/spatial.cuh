// spatial: images (N, C, *S) as kernels walk them; the counterpart of core/spatial.h. Internal.
#pragma once
#include "row.cuh"

extern "C" {
#include "../core/spatial.h"
}

// The element (n, c) at the position (z, y, x), in elements.
MT_DEVICE int64_t mt_spatial_at(const mt_spatial &v, int64_t n, int64_t c, int64_t z, int64_t y, int64_t x) {
  return n * v.step_n + c * v.step_c + z * v.step[0] + y * v.step[1] + x * v.step[2];
}

// V neighbours in memory, moved at once.
template <typename T, int V> struct __align__(sizeof(T) * V) mt_pack { T v[V]; };

// One place for each thread: an element of an image, or `pack` neighbouring channels of one pixel. Neighbouring threads get
// neighbours in memory: channels first where they lie side by side.
typedef struct mt_places {
  int64_t count;
  int32_t channels_first, narrow, pack, unused;
  int64_t size[4];      // c, x, y, z; without channels_first x, y, z, c
  mt_divisor by[4];
} mt_places;

typedef struct mt_place { int64_t n, c, z, y, x; } mt_place;

// How many channels one thread can take in `bytes` bytes: 1 where they are not neighbours or not aligned in one of the images.
static inline int mt_spatial_pack(int32_t count, const mt_spatial *const *images, int64_t size, int64_t bytes = 16) {
  for (int64_t pack = bytes / size; pack > 1; pack /= 2) {
    bool fits = true;
    for (int32_t k = 0; k < count; k++) {
      const mt_spatial *v = images[k];
      fits = fits && v->step_c == 1 && v->c % pack == 0 && v->step_n % pack == 0 && v->step[0] % pack == 0 &&
             v->step[1] % pack == 0 && v->step[2] % pack == 0 && (uintptr_t)v->data % (uintptr_t)(pack * size) == 0;
    }
    if (fits) {
      return (int)pack;
    }
  }
  return 1;
}

// Of an image's elements; the image decides the order, not the result.
static inline mt_places mt_places_of(const mt_spatial *v, int pack) {
  mt_places p;
  memset(&p, 0, sizeof p);
  p.pack = pack;
  p.channels_first = v->c > 1 && (v->step_c == 1 || (v->size[2] > 1 && v->step_c < v->step[2]));
  const int64_t c = v->c / pack;
  const int64_t size[2][4] = {{v->size[2], v->size[1], v->size[0], c}, {c, v->size[2], v->size[1], v->size[0]}};
  p.count = v->n * c * v->size[0] * v->size[1] * v->size[2];
  p.narrow = p.count <= INT32_MAX;
  for (int k = 0; k < 4; k++) {
    p.size[k] = size[p.channels_first][k];
    if (p.narrow && p.count > 0) {
      p.by[k] = mt_divisor_of(p.size[k]);
    }
  }
  return p;
}

MT_DEVICE mt_place mt_place_of(const mt_places &p, int64_t i) {
  int64_t at[4], rest = i;
#pragma unroll
  for (int k = 0; k < 4; k++) {
    const int64_t next = p.narrow ? (int64_t)mt_divide((uint32_t)rest, p.by[k]) : rest / p.size[k];
    at[k] = rest - next * p.size[k];
    rest = next;
  }
  if (p.channels_first) {
    return mt_place{rest, at[0] * p.pack, at[3], at[2], at[1]};
  }
  return mt_place{rest, at[3], at[2], at[1], at[0]};
}

// Ends a function: kernel<T, V>(p, places) for every place of an image, `pack` channels of it (mt_spatial_pack) a thread.
#define MT_RUN_PACK(device, kernel, T, V, image, p)                                                         \
  {                                                                                                         \
    const mt_places places = mt_places_of(&(image), V);                                                     \
    MT_LAUNCH(device, (kernel<T, V>), mt_grid(device, places.count), MT_BLOCK, 0, p, places);               \
    return MT_OK;                                                                                           \
  }
#define MT_RUN_PACKED(device, kernel, dtype, pack, image, p)                                                \
  {                                                                                                         \
    const int channels = pack;                                                                              \
    if ((dtype) == MT_FLOAT32) {                                                                            \
      if (channels == 4) MT_RUN_PACK(device, kernel, float, 4, image, p)                                    \
      if (channels == 2) MT_RUN_PACK(device, kernel, float, 2, image, p)                                    \
      MT_RUN_PACK(device, kernel, float, 1, image, p)                                                       \
    }                                                                                                       \
    if (channels == 2) MT_RUN_PACK(device, kernel, double, 2, image, p)                                     \
    MT_RUN_PACK(device, kernel, double, 1, image, p)                                                        \
  }
