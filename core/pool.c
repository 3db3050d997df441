// pool: see pool.h. Forward and backward of each function are neighbours.
#ifdef REAL

// ---- windows of one output element -------------------------------------------------------------------------------

// The mask's element at a position of the image, for channel c.
static inline double FN(mask_at)(const mt_spatial *m, int64_t n, int64_t c, int64_t z, int64_t y, int64_t x) {
  return ((const REAL *)m->data)[n * m->step_n + c * m->step_c + z * m->step[0] + y * m->step[1] + x * m->step[2]];
}

// Rule KEEP: the output exists only where the centre of its window is valid.
static inline bool FN(gated)(const job *j, int64_t n, int64_t c, const int64_t *o) {
  return j->g->rule == MT_POOL_KEEP && j->has_mask &&
         FN(mask_at)(&j->mask, n, c, j->axis[0][o[0]].centre, j->axis[1][o[1]].centre, j->axis[2][o[2]].centre) == 0;
}

// ---- one tap: `block` channels, in vectors where they are neighbours in memory ------------------------------------------

MT_INLINE void FN(max_steps)(REAL *best, int32_t *where, const REAL *p, int64_t step, int64_t block, int32_t position) {
  for (int64_t c = 0; c < block; c++) {
    const REAL value = p[c * step], b = best[c];
    const int32_t w = where[c];
    const bool take = (w == 0) | (value > b) | ((value != value) & (b == b));
    best[c] = take ? value : b;
    where[c] = take ? position : w;
  }
}

MT_CLONES static void FN(max_tap)(REAL *best, int32_t *where, const REAL *p, int64_t step, int64_t block, int32_t position) {
  if (step == 1) {
    FN(max_steps)(best, where, p, 1, block, position);
  } else {
    FN(max_steps)(best, where, p, step, block, position);
  }
}

MT_CLONES static void FN(sum_tap)(double *sum, const REAL *p, int64_t step, int64_t block, double weight) {
  for (int64_t c = 0; c < block && step == 1; c++) {
    sum[c] += (double)p[c] * weight;
  }
  for (int64_t c = 0; c < block && step != 1; c++) {
    sum[c] += (double)p[c * step] * weight;
  }
}

MT_CLONES static void FN(share_tap)(REAL *p, const double *share, int64_t step, int64_t block, double weight) {
  for (int64_t c = 0; c < block && step == 1; c++) {
    p[c] += (REAL)(share[c] * weight);
  }
  for (int64_t c = 0; c < block && step != 1; c++) {
    p[c * step] += (REAL)(share[c] * weight);
  }
}

// ---- maximum -------------------------------------------------------------------------------------------------------

static void FN(max_window)(const job *j, int64_t n, int64_t c0, int64_t block, const int64_t *o) {
  REAL best[MT_CHANNEL_BLOCK] = {0};
  int32_t where[MT_CHANNEL_BLOCK] = {0};
  const window *wz = &j->axis[0][o[0]], *wy = &j->axis[1][o[1]], *wx = &j->axis[2][o[2]];
  const REAL *image = (const REAL *)j->x.data + n * j->x.step_n + c0 * j->x.step_c;
  const REAL *mask = j->has_mask ? (const REAL *)j->mask.data + n * j->mask.step_n + c0 * j->mask.step_c : NULL;
  for (int64_t z = wz->begin; z < wz->end; z += wz->step) {
    for (int64_t y = wy->begin; y < wy->end; y += wy->step) {
      for (int64_t x = wx->begin; x < wx->end; x += wx->step) {
        const REAL *p = image + z * j->x.step[0] + y * j->x.step[1] + x * j->x.step[2];
        const REAL *m = mask ? mask + z * j->mask.step[0] + y * j->mask.step[1] + x * j->mask.step[2] : NULL;
        int32_t position = (int32_t)((z * j->x.size[1] + y) * j->x.size[2] + x) + 1;
        if (m == NULL || j->mask.step_c == 0) {
          if (m == NULL || *m != 0) {
            FN(max_tap)(best, where, p, j->x.step_c, block, position);
          }
          continue;
        }
        for (int64_t c = 0; c < block; c++) {
          REAL value = p[c * j->x.step_c];
          bool valid = m[c * j->mask.step_c] != 0;
          if (valid && (where[c] == 0 || value > best[c] || (value != value && best[c] == best[c]))) {
            best[c] = value;
            where[c] = position;
          }
        }
      }
    }
  }
  REAL *out = (REAL *)j->y.data + mt_spatial_offset(&j->y, n, c0, o);
  int32_t *index = (int32_t *)j->index.data + mt_spatial_offset(&j->index, n, c0, o);
  bool none = false;
  for (int64_t c = 0; c < block; c++) {
    none = c == 0 || j->mask.step_c != 0 ? FN(gated)(j, n, c0 + c, o) : none;
    out[c * j->y.step_c] = none ? 0 : best[c];
    index[c * j->index.step_c] = none ? 0 : where[c];
  }
}

