// taps_wide: see taps_wide.h.
#ifdef REAL

// Pixels [begin, end) of the image, from `p` on, side by side.
static void FN(copy_pixels)(REAL *to, const REAL *from, int64_t step, int64_t count, int64_t channels) {
  if (step == channels) {
    memcpy(to, from, sizeof(REAL) * (size_t)(count * channels));
    return;
  }
  for (int64_t i = 0; i < count; i++, from += step) {
    for (int64_t c = 0; c < channels; c++) *to++ = from[c];
  }
}

// The rows [begin, end) of the copy, all groups.
static void FN(copy_rows)(void *context, int64_t begin, int64_t end) {
  const mt_taps_wide *w = context;
  const mt_taps *t = w->narrow;
  const int32_t last = t->dims - 1;
  for (int64_t row = begin; row < end; row++) {
    const int64_t *range = w->range[row];
    const struct mt_taps_span *v = NULL, *v_end = NULL;
    struct mt_taps_span all;
    int64_t x;
    if (range[0] >= range[1]) {
      continue;
    }
    // Positions count in the copy; the image begins at -low.
    const int64_t shift = w->low[last];
    if (find_row(w, row, &x, &v, &v_end) && v == NULL) {
      all = (struct mt_taps_span){0, t->size[last]};
      v = &all;
      v_end = v + 1;
    }
    for (int64_t g = 0; g < t->groups; g++) {
      REAL *to = (REAL *)(uintptr_t)w->taps.x + (row * t->groups + g) * w->x_group;
      int64_t at = range[0];
      for (const struct mt_taps_span *k = v; k < v_end; k++) {
        const int64_t from = MT_MAX(at, k->begin - shift), until = MT_MIN(range[1], k->end - shift);
        if (from >= until) {
          continue;
        }
        memset(to + at * t->channels, 0, sizeof(REAL) * (size_t)((from - at) * t->channels));
        FN(copy_pixels)(to + from * t->channels, (const REAL *)t->x + x + (from + shift) * t->x_step[last] + g * t->channels,
                        t->x_step[last], until - from, t->channels);
        at = until;
      }
      memset(to + at * t->channels, 0, sizeof(REAL) * (size_t)((range[1] - at) * t->channels));
    }
  }
}

static void FN(finish)(const mt_taps_wide *w) {
  const mt_taps *t = w->narrow;
  const REAL *from = w->taps.w;
  for (int64_t j = 0; j < t->taps; j += w->width) {
    for (int64_t g = 0; g < t->groups; g++) {
      for (int64_t o = 0; o < t->outputs; o++) {
        for (int64_t k = 0; k < w->width; k++) {
          REAL *to = (REAL *)(uintptr_t)t->w + t->w_tap[j + k] + g * t->w_group + o * t->w_output;
          for (int64_t c = 0; c < t->channels; c++) to[c * t->w_channel] = *from++;
        }
      }
    }
  }
}

#else
#include "taps_wide.h"

enum {
  WIDEST = 64,             // channels of a wide tap
  COPY_BYTES = 1 << 23,    // of samples copied at a time
};

// Row `row` of the copy in the image: its offset, and its valid pixels (NULL: all). False, and no pixels, when it is outside.
static bool find_row(const mt_taps_wide *w, int64_t row, int64_t *x, const struct mt_taps_span **v,
                     const struct mt_taps_span **v_end) {
  const mt_taps *t = w->narrow;
  const int64_t sample = w->first + row / w->rows;
  int64_t rest = row % w->rows, number = 0, step = 1;
  *x = sample * t->x_sample;
  for (int32_t d = t->dims - 2; d >= 0; d--) {
    const int64_t at = rest % w->taps.size[d] + w->low[d];
    rest /= w->taps.size[d];
    if (at < 0 || at >= t->size[d]) {
      return false;
    }
    *x += at * t->x_step[d];
    number += at * step;
    step *= t->size[d];
  }
  if (w->valid->first) {
    number += t->valid.sample == 0 ? 0 : sample * step;
    *v = w->valid->run + w->valid->first[number];
    *v_end = w->valid->run + w->valid->first[number + 1];
    return *v < *v_end;
  }
  return true;
}

#define MT_SOURCE "taps_wide.c"
#include "twice.h"

// Taps of a row that read neighbouring pixels.
static int64_t row_width(const mt_taps *t) {
  const int32_t last = t->dims - 1;
  int64_t width = 1;
  while (width < t->taps && t->offset[width][last] == t->offset[0][last] + width) {
    width++;
  }
  for (int64_t j = 0; j < t->taps; j++) {
    for (int32_t d = 0; d <= last; d++) {
      if (t->taps % width != 0 || t->offset[j][d] != t->offset[j - j % width][d] + (d == last ? j % width : 0)) {
        return 1;
      }
    }
  }
  return width;
}

