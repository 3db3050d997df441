// taps_gradient: the gradient of weights under taps; see taps.h. Sums are held in tiles of weights that fit the registers
// (tile.h): the channels of one operand side by side in its lanes, those of the other in its rows.
#ifdef REAL

// Adds runs to the tiles of a rectangle of one tap; sums: [tile][TILE]. The tap reads x `shift` elements after that of the runs.
static void FN(add_runs)(const gradient_plan *s, REAL *sums, bool first, const rectangle *r, const mt_tile_pixels *runs,
                         int64_t count, int64_t shift) {
  const mt_taps *t = s->taps;
  const int32_t type = MT_TILE_TYPE(t->dtype), last = t->dims - 1;
  const int64_t x_step = t->mul[last] * t->x_step[last], y_step = t->y_step[last];
  const REAL *x = (const REAL *)t->x + (shift + r->group * s->x_group), *y = (const REAL *)t->y + r->group * t->y_group;
  for (int64_t i = r->row; i < r->row_end; i++) {
    const int64_t row = first_row(s, i), rows = first_row(s, i + 1) - row;
    for (int64_t k = r->lane; k < r->lane_end; k++, sums += s->tile_size) {
      const int64_t lane = first_lane(s, k), lanes = MT_MIN(s->tile_lanes, s->lanes);
      if (s->lanewise) {
        s->tile->lanewise_runs[type](sums, first, x + lane, x_step, y + lane, y_step, runs, count, lanes);
      } else if (s->x_lanes) {
        s->tile->outer_runs[type](sums, first, y + row, y_step, x + lane, x_step, runs, count, rows, lanes);
      } else {
        s->tile->outer_runs[type](sums, first, x + row, x_step, y + lane, y_step, runs, count, rows, lanes);
      }
    }
  }
}

typedef REAL FN(four) __attribute__((vector_size(4 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));

// to[l * to_step + j] = from[l + j * from_step] for l < lanes, j < n: squares of four.
static void FN(transpose)(REAL *to, int64_t to_step, const REAL *from, int64_t from_step, int64_t n, int64_t lanes) {
  int64_t l = 0;
  for (; n >= 4 && l + 4 <= lanes; l += 4) {
    for (int64_t k = 0; k < n; k += 4) {
      const int64_t j = MT_MIN(k, n - 4);  // the last square may begin inside the one before
      const REAL *p = from + l + j * from_step;
      const FN(four) a = *(const FN(four) *)p, b = *(const FN(four) *)(p + from_step);
      const FN(four) c = *(const FN(four) *)(p + 2 * from_step), d = *(const FN(four) *)(p + 3 * from_step);
      const FN(four) ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), AB = __builtin_shufflevector(a, b, 2, 6, 3, 7);
      const FN(four) cd = __builtin_shufflevector(c, d, 0, 4, 1, 5), CD = __builtin_shufflevector(c, d, 2, 6, 3, 7);
      REAL *q = to + l * to_step + j;
      *(FN(four) *)q = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
      *(FN(four) *)(q + to_step) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
      *(FN(four) *)(q + 2 * to_step) = __builtin_shufflevector(AB, CD, 0, 1, 4, 5);
      *(FN(four) *)(q + 3 * to_step) = __builtin_shufflevector(AB, CD, 2, 3, 6, 7);
    }
  }
  for (; l < lanes; l++) {
    for (int64_t j = 0; j < n; j++) to[l * to_step + j] = from[l + j * from_step];
  }
}