static void FN(max_forward)(void *context, int64_t begin, int64_t end) { run_rows(context, begin, end, FN(max_window)); }

// One image and one block of channels per item: windows overlap, so their gradients are added by one thread, in order.
static void FN(max_backward)(void *context, int64_t begin, int64_t end) {
  const job *j = context;
  // Pixels at equal distances in memory are found without divisions.
  const int64_t *step = j->x.step, *size = j->x.size;
  const bool even = size[2] > 1 && (size[1] == 1 || step[1] == size[2] * step[2]) &&
                    (size[0] == 1 || step[0] == size[1] * size[2] * step[2]);
  for (int64_t item = begin; item < end; item++) {
    int64_t n = item / j->blocks, c0 = item % j->blocks * j->block, c1 = MT_MIN(c0 + j->block, j->x.c), o[3];
    REAL *image = (REAL *)j->x.data + n * j->x.step_n;
    for (o[0] = 0; o[0] < j->y.size[0]; o[0]++) {
      for (o[1] = 0; o[1] < j->y.size[1]; o[1]++) {
        for (o[2] = 0; o[2] < j->y.size[2]; o[2]++) {
          for (int64_t c = c0; c < c1; c++) {
            int64_t at = (int64_t)((const int32_t *)j->index.data)[mt_spatial_offset(&j->index, n, c, o)] - 1;
            if (at >= 0 && at < j->pixels && even) {
              image[c * j->x.step_c + at * step[2]] += ((const REAL *)j->y.data)[mt_spatial_offset(&j->y, n, c, o)];
            } else if (at >= 0 && at < j->pixels) {
              int64_t x = at % j->x.size[2], y = at / j->x.size[2] % j->x.size[1], z = at / j->x.size[2] / j->x.size[1];
              image[c * j->x.step_c + z * j->x.step[0] + y * j->x.step[1] + x * j->x.step[2]] +=
                  ((const REAL *)j->y.data)[mt_spatial_offset(&j->y, n, c, o)];
            }
          }
        }
      }
    }
  }
}

// ---- average -------------------------------------------------------------------------------------------------------

// What the sum of a window is divided by, 0 where there is no output.
static double FN(divisor)(const job *j, int64_t n, int64_t c, const int64_t *o) {
  const window *wz = &j->axis[0][o[0]], *wy = &j->axis[1][o[1]], *wx = &j->axis[2][o[2]];
  if (FN(gated)(j, n, c, o)) {
    return 0;
  }
  if (!j->has_mask) {
    return j->g->count_window ? (double)(wz->extent * wy->extent * wx->extent) : (double)(wz->taps * wy->taps * wx->taps);
  }
  double sum = 0;
  for (int64_t z = wz->begin; z < wz->end; z += wz->step) {
    for (int64_t y = wy->begin; y < wy->end; y += wy->step) {
      for (int64_t x = wx->begin; x < wx->end; x += wx->step) {
        sum += FN(mask_at)(&j->mask, n, c, z, y, x);
      }
    }
  }
  return sum == 0 || !j->g->count_window ? sum : (double)(wz->extent * wy->extent * wx->extent);
}

