// winograd_tiles: which tiles of which samples the Winograd transform works on; see winograd.h.
#include "winograd_tiles.h"

#include "flags.h"
#include "winograd_points.h"

enum {
  MIN_CHANNELS = 32,         // fewer, and the transforms cost more than they save;
  MIN_CHANNELS_FIVE = 128,   // likewise under kernels of 5 in one axis, which save less
  MIN_EXTENT = 5,            // likewise a sample's valid part
  MIN_TILES = 16,            // of all samples, for a gradient: below, writing the weights is most of the work
  MAX_WEIGHTS = 1 << 19,     // channels * outputs of a group: their transform has 36 values for each
};

// ---- which ------------------------------------------------------------------------------------------------------------

// Along rows and columns; 0: neither 3 nor 5.
static int32_t taps_of(const mt_taps *t) {
  static const int32_t three[] = {3, 9, 27}, five[] = {5, 25};
  return t->taps == three[t->dims - 1] ? 3 : t->dims < 3 && t->taps == five[t->dims - 1] ? 5 : 0;
}

static int32_t slices_of(const mt_taps *t) { return t->dims == 3 ? 3 : 1; }

// The taps are the cells of a window of 3 or 5, a square of it, or a cube of 3, in raster order or its reverse.
static bool is_window(const mt_taps *t) {
  const int64_t across = taps_of(t), taps = t->taps;
  if (across == 0) {
    return false;
  }
  const int64_t way = t->offset[taps - 1][t->dims - 1] > t->offset[0][t->dims - 1] ? 1 : -1;
  for (int64_t j = 0; j < taps; j++) {
    int64_t rest = j;
    for (int32_t d = t->dims - 1; d >= 0; d--, rest /= across) {
      if (t->mul[d] != 1 || t->offset[j][d] != t->offset[0][d] + way * (rest % across)) {
        return false;
      }
    }
  }
  return true;
}

static bool are_enough(const mt_taps *t) {
  const int64_t least = taps_of(t) == 5 && t->dims == 1 ? MIN_CHANNELS_FIVE : MIN_CHANNELS;
  return t->channels >= least && t->outputs >= least && slices_of(t) * t->channels * t->outputs <= MAX_WEIGHTS;
}

// Slices of channels must be whole vectors.
bool mt_winograd_suits(const mt_taps *t, bool forced) {
  return t->dtype == MT_FLOAT32 && is_window(t) && t->channels > 0 && (t->dims < 3 || t->channels % WINO_LANES == 0) &&
         (forced || are_enough(t));
}

// ---- samples ------------------------------------------------------------------------------------------------------------

typedef struct {
  int64_t first[3], after[3];
} box;

// Rows of all slices.
static int64_t rows_of(const mt_taps *t, const int64_t size[MT_TAPS_DIMS]) {
  return mt_wino_axis(t, size, 0, 1) * mt_wino_axis(t, size, 1, 1);
}

static const uint8_t *map_row(const mt_taps *t, const mt_taps_map *map, int64_t sample, int64_t slice, int64_t row) {
  return (const uint8_t *)map->data + sample * map->sample + slice * mt_wino_axis(t, map->step, 0, 0) +
         row * mt_wino_axis(t, map->step, 1, 0);
}