// Writes the weights of a rectangle, all taps; sums: [tap][tile][TILE].
static void FN(write)(const gradient_plan *s, const REAL *sums, const rectangle *r) {
  const mt_taps *t = s->taps;
  const int64_t tap_step = s->rectangle_tiles * s->tile_size;
  bool neighbours = true;
  for (int64_t j = 0; j < t->taps; j++) {
    neighbours = neighbours && t->w_tap[j] == t->w_tap[0] + j;
  }
  for (int64_t i = r->row; i < r->row_end; i++) {
    for (int64_t k = r->lane; k < r->lane_end; k++, sums += s->tile_size) {
      // The last lanes of a tile that was moved inwards; the others belong to the tile before.
      const int64_t at = first_lane(s, k), lane = k * s->tile_lanes, lanes = MT_MIN(lane + s->tile_lanes, s->lanes) - lane;
      const int64_t row = first_row(s, i), rows = first_row(s, i + 1) - row;
      const REAL *from = sums + lane - at;
      REAL *w = (REAL *)(uintptr_t)t->w + r->group * t->w_group + row * s->w_row + lane * s->w_lane + t->w_tap[0];
      if (t->taps == 1 && s->w_row == 1) {
        FN(transpose)(w, s->w_lane, from, s->tile_lanes, rows, lanes);
        continue;
      }
      for (int64_t m = 0; m < rows; m++, w += s->w_row, from += s->tile_lanes) {
        if (t->taps == 1 && s->w_lane == 1) {
          memcpy(w, from, sizeof(REAL) * (size_t)lanes);
        } else if (neighbours) {
          FN(transpose)(w, s->w_lane, from, tap_step, t->taps, lanes);
        } else {
          for (int64_t l = 0; l < lanes; l++) {
            for (int64_t j = 0; j < t->taps; j++) w[l * s->w_lane + t->w_tap[j] - t->w_tap[0]] = from[l + j * tap_step];
          }
        }
      }
    }
  }
}

// One rectangle, all taps or one of them, over the listed pixels.
static void FN(sum_tasks)(void *context, int64_t begin, int64_t end) {
  const gradient_plan *s = context;
  const mt_taps *t = s->taps;
  const int64_t tap_size = s->rectangle_tiles * s->tile_size;
  _Alignas(64) REAL stack[STACK_BYTES / sizeof(REAL)];
  for (int64_t task = begin; task < end; task++) {
    const rectangle r = rectangle_of(s, s->sums ? task / t->taps : task);
    const int64_t tap = s->sums ? task % t->taps : 0, tap_end = s->sums ? tap + 1 : t->taps;
    REAL *sums = s->sums ? (REAL *)s->sums + task * tap_size : stack;
    for (int64_t k = 0; k < s->slices; k++) {
      for (int64_t j = tap; j < tap_end; j++) {
        const mt_taps_list *list = &s->list[s->uniform ? k : k * t->taps + j];
        const int64_t shift = s->uniform ? tap_shift(t, j) - tap_shift(t, 0) : 0;
        bool first = s->begin == 0 && k == 0;
        for (int64_t i = 0, n; i < list->count || first; i += n, first = false) {
          n = runs_of(list, i, s->pixels);
          FN(add_runs)(s, sums + (j - tap) * tap_size, first, &r, list->runs + i, n, shift);
        }
      }
    }
    if (s->sums == NULL) {
      FN(write)(s, stack, &r);
    }
  }
}

static void FN(write_tasks)(void *context, int64_t begin, int64_t end) {
  const gradient_plan *s = context;
  for (int64_t task = begin; task < end; task++) {
    const rectangle r = rectangle_of(s, task);
    FN(write)(s, (const REAL *)s->sums + task * s->taps->taps * s->rectangle_tiles * s->tile_size, &r);
  }
}

#else
#include "taps_wide.h"

enum {
  STACK_BYTES = 1 << 16,    // sums of one task on the stack
  CACHE_BYTES = 1 << 18,    // operands that a task reads for one set of runs
  NEAR_BYTES = 1 << 14,     // the same lane by lane, where every tap reads them again and does little with them
  BLOCK_BYTES = 1 << 20,    // operands that all tasks pass over before they move on together,
  BLOCK_PIXELS = 1024,      // but no fewer pixels
  LIST_PIXELS = 16384,      // and no more
  RECTANGLE_ROWS = 5,       // tiles of a task
  RECTANGLE_LANES = 4,
  TASKS = 16,               // wanted, at least
  LIST_COST = 24,           // of a run, in the unit of tiles_cost
  LISTS = 32,               // tasks that list the pixels of a block, at most twice as many
  LITTLE = 500000,          // multiplications that are not worth a second thread
};

