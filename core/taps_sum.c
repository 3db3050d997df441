// taps_sum: sums over taps; see taps.h.
#ifdef REAL

// ---- weights into panels ----------------------------------------------------------------------------------------------

// Panel p of a group holds the rows k = (tap, channel) of its lanes side by side; lanes beyond the outputs are 0. The
// channels go in pieces, so that the lines of w that hold several taps of a channel are read once.
static void FN(pack_panels)(void *context, int64_t begin, int64_t end) {
  const sum_plan *s = context;
  const mt_taps *t = s->taps;
  for (int64_t task = begin; task < end; task++) {
    const int64_t g = task / s->panels, first = task % s->panels * s->lanes, left = t->outputs - first;
    const int64_t lanes = mt_tile_panel(s->tile, t->dtype, left), used = MT_MIN(left, lanes);
    const REAL *w = (const REAL *)t->w + g * t->w_group + first * t->w_output;
    for (int64_t c0 = 0; c0 < t->channels; c0 += PACK_CHANNELS) {
      for (int64_t j = 0; j < s->count; j++) {
        for (int64_t c = c0; c < MT_MIN(c0 + PACK_CHANNELS, t->channels); c++) {
          const int64_t k = j * t->channels + c, k0 = block_begin(s, k), kn = block_terms(s, k0);
          REAL *to = (REAL *)s->packed + (g * s->k + k0) * s->padded + kn * first + (k - k0) * lanes;
          const REAL *from = w + t->w_tap[s->tap[j].index] + c * t->w_channel;
          for (int64_t l = 0; l < used; l++) to[l] = from[l * t->w_output];
          for (int64_t l = used; l < lanes; l++) to[l] = 0;
        }
      }
    }
  }
}

// ---- pixels into rows ---------------------------------------------------------------------------------------------------

INLINE void FN(copy)(REAL *restrict to, const REAL *restrict from, int64_t n) {
  if (n >= 16) {
    memcpy(to, from, sizeof(REAL) * (size_t)n);
  } else {
    for (int64_t i = 0; i < n; i++) to[i] = from[i];
  }
}

// Copies the pieces of one block of terms into the rows of n pixels; false when all of them are outside the image.
static bool FN(gather)(const sum_plan *s, REAL *rows, const pixel *p, int64_t n, const piece *pieces, int64_t count,
                       const piece *runs, int64_t run_count, int64_t g) {
  const mt_taps *t = s->taps;
  const REAL *x = (const REAL *)t->x;
  bool any = false;
  for (int64_t r = 0; r < n; r++) {
    REAL *to = rows + r * MT_TILE_STEP(REAL);
    const int64_t start = p[r].x + g * t->channels;
    if (p[r].whole) {
      any = true;
      for (int64_t i = 0; i < run_count; to += runs[i].count, i++) FN(copy)(to, x + (start + runs[i].x), runs[i].count);
      continue;
    }
    for (int64_t i = 0; i < count; to += pieces[i].count, i++) {
      if (counts(s, &p[r], pieces[i].tap)) {
        any = true;
        FN(copy)(to, x + (start + pieces[i].x), pieces[i].count);
      } else {
        memset(to, 0, sizeof(REAL) * (size_t)pieces[i].count);
      }
    }
  }
  return any;
}

// A sum of products so small that they vanish may be -0; +0 is added so that terms that are 0 make no difference.
INLINE REAL FN(finished)(const mt_taps *t, const pixel *p, REAL sum, const REAL *bias, int64_t o) {
  sum += (REAL)0;
  if (t->scale.data) {
    const REAL scale = ((const REAL *)t->scale.data)[p->scale];
    sum = scale == 0 ? 0 : sum * scale;
  }
  if (bias) {
    sum += bias[o];
  }
  return t->gate.data ? sum * ((const REAL *)t->gate.data)[p->gate] : sum;
}

// Outputs [first, first + count) of group g, for n pixels.
static void FN(store)(const mt_taps *t, const REAL *acc, int64_t ld, const pixel *p, int64_t n, int64_t g, int64_t first,
                      int64_t count) {
  const REAL *bias = t->bias ? (const REAL *)t->bias + g * t->outputs + first : NULL;
  REAL *y = (REAL *)t->y + g * t->y_group + first * t->y_channel;
  if (t->y_channel == 1) {
    for (int64_t r = 0; r < n; r++) {
      for (int64_t o = 0; o < count; o++) y[p[r].y + o] = FN(finished)(t, &p[r], acc[r * ld + o], bias, o);
    }
  } else {
    for (int64_t o = 0; o < count; o++) {
      for (int64_t r = 0; r < n; r++) y[p[r].y + o * t->y_channel] = FN(finished)(t, &p[r], acc[r * ld + o], bias, o);
    }
  }
}

