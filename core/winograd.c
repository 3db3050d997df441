// winograd: see winograd.h. Three passes over blocks of tiles: pixels into points, one matrix product per point, points into
// outputs. A block is small enough for the caches; its size changes no bit.
#include "winograd.h"

#include <stdatomic.h>

#include "tile.h"
#include "winograd_points.h"

enum {
  MIN_CHANNELS = 32,         // fewer, and the transforms cost more than they save
  MIN_EXTENT = 6,            // likewise a sample's active part
  MAX_WEIGHTS = 1 << 19,     // channels * outputs of a group: their transform has 36 values for each
  BLOCK = 56,                // tiles of a block at most, a multiple of the rows of the micro-kernels
  BLOCK_LEAST = 14,
  PACK_CHANNELS = 16,        // channels of one task that transforms weights
  LITTLE = 500000,           // multiplications that are not worth a second thread
};

typedef struct {
  int64_t sample, at[2];     // its first output; row 0 in one axis
} wino_tile;

typedef struct {
  const mt_taps *taps;       // of one group
  const mt_tile *kernel;
  int64_t rows;              // 6 or 1: points along the first of two axes
  int64_t points;            // 6 * rows
  int64_t low[2];            // offset of the first pixel a tile reads from its first output; row, column
  int64_t padded;            // lanes of all panels of outputs
  int64_t lanes;             // padded, up to whole vectors of the transforms
  int64_t together;          // points whose channels share a row of MT_TILE_K terms
  int64_t block, count;      // tiles of a block, of all
  const wino_tile *tile;
  float *weights;            // [point][block of channels][panel][channel][lane]
  float *scratch;            // of every slot: pixels' points, then outputs' points
  int64_t pixels_size, slot_size;
  int32_t slots;
  _Atomic bool *taken;
} wino_plan;

// ---- which ------------------------------------------------------------------------------------------------------------

// The taps are the cells of a 3 or 3 x 3 window, in raster order or its reverse.
static bool is_window(const mt_taps *t) {
  const int64_t taps = t->dims == 2 ? 9 : 3;
  if (t->dims > 2 || t->taps != taps) {
    return false;
  }
  const int64_t way = t->offset[taps - 1][t->dims - 1] > t->offset[0][t->dims - 1] ? 1 : -1;
  for (int64_t j = 0; j < taps; j++) {
    const int64_t cell[2] = {t->dims == 2 ? j / 3 : j, j % 3};
    for (int32_t d = 0; d < t->dims; d++) {
      if (t->mul[d] != 1 || t->offset[j][d] != t->offset[0][d] + way * cell[d]) {
        return false;
      }
    }
  }
  return true;
}

bool mt_winograd_suits(const mt_taps *t, bool forced) {
  return t->dtype == MT_FLOAT32 && is_window(t) && t->channels > 0 &&
         (forced || (t->channels >= MIN_CHANNELS && t->outputs >= MIN_CHANNELS && t->channels * t->outputs <= MAX_WEIGHTS));
}

// ---- samples ------------------------------------------------------------------------------------------------------------

// The samples [first, first + count) of t.
static mt_taps samples_of(const mt_taps *t, int64_t first, int64_t count) {
  mt_taps s = *t;
  const int64_t size = mt_dtype_size(t->dtype);
  s.samples = count;
  s.x = (const char *)t->x + first * t->x_sample * size;
  s.y = (char *)t->y + first * t->y_sample * size;
  mt_taps_map *const maps[] = {&s.valid, &s.active, &s.scale, &s.gate};
  for (int k = 0; k < 4; k++) {
    const int64_t bytes = k < 2 ? 1 : size;
    maps[k]->data = maps[k]->data ? (const char *)maps[k]->data + first * maps[k]->sample * bytes : NULL;
  }
  return s;
}

// Rows and columns, or one row of columns.
typedef struct {
  int64_t first[2], after[2];
} box;

static int64_t rows_of(const mt_taps *t, const int64_t size[MT_TAPS_DIMS]) { return t->dims == 2 ? size[0] : 1; }

static const uint8_t *map_row(const mt_taps *t, const mt_taps_map *map, int64_t sample, int64_t row) {
  return (const uint8_t *)map->data + sample * map->sample + (t->dims == 2 ? row * map->step[0] : 0);
}

