// taps_plan: see taps_plan.h.
#ifdef REAL

static void FN(clear)(const mt_taps_plan *p, REAL *y, int64_t n) {
  const mt_taps *t = p->taps;
  const int64_t step = p->y_step[2];
  if (t->y_channel == 1 && (t->groups == 1 || t->y_group == t->outputs) && (n == 1 || step == t->groups * t->outputs)) {
    mt_zero(y, sizeof(REAL) * (size_t)(n * t->groups * t->outputs), p->away);
    return;
  }
  for (int64_t g = 0; g < t->groups; g++) {
    for (int64_t o = 0; o < t->outputs; o++) {
      REAL *to = y + g * t->y_group + o * t->y_channel;
      for (int64_t i = 0; i < n; i++) to[i * step] = 0;
    }
  }
}

static void FN(factors)(REAL *out, const mt_taps_map *map, int64_t from, int64_t n) {
  for (int64_t i = 0; i < n; i++) out[i] = map->data ? ((const REAL *)map->data)[from + i * map->step[2]] : 1;
}

int64_t FN(mt_taps_pixels)(const mt_taps_plan *p, const mt_band *b, const REAL *from, const void **a, void **y, REAL *scale,
                           REAL *gate) {
  int64_t count = 0;
  for (const mt_span *s = b->span; s < b->span + b->spans; s++) {
    FN(factors)(scale + count, &p->scale, s->scale, s->n);
    FN(factors)(gate + count, &p->gate, s->gate, s->n);
    for (int64_t i = 0; i < s->n; i++, count++) {
      a[count] = p->k > 0 ? from + s->at + i * p->column : from;
      y[count] = (REAL *)s->y + i * p->y_step[2];
    }
  }
  return count;
}

INLINE void FN(copy)(REAL *restrict to, const REAL *restrict from, int64_t n) {
  if (n >= 16) {
    memcpy(to, from, sizeof(REAL) * (size_t)n);
  } else {
    for (int64_t i = 0; i < n; i++) to[i] = from[i];
  }
}

// n pixels of a channel, `step` apart.
static void FN(put_plane)(REAL *to, const REAL *from, int64_t n, int64_t step) {
  if (step == 1) {
    memcpy(to, from, sizeof(REAL) * (size_t)n);
  }
  for (int64_t i = 0; i < n && step != 1; i++) to[i] = from[i * step];
}

// Slots [s0, s1) of one row, all the pixels there or zeros (from NULL), into planes.
static void FN(put_planes)(const mt_taps_plan *p, REAL *row, int64_t s0, int64_t s1, const REAL *from) {
  const int64_t mul = p->mul[2];
  for (int64_t s = s0; s < MT_MIN(s1, s0 + mul); s++) {
    const int64_t n = (s1 - s + mul - 1) / mul;
    for (int64_t c = 0, some; c < p->width; c += some) {
      REAL *to[STRIP];
      some = MT_MIN(STRIP, p->width - c);
      for (int64_t i = 0; i < some; i++) {
        to[i] = row + ((c + i) * mul + s % mul) * p->plane + s / mul;
      }
      const REAL *pixels = from ? from + (s - s0) * p->x_step[2] + c : NULL;
      for (int64_t i = 0; i < some && !from; i++) {
        memset(to[i], 0, sizeof(REAL) * (size_t)n);
      }
      if (from && p->width == 1 && p->x_step[2] * mul == 1) {
        memcpy(to[0], pixels, sizeof(REAL) * (size_t)n);
      } else if (from && p->x_channel != 1) {
        for (int64_t i = 0; i < some; i++) FN(put_plane)(to[i], from + (s - s0) * p->x_step[2] + (c + i) * p->x_channel, n, p->x_step[2] * mul);
      } else if (from) {
        FN(mt_taps_transpose)(to, pixels, p->x_step[2] * mul, some, n);
      }
    }
  }
}

