// pool_mean: the mean over all spatial axes, masked or not. See pool.h.
#ifdef REAL

MT_CLONES static void FN(sum_pixel)(double *sum, const REAL *p, int64_t step, int64_t block) {
  for (int64_t c = 0; c < block && step == 1; c++) {
    sum[c] += (double)p[c];
  }
  for (int64_t c = 0; c < block && step != 1; c++) {
    sum[c] += (double)p[c * step];
  }
}

// Sums over the image for a block of channels: of the mask, and (image not NULL) of x where it counts.
static void FN(mean_sums)(const mean_job *j, int64_t n, int64_t c0, int64_t block, double *sum, double *weights) {
  const REAL *image = j->x_read ? (const REAL *)j->x.data + n * j->x.step_n + c0 * j->x.step_c : NULL;
  const REAL *mask = j->has_mask ? (const REAL *)j->mask.data + n * j->mask.step_n + c0 * j->mask.step_c : NULL;
  double weight = 0;  // of a mask of one channel
  for (int64_t c = 0; c < block; c++) {
    sum[c] = 0;
    weights[c] = mask == NULL ? (double)j->pixels : 0;
  }
  for (int64_t z = 0; z < j->x.size[0]; z++) {
    for (int64_t y = 0; y < j->x.size[1]; y++) {
      for (int64_t x = 0; x < j->x.size[2]; x++) {
        const REAL *p = image == NULL ? NULL : image + z * j->x.step[0] + y * j->x.step[1] + x * j->x.step[2];
        if (mask == NULL) {
          if (p != NULL) {
            FN(sum_pixel)(sum, p, j->x.step_c, block);
          }
          continue;
        }
        const REAL *m = mask + z * j->mask.step[0] + y * j->mask.step[1] + x * j->mask.step[2];
        if (j->mask.step_c == 0) {
          weight += (double)*m;
          if (p != NULL && (*m != 0 || j->holes == MT_POOL_ORIGINAL)) {
            FN(sum_pixel)(sum, p, j->x.step_c, block);
          }
          continue;
        }
        for (int64_t c = 0; c < block; c++) {
          double value = m[c * j->mask.step_c];
          weights[c] += value;
          if (p != NULL) {
            sum[c] += value == 0 && j->holes != MT_POOL_ORIGINAL ? 0 : (double)p[c * j->x.step_c];
          }
        }
      }
    }
  }
  for (int64_t c = 0; c < block && mask != NULL && j->mask.step_c == 0; c++) {
    weights[c] = weight;
  }
}

static void FN(mean_forward)(void *context, int64_t begin, int64_t end) {
  const mean_job *j = context;
  static const int64_t origin[3] = {0, 0, 0};
  for (int64_t item = begin; item < end; item++) {
    int64_t n = item / j->blocks, c0 = item % j->blocks * j->block, block = MT_MIN(j->block, j->x.c - c0);
    double sum[MEAN_BLOCK], weights[MEAN_BLOCK];
    FN(mean_sums)(j, n, c0, block, sum, weights);
    REAL *out = (REAL *)j->y.data + mt_spatial_offset(&j->y, n, c0, origin);
    for (int64_t c = 0; c < block; c++) {
      double divisor = j->has_mask ? weights[c] + j->eps : weights[c];
      out[c * j->y.step_c] = j->has_mask && divisor == 0 ? 0 : (REAL)(sum[c] / divisor);
    }
  }
}

