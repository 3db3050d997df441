// taps_rows: sums over taps with few channels and as many outputs per group (one: depthwise), straight from the rows of the image. The
// lanes of a vector are channels of several groups; a block of neighbouring pixels shares what it loads (tile_rows.h). What lies outside
// the image or does not count is read from a pixel of zeros.
#include "taps_plan.h"

#include "flags.h"
#include "slots.h"
#include "zero.h"

enum {
  MOST_ROWS = 49,       // of taps
  MOST_WIDTH = 16,      // taps of a row
  MOST_STRIDE = 2,
  BLOCK = 8,            // pixels
  TASKS = 64,
  AHEAD = 4096,         // bytes beyond the next block
  LARGE = 1 << 20,      // bytes of an image that is worth fetching ahead
  AWAY = 16 << 20,      // bytes of image and results, which nobody finds in the caches afterwards
  POSITIONS = (BLOCK - 1) * MOST_STRIDE + MOST_WIDTH,
};

typedef struct {
  const mt_taps *taps;
  const mt_tile *tile;
  int64_t rows, width, direction;  // of taps; offsets in a row rise or fall
  int64_t lanes;
  int32_t last;                    // the axis along rows
  int64_t lines;                   // rows of the grid, all samples
  float *packed;                   // [row][tap][channel][lane]
  float *zeros;                    // a pixel
  float *sums;                     // per thread: a block of pixels that have factors, or NULL
  int32_t *taken;
  bool fetches, away;              // the image is large; so are the results
} rows_plan;

// Rows of taps that see a row of the grid.
typedef struct {
  int64_t count;
  const float *x[MOST_ROWS], *w[MOST_ROWS];
  const uint8_t *valid[MOST_ROWS];
  const float *newest[MOST_STRIDE];  // of the rows: those that the line before did not read
  int64_t first;                   // offset of the first tap of a row
} seen;

// ---- what suits -----------------------------------------------------------------------------------------------------------

bool mt_taps_suits_rows(const mt_taps *t) {
  const int64_t most = mt_tile_get()->vector / (int64_t)sizeof(float), group = t->channels;
  return t->dtype == MT_FLOAT32 && t->groups > 1 && t->outputs == group && group > 0 && group <= most && (group & (group - 1)) == 0 &&
         t->groups * group >= most && (group == 1 || t->taps * group <= MT_TILE_K);
}

// Taps in rows: neighbouring pixels, in either direction.
static bool cut_rows(const mt_taps *t, int64_t *rows, int64_t *width, int64_t *direction) {
  const int32_t last = t->dims - 1;
  int64_t n = 1;
  *direction = 1;
  while (n < t->taps && memcmp(t->offset[n], t->offset[0], sizeof t->offset[0][0] * (size_t)last) == 0) {
    n++;
  }
  if (t->taps == 0 || t->taps % n != 0 || n > MOST_WIDTH || t->taps / n > MOST_ROWS) {
    return false;
  }
  if (n > 1 && t->offset[1][last] < t->offset[0][last]) {
    *direction = -1;
  }
  for (int64_t j = 0; j < t->taps; j++) {
    if (t->offset[j][last] != t->offset[0][last] + j % n * *direction ||
        memcmp(t->offset[j], t->offset[j - j % n], sizeof t->offset[0][0] * (size_t)last) != 0) {
      return false;
    }
  }
  *rows = t->taps / n;
  *width = n;
  return *direction == 1 || t->mul[last] == 1;
}

bool mt_taps_is_rows(const mt_taps *t) {
  int64_t rows, width, direction;
  return mt_taps_suits_rows(t) && (t->x_channel == 0 || t->x_channel == 1) && t->y_group == t->outputs &&
         (t->outputs == 1 || t->y_channel == 1) && t->mul[t->dims - 1] <= MOST_STRIDE && cut_rows(t, &rows, &width, &direction);
}

// ---- one row of the grid --------------------------------------------------------------------------------------------------

static void see(const rows_plan *s, seen *v, int64_t sample, const int64_t *at) {
  const mt_taps *t = s->taps;
  v->count = 0;
  v->newest[0] = v->newest[1] = NULL;
  v->first = t->offset[0][s->last];
  for (int64_t r = 0; r < s->rows; r++) {
    int64_t x = sample * t->x_sample, valid = sample * t->valid.sample;
    bool inside = true;
    for (int32_t d = 0; d < s->last; d++) {
      const int64_t from = at[d] * t->mul[d] + t->offset[r * s->width][d];
      inside = inside && from >= 0 && from < t->size[d];
      x += from * t->x_step[d];
      valid += from * t->valid.step[d];
    }
    if (inside) {
      v->x[v->count] = (const float *)t->x + x;
      if (v->newest[0] == NULL || v->x[v->count] > v->newest[0]) {
        v->newest[1] = v->newest[0];
        v->newest[0] = v->x[v->count];
      } else if (v->newest[1] == NULL || v->x[v->count] > v->newest[1]) {
        v->newest[1] = v->x[v->count];
      }
      v->w[v->count] = s->packed + r * s->width * t->channels * s->lanes;
      v->valid[v->count++] = t->valid.data ? (const uint8_t *)t->valid.data + valid : NULL;
    }
  }
}

