// taps_pack: the weights of a sum over taps as panels of outputs. Internal to the taps_*.c files.
#pragma once
#include "taps_plan.h"

typedef struct {
  const mt_taps_plan *p;
  int64_t lanes, panels, padded;   // widest panel; panels of a group and all their lanes
  int64_t *tap_at;                 // the used tap whose weight lies so far from the first one's, or -1; NULL: look them up
  int64_t spread, reach;           // from a channel's first tap to the next one's; to the end of its last used tap: what follows
                                   // may be nobody's
  void *packed;
} mt_taps_weights;

int mt_taps_weights_begin(mt_taps_weights *w, const mt_taps_plan *p);
void mt_taps_weights_end(mt_taps_weights *w);
// Writes the panel of outputs [first, first + lanes) of group g: the rows k = (tap, channel) of its lanes side by side, 0 beyond
// the outputs.
void mt_taps_pack_panel_f32(const mt_taps_weights *w, float *panel, int64_t g, int64_t first);
void mt_taps_pack_panel_f64(const mt_taps_weights *w, double *panel, int64_t g, int64_t first);
// All panels; that one begins at packed + (g * padded + first) * k.
int mt_taps_pack(mt_taps_weights *w);