void mt_taps_wide_plan(mt_taps_wide *w, const mt_taps *t, const mt_taps_spans *active, const mt_taps_spans *valid) {
  const int32_t last = t->dims - 1;
  *w = (mt_taps_wide){.taps = *t, .narrow = t, .active = active, .valid = valid, .width = 1};
  const int64_t width = t->taps > 1 && t->channels > 0 && t->channels <= WIDEST ? row_width(t) : 1;
  if (width == 1 || width * t->channels > WIDEST) {
    return;
  }
  mt_taps *wide = &w->taps;
  wide->taps = t->taps / width;
  wide->channels = t->channels * width;
  wide->valid.data = NULL;
  w->rows = 1;
  for (int32_t d = 0; d <= last; d++) {
    int64_t low = t->offset[0][d], high = low;
    for (int64_t j = 0; j < t->taps; j++) {
      low = MT_MIN(low, t->offset[j][d]);
      high = MT_MAX(high, t->offset[j][d]);
    }
    w->low[d] = low;
    if (!mt_mul(&wide->size[d], t->grid[d] - 1, t->mul[d]) || !mt_add(&wide->size[d], wide->size[d], high - low + 1)) {
      return;
    }
    if (d < last && !mt_mul(&w->rows, w->rows, wide->size[d])) {
      return;
    }
  }
  if (!mt_mul(&w->x_group, wide->size[last], t->channels) || !mt_mul(&wide->x_sample, w->x_group, t->groups) ||
      !mt_mul(&wide->x_sample, wide->x_sample, w->rows) || wide->x_sample > COPY_BYTES) {
    return;  // one sample must do
  }
  wide->x_step[last] = t->channels;
  int64_t step = w->x_group * t->groups;
  for (int32_t d = last - 1; d >= 0; d--) {
    wide->x_step[d] = step;
    step *= wide->size[d];
  }
  w->samples = MT_MAX(1, MT_MIN(t->samples, COPY_BYTES / mt_dtype_size(t->dtype) / MT_MAX(1, wide->x_sample)));
  wide->w_channel = 1;
  wide->w_output = wide->channels;
  wide->w_group = wide->channels * t->outputs;
  w->width = width;
}

int mt_taps_wide_start(mt_taps_wide *w) {
  const mt_taps *t = w->narrow;
  const int64_t weights = t->groups * w->taps.w_group, size = mt_dtype_size(t->dtype);
  w->range = mt_alloc_array(w->samples * w->rows, (int64_t)sizeof *w->range);
  int64_t(*offset)[MT_TAPS_DIMS] = w->block = mt_alloc_array(w->taps.taps, (int64_t)(sizeof *offset + sizeof *w->w_tap));
  w->taps.x = mt_alloc_array(w->samples * w->taps.x_sample, size);
  w->taps.w = mt_alloc_array(w->taps.taps * weights, size);
  if (w->range == NULL || w->block == NULL || w->taps.x == NULL || w->taps.w == NULL) {
    return MT_ERROR_MEMORY;
  }
  w->w_tap = (int64_t *)(offset + w->taps.taps);
  for (int64_t j = 0; j < w->taps.taps; j++) {
    for (int32_t d = 0; d < t->dims; d++) {
      offset[j][d] = t->offset[j * w->width][d] - w->low[d];
    }
    w->w_tap[j] = j * weights;
  }
  w->taps.offset = (const int64_t(*)[MT_TAPS_DIMS])offset;
  w->taps.w_tap = w->w_tap;
  return MT_OK;
}

// Marks what the active pixels of one row of the grid read.
static void mark_row(const mt_taps_wide *w, int64_t sample, const int64_t *at, const struct mt_taps_span *begin,
                     const struct mt_taps_span *end) {
  const mt_taps *t = &w->taps;
  const int32_t last = t->dims - 1;
  for (int64_t j = 0; j < t->taps && begin < end; j++) {
    int64_t row = sample;
    for (int32_t d = 0; d < last; d++) {
      row = row * t->size[d] + at[d] * t->mul[d] + t->offset[j][d];
    }
    int64_t *range = w->range[row];
    range[0] = MT_MIN(range[0], begin->begin * t->mul[last]);
    range[1] = MT_MAX(range[1], (end[-1].end - 1) * t->mul[last] + w->width);
  }
}

int mt_taps_wide_load(mt_taps_wide *w, int64_t first) {
  const mt_taps *t = w->narrow;
  const int32_t last = t->dims - 1;
  w->first = first;
  w->end = MT_MIN(first + w->samples, t->samples);
  const int64_t rows = (w->end - first) * w->rows;
  for (int64_t row = 0; row < rows; row++) {
    w->range[row][0] = w->active->first ? w->taps.size[last] : 0;
    w->range[row][1] = w->active->first ? 0 : w->taps.size[last];
  }
  for (int64_t n = first; n < w->end && w->active->first; n++) {
    int64_t at[MT_TAPS_DIMS] = {0}, number = 0, own = 1;
    for (int32_t d = 0; d < last; d++) {
      own *= t->grid[d];
    }
    number = t->active.sample == 0 ? 0 : n * own;
    for (int64_t k = 0; k < own; k++, number++) {
      mark_row(w, n - first, at, w->active->run + w->active->first[number], w->active->run + w->active->first[number + 1]);
      for (int32_t d = last - 1; d >= 0 && ++at[d] == t->grid[d]; d--) {
        at[d] = 0;
      }
    }
  }
  const int64_t elements = MT_MAX(1, w->x_group * t->groups);
  return mt_parallel(rows, MT_MAX(1, 16384 / elements), MT_REAL_FN(t->dtype, copy_rows), w);
}

void mt_taps_wide_finish(const mt_taps_wide *w) { MT_REAL_CALL(w->narrow->dtype, finish, w); }

void mt_taps_wide_free(mt_taps_wide *w) {
  if (w->width > 1) {
    mt_free(w->range);
    mt_free(w->block);
    mt_free((void *)(uintptr_t)w->taps.x);
    mt_free((void *)(uintptr_t)w->taps.w);
  }
}

#endif
