// taps_planes: sums over taps with few outputs per group. Panels of outputs would leave most lanes of a vector empty; here the
// lanes are pixels: the halo holds the channels apart, so that pixels whose windows are neighbours are neighbours in memory.
#ifdef REAL
#include "activate.h"

static void FN(pack)(const planes_plan *s) {
  const mt_taps *t = s->p.taps;
  REAL *to = s->packed;
  for (int64_t g = 0; g < t->groups; g++) {
    for (int64_t j = 0; j < s->p.count; j++) {
      for (int64_t c = 0; c < t->channels; c++, to += s->padded) {
        const REAL *w = (const REAL *)t->w + t->w_tap[s->p.tap[j].index] + g * t->w_group + c * t->w_channel;
        for (int64_t o = 0; o < s->padded; o++) to[o] = o < t->outputs ? w[o * t->w_output] : 0;
      }
    }
  }
}

// Finishes the sums of one output for a part of a span.
MT_INLINE void FN(finish_as)(const bool norm, const int32_t f, const planes_plan *s, const mt_span *span, int64_t from, int64_t n,
                             const REAL *acc, int64_t output, REAL *y, int64_t step) {
  const mt_tile_behind *behind = s->p.taps->behind;
  const REAL *bias = s->p.taps->bias ? (const REAL *)s->p.taps->bias + output : NULL, a = behind ? (REAL)behind->a : 0;
  const mt_taps_map *scale = &s->p.scale, *gate = &s->p.gate;
  const REAL *r = (const REAL *)scale->data, *m = (const REAL *)gate->data;
  for (int64_t i = 0; i < n; i++) {
    REAL sum = acc[i] + (REAL)0;
    if (r) {
      const REAL factor = r[span->scale + (from + i) * scale->step[2]];
      sum = factor == 0 ? 0 : sum * factor;
    }
    sum = bias ? sum + *bias : sum;
    const REAL open = m ? m[span->gate + (from + i) * gate->step[2]] : 1;
    sum = m ? sum * open : sum;
    if (norm) {
      sum = FN(normalise_frozen)(sum, open, behind->norm + output, behind->outputs);
    }
    y[i * step] = FN(activate)(sum, f, a);
  }
}

static void FN(finish)(const planes_plan *s, const mt_span *span, int64_t from, int64_t n, const REAL *acc, int64_t output,
                       REAL *y, int64_t step) {
  const mt_tile_behind *f = s->p.taps->behind;
#define FINISH(norm, activation) FN(finish_as)(norm, activation, s, span, from, n, acc, output, y, step)
  if (f == NULL) {
    FINISH(false, MT_ACTIVATION_IDENTITY);
  } else if (f->activation == MT_ACTIVATION_RELU) {
    if (f->norm) { FINISH(true, MT_ACTIVATION_RELU); } else { FINISH(false, MT_ACTIVATION_RELU); }
  } else if (f->activation == MT_ACTIVATION_LEAKY_RELU) {
    if (f->norm) { FINISH(true, MT_ACTIVATION_LEAKY_RELU); } else { FINISH(false, MT_ACTIVATION_LEAKY_RELU); }
  } else {
    FINISH(true, MT_ACTIVATION_IDENTITY);
  }
#undef FINISH
}

// The spans' pixels whose windows begin less than `lanes` elements from `start` on, beginning with pixel *done of the first;
// returns the number of whole spans, and leaves in *done what is done of the next.
static int64_t FN(store)(const planes_plan *s, const mt_span *span, int64_t spans, int64_t *done, int64_t start, int64_t lanes,
                         const REAL *acc, int64_t ld, int64_t g) {
  const mt_taps *t = s->p.taps;
  int64_t i = 0;
  for (; i < spans; i++, *done = 0) {
    const int64_t at = span[i].at + *done - start, n = MT_MIN(span[i].n - *done, lanes - at);
    if (n <= 0) {
      return i;
    }
    for (int64_t o = 0; o < t->outputs; o++) {
      REAL *y = (REAL *)span[i].y + *done * s->p.y_step[2] + g * t->y_group + o * t->y_channel;
      FN(finish)(s, &span[i], *done, n, acc + o * ld + at, g * t->outputs + o, y, s->p.y_step[2]);
    }
    if (*done + n < span[i].n) {
      *done += n;
      return i;
    }
  }
  return i;
}

// The vectors from a pixel on that hold all that follow closely, at most TILE.
static int64_t FN(reach)(const mt_span *span, int64_t spans, int64_t done, int64_t vector) {
  const int64_t start = span->at + done;
  int64_t end = span->at + span->n - start;
  for (int64_t i = 1; i < spans && end < TILE * vector && span[i].at - start < end + vector; i++) {
    end = span[i].at + span[i].n - start;
  }
  return MT_MIN(TILE, (end + vector - 1) / vector);
}