static void FN(put)(const mt_taps_plan *p, REAL *row, int64_t s0, int64_t s1, const REAL *from) {
  const int64_t step = p->stride[3];
  if (s1 <= s0) {
    return;
  }
  if (p->plane) {
    FN(put_planes)(p, row, s0, s1, from);
  } else if (from == NULL) {
    memset(row + s0 * step, 0, sizeof(REAL) * (size_t)((s1 - s0) * step));
  } else if (step == p->width && step == p->x_step[2]) {
    memcpy(row + s0 * step, from, sizeof(REAL) * (size_t)((s1 - s0) * step));
  } else {
    for (int64_t s = s0; s < s1; s++, from += p->x_step[2]) FN(copy)(row + s * step, from, p->width);
  }
}

// The same for slots inside the image; valid: of their pixels, or NULL.
static void FN(put_valid)(const mt_taps_plan *p, REAL *row, int64_t s0, int64_t s1, const REAL *from, const uint8_t *valid) {
  if (p->plane && p->mul[2] == 1 && valid && p->valid.step[2] == 1 && is_ragged(valid, s1 - s0)) {
    FN(put)(p, row, s0, s1, from);
    for (int64_t c = 0; c < p->width; c++) {
      REAL *to = row + c * p->plane + s0;
      for (int64_t i = 0; i < s1 - s0; i++) to[i] = valid[i] ? to[i] : 0;
    }
    return;
  }
  for (int64_t s = s0, end; s < s1; s = end) {
    const bool on = valid == NULL || valid[(s - s0) * p->valid.step[2]];
    end = valid ? s0 + mt_flags_end(valid, p->valid.step[2], s - s0, s1 - s0, on) : s1;
    FN(put)(p, row, s, end, on ? from + (s - s0) * p->x_step[2] : NULL);
  }
}

void FN(mt_taps_fill)(const mt_taps_plan *p, const mt_band *b, void *halo, int64_t channel) {
  if (p->in_place || b->spans == 0) {
    return;
  }
  const uint8_t *mark = row_marks(p, halo);
  // Slots and, in the image, columns of the listed windows.
  const int64_t s0 = (b->first - b->from[3]) * p->mul[2], s1 = (b->last - 1 - b->from[3]) * p->mul[2] + p->high[2] - p->low[2] + 1;
  const int64_t left = b->from[3] * p->mul[2] + p->low[2];
  const int64_t in0 = MT_MAX(s0, MT_MIN(s1, -left)), in1 = MT_MAX(in0, MT_MIN(s1, p->size[2] - left));
  int64_t s[3], at[4];
  for (s[0] = 0; s[0] < p->slots[0]; s[0]++) {
    for (s[1] = 0; s[1] < p->slots[1]; s[1]++) {
      for (s[2] = 0; s[2] < p->slots[2]; s[2]++, mark++) {
        if (!*mark) {
          continue;
        }
        REAL *row = (REAL *)halo + s[0] * p->stride[0] + s[1] * p->stride[1] + s[2] * p->stride[2];
        at[0] = b->from[0] + s[0];
        bool inside = true;
        for (int32_t d = 0; d < 2; d++) {
          at[d + 1] = b->from[d + 1] * p->mul[d] + p->low[d] + s[d + 1];
          inside = inside && at[d + 1] >= 0 && at[d + 1] < p->size[d];
        }
        if (!inside) {
          FN(put)(p, row, s0, s1, NULL);
          continue;
        }
        FN(put)(p, row, s0, in0, NULL);
        if (in1 > in0) {
          const REAL *x = (const REAL *)p->taps->x + at[0] * p->taps->x_sample + at[1] * p->x_step[0] + at[2] * p->x_step[1];
          const uint8_t *valid = p->valid.data ? (const uint8_t *)p->valid.data + map_at(&p->valid, at) + (left + in0) * p->valid.step[2] : NULL;
          FN(put_valid)(p, row, in0, in1, x + (left + in0) * p->x_step[2] + channel * p->x_channel, valid);
        }
        FN(put)(p, row, in1, s1, NULL);
      }
    }
  }
}

