// taps_few: sums over taps for few pixels, see taps_plan.h. Every weight is used for so few of them that to pack it, as
// taps_sum.c does, would cost more than the sums: they are read where they lie (tile_few.h). Blocks and the order of terms are
// those of taps_sum.c, so both give the same bits.
#include "taps_plan.h"

enum { PIXELS = 28, CHANNELS = 16 };  // at most two rounds of the registers; a cache line of weights at least

// The pixels for which a tap lies inside the image, and where it lies.
typedef struct {
  int64_t count, pixel[PIXELS];
  const float *x[PIXELS];
} tap_use;

typedef struct {
  mt_taps_plan p;
  int64_t pixels, lanes;
  float *y[PIXELS], scale[PIXELS], gate[PIXELS];
  tap_use *use;
} few_plan;

static int64_t count_pixels(const mt_taps *t) {
  int64_t pixels = t->samples;
  for (int32_t d = 0; d < t->dims && pixels <= PIXELS; d++) {
    pixels *= t->grid[d];
  }
  return pixels;
}

bool mt_taps_has_few_pixels(const mt_taps *t) {
  const mt_tile *tile = mt_tile_get();
  const int64_t lanes = tile->vector / (int64_t)sizeof(float);
  return t->dtype == MT_FLOAT32 && t->groups == 1 && t->w_channel == 1 && t->y_channel == 1 && t->outputs % lanes == 0 &&
         t->channels >= CHANNELS && t->valid.data == NULL && t->active.data == NULL && count_pixels(t) <= MT_MIN(PIXELS, 2 * tile->rows);
}

// Where the pixels lie, and which taps of theirs.
static void place(few_plan *s) {
  const mt_taps *t = s->p.taps;
  const int64_t *grid = s->p.grid;
  for (int64_t i = 0; i < s->pixels; i++) {
    const int64_t at[4] = {i / grid[2] / grid[1] / grid[0], i / grid[2] / grid[1] % grid[0], i / grid[2] % grid[1], i % grid[2]};
    int64_t y = at[0] * t->y_sample, scale = at[0] * s->p.scale.sample, gate = at[0] * s->p.gate.sample;
    for (int32_t d = 0; d < 3; d++) {
      y += at[d + 1] * s->p.y_step[d];
      scale += at[d + 1] * s->p.scale.step[d];
      gate += at[d + 1] * s->p.gate.step[d];
    }
    s->y[i] = (float *)t->y + y;
    s->scale[i] = s->p.scale.data ? ((const float *)s->p.scale.data)[scale] : 1;
    s->gate[i] = s->p.gate.data ? ((const float *)s->p.gate.data)[gate] : 1;
    for (int64_t j = 0; j < s->p.count; j++) {
      tap_use *u = &s->use[j];
      int64_t x = at[0] * t->x_sample;
      bool inside = true;
      for (int32_t d = 0; d < t->dims; d++) {
        const int32_t axis = d + 3 - t->dims;
        const int64_t p = at[axis + 1] * s->p.mul[axis] + t->offset[s->p.tap[j].index][d];
        inside = inside && p >= 0 && p < s->p.size[axis];
        x += p * s->p.x_step[axis];
      }
      if (inside) {
        u->pixel[u->count] = i;
        u->x[u->count++] = (const float *)t->x + x;
      }
    }
  }
}

// The terms [first, first + n) of tap j, at the channels from c on, for the outputs from o on.
static void add_tap(const few_plan *s, float *acc, int64_t j, int64_t c, int64_t n, int64_t o) {
  const mt_taps *t = s->p.taps;
  const tap_use *u = &s->use[j];
  float *to[PIXELS];
  const float *x[PIXELS];
  for (int64_t i = 0; i < u->count; i++) {
    to[i] = acc + u->pixel[i] * s->lanes;
    x[i] = u->x[i] + c;
  }
  s->p.tile->few(to, x, (const float *)t->w + t->w_tap[s->p.tap[j].index] + o * t->w_output + c, t->w_output, n, u->count);
}

static void sum_range(void *context, int64_t begin, int64_t end) {
  const few_plan *s = context;
  const mt_taps *t = s->p.taps;
  const int64_t elements = s->pixels * s->lanes;
  _Alignas(64) float total[PIXELS * MT_TILE_LANES], acc[PIXELS * MT_TILE_LANES];
  for (int64_t o = begin * s->lanes; o < end * s->lanes; o += s->lanes) {
    memset(total, 0, sizeof(float) * (size_t)elements);
    for (int64_t k = 0, next; k < s->p.k; k = next) {
      next = mt_taps_block_end(&s->p, k);
      memset(acc, 0, sizeof(float) * (size_t)elements);
      for (int64_t i = k, n; i < next; i += n) {
        n = MT_MIN(next - i, t->channels - i % t->channels);
        add_tap(s, acc, i / t->channels, i % t->channels, n, o);
      }
      for (int64_t i = 0; i < elements; i++) total[i] += acc[i];
    }
    void *y[PIXELS];
    for (int64_t i = 0; i < s->pixels; i++) {
      y[i] = s->y[i] + o;
    }
    s->p.tile->finish[0](y, total, s->lanes, t->bias ? (const float *)t->bias + o : NULL, s->scale, s->gate, t->behind, o, s->pixels,
                         s->lanes);
  }
}

int mt_taps_sum_few_pixels(const mt_taps *t) {
  few_plan s = {.pixels = count_pixels(t), .lanes = mt_tile_get()->vector / (int64_t)sizeof(float)};
  int status = mt_taps_plan_begin(&s.p, t, t->channels, false);
  s.use = status ? NULL : mt_alloc_array(MT_MAX(1, s.p.count), (int64_t)sizeof *s.use);
  status = status || s.use ? status : MT_ERROR_MEMORY;
  if (status == MT_OK) {
    for (int64_t j = 0; j < s.p.count; j++) {
      s.use[j].count = 0;
    }
    place(&s);
    // Weights are what takes the time: each is read once, and turned.
    const int64_t tasks = t->outputs / s.lanes;
    const double work = (double)t->outputs * (double)s.p.k * (double)(s.pixels + 8);
    status = mt_parallel(tasks, work < 8 * MT_LITTLE ? tasks : 1, sum_range, &s);
  }
  mt_free(s.use);
  mt_taps_plan_end(&s.p);
  return status;
}