static void FN(avg_window)(const job *j, int64_t n, int64_t c0, int64_t block, const int64_t *o) {
  double sum[MT_CHANNEL_BLOCK] = {0};
  const window *wz = &j->axis[0][o[0]], *wy = &j->axis[1][o[1]], *wx = &j->axis[2][o[2]];
  const REAL *image = (const REAL *)j->x.data + n * j->x.step_n + c0 * j->x.step_c;
  const REAL *mask = j->has_mask ? (const REAL *)j->mask.data + n * j->mask.step_n + c0 * j->mask.step_c : NULL;
  for (int64_t z = wz->begin; z < wz->end; z += wz->step) {
    for (int64_t y = wy->begin; y < wy->end; y += wy->step) {
      for (int64_t x = wx->begin; x < wx->end; x += wx->step) {
        const REAL *p = image + z * j->x.step[0] + y * j->x.step[1] + x * j->x.step[2];
        const REAL *m = mask ? mask + z * j->mask.step[0] + y * j->mask.step[1] + x * j->mask.step[2] : NULL;
        if (m == NULL || j->mask.step_c == 0) {
          if (m == NULL || *m != 0) {
            FN(sum_tap)(sum, p, j->x.step_c, block, m == NULL ? 1 : (double)*m);
          }
        } else {
          for (int64_t c = 0; c < block; c++) {
            double weight = m[c * j->mask.step_c], value = p[c * j->x.step_c];
            sum[c] += weight == 0 ? 0 : value * weight;
          }
        }
      }
    }
  }
  REAL *out = (REAL *)j->y.data + mt_spatial_offset(&j->y, n, c0, o);
  double divisor = 0;
  for (int64_t c = 0; c < block; c++) {
    if (c == 0 || j->mask.step_c != 0) {
      divisor = FN(divisor)(j, n, c0 + c, o);
    }
    out[c * j->y.step_c] = divisor == 0 ? 0 : (REAL)(sum[c] / divisor);
  }
}

static void FN(avg_forward)(void *context, int64_t begin, int64_t end) { run_rows(context, begin, end, FN(avg_window)); }

static void FN(avg_backward)(void *context, int64_t begin, int64_t end) {
  const job *j = context;
  for (int64_t item = begin; item < end; item++) {
    int64_t n = item / j->blocks, c0 = item % j->blocks * j->block, block = MT_MIN(j->block, j->x.c - c0), o[3];
    REAL *image = (REAL *)j->x.data + n * j->x.step_n + c0 * j->x.step_c;
    const REAL *mask = j->has_mask ? (const REAL *)j->mask.data + n * j->mask.step_n + c0 * j->mask.step_c : NULL;
    for (o[0] = 0; o[0] < j->y.size[0]; o[0]++) {
      for (o[1] = 0; o[1] < j->y.size[1]; o[1]++) {
        for (o[2] = 0; o[2] < j->y.size[2]; o[2]++) {
          const REAL *dy = (const REAL *)j->y.data + mt_spatial_offset(&j->y, n, c0, o);
          double share[MT_CHANNEL_BLOCK], divisor = 0;
          for (int64_t c = 0; c < block; c++) {
            if (c == 0 || j->mask.step_c != 0) {
              divisor = FN(divisor)(j, n, c0 + c, o);
            }
            share[c] = divisor == 0 ? 0 : (double)dy[c * j->y.step_c] / divisor;
          }
          const window *wz = &j->axis[0][o[0]], *wy = &j->axis[1][o[1]], *wx = &j->axis[2][o[2]];
          for (int64_t z = wz->begin; z < wz->end; z += wz->step) {
            for (int64_t y = wy->begin; y < wy->end; y += wy->step) {
              for (int64_t x = wx->begin; x < wx->end; x += wx->step) {
                REAL *p = image + z * j->x.step[0] + y * j->x.step[1] + x * j->x.step[2];
                const REAL *m = mask ? mask + z * j->mask.step[0] + y * j->mask.step[1] + x * j->mask.step[2] : NULL;
                if (m == NULL || j->mask.step_c == 0) {
                  if (m == NULL || *m != 0) {
                    FN(share_tap)(p, share, j->x.step_c, block, m == NULL ? 1 : (double)*m);
                  }
                } else {
                  for (int64_t c = 0; c < block; c++) {
                    double weight = m[c * j->mask.step_c];
                    p[c * j->x.step_c] += weight == 0 ? 0 : (REAL)(share[c] * weight);
                  }
                }
              }
            }
          }
        }
      }
    }
  }
}