// The smallest box around what a sample has in a map of the given size; empty where that is nothing.
static box box_of(const mt_taps *t, const mt_taps_map *map, const int64_t size[MT_TAPS_DIMS], int64_t sample) {
  const int64_t slices = mt_wino_axis(t, size, 0, 1), rows = mt_wino_axis(t, size, 1, 1);
  const int64_t columns = size[t->dims - 1], step = map->step[t->dims - 1];
  if (map->data == NULL) {
    return (box){{0, 0, 0}, {slices, rows, columns}};
  }
  box e = {{slices, rows, columns}, {0, 0, 0}};
  for (int64_t i = 0; i < slices * rows; i++) {
    const int64_t z = i / rows, r = i % rows;
    const uint8_t *row = map_row(t, map, sample, z, r);
    const int64_t low = mt_flags_end(row, step, 0, columns, false);
    int64_t high = low;
    for (int64_t c = low; c < columns; c = mt_flags_end(row, step, high, columns, false)) {
      high = mt_flags_end(row, step, c, columns, true);
    }
    if (low == columns) {
      continue;
    }
    const int64_t first[3] = {z, r, low}, after[3] = {z + 1, r + 1, high};
    for (int k = 0; k < 3; k++) {
      e.first[k] = MT_MIN(e.first[k], first[k]);
      e.after[k] = MT_MAX(e.after[k], after[k]);
    }
  }
  return e;
}

// What a sample is like without its padding: where it begins and how many outputs it has of its own, which fixes the tiles, and
// how large it is, which decides whether tiles are worth it. All are those of the valid pixels or, without such a map, of the
// active ones. Slices count as one.
//
// On either side lies the rim: outputs that are not the sample's own but see it, as far as the grid reaches. In the forward pass they are
// seldom active; the input's gradient passes through cleared holes, so there they are. In it the last tile takes in as much of the rim
// as it has room for, whether the grid has it or not, since an output's bits must not depend on that. (So an image of 14 x 14 costs 23 x 23
// products instead of 22 x 22, and 21 valid columns in a wider one 34 instead of 36 across.)
typedef struct {
  int64_t begin[3], size[3], outputs[3];
  int64_t before[3], after[3];  // the rim's width, a tile's at most
} outline;

static outline outline_of(const mt_taps *t, int64_t sample) {
  const bool by_active = t->valid.data == NULL && t->active.data != NULL;
  const box b = by_active ? box_of(t, &t->active, t->grid, sample) : box_of(t, &t->valid, t->size, sample);
  const int64_t most = WINO_IN - taps_of(t) + 1;
  outline o = {.outputs = {0, 0, 0}};
  for (int k = 0; k < 3 && b.after[2] > 0; k++) {
    const int64_t less = mt_wino_axis(t, t->size, k, 1) - mt_wino_axis(t, t->grid, k, 1), n = b.after[k] - b.first[k];
    const int64_t one = mt_wino_axis(t, t->offset[0], k, 0), other = mt_wino_axis(t, t->offset[t->taps - 1], k, 0);
    o.before[k] = MT_MAX(0, MT_MIN(most, MT_MAX(one, other)));
    o.after[k] = MT_MAX(0, MT_MIN(most, less - MT_MIN(one, other)));
    o.begin[k] = b.first[k];
    o.size[k] = n + (by_active ? less : 0);
    o.outputs[k] = MT_MAX(0, by_active ? n : n - less);
    if (o.outputs[k] % most > 0 && one > other) {
      const int64_t more = MT_MIN(most - o.outputs[k] % most, o.after[k]);
      o.outputs[k] += more;
      o.after[k] -= more;
    }
  }
  return o;
}

bool mt_wino_is_worth_it(const mt_taps *t, int64_t sample, bool forced) {
  const outline o = outline_of(t, sample);
  return forced || (o.size[2] >= MIN_EXTENT && (t->dims == 1 || o.size[1] >= MIN_EXTENT));
}

static bool has_active(const mt_taps *t, const mt_wino_tile *tile) {
  const int64_t *at = tile->at, columns = t->grid[t->dims - 1], step = t->active.step[t->dims - 1];
  for (int64_t r = MT_MAX(0, at[1]); r < MT_MIN(at[1] + tile->outputs[0], mt_wino_axis(t, t->grid, 1, 1)); r++) {
    const uint8_t *active = map_row(t, &t->active, tile->sample, at[0], r);
    for (int64_t c = MT_MAX(0, at[2]); c < MT_MIN(at[2] + tile->outputs[1], columns); c++) {
      if (active[c * step]) {
        return true;
      }
    }
  }
  return false;
}