// The smallest box around what a sample has in a map of the given size; empty where that is nothing.
static box box_of(const mt_taps *t, const mt_taps_map *map, const int64_t size[MT_TAPS_DIMS], int64_t sample) {
  const int64_t rows = rows_of(t, size), columns = size[t->dims - 1], step = map->step[t->dims - 1];
  if (map->data == NULL) {
    return (box){{0, 0}, {rows, columns}};
  }
  box e = {{rows, columns}, {0, 0}};
  for (int64_t r = 0; r < rows; r++) {
    const uint8_t *row = map_row(t, map, sample, r);
    int64_t low = 0, high = columns;
    while (low < columns && !row[low * step]) low++;
    if (low == columns) {
      continue;
    }
    while (!row[(high - 1) * step]) high--;
    e.first[0] = MT_MIN(e.first[0], r);
    e.after[0] = r + 1;
    e.first[1] = MT_MIN(e.first[1], low);
    e.after[1] = MT_MAX(e.after[1], high);
  }
  return e;
}

// What a sample is like without its padding: where it begins, which fixes the tiles, and how large it is, which decides
// whether tiles are worth it. Both are those of the valid pixels or, without such a map, of the active ones.
typedef struct {
  int64_t begin[2], size[2];
} outline;

static outline outline_of(const mt_taps *t, int64_t sample) {
  const bool by_active = t->valid.data == NULL && t->active.data != NULL;
  const box b = by_active ? box_of(t, &t->active, t->grid, sample) : box_of(t, &t->valid, t->size, sample);
  outline o = {{0, 0}, {0, 0}};
  for (int k = 0; k < 2 && b.after[0] > 0; k++) {
    const int32_t d = t->dims == 2 ? k : 0;
    o.begin[k] = b.first[k];
    o.size[k] = b.after[k] - b.first[k] + (by_active && (k == 1 || t->dims == 2) ? t->size[d] - t->grid[d] : 0);
  }
  return o;
}

static bool is_worth_it(const mt_taps *t, int64_t sample, bool forced) {
  const outline o = outline_of(t, sample);
  return forced || (o.size[1] >= MIN_EXTENT && (t->dims == 1 || o.size[0] >= MIN_EXTENT));
}

// Some output of the tile at (row, column) is active.
static bool has_active(const mt_taps *t, int64_t sample, const int64_t at[2]) {
  const int64_t columns = t->grid[t->dims - 1], step = t->active.step[t->dims - 1];
  const int64_t rows = t->dims == 2 ? MT_MIN(at[0] + WINO_OUT, t->grid[0]) : 1;
  for (int64_t r = MT_MAX(0, at[0]); r < rows; r++) {
    const uint8_t *active = map_row(t, &t->active, sample, r);
    for (int64_t c = MT_MAX(0, at[1]); c < MT_MIN(at[1] + WINO_OUT, columns); c++) {
      if (active[c * step]) {
        return true;
      }
    }
  }
  return false;
}

// The last tile of the grid through `begin` that starts at or before `first`.
static int64_t tile_at(int64_t first, int64_t begin) {
  const int64_t distance = first - begin;
  return begin + (distance >= 0 ? distance / WINO_OUT : -((-distance + WINO_OUT - 1) / WINO_OUT)) * WINO_OUT;
}

// Appends a sample's tiles that have something active; returns the new count. tile NULL: counts them all.
static int64_t add_tiles(const mt_taps *t, int64_t sample, wino_tile *tile, int64_t count) {
  const box e = box_of(t, &t->active, t->grid, sample);
  const outline o = outline_of(t, sample);
  const int64_t down = t->dims == 2 ? WINO_OUT : 1;
  const int64_t top = t->dims == 2 ? tile_at(e.first[0], o.begin[0]) : 0, left = tile_at(e.first[1], o.begin[1]);
  if (tile == NULL) {
    const int64_t rows = MT_MAX(0, e.after[0] - top), columns = MT_MAX(0, e.after[1] - left);
    return count + (rows + down - 1) / down * ((columns + WINO_OUT - 1) / WINO_OUT);
  }
  for (int64_t r = top; r < e.after[0]; r += down) {
    for (int64_t c = left; c < e.after[1]; c += WINO_OUT) {
      tile[count] = (wino_tile){sample, {r, c}};
      count += t->active.data == NULL || has_active(t, sample, tile[count].at);
    }
  }
  return count;
}