// ---- mask ----------------------------------------------------------------------------------------------------------

static void FN(mask_window)(const job *j, int64_t n, int64_t c0, int64_t block, const int64_t *o) {
  const window *wz = &j->axis[0][o[0]], *wy = &j->axis[1][o[1]], *wx = &j->axis[2][o[2]];
  REAL *out = (REAL *)j->y.data + mt_spatial_offset(&j->y, n, c0, o);
  for (int64_t c = 0; c < block; c++) {
    double largest = 0, sum = 0;
    if (j->g->rule == MT_POOL_KEEP) {
      largest = FN(mask_at)(&j->mask, n, c0 + c, wz->centre, wy->centre, wx->centre);
    } else {
      for (int64_t z = wz->begin; z < wz->end; z += wz->step) {
        for (int64_t y = wy->begin; y < wy->end; y += wy->step) {
          for (int64_t x = wx->begin; x < wx->end; x += wx->step) {
            double m = FN(mask_at)(&j->mask, n, c0 + c, z, y, x);
            largest = m > largest ? m : largest;
            sum += m;
          }
        }
      }
    }
    int64_t taps = wz->taps * wy->taps * wx->taps;
    out[c * j->y.step_c] = j->g->rule == MT_POOL_COVERAGE ? (taps > 0 ? (REAL)(sum / (double)taps) : 0) : (REAL)largest;
  }
}

static void FN(mask_forward)(void *context, int64_t begin, int64_t end) { run_rows(context, begin, end, FN(mask_window)); }

#else
#include "row.h"
#include "spatial.h"

// The taps of one output along one axis.
typedef struct {
  int64_t begin, end, step;  // begin <= position < end, inside the image
  int64_t taps;              // how many
  int64_t extent;            // how many with the padding
  int64_t centre;            // position of the centre tap, clamped to the image
} window;

typedef struct {
  const mt_pool *g;
  mt_spatial x, y, mask, index;   // x also stands for dx, y for dy
  window *axis[3];
  bool has_mask;
  int64_t block, blocks;          // channels per item, blocks per image
  int64_t pixels;                 // of one image and channel
} job;

typedef void (*window_task)(const job *j, int64_t n, int64_t c0, int64_t block, const int64_t *o);

// Items are (image, output plane, output row, channel block).
static void run_rows(const job *j, int64_t begin, int64_t end, window_task task) {
  for (int64_t item = begin; item < end; item++) {
    int64_t rest = item, c0 = rest % j->blocks * j->block, o[3];
    rest /= j->blocks;
    o[1] = rest % j->y.size[1];
    rest /= j->y.size[1];
    o[0] = rest % j->y.size[0];
    int64_t n = rest / j->y.size[0], block = MT_MIN(j->block, j->y.c - c0);
    for (o[2] = 0; o[2] < j->y.size[2]; o[2]++) {
      task(j, n, c0, block, o);
    }
  }
}

