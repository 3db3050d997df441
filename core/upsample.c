// upsample: see upsample.h. Forward and backward share the weights of an output's neighbours.
#ifdef REAL

// The weights of the 8 neighbours of output o for channel c, in raster order; 0 where a neighbour does not count.
static void FN(weights)(double weight[8], const job *j, int64_t n, int64_t c, const int64_t *o) {
  const tap *t[3] = {&j->axis[0][o[0]], &j->axis[1][o[1]], &j->axis[2][o[2]]};
  double valid[8];
  for (int k = 0; k < 8; k++) {
    const int64_t p[3] = {t[0]->at[k >> 2], t[1]->at[k >> 1 & 1], t[2]->at[k & 1]};
    valid[k] = j->has_mask ? (double)((const REAL *)j->mask.data)[mt_spatial_offset(&j->mask, n, c, p)] : 1;
    weight[k] = 1;
  }
  if (j->has_mask && j->g->rule == MT_UPSAMPLE_KEEP) {
    const int64_t p[3] = {t[0]->nearest, t[1]->nearest, t[2]->nearest};
    if (((const REAL *)j->mask.data)[mt_spatial_offset(&j->mask, n, c, p)] == 0) {
      memset(weight, 0, 8 * sizeof *weight);
      return;
    }
  }
  // Pairs along the last axis, then pairs of pairs, then of fours: `valid` of a group is kept at its first member.
  for (int a = 2, half = 1; a >= 0; a--, half *= 2) {
    for (int k = 0; k < 8; k += 2 * half) {
      pair p = join(valid[k], valid[k + half], t[a]->weight[0], t[a]->weight[1]);
      for (int i = 0; i < half; i++) {
        weight[k + i] = p.first == 0 ? 0 : weight[k + i] * p.first;
        weight[k + half + i] = p.second == 0 ? 0 : weight[k + half + i] * p.second;
      }
      valid[k] = p.valid;
    }
  }
}

// The neighbours that count, in raster order: their offsets in x and their weights. Returns how many.
static int FN(neighbours)(int64_t offset[8], double weight[8], const job *j, int64_t n, int64_t c, const int64_t *o) {
  const tap *z = &j->axis[0][o[0]], *y = &j->axis[1][o[1]], *x = &j->axis[2][o[2]];
  double all[8];
  if (j->has_mask) {
    FN(weights)(all, j, n, c, o);
  }
  int count = 0;
  for (int kz = 0; kz <= (z->weight[1] != 0); kz++) {
    for (int ky = 0; ky <= (y->weight[1] != 0); ky++) {
      for (int kx = 0; kx <= (x->weight[1] != 0); kx++) {
        // The same products in the same order as for a mask of ones.
        double w = j->has_mask ? all[4 * kz + 2 * ky + kx] : x->weight[kx] * y->weight[ky] * z->weight[kz];
        if (w != 0) {
          offset[count] = z->at[kz] * j->x.step[0] + y->at[ky] * j->x.step[1] + x->at[kx] * j->x.step[2];
          weight[count++] = w;
        }
      }
    }
  }
  return count;
}

// Channels [c0, c0 + block) of one output. The mask is one for all of them unless it has channels of its own.
static void FN(gather)(const job *j, int64_t n, int64_t c0, int64_t block, const int64_t *o) {
  const REAL *x = (const REAL *)j->x.data + n * j->x.step_n + c0 * j->x.step_c;
  REAL *y = (REAL *)j->y.data + mt_spatial_offset(&j->y, n, c0, o);
  double weight[8], sum[MT_CHANNEL_BLOCK] = {0};
  int64_t offset[8];
  int count = FN(neighbours)(offset, weight, j, n, c0, o);
  for (int k = 0; k < count; k++) {
    const REAL *p = x + offset[k];
    for (int64_t c = 0; c < block; c++) {
      sum[c] += weight[k] * (double)p[c * j->x.step_c];
    }
  }
  for (int64_t c = 0; c < block; c++) {
    y[c * j->y.step_c] = (REAL)sum[c];
  }
}

static void FN(forward)(void *context, int64_t begin, int64_t end) {
  const job *j = context;
  for (int64_t item = begin; item < end; item++) {
    int64_t rest = item / j->blocks, c0 = item % j->blocks * j->block, o[3];
    o[1] = rest % j->y.size[1];
    o[0] = rest / j->y.size[1] % j->y.size[0];
    int64_t n = rest / j->y.size[1] / j->y.size[0], block = MT_MIN(j->block, j->x.c - c0);
    for (o[2] = 0; o[2] < j->y.size[2]; o[2]++) {
      FN(gather)(j, n, c0, block, o);
    }
  }
}