typedef struct {
  const mt_taps *taps;
  const mt_tile *tile;
  mt_taps_spans active, valid;
  mt_taps_wide *wide;                  // where taps come from, or NULL
  bool uniform;                        // every tap counts at every pixel
  bool x_lanes;                        // x is in the lanes, y in the rows
  bool lanewise;                       // depthwise: groups in the lanes, one row
  int64_t groups, rows, lanes;         // weights of a tap
  int64_t w_row, w_lane, x_group;
  int64_t tile_lanes, tile_size;       // lanes and elements of a tile
  int64_t row_tiles, lane_tiles;
  int64_t rectangle_rows, rectangle_lanes, rectangle_tiles;  // tiles of a task
  int64_t pixels;                      // of one set of runs
  int64_t image_rows, begin, end;      // rows of all samples; of them, [begin, end) now
  int64_t slices;                      // in which these are listed
  mt_taps_list *list;                  // [slice][tap], or [slice] when uniform
  int64_t *slice_end;                  // rows
  int32_t failed;
  void *sums;                          // [rectangle][tap][tile][tile_size]; NULL when a task holds all taps of all rows
} gradient_plan;

typedef struct {
  int64_t group, row, row_end, lane, lane_end;  // tiles
} rectangle;

// Tiles of rows are equally high, give or take one. The last tile of lanes is moved inwards, so that it needs no padding.
static inline int64_t first_row(const gradient_plan *s, int64_t tile) { return tile * s->rows / s->row_tiles; }
static inline int64_t first_lane(const gradient_plan *s, int64_t tile) {
  return MT_MAX(0, MT_MIN(tile * s->tile_lanes, s->lanes - s->tile_lanes));
}

static int64_t pieces(int64_t n, int64_t size) { return (n + size - 1) / size; }

static rectangle rectangle_of(const gradient_plan *s, int64_t number) {
  const int64_t across = pieces(s->lane_tiles, s->rectangle_lanes), down = pieces(s->row_tiles, s->rectangle_rows);
  const int64_t lane = number % across * s->rectangle_lanes, row = number / across % down * s->rectangle_rows;
  return (rectangle){number / across / down, row, MT_MIN(row + s->rectangle_rows, s->row_tiles), lane,
                     MT_MIN(lane + s->rectangle_lanes, s->lane_tiles)};
}

static int64_t tap_shift(const mt_taps *t, int64_t j) {
  int64_t shift = 0;
  for (int32_t d = 0; d < t->dims; d++) {
    shift += t->offset[j][d] * t->x_step[d];
  }
  return shift;
}

// Runs from i on that hold about `pixels` pixels, up to the end of a row.
static int64_t runs_of(const mt_taps_list *list, int64_t i, int64_t pixels) {
  const int64_t begin = i;
  for (int64_t done = 0; i < list->count && (done < pixels || !list->runs[i - 1].last); i++) {
    done += list->runs[i].pixels;
  }
  return i - begin;
}

#define MT_SOURCE "taps_gradient.c"
#include "twice.h"

static int64_t rectangles(const gradient_plan *s) {
  return s->groups * pieces(s->lane_tiles, s->rectangle_lanes) * pieces(s->row_tiles, s->rectangle_rows);
}

// Cost of a pixel with so many rows and lanes: the tiles' multiply-adds. Fewer than 4 rows wait for each other.
static int64_t tiles_cost(const gradient_plan *s, int64_t rows, int64_t lanes) {
  const int64_t tiles = pieces(rows, s->tile->outer_rows);
  return pieces(lanes, s->tile->outer_lanes[MT_TILE_TYPE(s->taps->dtype)]) * tiles * MT_MAX(4, pieces(rows, tiles));
}

static bool better_x_lanes(const gradient_plan *s, const mt_taps *t) {
  return tiles_cost(s, t->outputs, t->channels) <= tiles_cost(s, t->channels, t->outputs);
}

static double tap_cost(const gradient_plan *s, const mt_taps *t) {
  return (double)MT_MIN(tiles_cost(s, t->outputs, t->channels), tiles_cost(s, t->channels, t->outputs));
}