#else
#include "taps_plan.h"

#include "flags.h"
#include "slots.h"
#include "zero.h"

#define INLINE static inline

enum { STRIP = 64 };        // channels that are put into planes together

// ---- what the typed half uses ---------------------------------------------------------------------------------------------

static void set_box(const mt_taps_plan *p, mt_band *b, int64_t index) {
  for (int32_t d = 3; d >= 0; d--) {
    const int64_t n = d == 0 ? p->taps->samples : p->grid[d - 1];
    b->from[d] = index % p->bands[d] * p->band[d];
    b->to[d] = MT_MIN(b->from[d] + p->band[d], n);
    index /= p->bands[d];
  }
}

// at: sample and the first two axes
INLINE int64_t map_at(const mt_taps_map *map, const int64_t at[3]) {
  return at[0] * map->sample + at[1] * map->step[0] + at[2] * map->step[1];
}

// A row of flags with runs so short that its pixels are better copied all together and then cleared.
static bool is_ragged(const uint8_t *flag, int64_t n) {
  int64_t changes = 0;
  for (int64_t i = 1; i < n; i++) {
    changes += !flag[i] != !flag[i - 1];
  }
  return 8 * changes > n;
}

// At the halo's end, one byte per row of slots.
static uint8_t *row_marks(const mt_taps_plan *p, void *halo) {
  return (uint8_t *)halo + p->halo_bytes - p->slots[0] * p->slots[1] * p->slots[2];
}

// Elements to the window of the row's first column: of the band in a halo, of the grid in the image.
static int64_t row_window(const mt_taps_plan *p, const mt_band *b, const int64_t at[3]) {
  int64_t window = 0;
  for (int32_t d = 0; d < 3; d++) {
    const int64_t mul = d == 0 ? 1 : p->mul[d - 1];
    window += (at[d] - (p->in_place ? 0 : b->from[d])) * mul * p->stride[d];
  }
  for (int32_t d = 0; d < 3 && p->in_place && p->count > 0; d++) {
    window += p->low[d] * p->x_step[d];
  }
  return window;
}

// The rows of slots that the windows of a row of pixels touch.
static void mark_rows(const mt_taps_plan *p, const mt_band *b, const int64_t at[3], uint8_t *mark) {
  const mt_taps *t = p->taps;
  for (int64_t j = 0; j < p->count; j++) {
    int64_t row = at[0] - b->from[0];
    for (int32_t d = 0; d < 2; d++) {
      const int32_t axis = d - (3 - t->dims);
      const int64_t offset = axis < 0 ? 0 : t->offset[p->tap[j].index][axis];
      row = row * p->slots[d + 1] + (at[d + 1] - b->from[d + 1]) * p->mul[d] + offset - p->low[d];
    }
    mark[row] = 1;
  }
}

#define MT_SOURCE "taps_plan.c"
#include "twice.h"

