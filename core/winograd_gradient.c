// winograd_gradient: the gradient of weights by the Winograd transform; see winograd.h. Blocks of tiles, two phases each: pixels
// and gradients into points; one matrix product per point, added to the sums. At the end the sums become weights.
#include "tile.h"
#include "winograd_points.h"
#include "winograd_tiles.h"

enum {
  BLOCK = 224,              // tiles that add up from 0 before they join the sums: part of the definition of the result;
  SHORT_BLOCK = 56,         // in two axes, where that keeps all but the sums in the caches, which are read and written once per block:
  SHORT_SUMS = 24576,       // up to so many weights of a point
  CHANNELS = 56,            // of one task of a product, a multiple of the rows of the micro-kernels
  TURNED = 16,              // channels whose weights are written together
  MIN_TILES = 16,           // of all samples: below, writing the weights is most of the work
  LITTLE_WINDOW = 9,        // with phases: of so few weights; their points are read and written more slowly than multiplied
  LITTLE = 500000,          // multiplications that are not worth a second thread
};

typedef struct {
  const mt_wino_form *form;
  const mt_taps *taps;      // of one group
  const mt_tile *kernel;
  const mt_wino_list *l;
  int64_t channels;         // of all slices
  int64_t terms[WINO_IN * WINO_IN];  // of those that have a point
  int64_t padded;           // lanes of all panels of outputs
  int64_t x_step, y_step;   // between the points of one tile and the next: an odd number of cache lines
  int64_t room;             // for tiles, no more than there are: small parts stay in the caches; odd, as x_step
  float *pixels, *gradients;// [point][room][x_step], [y_step]
  float *sums;              // [point][channel][padded]
  int64_t sums_step;        // between points: an odd number of cache lines
  int64_t block;            // tiles of a block at most
  int64_t first, tiles;     // of the block
  int64_t *count;           // of each point, the tiles that have it
  int16_t *row;             // [tile][point]: its number among them
  int64_t chunks;           // of channels
  bool add;                 // to what the weights are
} wino_gradient;

static void load(wino_lanes *to, const float *from, int64_t n) {
  if (n >= WINO_LANES) {
    *to = *(const wino_lanes *)from;
  } else {
    for (int64_t l = 0; l < WINO_LANES; l++) (*to)[l] = l < n ? from[l] : 0;
  }
}

// One tile that reads down x across; `ahead`: pixels that are read next.
MT_VECTOR void tile_pixels(const wino_gradient *s, const float *const *pixel, const float *const *ahead, int64_t slice,
                           const int16_t *row, int down, int across) {
  const mt_taps *t = s->taps;
  const int8_t *down_point = wino_points[down], *across_point = wino_points[across];
  int64_t at[WINO_IN * WINO_IN];
  for (int p = 0; p < WINO_IN * WINO_IN; p++) at[p] = mt_wino_slot(s->form, (int32_t)slice, p) * t->channels;
  for (int64_t c = 0; c < t->channels; c += WINO_LANES) {
    wino_lanes d[WINO_IN * WINO_IN];
    for (int r = 0; r < wino_values(down); r++) {
      for (int k = 0; k < wino_values(across); k++) {
        const int p = r * WINO_IN + k;
        d[p] = (wino_lanes){0};
        __builtin_prefetch(ahead[p] + c);
        if (pixel[p]) {
          load(&d[p], pixel[p] + c, t->channels - c);
        }
      }
      wino_input(d + r * WINO_IN, 1, across);
    }
    for (int k = 0; k < wino_values(across) && down > 1; k++) wino_input(d + across_point[k], WINO_IN, down);
    for (int r = 0; r < wino_values(down); r++) {
      for (int k = 0; k < wino_values(across); k++) {
        const int p = down_point[r] * WINO_IN + across_point[k];
        if (at[p] >= 0) {
          float *to = s->pixels + (p * s->room + row[p]) * s->x_step + at[p] + c;
          __builtin_prefetch(to + s->x_step, 1);
          *(wino_lanes *)to = d[p];
        }
      }
    }
  }
}

