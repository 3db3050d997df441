// winograd: see winograd.h. Three passes over blocks of tiles: pixels into points, one matrix product per point, points into
// outputs. A block is small enough for the caches; its size changes no bit.
#include "slots.h"
#include "tile.h"
#include "winograd_points.h"
#include "winograd_tiles.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum {
  BLOCK = 42,                // tiles of a block at most, a multiple of the rows of the micro-kernels
  BLOCK_LEAST = 14,
  FEW_BLOCKS = 16,           // up to so many are made as large as each other
  SMALL_WEIGHTS = 1 << 21,   // of all phases, which a block of few tiles may read once more: then it stays in the nearer cache
  ABREAST = 4,               // vectors of channels that are transformed together: what is read and written is longer
  PACK_CHANNELS = 16,        // channels of one task that transforms weights
  NOTHING = WINO_OUT * WINO_OUT,  // the place of a 0 behind a tile's outputs
  LITTLE = 500000,           // multiplications that are not worth a second thread
};

typedef struct {
  const mt_wino_form *form;
  const mt_taps *sum;        // of one group
  const mt_tile *kernel;
  mt_wino_list l;
  int64_t channels;          // of all slices
  int64_t terms[WINO_IN * WINO_IN];          // of those that have a point
  int8_t slot[WINO_PHASES][WINO_IN * WINO_IN];  // which of them a slice is; -1: it has no such point
  int64_t padded;            // lanes of all panels of outputs
  int64_t lanes;             // padded, up to whole vectors of the transforms
  int64_t together;          // points whose channels share a row of MT_TILE_K terms
  int64_t kblock, point[WINO_IN * WINO_IN];  // of a tile's points: between blocks of channels; where they begin
  int64_t block;             // tiles of a block
  bool away;                 // the results go past the caches
  float *weights;            // [sum][point][block of channels][panel][channel][lane]
  int64_t weights_step;      // between points: an odd number of cache lines
  float *scratch;            // of every slot: outputs' points, then pixels' points
  int64_t outputs_size, pixels_size, slot_size;
  int32_t slots;
  int32_t *taken;
} wino_plan;

// ---- weights --------------------------------------------------------------------------------------------------------------

// Of the block of a point's channels that begins at c0.
static int64_t block_length(const wino_plan *s, int64_t p, int64_t c0) { return MT_MIN(MT_TILE_K, s->terms[p] - c0); }

// The weights of a window for some channels and one vector of outputs, to[c * window + tap]: turned square by square where channels
// are neighbours or the taps of a channel.
static void load_weights(const wino_plan *s, wino_lanes *to, const float *w, const int64_t *tap, int64_t channels, int64_t outputs) {
  const mt_taps *t = s->sum;
  const int64_t taps = s->form->window;
  void *row[PACK_CHANNELS * WINO_TAPS * WINO_TAPS];
  int64_t first = tap[0];
  bool neighbours = true, taken[WINO_TAPS * WINO_TAPS] = {false};
  for (int64_t j = 1; j < taps; j++) first = MT_MIN(first, tap[j]);
  for (int64_t j = 0; j < taps && neighbours; j++) {  // in an expanded view several taps share a weight
    neighbours = tap[j] - first < taps && !taken[tap[j] - first];
    taken[neighbours ? tap[j] - first : 0] = true;
  }
  if (outputs < WINO_LANES) {
    memset(to, 0, sizeof *to * (size_t)(channels * taps));
  }
  for (int64_t j = 0; j < taps && t->w_channel == 1; j++) {  // channels are neighbours
    for (int64_t c = 0; c < channels; c++) {
      row[c] = &to[c * taps + j];
    }
    s->kernel->turn[0](row, w + tap[j], t->w_output, channels, outputs);
  }
  if (t->w_channel == 1) {
    return;
  }
  for (int64_t c = 0; c < channels; c++) {
    for (int64_t j = 0; j < taps; j++) {
      row[c * taps + (neighbours ? tap[j] - first : j)] = &to[c * taps + j];
    }
  }
  for (int64_t c = 0; c < channels; c++) {
    const float *from = w + c * t->w_channel;
    if (!neighbours) {
      for (int64_t j = 0; j < taps; j++) {
        for (int64_t l = 0; l < outputs; l++) ((float *)row[c * taps + j])[l] = from[tap[j] + l * t->w_output];
      }
    } else if (t->w_channel == taps) {
      s->kernel->turn[0](row, from + first, t->w_output, channels * taps, outputs);
      return;
    } else {
      s->kernel->turn[0](row + c * taps, from + first, t->w_output, taps, outputs);
    }
  }
}