static void FN(scatter)(const job *j, int64_t n, int64_t c0, int64_t block, const int64_t *o) {
  REAL *dx = (REAL *)j->x.data + n * j->x.step_n + c0 * j->x.step_c;
  const REAL *dy = (const REAL *)j->y.data + mt_spatial_offset(&j->y, n, c0, o);
  double weight[8];
  int64_t offset[8];
  int count = FN(neighbours)(offset, weight, j, n, c0, o);
  for (int k = 0; k < count; k++) {
    REAL *p = dx + offset[k];
    for (int64_t c = 0; c < block; c++) {
      p[c * j->x.step_c] += (REAL)(weight[k] * (double)dy[c * j->y.step_c]);
    }
  }
}

// One image and one block of channels per item: neighbouring outputs share inputs, so one thread adds, in order.
static void FN(backward)(void *context, int64_t begin, int64_t end) {
  const job *j = context;
  for (int64_t item = begin; item < end; item++) {
    int64_t n = item / j->blocks, c0 = item % j->blocks * j->block, block = MT_MIN(j->block, j->x.c - c0), o[3];
    for (o[0] = 0; o[0] < j->y.size[0]; o[0]++) {
      for (o[1] = 0; o[1] < j->y.size[1]; o[1]++) {
        for (o[2] = 0; o[2] < j->y.size[2]; o[2]++) {
          FN(scatter)(j, n, c0, block, o);
        }
      }
    }
  }
}

static void FN(mask)(void *context, int64_t begin, int64_t end) {
  const job *j = context;
  for (int64_t item = begin; item < end; item++) {
    int64_t rest = item, o[3];
    o[1] = rest % j->y.size[1];
    rest /= j->y.size[1];
    o[0] = rest % j->y.size[0];
    rest /= j->y.size[0];
    int64_t c = rest % j->y.c, n = rest / j->y.c;
    for (o[2] = 0; o[2] < j->y.size[2]; o[2]++) {
      const tap *t[3] = {&j->axis[0][o[0]], &j->axis[1][o[1]], &j->axis[2][o[2]]};
      const int64_t nearest[3] = {t[0]->nearest, t[1]->nearest, t[2]->nearest};
      double smallest = INFINITY, largest = 0, mean = 0;
      for (int k = 0; k < 8; k++) {
        const int64_t p[3] = {t[0]->at[k >> 2], t[1]->at[k >> 1 & 1], t[2]->at[k & 1]};
        double weight = t[0]->weight[k >> 2] * t[1]->weight[k >> 1 & 1] * t[2]->weight[k & 1];
        double m = ((const REAL *)j->mask.data)[mt_spatial_offset(&j->mask, n, c, p)];
        if (weight > 0) {
          largest = m > largest ? m : largest;
          smallest = m < smallest ? m : smallest;
          mean += weight * m;
        }
      }
      if (j->g->rule == MT_UPSAMPLE_KEEP) {
        largest = ((const REAL *)j->mask.data)[mt_spatial_offset(&j->mask, n, c, nearest)];
      }
      // The weights add up to 1 but for rounding: equal masks give exactly that mask.
      double value = j->g->rule == MT_UPSAMPLE_COVERAGE && smallest != largest ? mean : largest;
      ((REAL *)j->y.data)[mt_spatial_offset(&j->y, n, c, o)] = (REAL)value;
    }
  }
}

#else
#include "spatial.h"

// The two neighbours of one output along one axis. A neighbour of weight 0 stands at the other's position.
typedef struct {
  int64_t at[2], nearest;
  double weight[2];
} tap;

// What two neighbours count, and the validity of their mean.
typedef struct {
  double first, second, valid;
} pair;

typedef struct {
  const mt_upsample *g;
  mt_spatial x, y, mask;     // x also stands for dx, y for dy
  tap *axis[3];
  bool has_mask;
  int64_t block, blocks;
} job;

static inline pair join(double a, double b, double u, double v) {
  if (v == 0) {
    return (pair){a != 0, 0, a};
  }
  if (u == 0) {
    return (pair){0, b != 0, b};
  }
  if (b == 0) {
    return (pair){a != 0, 0, u * a};
  }
  if (a == 0) {
    return (pair){0, 1, v * b};
  }
  if (a == b) {
    return (pair){u, v, a};
  }
  double sum = u * a + v * b;
  return (pair){u * a / sum, v * b / sum, sum};
}

#define MT_SOURCE "upsample.c"
#include "twice.h"

static int64_t clamp(double p, int64_t size) {
  double last = (double)(size - 1);
  return (int64_t)(p < 0 ? 0 : p > last ? last : p);
}

static tap tap_of(int64_t o, int64_t in, int64_t out, const mt_upsample *g, int32_t d) {
  if (d < 0) {
    return (tap){{0, 0}, 0, {1, 0}};
  }
  double scale = g->scale[d] > 0 ? g->scale[d] : (double)in / (double)out;
  if (g->mode == MT_UPSAMPLE_NEAREST) {
    int64_t at = clamp(floor((double)o * scale), in);
    return (tap){{at, at}, at, {1, 0}};
  }
  double p = ((double)o + 0.5) * scale - 0.5;
  if (g->mode == MT_UPSAMPLE_ALIGNED) {
    p = out > 1 ? (double)o * (double)(in - 1) / (double)(out - 1) : 0;
  }
  p = p < 0 ? 0 : p;
  int64_t first = clamp(floor(p), in), nearest = clamp(floor(p + 0.5), in);
  double fraction = p - (double)first;
  if (first == in - 1 || fraction == 0) {
    return (tap){{first, first}, nearest, {1, 0}};
  }
  return (tap){{first, first + 1}, nearest, {1 - fraction, fraction}};
}

