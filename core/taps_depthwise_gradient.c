// taps_depthwise_gradient: the gradient of weights under taps with few channels and as many outputs per group, above all one: the lanes
// of a vector are outputs of several groups, and one pass over the pixels serves all taps.
#ifdef REAL

// The part [part, part + 1) of `parts` of a row: so many lanes of its pixels, in the order of memory.
static void FN(fetch)(const REAL *row, int64_t pixels, int64_t step, int64_t lanes, int64_t part, int64_t parts) {
  for (int64_t i = pixels * part / parts; i < pixels * (part + 1) / parts; i++) {
    for (int64_t l = 0; l < lanes; l += 64 / (int64_t)sizeof(REAL)) __builtin_prefetch(row + i * step + l, 0, 2);
  }
}

// One task: some vectors of lanes, all rows of all samples in order.
static void FN(gradient_range)(void *context, int64_t begin, int64_t end) {
  const depthwise_gradient *s = context;
  const mt_taps *t = s->taps;
  const int32_t last = t->dims - 1;
  const int64_t rows = s->rows * t->samples, from = first_lane(s, begin), lanes = first_lane(s, end - 1) + s->vector - from;
  mt_tile_reached runs[2 * MAX_TAPS + MT_TAPS_PIECE];
  REAL *total = s->total;
  for (int64_t j = 0; j < t->taps * t->channels; j++) {
    memset(total + (j * s->vectors + begin) * s->vector, 0, sizeof(REAL) * (size_t)((end - begin) * s->vector));
  }
  for (int64_t row = 0; row < rows; row++) {
    int64_t x, y;
    const int64_t count = list_row(s, runs, row, &x, &y);
    for (int64_t v = begin; v < end && count > 0; v++) {
      const int64_t lane = first_lane(s, v);
      // What the next row reads, in the order of memory.
      for (int32_t i = 0; i < s->fresh; i++) {
        FN(fetch)((const REAL *)t->x + from + x + s->next_x + i * s->fresh_step, t->size[last], t->x_step[last], lanes, v - begin,
                  end - begin);
      }
      FN(fetch)((const REAL *)t->y + from + y + s->next_y, t->grid[last], t->y_step[last], lanes, v - begin, end - begin);
      s->tile->lanewise_taps[MT_TILE_TYPE(t->dtype)](total + v * s->vector, s->vectors * s->vector, t->channels,
                                                     (const REAL *)t->x + lane, t->mul[last] * t->x_step[last], s->at,
                                                     (const REAL *)t->y + lane, t->y_step[last], runs, count, t->taps,
                                                     MT_MIN(s->vector, s->lanes));
    }
  }
}

static void FN(write)(const depthwise_gradient *s) {
  const mt_taps *t = s->taps;
  for (int64_t v = 0; v < s->vectors; v++) {
    for (int64_t l = v * s->vector - first_lane(s, v); l < MT_MIN(s->vector, s->lanes); l++) {
      const int64_t lane = first_lane(s, v) + l, g = lane / t->channels, o = lane % t->channels;
      REAL *w = (REAL *)(uintptr_t)t->w + g * t->w_group + o * t->w_output;
      const REAL *sum = (const REAL *)s->total + v * s->vector + l;
      for (int64_t j = 0; j < t->taps; j++) {
        for (int64_t c = 0; c < t->channels; c++, sum += s->vectors * s->vector) w[t->w_tap[j] + c * t->w_channel] = *sum;
      }
    }
  }
}

#else
#include "taps_runs.h"

enum {
  MAX_TAPS = 49,
  LITTLE = 500000,     // multiplications that are not worth a second thread
};

