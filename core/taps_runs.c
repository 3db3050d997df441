// taps_runs: see taps_runs.h.
#include "taps_runs.h"

#include "flags.h"

// ---- maps into runs ------------------------------------------------------------------------------------------------------

typedef struct {
  const mt_taps_map *map;
  const int64_t *size;
  mt_taps_spans *spans;
  int32_t last;  // the axis of rows
} spans_plan;

static const uint8_t *map_row(const spans_plan *s, int64_t row) {
  int64_t offset = 0;
  for (int32_t d = s->last - 1; d >= 0; d--) {
    offset += row % s->size[d] * s->map->step[d];
    row /= s->size[d];
  }
  return (const uint8_t *)s->map->data + offset + row * s->map->sample;
}

// Counts the runs of rows [begin, end), or writes them once they are counted.
static void scan_rows(void *context, int64_t begin, int64_t end) {
  const spans_plan *s = context;
  const int64_t n = s->size[s->last], step = s->map->step[s->last];
  for (int64_t row = begin; row < end; row++) {
    const uint8_t *p = map_row(s, row);
    int64_t count = 0;
    struct mt_taps_span *run = s->spans->run ? s->spans->run + s->spans->first[row] : NULL;
    for (int64_t i = 0, from; (from = mt_flags_end(p, step, i, n, false)) < n; count++) {
      i = mt_flags_end(p, step, from, n, true);
      if (run) {
        run[count] = (struct mt_taps_span){from, i};
      }
    }
    if (run == NULL) {
      s->spans->first[row + 1] = count;
    }
  }
}

static bool all_count(const spans_plan *s, int64_t rows) {
  const int64_t n = s->size[s->last];
  for (int64_t row = 0; row < rows; row++) {
    if (mt_flags_end(map_row(s, row), s->map->step[s->last], 0, n, true) < n) {
      return false;
    }
  }
  return true;
}

int mt_taps_spans_make(mt_taps_spans *spans, const mt_taps_map *map, int64_t samples, int32_t dims, const int64_t *size) {
  *spans = (mt_taps_spans){NULL, NULL};
  const spans_plan s = {map, size, spans, dims - 1};
  int64_t rows = map->sample == 0 ? MT_MIN(samples, 1) : samples;
  for (int32_t d = 0; d < dims - 1; d++) {
    rows *= size[d];
  }
  if (map->data == NULL || all_count(&s, rows)) {
    return MT_OK;
  }
  const int64_t grain = MT_MAX(1, 65536 / size[dims - 1]);
  spans->first = mt_alloc_array(rows + 1, (int64_t)sizeof *spans->first);
  if (spans->first == NULL) {
    return MT_ERROR_MEMORY;
  }
  spans->first[0] = 0;
  MT_TRY(mt_parallel(rows, grain, scan_rows, (void *)&s));
  for (int64_t row = 0; row < rows; row++) {
    spans->first[row + 1] += spans->first[row];
  }
  spans->run = mt_alloc_array(MT_MAX(1, spans->first[rows]), (int64_t)sizeof *spans->run);
  return spans->run ? mt_parallel(rows, grain, scan_rows, (void *)&s) : MT_ERROR_MEMORY;
}

void mt_taps_spans_free(mt_taps_spans *s) {
  mt_free(s->run);
  mt_free(s->first);
}

// ---- lists ---------------------------------------------------------------------------------------------------------------

typedef struct {
  const mt_taps *taps;
  const mt_taps_rows *rows;
  const int64_t *offset;               // of the tap
  int64_t low, high;                   // in a row, the tap is inside the image for pixels [low, high)
  int64_t row, sample, own;            // the row of all samples, its sample, rows of a sample
  int64_t at[MT_TAPS_DIMS];
  int64_t x, y;                        // offsets of the row
  const struct mt_taps_span *a, *a_end, *v, *v_end;
} walk;

static int64_t quotient_up(int64_t n, int64_t by) { return by == 1 ? n : n <= 0 ? -(-n / by) : (n - 1) / by + 1; }

static void start(walk *w, const mt_taps_rows *rows, int64_t j, int64_t row) {
  const mt_taps *t = rows->taps;
  const int32_t last = t->dims - 1;
  *w = (walk){.taps = t, .rows = rows, .offset = t->offset[j], .row = row, .own = 1};
  w->low = MT_MAX(0, quotient_up(-w->offset[last], t->mul[last]));
  w->high = MT_MIN(quotient_up(t->size[last] - w->offset[last], t->mul[last]), t->grid[last]);
  for (int32_t d = last - 1; d >= 0; d--) {
    w->at[d] = row % t->grid[d];
    row /= t->grid[d];
    w->own *= t->grid[d];
  }
  w->sample = row;
}

static void step_row(walk *w) {
  int32_t d = w->taps->dims - 2;
  w->row++;
  while (d >= 0 && ++w->at[d] == w->taps->grid[d]) {
    w->at[d--] = 0;
  }
  w->sample += d < 0;
}