static bool is_uniform(const gradient_plan *s) {
  const mt_taps *t = s->taps;
  for (int64_t j = 0; j < t->taps; j++) {
    for (int32_t d = 0; d < t->dims; d++) {
      if (t->offset[j][d] < 0 || (t->grid[d] - 1) * t->mul[d] + t->offset[j][d] >= t->size[d]) {
        return false;
      }
    }
  }
  return s->valid.first == NULL;
}

static void choose_tiles(gradient_plan *s) {
  const mt_taps *t = s->taps;
  const int32_t type = MT_TILE_TYPE(t->dtype);
  s->lanewise = mt_taps_depthwise(t);
  s->x_lanes = better_x_lanes(s, t);
  s->groups = s->lanewise ? 1 : t->groups;
  s->rows = s->lanewise ? 1 : s->x_lanes ? t->outputs : t->channels;
  s->lanes = s->lanewise ? t->groups : s->x_lanes ? t->channels : t->outputs;
  s->w_row = s->x_lanes ? t->w_output : t->w_channel;
  s->w_lane = s->lanewise ? t->w_group : s->x_lanes ? t->w_channel : t->w_output;
  s->x_group = s->wide ? s->wide->x_group : t->channels;
  s->tile_lanes = s->tile->outer_lanes[type] * (s->lanewise ? 4 : 1);
  s->tile_size = s->tile_lanes * (s->lanewise ? 1 : s->tile->outer_rows);
  s->row_tiles = pieces(s->rows, s->tile->outer_rows);
  s->lane_tiles = pieces(s->lanes, s->tile_lanes);
}

// Tiles of a task: many, since they share the finding of runs, but no fewer tasks than wanted.
static void choose_rectangle(gradient_plan *s, int64_t taps_together, bool little) {
  const int64_t most = MT_MAX(1, STACK_BYTES / mt_dtype_size(s->taps->dtype) / s->tile_size / taps_together);
  const int64_t taps = s->taps->taps / taps_together;
  s->rectangle_rows = MT_MIN(RECTANGLE_ROWS, s->row_tiles);
  s->rectangle_lanes = MT_MIN(RECTANGLE_LANES, s->lane_tiles);
  for (;;) {
    s->rectangle_tiles = s->rectangle_rows * s->rectangle_lanes;
    if (s->rectangle_tiles == 1 || (s->rectangle_tiles <= most && (little || rectangles(s) * taps >= TASKS))) {
      return;
    }
    int64_t *longer = s->rectangle_lanes > 1 ? &s->rectangle_lanes : &s->rectangle_rows;
    *longer = (*longer + 1) / 2;
  }
}

// The row after those, before `end`, that hold about `pixels` active ones, from `row` on; *count = how many they hold.
static int64_t rows_with(const gradient_plan *s, int64_t row, int64_t end, int64_t pixels, int64_t *count) {
  const mt_taps *t = s->taps;
  const int64_t columns = t->grid[t->dims - 1], own = t->samples > 0 ? s->image_rows / t->samples : 1;
  *count = 0;
  while (row < end && *count < pixels) {
    if (s->active.first == NULL) {
      const int64_t n = MT_MIN(end - row, (pixels - *count - 1) / columns + 1);
      row += n;
      *count += n * columns;
      continue;
    }
    const int64_t at = t->active.sample == 0 ? row % own : row;
    for (int64_t k = s->active.first[at]; k < s->active.first[at + 1]; k++) {
      *count += s->active.run[k].end - s->active.run[k].begin;
    }
    row++;
  }
  return row;
}

static void list_tasks(void *context, int64_t begin, int64_t end) {
  gradient_plan *s = context;
  const mt_taps_rows rows = {s->taps, &s->active, &s->valid, s->wide ? s->wide->first : 0, s->x_lanes && !s->lanewise};
  const int64_t taps = s->uniform ? 1 : s->taps->taps;
  for (int64_t task = begin; task < end; task++) {
    const int64_t k = task / taps, row = k == 0 ? s->begin : s->slice_end[k - 1];
    if (mt_taps_list_rows(&s->list[task], &rows, task % taps, row, s->slice_end[k]) != MT_OK) {
      __atomic_store_n(&s->failed, 1, __ATOMIC_RELAXED);
    }
  }
}