#define MT_SOURCE "pool.c"
#include "twice.h"

// ---- windows -------------------------------------------------------------------------------------------------------

static int64_t reach(const mt_pool *g, int32_t d) { return g->dilation[d] * (g->kernel[d] - 1) + 1; }

static int check_geometry(const char *op, const mt_pool *g) {
  if (g == NULL || g->dims < 1 || g->dims > 3) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: expected 1 to 3 spatial axes, got %d", op, g ? g->dims : 0);
  }
  for (int32_t d = 0; d < g->dims && !g->adaptive; d++) {
    static const int64_t limit = INT64_C(1) << 31;
    if (g->kernel[d] < 1 || g->stride[d] < 1 || g->dilation[d] < 1 || g->kernel[d] > limit || g->stride[d] > limit ||
        g->dilation[d] > limit) {
      return mt_fail(MT_ERROR_ARGUMENT, "%s: kernel %s, stride %s, dilation %s: expected at least 1", op,
                     MT_SIZES(g->dims, g->kernel), MT_SIZES(g->dims, g->stride), MT_SIZES(g->dims, g->dilation));
    }
    if (g->padding[d] < 0 || g->padding[d] > reach(g, d) / 2) {
      return mt_fail(MT_ERROR_ARGUMENT, "%s: padding %s: expected 0 to half the window, which is %lld wide on axis %d", op,
                     MT_SIZES(g->dims, g->padding), (long long)reach(g, d), d + 1);
    }
  }
  return MT_OK;
}

int mt_pool_output_size(int64_t *out, const int64_t *in, const mt_pool *g) {
  MT_TRY(check_geometry("pool", g));
  if (g->adaptive) {
    return mt_fail(MT_ERROR_ARGUMENT, "pool: an adaptive window has no output size of its own");
  }
  for (int32_t d = 0; d < g->dims; d++) {
    if (in[d] < 0 || in[d] > INT64_MAX / 16) {  // more than a tensor can have
      return mt_fail(MT_ERROR_ARGUMENT, "pool: the sizes %s do not fit in 64 bits", MT_SIZES(g->dims, in));
    }
    int64_t room = in[d] + 2 * g->padding[d] - reach(g, d);
    if (in[d] < 1 || (room < 0 && !g->ceil_mode) || room <= -g->stride[d]) {
      return mt_fail(MT_ERROR_ARGUMENT, "pool: the window %s with padding %s does not fit into the input's %s",
                     MT_SIZES(g->dims, g->kernel), MT_SIZES(g->dims, g->padding), MT_SIZES(g->dims, in));
    }
    out[d] = (room + (g->ceil_mode ? g->stride[d] - 1 : 0)) / g->stride[d] + 1;
    if (g->ceil_mode && (out[d] - 1) * g->stride[d] >= in[d] + g->padding[d]) {
      out[d]--;
    }
  }
  return MT_OK;
}

static window adaptive_window(int64_t o, int64_t in, int64_t out) {
  // Sizes are below 2^31, so the products fit.
  int64_t begin = o * in / out, end = ((o + 1) * in + out - 1) / out;
  return (window){begin, end, 1, end - begin, end - begin, MT_MIN(begin + (end - begin) / 2, in - 1)};
}

static window regular_window(int64_t o, int64_t in, const mt_pool *g, int32_t d) {
  int64_t start = o * g->stride[d] - g->padding[d], step = g->dilation[d];
  int64_t begin = start < 0 ? start + (-start + step - 1) / step * step : start;
  int64_t end = MT_MIN(start + reach(g, d), in);
  int64_t padded = MT_MIN(start + g->kernel[d], in + g->padding[d]) - start;
  int64_t centre = start + g->kernel[d] / 2 * step;
  centre = centre < 0 ? 0 : centre;
  return (window){begin, end, step, end > begin ? (end - begin + step - 1) / step : 0, padded, MT_MIN(centre, in - 1)};
}

