// taps_depthwise: sums over taps with one channel and one output per group: the lanes of a vector are groups.
#ifdef REAL

static void FN(pack)(const depthwise_plan *s) {
  const mt_taps *t = s->p.taps;
  for (int64_t j = 0; j < s->p.count; j++) {
    for (int64_t g = 0; g < t->groups; g++) {
      ((REAL *)s->packed)[j * t->groups + g] = ((const REAL *)t->w)[t->w_tap[s->p.tap[j].index] + g * t->w_group];
    }
  }
}

// One task: a band.
static void FN(sum_band)(void *context, int64_t begin, int64_t end) {
  const depthwise_plan *s = context;
  const mt_taps *t = s->p.taps;
  const int32_t type = MT_TILE_TYPE(t->dtype);
  mt_band b;
  _Alignas(64) REAL acc[ROWS * LANES];
  const void *windows[MT_BAND_PIXELS];
  void *outputs[MT_BAND_PIXELS];
  REAL scale[MT_BAND_PIXELS], gate[MT_BAND_PIXELS];
  for (int64_t task = begin; task < end; task++) {
    void *halo = mt_taps_halo_take(&s->p);
    mt_taps_list(&s->p, &b, task, halo, true);
    FN(mt_taps_fill)(&s->p, &b, halo, 0);
    const REAL *from = s->p.in_place ? t->x : halo;
    if (t->scale.data == NULL && t->gate.data == NULL && t->y_group == 1) {
      for (const mt_span *k = b.span; k < b.span + b.spans; k++) {
        s->p.tile->lanewise_span[type](k->y, s->p.y_step[2], s->p.count > 0 ? from + k->at : from, s->p.column, s->at, s->packed,
                                       t->groups, s->p.count, t->bias, t->behind, k->n, t->groups);
      }
      mt_taps_halo_return(&s->p, halo);
      continue;
    }
    const int64_t n = FN(mt_taps_pixels)(&s->p, &b, from, windows, outputs, scale, gate);
    for (int64_t i = 0; i < n; i += ROWS) {
      const int64_t rows = MT_MIN(ROWS, n - i);
      for (int64_t g = 0; g < t->groups; g += LANES) {
        const int64_t lanes = MT_MIN(LANES, t->groups - g);
        const void *a[ROWS];
        void *y[ROWS];
        for (int64_t r = 0; r < rows; r++) {
          a[r] = (const REAL *)windows[i + r] + g;
          y[r] = t->y_group == 1 ? (REAL *)outputs[i + r] + g : acc + r * LANES;
        }
        s->p.tile->lanewise[type](acc, LANES, a, s->at, (const REAL *)s->packed + g, t->groups, s->p.count, rows, lanes);
        s->p.tile->finish[type](y, acc, LANES, t->bias ? (const REAL *)t->bias + g : NULL, scale + i, gate + i, t->behind, g, rows,
                                lanes);
        for (int64_t l = 0; l < lanes && t->y_group != 1; l++) {
          for (int64_t r = 0; r < rows; r++) ((REAL *)outputs[i + r])[(g + l) * t->y_group] = acc[r * LANES + l];
        }
      }
    }
    mt_taps_halo_return(&s->p, halo);
  }
}

#else
#include "taps_plan.h"

enum { ROWS = 16, LANES = 128 };

typedef struct {
  mt_taps_plan p;
  int64_t *at;       // of the used taps
  void *packed;      // [tap][group]
} depthwise_plan;

#define MT_SOURCE "taps_depthwise.c"
#include "twice.h"

static int run(depthwise_plan *s) {
  const mt_taps *t = s->p.taps;
  int64_t terms;
  if (!mt_mul(&terms, s->p.count, t->groups)) {
    return mt_fail(MT_ERROR_MEMORY, "out of memory: the weights of a convolution do not fit in 64 bits");
  }
  s->packed = mt_alloc_array(terms, mt_dtype_size(t->dtype));
  s->at = s->packed ? mt_alloc_array(s->p.count, (int64_t)sizeof *s->at) : NULL;
  if (s->at == NULL) {
    return MT_ERROR_MEMORY;
  }
  for (int64_t j = 0; j < s->p.count; j++) {
    s->at[j] = s->p.tap[j].at;
  }
  if (t->dtype == MT_FLOAT32) {
    pack_f32(s);
  } else {
    pack_f64(s);
  }
  const double work = (double)t->samples * (double)s->p.grid[0] * (double)s->p.grid[1] * (double)s->p.grid[2] * (double)terms;
  return mt_parallel(s->p.band_count, work < MT_LITTLE ? s->p.band_count : 1, MT_REAL_FN(t->dtype, sum_band), s);
}

int mt_taps_sum_depthwise(const mt_taps *t) {
  depthwise_plan s = {.packed = NULL};
  int status = mt_taps_plan_begin(&s.p, t, t->groups, false);
  status = status ? status : mt_taps_plan_halos(&s.p, 0);
  status = status ? status : run(&s);
  mt_free(s.at);
  mt_free(s.packed);
  mt_taps_plan_end(&s.p);
  return status;
}

#endif