static void FN(clear_pixel)(const mt_taps *t, const pixel *p) {
  for (int64_t g = 0; g < t->groups; g++) {
    REAL *y = (REAL *)t->y + p->y + g * t->y_group;
    for (int64_t o = 0; o < t->outputs; o++) y[o * t->y_channel] = 0;
  }
}

// One task: a block of pixels, one group, a range of panels.
static void FN(sum_block)(void *context, int64_t begin, int64_t end) {
  const sum_plan *s = context;
  const mt_taps *t = s->taps;
  _Alignas(64) REAL rows[MT_TILE_ROWS * MT_TILE_STEP(REAL)];
  _Alignas(64) REAL acc[MT_TILE_ROWS * CHUNK];
  pixel p[MT_TILE_ROWS];
  piece pieces[MT_TILE_K], runs[MT_TILE_K];
  for (int64_t task = begin; task < end; task++) {
    const int64_t chunk = task % s->chunks, g = task / s->chunks % t->groups, block = task / s->chunks / t->groups;
    const int64_t first = chunk * s->chunk, lanes = MT_MIN(s->chunk, s->padded - first);
    const int64_t n = MT_MIN(MT_TILE_ROWS, s->pixels - block * MT_TILE_ROWS);
    locate(s, p, block * MT_TILE_ROWS, n);
    memset(acc, 0, sizeof(REAL) * (size_t)(n * lanes));
    for (int64_t k0 = 0, kn; k0 < s->k; k0 += kn) {
      kn = block_terms(s, k0);
      const int64_t count = cut_pieces(s, pieces, k0, kn), run_count = join_pieces(runs, pieces, count);
      if (!FN(gather)(s, rows, p, n, pieces, count, runs, run_count, g)) {
        continue;
      }
      const REAL *w = (const REAL *)s->packed + (g * s->k + k0) * s->padded;
      for (int64_t l = 0, width; l < lanes; l += width) {
        width = mt_tile_panel(s->tile, t->dtype, s->padded - first - l);
        s->tile->chain[MT_TILE_TYPE(t->dtype)](acc + l, lanes, rows, w + kn * (first + l), kn, n, width);
      }
    }
    FN(store)(t, acc, lanes, p, n, g, first, MT_MIN(lanes, t->outputs - first));
  }
}

// ---- depthwise: one channel and one output per group -------------------------------------------------------------------

// The panels [begin, end) of the only pixel, straight from the caller's weights.
static void FN(sum_pixel)(void *context, int64_t begin, int64_t end) {
  const sum_plan *s = context;
  const mt_taps *t = s->taps;
  const REAL *w = (const REAL *)t->w + t->w_tap[s->tap[0].index];
  pixel p;
  locate(s, &p, 0, 1);
  for (int64_t panel = begin; panel < end; panel++) {
    const int64_t first = panel * s->lanes, lanes = mt_tile_panel(s->tile, t->dtype, t->outputs - first);
    _Alignas(64) REAL acc[CHUNK] = {0};
    s->tile->outer[MT_TILE_TYPE(t->dtype)](acc, lanes, s->packed, 1, w + first, t->w_channel, s->k, 1, lanes);
    FN(store)(t, acc, lanes, &p, 1, 0, first, lanes);
  }
}

static void FN(gather_pixel)(const sum_plan *s) {
  const mt_taps *t = s->taps;
  pixel p;
  locate(s, &p, 0, 1);
  for (int64_t j = 0; j < s->count; j++) {
    FN(copy)((REAL *)s->packed + j * t->channels, (const REAL *)t->x + (p.x + s->tap[j].x), t->channels);
  }
}

static void FN(pack_lanewise)(const sum_plan *s) {
  const mt_taps *t = s->taps;
  for (int64_t j = 0; j < s->count; j++) {
    for (int64_t g = 0; g < t->groups; g++) {
      ((REAL *)s->packed)[j * t->groups + g] = ((const REAL *)t->w)[t->w_tap[s->tap[j].index] + g * t->w_group];
    }
  }
}