// Where the n pixels from column c on read. Returns how many rows of taps see anything that counts.
static int64_t point(const rows_plan *s, const seen *v, int64_t c, int64_t n, const float **from, const float **w) {
  const mt_taps *t = s->taps;
  const int64_t mul = t->mul[s->last], step = t->x_step[s->last], positions = (n - 1) * mul + s->width;
  const int64_t left = s->direction > 0 ? c * mul + v->first : c + n - 1 + v->first - (positions - 1);
  const int64_t in0 = MT_MAX(0, -left), in1 = MT_MIN(positions, t->size[s->last] - left);
  int64_t rows = 0;
  for (int64_t r = 0; r < v->count && in0 < in1; r++) {
    const float *x = v->x[r] + left * step, **to = s->direction > 0 ? from : from + positions - 1;
    const uint8_t *valid = v->valid[r] ? v->valid[r] + left * t->valid.step[s->last] : NULL;
    bool any = valid == NULL;
    for (int64_t i = 0; i < in0; i++) to[i * s->direction] = s->zeros;
    for (int64_t i = in0; i < in1; i++) {
      const bool on = valid == NULL || valid[i * t->valid.step[s->last]];
      to[i * s->direction] = on ? x + i * step : s->zeros;
      any = any || on;
    }
    for (int64_t i = in1; i < positions; i++) to[i * s->direction] = s->zeros;
    if (any) {
      w[rows++] = v->w[r];
      from += positions;
    }
  }
  return rows;
}

static void sum_block(const rows_plan *s, const seen *v, int64_t sample, const int64_t *at, float *y, int64_t c, int64_t n, float *sums) {
  const mt_taps *t = s->taps;
  const float *from[MOST_ROWS * POSITIONS], *w[MOST_ROWS];
  mt_tile_rows b = {.from = from, .w = w, .width = s->width, .stride = t->mul[s->last], .group = t->channels, .lanes = s->lanes};
  b.rows = point(s, v, c, n, from, w);
  const int64_t step = t->y_step[s->last], mul = t->mul[s->last];
  if (b.rows > 0 && s->fetches) {
    // A block's share of what a later one reads, in the order of memory. Behind the end of a row follows the row of the next line.
    const bool both = s->last > 0 && t->mul[s->last - 1] > 1 && v->newest[1];
    int64_t far = (c + n) * mul * t->x_step[s->last] + AHEAD / (int64_t)sizeof(float);
    far += both && far >= t->size[s->last] * t->x_step[s->last] ? t->x_step[s->last - 1] : 0;
    for (int32_t i = 0; i < 2; i++) b.ahead[i] = (uintptr_t)v->newest[both ? i : 0] + (uintptr_t)far * sizeof(float);
    b.fetch = (n * mul + b.rows - 1) / b.rows;
    b.streams = both ? 2 : 1;
  }
  if (!sums) {
    b.away = s->away;
    b.bias = t->bias;
    b.behind = t->behind;
    y += c * step;
    s->tile->near_rows(&b, s->direction > 0 ? y : y + (n - 1) * step, s->direction * step, n);
    return;
  }
  float scale[BLOCK], gate[BLOCK];
  void *to[BLOCK];
  const int64_t scale_at = mt_taps_at(t, &t->scale, sample, at), gate_at = mt_taps_at(t, &t->gate, sample, at);
  for (int64_t m = 0; m < n; m++) {
    scale[m] = t->scale.data ? ((const float *)t->scale.data)[scale_at + (c + m) * t->scale.step[s->last]] : 1;
    gate[m] = t->gate.data ? ((const float *)t->gate.data)[gate_at + (c + m) * t->gate.step[s->last]] : 1;
    to[m] = y + (c + m) * step;
  }
  s->tile->near_rows(&b, s->direction > 0 ? sums : sums + (n - 1) * s->lanes, s->direction * s->lanes, n);
  s->tile->finish[0](to, sums, s->lanes, t->bias, scale, gate, t->behind, 0, n, s->lanes);
}

// Pixels of the next block of a run of n: eights and sevens where that is possible.
static int64_t next_block(int64_t n) {
  const int64_t blocks = (n + BLOCK - 1) / BLOCK;
  return n >= BLOCK - 1 && n >= (BLOCK - 1) * blocks ? (n == BLOCK * blocks ? BLOCK : BLOCK - 1) : n >= BLOCK ? BLOCK : n >= 4 ? 4 : 1;
}

static void clear(const rows_plan *s, float *y, int64_t n) {
  const int64_t step = s->taps->y_step[s->last];
  if (step == s->lanes || n == 1) {
    mt_zero(y, sizeof(float) * (size_t)(n * s->lanes), s->away);
    return;
  }
  for (int64_t i = 0; i < n; i++) memset(y + i * step, 0, sizeof(float) * (size_t)s->lanes);
}