// Passes over the rows of all samples, block by block.
static int run_blocks(gradient_plan *s, int64_t most, double weights, int64_t tasks) {
  const mt_taps *t = s->taps;
  const int64_t own = t->samples > 0 ? s->image_rows / t->samples : 1;
  int64_t loaded = s->wide ? 0 : s->image_rows;  // rows that can be read
  do {
    if (s->wide && s->begin == loaded && loaded < s->image_rows) {
      MT_TRY(mt_taps_wide_load(s->wide, s->begin / own));
      loaded = s->wide->end * own;
    }
    int64_t pixels = 0, count;
    s->end = s->begin;
    for (s->slices = 0; s->slices == 0 || (s->end < loaded && pixels < most); s->slices++) {
      s->end = rows_with(s, s->end, loaded, s->pixels, &count);
      s->slice_end[s->slices] = s->end;
      pixels += count;
    }
    const bool alone = (double)pixels * weights < LITTLE;
    const int64_t lists = s->slices * (s->uniform ? 1 : t->taps);
    MT_TRY(mt_parallel(lists, alone ? lists : MT_MAX(1, lists / LISTS), list_tasks, s));
    if (s->failed) {
      return mt_fail(MT_ERROR_MEMORY, "out of memory: the pixels of a convolution");
    }
    MT_TRY(mt_parallel(tasks, alone ? tasks : 1, MT_REAL_FN(t->dtype, sum_tasks), s));
    s->begin = s->end;
  } while (s->begin < s->image_rows);
  return MT_OK;
}

static int run_gradient(gradient_plan *s) {
  const mt_taps *t = s->taps;
  int64_t size = mt_dtype_size(t->dtype), pixel = t->channels;
  choose_tiles(s);
  if (s->rows == 0 || s->lanes == 0 || s->groups == 0 || t->taps == 0) {
    return MT_OK;
  }
  s->uniform = is_uniform(s);
  for (int32_t d = 0; d < t->dims; d++) {
    pixel *= t->mul[d] < 4 ? t->mul[d] : 4;
  }
  pixel = size * t->groups * (pixel + t->outputs);
  const int64_t most = s->lanewise ? MT_MAX(MT_TAPS_PIECE, BLOCK_BYTES / 4 / pixel)
                                   : MT_MIN(LIST_PIXELS, MT_MAX(BLOCK_PIXELS, BLOCK_BYTES / pixel));
  int64_t count;
  const bool one_block = rows_with(s, 0, s->image_rows, most, &count) == s->image_rows &&
                         (s->wide == NULL || s->wide->samples >= t->samples);
  const double weights = (double)(t->groups * t->taps * t->channels) * (double)t->outputs;
  const bool little = one_block && (double)count * weights < LITTLE;
  const bool together = one_block && t->taps * s->tile_size * size <= STACK_BYTES &&
                        (little || s->groups * s->row_tiles * s->lane_tiles >= TASKS / 2);
  choose_rectangle(s, together ? t->taps : 1, little);
  const int64_t channels = s->rectangle_rows * (s->lanewise ? 1 : s->tile->outer_rows) + s->rectangle_lanes * s->tile_lanes;
  s->pixels = s->lanewise ? MT_MAX(1, NEAR_BYTES / size / channels) : MT_MAX(MT_TAPS_PIECE, CACHE_BYTES / size / channels);
  int64_t sums, tasks = rectangles(s);
  if (!together) {
    if (!mt_mul(&sums, tasks, t->taps) || !mt_mul(&sums, sums, s->rectangle_tiles * s->tile_size)) {
      return mt_fail(MT_ERROR_MEMORY, "out of memory: the weights of a convolution do not fit in 64 bits");
    }
    if ((s->sums = mt_alloc_array(sums, size)) == NULL) {
      return MT_ERROR_MEMORY;
    }
    tasks *= t->taps;
  }
  const int64_t slices = most / s->pixels + 1, lists = slices * (s->uniform ? 1 : t->taps);
  s->slice_end = mt_alloc_array(slices, (int64_t)sizeof *s->slice_end);
  s->list = mt_alloc_array(lists, (int64_t)sizeof *s->list);
  if (s->slice_end == NULL || s->list == NULL) {
    return MT_ERROR_MEMORY;
  }
  memset(s->list, 0, sizeof *s->list * (size_t)lists);
  const int status = run_blocks(s, most, weights, tasks);
  for (int64_t i = 0; i < lists; i++) {
    mt_free(s->list[i].runs);
  }
  if (status != MT_OK) {
    return status;
  }
  return together ? MT_OK : mt_parallel(rectangles(s), little ? rectangles(s) : 1, MT_REAL_FN(t->dtype, write_tasks), s);
}