// Tiles [begin, end) of the block.
static WINO_CLONES void transform_pixels(const wino_gradient *s, int64_t begin, int64_t end) {
  const float *pixel[WINO_IN * WINO_IN], *ahead[WINO_IN * WINO_IN];
  const mt_wino_tile *tile = s->l->tile + s->first;
  const int32_t slices = mt_wino_slices(s->form);
  mt_wino_pixels(s->form, s->taps, &tile[begin], 0, ahead);
  for (int64_t k = begin * slices; k < end * slices; k++) {
    const int64_t i = k / slices, slice = k % slices, next = MT_MIN(k + 1, s->tiles * slices - 1);
    const int16_t *row = s->row + i * WINO_IN * WINO_IN;
    memcpy(pixel, ahead, sizeof pixel);
    mt_wino_pixels(s->form, s->taps, &tile[next / slices], (int32_t)(next % slices), ahead);
    if (tile[i].reads[0] == 1 && tile[i].reads[1] == WINO_IN) {
      tile_pixels(s, pixel, ahead, slice, row, 1, WINO_IN);
    } else if (tile[i].reads[0] == WINO_IN && tile[i].reads[1] == WINO_IN) {
      tile_pixels(s, pixel, ahead, slice, row, WINO_IN, WINO_IN);
    } else {
      tile_pixels(s, pixel, ahead, slice, row, tile[i].reads[0], tile[i].reads[1]);
    }
  }
}

// The gradients of a tile's outputs; NULL for those that are outside or not active.
static void find_gradients(const wino_gradient *s, const mt_wino_tile *tile, const float *gradient[WINO_OUT * WINO_OUT]) {
  const mt_taps *t = s->taps;
  for (int j = 0; j < WINO_OUT * WINO_OUT; j++) gradient[j] = NULL;
  for (int64_t r = 0; r < tile->outputs[0]; r++) {
    for (int64_t k = 0; k < tile->outputs[1]; k++) {
      int64_t at[MT_TAPS_DIMS], offset = tile->sample * t->y_sample;
      const bool counts = mt_wino_output(t, tile, r, k, at) &&
                          (t->active.data == NULL ||
                           ((const uint8_t *)t->active.data)[mt_taps_at(t, &t->active, tile->sample, at)]);
      for (int32_t d = 0; d < t->dims; d++) offset += at[d] * t->y_step[d];
      gradient[r * WINO_OUT + k] = counts ? (const float *)t->y + offset : NULL;
    }
  }
}

// One tile that reads down x across; `ahead`: gradients that are read next.
MT_VECTOR void tile_gradients(const wino_gradient *s, const mt_wino_tile *tile, const float *const *gradient, const float *const *ahead,
                              const int16_t *row, int down, int across) {
  const mt_taps *t = s->taps;
  const int rows = tile->outputs[0], columns = tile->outputs[1];
  const int8_t *down_point = wino_points[down], *across_point = wino_points[across];
  wino_lanes y[WINO_OUT * WINO_OUT] = {{0}}, half[WINO_OUT * WINO_IN] = {{0}};
  for (int64_t o = 0; o < s->y_step - WINO_LANES; o += WINO_LANES) {
    wino_lanes z[WINO_IN * WINO_IN];
    for (int r = 0; r < rows; r++) {
      for (int k = 0; k < columns; k++) {
        const int j = r * WINO_OUT + k;
        y[j] = (wino_lanes){0};
        __builtin_prefetch(ahead[j] + o);
        if (gradient[j] && o < t->outputs) {
          load(&y[j], gradient[j] + o, t->outputs - o);
        }
      }
    }
    if (down == 1) {
      wino_output_adjoint(z, 1, y, 1, columns);
    } else {
      for (int r = 0; r < rows; r++) wino_output_adjoint(half + r * WINO_IN, 1, y + r * WINO_OUT, 1, columns);
      for (int k = 0; k < wino_values(across); k++) wino_output_adjoint(z + across_point[k], WINO_IN, half + across_point[k], WINO_IN, rows);
    }
    for (int r = 0; r < wino_values(down); r++) {
      for (int k = 0; k < wino_values(across); k++) {
        const int p = down_point[r] * WINO_IN + across_point[k];
        *(wino_lanes *)(s->gradients + (p * s->room + row[p]) * s->y_step + o) = z[p];
      }
    }
  }
}

static WINO_CLONES void transform_gradients(const wino_gradient *s, int64_t begin, int64_t end) {
  const float *gradient[WINO_OUT * WINO_OUT], *ahead[WINO_OUT * WINO_OUT];
  const mt_wino_tile *tile = s->l->tile + s->first;
  find_gradients(s, &tile[begin], ahead);
  for (int64_t i = begin; i < end; i++) {
    const int16_t *row = s->row + i * WINO_IN * WINO_IN;
    memcpy(gradient, ahead, sizeof gradient);
    find_gradients(s, &tile[MT_MIN(i + 1, s->tiles - 1)], ahead);
    if (tile[i].reads[0] == 1 && tile[i].reads[1] == WINO_IN) {
      tile_gradients(s, &tile[i], gradient, ahead, row, 1, WINO_IN);
    } else if (tile[i].reads[0] == WINO_IN && tile[i].reads[1] == WINO_IN) {
      tile_gradients(s, &tile[i], gradient, ahead, row, WINO_IN, WINO_IN);
    } else {
      tile_gradients(s, &tile[i], gradient, ahead, row, tile[i].reads[0], tile[i].reads[1]);
    }
  }
}