MT_VECTOR void transform_weight(wino_lanes *u, const wino_lanes *w, int64_t rows, int down, int across) {
  wino_lanes half[WINO_IN * WINO_TAPS] = {{0}};
  if (rows == 1) {
    wino_weight(u, 1, w, 1, across);
    return;
  }
  for (int k = 0; k < across; k++) wino_weight(half + k, across, w + k, across, down);  // down the columns
  for (int r = 0; r < WINO_IN; r++) wino_weight(u + r * WINO_IN, 1, half + across * r, 1, across);
}

// A vector of outputs may lie in several panels, as they may be narrower or wider.
typedef struct {
  int64_t panel, lanes, at, first, count;
} wino_piece;

static int cut_vector(const wino_plan *s, int64_t o0, wino_piece *piece) {
  int pieces = 0;
  for (int64_t l = 0, left = MT_MIN(WINO_LANES, s->padded - o0); l < left; l += piece[pieces++].count) {
    const int64_t panel = (o0 + l) / s->kernel->lanes[0] * s->kernel->lanes[0];
    const int64_t lanes = mt_tile_panel(s->kernel, MT_FLOAT32, s->padded - panel);
    piece[pieces] = (wino_piece){panel, lanes, o0 + l - panel, l, MT_MIN(left - l, panel + lanes - o0 - l)};
  }
  return pieces;
}

// The points of channel `all` of the slices, for phase i.
MT_VECTOR void store_weight(const wino_plan *s, int32_t i, int64_t all, const wino_lanes *u, const wino_piece *piece, int pieces) {
  const mt_taps *t = s->sum;
  const bool apart = s->form->sums > 1;
  const int64_t slice = s->form->depth > 1 ? all / t->channels : apart ? 0 : i, c = all % t->channels;
  float *weights = s->weights + (apart ? i * s->form->points * s->weights_step : 0);
  for (int64_t p = 0; p < s->form->points; p++) {
    if (!s->form->has[i][p]) {
      continue;
    }
    const int64_t term = s->slot[slice][p] * t->channels + c, c0 = term - term % MT_TILE_K, kn = block_length(s, p, c0);
    float *block = weights + p * s->weights_step + c0 * s->padded;
    for (int k = 0; k < pieces; k++) {
      float *to = block + kn * piece[k].panel + (term - c0) * piece[k].lanes + piece[k].at;
      __builtin_prefetch(to + 2 * piece[k].lanes, 1);
      if (pieces == 1 && piece[k].count == WINO_LANES) {
        *(wino_lanes *)to = u[p];
      } else {
        memcpy(to, (const float *)&u[p] + piece[k].first, sizeof(float) * (size_t)piece[k].count);
      }
    }
  }
}

// Transforms the weights of some channels for one vector of outputs, in all phases.
static WINO_CLONES void weights_range(void *context, int64_t begin, int64_t end) {
  const wino_plan *s = context;
  const mt_wino_form *f = s->form;
  const mt_taps *t = s->sum;
  const int64_t channels = f->depth * t->channels, chunks = (channels + PACK_CHANNELS - 1) / PACK_CHANNELS, window = f->window;
  const int down = f->taps[0], across = f->taps[1];
  wino_lanes all[PACK_CHANNELS * WINO_WINDOW];
  for (int64_t task = begin; task < end; task++) {
    const int64_t o0 = task / chunks * WINO_LANES, n = MT_MIN(WINO_LANES, t->outputs - o0), c1 = task % chunks * PACK_CHANNELS;
    const int64_t after = MT_MIN(c1 + PACK_CHANNELS, channels), slice = c1 / t->channels;
    wino_piece piece[WINO_LANES];
    const int pieces = cut_vector(s, o0, piece);
    if (n > 0) {
      load_weights(s, all, (const float *)t->w + c1 % t->channels * t->w_channel + o0 * t->w_output, f->w_tap + slice * window,
                   after - c1, n);
    } else {
      memset(all, 0, sizeof all);
    }
    for (int64_t c = c1; c < after; c++) {
      for (int32_t i = 0; i < f->phases; i++) {
        wino_lanes w[WINO_WINDOW], u[WINO_IN * WINO_IN];
        for (int j = 0; j < down * across; j++) {
          w[j] = (wino_lanes){0};
          if (f->pick[i][j] >= 0) {
            w[j] = all[(c - c1) * window + f->pick[i][j]];
          }
        }
        if (across == 3 && down == 3) {
          transform_weight(u, w, f->rows, 3, 3);
        } else if (across == 2 && down == 2) {
          transform_weight(u, w, f->rows, 2, 2);
        } else {
          transform_weight(u, w, f->rows, down, across);
        }
        store_weight(s, i, c, u, piece, pieces);
      }
    }
  }
}