static void FN(sum_lanewise)(void *context, int64_t begin, int64_t end) {
  const sum_plan *s = context;
  const mt_taps *t = s->taps;
  REAL acc[CHUNK];
  const void *from[LANEWISE_TAPS];
  for (int64_t i = begin; i < end; i++) {
    pixel p;
    locate(s, &p, i, 1);
    for (int64_t g = 0; g < t->groups; g += CHUNK) {
      const int64_t lanes = MT_MIN(CHUNK, t->groups - g);
      for (int64_t j = 0; j < s->count; j++) {
        from[j] = p.whole || counts(s, &p, j) ? (const REAL *)t->x + (p.x + s->tap[j].x + g) : NULL;
      }
      s->tile->lanewise[MT_TILE_TYPE(t->dtype)](acc, from, (const REAL *)s->packed + g, t->groups, s->count, lanes);
      for (int64_t l = 0; l < lanes; l++) {
        ((REAL *)t->y)[p.y + (g + l) * t->y_group] = FN(finished)(t, &p, acc[l], t->bias, g + l);
      }
    }
  }
}

#else
#include "taps.h"
#include "tile.h"

#define INLINE static inline

enum {
  CHUNK = 128,              // output lanes of one task, a multiple of every panel
  PACK_CHANNELS = 32,       // channels whose taps are packed together
  LANEWISE_TAPS = 512,      // taps of a depthwise sum; more go the general way
  LITTLE = 500000,          // multiplications that are not worth a second thread
  TASKS = 32,               // below this number of blocks, a block's outputs are split too
};

// ---- geometry -----------------------------------------------------------------------------------------------------------

typedef struct {
  int64_t x, y;                    // element offsets of its sample and position; x may lie outside the image
  int64_t at[MT_TAPS_DIMS];        // i * mul
  int64_t valid, scale, gate;      // where it lies in these maps
  bool whole;                      // all taps are inside the image and valid
} pixel;

INLINE bool inside(const mt_taps *t, const pixel *p, int64_t j) {
  for (int32_t d = 0; d < t->dims; d++) {
    if ((uint64_t)(p->at[d] + t->offset[j][d]) >= (uint64_t)t->size[d]) {
      return false;
    }
  }
  return true;
}

// ---- plans --------------------------------------------------------------------------------------------------------------

// A tap that some pixel needs.
typedef struct {
  int64_t index, x, valid;         // its number among the caller's; its offsets in the image and in the map of valid pixels
  int64_t first, after;            // the used taps [first, after) of its block
} used_tap;

typedef struct {
  const mt_taps *taps;
  const mt_tile *tile;
  int64_t pixels, count, k;        // active pixels of all samples; taps in use; terms of one sum
  int64_t *active;                 // their numbers in raster order; NULL: all
  int64_t low[MT_TAPS_DIMS], high[MT_TAPS_DIMS];  // the least and the largest offset of a tap in use
  int64_t lanes, panels, padded;   // widest panel; panels of a group and all their lanes
  int64_t chunk, chunks;           // lanes of one task
  used_tap *tap;
  void *packed;                    // the weights, of a single pixel the terms
} sum_plan;

// Terms are gathered and summed in blocks: several whole taps, or a part of one. Where the block of term k begins, and its
// length. Blocks are cut by the taps' numbers among all, not among those in use: a tap that this image does not need leaves
// the blocks of the others, and so every bit, as they are.
static int64_t block_begin(const sum_plan *s, int64_t k) {
  const int64_t channels = s->taps->channels;
  return channels <= MT_TILE_K ? s->tap[k / channels].first * channels : k - k % channels % MT_TILE_K;
}

static int64_t block_terms(const sum_plan *s, int64_t k0) {
  const int64_t channels = s->taps->channels;
  return channels <= MT_TILE_K ? s->tap[k0 / channels].after * channels - k0 : MT_MIN(MT_TILE_K, channels - k0 % channels);
}

static void cut_blocks(sum_plan *s) {
  const int64_t whole = MT_MAX(1, MT_TILE_K / MT_MAX(1, s->taps->channels));  // taps of a block
  for (int64_t j = 0, after; j < s->count; j = after) {
    for (after = j + 1; after < s->count && s->tap[after].index / whole == s->tap[j].index / whole; after++) {
    }
    for (int64_t i = j; i < after; i++) {
      s->tap[i].first = j;
      s->tap[i].after = after;
    }
  }
}

// Neighbours in memory that a block takes from a pixel.
typedef struct {
  int64_t tap, x, count;
} piece;

static int64_t cut_pieces(const sum_plan *s, piece *pieces, int64_t k0, int64_t kn) {
  const int64_t channels = s->taps->channels;
  int64_t n = 0;
  for (int64_t k = k0; k < k0 + kn; k += pieces[n++].count) {
    const int64_t j = k / channels, c = k % channels;
    pieces[n] = (piece){j, s->tap[j].x + c, MT_MIN(channels - c, k0 + kn - k)};
  }
  return n;
}