// Pixels of a run, on average.
static double run_length(const gradient_plan *s, const mt_taps_spans *spans) {
  const mt_taps *t = s->taps;
  const bool active = spans == &s->active;
  int64_t rows = (active ? t->active.sample : t->valid.sample) == 0 ? 1 : t->samples, pixels = 0;
  if (spans->first == NULL) {
    return (double)t->grid[t->dims - 1];
  }
  for (int32_t d = 0; d < t->dims - 1; d++) {
    rows *= active ? t->grid[d] : t->size[d];
  }
  const int64_t runs = spans->first[rows];
  for (int64_t i = 0; i < runs; i++) {
    pixels += spans->run[i].end - spans->run[i].begin;
  }
  return (double)pixels / (double)MT_MAX(1, runs);
}

// Wide taps list their pixels once, but have to be made.
static bool wide_is_better(const gradient_plan *s, const mt_taps_wide *w) {
  const mt_taps *t = s->taps, *wide = &w->taps;
  const double list = LIST_COST / MT_MAX(1, MT_MIN(run_length(s, &s->active), run_length(s, &s->valid)));
  return (double)wide->taps * tap_cost(s, wide) + list + 2 + (double)t->channels / 8 < (double)t->taps * (tap_cost(s, t) + list);
}

static int run_wide(gradient_plan *s, mt_taps_wide *wide) {
  mt_taps_spans valid = s->valid;
  s->taps = &wide->taps;
  s->wide = wide;
  s->valid = (mt_taps_spans){NULL, NULL};
  wide->valid = &valid;
  int status = mt_taps_wide_start(wide);
  status = status ? status : run_gradient(s);
  if (status == MT_OK) {
    mt_taps_wide_finish(wide);
  }
  s->valid = valid;
  return status;
}

int mt_taps_gradient(const mt_taps *t) {
  gradient_plan s = {.taps = t, .tile = mt_tile_get(), .image_rows = t->samples};
  mt_taps_wide wide = {.width = 1};
  for (int32_t d = 0; d < t->dims - 1; d++) {
    s.image_rows *= t->grid[d];
  }
  int status = mt_taps_spans_make(&s.active, &t->active, t->samples, t->dims, t->grid);
  status = status ? status : mt_taps_spans_make(&s.valid, &t->valid, t->samples, t->dims, t->size);
  if (status == MT_OK && mt_taps_depthwise_gradient_suits(t)) {
    status = mt_taps_depthwise_gradient(t, &s.active, s.valid.first != NULL);
  } else if (status == MT_OK) {
    if (!mt_taps_depthwise(t)) {
      mt_taps_wide_plan(&wide, t, &s.active, &s.valid);
    }
    if (wide.width > 1 && !wide_is_better(&s, &wide)) {
      wide.width = 1;
    }
    status = wide.width > 1 ? run_wide(&s, &wide) : run_gradient(&s);
  }
  mt_taps_wide_free(&wide);
  mt_free(s.list);
  mt_free(s.slice_end);
  mt_free(s.sums);
  mt_taps_spans_free(&s.valid);
  mt_taps_spans_free(&s.active);
  return status;
}

#endif