// ---- tiles ------------------------------------------------------------------------------------------------------------------

// A block of tiles: which row of a point's matrix is whose.
typedef struct {
  const mt_wino_tile *tile;
  int64_t tiles, count[WINO_IN * WINO_IN];
  int16_t row[BLOCK][WINO_IN * WINO_IN];
} wino_block;

// Of one tile that reads down x across, `left` channels from c on, at most ABREAST vectors; `ahead`: pixels that are read next.
MT_VECTOR void part_pixels(const wino_plan *s, const float *const *pixel, const float *const *ahead, int64_t slice, const int16_t *row,
                           float *to, int down, int across, int64_t c, int64_t left) {
  const int64_t channels = s->sum->channels, whole = left / WINO_LANES, vectors = (left + WINO_LANES - 1) / WINO_LANES;
  const int8_t *down_point = wino_points[down], *across_point = wino_points[across], *slot = s->slot[slice];
  wino_lanes d[ABREAST][WINO_IN * WINO_IN];
  int64_t at[WINO_PHASES][ABREAST];
  for (int64_t k = 0; k <= slice; k++) {  // in the rows of a block, as the slice's number among those that have a point
    for (int64_t v = 0; v < vectors; v++) {
      const int64_t term = k * channels + c + v * WINO_LANES;
      at[k][v] = term / MT_TILE_K * s->kblock + term % MT_TILE_K;
    }
  }
  for (int r = 0; r < wino_values(down); r++) {
    for (int k = 0; k < wino_values(across); k++) {
      const int p = r * WINO_IN + k;
      for (int64_t v = 0; v < vectors; v++) {
        __builtin_prefetch(ahead[p] + c + v * WINO_LANES);
        if (pixel[p] == NULL) {
          d[v][p] = (wino_lanes){0};
        } else if (v < whole) {
          d[v][p] = *(const wino_lanes *)(pixel[p] + c + v * WINO_LANES);
        } else {
          for (int64_t l = 0; l < WINO_LANES; l++) d[v][p][l] = v * WINO_LANES + l < left ? pixel[p][c + v * WINO_LANES + l] : 0;
        }
      }
    }
    for (int64_t v = 0; v < vectors; v++) wino_input(d[v] + r * WINO_IN, 1, across);
  }
  for (int64_t v = 0; v < vectors && down > 1; v++) {
    for (int k = 0; k < wino_values(across); k++) wino_input(d[v] + across_point[k], WINO_IN, down);
  }
  for (int r = 0; r < wino_values(down); r++) {
    for (int k = 0; k < wino_values(across); k++) {
      const int p = down_point[r] * WINO_IN + across_point[k];
      if (slot[p] < 0) {
        continue;
      }
      float *point = to + s->point[p] + row[p] * MT_TILE_STEP(float);
      for (int64_t v = 0; v < vectors; v++) {
        if (v < whole) {
          *(wino_lanes *)(point + at[slot[p]][v]) = d[v][p];
        } else {
          memcpy(point + at[slot[p]][v], &d[v][p], sizeof(float) * (size_t)(left - v * WINO_LANES));
        }
      }
    }
  }
}

MT_VECTOR void tile_pixels(const wino_plan *s, const float *const *pixel, const float *const *ahead, int64_t slice, const int16_t *row,
                           float *to, int down, int across) {
  const int64_t channels = s->sum->channels, most = ABREAST * WINO_LANES;
  for (int64_t c = 0; c < channels; c += most) {
    if (channels - c >= most) {  // a number that the compiler knows
      part_pixels(s, pixel, ahead, slice, row, to, down, across, c, most);
    } else {
      part_pixels(s, pixel, ahead, slice, row, to, down, across, c, channels - c);
    }
  }
}

