// taps_pack: see taps_pack.h. A panel is a transposition: outputs that lie apart become neighbours. Weights are read in the
// order in which they lie, whatever that is.
#ifdef REAL

// row[i][l] = from[l * step + i] for i < n, l < lanes.
void FN(mt_taps_transpose)(REAL *const *row, const REAL *from, int64_t step, int64_t n, int64_t lanes) {
  mt_tile_get()->turn[REAL_BITS == 32 ? 0 : 1]((void *const *)row, from, step, n, lanes);
}

// Channels of one panel whose taps' weights lie together: positions [0, n) of w, of `spread` per channel, beginning at channel c.
static void FN(pack_spread)(const mt_taps_weights *k, REAL *panel, const REAL *w, int64_t lanes, int64_t used, int64_t c,
                            int64_t n) {
  const mt_taps *t = k->p->taps;
  REAL *row[STRIP], unused[MT_TILE_LANES];
  int64_t position = 0;
  for (int64_t i = 0, m; i < n; i += m) {
    m = MT_MIN(STRIP, n - i);
    for (int64_t q = 0; q < m; q++) {
      const int64_t j = k->tap_at[position];
      row[q] = j < 0 ? unused : panel + (j * t->channels + c) * lanes;
      if (++position == k->spread) {
        position = 0;
        c++;
      }
    }
    for (int64_t l = 0; l < used; l++) {  // the next strip
      for (int64_t q = 0; q < m; q += 64 / (int64_t)sizeof(REAL)) __builtin_prefetch(w + i + STRIP + l * t->w_output + q, 0, 2);
    }
    FN(mt_taps_transpose)(row, w + i, t->w_output, m, used);
  }
}

// Few of the taps that lie together are in use: theirs are picked out first, output by output along w, then turned.
static void FN(pack_picked)(const mt_taps_weights *k, REAL *panel, const REAL *w, int64_t lanes, int64_t used) {
  const mt_taps *t = k->p->taps;
  const int64_t taps = k->p->count, piece = PICKED / taps, step = piece + 4;
  REAL picked[MT_TILE_LANES * (PICKED + 4 * PICKED_TAPS)], *row[PICKED];
  int64_t at[PICKED_TAPS];
  for (int64_t j = 0; j < taps; j++) {
    at[j] = t->w_tap[k->p->tap[j].index];
  }
  for (int64_t c0 = 0; c0 < t->channels; c0 += piece) {
    const int64_t n = MT_MIN(piece, t->channels - c0);
    for (int64_t l = 0; l < used; l++) {
      const REAL *from = w + l * t->w_output + c0 * t->w_channel, *next = from + (l + 1 < used ? t->w_output : 0);
      for (int64_t i = 0; i < n * t->w_channel; i += 64 / (int64_t)sizeof(REAL)) __builtin_prefetch(next + i, 0, 2);
      for (int64_t j = 0; j < taps; j++) {
        REAL *to = picked + (j * MT_TILE_LANES + l) * step;
        for (int64_t c = 0; c < n; c++) to[c] = from[c * t->w_channel + at[j]];
      }
    }
    for (int64_t j = 0; j < taps; j++) {
      for (int64_t c = 0; c < n; c++) {
        row[c] = panel + (j * t->channels + c0 + c) * lanes;
      }
      FN(mt_taps_transpose)(row, picked + j * MT_TILE_LANES * step, step, n, used);
    }
  }
}

// One output after another, one tap after another.
static void FN(pack_taps)(const mt_taps_weights *k, REAL *panel, const REAL *w, int64_t lanes, int64_t used) {
  const mt_taps *t = k->p->taps;
  for (int64_t c0 = 0; c0 < t->channels; c0 += PIECE) {
    const int64_t c1 = MT_MIN(c0 + PIECE, t->channels);
    for (int64_t l = 0; l < used; l++) {
      for (int64_t j = 0; j < k->p->count; j++) {
        const REAL *from = w + t->w_tap[k->p->tap[j].index] + l * t->w_output;
        REAL *to = panel + j * t->channels * lanes + l;
        for (int64_t c = c0; c < c1; c++) to[c * lanes] = from[c * t->w_channel];
      }
    }
  }
}

// Channels are neighbours: tap by tap.
static void FN(pack_rows)(const mt_taps_weights *k, REAL *panel, const REAL *w, int64_t lanes, int64_t used) {
  const mt_taps *t = k->p->taps;
  REAL *row[STRIP];
  for (int64_t j = 0; j < k->p->count; j++) {
    const REAL *from = w + t->w_tap[k->p->tap[j].index];
    for (int64_t c0 = 0, n; c0 < t->channels; c0 += n) {
      n = MT_MIN(STRIP, t->channels - c0);
      for (int64_t c = 0; c < n; c++) {
        row[c] = panel + (j * t->channels + c0 + c) * lanes;
      }
      for (int64_t l = 0; l < used; l++) {  // the next strip
        for (int64_t c = 0; c < n; c += 64 / (int64_t)sizeof(REAL)) __builtin_prefetch(from + c0 + STRIP + l * t->w_output + c, 0, 2);
      }
      FN(mt_taps_transpose)(row, from + c0, t->w_output, n, used);
    }
  }
}

