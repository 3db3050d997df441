// taps_gradient: the gradient of weights under taps; see taps.h.
#ifdef REAL

// ---- the gradient of the weights --------------------------------------------------------------------------------------

// Adds the rows [row, row + n) of the image for one tap, one tile of channels and one panel of outputs.
static void FN(outer_rows)(const gradient_plan *s, REAL *acc, int64_t ld, int64_t row, int64_t n, int64_t j, int64_t g,
                           int64_t c, int64_t channels, int64_t o, int64_t lanes) {
  const mt_taps *t = s->taps;
  const int32_t last = t->dims - 1;
  for (int64_t r = row; r < row + n; r++) {
    int64_t x, y;
    if (!locate_row(s, j, r, &x, &y)) {
      continue;
    }
    const REAL *a = (const REAL *)t->x + x + g * t->channels + c;
    const REAL *b = (const REAL *)t->y + y + g * t->y_group + o;
    s->tile->outer[MT_TILE_TYPE(t->dtype)](acc, ld, a, t->mul[last] * t->x_step[last], b, t->y_step[last],
                                           s->high[j] - s->low[j], channels, lanes);
  }
}

// One task: a tap, some channels and outputs of a group, over the plan's present rows. What it has summed so far stays on
// the stack when these are all rows.
static void FN(gradient_block)(void *context, int64_t begin, int64_t end) {
  const gradient_plan *s = context;
  const mt_taps *t = s->taps;
  _Alignas(64) REAL stack[GRADIENT_CHANNELS * CHUNK];
  for (int64_t task = begin; task < end; task++) {
    const int64_t o0 = task % s->o_chunks * s->o_chunk, rest = task / s->o_chunks;
    const int64_t c0 = rest % s->c_chunks * s->c_chunk, j = rest / s->c_chunks % t->taps, g = rest / s->c_chunks / t->taps;
    const int64_t channels = MT_MIN(s->c_chunk, t->channels - c0), outputs = MT_MIN(s->o_chunk, t->outputs - o0);
    const int64_t padded = mt_tile_padded(s->tile, t->dtype, outputs);
    REAL *acc = s->sums ? (REAL *)s->sums + task * s->c_chunk * s->o_chunk : stack;
    if (s->first == 0) {
      memset(acc, 0, sizeof(REAL) * (size_t)(channels * padded));
    }
    for (int64_t c = 0; s->low[j] < s->high[j] && c < channels; c += s->tile->rows) {
      for (int64_t o = 0, lanes; o < padded; o += lanes) {
        lanes = mt_tile_panel(s->tile, t->dtype, padded - o);
        FN(outer_rows)(s, acc + c * padded + o, padded, s->first, s->last - s->first, j, g, c0 + c,
                       MT_MIN(s->tile->rows, channels - c), o0 + o, lanes);
      }
    }
    REAL *w = (REAL *)(uintptr_t)t->w + t->w_tap[j] + g * t->w_group + c0 * t->w_channel + o0 * t->w_output;
    for (int64_t o = 0; o < outputs && s->last == s->rows; o++) {
      for (int64_t c = 0; c < channels; c++) w[o * t->w_output + c * t->w_channel] = acc[c * padded + o];
    }
  }
}

static void FN(gradient_lanewise)(void *context, int64_t begin, int64_t end) {
  const gradient_plan *s = context;
  const mt_taps *t = s->taps;
  const int32_t last = t->dims - 1;
  for (int64_t task = begin; task < end; task++) {
    const int64_t g0 = task % s->o_chunks * CHUNK, j = task / s->o_chunks, lanes = MT_MIN(CHUNK, t->groups - g0);
    REAL acc[CHUNK] = {0};
    for (int64_t r = 0, x, y; s->low[j] < s->high[j] && r < s->rows; r++) {
      if (locate_row(s, j, r, &x, &y)) {
        s->tile->lanewise_outer[MT_TILE_TYPE(t->dtype)](acc, (const REAL *)t->x + x + g0, t->mul[last] * t->x_step[last],
                                                        (const REAL *)t->y + y + g0, t->y_step[last],
                                                        s->high[j] - s->low[j], lanes);
      }
    }
    for (int64_t l = 0; l < lanes; l++) ((REAL *)(uintptr_t)t->w)[t->w_tap[j] + (g0 + l) * t->w_group] = acc[l];
  }
}

#else
#include "taps.h"
#include "tile.h"

enum {
  CHUNK = 128,              // output lanes of one task, a multiple of every panel
  GRADIENT_CHANNELS = 32,   // channels of one task
  GRADIENT_PIXELS = 512,    // that the tasks pass over before they move on together,
  GRADIENT_BYTES = 1 << 19, // or as many as these bytes hold
  LITTLE = 500000,          // multiplications that are not worth a second thread
};

