// taps_pack: the weights of a sum over taps as panels of outputs. Internal to the taps_*.c files.
#pragma once
#include "taps_plan.h"

typedef struct {
  const mt_taps_plan *p;
  int64_t lanes, panels, padded;   // widest panel; panels of a group and all their lanes
  int64_t *tap_at;                 // the used tap whose weight lies so far from the first one's, or -1; NULL: look them up
  int64_t spread;                  // elements over which the taps of a channel are spread
  void *packed;
} mt_taps_weights;

// The panel of outputs [first, first + lanes) of group g begins at packed + (g * padded + first) * k and holds the rows
// k = (tap, channel) of its lanes side by side; lanes beyond the outputs are 0.
int mt_taps_pack(mt_taps_weights *w, const mt_taps_plan *p);
void mt_taps_weights_end(mt_taps_weights *w);