typedef struct {
  const mt_taps *taps;
  const mt_tile *tile;
  const mt_taps_spans *active;
  int64_t rows;                        // of a sample
  int64_t lanes, vector, vectors;      // of a pixel; of a vector; vectors of a pixel
  void *total;                         // [tap][channel][vectors]
  int32_t fresh;                       // rows of x that the next row of the grid reads anew, so many
  int64_t next_x, fresh_step, next_y;  // elements away
  int64_t at[MAX_TAPS], valid_at[MAX_TAPS];
  bool holes;                          // some pixels of x do not count
  int64_t cuts, cut[2 * MAX_TAPS + 2]; // columns at which the set of taps inside the image changes
  uint64_t inside[2 * MAX_TAPS + 2];   // that set, from each cut on
} depthwise_gradient;

// The last vector may begin inside the one before.
static int64_t first_lane(const depthwise_gradient *s, int64_t v) {
  return MT_MIN(v * s->vector, MT_MAX(0, s->lanes - s->vector));
}

// Which of the taps see a pixel that counts from column c; valid: of the row's first window.
static uint64_t counted(const depthwise_gradient *s, const uint8_t *valid, int64_t c, uint64_t taps) {
  const mt_taps *t = s->taps;
  const int64_t column = c * t->mul[t->dims - 1] * t->valid.step[t->dims - 1];
  uint64_t result = 0;
  for (int64_t j = 0; taps >> j != 0; j++) {
    if (taps >> j & 1) {
      result |= (uint64_t)(valid[column + s->valid_at[j]] != 0) << j;
    }
  }
  return result;
}

// The active pixels of a row of the grid, with the taps that are inside the image. Returns how many runs.
static int64_t list_row(const depthwise_gradient *s, mt_tile_reached *run, int64_t row, int64_t *x_row, int64_t *y_row) {
  const mt_taps *t = s->taps;
  const int32_t last = t->dims - 1;
  int64_t at[MT_TAPS_DIMS], rest = row % s->rows, count = 0;
  int64_t x = row / s->rows * t->x_sample, y = row / s->rows * t->y_sample;
  uint64_t inside = 0;
  for (int32_t d = last - 1; d >= 0; d--) {
    at[d] = rest % t->grid[d];
    rest /= t->grid[d];
    x += at[d] * t->mul[d] * t->x_step[d];
    y += at[d] * t->y_step[d];
  }
  *x_row = x;
  *y_row = y;
  const uint8_t *valid = s->holes ? (const uint8_t *)t->valid.data + row / s->rows * t->valid.sample : NULL;
  for (int32_t d = 0; d < last && valid; d++) {
    valid += at[d] * t->mul[d] * t->valid.step[d];
  }
  for (int64_t j = 0; j < t->taps; j++) {
    bool in = true;
    for (int32_t d = 0; d < last; d++) {
      const int64_t from = at[d] * t->mul[d] + t->offset[j][d];
      in = in && from >= 0 && from < t->size[d];
    }
    inside |= (uint64_t)in << j;
  }
  const struct mt_taps_span whole = {0, t->grid[last]}, *span = &whole, *end = span + 1;
  if (s->active->first) {
    const int64_t *first = s->active->first + (t->active.sample == 0 ? row % s->rows : row);
    span = s->active->run + first[0];
    end = s->active->run + first[1];
  }
  for (int64_t k = 0; span < end; span++) {
    for (int64_t c = span->begin, after; c < span->end; c = after) {
      while (k + 1 < s->cuts && s->cut[k + 1] <= c) {
        k++;
      }
      after = k + 1 < s->cuts ? MT_MIN(span->end, s->cut[k + 1]) : span->end;
      uint64_t taps = inside & s->inside[k];
      if (valid) {
        const int64_t until = after;
        taps = counted(s, valid, c, inside & s->inside[k]);
        for (after = c + 1; after < until && counted(s, valid, after, inside & s->inside[k]) == taps; after++) {
        }
      }
      run[count++] = (mt_tile_reached){x + c * t->mul[last] * t->x_step[last], y + c * t->y_step[last], after - c, taps};
    }
  }
  return count;
}