// One task: a band, some groups.
static void FN(sum_band)(void *context, int64_t begin, int64_t end) {
  const planes_plan *s = context;
  const mt_taps *t = s->p.taps;
  const int64_t vector = s->p.tile->vector / (int64_t)sizeof(REAL), ld = TILE * vector;
  mt_band b;
  _Alignas(64) REAL acc[MT_TILE_FEW * TILE * 64 / sizeof(REAL)];
  for (int64_t task = begin; task < end; task++) {
    const int64_t chunk = task % s->chunks, last = MT_MIN(t->groups, (chunk + 1) * s->chunk);
    void *halo = mt_taps_halo_take(&s->p);
    mt_taps_list(&s->p, &b, task / s->chunks, halo, chunk == 0);
    for (int64_t g = chunk * s->chunk; g < last && b.spans > 0; g++) {
      FN(mt_taps_fill)(&s->p, &b, halo, g * t->channels);
      const REAL *w = (const REAL *)s->packed + g * s->p.k * s->padded;
      int64_t done = 0;
      for (int64_t i = 0; i < b.spans;) {
        const int64_t start = b.span[i].at + done, vectors = FN(reach)(b.span + i, b.spans - i, done, vector);
        memset(acc, 0, s->blocks == 0 ? sizeof acc : 0);
        for (int64_t k = 0; k < s->blocks; k++) {
          s->p.tile->planes[MT_TILE_TYPE(t->dtype)](acc, ld, (const REAL *)halo + start, s->at + s->block[k],
                                                    w + s->block[k] * s->padded, s->block[k + 1] - s->block[k], k == 0,
                                                    s->padded, vectors);
        }
        i += FN(store)(s, b.span + i, b.spans - i, &done, start, vectors * vector, acc, ld, g);
      }
    }
    mt_taps_halo_return(&s->p, halo);
  }
}

#else
#include "row.h"
#include "taps_plan.h"

enum { TILE = 24 };   // vectors of sums before they are stored: whole calls of the micro-kernel

typedef struct {
  mt_taps_plan p;
  int64_t padded;              // outputs of the micro-kernel
  int64_t chunk, chunks;       // groups of one task
  int64_t *at;                 // of the terms
  int64_t *block, blocks;      // where blocks of terms begin, and the last one ends
  void *packed;                // [group][term][output]
} planes_plan;

#define MT_SOURCE "taps_planes.c"
#include "twice.h"

// Half a vector of outputs or fewer, of windows that read a pixel more than once.
bool mt_taps_has_few_outputs(const mt_taps *t) {
  const mt_tile *tile = mt_tile_get();
  return t->outputs <= MT_MIN(MT_TILE_FEW, tile->vector / mt_dtype_size(t->dtype) / 2) && t->taps > 1 && t->channels > 0;
}

bool mt_taps_takes_planes(const mt_taps *t) { return !mt_taps_depthwise(t) && !mt_taps_suits_rows(t) && mt_taps_has_few_outputs(t); }

static int cut_terms(planes_plan *s) {
  const int64_t channels = s->p.taps->channels;
  s->at = mt_alloc_array(s->p.k, (int64_t)sizeof *s->at);
  s->block = s->at ? mt_alloc_array(s->p.k + 1, (int64_t)sizeof *s->block) : NULL;
  if (s->block == NULL) {
    return MT_ERROR_MEMORY;
  }
  for (int64_t k = 0; k < s->p.k; k++) {
    s->at[k] = s->p.tap[k / channels].at + k % channels * s->p.mul[2] * s->p.plane;
  }
  s->block[0] = 0;
  for (int64_t k = 0; k < s->p.k; k = s->block[s->blocks]) {
    s->block[s->blocks + 1] = mt_taps_block_end(&s->p, k);
    s->blocks++;
  }
  return MT_OK;
}

static int run(planes_plan *s) {
  const mt_taps *t = s->p.taps;
  int64_t terms;
  s->padded = t->outputs <= 4 ? t->outputs : t->outputs <= 6 ? 6 : 8;
  MT_TRY(cut_terms(s));
  if (!mt_mul(&terms, s->p.k, s->padded) || !mt_mul(&terms, terms, t->groups)) {
    return mt_fail(MT_ERROR_MEMORY, "out of memory: the weights of a convolution do not fit in 64 bits");
  }
  if ((s->packed = mt_alloc_array(terms, mt_dtype_size(t->dtype))) == NULL) {
    return MT_ERROR_MEMORY;
  }
  if (t->dtype == MT_FLOAT32) {
    pack_f32(s);
  } else {
    pack_f64(s);
  }
  const int64_t parts = MT_MAX(1, MT_MIN(t->groups, MT_BAND_TASKS / s->p.band_count));
  s->chunk = (t->groups + parts - 1) / parts;
  s->chunks = (t->groups + s->chunk - 1) / s->chunk;
  const double work = (double)t->samples * (double)s->p.grid[0] * (double)s->p.grid[1] * (double)s->p.grid[2] * (double)terms;
  const int64_t tasks = s->p.band_count * s->chunks;
  return mt_parallel(tasks, work < MT_LITTLE ? tasks : 1, MT_REAL_FN(t->dtype, sum_band), s);
}

int mt_taps_sum_planes(const mt_taps *t) {
  planes_plan s = {.blocks = 0};
  int status = mt_taps_plan_begin(&s.p, t, t->channels, true);
  status = status ? status : mt_taps_plan_halos(&s.p, 0);
  status = status ? status : run(&s);
  mt_free(s.packed);
  mt_free(s.block);
  mt_free(s.at);
  mt_taps_plan_end(&s.p);
  return status;
}

#endif