static WINO_CLONES void transform_pixels(const wino_plan *s, const wino_block *b, float *to) {
  const float *pixel[WINO_IN * WINO_IN], *ahead[WINO_IN * WINO_IN];
  const int32_t slices = mt_wino_slices(s->form);
  mt_wino_pixels(s->form, s->sum, b->tile, 0, ahead);
  for (int64_t k = 0; k < b->tiles * slices; k++) {
    const int64_t i = k / slices, slice = k % slices, next = MT_MIN(k + 1, b->tiles * slices - 1);
    const int down = b->tile[i].reads[0], across = b->tile[i].reads[1];
    memcpy(pixel, ahead, sizeof pixel);
    mt_wino_pixels(s->form, s->sum, &b->tile[next / slices], (int32_t)(next % slices), ahead);
    if (down == 1 && across == WINO_IN) {
      tile_pixels(s, pixel, ahead, slice, b->row[i], to, 1, WINO_IN);
    } else if (down == WINO_IN && across == WINO_IN) {
      tile_pixels(s, pixel, ahead, slice, b->row[i], to, WINO_IN, WINO_IN);
    } else {
      tile_pixels(s, pixel, ahead, slice, b->row[i], to, down, across);
    }
  }
}

static void multiply(const wino_plan *s, const wino_block *b, int32_t phase, const float *pixels, float *outputs) {
  const mt_wino_form *f = s->form;
  const float *weights = s->weights + phase * f->points * s->weights_step;
  for (int64_t p = 0; p < f->points; p++) {
    float *to = outputs + p * s->block * s->lanes;
    if (f->sums > 1 && !f->has[phase][p]) {
      continue;
    }
    memset(to, 0, sizeof(float) * (size_t)(b->count[p] * s->lanes));
    for (int64_t c0 = 0; c0 < s->terms[p]; c0 += MT_TILE_K) {
      const int64_t kn = block_length(s, p, c0);
      const float *w = weights + p * s->weights_step + c0 * s->padded, *x = pixels + c0 / MT_TILE_K * s->kblock + s->point[p];
      for (int64_t o = 0, width; o < s->padded; o += width) {
        width = mt_tile_panel(s->kernel, MT_FLOAT32, s->padded - o);
        s->kernel->chain[0](to + o, s->lanes, x, w + kn * o, kn, b->count[p], width);
      }
    }
  }
}

// A line of a cache, past the caches. Others see it after a fence.
MT_VECTOR void store_away(float *y, const wino_lanes *v) {
#if defined(__SSE2__)
  const __m128 *part = (const __m128 *)v;
  for (int k = 0; k < 4; k++) _mm_stream_ps(y + 4 * k, part[k]);
#else
  *(wino_lanes *)y = *v;
#endif
}