// Sets up the row; false when no pixel of it counts.
static bool enter_row(walk *w) {
  const mt_taps *t = w->taps;
  const mt_taps_spans *active = w->rows->active, *valid = w->rows->valid;
  const int32_t last = t->dims - 1;
  if (active->first) {
    const int64_t *first = active->first + (t->active.sample == 0 ? w->row - w->sample * w->own : w->row);
    w->a = active->run + first[0];
    w->a_end = active->run + first[1];
    if (w->a == w->a_end) {
      return false;
    }
  }
  int64_t image_row = t->valid.sample == 0 ? 0 : w->sample;
  w->x = (w->sample - w->rows->first_sample) * t->x_sample + w->offset[last] * t->x_step[last];
  w->y = w->sample * t->y_sample;
  for (int32_t d = 0; d < last; d++) {
    const int64_t from = w->at[d] * t->mul[d] + w->offset[d];
    if (from < 0 || from >= t->size[d]) {
      return false;
    }
    w->x += from * t->x_step[d];
    w->y += w->at[d] * t->y_step[d];
    image_row = image_row * t->size[d] + from;
  }
  if (valid->first) {
    w->v = valid->run + valid->first[image_row];
    w->v_end = valid->run + valid->first[image_row + 1];
  }
  return true;
}

// The next pixels [*begin, *end) of the row that count, at or after *begin.
static bool next_run(walk *w, int64_t *begin, int64_t *end) {
  const int32_t last = w->taps->dims - 1;
  const int64_t mul = w->taps->mul[last], offset = w->offset[last];
  int64_t from = *begin, to = w->high;
  while (from < w->high) {
    if (w->rows->active->first) {
      while (w->a < w->a_end && w->a->end <= from) {
        w->a++;
      }
      if (w->a == w->a_end) {
        return false;
      }
      from = MT_MAX(from, w->a->begin);
      to = MT_MIN(w->high, w->a->end);
    }
    if (w->rows->valid->first) {
      while (w->v < w->v_end && quotient_up(w->v->end - offset, mul) <= from) {
        w->v++;
      }
      if (w->v == w->v_end) {
        return false;
      }
      const int64_t v_begin = quotient_up(w->v->begin - offset, mul), v_end = quotient_up(w->v->end - offset, mul);
      from = MT_MAX(from, v_begin);
      to = MT_MIN(to, v_end);
    }
    if (from < to) {
      *begin = from;
      *end = to;
      return true;
    }
    to = w->high;  // the runs of the two maps do not meet: go on where the later of them begins
  }
  return false;
}

// Room for the runs of a row: a run that counts ends where one of a map does, or a piece.
static bool reserve(mt_taps_list *list, const walk *w) {
  const int64_t needed = list->count + 2 + (w->high - w->low) / MT_TAPS_PIECE + (w->a_end - w->a) + (w->v_end - w->v);
  if (needed <= list->capacity) {
    return true;
  }
  const int64_t capacity = MT_MAX(2 * needed, 64);
  mt_tile_pixels *runs = mt_alloc_array(capacity, (int64_t)sizeof *runs);
  if (runs == NULL) {
    return false;
  }
  if (list->count > 0) {
    memcpy(runs, list->runs, sizeof *runs * (size_t)list->count);
  }
  mt_free(list->runs);
  list->runs = runs;
  list->capacity = capacity;
  return true;
}

static void list_row(mt_taps_list *list, walk *w) {
  const mt_taps *t = w->taps;
  const int32_t last = t->dims - 1;
  const int64_t x_step = t->mul[last] * t->x_step[last], y_step = t->y_step[last], before = list->count;
  // Pieces begin at the first active pixel, whatever the tap sees there: they move with the content of a padded row.
  int64_t begin = w->low, end, ended = -1, cut = MT_TAPS_PIECE + (w->rows->active->first ? w->a->begin : 0);
  while (next_run(w, &begin, &end)) {
    if (begin >= cut) {
      cut += ((begin - cut) / MT_TAPS_PIECE + 1) * MT_TAPS_PIECE;
      ended = -1;
      if (list->count > before) {
        list->runs[list->count - 1].last = 1;
      }
    }
    end = MT_MIN(end, cut);
    if (begin == ended) {
      list->runs[list->count - 1].pixels += (int32_t)(end - begin);
    } else {
      const int64_t x = w->x + begin * x_step, y = w->y + begin * y_step;
      const bool y_first = w->rows->y_first;
      list->runs[list->count++] = (mt_tile_pixels){y_first ? y : x, y_first ? x : y, (int32_t)(end - begin), 0};
    }
    begin = ended = end;
  }
  if (list->count > before) {
    list->runs[list->count - 1].last = 1;
  }
}

int mt_taps_list_rows(mt_taps_list *list, const mt_taps_rows *rows, int64_t j, int64_t row, int64_t end) {
  walk w;
  start(&w, rows, j, row);
  list->count = 0;
  for (; w.low < w.high && w.row < end; step_row(&w)) {
    if (enter_row(&w)) {
      if (!reserve(list, &w)) {
        return MT_ERROR_MEMORY;
      }
      list_row(list, &w);
    }
  }
  return MT_OK;
}