void FN(mt_taps_pack_panel)(const mt_taps_weights *k, REAL *panel, int64_t g, int64_t first) {
  const mt_taps *t = k->p->taps;
  const int64_t lanes = mt_tile_panel(k->p->tile, t->dtype, t->outputs - first), used = MT_MIN(t->outputs - first, lanes);
  const REAL *w = (const REAL *)t->w + g * t->w_group + first * t->w_output;
  if (used < lanes) {
    memset(panel, 0, sizeof(REAL) * (size_t)(k->p->k * lanes));
  }
  if (t->w_output == 1) {
    for (int64_t j = 0; j < k->p->count; j++) {
      for (int64_t c = 0; c < t->channels; c++) {
        memcpy(panel + (j * t->channels + c) * lanes, w + t->w_tap[k->p->tap[j].index] + c * t->w_channel, sizeof(REAL) * (size_t)used);
      }
    }
  } else if (t->w_channel == 1 && k->tap_at == NULL) {
    FN(pack_rows)(k, panel, w, lanes, used);
  } else if (k->tap_at && k->p->count <= PICKED_TAPS && 2 * k->p->count < k->spread) {
    FN(pack_picked)(k, panel, w, lanes, used);
  } else if (k->tap_at && t->w_channel == k->spread) {
    FN(pack_spread)(k, panel, w, lanes, used, 0, (t->channels - 1) * k->spread + k->reach);
  } else if (k->tap_at) {
    for (int64_t c = 0; c < t->channels; c++) {
      FN(pack_spread)(k, panel, w + c * t->w_channel, lanes, used, c, k->reach);
    }
  } else {
    FN(pack_taps)(k, panel, w, lanes, used);
  }
}

static void FN(pack_panels)(void *context, int64_t begin, int64_t end) {
  const mt_taps_weights *k = context;
  for (int64_t task = begin; task < end; task++) {
    const int64_t g = task / k->panels, first = task % k->panels * k->lanes;
    FN(mt_taps_pack_panel)(k, (REAL *)k->packed + (g * k->padded + first) * k->p->k, g, first);
  }
}

#else
#include "taps_pack.h"

enum {
  STRIP = 64,       // positions transposed together
  PIECE = 64,       // channels whose rows of a panel are written together
  PICKED = 128,     // weights of an output that are picked together,
  PICKED_TAPS = 4,  // of at most so many taps
};

#define MT_SOURCE "taps_pack.c"
#include "twice.h"

// Where the taps of a channel lie together, closer than channels and outputs, and most are in use: which is where.
static int find_taps(mt_taps_weights *w) {
  const mt_taps_plan *p = w->p;
  const mt_taps *t = p->taps;
  w->spread = MT_MIN(t->w_channel, t->w_output);
  bool together = t->w_output > 1 && w->spread <= 16 * p->count;
  for (int64_t j = 0; j < p->count && together; j++) {
    together = t->w_tap[p->tap[j].index] >= 0 && t->w_tap[p->tap[j].index] < w->spread;
  }
  if (!together || p->count == 0) {
    return MT_OK;
  }
  w->tap_at = mt_alloc_array(w->spread, (int64_t)sizeof *w->tap_at);
  if (w->tap_at == NULL) {
    return MT_ERROR_MEMORY;
  }
  for (int64_t i = 0; i < w->spread; i++) {
    w->tap_at[i] = -1;
  }
  for (int64_t j = 0; j < p->count; j++) {
    const int64_t at = t->w_tap[p->tap[j].index];
    if (w->tap_at[at] >= 0) {  // several taps share a weight (an expanded view): each is read for itself
      mt_free(w->tap_at);
      w->tap_at = NULL;
      return MT_OK;
    }
    w->tap_at[at] = j;
    w->reach = MT_MAX(w->reach, at + 1);
  }
  return MT_OK;
}

int mt_taps_weights_begin(mt_taps_weights *w, const mt_taps_plan *p) {
  *w = (mt_taps_weights){.p = p, .lanes = p->tile->lanes[MT_TILE_TYPE(p->taps->dtype)],
                         .padded = mt_tile_padded(p->tile, p->taps->dtype, p->taps->outputs)};
  w->panels = (w->padded + w->lanes - 1) / w->lanes;
  return find_taps(w);
}

int mt_taps_pack(mt_taps_weights *w) {
  const mt_taps *t = w->p->taps;
  int64_t terms;
  if (!mt_mul(&terms, w->p->k, w->padded) || !mt_mul(&terms, terms, t->groups)) {
    return mt_fail(MT_ERROR_MEMORY, "out of memory: the weights of a convolution do not fit in 64 bits");
  }
  if ((w->packed = mt_alloc_array(terms, mt_dtype_size(t->dtype))) == NULL) {
    return MT_ERROR_MEMORY;
  }
  // Little work is done faster than a worker wakes up.
  const int64_t packs = t->groups * w->panels;
  return mt_parallel(packs, terms < 65536 ? packs : 1, MT_REAL_FN(t->dtype, pack_panels), w);
}

void mt_taps_weights_end(mt_taps_weights *w) {
  mt_free(w->packed);
  mt_free(w->tap_at);
}

#endif