// ---- weights --------------------------------------------------------------------------------------------------------------

static int64_t block_length(const mt_taps *t, int64_t c0) { return MT_MIN(MT_TILE_K, t->channels - c0); }

// Transforms the weights of some channels for one vector of outputs.
static WINO_CLONES void weights_range(void *context, int64_t begin, int64_t end) {
  const wino_plan *s = context;
  const mt_taps *t = s->taps;
  const int64_t chunks = (t->channels + PACK_CHANNELS - 1) / PACK_CHANNELS;
  const bool reversed = t->offset[t->taps - 1][t->dims - 1] < t->offset[0][t->dims - 1];
  for (int64_t task = begin; task < end; task++) {
    const int64_t o0 = task / chunks * WINO_LANES, n = MT_MIN(WINO_LANES, t->outputs - o0);
    const int64_t left = MT_MIN(WINO_LANES, s->padded - o0), c1 = task % chunks * PACK_CHANNELS;
    for (int64_t c = c1; c < MT_MIN(c1 + PACK_CHANNELS, t->channels); c++) {
      wino_lanes w[9], half[WINO_IN * 3], u[WINO_IN * WINO_IN];
      const float *from = (const float *)t->w + c * t->w_channel + o0 * t->w_output;
      for (int64_t j = 0; j < t->taps; j++) {
        const float *tap = from + t->w_tap[reversed ? t->taps - 1 - j : j];
        for (int64_t l = 0; l < WINO_LANES; l++) w[j][l] = l < n ? tap[l * t->w_output] : 0;
      }
      if (s->rows == 1) {
        wino_weight(u, 1, w, 1);
      } else {
        for (int i = 0; i < 3; i++) wino_weight(half + i, 3, w + i, 3);             // down the columns
        for (int i = 0; i < WINO_IN; i++) wino_weight(u + i * WINO_IN, 1, half + 3 * i, 1);
      }
      const int64_t c0 = c - c % MT_TILE_K, kn = block_length(t, c0);
      for (int64_t p = 0; p < s->points; p++) {
        float *block = s->weights + (p * t->channels + c0) * s->padded;
        for (int64_t l = 0, first = o0; l < left;) {  // panels may be narrower or wider than a vector
          const int64_t panel = first / s->kernel->lanes[0] * s->kernel->lanes[0];
          const int64_t lanes = mt_tile_panel(s->kernel, MT_FLOAT32, s->padded - panel);
          const int64_t count = MT_MIN(left - l, panel + lanes - first);
          memcpy(block + kn * panel + (c - c0) * lanes + (first - panel), (const float *)&u[p] + l, sizeof(float) * (size_t)count);
          l += count;
          first += count;
        }
      }
    }
  }
}

// ---- tiles ------------------------------------------------------------------------------------------------------------------

// Where the points of tile i of a block begin: point p of the channels from c0 on.
static inline int64_t pixel_point(const wino_plan *s, int64_t c0, int64_t p, int64_t i) {
  const int64_t groups = (s->points + s->together - 1) / s->together, kb = c0 / MT_TILE_K;
  return ((kb * groups + p / s->together) * s->block + i) * MT_TILE_STEP(float) + p % s->together * s->taps->channels;
}