static void transform_range(void *context, int64_t begin, int64_t end) {
  transform_pixels(context, begin, end);
  transform_gradients(context, begin, end);
}

// One task: a point and some channels, all outputs.
static void product_range(void *context, int64_t begin, int64_t end) {
  const wino_gradient *s = context;
  for (int64_t task = begin; task < end; task++) {
    const int64_t p = task / s->chunks, c = task % s->chunks * CHANNELS, rows = MT_MIN(CHANNELS, s->terms[p] - c);
    if (rows <= 0) {
      continue;
    }
    const float *a = s->pixels + p * s->room * s->x_step + c, *b = s->gradients + p * s->room * s->y_step;
    float *sums = s->sums + p * s->sums_step + c * s->padded;
    if (s->first == 0) {
      memset(sums, 0, sizeof(float) * (size_t)(rows * s->padded));
    }
    for (int64_t o = 0, lanes; o < s->padded; o += lanes) {
      lanes = mt_tile_panel(s->kernel, MT_FLOAT32, s->padded - o);
      s->kernel->outer[0](sums + o, s->padded, a, s->x_step, b + o, s->y_step, s->count[p], rows, lanes);
    }
  }
}

MT_VECTOR void weight_of(wino_lanes *w, const wino_lanes *u, int64_t rows, int down, int across) {
  wino_lanes half[WINO_TAPS * WINO_IN];
  if (rows == 1) {
    wino_weight_adjoint(w, 1, u, 1, across);
    return;
  }
  for (int k = 0; k < WINO_IN; k++) wino_weight_adjoint(half + k, WINO_IN, u + k, WINO_IN, down);
  for (int r = 0; r < down; r++) wino_weight_adjoint(w + across * r, 1, half + r * WINO_IN, 1, across);
}

// The weights of some channels, in all phases. What an output has of them is neighbours, or nearly: it is written together.
static WINO_CLONES void weights_range(void *context, int64_t begin, int64_t end) {
  const wino_gradient *s = context;
  const mt_wino_form *f = s->form;
  const mt_taps *t = s->taps;
  const int down = f->taps[0], across = f->taps[1], parts = (int)((t->channels + TURNED - 1) / TURNED);
  for (int64_t task = begin; task < end; task++) {
    const int64_t slice = task / parts, c0 = task % parts * TURNED, channels = MT_MIN(TURNED, t->channels - c0);
    const int8_t *pick = f->pick[f->depth > 1 ? 0 : slice];
    const int64_t *tap = f->w_tap + (f->depth > 1 ? slice * f->window : 0);
    for (int64_t o = 0; o < t->outputs; o += WINO_LANES) {
      wino_lanes u[WINO_IN * WINO_IN], w[TURNED * WINO_WINDOW], *of = w;
      for (int64_t c = 0; c < channels; c++, of += down * across) {
        for (int64_t p = 0; p < f->points; p++) {
          const int64_t slot = mt_wino_slot(f, (int32_t)slice, p);
          u[p] = (wino_lanes){0};
          if (slot >= 0) {
            const float *sum = s->sums + p * s->sums_step + (slot * t->channels + c0 + c) * s->padded + o;
            __builtin_prefetch(sum + s->padded);
            load(&u[p], sum, s->padded - o);
          }
        }
        if (down == 3 && across == 3) {
          weight_of(of, u, f->rows, 3, 3);
        } else if (down == 2 && across == 2) {
          weight_of(of, u, f->rows, 2, 2);
        } else {
          weight_of(of, u, f->rows, down, across);
        }
      }
      for (int64_t l = 0; l < MT_MIN(WINO_LANES, t->outputs - o); l++) {
        float *to = (float *)(uintptr_t)t->w + c0 * t->w_channel + (o + l) * t->w_output;
        for (int64_t c = 0; c < channels; c++, to += t->w_channel) {
          for (int j = 0; j < down * across; j++) {
            if (pick[j] >= 0) {
              float *weight = to + tap[pick[j]];
              *weight = s->add ? *weight + w[c * down * across + j][l] : w[c * down * across + j][l];
            }
          }
        }
      }
    }
  }
}

