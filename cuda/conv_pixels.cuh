// conv_pixels: which pixels of a grid are worked on, found on the device. Internal to convolution.
//
// The active pixels of a row of the grid (its last axis), row by row, sample by sample. In groups: a row's pixels fill whole groups of 8
// or 16, the rest of the last one is nobody. So a sum over groups in order sees a row from its first active pixel on, wherever that
// is, and neither inactive pixels nor rows without active ones leave a trace in it.
#pragma once
#include "tile.cuh"

typedef struct mt_pixel {
  int32_t n, at[3];  // n -1: nobody
} mt_pixel;

// A map of pixels, as in core/taps.h. data NULL: all count.
typedef struct mt_pixel_map {
  const void *data;
  int64_t sample, step[3];
} mt_pixel_map;

// Three axes always, missing ones come first; a map of one sample repeats.
mt_pixel_map mt_pixel_map_of(const mt_tensor *t);

// What kernels see of it: the list, or (NULL) every pixel of the grid in row-major order.
typedef struct mt_pixel_walk {
  const mt_pixel *list;
  int32_t narrow;
  mt_divisor by[3];
  int64_t size[3];
} mt_pixel_walk;

MT_DEVICE mt_pixel mt_pixel_at(const mt_pixel_walk &w, int64_t i) {
  if (w.list) {
    const int4 p = __ldg((const int4 *)(w.list + i));
    return mt_pixel{p.x, {p.y, p.z, p.w}};
  }
  mt_pixel p;
  if (w.narrow) {
    uint32_t rest = (uint32_t)i;
#pragma unroll
    for (int d = 2; d >= 0; d--) {
      const uint32_t next = mt_divide(rest, w.by[d]);
      p.at[d] = (int32_t)(rest - next * w.by[d].size);
      rest = next;
    }
    p.n = (int32_t)rest;
  } else {
#pragma unroll
    for (int d = 2; d >= 0; d--) {
      p.at[d] = (int32_t)(i % w.size[d]);
      i /= w.size[d];
    }
    p.n = (int32_t)i;
  }
  return p;
}

MT_DEVICE int64_t mt_pixel_offset(int64_t sample, const int64_t *step, const mt_pixel &p) {
  return p.n * sample + p.at[0] * step[0] + p.at[1] * step[1] + p.at[2] * step[2];
}

// How sums over pixels are split: `samples` together; or, when that is 1, `rows` active rows of a sample together (0: all), or `terms`
// of a row together where a sample has one row (one spatial axis). By sizes that padding does not change.
typedef struct mt_pixel_cut {
  int64_t samples, rows, terms;
} mt_pixel_cut;

typedef struct mt_pixels {
  mt_device *device;
  mt_scratch memory, cuts;
  mt_pixel_walk walk;
  int64_t most;             // places in the list, at most
  const int64_t *count;     // on the device; NULL: all of them
  const uint8_t *fresh;     // of every group: the first of a row, or of 32 groups of a row
  int64_t samples, rows, width, *start, *rank;
  int64_t splits;
  const int64_t *begin, *end;
  // No list: every pixel.
  int all(mt_device *d, int64_t samples, const int64_t size[3]);
  // group 1: without gaps; 8 or 16.
  int find(mt_device *d, int64_t samples, const int64_t size[3], const mt_pixel_map *active, int group);
  // Splits of what `find` found.
  int cut(const mt_pixel_cut *how, int group);
} mt_pixels;