#define MT_SOURCE "taps_depthwise_gradient.c"
#include "twice.h"

bool mt_taps_depthwise_gradient_suits(const mt_taps *t) {
  const int64_t vector = mt_tile_get()->vector / mt_dtype_size(t->dtype), group = t->channels;
  const bool groups = t->groups > 1 && t->outputs == group && group > 0 && group <= vector / 2 && (group & (group - 1)) == 0 &&
                      t->groups * group >= vector && t->y_group == group;
  return (mt_taps_depthwise(t) || groups) && t->taps > 0 && t->taps <= MAX_TAPS && t->grid[t->dims - 1] <= MT_TAPS_PIECE;
}

static void look_ahead(depthwise_gradient *s) {
  const mt_taps *t = s->taps;
  const int32_t axis = t->dims - 2;
  s->fresh = 1;
  s->next_x = t->x_sample;
  s->next_y = t->y_sample;
  if (axis >= 0) {
    int64_t high = t->offset[0][axis];
    for (int64_t j = 1; j < t->taps; j++) {
      high = MT_MAX(high, t->offset[j][axis]);
    }
    s->fresh = (int32_t)MT_MIN(t->mul[axis], 2);
    s->fresh_step = t->x_step[axis];
    s->next_x = (high + 1) * t->x_step[axis];
    s->next_y = t->y_step[axis];
  }
}

int mt_taps_depthwise_gradient(const mt_taps *t, const mt_taps_spans *active, bool holes) {
  const int32_t last = t->dims - 1;
  depthwise_gradient s = {.taps = t, .tile = mt_tile_get(), .active = active, .holes = holes, .rows = 1, .lanes = t->groups * t->channels};
  for (int32_t d = 0; d < last; d++) {
    s.rows *= t->grid[d];
  }
  look_ahead(&s);
  // Columns [low, high) of the grid see tap j inside the image.
  int64_t low[MAX_TAPS], high[MAX_TAPS];
  for (int64_t j = 0; j < t->taps; j++) {
    const int64_t offset = t->offset[j][last], mul = t->mul[last];
    low[j] = offset < 0 ? (-offset + mul - 1) / mul : 0;
    high[j] = t->size[last] > offset ? (t->size[last] - offset - 1) / mul + 1 : 0;
    for (int32_t d = 0; d < t->dims; d++) {
      s.at[j] += t->offset[j][d] * t->x_step[d];
      s.valid_at[j] += t->offset[j][d] * t->valid.step[d];
    }
  }
  for (int64_t c = 0, next; c < t->grid[last]; c = next) {
    s.cut[s.cuts] = c;
    next = t->grid[last];
    for (int64_t j = 0; j < t->taps; j++) {
      s.inside[s.cuts] |= (uint64_t)(low[j] <= c && c < high[j]) << j;
      next = low[j] > c ? MT_MIN(next, low[j]) : high[j] > c ? MT_MIN(next, high[j]) : next;
    }
    s.cuts++;
  }
  s.vector = s.tile->vector / mt_dtype_size(t->dtype);
  s.vectors = (s.lanes + s.vector - 1) / s.vector;
  s.total = mt_alloc_array(t->taps * t->channels, s.vectors * s.vector * mt_dtype_size(t->dtype));
  if (s.total == NULL) {
    return MT_ERROR_MEMORY;
  }
  const int64_t threads = mt_threads_get(), grain = (s.vectors + threads - 1) / threads;  // no bit depends on it
  const double work = (double)t->samples * (double)s.rows * (double)t->grid[last] * (double)(t->taps * t->channels * s.lanes);
  const int status = mt_parallel(s.vectors, work < LITTLE ? s.vectors : grain, MT_REAL_FN(t->dtype, gradient_range), &s);
  if (status == MT_OK) {
    MT_REAL_CALL(t->dtype, write, &s);
  }
  mt_free(s.total);
  return status;
}

#endif
