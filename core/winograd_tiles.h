// winograd_tiles: which tiles of which samples the Winograd transform works on. Internal to the winograd files.
#pragma once
#include "winograd.h"

// Axes are slice, row and column here; those that a sum does not have come first, of size 1. Tiles lie in one slice: with three axes a
// sum over the kernel's slices is one over as many times the channels.

// Its first output, whose row and column may lie before the grid. The points of winograd_points.h and the outputs it has down and across;
// 1 down in one axis.
typedef struct {
  int64_t sample, at[3];
  int8_t points[2], outputs[2];
} mt_wino_tile;

typedef struct {
  int64_t rows, points;      // 6 or 1 along the rows; 6 * rows: the most that a tile has
  int32_t taps, slices;      // of the kernel along rows and columns; its slices
  int64_t low[2];            // from a tile's first output to the first pixel it reads; row, column
  int64_t count;
  mt_wino_tile *tile;        // those with an active output, samples in order
} mt_wino_list;

// One of some numbers per axis.
static inline int64_t mt_wino_axis(const mt_taps *t, const int64_t *of, int axis, int64_t missing) {
  return axis < 3 - t->dims ? missing : of[axis - 3 + t->dims];
}

// Output (r, k) of a tile in the grid's own axes; false where it is outside.
static inline bool mt_wino_output(const mt_taps *t, const mt_wino_tile *tile, int64_t r, int64_t k, int64_t at[MT_TAPS_DIMS]) {
  const int64_t place[3] = {tile->at[0], tile->at[1] + r, tile->at[2] + k};
  bool inside = true;
  for (int32_t d = 0; d < t->dims; d++) {
    at[d] = place[d + 3 - t->dims];
    inside = inside && at[d] >= 0 && at[d] < t->grid[d];
  }
  return inside;
}

// The valid part of a sample is large enough.
bool mt_wino_is_worth_it(const mt_taps *t, int64_t sample, bool forced);
// Which samples are, and how many: *worth, freed by mt_free. Samples without a tile count as they like.
int mt_wino_choose(uint8_t **worth, int64_t *count, const mt_taps *t, bool forced);
// The same sums or gradients for the samples that are not: *active, freed by mt_free, holds their active outputs alone,
// and the rest is left as it is.
int mt_wino_others(mt_taps *others, uint8_t **active, const mt_taps *t, const uint8_t *worth);
// Of the samples that `worth` marks, NULL: all. Freed by mt_free(s->tile).
int mt_wino_list_tiles(mt_wino_list *s, const mt_taps *t, const uint8_t *worth);
// The pixels a tile reads under a slice of the kernel, in rows of 6; NULL for those that are outside or not valid.
void mt_wino_pixels(const mt_wino_list *s, const mt_taps *t, const mt_wino_tile *tile, int32_t slice, const float **pixel);
// The points that some tiles have: the number of tile i among those with point p is row[i * 36 + p], and count[p] tiles have it.
void mt_wino_rows(const mt_wino_tile *tile, int64_t tiles, int16_t *row, int64_t *count);