void mt_taps_list(const mt_taps_plan *p, mt_band *b, int64_t index, void *halo, bool clear) {
  const int64_t size = mt_dtype_size(p->taps->dtype);
  set_box(p, b, index);
  b->spans = 0;
  b->first = b->to[3];
  b->last = b->from[3];
  if (halo && !p->in_place) {
    memset(row_marks(p, halo), 0, (size_t)(p->slots[0] * p->slots[1] * p->slots[2]));
  }
  int64_t at[3];
  for (at[0] = b->from[0]; at[0] < b->to[0]; at[0]++) {
    for (at[1] = b->from[1]; at[1] < b->to[1]; at[1]++) {
      for (at[2] = b->from[2]; at[2] < b->to[2]; at[2]++) {
        const uint8_t *active = p->active.data ? (const uint8_t *)p->active.data + map_at(&p->active, at) : NULL;
        char *y = (char *)p->taps->y + (at[0] * p->taps->y_sample + at[1] * p->y_step[0] + at[2] * p->y_step[1]) * size;
        const int64_t window = row_window(p, b, at), before = b->spans;
        for (int64_t c = b->from[3], end; c < b->to[3]; c = end) {
          const bool on = active == NULL || active[c * p->active.step[2]];
          end = active ? mt_flags_end(active, p->active.step[2], c, b->to[3], on) : b->to[3];
          if (on) {
            b->span[b->spans++] = (mt_span){
                .n = end - c, .at = window + (c - (p->in_place ? 0 : b->from[3])) * p->column, .y = y + c * p->y_step[2] * size,
                .scale = map_at(&p->scale, at) + c * p->scale.step[2], .gate = map_at(&p->gate, at) + c * p->gate.step[2]};
            b->first = MT_MIN(b->first, c);
            b->last = MT_MAX(b->last, end);
          } else if (clear && !p->taps->leave) {
            MT_REAL_CALL(p->taps->dtype, clear, p, (void *)(y + c * p->y_step[2] * size), end - c);
          }
        }
        if (halo && !p->in_place && b->spans > before) {
          mark_rows(p, b, at, row_marks(p, halo));
        }
      }
    }
  }
}

// ---- taps -------------------------------------------------------------------------------------------------------------------

// Some pixel's tap j is inside the image.
static bool is_used(const mt_taps *t, int64_t j) {
  for (int32_t d = 0; d < t->dims; d++) {
    const int64_t offset = t->offset[j][d], first = offset < 0 ? (-offset + t->mul[d] - 1) / t->mul[d] : 0;
    if (first >= t->grid[d] || first * t->mul[d] + offset >= t->size[d]) {
      return false;
    }
  }
  return true;
}

static void use_taps(mt_taps_plan *p) {
  const mt_taps *t = p->taps;
  for (int64_t j = 0; j < t->taps; j++) {
    if (!is_used(t, j)) {
      continue;
    }
    for (int32_t d = 0; d < t->dims; d++) {
      const int32_t axis = d + 3 - t->dims;
      const int64_t offset = t->offset[j][d];
      p->low[axis] = p->count == 0 ? offset : MT_MIN(p->low[axis], offset);
      p->high[axis] = p->count == 0 ? offset : MT_MAX(p->high[axis], offset);
    }
    p->tap[p->count++].index = j;
  }
  p->k = p->count * t->channels;
}

static void place_taps(mt_taps_plan *p) {
  const mt_taps *t = p->taps;
  for (int64_t j = 0; j < p->count; j++) {
    p->tap[j].at = 0;
    for (int32_t d = 0; d < t->dims; d++) {
      const int32_t axis = d + 3 - t->dims;
      const int64_t distance = t->offset[p->tap[j].index][d] - p->low[axis];
      p->tap[j].at += axis == 2 && p->plane ? distance % p->mul[2] * p->plane + distance / p->mul[2] : distance * p->stride[axis + 1];
    }
  }
}

// Blocks are cut by the taps' numbers among all, not among those in use: a tap that this image does not need leaves the blocks
// of the others, and so every bit, as they are.
int64_t mt_taps_block_end(const mt_taps_plan *p, int64_t k0) {
  const int64_t channels = p->taps->channels;
  int64_t j = k0 / channels;
  if (channels > MT_TILE_K) {
    return MT_MIN(k0 + MT_TILE_K, (j + 1) * channels);
  }
  const int64_t whole = MT_TILE_K / channels, group = p->tap[j].index / whole;
  while (j < p->count && p->tap[j].index / whole == group) {
    j++;
  }
  return j * channels;
}

// ---- bands ------------------------------------------------------------------------------------------------------------------

