// taps_sum: sums over taps; see taps.h. Weights are packed into panels of outputs; then bands of pixels (taps_plan.h) meet them
// in the micro-kernel, which reads every pixel's channels where they lie.
#ifdef REAL

// ---- bands of pixels --------------------------------------------------------------------------------------------------

// The sums of some pixels (at most the tile's rows) and one panel, finished.
static void FN(sum_tile)(const sum_plan *s, const void *const *a, void *const *y, int64_t rows, const REAL *w, int64_t lanes,
                         const REAL *bias, const REAL *scale, const REAL *gate, int64_t output, int64_t used) {
  const int32_t type = MT_TILE_TYPE(s->p.taps->dtype);
  _Alignas(64) REAL acc[TILE_ROWS * MT_TILE_LANES];
  if (s->blocks == 0) {
    memset(acc, 0, sizeof(REAL) * (size_t)(rows * lanes));
  }
  for (int64_t i = 0; i < s->blocks; i++) {
    const block *k = &s->block[i];
    s->p.tile->reach[type](acc, a, s->run + k->run, k->runs, w + k->first * lanes, i == 0, rows, lanes);
  }
  if (s->p.taps->y_channel == 1) {
    s->p.tile->finish[type](y, acc, lanes, bias, scale, gate, s->p.taps->behind, output, rows, used);
    return;
  }
  void *own[TILE_ROWS];
  for (int64_t r = 0; r < rows; r++) {
    own[r] = acc + r * lanes;
  }
  s->p.tile->finish[type](own, acc, lanes, bias, scale, gate, s->p.taps->behind, output, rows, used);
  for (int64_t o = 0; o < used; o++) {
    for (int64_t r = 0; r < rows; r++) ((REAL *)y[r])[o * s->p.taps->y_channel] = acc[r * lanes + o];
  }
}

// One task: a band, one group, a range of panels.
static void FN(sum_band)(void *context, int64_t begin, int64_t end) {
  const sum_plan *s = context;
  const mt_taps *t = s->p.taps;
  mt_band b;
  const void *a[MT_BAND_PIXELS];
  void *y[MT_BAND_PIXELS], *to[MT_BAND_PIXELS];
  REAL scale[MT_BAND_PIXELS], gate[MT_BAND_PIXELS];
  for (int64_t task = begin; task < end; task++) {
    const int64_t chunk = task % s->chunks, g = task / s->chunks % t->groups, first = chunk * s->chunk;
    void *halo = mt_taps_halo_take(&s->p);
    mt_taps_list(&s->p, &b, task / s->chunks / t->groups, halo, chunk == 0 && g == 0);
    FN(mt_taps_fill)(&s->p, &b, halo, g * t->channels);
    const REAL *from = !s->p.in_place ? halo : (const REAL *)t->x + (s->p.k > 0 ? g * t->channels : 0);
    const int64_t n = FN(mt_taps_pixels)(&s->p, &b, from, a, y, scale, gate);
    for (int64_t o = first, lanes; o < MT_MIN(first + s->chunk, t->outputs); o += lanes) {
      lanes = mt_tile_panel(s->p.tile, t->dtype, t->outputs - o);
      REAL *w = s->w.packed ? (REAL *)s->w.packed + (g * s->w.padded + o) * s->p.k : (REAL *)((char *)halo + s->p.halo_bytes);
      if (!s->w.packed && n > 0 && s->p.k > 0) {
        FN(mt_taps_pack_panel)(&s->w, w, g, o);
      }
      const REAL *bias = t->bias ? (const REAL *)t->bias + g * t->outputs + o : NULL;
      for (int64_t i = 0; i < n; i++) {
        to[i] = (REAL *)y[i] + g * t->y_group + o * t->y_channel;
      }
      for (int64_t i = 0; i < n; i += s->p.tile->rows) {
        FN(sum_tile)(s, a + i, to + i, MT_MIN(s->p.tile->rows, n - i), w, lanes, bias, scale + i, gate + i,
                     g * t->outputs + o, MT_MIN(lanes, t->outputs - o));
      }
    }
    mt_taps_halo_return(&s->p, halo);
  }
}

// ---- one pixel ----------------------------------------------------------------------------------------------------------

