// taps_runs: which pixels count for a tap of a weight gradient, as runs of neighbours. Internal.
#pragma once
#include "taps.h"
#include "tile.h"

enum { MT_TAPS_PIECE = 256 };  // a longer row is summed in pieces of so many pixels, from its first active one

// The runs of a map: those of row r of all its samples are run[first[r]] to run[first[r + 1] - 1].
typedef struct {
  int64_t *first;
  struct mt_taps_span {
    int64_t begin, end;
  } *run;
} mt_taps_spans;

// Runs of a map over `samples` images of the given size; nothing when all pixels count. mt_taps_spans_free in any case.
int mt_taps_spans_make(mt_taps_spans *s, const mt_taps_map *map, int64_t samples, int32_t dims, const int64_t *size);
void mt_taps_spans_free(mt_taps_spans *s);

// The pixels that count for one tap in some rows, in order: operands of mt_tile's kernels.
typedef struct {
  mt_tile_pixels *runs;
  int64_t count, capacity;
} mt_taps_list;

typedef struct {
  const mt_taps *taps;
  const mt_taps_spans *active, *valid;  // over grid and image; first NULL: everything counts
  int64_t first_sample;                 // that x begins with
  bool y_first;                         // runs: a of y, b of x, where a of x, b of y is the rule
} mt_taps_rows;

// Lists the pixels of the rows [row, end) of all samples for tap j. The list keeps its memory for the next time.
int mt_taps_list_rows(mt_taps_list *list, const mt_taps_rows *rows, int64_t j, int64_t row, int64_t end);

// taps_depthwise_gradient.c: mt_taps_gradient for few channels and as many outputs per group. holes: some pixels of x do not count.
bool mt_taps_depthwise_gradient_suits(const mt_taps *t);
int mt_taps_depthwise_gradient(const mt_taps *t, const mt_taps_spans *active, bool holes);