static mt_taps_map three_axes(const mt_taps_map *map, int32_t dims) {
  mt_taps_map result = {.data = map->data, .sample = map->sample};
  for (int32_t d = 0; d < dims; d++) {
    result.step[d + 3 - dims] = map->step[d];
  }
  return result;
}

static void normalise(mt_taps_plan *p) {
  const mt_taps *t = p->taps;
  for (int32_t axis = 0; axis < 3; axis++) {
    const int32_t d = axis - (3 - t->dims);
    p->size[axis] = d < 0 ? 1 : t->size[d];
    p->grid[axis] = d < 0 ? 1 : t->grid[d];
    p->mul[axis] = d < 0 ? 1 : t->mul[d];
    p->x_step[axis] = d < 0 ? 0 : t->x_step[d];
    p->y_step[axis] = d < 0 ? 0 : t->y_step[d];
  }
  p->valid = three_axes(&t->valid, t->dims);
  p->active = three_axes(&t->active, t->dims);
  p->scale = three_axes(&t->scale, t->dims);
  p->gate = three_axes(&t->gate, t->dims);
}

// Neighbouring pixels at such a distance compete for the same lines of the first cache.
static bool collides(const mt_taps_plan *p, int64_t step) {
  return step * mt_dtype_size(p->taps->dtype) % 2048 == 0;
}

static bool can_stay(const mt_taps_plan *p) {
  if (p->count == 0) {
    return true;
  }
  int64_t step = p->taps->x_sample, pixels = p->taps->samples;
  for (int32_t d = 0; d < 3; d++) {
    if (p->low[d] < 0 || (p->grid[d] - 1) * p->mul[d] + p->high[d] >= p->size[d]) {
      return false;
    }
    step = p->grid[d] > 1 ? p->mul[d] * p->x_step[d] : step;
    pixels *= p->grid[d];
  }
  return p->valid.data == NULL && !(collides(p, step) && pixels > p->tile->rows);
}

// Slots of a band of n along an axis.
static int64_t extent(const mt_taps_plan *p, int32_t d, int64_t n) {
  return d == 0 ? n : (n - 1) * p->mul[d - 1] + p->high[d - 1] - p->low[d - 1] + 1;
}

static void cut_bands(mt_taps_plan *p) {
  const int64_t *grid = p->grid, all = p->taps->samples * grid[0] * grid[1] * grid[2];
  int64_t most = MT_MAX(MT_BAND_LEAST, MT_MIN(MT_BAND_PIXELS, all / MT_BAND_TASKS));
  double slots = (double)(p->in_place ? 0 : p->width * mt_dtype_size(p->taps->dtype)) / MT_BAND_BYTES;
  for (int32_t d = 0; d < 4; d++) {
    p->band[d] = 1;
    slots *= (double)extent(p, d, 1);
  }
  p->band_count = 1;
  for (int32_t d = 3; d >= 0; d--) {
    const int64_t n = d == 0 ? p->taps->samples : grid[d - 1];
    int64_t length = MT_MIN(n, most);
    // The longest that fits; the part of the halo along this axis grows with it.
    const double others = slots / (double)extent(p, d, 1);
    while (length > 1 && others * (double)extent(p, d, length) > 1) {
      length = MT_MAX(1, length - MT_MAX(1, length / 8));
    }
    const int64_t parts = (n + length - 1) / length;
    p->band[d] = (n + parts - 1) / parts;
    p->bands[d] = (n + p->band[d] - 1) / p->band[d];
    p->band_count *= p->bands[d];
    most /= p->band[d];
    slots = others * (double)extent(p, d, p->band[d]);
    if (most < 1) {
      most = 1;
    }
  }
}