// The tile that holds output `at` along axis k: its first output and how many it has. A sample's own outputs are cut into tiles of
// `most` from the first one on, with a smaller one at the end. Outputs on either side are cut from there outwards, first into a tile of
// those that see the sample.
static int64_t tile_at(const outline *o, int k, int64_t at, int64_t most, int64_t *length) {
  const int64_t inside = at - o->begin[k], own = o->outputs[k], after = inside - own;
  *length = most;
  if (inside >= 0 && after < 0) {
    const int64_t first = inside / most * most;
    *length = MT_MIN(most, own - first);
    return o->begin[k] + first;
  }
  const int64_t rim = inside < 0 ? o->before[k] : o->after[k], beyond = inside < 0 ? -1 - inside : after;
  *length = beyond < rim ? rim : most;
  const int64_t from = beyond < rim ? 0 : rim + (beyond - rim) / most * most;
  return inside < 0 ? o->begin[k] - from - *length : o->begin[k] + own + from;
}

// Appends a sample's tiles that have something active; returns the new count. tile NULL: counts them all.
static int64_t add_tiles(const mt_taps *t, int64_t sample, mt_wino_tile *tile, int64_t count) {
  const box e = box_of(t, &t->active, t->grid, sample);
  const outline o = outline_of(t, sample);
  const int32_t taps = taps_of(t);
  const int64_t most = WINO_IN - taps + 1;
  for (int64_t z = e.first[0]; z < e.after[0]; z++) {
    for (int64_t r = e.first[1], down; r < e.after[1]; r += down) {
      down = 1;
      r = t->dims > 1 ? tile_at(&o, 1, r, most, &down) : r;
      for (int64_t c = e.first[2], across; c < e.after[2]; c += across) {
        c = tile_at(&o, 2, c, most, &across);
        if (tile == NULL) {
          count++;
          continue;
        }
        tile[count] = (mt_wino_tile){sample, {z, r, c}, {(int8_t)(t->dims > 1 ? down + taps - 1 : 1), (int8_t)(across + taps - 1)},
                                     {(int8_t)down, (int8_t)across}};
        count += t->active.data == NULL || has_active(t, &tile[count]);
      }
    }
  }
  return count;
}

int mt_wino_choose(uint8_t **worth, int64_t *count, const mt_taps *t, bool forced) {
  *count = 0;
  if ((*worth = mt_alloc_array(MT_MAX(1, t->samples), 1)) == NULL) {
    return MT_ERROR_MEMORY;
  }
  for (int64_t n = 0; n < t->samples; n++) {
    (*worth)[n] = mt_wino_is_worth_it(t, n, forced);
    *count += (*worth)[n];
  }
  return MT_OK;
}

int mt_wino_others(mt_taps *others, uint8_t **active, const mt_taps *t, const uint8_t *worth) {
  const int64_t rows = mt_wino_axis(t, t->grid, 1, 1), all = rows_of(t, t->grid);
  const int64_t columns = t->grid[t->dims - 1], step = t->active.step[t->dims - 1];
  *others = *t;
  others->leave = true;
  if ((*active = mt_alloc_array(t->samples * all, columns)) == NULL) {
    return MT_ERROR_MEMORY;
  }
  others->active = (mt_taps_map){.data = *active, .sample = all * columns};
  for (int32_t d = 0; d < t->dims; d++) {
    others->active.step[d] = d == t->dims - 1 ? 1 : d == t->dims - 2 ? columns : rows * columns;
  }
  for (int64_t n = 0; n < t->samples; n++) {
    uint8_t *to = *active + n * all * columns;
    memset(to, !worth[n], (size_t)(all * columns));
    for (int64_t r = 0; r < all && !worth[n] && t->active.data; r++) {
      const uint8_t *from = map_row(t, &t->active, n, r / rows, r % rows);
      for (int64_t c = 0; c < columns; c++) to[r * columns + c] = from[c * step];
    }
  }
  return MT_OK;
}