// Where all taps are inside, taps that are neighbours in memory are one piece.
static int64_t join_pieces(piece *runs, const piece *pieces, int64_t count) {
  int64_t n = 0;
  for (int64_t i = 0; i < count; i++) {
    if (n > 0 && runs[n - 1].x + runs[n - 1].count == pieces[i].x) {
      runs[n - 1].count += pieces[i].count;
    } else {
      runs[n++] = pieces[i];
    }
  }
  return n;
}

// Tap j of the used ones reads a pixel that counts.
INLINE bool counts(const sum_plan *s, const pixel *p, int64_t j) {
  const mt_taps *t = s->taps;
  return inside(t, p, s->tap[j].index) &&
         (t->valid.data == NULL || ((const uint8_t *)t->valid.data)[p->valid + s->tap[j].valid]);
}

static void locate_one(const sum_plan *s, pixel *p, int64_t sample, const int64_t index[MT_TAPS_DIMS]) {
  const mt_taps *t = s->taps;
  *p = (pixel){.x = sample * t->x_sample, .y = sample * t->y_sample, .whole = true};
  for (int32_t d = 0; d < t->dims; d++) {
    p->at[d] = index[d] * t->mul[d];
    p->x += p->at[d] * t->x_step[d];
    p->y += index[d] * t->y_step[d];
    p->whole = p->whole && p->at[d] + s->low[d] >= 0 && p->at[d] + s->high[d] < t->size[d];
  }
  p->valid = mt_taps_at(t, &t->valid, sample, p->at);
  p->scale = mt_taps_at(t, &t->scale, sample, index);
  p->gate = mt_taps_at(t, &t->gate, sample, index);
  for (int64_t j = 0; j < s->count && p->whole && t->valid.data; j++) {
    p->whole = ((const uint8_t *)t->valid.data)[p->valid + s->tap[j].valid];
  }
}

static int64_t place(const mt_taps *t, int64_t index[MT_TAPS_DIMS], int64_t number) {
  for (int32_t d = t->dims - 1; d >= 0; d--) {
    index[d] = number % t->grid[d];
    number /= t->grid[d];
  }
  return number;
}

// The active pixels [first, first + n) of the samples, in raster order.
static void locate(const sum_plan *s, pixel *p, int64_t first, int64_t n) {
  const mt_taps *t = s->taps;
  int64_t index[MT_TAPS_DIMS] = {0}, sample = place(t, index, s->active ? s->active[first] : first);
  for (int64_t r = 0; r < n; r++) {
    if (s->active && r > 0) {
      sample = place(t, index, s->active[first + r]);
    }
    locate_one(s, &p[r], sample, index);
    int32_t d = t->dims - 1;
    while (d >= 0 && ++index[d] == t->grid[d]) {
      index[d--] = 0;
    }
    sample += d < 0;
  }
}

#define MT_SOURCE "taps_sum.c"
#include "twice.h"

// ---- sums ---------------------------------------------------------------------------------------------------------------

static int sum_depthwise(sum_plan *s) {
  const int32_t dtype = s->taps->dtype;
  if (dtype == MT_FLOAT32) {
    pack_lanewise_f32(s);
  } else {
    pack_lanewise_f64(s);
  }
  return mt_parallel(s->pixels, MT_MAX(16, 16384 / (MT_MAX(1, s->count) * s->taps->groups)), MT_REAL_FN(dtype, sum_lanewise), s);
}

// One pixel uses every weight once: where a term's weights of all outputs are neighbours and the terms evenly spaced, packing
// them would cost more than the sums. The order of the terms is the same.
static bool is_one_pixel(const sum_plan *s) {
  const mt_taps *t = s->taps;
  if (s->pixels != 1 || s->active || t->valid.data || t->groups != 1 || t->w_output != 1 || s->padded != t->outputs || s->count == 0) {
    return false;
  }
  for (int64_t j = 0; j < s->count; j++) {
    if (t->w_tap[s->tap[j].index] - t->w_tap[s->tap[0].index] != j * t->channels * t->w_channel) {
      return false;
    }
  }
  return true;
}

static int sum_one_pixel(sum_plan *s) {
  const mt_taps *t = s->taps;
  if (t->dtype == MT_FLOAT32) {
    gather_pixel_f32(s);
  } else {
    gather_pixel_f64(s);
  }
  const bool little = (double)s->k * (double)s->padded < LITTLE;
  return mt_parallel(s->panels, little ? s->panels : 1, MT_REAL_FN(t->dtype, sum_pixel), s);
}

