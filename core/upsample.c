// upsample: see upsample.h. Forward and backward share the weights of an output's neighbours.
#ifdef REAL

// The weights of the 8 neighbours of output o for channel c, in raster order; 0 where a neighbour does not count.
static void FN(weights)(double weight[8], const job *j, int64_t n, int64_t c, const int64_t *o) {
  const mt_upsample_tap *t[3] = {&j->axis[0][o[0]], &j->axis[1][o[1]], &j->axis[2][o[2]]};
  double valid[8];
  for (int k = 0; k < 8; k++) {
    const int64_t p[3] = {t[0]->at[k >> 2], t[1]->at[k >> 1 & 1], t[2]->at[k & 1]};
    valid[k] = j->has_mask ? (double)((const REAL *)j->mask.data)[mt_spatial_offset(&j->mask, n, c, p)] : 1;
  }
  if (j->has_mask && j->g->rule == MT_UPSAMPLE_KEEP) {
    const int64_t p[3] = {t[0]->nearest, t[1]->nearest, t[2]->nearest};
    if (((const REAL *)j->mask.data)[mt_spatial_offset(&j->mask, n, c, p)] == 0) {
      memset(weight, 0, 8 * sizeof *weight);
      return;
    }
  }
  mt_upsample_weigh(weight, valid, t[0]->weight, t[1]->weight, t[2]->weight);
}

// The neighbours that count, in raster order: their offsets in x and their weights. Returns how many.
static int FN(neighbours)(int64_t offset[8], double weight[8], const job *j, int64_t n, int64_t c, const int64_t *o) {
  const mt_upsample_tap *z = &j->axis[0][o[0]], *y = &j->axis[1][o[1]], *x = &j->axis[2][o[2]];
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
      const mt_upsample_tap *t[3] = {&j->axis[0][o[0]], &j->axis[1][o[1]], &j->axis[2][o[2]]};
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
#include "row.h"
#include "upsample_check.h"
#include "upsample_taps.h"

typedef struct {
  const mt_upsample *g;
  mt_spatial x, y, mask;     // x also stands for dx, y for dy
  mt_upsample_tap *axis[3];
  bool has_mask;
  int64_t block, blocks;
} job;

#define MT_SOURCE "upsample.c"
#include "twice.h"

static int open_taps(job *j) {
  for (int a = 0; a < 3; a++) {
    j->axis[a] = mt_alloc_array(MT_MAX(j->y.size[a], 1), (int64_t)sizeof(mt_upsample_tap));
    if (j->axis[a] == NULL) {
      return MT_ERROR_MEMORY;
    }
    const mt_upsample_axis axis = mt_upsample_axis_of(a, j->x.size[a], j->y.size[a], j->g);
    for (int64_t o = 0; o < j->y.size[a]; o++) {
      j->axis[a][o] = mt_upsample_tap_of(o, axis);
    }
  }
  return MT_OK;
}

static void close_taps(job *j) {
  for (int a = 0; a < 3; a++) {
    mt_free(j->axis[a]);
  }
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
  MT_TRY(mt_upsample_check_forward(y, x, mask, g));
  job j = job_of(x, y, mask, g);
  int64_t rows = j.y.n * j.y.size[0] * j.y.size[1] * j.blocks;
  return run(&j, rows, 1 + 4096 / MT_MAX(j.y.size[2] * j.block, 1), MT_REAL_FN(x->dtype, forward));
}

int mt_upsample_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *mask, const mt_upsample *g) {
  MT_TRY(mt_upsample_check_backward(dx, dy, mask, g));
  MT_TRY(mt_tensor_fill(dx, 0));
  job j = job_of(dx, dy, mask, g);
  return run(&j, j.x.n * j.blocks, 1, MT_REAL_FN(dx->dtype, backward));
}

int mt_upsample_mask(mt_tensor *out, const mt_tensor *mask, const mt_upsample *g) {
  MT_TRY(mt_upsample_check_forward(out, mask, NULL, g));
  job j = job_of(mask, out, mask, g);
  int64_t rows = j.y.n * j.y.c * j.y.size[0] * j.y.size[1];
  return run(&j, rows, 1 + 4096 / j.y.size[2], mask->dtype == MT_FLOAT32 ? mask_f32 : mask_f64);
}

#endif
