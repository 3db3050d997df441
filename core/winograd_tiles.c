// winograd_tiles: which tiles of which samples the Winograd transform works on; see winograd.h.
#include "winograd_tiles.h"

#include "flags.h"
#include "zero.h"

enum {
  MIN_CHANNELS = 32,         // fewer, and the transforms cost more than they save;
  MIN_CHANNELS_ONE = 128,    // likewise under kernels of 2 and 5 in one axis, which save less
  MIN_EXTENT = 5,            // likewise a sample's valid part;
  MIN_EXTENT_PHASES = 24,    // likewise with stride 2, in outputs: there are three times as many weights to transform
  MAX_WEIGHTS = 36 << 19,    // transformed ones of a group
  LARGE = 1 << 20,           // bytes of a result
};

// ---- which ------------------------------------------------------------------------------------------------------------

// A transform has so many taps along an axis.
static bool has_taps(int64_t n) { return n == 2 || n == 3 || n == 5; }

// Least and largest offset of a sum's taps along an axis.
static void offsets_of(const mt_taps *t, int32_t d, int64_t *low, int64_t *high) {
  *low = *high = t->offset[0][d];
  for (int64_t j = 1; j < t->taps; j++) {
    *low = MT_MIN(*low, t->offset[j][d]);
    *high = MT_MAX(*high, t->offset[j][d]);
  }
}

// The taps are the cells of a box, slice by slice of a cube of 3, and its rows and columns are all there.
static bool is_window(const mt_wino_form *f, const mt_taps *t) {
  int64_t low, high, cells = f->depth;
  for (int32_t d = t->dims == 3; d < t->dims; d++) {
    offsets_of(t, d, &low, &high);
    cells *= high - low + 1;
  }
  const int64_t slice = t->taps / f->depth, way = t->offset[t->taps - 1][0] > t->offset[0][0] ? 1 : -1;
  for (int64_t j = 0; j < t->taps && t->dims == 3; j++) {
    if (t->offset[j][0] != t->offset[0][0] + way * (j / slice)) {
      return false;
    }
  }
  return cells == t->taps;
}

// The places of the weights in the transforms of their phases, and the points that they need.
static void set_picks(mt_wino_form *f) {
  int32_t all = 0;
  memset(f->pick, -1, sizeof f->pick);
  for (int32_t s = 0; s < f->sums; s++) {
    const mt_taps *t = &f->sum[s];
    for (int64_t j = 0; j < t->taps; j++, all++) {
      int64_t part = 0, place = 0;
      for (int32_t k = t->dims == 1; k < 2; k++) {
        const int64_t at = t->offset[j][t->dims - 2 + k] - f->low[k];
        part = part * f->stride[k] + at % f->stride[k];
        place = place * f->taps[k] + at / f->stride[k];
      }
      f->w_tap[all] = t->w_tap[j];
      f->pick[f->sums > 1 ? s : part][place] = (int8_t)(f->sums > 1 ? all : j % f->window);
    }
  }
  for (int32_t i = 0; i < f->phases; i++) {
    bool used[2][WINO_TAPS] = {{false}};
    for (int32_t j = 0; j < f->taps[0] * f->taps[1]; j++) {
      used[0][j / f->taps[1]] |= f->pick[i][j] >= 0;
      used[1][j % f->taps[1]] |= f->pick[i][j] >= 0;
    }
    for (int64_t p = 0; p < f->points; p++) {
      const int64_t at[2] = {p / WINO_IN, p % WINO_IN};
      f->has[i][p] = true;
      for (int32_t k = f->rows == 1; k < 2; k++) {
        f->has[i][p] = f->has[i][p] && !(at[k] == WINO_ZERO && !used[k][0]) && !(at[k] == WINO_INFINITY && !used[k][f->taps[k] - 1]);
      }
    }
    for (int32_t k = 0; k < 2; k++) f->ends[i][k] = !used[k][f->taps[k] - 1];
  }
}