// The pixels a tile reads; NULL for those that are outside or not valid.
static void find_pixels(const wino_plan *s, const wino_tile *tile, const float *pixel[WINO_IN * WINO_IN]) {
  const mt_taps *t = s->taps;
  const int32_t last = t->dims - 1;
  const int64_t columns = t->size[last], rows = t->dims == 2 ? t->size[0] : 1;
  const int64_t row_step = t->dims == 2 ? t->x_step[0] : 0, valid_row = t->dims == 2 ? t->valid.step[0] : 0;
  for (int64_t i = 0; i < s->rows; i++) {
    const int64_t r = tile->at[0] + s->low[0] + i;
    const bool inside = r >= 0 && r < rows;
    const float *x = (const float *)t->x + tile->sample * t->x_sample + r * row_step;
    const uint8_t *valid = t->valid.data ? (const uint8_t *)t->valid.data + tile->sample * t->valid.sample + r * valid_row : NULL;
    for (int64_t k = 0; k < WINO_IN; k++) {
      const int64_t c = tile->at[1] + s->low[1] + k;
      const bool counts = inside && c >= 0 && c < columns && (valid == NULL || valid[c * t->valid.step[last]]);
      pixel[i * WINO_IN + k] = counts ? x + c * t->x_step[last] : NULL;
    }
  }
}

static WINO_CLONES void transform_pixels(const wino_plan *s, const wino_tile *tile, int64_t i, float *to) {
  const mt_taps *t = s->taps;
  const float *pixel[WINO_IN * WINO_IN];
  find_pixels(s, tile, pixel);
  for (int64_t c = 0; c < t->channels; c += WINO_LANES) {
    const int64_t n = MT_MIN(WINO_LANES, t->channels - c), c0 = c - c % MT_TILE_K;
    wino_lanes d[WINO_IN * WINO_IN];
    for (int64_t p = 0; p < s->points; p++) {
      if (pixel[p] == NULL) {
        d[p] = (wino_lanes){0};
      } else if (n == WINO_LANES) {
        d[p] = *(const wino_lanes *)(pixel[p] + c);
      } else {
        for (int64_t l = 0; l < WINO_LANES; l++) d[p][l] = l < n ? pixel[p][c + l] : 0;
      }
    }
    for (int r = 0; r < s->rows; r++) wino_input(d + r * WINO_IN, 1);
    for (int k = 0; s->rows > 1 && k < WINO_IN; k++) wino_input(d + k, WINO_IN);
    for (int64_t p = 0; p < s->points; p++) {
      float *point = to + pixel_point(s, c0, p, i) + (c - c0);
      if (n == WINO_LANES) {
        *(wino_lanes *)point = d[p];
      } else {
        memcpy(point, &d[p], sizeof(float) * (size_t)n);
      }
    }
  }
}

static void multiply(const wino_plan *s, const float *pixels, float *outputs, int64_t tiles) {
  const mt_taps *t = s->taps;
  for (int64_t p = 0; p < s->points; p++) {
    float *to = outputs + p * s->block * s->lanes;
    memset(to, 0, sizeof(float) * (size_t)(tiles * s->lanes));
    for (int64_t c0 = 0; c0 < t->channels; c0 += MT_TILE_K) {
      const int64_t kn = block_length(t, c0);
      const float *w = s->weights + (p * t->channels + c0) * s->padded;
      for (int64_t o = 0, width; o < s->padded; o += width) {
        width = mt_tile_panel(s->kernel, MT_FLOAT32, s->padded - o);
        s->kernel->chain[0](to + o, s->lanes, pixels + pixel_point(s, c0, p, 0), w + kn * o, kn, tiles, width);
      }
    }
  }
}

// One output pixel: what taps.h does with a finished sum.
MT_VECTOR void store(const mt_taps *t, float *y, wino_lanes sum, const float *bias, int64_t n, float scale, float gate) {
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
  if (n == WINO_LANES && t->y_channel == 1) {
    *(wino_lanes *)y = sum;
  } else {
    for (int64_t l = 0; l < n; l++) y[l * t->y_channel] = sum[l];
  }
}