static void fence(void) {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

// The frozen norm of norm.h, in double; at: the numbers of the first lane's output, n: a constant where all lanes count.
MT_VECTOR void normalise(float *v, const double *at, int64_t outputs, int64_t n, float gate) {
  for (int64_t l = 0; l < n; l++) {
    const double y = ((double)v[l] - (double)gate * at[l]) * at[outputs + l] + (double)gate * at[2 * outputs + l];
    v[l] = gate == 0 ? 0 : (float)y;
  }
}

// One output pixel: what taps.h does with a finished sum.
MT_VECTOR void store(const mt_taps *t, float *y, wino_lanes sum, const float *bias, int64_t output, int64_t n, float scale,
                     float gate, bool away) {
  sum += (wino_lanes){0};
  if (t->scale.data) {
    if (scale == 0) {
      sum = (wino_lanes){0};
    } else {
      sum *= scale;
    }
  }
  if (bias && n == WINO_LANES) {
    sum += *(const wino_lanes *)bias;
  } else if (bias) {
    for (int64_t l = 0; l < n; l++) sum[l] += bias[l];
  }
  if (t->gate.data) {
    sum *= gate;
  }
  if (t->behind && t->behind->norm) {
    const double *at = t->behind->norm + output;
    float v[WINO_LANES];
    *(wino_lanes *)v = sum;
    if (n == WINO_LANES) {
      normalise(v, at, t->behind->outputs, WINO_LANES, gate);
    } else {
      normalise(v, at, t->behind->outputs, n, gate);
    }
    sum = *(wino_lanes *)v;
  }
  if (t->behind && t->behind->activation == MT_ACTIVATION_RELU) {
    MT_TILE_ACTIVATE(sum, MT_ACTIVATION_RELU, 0);
  } else if (t->behind && t->behind->activation == MT_ACTIVATION_LEAKY_RELU) {
    MT_TILE_ACTIVATE(sum, MT_ACTIVATION_LEAKY_RELU, (float)t->behind->a);
  }
  if (away) {
    store_away(y, &sum);
  } else if (n == WINO_LANES && t->y_channel == 1) {
    *(wino_lanes *)y = sum;
  } else {
    for (int64_t l = 0; l < n; l++) y[l * t->y_channel] = sum[l];
  }
}

// The active outputs of a tile: their place in it and in y, and their factors.
typedef struct {
  int64_t place;
  float *y, scale, gate;
} wino_output_pixel;

static int64_t find_outputs(const wino_plan *s, int32_t phase, const mt_wino_tile *tile, wino_output_pixel *pixel) {
  const mt_taps *t = &s->sum[phase];
  int64_t count = 0;
  for (int64_t r = 0; r < tile->outputs[0]; r++) {
    for (int64_t k = 0; k < tile->outputs[1]; k++) {
      int64_t at[MT_TAPS_DIMS];
      if (!mt_wino_output(t, tile, r, k, at) ||
          (t->active.data && !((const uint8_t *)t->active.data)[mt_taps_at(t, &t->active, tile->sample, at)])) {
        continue;
      }
      int64_t offset = tile->sample * t->y_sample;
      for (int32_t d = 0; d < t->dims; d++) offset += at[d] * t->y_step[d];
      pixel[count++] = (wino_output_pixel){
          mt_wino_reaches(s->form, phase, at) ? r * WINO_OUT + k : NOTHING, (float *)t->y + offset,
          t->scale.data ? ((const float *)t->scale.data)[mt_taps_at(t, &t->scale, tile->sample, at)] : 1,
          t->gate.data ? ((const float *)t->gate.data)[mt_taps_at(t, &t->gate, tile->sample, at)] : 1};
    }
  }
  return count;
}

// One tile that reads down x across.
MT_VECTOR void tile_outputs(const wino_plan *s, int32_t phase, const mt_wino_tile *tile, const int16_t *row, const float *from,
                            int down, int across) {
  const mt_taps *t = &s->sum[phase];
  const bool *has = s->form->has[phase], every = s->form->sums == 1;
  const int rows = tile->outputs[0], columns = tile->outputs[1];
  const int8_t *down_point = wino_points[down], *across_point = wino_points[across];
  wino_output_pixel pixel[WINO_OUT * WINO_OUT];
  const int64_t pixels = find_outputs(s, phase, tile, pixel);
  wino_lanes m[WINO_IN * WINO_IN] = {{0}};
  for (int64_t o = 0; o < t->outputs; o += WINO_LANES) {
    const int64_t n = MT_MIN(WINO_LANES, t->outputs - o);
    for (int64_t k = 0; k < pixels && !s->away; k++) __builtin_prefetch(pixel[k].y + (o + 2 * WINO_LANES) * t->y_channel, 1);
    wino_lanes half[WINO_OUT * WINO_IN], y[NOTHING + 1];
    y[NOTHING] = (wino_lanes){0};
    for (int r = 0; r < wino_values(down); r++) {
      for (int k = 0; k < wino_values(across); k++) {
        const int p = down_point[r] * WINO_IN + across_point[k];
        if (every || has[p]) {
          m[p] = *(const wino_lanes *)(from + (p * s->block + row[p]) * s->lanes + o);
        }
      }
    }
    if (down == 1) {
      wino_output(y, 1, m, 1, across, columns);
    } else {
      for (int k = 0; k < wino_values(across); k++) wino_output(half + across_point[k], WINO_IN, m + across_point[k], WINO_IN, down, rows);
      for (int r = 0; r < rows; r++) wino_output(y + r * WINO_OUT, 1, half + r * WINO_IN, 1, across, columns);
    }
    const float *bias = t->bias ? (const float *)t->bias + o : NULL;
    for (int64_t k = 0; k < pixels; k++) {
      store(t, pixel[k].y + o * t->y_channel, y[pixel[k].place], bias, o, n, pixel[k].scale, pixel[k].gate, s->away);
    }
  }
}

static WINO_CLONES void transform_outputs(const wino_plan *s, int32_t phase, const wino_block *b, int64_t i, const float *from) {
  const mt_wino_tile *tile = &b->tile[i];
  if (tile->reads[0] == 1 && tile->reads[1] == WINO_IN) {
    tile_outputs(s, phase, tile, b->row[i], from, 1, WINO_IN);
  } else if (tile->reads[0] == WINO_IN && tile->reads[1] == WINO_IN) {
    tile_outputs(s, phase, tile, b->row[i], from, WINO_IN, WINO_IN);
  } else {
    tile_outputs(s, phase, tile, b->row[i], from, tile->reads[0], tile->reads[1]);
  }
}

static void blocks_range(void *context, int64_t begin, int64_t end) {
  const wino_plan *s = context;
  const int32_t slot = mt_slot_take(s->taken, s->slots);
  float *outputs = s->scratch + slot * s->slot_size, *pixels = outputs + s->outputs_size;
  for (int64_t k = begin; k < end; k++) {
    wino_block b = {.tile = s->l.tile + k * s->block, .tiles = MT_MIN(s->block, s->l.count - k * s->block)};
    mt_wino_rows(b.tile, b.tiles, b.row[0], b.count);
    transform_pixels(s, &b, pixels);
    for (int32_t phase = 0; phase < s->form->sums; phase++) {
      multiply(s, &b, phase, pixels, outputs);
      for (int64_t i = 0; i < b.tiles; i++) transform_outputs(s, phase, &b, i, outputs);
    }
  }
  fence();
  mt_slot_return(s->taken, slot);
}

// ---- the whole --------------------------------------------------------------------------------------------------------------

// It is large, and its vectors are lines of a cache.
static bool goes_away(const mt_taps *t) {
  bool lines = t->y_channel == 1 && t->outputs % WINO_LANES == 0 && t->y_sample % WINO_LANES == 0 && (uintptr_t)t->y % 64 == 0;
  for (int32_t d = 0; d < t->dims; d++) lines = lines && t->y_step[d] % WINO_LANES == 0;
  return lines && mt_wino_is_large(t);
}

static int run_group(const wino_plan *plan, int64_t g) {
  wino_plan group = *plan, *s = &group;
  mt_taps sum[MT_WINOGRAD_SUMS];
  mt_tile_behind behind;
  s->away = true;
  for (int32_t k = 0; k < s->form->sums; k++) {
    const mt_taps *whole = &s->form->sum[k];
    mt_taps *t = &sum[k];
    *t = *whole;
    t->groups = 1;
    t->x = (const float *)whole->x + g * whole->channels;
    t->y = (float *)whole->y + g * whole->y_group;
    t->w = (const float *)whole->w + g * whole->w_group;
    t->bias = whole->bias ? (const float *)whole->bias + g * whole->outputs : NULL;
    if (whole->behind && whole->behind->norm) {
      behind = *whole->behind;
      behind.norm += g * whole->outputs;
      t->behind = &behind;
    }
    s->away = s->away && goes_away(t);
    MT_TRY(mt_wino_clear(t));
  }
  s->sum = sum;
  if (s->l.count == 0) {
    return MT_OK;
  }
  const int64_t chunks = (s->form->depth * sum->channels + PACK_CHANNELS - 1) / PACK_CHANNELS;
  const int64_t vectors = (s->padded + WINO_LANES - 1) / WINO_LANES * chunks, blocks = (s->l.count + s->block - 1) / s->block;
  const bool little = (double)s->l.count * (double)(s->form->points * s->channels) * (double)s->padded < LITTLE;
  MT_TRY(mt_parallel(vectors, little ? vectors : 1, weights_range, s));
  return mt_parallel(blocks, little ? blocks : 1, blocks_range, s);
}

static int run(wino_plan *s) {
  const mt_wino_form *f = s->form;
  const mt_taps *t = f->sum;
  s->kernel = mt_tile_get();
  s->channels = mt_wino_slices(f) * t->channels;
  s->padded = mt_tile_padded(s->kernel, MT_FLOAT32, t->outputs);
  s->lanes = (s->padded + WINO_LANES - 1) / WINO_LANES * WINO_LANES;
  s->together = MT_MAX(1, MT_TILE_K / s->channels);
  while (s->block > BLOCK_LEAST && (s->l.count + s->block - 1) / s->block < 4) {
    s->block -= BLOCK_LEAST;
  }
  int64_t blocks = (s->l.count + s->block - 1) / s->block;
  if (f->phases > 1 && f->points * f->phases * t->channels * s->padded <= SMALL_WEIGHTS) {
    s->block = BLOCK_LEAST;
  } else if (blocks > 1 && blocks < FEW_BLOCKS) {  // an even number of them, for two threads, of an odd size: points then lie in different parts of a cache
    blocks += blocks % 2;
    s->block = MT_MIN(BLOCK, ((s->l.count + blocks - 1) / blocks) | 1);
  }
  const int64_t groups = (f->points + s->together - 1) / s->together, kblocks = (s->channels + MT_TILE_K - 1) / MT_TILE_K;
  s->kblock = groups * s->block * MT_TILE_STEP(float);
  for (int64_t p = 0; p < f->points; p++) {
    s->point[p] = p / s->together * s->block * MT_TILE_STEP(float) + p % s->together * s->channels;
    s->terms[p] = mt_wino_slots(f, p) * t->channels;
    for (int32_t k = 0; k < mt_wino_slices(f); k++) s->slot[k][p] = (int8_t)mt_wino_slot(f, k, p);
  }
  s->pixels_size = kblocks * s->kblock;
  // The outputs' points take the place of pixels' points that have been multiplied, unless other sums want those too.
  s->outputs_size = f->points * s->block * s->lanes;
  if (f->sums == 1) {
    s->outputs_size = 0;
    for (int64_t p = 0; p < f->points; p++) {
      s->outputs_size = MT_MAX(s->outputs_size, s->block * ((p + 1) * s->lanes - p / s->together * MT_TILE_STEP(float)));
    }
  }
  s->slot_size = s->outputs_size + s->pixels_size;
  s->slots = mt_threads_get();
  int64_t weights;
  s->weights_step = (s->channels * s->padded / 16 | 1) * 16 + 16 * (s->channels * s->padded / 16 % 2);
  if (!mt_mul(&weights, s->weights_step, f->points * f->sums)) {
    return mt_fail(MT_ERROR_MEMORY, "out of memory: the weights of a convolution do not fit in 64 bits");
  }
  s->weights = mt_alloc_array(weights, (int64_t)sizeof(float));
  s->scratch = s->weights ? mt_alloc_array(s->slots * s->slot_size, (int64_t)sizeof(float)) : NULL;
  s->taken = s->scratch ? mt_alloc_array(s->slots, (int64_t)sizeof *s->taken) : NULL;
  int status = s->taken ? MT_OK : MT_ERROR_MEMORY;
  if (status == MT_OK) {
    memset(s->taken, 0, sizeof *s->taken * (size_t)s->slots);
  }
  for (int64_t g = 0; g < t->groups && status == MT_OK; g++) {
    status = run_group(s, g);
  }
  mt_free(s->taken);
  mt_free(s->scratch);
  mt_free(s->weights);
  return status;
}

// worth: the samples that are, NULL: all.
static int run_samples(const mt_wino_form *f, const uint8_t *worth) {
  wino_plan s = {.form = f, .block = BLOCK};
  int status = mt_wino_list_tiles(&s.l, f, worth);
  status = status ? status : run(&s);
  mt_free(s.l.tile);
  return status;
}

static int sum_directly(const mt_taps *sum, const uint8_t *worth) {
  mt_taps others;
  uint8_t *active = NULL;
  int status = mt_wino_others(&others, &active, sum, worth);
  status = status ? status : mt_taps_sum(&others);
  mt_free(active);
  return status;
}

bool mt_winograd_suits(const mt_taps *sum, int32_t sums, bool forced) {
  mt_wino_form f;
  return mt_wino_form_of(&f, sum, sums) && mt_wino_form_suits(&f, forced);
}

int mt_winograd_sum(const mt_taps *sum, int32_t sums, bool forced) {
  mt_wino_form f;
  uint8_t *worth;
  int64_t count;
  mt_wino_form_of(&f, sum, sums);
  MT_TRY(mt_wino_choose(&worth, &count, &f, forced));
  int status = MT_OK;
  if (count == sum->samples) {
    status = run_samples(&f, NULL);
  } else if (count == 0) {
    for (int32_t s = 0; s < sums && status == MT_OK; s++) status = mt_taps_sum(&sum[s]);
  } else {
    // One pass each, so that weights are packed and transformed once. The second clears what is not active.
    for (int32_t s = 0; s < sums && status == MT_OK; s++) status = sum_directly(&sum[s], worth);
    status = status ? status : run_samples(&f, worth);
  }
  mt_free(worth);
  return status;
}