// Fills the tables of j->axis, which the caller frees with close_windows also after an error.
static int open_windows(job *j, const int64_t *in, const int64_t *out) {
  for (int a = 0; a < 3; a++) {
    int32_t d = a - (3 - j->g->dims);
    j->axis[a] = mt_alloc_array(MT_MAX(out[a], 1), (int64_t)sizeof(window));
    if (j->axis[a] == NULL) {
      return MT_ERROR_MEMORY;
    }
    for (int64_t o = 0; o < out[a]; o++) {
      j->axis[a][o] = d < 0 ? (window){0, 1, 1, 1, 1, 0}
                            : j->g->adaptive ? adaptive_window(o, in[a], out[a]) : regular_window(o, in[a], j->g, d);
    }
  }
  return MT_OK;
}

static void close_windows(job *j) {
  for (int a = 0; a < 3; a++) {
    mt_free(j->axis[a]);
  }
}

// ---- checks --------------------------------------------------------------------------------------------------------

// y (N, C, *S') fits x (N, C, *S) and g.
static int check_pooled(const char *op, const char *argument, const mt_tensor *y, const mt_tensor *x, const mt_pool *g) {
  int64_t shape[MT_MAX_DIMS] = {x->shape[0], x->shape[1]};
  MT_TRY(check_geometry(op, g));
  if (g->dims != x->ndim - 2) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: input: expected %d spatial axes, got %s", op, g->dims, MT_SHAPE(x));
  }
  if (g->adaptive) {
    MT_TRY(mt_check_ndim(op, argument, y, x->ndim));
    for (int32_t d = 2; d < x->ndim; d++) {
      if (x->shape[d] < 1 || y->shape[d] < 1 || x->shape[d] >= INT64_C(1) << 31 || y->shape[d] >= INT64_C(1) << 31) {
        return mt_fail(MT_ERROR_ARGUMENT, "%s: expected sizes of at least 1, got %s -> %s", op, MT_SHAPE(x), MT_SHAPE(y));
      }
      shape[d] = y->shape[d];
    }
  } else {
    MT_TRY(mt_pool_output_size(shape + 2, x->shape + 2, g));
  }
  MT_TRY(mt_check_dtype(op, argument, y, x->dtype));
  return mt_check_shape(op, argument, y, x->ndim, shape);
}

static int check_written(const char *op, const char *argument, const mt_tensor *y, const mt_tensor *x) {
  MT_TRY(mt_check_output(op, argument, y));
  return mt_check_overlap(op, y, x, false);
}

static int64_t image_pixels(const mt_spatial *v) { return v->size[0] * v->size[1] * v->size[2]; }

static job job_of(const mt_tensor *x, const mt_tensor *y, const mt_tensor *mask, const mt_pool *g) {
  job j = {.g = g, .x = mt_spatial_of(x), .y = mt_spatial_of(y), .has_mask = mask != NULL};
  if (mask != NULL) {
    j.mask = mt_spatial_of(mask);
  }
  j.block = mt_channel_block(&j.x);
  j.blocks = (j.x.c + j.block - 1) / j.block;
  j.pixels = image_pixels(&j.x);
  return j;
}

// Windows in parallel, output row by output row.
static int run_windows(job *j, mt_task task) {
  int status = open_windows(j, j->x.size, j->y.size);
  if (status == MT_OK) {
    int64_t work = MT_MAX(j->y.size[2] * j->block, 1);
    status = mt_parallel(j->y.n * j->y.size[0] * j->y.size[1] * j->blocks, 1 + 8192 / work, task, j);
  }
  close_windows(j);
  return status;
}

// ---- the contract --------------------------------------------------------------------------------------------------

