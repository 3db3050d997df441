// winograd_tiles: which tiles of which samples the Winograd transform works on. Internal to the winograd files.
#pragma once
#include "winograd.h"

// Its first output, which may lie before the grid; row 0 in one axis. The points of winograd_points.h and the outputs it has
// down and across; 1 down in one axis.
typedef struct {
  int64_t sample, at[2];
  int8_t points[2], outputs[2];
} mt_wino_tile;

typedef struct {
  int64_t rows, points;      // 6 or 1 along the first of two axes; 6 * rows: the most that a tile has
  int32_t taps;              // of the kernel along an axis
  int64_t low[2];            // from a tile's first output to the first pixel it reads; row, column
  int64_t count;
  mt_wino_tile *tile;        // those with an active output, samples in order
} mt_wino_list;

// The valid part of a sample is large enough.
bool mt_wino_is_worth_it(const mt_taps *t, int64_t sample, bool forced);
// Which samples are, and how many: *worth, freed by mt_free. Samples without a tile count as they like.
int mt_wino_choose(uint8_t **worth, int64_t *count, const mt_taps *t, bool forced);
// The same sums or gradients for the samples that are not: *active, freed by mt_free, holds their active outputs alone.
int mt_wino_others(mt_taps *others, uint8_t **active, const mt_taps *t, const uint8_t *worth);
// Of the samples that `worth` marks, NULL: all. Freed by mt_free(s->tile).
int mt_wino_list_tiles(mt_wino_list *s, const mt_taps *t, const uint8_t *worth);
// The pixels a tile reads, in rows of 6; NULL for those that are outside or not valid.
void mt_wino_pixels(const mt_wino_list *s, const mt_taps *t, const mt_wino_tile *tile, const float **pixel);
// The points that some tiles have: the number of tile i among those with point p is row[i * 36 + p], and count[p] tiles have it.
void mt_wino_rows(const mt_wino_tile *tile, int64_t tiles, int16_t *row, int64_t *count);