bool mt_wino_form_of(mt_wino_form *f, const mt_taps *sum, int32_t sums) {
  const int32_t dims = sum->dims;
  int64_t taps = 0;
  *f = (mt_wino_form){.sum = sum, .sums = sums, .phases = sums, .depth = dims == 3 ? 3 : 1, .taps = {1, 1}, .extent = {1, 1},
                      .stride = {1, 1}, .rows = dims > 1 ? WINO_IN : 1, .points = dims > 1 ? WINO_IN * WINO_IN : WINO_IN};
  for (int32_t s = 0; s < sums; s++) {
    taps += sum[s].taps;
    if (sum[s].taps == 0) {
      return false;
    }
  }
  if (sums > WINO_PHASES || taps > f->depth * WINO_WINDOW || taps % f->depth != 0 || (dims == 3 && (sums > 1 || sum->mul[0] != 1))) {
    return false;
  }
  f->window = (int32_t)(taps / f->depth);
  for (int32_t k = dims == 1; k < 2; k++) {
    const int32_t d = dims - 2 + k;
    int64_t high;
    offsets_of(sum, d, &f->low[k], &high);
    for (int32_t s = 0; s < MT_MIN(sums, WINO_PHASES); s++) {
      offsets_of(&sum[s], d, &f->reach[s][k][0], &f->reach[s][k][1]);
      f->low[k] = MT_MIN(f->low[k], f->reach[s][k][0]);
      high = MT_MAX(high, f->reach[s][k][1]);
    }
    const int64_t extent = high - f->low[k] + 1;
    if (extent > WINO_TAPS || sum->mul[d] > (dims == 3 ? 1 : 2) || !has_taps((extent - 1) / sum->mul[d] + 1) ||
        (dims == 3 && extent != 3)) {
      return false;
    }
    f->extent[k] = (int32_t)extent;
    f->stride[k] = (int32_t)sum->mul[d];
    f->taps[k] = (f->extent[k] - 1) / f->stride[k] + 1;
    f->phases *= f->stride[k];
  }
  for (int32_t s = 0; s < sums; s++) {
    if (!is_window(f, &sum[s])) {
      return false;
    }
  }
  set_picks(f);
  return true;
}

static bool are_enough(const mt_wino_form *f) {
  const mt_taps *t = f->sum;
  const int64_t least = f->taps[1] != 3 && t->dims == 1 ? MIN_CHANNELS_ONE : MIN_CHANNELS;
  if (f->phases > 1 && t->dims == 1) {
    return false;  // 11 products instead of 15 do not pay for the transforms
  }
  int64_t points = 0;
  for (int32_t i = 0; i < f->phases; i++) {
    for (int64_t p = 0; p < f->points; p++) points += f->has[i][p];
  }
  return t->channels >= least && t->outputs >= least && f->depth * points * t->channels * t->outputs <= MAX_WEIGHTS;
}