static void FN(mean_backward)(void *context, int64_t begin, int64_t end) {
  const mean_job *j = context;
  static const int64_t origin[3] = {0, 0, 0};
  for (int64_t item = begin; item < end; item++) {
    int64_t n = item / j->blocks, c0 = item % j->blocks * j->block, block = MT_MIN(j->block, j->x.c - c0);
    double sum[MEAN_BLOCK], weights[MEAN_BLOCK];
    if (j->has_mask) {
      FN(mean_sums)(j, n, c0, block, sum, weights);
    }
    const REAL *dy = (const REAL *)j->y.data + mt_spatial_offset(&j->y, n, c0, origin);
    REAL *image = (REAL *)j->x.data + n * j->x.step_n + c0 * j->x.step_c;
    bool selects = j->has_mask && j->holes == MT_POOL_SELECT;
    const REAL *mask = selects ? (const REAL *)j->mask.data + n * j->mask.step_n + c0 * j->mask.step_c : NULL;
    REAL value[MEAN_BLOCK];
    for (int64_t c = 0; c < block; c++) {
      double divisor = j->has_mask ? weights[c] + j->eps : (double)j->pixels;
      if (divisor == 0 && j->holes == MT_POOL_VALUES) {
        divisor = 1e-8;
      }
      value[c] = divisor == 0 ? 0 : (REAL)((double)dy[c * j->y.step_c] / divisor);
    }
    for (int64_t z = 0; z < j->x.size[0]; z++) {
      for (int64_t y = 0; y < j->x.size[1]; y++) {
        for (int64_t x = 0; x < j->x.size[2]; x++) {
          REAL *p = image + z * j->x.step[0] + y * j->x.step[1] + x * j->x.step[2];
          int64_t at = z * j->mask.step[0] + y * j->mask.step[1] + x * j->mask.step[2];
          if (mask != NULL && j->mask.step_c != 0) {
            for (int64_t c = 0; c < block; c++) p[c * j->x.step_c] = mask[at + c * j->mask.step_c] != 0 ? value[c] : 0;
          } else if (mask != NULL && mask[at] == 0) {
            for (int64_t c = 0; c < block; c++) p[c * j->x.step_c] = 0;
          } else if (j->x.step_c == 1) {
            memcpy(p, value, sizeof(REAL) * (size_t)block);
          } else {
            for (int64_t c = 0; c < block; c++) p[c * j->x.step_c] = value[c];
          }
        }
      }
    }
  }
}

static void FN(coverage)(const mean_job *j, mt_spatial *out) {
  for (int64_t n = 0; n < out->n; n++) {
    for (int64_t c = 0; c < out->c; c++) {
      double sum[1], weights[1];
      FN(mean_sums)(j, n, c, 1, sum, weights);
      ((REAL *)out->data)[n * out->step_n + c * out->step_c] = (REAL)(weights[0] / (double)j->pixels);
    }
  }
}

#else
#include "pool_check.h"
#include "row.h"

enum { MEAN_BLOCK = 512 };

typedef struct {
  mt_spatial x, y, mask;   // x also stands for dx, y for dy
  bool has_mask, x_read;
  double eps;
  int32_t holes;
  int64_t block, blocks;   // channels per item, blocks per image
  int64_t pixels;          // of one image and channel
} mean_job;

#define MT_SOURCE "pool_mean.c"
#include "twice.h"

// (N, C) as a tensor with one pixel.
static mt_spatial as_pixel(const mt_tensor *t) {
  mt_spatial v = {.data = t->data, .n = t->shape[0], .c = t->shape[1], .size = {1, 1, 1}};
  v.step_n = v.n == 1 ? 0 : t->stride[0];
  v.step_c = v.c == 1 ? 0 : t->stride[1];
  return v;
}

static mean_job job_of(const mt_tensor *x, const mt_tensor *y, const mt_tensor *mask, double eps, int32_t holes) {
  mean_job j = {.x = mt_spatial_of(x), .y = as_pixel(y), .has_mask = mask != NULL, .eps = eps, .holes = holes};
  if (mask != NULL) {
    j.mask = mt_spatial_of(mask);
  }
  // Whole pixels are a stream to the processor, but a few samples are cut into more items than that.
  j.block = j.x.step_c == 1 && j.x.n >= 16 ? MEAN_BLOCK : mt_channel_block(&j.x);
  j.blocks = (j.x.c + j.block - 1) / j.block;
  j.pixels = j.x.size[0] * j.x.size[1] * j.x.size[2];
  return j;
}

int mt_pool_mean_forward(mt_tensor *y, mt_tensor *coverage, const mt_tensor *x, const mt_tensor *mask, double eps,
                         int32_t holes) {
  MT_TRY(mt_pool_check_mean_forward(y, coverage, x, mask, holes));
  mean_job j = job_of(x, y, mask, eps, holes);
  j.x_read = true;
  MT_TRY(mt_parallel(j.x.n * j.blocks, 1, MT_REAL_FN(x->dtype, mean_forward), &j));
  if (coverage == NULL) {
    return MT_OK;
  }
  j.x_read = false;
  mt_spatial out = as_pixel(coverage);
  if (x->dtype == MT_FLOAT32) {
    coverage_f32(&j, &out);
  } else {
    coverage_f64(&j, &out);
  }
  return MT_OK;
}

int mt_pool_mean_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *mask, double eps, int32_t holes) {
  MT_TRY(mt_pool_check_mean_backward(dx, dy, mask, holes));
  mean_job j = job_of(dx, dy, mask, eps, holes);
  return mt_parallel(j.x.n * j.blocks, 1, MT_REAL_FN(dx->dtype, mean_backward), &j);
}

#endif
