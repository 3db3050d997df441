// taps_runs: see taps_runs.h.
#include "taps_runs.h"

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

// The first pixel from i on whose state is not `state`; eight at a time where they are neighbours.
static int64_t skip(const uint8_t *p, int64_t step, int64_t i, int64_t n, bool state) {
  const uint64_t same = state ? UINT64_C(0x0101010101010101) : 0;
  for (; step == 1 && i + 8 <= n; i += 8) {
    uint64_t eight;
    memcpy(&eight, p + i, sizeof eight);
    if (eight != same) {
      break;
    }
  }
  while (i < n && (p[i * step] != 0) == state) {
    i++;
  }
  return i;
}

// Counts the runs of rows [begin, end), or writes them once they are counted.
static void scan_rows(void *context, int64_t begin, int64_t end) {
  const spans_plan *s = context;
  const int64_t n = s->size[s->last], step = s->map->step[s->last];
  for (int64_t row = begin; row < end; row++) {
    const uint8_t *p = map_row(s, row);
    int64_t count = 0;
    struct mt_taps_span *run = s->spans->run ? s->spans->run + s->spans->first[row] : NULL;
    for (int64_t i = 0, from; (from = skip(p, step, i, n, false)) < n; count++) {
      i = skip(p, step, from, n, true);
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
    if (skip(map_row(s, row), s->map->step[s->last], 0, n, true) < n) {
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

// ---- the walk ------------------------------------------------------------------------------------------------------------

static int64_t quotient_up(int64_t n, int64_t by) { return by == 1 ? n : n <= 0 ? -(-n / by) : (n - 1) / by + 1; }

mt_taps_walk mt_taps_walk_start(const mt_taps *t, const mt_taps_spans *active, const mt_taps_spans *valid, int64_t tap,
                                int64_t row, int64_t end) {
  const int32_t last = t->dims - 1;
  const int64_t offset = t->offset[tap][last];
  mt_taps_walk w = {.taps = t, .active = active, .valid = valid, .tap = tap, .row = row, .end = end};
  w.low = MT_MAX(0, quotient_up(-offset, t->mul[last]));
  w.high = t->size[last] > offset ? MT_MIN(quotient_up(t->size[last] - offset, t->mul[last]), t->grid[last]) : 0;
  if (w.low >= w.high) {
    w.row = end;
  }
  int64_t rest = row;
  for (int32_t d = last - 1; d >= 0; d--) {
    w.at[d] = rest % t->grid[d];
    rest /= t->grid[d];
  }
  w.sample = rest;
  return w;
}

static void step_row(mt_taps_walk *w) {
  const mt_taps *t = w->taps;
  int32_t d = t->dims - 2;
  w->row++;
  while (d >= 0 && ++w->at[d] == t->grid[d]) {
    w->at[d--] = 0;
  }
  w->sample += d < 0;
}

// Sets up the row; false when no pixel of it counts.
static bool enter_row(mt_taps_walk *w) {
  const mt_taps *t = w->taps;
  const int32_t last = t->dims - 1;
  const int64_t *offset = t->offset[w->tap];
  int64_t grid_row = t->active.sample == 0 ? 0 : w->sample, image_row = t->valid.sample == 0 ? 0 : w->sample;
  w->x = (w->sample - w->first_sample) * t->x_sample + offset[last] * t->x_step[last];
  w->y = w->sample * t->y_sample;
  for (int32_t d = 0; d < last; d++) {
    const int64_t from = w->at[d] * t->mul[d] + offset[d];
    if (from < 0 || from >= t->size[d]) {
      return false;
    }
    w->x += from * t->x_step[d];
    w->y += w->at[d] * t->y_step[d];
    grid_row = grid_row * t->grid[d] + w->at[d];
    image_row = image_row * t->size[d] + from;
  }
  if (w->active->first) {
    w->a = w->active->run + w->active->first[grid_row];
    w->a_end = w->active->run + w->active->first[grid_row + 1];
  }
  if (w->valid->first) {
    w->v = w->valid->run + w->valid->first[image_row];
    w->v_end = w->valid->run + w->valid->first[image_row + 1];
  }
  w->next = w->low;
  w->cut = -1;
  return true;
}

// The next run of pixels [*begin, *end) of the row that count.
static bool next_run(mt_taps_walk *w, int64_t *begin, int64_t *end) {
  const mt_taps *t = w->taps;
  const int32_t last = t->dims - 1;
  int64_t from = w->next, to = w->high;
  while (from < w->high) {
    if (w->active->first) {
      while (w->a < w->a_end && w->a->end <= from) {
        w->a++;
      }
      if (w->a == w->a_end) {
        return false;
      }
      from = MT_MAX(from, w->a->begin);
      to = MT_MIN(w->high, w->a->end);
    }
    if (w->valid->first) {
      const int64_t mul = t->mul[last], offset = t->offset[w->tap][last];
      while (w->v < w->v_end && quotient_up(w->v->end - offset, mul) <= from) {
        w->v++;
      }
      if (w->v == w->v_end) {
        return false;
      }
      from = MT_MAX(from, quotient_up(w->v->begin - offset, mul));
      to = MT_MIN(to, quotient_up(w->v->end - offset, mul));
    }
    if (from < to) {
      *begin = from;
      *end = to;
      return true;
    }
    // The runs of the two maps do not meet: go on at `from`, where the later of them begins.
    to = w->high;
  }
  return false;
}

int64_t mt_taps_walk_next(mt_taps_walk *w, mt_tile_pixels runs[MT_TAPS_RUNS], int64_t pixels) {
  const mt_taps *t = w->taps;
  const int32_t last = t->dims - 1;
  const int64_t x_step = t->mul[last] * t->x_step[last], y_step = t->y_step[last];
  const int64_t most = MT_TAPS_RUNS - MT_TAPS_PIECE;
  int64_t count = 0, done = 0;
  while (w->row < w->end && count < most && done < pixels) {
    if (!w->inside && !enter_row(w)) {
      step_row(w);
      continue;
    }
    w->inside = false;
    for (int64_t begin, end, ended = -1; next_run(w, &begin, &end); ended = end) {
      if (w->cut < 0) {
        w->cut = begin + MT_TAPS_PIECE;
      } else if (begin >= w->cut) {
        w->cut += ((begin - w->cut) / MT_TAPS_PIECE + 1) * MT_TAPS_PIECE;
        ended = -1;
        if (count > 0) {
          runs[count - 1].last = 1;
        }
        if (count >= most || done >= pixels) {
          w->inside = true;
          break;
        }
      }
      end = MT_MIN(end, w->cut);
      if (begin == ended) {
        runs[count - 1].pixels += (int32_t)(end - begin);
      } else {
        const int64_t x = w->x + begin * x_step, y = w->y + begin * y_step;
        runs[count++] = (mt_tile_pixels){w->y_first ? y : x, w->y_first ? x : y, (int32_t)(end - begin), 0};
      }
      done += end - begin;
      w->next = end;
    }
    if (!w->inside) {
      step_row(w);
    }
    if (count > 0) {
      runs[count - 1].last = 1;
    }
  }
  return count;
}
