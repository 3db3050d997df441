// taps_depthwise_gradient: the gradient of weights under taps with one channel and one output per group: the lanes of a vector are
// groups, and one pass over the pixels serves all taps.
#ifdef REAL

// One task: some vectors of groups, all rows of all samples in order.
static void FN(gradient_range)(void *context, int64_t begin, int64_t end) {
  const depthwise_gradient *s = context;
  const mt_taps *t = s->taps;
  const int32_t last = t->dims - 1;
  const int64_t vector = s->tile->vector / (int64_t)sizeof(REAL), rows = s->rows * t->samples;
  mt_tile_reached runs[2 * MAX_TAPS + MT_TAPS_PIECE];
  _Alignas(64) REAL total[VECTORS * MAX_TAPS * 64 / sizeof(REAL)];
  for (int64_t task = begin; task < end; task++) {
    const int64_t g = task * s->lanes, lanes = MT_MIN(s->lanes, t->groups - g);
    memset(total, 0, sizeof total);
    for (int64_t row = 0; row < rows; row++) {
      const int64_t count = list_row(s, runs, row);
      for (int64_t l = 0; l < lanes && count > 0; l += vector) {
        s->tile->lanewise_taps[MT_TILE_TYPE(t->dtype)](total + l, s->lanes, (const REAL *)t->x + g + l, t->mul[last] * t->x_step[last],
                                                       s->at, (const REAL *)t->y + g + l, t->y_step[last], runs, count, t->taps,
                                                       MT_MIN(vector, lanes - l));
      }
    }
    for (int64_t j = 0; j < t->taps; j++) {
      for (int64_t l = 0; l < lanes; l++) {
        ((REAL *)(uintptr_t)t->w)[t->w_tap[j] + (g + l) * t->w_group] = total[j * s->lanes + l];
      }
    }
  }
}

#else
#include "taps_runs.h"

enum {
  MAX_TAPS = 49,       // whose sums one task holds,
  VECTORS = 4,         // for at most so many vectors of groups
  LITTLE = 500000,     // multiplications that are not worth a second thread
};

// The gradient of weights where every pixel of x counts.
typedef struct {
  const mt_taps *taps;
  const mt_tile *tile;
  const mt_taps_spans *active;
  int64_t rows;                        // of a sample
  int64_t lanes;                       // of a task
  int64_t at[MAX_TAPS];
  int64_t cuts, cut[2 * MAX_TAPS + 2]; // columns at which the set of taps inside the image changes
  uint64_t inside[2 * MAX_TAPS + 2];   // that set, from each cut on
} depthwise_gradient;

// The active pixels of a row of the grid, with the taps that are inside the image. Returns how many runs.
static int64_t list_row(const depthwise_gradient *s, mt_tile_reached *run, int64_t row) {
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
      run[count++] = (mt_tile_reached){x + c * t->mul[last] * t->x_step[last], y + c * t->y_step[last], after - c, inside & s->inside[k]};
    }
  }
  return count;
}

#define MT_SOURCE "taps_depthwise_gradient.c"
#include "twice.h"

bool mt_taps_depthwise_gradient_suits(const mt_taps *t, bool all_valid) {
  return mt_taps_depthwise(t) && all_valid && t->taps <= MAX_TAPS && t->grid[t->dims - 1] <= MT_TAPS_PIECE;
}

int mt_taps_depthwise_gradient(const mt_taps *t, const mt_taps_spans *active) {
  const int32_t last = t->dims - 1;
  depthwise_gradient s = {.taps = t, .tile = mt_tile_get(), .active = active, .rows = 1};
  for (int32_t d = 0; d < last; d++) {
    s.rows *= t->grid[d];
  }
  // Columns [low, high) of the grid see tap j inside the image.
  int64_t low[MAX_TAPS], high[MAX_TAPS];
  for (int64_t j = 0; j < t->taps; j++) {
    const int64_t offset = t->offset[j][last], mul = t->mul[last];
    low[j] = offset < 0 ? (-offset + mul - 1) / mul : 0;
    high[j] = t->size[last] > offset ? (t->size[last] - offset - 1) / mul + 1 : 0;
    for (int32_t d = 0; d < t->dims; d++) {
      s.at[j] += t->offset[j][d] * t->x_step[d];
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
  const int64_t vector = s.tile->vector / mt_dtype_size(t->dtype), vectors = (t->groups + vector - 1) / vector;
  s.lanes = vector * MT_MAX(1, MT_MIN(VECTORS, vectors / mt_threads_get()));  // no bit depends on it
  const int64_t tasks = (t->groups + s.lanes - 1) / s.lanes;
  const double work = (double)t->samples * (double)s.rows * (double)t->grid[last] * (double)(t->taps * t->groups);
  return mt_parallel(tasks, work < LITTLE ? tasks : 1, MT_REAL_FN(t->dtype, gradient_range), &s);
}

#endif