static void sum_lines(void *context, int64_t begin, int64_t end) {
  const rows_plan *s = context;
  const mt_taps *t = s->taps;
  const int64_t columns = t->grid[s->last];
  const int32_t slot = s->sums ? mt_slot_take(s->taken, mt_threads_get()) : 0;
  float *sums = s->sums ? s->sums + slot * BLOCK * s->lanes : NULL;
  for (int64_t line = begin; line < end; line++) {
    int64_t at[MT_TAPS_DIMS] = {0}, rest = line;
    for (int32_t d = s->last - 1; d >= 0; d--) {
      at[d] = rest % t->grid[d];
      rest /= t->grid[d];
    }
    float *y = (float *)t->y + rest * t->y_sample;
    for (int32_t d = 0; d < s->last; d++) {
      y += at[d] * t->y_step[d];
    }
    const uint8_t *active = t->active.data ? (const uint8_t *)t->active.data + mt_taps_at(t, &t->active, rest, at) : NULL;
    const int64_t step = t->active.step[s->last];
    seen v = {.count = -1};
    for (int64_t c = 0, stop; c < columns; c = stop) {
      const bool on = active == NULL || active[c * step];
      stop = active ? mt_flags_end(active, step, c, columns, on) : columns;
      if (!on) {
        if (!t->leave) {
          clear(s, y + c * t->y_step[s->last], stop - c);
        }
        continue;
      }
      if (v.count < 0) {
        see(s, &v, rest, at);
      }
      const int64_t first = c;
      for (int64_t n; c < stop; c += n) {
        n = next_block(stop - c);
        if (n < BLOCK - 1 && stop - c != n && stop - first >= BLOCK - 1) {
          n = BLOCK - 1;  // the last block begins inside the one before: cheaper than several small ones
          c = stop - n;
        }
        sum_block(s, &v, rest, at, y, c, n, sums);
      }
    }
  }
  if (s->away) {
    mt_zero_fence();
  }
  if (sums) {
    mt_slot_return(s->taken, slot);
  }
}

// ---- all of them ----------------------------------------------------------------------------------------------------------

static void pack(const rows_plan *s) {
  const mt_taps *t = s->taps;
  float *to = s->packed;
  for (int64_t j = 0; j < t->taps; j++) {
    for (int64_t c = 0; c < t->channels; c++, to += s->lanes) {
      const float *w = (const float *)t->w + t->w_tap[j] + c * t->w_channel;
      for (int64_t g = 0; g < t->groups; g++) {
        for (int64_t o = 0; o < t->outputs; o++) to[g * t->outputs + o] = w[g * t->w_group + o * t->w_output];
      }
    }
  }
}

static int run(rows_plan *s) {
  const mt_taps *t = s->taps;
  const int64_t threads = mt_threads_get();
  int64_t terms;
  if (!mt_mul(&terms, t->taps * t->channels, s->lanes)) {
    return mt_fail(MT_ERROR_MEMORY, "out of memory: the weights of a convolution do not fit in 64 bits");
  }
  s->packed = mt_alloc_array(terms, (int64_t)sizeof(float));
  s->zeros = s->packed ? mt_alloc_array(s->lanes, (int64_t)sizeof(float)) : NULL;
  if (s->zeros == NULL) {
    return MT_ERROR_MEMORY;
  }
  if (t->scale.data || t->gate.data) {
    s->sums = mt_alloc_array(threads * BLOCK, s->lanes * (int64_t)sizeof(float));
    s->taken = s->sums ? mt_alloc_array(threads, (int64_t)sizeof *s->taken) : NULL;
    if (s->taken == NULL) {
      return MT_ERROR_MEMORY;
    }
    memset(s->taken, 0, sizeof *s->taken * (size_t)threads);
  }
  memset(s->zeros, 0, sizeof(float) * (size_t)s->lanes);
  pack(s);
  const double pixels = (double)s->lines * (double)t->grid[s->last], sizes = (double)t->samples * sizeof(float);
  s->fetches = sizes * (double)t->x_sample >= LARGE;
  s->away = sizes * (double)(t->x_sample + t->y_sample) >= AWAY;
  return mt_parallel(s->lines, pixels * (double)terms < MT_LITTLE ? s->lines : MT_MAX(1, s->lines / TASKS), sum_lines, s);
}

int mt_taps_sum_rows(const mt_taps *t) {
  rows_plan s = {.taps = t, .tile = mt_tile_get(), .lanes = t->groups * t->channels, .last = t->dims - 1, .lines = t->samples};
  cut_rows(t, &s.rows, &s.width, &s.direction);
  for (int32_t d = 0; d < s.last; d++) {
    s.lines *= t->grid[d];
  }
  const int status = run(&s);
  mt_free(s.taken);
  mt_free(s.sums);
  mt_free(s.zeros);
  mt_free(s.packed);
  return status;
}
