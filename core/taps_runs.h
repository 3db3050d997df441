// taps_runs: which pixels count for a tap of a weight gradient, as runs of neighbours. Internal.
#pragma once
#include "taps.h"
#include "tile.h"

enum {
  MT_TAPS_PIECE = 256,  // a longer row is summed in pieces of so many pixels, from its first that counts
  MT_TAPS_RUNS = 768,   // runs made at a time
};

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

// A walk along the rows of the grid for one tap.
typedef struct {
  const mt_taps *taps;
  const mt_taps_spans *active, *valid;  // over grid and image; first NULL: everything counts
  int64_t tap, low, high;               // in a row, the tap is inside the image for pixels [low, high)
  int64_t row, end;                     // rows of all samples: the next, and where to stop
  int64_t at[MT_TAPS_DIMS], sample;     // of the next row
  int64_t x, y, next, cut;              // inside a row: its offsets, the next pixel, the end of the piece (-1: none yet)
  const struct mt_taps_span *a, *a_end, *v, *v_end;
  bool inside;                          // a row was begun and not finished
  int64_t first_sample;                 // that x begins with
  bool y_first;                         // runs: a of y, b of x, where a of x, b of y is the rule
} mt_taps_walk;

mt_taps_walk mt_taps_walk_start(const mt_taps *t, const mt_taps_spans *active, const mt_taps_spans *valid, int64_t tap,
                                int64_t row, int64_t end);
// The next runs of whole pieces, for about `pixels` pixels; returns their number, 0 at the end.
int64_t mt_taps_walk_next(mt_taps_walk *w, mt_tile_pixels runs[MT_TAPS_RUNS], int64_t pixels);