static int sum_panels(sum_plan *s) {
  const mt_taps *t = s->taps;
  const int64_t blocks = (s->pixels + MT_TILE_ROWS - 1) / MT_TILE_ROWS, whole = (s->padded + CHUNK - 1) / CHUNK;
  s->chunk = CHUNK;
  while (s->chunk > s->lanes && blocks * t->groups * whole * (CHUNK / s->chunk) < TASKS) {
    s->chunk /= 2;
  }
  s->chunks = (s->padded + s->chunk - 1) / s->chunk;
  // Little work is done faster than a worker wakes up.
  const bool little = (double)s->pixels * (double)(t->groups * s->k) * (double)s->padded < LITTLE;
  const int64_t packs = t->groups * s->panels, tasks = blocks * t->groups * s->chunks;
  MT_TRY(mt_parallel(packs, little ? packs : 1, MT_REAL_FN(t->dtype, pack_panels), s));
  return mt_parallel(tasks, little ? tasks : 1, MT_REAL_FN(t->dtype, sum_block), s);
}

// Some pixel's tap j is inside the image.
static bool is_used(const mt_taps *t, int64_t j) {
  for (int32_t d = 0; d < t->dims; d++) {
    const int64_t offset = t->offset[j][d], first = offset < 0 ? (-offset + t->mul[d] - 1) / t->mul[d] : 0;
    if (first >= t->grid[d] || first * t->mul[d] + offset >= t->size[d]) {
      return false;
    }
  }
  return true;
}

static void use_taps(sum_plan *s) {
  const mt_taps *t = s->taps;
  for (int64_t j = 0; j < t->taps; j++) {
    if (!is_used(t, j)) {
      continue;
    }
    used_tap *tap = &s->tap[s->count++];
    *tap = (used_tap){.index = j};
    for (int32_t d = 0; d < t->dims; d++) {
      const int64_t offset = t->offset[j][d];
      tap->x += offset * t->x_step[d];
      tap->valid += offset * t->valid.step[d];
      s->low[d] = s->count == 1 ? offset : MT_MIN(s->low[d], offset);
      s->high[d] = s->count == 1 ? offset : MT_MAX(s->high[d], offset);
    }
  }
  s->k = s->count * t->channels;
  cut_blocks(s);
}

// Numbers the active pixels; clears the others.
static int list_active(sum_plan *s) {
  const mt_taps *t = s->taps;
  s->active = mt_alloc_array(s->pixels, (int64_t)sizeof *s->active);
  if (s->active == NULL) {
    return MT_ERROR_MEMORY;
  }
  int64_t count = 0;
  for (int64_t i = 0; i < s->pixels; i++) {
    int64_t index[MT_TAPS_DIMS], sample = place(t, index, i);
    if (((const uint8_t *)t->active.data)[mt_taps_at(t, &t->active, sample, index)]) {
      s->active[count++] = i;
    } else {
      pixel p;
      locate_one(s, &p, sample, index);
      MT_REAL_CALL(t->dtype, clear_pixel, t, &p);
    }
  }
  s->pixels = count;
  return MT_OK;
}

int mt_taps_sum(const mt_taps *t) {
  const mt_tile *tile = mt_tile_get();
  sum_plan s = {.taps = t, .tile = tile, .pixels = t->samples, .lanes = tile->lanes[MT_TILE_TYPE(t->dtype)],
                .padded = mt_tile_padded(tile, t->dtype, t->outputs)};
  for (int32_t d = 0; d < t->dims; d++) {
    s.pixels *= t->grid[d];
  }
  if (s.pixels == 0 || t->outputs == 0) {
    return MT_OK;
  }
  if (t->active.data) {
    MT_TRY(list_active(&s));
    if (s.pixels == 0) {
      mt_free(s.active);
      return MT_OK;
    }
  }
  s.panels = (s.padded + s.lanes - 1) / s.lanes;
  s.tap = mt_alloc_array(t->taps, (int64_t)sizeof *s.tap);
  if (s.tap == NULL) {
    mt_free(s.active);
    return MT_ERROR_MEMORY;
  }
  use_taps(&s);
  int64_t terms;
  int status = MT_ERROR_MEMORY;
  const bool one = is_one_pixel(&s);
  if (!mt_mul(&terms, s.k, one ? 1 : s.padded) || !mt_mul(&terms, terms, t->groups)) {
    mt_fail(status, "out of memory: the weights of a convolution do not fit in 64 bits");
  } else if ((s.packed = mt_alloc_array(terms, mt_dtype_size(t->dtype))) != NULL) {
    status = one ? sum_one_pixel(&s) : mt_taps_depthwise(t) && t->taps <= LANEWISE_TAPS ? sum_depthwise(&s) : sum_panels(&s);
  }
  mt_free(s.packed);
  mt_free(s.tap);
  mt_free(s.active);
  return status;
}

#endif