typedef struct {
  const mt_taps *taps;
  const mt_tile *tile;
  int64_t rows, first, last;       // rows of all samples; of them, [first, last) now
  int64_t c_chunk, c_chunks;       // channels of one task
  int64_t o_chunk, o_chunks;       // its outputs, at most CHUNK
  int64_t *low, *high;             // pixels of a row whose tap j is inside the image: [low, high)
  void *sums;                      // c_chunk * o_chunk per task; NULL when all rows are done at once
} gradient_plan;

#define MT_SOURCE "taps_gradient.c"
static bool locate_row(const gradient_plan *s, int64_t j, int64_t row, int64_t *x, int64_t *y);
#include "twice.h"

// ---- gradient of the weights ----------------------------------------------------------------------------------------------

// The first pixel of row `row` whose tap j is inside the image; false when the tap's row is outside.
static bool locate_row(const gradient_plan *s, int64_t j, int64_t row, int64_t *x, int64_t *y) {
  const mt_taps *t = s->taps;
  const int32_t last = t->dims - 1;
  int64_t rest = row, from = s->low[j] * t->mul[last] + t->offset[j][last];
  *x = from * t->x_step[last];
  *y = s->low[j] * t->y_step[last];
  for (int32_t d = last - 1; d >= 0; d--) {
    const int64_t i = rest % t->grid[d];
    rest /= t->grid[d];
    from = i * t->mul[d] + t->offset[j][d];
    if (from < 0 || from >= t->size[d]) {
      return false;
    }
    *x += from * t->x_step[d];
    *y += i * t->y_step[d];
  }
  *x += rest * t->x_sample;
  *y += rest * t->y_sample;
  return true;
}

static int run_gradient(gradient_plan *s) {
  const mt_taps *t = s->taps;
  const int32_t last = t->dims - 1;
  for (int64_t j = 0; j < t->taps; j++) {
    const int64_t mul = t->mul[last], offset = t->offset[j][last];
    s->low[j] = offset < 0 ? (-offset + mul - 1) / mul : 0;
    s->high[j] = t->size[last] > offset ? MT_MIN((t->size[last] - offset - 1) / mul + 1, t->grid[last]) : 0;
  }
  if (mt_taps_depthwise(t)) {
    s->o_chunks = (t->groups + CHUNK - 1) / CHUNK;
    return mt_parallel(t->taps * s->o_chunks, 1, MT_REAL_FN(t->dtype, gradient_lanewise), s);
  }
  // Some tiles of channels and CHUNK outputs per task; a row of pixels is never split.
  s->c_chunk = MT_MIN(GRADIENT_CHANNELS / s->tile->rows * s->tile->rows, MT_MAX(1, t->channels));
  s->c_chunks = (t->channels + s->c_chunk - 1) / s->c_chunk;
  s->o_chunk = MT_MAX(1, MT_MIN(CHUNK, mt_tile_padded(s->tile, t->dtype, t->outputs)));
  s->o_chunks = (t->outputs + s->o_chunk - 1) / s->o_chunk;
  const int64_t tasks = t->groups * t->taps * s->c_chunks * s->o_chunks, size = mt_dtype_size(t->dtype);
  const int64_t columns = t->grid[last], bytes = size * t->groups * (t->channels + t->outputs);
  const int64_t rows = MT_MAX(1, MT_MAX(GRADIENT_PIXELS, GRADIENT_BYTES / MT_MAX(1, bytes)) / columns);
  if (rows < s->rows) {
    int64_t sums;
    if (!mt_mul(&sums, tasks, s->c_chunk * s->o_chunk)) {
      return mt_fail(MT_ERROR_MEMORY, "out of memory: the weights of a convolution do not fit in 64 bits");
    }
    if ((s->sums = mt_alloc_array(sums, size)) == NULL) {
      return MT_ERROR_MEMORY;
    }
  }
  do {
    s->last = MT_MIN(s->first + rows, s->rows);
    const double work = (double)(s->last - s->first) * (double)columns * (double)(t->groups * t->taps * t->channels) *
                        (double)t->outputs;
    MT_TRY(mt_parallel(tasks, work < LITTLE ? tasks : 1, MT_REAL_FN(t->dtype, gradient_block), s));
    s->first = s->last;
  } while (s->first < s->rows);
  return MT_OK;
}

int mt_taps_gradient(const mt_taps *t) {
  gradient_plan s = {.taps = t, .tile = mt_tile_get(), .rows = t->samples};
  for (int32_t d = 0; d < t->dims - 1; d++) {
    s.rows *= t->grid[d];
  }
  s.low = mt_alloc_array(t->taps, (int64_t)sizeof *s.low);
  s.high = s.low ? mt_alloc_array(t->taps, (int64_t)sizeof *s.high) : NULL;
  const int status = s.high ? run_gradient(&s) : MT_ERROR_MEMORY;
  mt_free(s.sums);
  mt_free(s.high);
  mt_free(s.low);
  return status;
}

#endif