static WINO_CLONES void transform_outputs(const wino_plan *s, const wino_tile *tile, int64_t i, const float *from) {
  const mt_taps *t = s->taps;
  const int32_t last = t->dims - 1;
  const int64_t down = s->rows == 1 ? 1 : WINO_OUT;
  for (int64_t o = 0; o < t->outputs; o += WINO_LANES) {
    const int64_t n = MT_MIN(WINO_LANES, t->outputs - o);
    wino_lanes m[WINO_IN * WINO_IN], half[WINO_OUT * WINO_IN], y[WINO_OUT * WINO_OUT];
    for (int64_t p = 0; p < s->points; p++) m[p] = *(const wino_lanes *)(from + (p * s->block + i) * s->lanes + o);
    if (s->rows == 1) {
      wino_output(y, 1, m, 1);
    } else {
      for (int k = 0; k < WINO_IN; k++) wino_output(half + k, WINO_IN, m + k, WINO_IN);
      for (int r = 0; r < WINO_OUT; r++) wino_output(y + r * WINO_OUT, 1, half + r * WINO_IN, 1);
    }
    const float *bias = t->bias ? (const float *)t->bias + o : NULL;
    for (int64_t r = 0; r < down; r++) {
      for (int64_t k = 0; k < WINO_OUT; k++) {
        const int64_t at[MT_TAPS_DIMS] = {t->dims == 2 ? tile->at[0] + r : tile->at[1] + k, tile->at[1] + k};
        if (at[0] < 0 || at[last] < 0 || at[0] >= t->grid[0] || at[last] >= t->grid[last] ||
            (t->active.data && !((const uint8_t *)t->active.data)[mt_taps_at(t, &t->active, tile->sample, at)])) {
          continue;
        }
        int64_t offset = tile->sample * t->y_sample + o * t->y_channel;
        for (int32_t d = 0; d < t->dims; d++) offset += at[d] * t->y_step[d];
        store(t, (float *)t->y + offset, y[r * WINO_OUT + k], bias, n,
              t->scale.data ? ((const float *)t->scale.data)[mt_taps_at(t, &t->scale, tile->sample, at)] : 1,
              t->gate.data ? ((const float *)t->gate.data)[mt_taps_at(t, &t->gate, tile->sample, at)] : 1);
      }
    }
  }
}

static void blocks_range(void *context, int64_t begin, int64_t end) {
  const wino_plan *s = context;
  int32_t slot = 0;
  while (atomic_exchange(&s->taken[slot], true)) {  // there is one for every thread
    slot = (slot + 1) % s->slots;
  }
  float *pixels = s->scratch + slot * s->slot_size, *outputs = pixels + s->pixels_size;
  for (int64_t b = begin; b < end; b++) {
    const wino_tile *tile = s->tile + b * s->block;
    const int64_t n = MT_MIN(s->block, s->count - b * s->block);
    for (int64_t i = 0; i < n; i++) transform_pixels(s, &tile[i], i, pixels);
    multiply(s, pixels, outputs, n);
    for (int64_t i = 0; i < n; i++) transform_outputs(s, &tile[i], i, outputs);
  }
  atomic_store(&s->taken[slot], false);
}

// ---- the whole --------------------------------------------------------------------------------------------------------------

static void clear_inactive(void *context, int64_t begin, int64_t end) {
  const mt_taps *t = context;
  const int64_t rows = t->dims == 2 ? t->grid[0] : 1, columns = t->grid[t->dims - 1];
  for (int64_t i = begin; i < end; i++) {
    const int64_t sample = i / rows, r = i % rows;
    const uint8_t *active = map_row(t, &t->active, sample, r);
    float *y = (float *)t->y + sample * t->y_sample + (t->dims == 2 ? r * t->y_step[0] : 0);
    for (int64_t c = 0; c < columns; c++, y += t->y_step[t->dims - 1]) {
      if (active[c * t->active.step[t->dims - 1]]) {
        continue;
      }
      for (int64_t o = 0; o < t->outputs; o++) y[o * t->y_channel] = 0;
    }
  }
}

static int run_group(const wino_plan *plan, const mt_taps *whole, int64_t g) {
  wino_plan group = *plan;
  mt_taps t = *whole;
  t.groups = 1;
  t.x = (const float *)whole->x + g * whole->channels;
  t.y = (float *)whole->y + g * whole->y_group;
  t.w = (const float *)whole->w + g * whole->w_group;
  t.bias = whole->bias ? (const float *)whole->bias + g * whole->outputs : NULL;
  wino_plan *s = &group;
  group.taps = &t;
  if (t.active.data) {
    const int64_t rows = t.samples * (t.dims == 2 ? t.grid[0] : 1);
    MT_TRY(mt_parallel(rows, MT_MAX(1, 16384 / MT_MAX(1, t.grid[t.dims - 1] * t.outputs)), clear_inactive, &t));
  }
  if (s->count == 0) {
    return MT_OK;
  }
  const int64_t vectors = (s->padded + WINO_LANES - 1) / WINO_LANES * ((t.channels + PACK_CHANNELS - 1) / PACK_CHANNELS);
  const int64_t blocks = (s->count + s->block - 1) / s->block;
  const bool little = (double)s->count * (double)(s->points * t.channels) * (double)s->padded < LITTLE;
  MT_TRY(mt_parallel(vectors, little ? vectors : 1, weights_range, s));
  return mt_parallel(blocks, little ? blocks : 1, blocks_range, s);
}