// The panels [begin, end) of the only pixel, straight from the caller's weights.
static void FN(sum_pixel)(void *context, int64_t begin, int64_t end) {
  const sum_plan *s = context;
  const mt_taps *t = s->p.taps;
  const REAL *w = (const REAL *)t->w + t->w_tap[s->p.tap[0].index], *terms = s->terms;
  const REAL scale = t->scale.data ? *(const REAL *)t->scale.data : 1, gate = t->gate.data ? *(const REAL *)t->gate.data : 1;
  for (int64_t panel = begin; panel < end; panel++) {
    const int64_t o = panel * s->p.tile->lanes[MT_TILE_TYPE(t->dtype)], lanes = mt_tile_panel(s->p.tile, t->dtype, t->outputs - o);
    _Alignas(64) REAL acc[MT_TILE_LANES] = {0};
    for (int64_t i = 0; i < s->blocks; i++) {
      const block *k = &s->block[i];
      s->p.tile->outer[MT_TILE_TYPE(t->dtype)](acc, lanes, terms + k->first, 1, w + k->first * t->w_channel + o, t->w_channel,
                                               k->terms, 1, lanes);
    }
    s->p.tile->finish[MT_TILE_TYPE(t->dtype)]((void *[]){acc}, acc, lanes, t->bias ? (const REAL *)t->bias + o : NULL, &scale,
                                              &gate, t->behind, o, 1, lanes);
    for (int64_t l = 0; l < lanes; l++) ((REAL *)t->y)[(o + l) * t->y_channel] = acc[l];
  }
}

static void FN(gather_pixel)(const sum_plan *s) {
  const mt_taps *t = s->p.taps;
  mt_band b;
  void *halo = mt_taps_halo_take(&s->p);
  mt_taps_list(&s->p, &b, 0, halo, false);
  FN(mt_taps_fill)(&s->p, &b, halo, 0);
  const REAL *from = (s->p.in_place ? (const REAL *)t->x : (const REAL *)halo) + b.span[0].at;
  for (int64_t j = 0; j < s->p.count; j++) {
    memcpy((REAL *)s->terms + j * t->channels, from + s->p.tap[j].at, sizeof(REAL) * (size_t)t->channels);
  }
  mt_taps_halo_return(&s->p, halo);
}

#else
#include "taps_pack.h"

enum {
  TILE_ROWS = 14,           // most rows of any tile
};

// Terms [first, first + terms) of a sum, which are runs of neighbours.
typedef struct {
  int64_t first, terms, run, runs;
} block;

typedef struct {
  mt_taps_plan p;
  mt_taps_weights w;
  int64_t chunk, chunks;           // lanes of one task
  block *block;
  int64_t blocks;
  mt_tile_run *run;
  void *terms;                     // of a single pixel
} sum_plan;

#define MT_SOURCE "taps_sum.c"
#include "twice.h"

// ---- blocks of terms ------------------------------------------------------------------------------------------------------

// Taps that are neighbours in memory are one run.
static int cut_blocks(sum_plan *s) {
  const int64_t channels = s->p.taps->channels, parts = (channels + MT_TILE_K - 1) / MT_TILE_K;
  s->block = mt_alloc_array(s->p.count * parts, (int64_t)sizeof *s->block);
  s->run = s->block ? mt_alloc_array(s->p.count * parts, (int64_t)sizeof *s->run) : NULL;
  if (s->run == NULL) {
    return MT_ERROR_MEMORY;
  }
  mt_tile_run *run = s->run;
  for (int64_t k = 0, end; k < s->p.k; k = end) {
    end = mt_taps_block_end(&s->p, k);
    block *b = &s->block[s->blocks++];
    *b = (block){k, end - k, run - s->run, 0};
    for (int64_t i = k, n; i < end; i += n) {
      const int64_t at = s->p.tap[i / channels].at + i % channels;
      n = MT_MIN(end - i, channels - i % channels);
      if (b->runs > 0 && run[-1].x + run[-1].n == at) {
        run[-1].n += n;
      } else {
        *run++ = (mt_tile_run){at, n};
        b->runs++;
      }
    }
  }
  return MT_OK;
}

// ---- sums ---------------------------------------------------------------------------------------------------------------