static int run_group(const wino_gradient *plan, const mt_taps *whole, int64_t g) {
  wino_gradient group = *plan, *s = &group;
  mt_taps t = *whole;
  t.groups = 1;
  t.x = (const float *)whole->x + g * whole->channels;
  t.y = (float *)whole->y + g * whole->y_group;
  t.w = (const float *)whole->w + g * whole->w_group;
  s->taps = &t;
  if (s->l->count == 0) {
    memset(s->sums, 0, sizeof(float) * (size_t)(s->form->points * s->sums_step));
  }
  for (s->first = 0; s->first < s->l->count; s->first += s->block) {
    s->tiles = MT_MIN(s->block, s->l->count - s->first);
    mt_wino_rows(s->l->tile + s->first, s->tiles, s->row, s->count);
    const int64_t tasks = s->form->points * s->chunks;
    const bool little = (double)s->tiles * (double)(s->form->points * s->channels) * (double)s->padded < LITTLE;
    MT_TRY(mt_parallel(s->tiles, little ? s->tiles : 4, transform_range, s));
    MT_TRY(mt_parallel(tasks, little ? tasks : 1, product_range, s));
  }
  const int64_t turned = mt_wino_slices(s->form) * ((t.channels + TURNED - 1) / TURNED);
  return mt_parallel(turned, s->channels * t.outputs < 4096 ? turned : 1, weights_range, s);
}

// worth: the samples whose gradients are added up, NULL: all; add: to what the weights are.
static int run(const mt_wino_form *f, const uint8_t *worth, bool add) {
  const mt_taps *t = f->sum;
  mt_wino_list l;
  int64_t count[WINO_IN * WINO_IN];
  int16_t row[BLOCK * WINO_IN * WINO_IN];
  wino_gradient s = {.add = add, .form = f, .kernel = mt_tile_get(), .l = &l, .count = count, .row = row};
  int status = mt_wino_list_tiles(&l, f, worth);
  s.channels = mt_wino_slices(f) * t->channels;
  s.chunks = (s.channels + CHANNELS - 1) / CHANNELS;
  s.block = f->rows > 1 && s.channels * t->outputs <= SHORT_SUMS ? SHORT_BLOCK : BLOCK;
  s.room = MT_MIN(s.block, l.count) | 1;
  s.padded = mt_tile_padded(s.kernel, MT_FLOAT32, t->outputs);
  s.x_step = (s.channels + WINO_LANES - 1) / WINO_LANES * WINO_LANES;
  s.y_step = (s.padded + WINO_LANES - 1) / WINO_LANES * WINO_LANES;
  s.x_step += s.x_step / WINO_LANES % 2 == 0 ? WINO_LANES : 0;
  s.y_step += WINO_LANES;
  for (int64_t p = 0; p < f->points; p++) s.terms[p] = mt_wino_slots(f, p) * t->channels;
  int64_t sums;
  s.sums_step = ((s.channels * s.padded / 16 + 1) | 1) * 16;
  if (status == MT_OK && !mt_mul(&sums, f->points, s.sums_step)) {
    status = mt_fail(MT_ERROR_MEMORY, "out of memory: the weights of a convolution do not fit in 64 bits");
  }
  if (status == MT_OK) {
    s.pixels = mt_alloc_array(f->points * s.room * s.x_step, (int64_t)sizeof(float));
    s.gradients = s.pixels ? mt_alloc_array(f->points * s.room * s.y_step, (int64_t)sizeof(float)) : NULL;
    s.sums = s.gradients ? mt_alloc_array(sums, (int64_t)sizeof(float)) : NULL;
    status = s.sums ? MT_OK : MT_ERROR_MEMORY;
  }
  for (int64_t g = 0; g < t->groups && status == MT_OK; g++) {
    status = run_group(&s, t, g);
  }
  mt_free(s.sums);
  mt_free(s.gradients);
  mt_free(s.pixels);
  mt_free(l.tile);
  return status;
}

bool mt_winograd_gradient_suits(const mt_taps *t, bool forced) {
  mt_wino_form f;
  if (!mt_wino_form_of(&f, t, 1) || !mt_wino_form_suits(&f, forced)) {
    return false;
  }
  return forced || ((f.phases == 1 || f.window > LITTLE_WINDOW) && mt_wino_has_tiles(&f, MIN_TILES, forced));
}

int mt_winograd_gradient(const mt_taps *t, bool forced) {
  mt_wino_form f;
  uint8_t *worth, *active = NULL;
  int64_t count;
  mt_wino_form_of(&f, t, 1);
  MT_TRY(mt_wino_choose(&worth, &count, &f, forced));
  int status = MT_OK;
  if (count < t->samples) {
    mt_taps others;
    status = mt_wino_others(&others, &active, t, worth);
    status = status ? status : mt_taps_gradient(&others);
  }
  status = status ? status : run(&f, worth, count < t->samples);
  mt_free(active);
  mt_free(worth);
  return status;
}