static int run(wino_plan *s, const mt_taps *t) {
  const int32_t last = t->dims - 1;
  s->kernel = mt_tile_get();
  s->rows = t->dims == 2 ? WINO_IN : 1;
  s->points = s->rows * WINO_IN;
  s->low[0] = t->dims == 2 ? MT_MIN(t->offset[0][0], t->offset[t->taps - 1][0]) : 0;
  s->low[1] = MT_MIN(t->offset[0][last], t->offset[t->taps - 1][last]);
  s->padded = mt_tile_padded(s->kernel, MT_FLOAT32, t->outputs);
  s->lanes = (s->padded + WINO_LANES - 1) / WINO_LANES * WINO_LANES;
  s->together = MT_MAX(1, MT_TILE_K / t->channels);
  s->block = BLOCK;
  while (s->block > BLOCK_LEAST && (s->count + s->block - 1) / s->block < 4) {
    s->block -= BLOCK_LEAST;
  }
  const int64_t groups = (s->points + s->together - 1) / s->together, kblocks = (t->channels + MT_TILE_K - 1) / MT_TILE_K;
  s->pixels_size = kblocks * groups * s->block * MT_TILE_STEP(float);
  s->slot_size = s->pixels_size + s->points * s->block * s->lanes;
  s->slots = mt_threads_get();
  int64_t weights;
  if (!mt_mul(&weights, t->channels * s->points, s->padded)) {
    return mt_fail(MT_ERROR_MEMORY, "out of memory: the weights of a convolution do not fit in 64 bits");
  }
  s->weights = mt_alloc_array(weights, (int64_t)sizeof(float));
  s->scratch = s->weights ? mt_alloc_array(s->slots * s->slot_size, (int64_t)sizeof(float)) : NULL;
  s->taken = s->scratch ? mt_alloc_array(s->slots, (int64_t)sizeof *s->taken) : NULL;
  int status = s->taken ? MT_OK : MT_ERROR_MEMORY;
  for (int32_t i = 0; status == MT_OK && i < s->slots; i++) atomic_init(&s->taken[i], false);
  for (int64_t g = 0; g < t->groups && status == MT_OK; g++) {
    status = run_group(s, t, g);
  }
  mt_free((void *)s->taken);
  mt_free(s->scratch);
  mt_free(s->weights);
  return status;
}

// The samples [first, after) are all worth it.
static int run_samples(const mt_taps *t, int64_t first, int64_t after) {
  const mt_taps part = samples_of(t, first, after - first);
  int64_t bound = 1;
  for (int64_t n = 0; n < part.samples; n++) bound = add_tiles(&part, n, NULL, bound);
  MT_SCRATCH(wino_tile, tile, bound);
  if (tile == NULL) {
    return MT_ERROR_MEMORY;
  }
  wino_plan s = {.tile = tile};
  for (int64_t n = 0; n < part.samples; n++) s.count = add_tiles(&part, n, tile, s.count);
  const int status = run(&s, &part);
  mt_free(tile);
  return status;
}

int mt_winograd_sum(const mt_taps *t, bool forced) {
  for (int64_t first = 0, after; first < t->samples; first = after) {
    const bool worth = is_worth_it(t, first, forced);
    for (after = first + 1; after < t->samples && is_worth_it(t, after, forced) == worth; after++) {
    }
    if (worth) {
      MT_TRY(run_samples(t, first, after));
    } else {
      const mt_taps part = samples_of(t, first, after - first);
      MT_TRY(mt_taps_sum(&part));
    }
  }
  return MT_OK;
}
