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
  const mt_pool_window *wz = &j->axis[0][o[0]], *wy = &j->axis[1][o[1]], *wx = &j->axis[2][o[2]];
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
  const mt_pool_window *wz = &j->axis[0][o[0]], *wy = &j->axis[1][o[1]], *wx = &j->axis[2][o[2]];
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
  const mt_pool_window *wz = &j->axis[0][o[0]], *wy = &j->axis[1][o[1]], *wx = &j->axis[2][o[2]];
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
          const mt_pool_window *wz = &j->axis[0][o[0]], *wy = &j->axis[1][o[1]], *wx = &j->axis[2][o[2]];
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
  const mt_pool_window *wz = &j->axis[0][o[0]], *wy = &j->axis[1][o[1]], *wx = &j->axis[2][o[2]];
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
#include "pool_check.h"
#include "pool_window.h"

typedef struct {
  const mt_pool *g;
  mt_spatial x, y, mask, index;   // x also stands for dx, y for dy
  mt_pool_window *axis[3];
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

// Fills the tables of j->axis, which the caller frees with close_windows also after an error.
static int open_windows(job *j, const int64_t *in, const int64_t *out) {
  for (int a = 0; a < 3; a++) {
    j->axis[a] = mt_alloc_array(MT_MAX(out[a], 1), (int64_t)sizeof(mt_pool_window));
    if (j->axis[a] == NULL) {
      return MT_ERROR_MEMORY;
    }
    const mt_pool_axis axis = mt_pool_axis_of(a, in[a], out[a], j->g);
    for (int64_t o = 0; o < out[a]; o++) {
      j->axis[a][o] = mt_pool_window_of(o, axis);
    }
  }
  return MT_OK;
}

static void close_windows(job *j) {
  for (int a = 0; a < 3; a++) {
    mt_free(j->axis[a]);
  }
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
  MT_TRY(mt_pool_check_max_forward(y, index, x, mask, g));
  job j = job_of(x, y, mask, g);
  j.index = mt_spatial_of(index);
  return run_windows(&j, MT_REAL_FN(x->dtype, max_forward));
}

int mt_pool_max_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *index, const mt_pool *g) {
  MT_TRY(mt_pool_check_max_backward(dx, dy, index, g));
  MT_TRY(mt_tensor_fill(dx, 0));
  job j = job_of(dx, dy, NULL, NULL);
  j.index = mt_spatial_of(index);
  return mt_parallel(j.x.n * j.blocks, 1, MT_REAL_FN(dx->dtype, max_backward), &j);
}

int mt_pool_avg_forward(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, const mt_pool *g) {
  MT_TRY(mt_pool_check_avg_forward(y, x, mask, g));
  job j = job_of(x, y, mask, g);
  return run_windows(&j, MT_REAL_FN(x->dtype, avg_forward));
}

int mt_pool_avg_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *mask, const mt_pool *g) {
  MT_TRY(mt_pool_check_avg_backward(dx, dy, mask, g));
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
  MT_TRY(mt_pool_check_mask(out, mask, g));
  job j = job_of(mask, out, mask, g);
  return run_windows(&j, MT_REAL_FN(mask->dtype, mask_forward));
}

#endif
