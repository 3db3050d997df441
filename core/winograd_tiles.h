// winograd_tiles: which tiles of which samples the Winograd transform works on. Internal to the winograd files.
#pragma once
#include "winograd.h"
#include "winograd_points.h"

// Axes are slice, row and column here; those that a sum does not have come first, of size 1. Tiles lie in one slice: with three axes a
// sum over the kernel's slices is one over as many times the channels.

// Its first output, whose row and column may lie before the grid. What it reads (a kind of winograd_points.h) and the outputs it has,
// down and across; 1 down in one axis.
typedef struct {
  int64_t sample, at[3];
  int8_t reads[2], outputs[2];
} mt_wino_tile;

// A kernel of stride 2 falls into phases. Forward, each reads every second pixel through every second tap, and they add up as more
// channels do; the gradient of the input is one sum per phase, all over the same pixels, each into pixels of its own. Points at
// which the transformed weights of a phase are 0 are left out of its products.
enum { WINO_PHASES = 4, WINO_WINDOW = WINO_TAPS * WINO_TAPS };

typedef struct {
  const mt_taps *sum;        // the problem: one sum, or one for each phase of the outputs
  int32_t sums, phases;      // phases of either kind
  int32_t depth;             // slices of a kernel of three axes
  int32_t taps[2];           // of a phase, down and across; 1 down in one axis
  int32_t extent[2];         // of the window
  int32_t stride[2];         // of the pixels that a tile reads
  int64_t low[2];            // from a tile's first output (times the stride) to the first pixel it reads; row, column
  int64_t rows, points;      // 6 or 1 along the rows; 6 * rows: the most that a tile has
  int32_t window;            // weights of one slice, in all phases
  int64_t w_tap[3 * WINO_WINDOW];                 // where they are, slice by slice
  int8_t pick[WINO_PHASES][WINO_WINDOW];          // the weight of each tap of a phase: its number in the window, -1: 0
  int8_t ends[WINO_PHASES][2];                    // 1: the last row, column of taps is 0
  bool has[WINO_PHASES][WINO_IN * WINO_IN];       // the points of a phase
  int64_t reach[WINO_PHASES][2][2];               // of several sums: least and largest offset of each, down and across
} mt_wino_form;

typedef struct {
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

// false: the sums have another form.
bool mt_wino_form_of(mt_wino_form *f, const mt_taps *sum, int32_t sums);
// The transform can do it, and is worth it for so many channels.
bool mt_wino_form_suits(const mt_wino_form *f, bool forced);

// Parts of the pixels whose points are the channels of one product: slices of the kernel, or phases of the pixels.
static inline int32_t mt_wino_slices(const mt_wino_form *f) { return f->sums > 1 ? 1 : f->depth * f->phases; }
// Pixel `at` of sum s reads something; others would be sums of nothing, and are exactly 0.
static inline bool mt_wino_reaches(const mt_wino_form *f, int32_t s, const int64_t at[MT_TAPS_DIMS]) {
  const mt_taps *t = f->sum;
  bool reaches = true;
  for (int32_t k = t->dims == 1; k < 2 && f->sums > 1; k++) {
    const int32_t d = t->dims - 2 + k;
    reaches = reaches && at[d] + f->reach[s][k][1] >= 0 && at[d] + f->reach[s][k][0] < t->size[d];
  }
  return reaches;
}
// How many of them have point p, and which of these the given one is; -1: it does not.
static inline int32_t mt_wino_slot(const mt_wino_form *f, int32_t slice, int64_t p) {
  if (f->sums > 1 || f->phases == 1) {
    return slice;
  }
  int32_t slot = 0;
  for (int32_t k = 0; k < slice; k++) slot += f->has[k][p];
  return f->has[slice][p] ? slot : -1;
}
static inline int32_t mt_wino_slots(const mt_wino_form *f, int64_t p) {
  int32_t slots = 0;
  for (int32_t k = 0; k < mt_wino_slices(f); k++) slots += mt_wino_slot(f, k, p) >= 0;
  return slots;
}

// Which samples have a valid part that is large enough, and how many: *worth, freed by mt_free. Samples without a tile count as they
// like.
int mt_wino_choose(uint8_t **worth, int64_t *count, const mt_wino_form *f, bool forced);
// The same sum or gradient for the samples that are not: *active, freed by mt_free, holds their active outputs alone,
// and the rest is left as it is.
int mt_wino_others(mt_taps *others, uint8_t **active, const mt_taps *t, const uint8_t *worth);
// The samples that are worth it have at least so many tiles.
bool mt_wino_has_tiles(const mt_wino_form *f, int64_t least, bool forced);
// Of the samples that `worth` marks, NULL: all. Freed by mt_free(s->tile).
int mt_wino_list_tiles(mt_wino_list *s, const mt_wino_form *f, const uint8_t *worth);
// The pixels a tile reads under a slice, in rows of 6; NULL for those that are outside or not valid. t: sum[0], or that of a group.
void mt_wino_pixels(const mt_wino_form *f, const mt_taps *t, const mt_wino_tile *tile, int32_t slice, const float **pixel);
// The points that some tiles have: the number of tile i among those with point p is row[i * 36 + p], and count[p] tiles have it.
void mt_wino_rows(const mt_wino_tile *tile, int64_t tiles, int16_t *row, int64_t *count);

// Better written past the caches, which would read what lay there first.
bool mt_wino_is_large(const mt_taps *t);
// Clears the outputs that are not active.
int mt_wino_clear(mt_taps *t);