static int place_halo(mt_taps_plan *p, bool planes) {
  const int64_t size = mt_dtype_size(p->taps->dtype), line = 64 / size, mul = p->mul[2];
  int64_t elements;
  bool fits = true;
  if (p->in_place) {
    p->stride[0] = p->taps->x_sample;
    memcpy(p->stride + 1, p->x_step, sizeof p->x_step);
    p->column = mul * p->x_step[2];
    return MT_OK;
  }
  for (int32_t d = 0; d < 4; d++) {
    p->slots[d] = extent(p, d, p->band[d]);
  }
  p->stride[3] = planes ? 1 : p->width + (p->width * mul * size % 1024 == 0 ? line : 0);
  p->column = planes ? 1 : p->stride[3] * mul;
  fits = mt_mul(&p->stride[2], planes ? (p->slots[3] + mul - 1) / mul : p->slots[3], p->stride[3]) &&
         mt_mul(&p->stride[1], p->slots[2], p->stride[2]) && mt_mul(&p->stride[0], p->slots[1], p->stride[1]) &&
         mt_mul(&elements, p->slots[0], p->stride[0]);
  if (fits && planes) {
    p->plane = (elements / line | 1) * line + 2 * line;  // an odd number of cache lines, and one more than needed
    fits = mt_mul(&elements, p->plane, mul) && mt_mul(&elements, elements, p->width);
  }
  fits = fits && mt_mul(&p->halo_bytes, elements, size) &&
         mt_add(&p->halo_bytes, p->halo_bytes, p->slots[0] * p->slots[1] * p->slots[2] + 64 * (MT_TILE_PLANES + 2));
  p->halo_bytes = p->halo_bytes / 64 * 64;
  return fits ? MT_OK : mt_fail(MT_ERROR_MEMORY, "out of memory: the pixels of a convolution do not fit in 64 bits");
}

int mt_taps_plan_begin(mt_taps_plan *p, const mt_taps *t, int64_t width, bool planes) {
  *p = (mt_taps_plan){.taps = t, .tile = mt_tile_get(), .width = width, .x_channel = t->x_channel ? t->x_channel : 1};
  p->tap = mt_alloc_array(t->taps, (int64_t)sizeof *p->tap);
  if (p->tap == NULL) {
    return MT_ERROR_MEMORY;
  }
  normalise(p);
  use_taps(p);
  p->away = (double)t->samples * (double)(p->grid[0] * p->grid[1] * p->grid[2]) * (double)(t->groups * t->outputs) *
                (double)mt_dtype_size(t->dtype) >= MT_ZERO_AWAY;
  p->in_place = !planes && can_stay(p);
  cut_bands(p);
  MT_TRY(place_halo(p, planes));
  place_taps(p);
  return MT_OK;
}

int mt_taps_plan_halos(mt_taps_plan *p, int64_t extra) {
  const int64_t halos = mt_threads_get();
  if (!mt_add(&p->bytes, p->halo_bytes, extra) || !mt_add(&p->bytes, p->bytes, 63)) {
    return mt_fail(MT_ERROR_MEMORY, "out of memory: the pixels of a convolution do not fit in 64 bits");
  }
  p->bytes = p->bytes / 64 * 64;
  if (p->bytes == 0) {
    return MT_OK;
  }
  p->halos = mt_alloc_array(halos, p->bytes);
  p->taken = p->halos ? mt_alloc_array(halos, (int64_t)sizeof *p->taken) : NULL;
  if (p->taken == NULL) {
    return MT_ERROR_MEMORY;
  }
  memset(p->taken, 0, sizeof *p->taken * (size_t)halos);
  return MT_OK;
}

void mt_taps_plan_end(mt_taps_plan *p) {
  mt_free(p->taken);
  mt_free(p->halos);
  mt_free(p->tap);
}

void *mt_taps_halo_take(const mt_taps_plan *p) {
  if (p->bytes == 0) {
    return NULL;
  }
  return p->halos + mt_slot_take(p->taken, mt_threads_get()) * p->bytes;
}

void mt_taps_halo_return(const mt_taps_plan *p, const void *halo) {
  if (halo) {
    mt_slot_return(p->taken, (int32_t)(((const char *)halo - p->halos) / p->bytes));
  }
}

#endif