int mt_pool_max_forward(mt_tensor *y, mt_tensor *index, const mt_tensor *x, const mt_tensor *mask, const mt_pool *g) {
  MT_TRY(mt_spatial_check("max_pool", "input", x));
  MT_TRY(check_pooled("max_pool", "output", y, x, g));
  MT_TRY(check_written("max_pool", "output", y, x));
  MT_TRY(mt_check_dtype("max_pool", "index", index, MT_INT32));
  MT_TRY(mt_check_shape("max_pool", "index", index, y->ndim, y->shape));
  MT_TRY(check_written("max_pool", "index", index, x));
  if (mask != NULL) {
    MT_TRY(mt_spatial_check_mask("max_pool", mask, x));
  }
  job j = job_of(x, y, mask, g);
  if (j.pixels > INT32_MAX - 1) {
    return mt_fail(MT_ERROR_ARGUMENT, "max_pool: input: more than 2^31 positions per channel: %s", MT_SHAPE(x));
  }
  j.index = mt_spatial_of(index);
  return run_windows(&j, MT_REAL_FN(x->dtype, max_forward));
}

int mt_pool_max_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *index) {
  MT_TRY(mt_spatial_check("max_pool", "gradient", dy));
  MT_TRY(mt_check_dtype("max_pool", "input's gradient", dx, dy->dtype));
  MT_TRY(mt_check_ndim("max_pool", "input's gradient", dx, dy->ndim));
  MT_TRY(check_written("max_pool", "input's gradient", dx, dy));
  MT_TRY(mt_check_dtype("max_pool", "index", index, MT_INT32));
  MT_TRY(mt_check_shape("max_pool", "index", index, dy->ndim, dy->shape));
  if (dx->shape[0] != dy->shape[0] || dx->shape[1] != dy->shape[1]) {
    return mt_fail(MT_ERROR_ARGUMENT, "max_pool: the gradient %s does not belong to an input %s", MT_SHAPE(dy), MT_SHAPE(dx));
  }
  MT_TRY(mt_tensor_fill(dx, 0));
  job j = job_of(dx, dy, NULL, NULL);
  j.index = mt_spatial_of(index);
  return mt_parallel(j.x.n * j.blocks, 1, MT_REAL_FN(dx->dtype, max_backward), &j);
}

int mt_pool_avg_forward(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, const mt_pool *g) {
  MT_TRY(mt_spatial_check("avg_pool", "input", x));
  MT_TRY(check_pooled("avg_pool", "output", y, x, g));
  MT_TRY(check_written("avg_pool", "output", y, x));
  if (mask != NULL) {
    MT_TRY(mt_spatial_check_mask("avg_pool", mask, x));
  }
  job j = job_of(x, y, mask, g);
  return run_windows(&j, MT_REAL_FN(x->dtype, avg_forward));
}

int mt_pool_avg_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *mask, const mt_pool *g) {
  MT_TRY(mt_spatial_check("avg_pool", "input's gradient", dx));
  MT_TRY(check_pooled("avg_pool", "gradient", dy, dx, g));
  MT_TRY(check_written("avg_pool", "input's gradient", dx, dy));
  if (mask != NULL) {
    MT_TRY(mt_spatial_check_mask("avg_pool", mask, dx));
  }
  MT_TRY(mt_tensor_fill(dx, 0));
  job j = job_of(dx, dy, mask, g);
  int status = open_windows(&j, j.x.size, j.y.size);
  if (status == MT_OK) {
    status = mt_parallel(j.x.n * j.blocks, 1, MT_REAL_FN(dx->dtype, avg_backward), &j);
  }
  close_windows(&j);
  return status;
}

int mt_pool_mask(mt_tensor *out, const mt_tensor *mask, const mt_pool *g) {
  MT_TRY(mt_spatial_check("pool", "mask", mask));
  MT_TRY(check_pooled("pool", "output mask", out, mask, g));
  MT_TRY(check_written("pool", "output mask", out, mask));
  job j = job_of(mask, out, mask, g);
  return run_windows(&j, MT_REAL_FN(mask->dtype, mask_forward));
}

#endif