static int open_taps(job *j) {
  for (int a = 0; a < 3; a++) {
    j->axis[a] = mt_alloc_array(MT_MAX(j->y.size[a], 1), (int64_t)sizeof(tap));
    if (j->axis[a] == NULL) {
      return MT_ERROR_MEMORY;
    }
    for (int64_t o = 0; o < j->y.size[a]; o++) {
      j->axis[a][o] = tap_of(o, j->x.size[a], j->y.size[a], j->g, a - (3 - j->g->dims));
    }
  }
  return MT_OK;
}

static void close_taps(job *j) {
  for (int a = 0; a < 3; a++) {
    mt_free(j->axis[a]);
  }
}

// y belongs to x: same batch, channels and dtype, sizes of at least 1.
static int check(const mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, const mt_upsample *g) {
  MT_TRY(mt_spatial_check("upsample", "input", x));
  MT_TRY(mt_check_dtype("upsample", "output", y, x->dtype));
  MT_TRY(mt_check_ndim("upsample", "output", y, x->ndim));
  if (g == NULL) {
    return mt_fail(MT_ERROR_ARGUMENT, "upsample: geometry: expected a value, got nil");
  }
  if (g->dims != x->ndim - 2 || g->mode < 0 || g->mode > MT_UPSAMPLE_ALIGNED || g->rule < 0 || g->rule > MT_UPSAMPLE_COVERAGE) {
    return mt_fail(MT_ERROR_ARGUMENT, "upsample: expected %d spatial axes and a known mode and rule, got %s", g->dims,
                   MT_SHAPE(x));
  }
  bool fits = y->shape[0] == x->shape[0] && y->shape[1] == x->shape[1];
  for (int32_t d = 2; d < x->ndim; d++) {
    fits = fits && x->shape[d] >= 1 && y->shape[d] >= 1 && g->scale[d - 2] >= 0 && isfinite(g->scale[d - 2]);
  }
  if (!fits) {
    return mt_fail(MT_ERROR_ARGUMENT, "upsample: expected sizes of at least 1, got %s -> %s", MT_SHAPE(x), MT_SHAPE(y));
  }
  return mask != NULL ? mt_spatial_check_mask("upsample", mask, x) : MT_OK;
}

static int check_written(const mt_tensor *y, const mt_tensor *x) {
  MT_TRY(mt_check_output("upsample", "output", y));
  return mt_check_overlap("upsample", y, x, false);
}

static job job_of(const mt_tensor *x, const mt_tensor *y, const mt_tensor *mask, const mt_upsample *g) {
  job j = {.g = g, .x = mt_spatial_of(x), .y = mt_spatial_of(y), .has_mask = mask != NULL};
  if (mask != NULL) {
    j.mask = mt_spatial_of(mask);
  }
  // Channels with masks of their own have weights of their own.
  j.block = j.mask.step_c != 0 ? 1 : mt_channel_block(&j.x);
  j.blocks = (j.x.c + j.block - 1) / j.block;
  return j;
}

static int run(job *j, int64_t items, int64_t grain, mt_task task) {
  int status = open_taps(j);
  if (status == MT_OK) {
    status = mt_parallel(items, grain, task, j);
  }
  close_taps(j);
  return status;
}

int mt_upsample_forward(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, const mt_upsample *g) {
  MT_TRY(check(y, x, mask, g));
  MT_TRY(check_written(y, x));
  job j = job_of(x, y, mask, g);
  int64_t rows = j.y.n * j.y.size[0] * j.y.size[1] * j.blocks;
  return run(&j, rows, 1 + 4096 / MT_MAX(j.y.size[2] * j.block, 1), MT_REAL_FN(x->dtype, forward));
}

int mt_upsample_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *mask, const mt_upsample *g) {
  MT_TRY(check(dy, dx, mask, g));
  MT_TRY(check_written(dx, dy));
  MT_TRY(mt_tensor_fill(dx, 0));
  job j = job_of(dx, dy, mask, g);
  return run(&j, j.x.n * j.blocks, 1, MT_REAL_FN(dx->dtype, backward));
}

int mt_upsample_mask(mt_tensor *out, const mt_tensor *mask, const mt_upsample *g) {
  MT_TRY(check(out, mask, NULL, g));
  MT_TRY(check_written(out, mask));
  job j = job_of(mask, out, mask, g);
  int64_t rows = j.y.n * j.y.c * j.y.size[0] * j.y.size[1];
  return run(&j, rows, 1 + 4096 / j.y.size[2], mask->dtype == MT_FLOAT32 ? mask_f32 : mask_f64);
}

#endif
