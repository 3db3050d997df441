// taps_wide: a weight gradient over few channels as one over more: the neighbouring taps of a row read neighbouring elements of a
// channels-last image, so they are the channels of a single wide tap. For that the image is copied, some samples at a
// time, with zeros where a tap may lie outside or where it is not valid; then every tap counts at every active pixel. Internal.
#pragma once
#include "taps_runs.h"

typedef struct {
  mt_taps taps;                // the wide ones; their weights are (tap, group, output, channel) without gaps
  const mt_taps *narrow;
  const mt_taps_spans *active, *valid;
  int64_t x_group;             // from group to group in the copied rows
  int64_t width;               // narrow taps of a wide one; 1: there is nothing to gain
  int64_t low[MT_TAPS_DIMS];   // the smallest offsets
  int64_t samples, rows;       // copied at a time; rows of a sample
  int64_t first, end;          // the samples that are there now
  int64_t (*range)[2];         // of each copied row: the pixels that are read
  int64_t *w_tap;
  void *block;                 // offsets, w_tap, ranges
} mt_taps_wide;

// Sets `width`, and the sizes of the wide taps.
void mt_taps_wide_plan(mt_taps_wide *w, const mt_taps *t, const mt_taps_spans *active, const mt_taps_spans *valid);
int mt_taps_wide_start(mt_taps_wide *w);
// Copies the samples from `first` on.
int mt_taps_wide_load(mt_taps_wide *w, int64_t first);
// Copies the weights to the narrow taps.
void mt_taps_wide_finish(const mt_taps_wide *w);
void mt_taps_wide_free(mt_taps_wide *w);