bool mt_winograd_gradient_suits(const mt_taps *t, bool forced) {
  int64_t tiles = 0;
  if (!mt_winograd_suits(t, forced)) {
    return false;
  }
  for (int64_t n = 0; n < t->samples && tiles < MIN_TILES; n++) {
    tiles = mt_wino_is_worth_it(t, n, forced) ? add_tiles(t, n, NULL, tiles) : tiles;
  }
  return forced || tiles >= MIN_TILES;
}

int mt_wino_list_tiles(mt_wino_list *s, const mt_taps *t, const uint8_t *worth) {
  const int32_t last = t->dims - 1;
  int64_t bound = 1;
  *s = (mt_wino_list){.rows = t->dims > 1 ? WINO_IN : 1, .taps = taps_of(t), .slices = slices_of(t)};
  s->points = s->rows * WINO_IN;
  s->low[0] = MT_MIN(mt_wino_axis(t, t->offset[0], 1, 0), mt_wino_axis(t, t->offset[t->taps - 1], 1, 0));
  s->low[1] = MT_MIN(t->offset[0][last], t->offset[t->taps - 1][last]);
  for (int64_t n = 0; n < t->samples; n++) bound = worth == NULL || worth[n] ? add_tiles(t, n, NULL, bound) : bound;
  if ((s->tile = mt_alloc_array(bound, (int64_t)sizeof *s->tile)) == NULL) {
    return MT_ERROR_MEMORY;
  }
  for (int64_t n = 0; n < t->samples; n++) {
    s->count = worth == NULL || worth[n] ? add_tiles(t, n, s->tile, s->count) : s->count;
  }
  return MT_OK;
}

void mt_wino_pixels(const mt_wino_list *s, const mt_taps *t, const mt_wino_tile *tile, int32_t slice, const float **pixel) {
  const int32_t last = t->dims - 1;
  const int64_t columns = t->size[last], rows = mt_wino_axis(t, t->size, 1, 1);
  const int64_t z = tile->at[0] + (s->slices == 1 ? 0 : t->offset[slice * (t->taps / s->slices)][0]);
  const bool here = z >= 0 && z < mt_wino_axis(t, t->size, 0, 1);
  for (int64_t i = 0; i < tile->points[0]; i++) {
    const int64_t r = tile->at[1] + s->low[0] + i;
    const bool inside = here && r >= 0 && r < rows;
    const float *x = (const float *)t->x + tile->sample * t->x_sample + z * mt_wino_axis(t, t->x_step, 0, 0) +
                     r * mt_wino_axis(t, t->x_step, 1, 0);
    const uint8_t *valid = t->valid.data && inside ? map_row(t, &t->valid, tile->sample, z, r) : NULL;
    for (int64_t k = 0; k < tile->points[1]; k++) {
      const int64_t c = tile->at[2] + s->low[1] + k;
      const bool counts = inside && c >= 0 && c < columns && (valid == NULL || valid[c * t->valid.step[last]]);
      pixel[i * WINO_IN + k] = counts ? x + c * t->x_step[last] : NULL;
    }
  }
}

void mt_wino_rows(const mt_wino_tile *tile, int64_t tiles, int16_t *row, int64_t *count) {
  memset(count, 0, sizeof *count * WINO_IN * WINO_IN);
  for (int64_t i = 0; i < tiles; i++, row += WINO_IN * WINO_IN) {
    for (int r = 0; r < tile[i].points[0]; r++) {
      for (int k = 0; k < tile[i].points[1]; k++) {
        const int p = wino_points[tile[i].points[0]][r] * WINO_IN + wino_points[tile[i].points[1]][k];
        row[p] = (int16_t)count[p]++;
      }
    }
  }
}