// Slices of channels must be whole vectors.
bool mt_wino_form_suits(const mt_wino_form *f, bool forced) {
  const mt_taps *t = f->sum;
  return t->dtype == MT_FLOAT32 && t->channels > 0 && (mt_wino_slices(f) == 1 || t->channels % WINO_LANES == 0) &&
         (forced || are_enough(f));
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

static int64_t floor_of(int64_t a, int64_t b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

// With phases the output grid does not tell how wide the padding is: sizes of either parity may have the same. So a sample's own
// outputs are those that it would have with as much padding behind as before it.
static outline outline_of_phases(const mt_wino_form *f, int64_t sample) {
  const mt_taps *t = f->sum;
  const box b = box_of(t, &t->valid, t->size, sample);
  outline o = {.outputs = {0, 0, 0}};
  for (int32_t k = t->dims == 1; k < 2 && b.after[2] > 0; k++) {
    const int64_t s = f->stride[k], first = b.first[k + 1], after = b.after[k + 1], n = after - first, most = WINO_IN - f->taps[k] + 1;
    const int64_t begin = (first + s - 1) / s, last = floor_of(after - 2 * f->low[k] - f->extent[k], s);
    const int64_t own = MT_MAX(0, f->sums > 1 ? n - 2 * (f->low[k] + (f->taps[k] - 1) / 2) : last + 1 - begin);
    o.begin[k + 1] = begin;
    o.size[k + 1] = n / s;
    o.outputs[k + 1] = own;
    // The first and the last output that see the sample.
    const int64_t from = -floor_of(f->low[k] + f->extent[k] - 1 - first, s), to = floor_of(after - 1 - f->low[k], s);
    o.before[k + 1] = MT_MAX(0, MT_MIN(most, begin - from));
    o.after[k + 1] = MT_MAX(0, MT_MIN(most, to + 1 - begin - own));
  }
  return o;
}

// active: the box around the active outputs, NULL where only the size is asked for. Tiles begin and end with it: in the gradient of a
// layer whose mask grows, a sample has outputs of its own that nobody wants.
static outline outline_of(const mt_wino_form *f, int64_t sample, const box *active) {
  const mt_taps *t = f->sum;
  if (f->phases > 1) {
    return outline_of_phases(f, sample);
  }
  const bool by_active = t->valid.data == NULL && t->active.data != NULL;
  const box b = by_active ? box_of(t, &t->active, t->grid, sample) : box_of(t, &t->valid, t->size, sample);
  outline o = {.outputs = {0, 0, 0}};
  for (int k = 0; k < 3 && b.after[2] > 0; k++) {
    const int64_t less = mt_wino_axis(t, t->size, k, 1) - mt_wino_axis(t, t->grid, k, 1), n = b.after[k] - b.first[k];
    const int64_t one = mt_wino_axis(t, t->offset[0], k, 0), other = mt_wino_axis(t, t->offset[t->taps - 1], k, 0);
    const int64_t most = WINO_IN - f->taps[MT_MAX(k, 1) - 1] + 1;
    o.before[k] = MT_MAX(0, MT_MIN(most, MT_MAX(one, other)));
    o.after[k] = MT_MAX(0, MT_MIN(most, less - MT_MIN(one, other)));
    o.begin[k] = b.first[k];
    o.size[k] = n + (by_active ? less : 0);
    o.outputs[k] = MT_MAX(0, by_active ? n : n - less);
    if (active && !by_active) {
      const int64_t first = MT_MIN(o.outputs[k], MT_MAX(0, active->first[k] - o.begin[k]));
      const int64_t last = MT_MAX(first, MT_MIN(o.outputs[k], active->after[k] - o.begin[k]));
      o.after[k] = last < o.outputs[k] ? 0 : o.after[k];
      o.before[k] = first > 0 ? 0 : o.before[k];
      o.begin[k] += first;
      o.outputs[k] = last - first;
    }
    if (o.outputs[k] % most > 0 && one > other) {
      const int64_t more = MT_MIN(most - o.outputs[k] % most, o.after[k]);
      o.outputs[k] += more;
      o.after[k] -= more;
    }
  }
  return o;
}

static bool is_worth_it(const mt_wino_form *f, int64_t sample, bool forced) {
  const outline o = outline_of(f, sample, NULL);
  const int64_t least = f->phases > 1 ? MIN_EXTENT_PHASES : MIN_EXTENT;
  return forced || (o.size[2] >= least && (f->sum->dims == 1 || o.size[1] >= least));
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

// Along axis k, the tile that holds output `at`: its first output, how many it has, and what it reads. A sample's own outputs are cut into
// tiles of `most` from the first one on, with a smaller one at the end. Outputs on either side are cut from there outwards, first into a
// tile of those that see the sample.
typedef struct {
  int64_t at, length;
  int8_t reads;
} span;

static span span_at(const mt_wino_form *f, const outline *o, int k, int64_t at) {
  const int64_t inside = at - o->begin[k], own = o->outputs[k], after = inside - own;
  const int32_t taps = f->taps[k - 1], most = WINO_IN + 1 - taps;
  if (inside >= 0 && after < 0) {
    const int64_t first = inside / most * most, length = MT_MIN(most, own - first);
    return (span){o->begin[k] + first, length, (int8_t)(length + taps - 1)};
  }
  const int64_t rim = inside < 0 ? o->before[k] : o->after[k], beyond = inside < 0 ? -1 - inside : after;
  const int64_t length = beyond < rim ? rim : most, from = beyond < rim ? 0 : rim + (beyond - rim) / most * most;
  const bool one_line = beyond < rim && rim == 1 && f->phases == 1;  // the first or the last of the valid part
  return (span){inside < 0 ? o->begin[k] - from - length : o->begin[k] + own + from, length,
                (int8_t)(!one_line ? length + taps - 1 : inside < 0 ? WINO_LAST : WINO_FIRST)};
}

// The smallest box around the active outputs of a sample.
static box active_box(const mt_wino_form *f, int64_t sample) {
  box e = box_of(f->sum, &f->sum->active, f->sum->grid, sample);
  for (int32_t s = 1; s < f->sums; s++) {
    const box b = box_of(&f->sum[s], &f->sum[s].active, f->sum[s].grid, sample);
    for (int k = 0; k < 3 && b.after[2] > 0; k++) {
      e.first[k] = MT_MIN(e.first[k], b.first[k]);
      e.after[k] = MT_MAX(e.after[k], b.after[k]);
    }
  }
  return e;
}

// Appends a sample's tiles that have something active; returns the new count. tile NULL: counts them all.
static int64_t add_tiles(const mt_wino_form *f, int64_t sample, mt_wino_tile *tile, int64_t count) {
  const box e = active_box(f, sample);
  const outline o = outline_of(f, sample, &e);
  for (int64_t z = e.first[0]; z < e.after[0]; z++) {
    span down, across;
    for (int64_t r = e.first[1]; r < e.after[1]; r = down.at + down.length) {
      down = f->sum->dims > 1 ? span_at(f, &o, 1, r) : (span){r, 1, 1};
      for (int64_t c = e.first[2]; c < e.after[2]; c = across.at + across.length) {
        across = span_at(f, &o, 2, c);
        if (tile == NULL) {
          count++;
          continue;
        }
        tile[count] = (mt_wino_tile){sample, {z, down.at, across.at}, {down.reads, across.reads}, {(int8_t)down.length, (int8_t)across.length}};
        bool active = false;
        for (int32_t s = 0; s < f->sums && !active; s++) {
          active = f->sum[s].active.data == NULL || has_active(&f->sum[s], &tile[count]);
        }
        count += active;
      }
    }
  }
  return count;
}

int mt_wino_choose(uint8_t **worth, int64_t *count, const mt_wino_form *f, bool forced) {
  const mt_taps *t = f->sum;
  *count = 0;
  if ((*worth = mt_alloc_array(MT_MAX(1, t->samples), 1)) == NULL) {
    return MT_ERROR_MEMORY;
  }
  for (int64_t n = 0; n < t->samples; n++) {
    (*worth)[n] = is_worth_it(f, n, forced);
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

bool mt_wino_has_tiles(const mt_wino_form *f, int64_t least, bool forced) {
  int64_t tiles = 0;
  for (int64_t n = 0; n < f->sum->samples && tiles < least; n++) {
    tiles = is_worth_it(f, n, forced) ? add_tiles(f, n, NULL, tiles) : tiles;
  }
  return tiles >= least;
}

int mt_wino_list_tiles(mt_wino_list *s, const mt_wino_form *f, const uint8_t *worth) {
  const int64_t samples = f->sum->samples;
  int64_t bound = 1;
  *s = (mt_wino_list){0, NULL};
  for (int64_t n = 0; n < samples; n++) bound = worth == NULL || worth[n] ? add_tiles(f, n, NULL, bound) : bound;
  if ((s->tile = mt_alloc_array(bound, (int64_t)sizeof *s->tile)) == NULL) {
    return MT_ERROR_MEMORY;
  }
  for (int64_t n = 0; n < samples; n++) {
    s->count = worth == NULL || worth[n] ? add_tiles(f, n, s->tile, s->count) : s->count;
  }
  return MT_OK;
}

void mt_wino_pixels(const mt_wino_form *f, const mt_taps *t, const mt_wino_tile *tile, int32_t slice, const float **pixel) {
  const int32_t last = t->dims - 1, phase = mt_wino_slices(f) > 1 && f->depth == 1 ? slice : 0;
  // The last pixels of a phase whose last taps are 0 are not looked at.
  const int64_t less[2] = {f->sums == 1 ? f->ends[phase][0] : 0, f->sums == 1 ? f->ends[phase][1] : 0};
  const int64_t count[2] = {wino_values(tile->reads[0]), wino_values(tile->reads[1])};
  const int64_t down = f->low[0] + phase / f->stride[1] + (tile->reads[0] == WINO_LAST ? f->taps[0] - 1 : 0);
  const int64_t across = f->low[1] + phase % f->stride[1] + (tile->reads[1] == WINO_LAST ? f->taps[1] - 1 : 0);
  const int64_t columns = t->size[last], rows = mt_wino_axis(t, t->size, 1, 1);
  const int64_t z = tile->at[0] + (f->depth == 1 ? 0 : t->offset[slice * f->window][0]);
  for (int p = 0; p < WINO_IN * WINO_IN; p++) pixel[p] = NULL;
  const bool here = z >= 0 && z < mt_wino_axis(t, t->size, 0, 1);
  for (int64_t i = 0; i < count[0]; i++) {
    const int64_t r = tile->at[1] * f->stride[0] + down + i * f->stride[0];
    const bool inside = here && r >= 0 && r < rows && i < count[0] - less[0];
    const float *x = (const float *)t->x + tile->sample * t->x_sample + z * mt_wino_axis(t, t->x_step, 0, 0) +
                     r * mt_wino_axis(t, t->x_step, 1, 0);
    const uint8_t *valid = t->valid.data && inside ? map_row(t, &t->valid, tile->sample, z, r) : NULL;
    for (int64_t k = 0; k < count[1]; k++) {
      const int64_t c = tile->at[2] * f->stride[1] + across + k * f->stride[1];
      const bool counts = inside && k < count[1] - less[1] && c >= 0 && c < columns && (valid == NULL || valid[c * t->valid.step[last]]);
      pixel[i * WINO_IN + k] = counts ? x + c * t->x_step[last] : NULL;
    }
  }
}

void mt_wino_rows(const mt_wino_tile *tile, int64_t tiles, int16_t *row, int64_t *count) {
  memset(count, 0, sizeof *count * WINO_IN * WINO_IN);
  for (int64_t i = 0; i < tiles; i++, row += WINO_IN * WINO_IN) {
    for (int r = 0; r < wino_values(tile[i].reads[0]); r++) {
      for (int k = 0; k < wino_values(tile[i].reads[1]); k++) {
        const int p = wino_points[tile[i].reads[0]][r] * WINO_IN + wino_points[tile[i].reads[1]][k];
        row[p] = (int16_t)count[p]++;
      }
    }
  }
}

// ---- results ----------------------------------------------------------------------------------------------------------

bool mt_wino_is_large(const mt_taps *t) {
  int64_t bytes = t->samples * t->outputs * (int64_t)sizeof(float);
  for (int32_t d = 0; d < t->dims; d++) bytes *= t->grid[d];
  return bytes >= LARGE;
}

static void clear_inactive(void *context, int64_t begin, int64_t end) {
  const mt_taps *t = context;
  const bool away = mt_wino_is_large(t);
  const int32_t last = t->dims - 1;
  const int64_t down = mt_wino_axis(t, t->grid, 1, 1), rows = mt_wino_axis(t, t->grid, 0, 1) * down, columns = t->grid[last];
  const int64_t step = t->active.step[last];
  const bool dense = t->y_channel == 1 && t->y_step[last] == t->outputs;
  for (int64_t i = begin; i < end; i++) {
    const int64_t sample = i / rows, z = i % rows / down, r = i % down;
    const uint8_t *active = (const uint8_t *)t->active.data + sample * t->active.sample +
                            z * mt_wino_axis(t, t->active.step, 0, 0) + r * mt_wino_axis(t, t->active.step, 1, 0);
    float *y = (float *)t->y + sample * t->y_sample + z * mt_wino_axis(t, t->y_step, 0, 0) + r * mt_wino_axis(t, t->y_step, 1, 0);
    for (int64_t c = 0, after; c < columns; c = after) {
      for (after = c + 1; after < columns && !active[c * step] == !active[after * step]; after++) {
      }
      if (active[c * step]) {
        continue;
      }
      if (dense) {
        mt_zero(y + c * t->outputs, sizeof(float) * (size_t)((after - c) * t->outputs), away);
        continue;
      }
      for (int64_t k = c; k < after; k++) {
        if (t->y_channel == 1) {
          mt_zero(y + k * t->y_step[last], sizeof(float) * (size_t)t->outputs, away);
          continue;
        }
        for (int64_t o = 0; o < t->outputs; o++) y[k * t->y_step[last] + o * t->y_channel] = 0;
      }
    }
  }
}

int mt_wino_clear(mt_taps *t) {
  const int64_t row = MT_MAX(1, t->grid[t->dims - 1] * t->outputs);
  return t->active.data ? mt_parallel(t->samples * rows_of(t, t->grid), MT_MAX(1, 16384 / row), clear_inactive, t) : MT_OK;
}