static double multiplications(const sum_plan *s) {
  const mt_taps *t = s->p.taps;
  return (double)t->samples * (double)s->p.grid[0] * (double)s->p.grid[1] * (double)s->p.grid[2] * (double)s->p.k *
         (double)t->groups * (double)t->outputs;
}

// One pixel uses every weight once: where a term's weights of all outputs are neighbours and the terms evenly spaced, packing
// them would cost more than the sums. The order of the terms is the same.
static bool is_one_pixel(const sum_plan *s) {
  const mt_taps *t = s->p.taps;
  if (t->samples * s->p.grid[0] * s->p.grid[1] * s->p.grid[2] != 1 || t->active.data || t->groups != 1 || t->w_output != 1 ||
      mt_tile_padded(s->p.tile, t->dtype, t->outputs) != t->outputs || s->p.k == 0) {
    return false;
  }
  for (int64_t j = 0; j < s->p.count; j++) {
    if (t->w_tap[s->p.tap[j].index] - t->w_tap[s->p.tap[0].index] != j * t->channels * t->w_channel) {
      return false;
    }
  }
  return true;
}

static int sum_one_pixel(sum_plan *s) {
  const mt_taps *t = s->p.taps;
  const int64_t lanes = s->p.tile->lanes[MT_TILE_TYPE(t->dtype)], panels = (t->outputs + lanes - 1) / lanes;
  if ((s->terms = mt_alloc_array(s->p.k, mt_dtype_size(t->dtype))) == NULL) {
    return MT_ERROR_MEMORY;
  }
  MT_TRY(mt_taps_plan_halos(&s->p, 0));
  MT_REAL_CALL(t->dtype, gather_pixel, s);
  return mt_parallel(panels, multiplications(s) < MT_LITTLE ? panels : 1, MT_REAL_FN(t->dtype, sum_pixel), s);
}

static int sum_panels(sum_plan *s) {
  const mt_taps *t = s->p.taps;
  const int64_t bands = s->p.band_count * t->groups;
  MT_TRY(mt_taps_weights_begin(&s->w, &s->p));
  // What all bands need is packed once. A single band packs a panel when it needs it, so that it stays in the cache.
  int64_t panel = 0;
  if (s->p.band_count > 1) {
    MT_TRY(mt_taps_pack(&s->w));
  } else if (!mt_mul(&panel, s->p.k, s->w.lanes * mt_dtype_size(t->dtype))) {
    return mt_fail(MT_ERROR_MEMORY, "out of memory: the weights of a convolution do not fit in 64 bits");
  }
  MT_TRY(mt_taps_plan_halos(&s->p, panel));
  // Few bands: their outputs are split too.
  const int64_t parts = MT_MAX(1, MT_MIN(s->w.panels, MT_BAND_TASKS / bands));
  s->chunk = (s->w.panels + parts - 1) / parts * s->w.lanes;
  s->chunks = (s->w.padded + s->chunk - 1) / s->chunk;
  // Little work is done faster than a worker wakes up.
  const int64_t tasks = bands * s->chunks;
  return mt_parallel(tasks, multiplications(s) < MT_LITTLE ? tasks : 1, MT_REAL_FN(t->dtype, sum_band), s);
}

int mt_taps_sum(const mt_taps *t) {
  int64_t pixels = t->samples;
  for (int32_t d = 0; d < t->dims; d++) {
    pixels *= t->grid[d];
  }
  if (pixels == 0 || t->outputs == 0 || t->groups == 0) {
    return MT_OK;
  }
  if (mt_taps_is_rows(t)) {
    return mt_taps_sum_rows(t);
  }
  if (mt_taps_depthwise(t)) {
    return mt_taps_sum_depthwise(t);
  }
  if (mt_taps_has_few_outputs(t)) {
    return mt_taps_sum_planes(t);
  }
  if (mt_taps_has_few_pixels(t)) {
    return mt_taps_sum_few_pixels(t);
  }
  sum_plan s = {.blocks = 0};
  int status = mt_taps_plan_begin(&s.p, t, t->channels, false);
  status = status ? status : cut_blocks(&s);
  status = status ? status : is_one_pixel(&s) ? sum_one_pixel(&s) : sum_panels(&s);
  mt_taps_weights_end(&s.w);
  mt_free(s.terms);
  mt_free(s.run);
  mt_free(s.block);
  mt_taps_plan_end(&s.p);
  return status;
}

#endif
