// positions: see positions.h.
#ifdef REAL

// Lines side by side in memory are the inner loop; either way a line takes its positions in order.
static void FN(add_row)(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const line_plan *plan = context;
  const REAL alpha = (REAL)plan->alpha;
  if (step[0] <= plan->src_step) {
    for (int64_t k = 0; k < plan->count; k++) {
      const char *src = p[0] + k * plan->src_step, *at = p[2] + k * plan->at_step;
      if (step[2] == 0) {
        char *y = p[1] + *(const int64_t *)at * plan->y_step;
        for (int64_t i = 0; i < n; i++) {
          *(REAL *)(y + i * step[1]) += alpha * *(const REAL *)(src + i * step[0]);
        }
      } else {
        for (int64_t i = 0; i < n; i++) {
          REAL *y = (REAL *)(p[1] + i * step[1] + *(const int64_t *)(at + i * step[2]) * plan->y_step);
          *y += alpha * *(const REAL *)(src + i * step[0]);
        }
      }
    }
    return;
  }
  for (int64_t i = 0; i < n; i++) {
    const char *src = p[0] + i * step[0], *at = p[2] + i * step[2];
    char *y = p[1] + i * step[1];
    for (int64_t k = 0; k < plan->count; k++) {
      *(REAL *)(y + *(const int64_t *)(at + k * plan->at_step) * plan->y_step) += alpha * *(const REAL *)(src + k * plan->src_step);
    }
  }
}

#else
#include "positions.h"

#include <stdio.h>

#include "lines.h"
#define MT_SOURCE "positions.c"
#include "twice.h"

// ---- checking -----------------------------------------------------------------------------------------------------

// Dims along which the index is broadcast are not part of the place that the message names.
static int outside(const char *op, const mt_tensor *index, const mt_tensor *positions, int64_t n, int64_t size, int32_t dim,
                   const mt_tensor *of) {
  char where[MT_TEXT] = "";
  int64_t place[MT_MAX_DIMS], rest = n, value = ((const int64_t *)positions->data)[n];
  int32_t dims = 0;
  for (int32_t d = positions->ndim - 1; d >= 0; d--) {
    if (index->stride[d] != 0 || d == dim) {
      memmove(place + 1, place, sizeof *place * (size_t)dims++);
      place[0] = rest % positions->shape[d] + 1;
    }
    rest /= positions->shape[d];
  }
  if (of != NULL) {
    snprintf(where, sizeof where, " (dim %d of %s)", dim + 1, MT_SIZES(of->ndim, of->shape));
  }
  return mt_fail(MT_ERROR_ARGUMENT, "%s: index: value %lld at position %s is outside 1..%lld%s", op, (long long)value,
                 MT_SIZES(dims, place), (long long)size, where);
}

int mt_positions(mt_tensor **out, const char *op, const mt_tensor *index, int64_t size, int32_t dim, const mt_tensor *of) {
  *out = NULL;
  MT_TRY(mt_check_integer(op, "index", index));
  mt_tensor once = *index;  // every broadcast value once
  for (int32_t d = 0; d < once.ndim; d++) {
    if (once.stride[d] == 0 && once.shape[d] > 1) {
      once.numel /= once.shape[d];
      once.shape[d] = 1;
    }
  }
  mt_tensor *t;
  MT_TRY(mt_tensor_new(&t, MT_INT64, once.ndim, once.shape, NULL));
  int status = mt_tensor_copy(t, &once);
  int64_t *value = t->data;
  for (int64_t i = 0; status == MT_OK && i < t->numel; i++) {
    if (value[i] < 1 || value[i] > size) {
      status = outside(op, index, t, i, size, dim, of);
    } else {
      value[i]--;
    }
  }
  if (status != MT_OK) {
    mt_tensor_release(t);
    return status;
  }
  for (int32_t d = 0; d < t->ndim; d++) {
    if (t->shape[d] != index->shape[d]) {
      t->shape[d] = index->shape[d];
      t->stride[d] = 0;
    }
  }
  t->numel = index->numel;
  *out = t;
  return MT_OK;
}

// ---- gather -------------------------------------------------------------------------------------------------------

enum { AHEAD = 4, FETCHED = 512 };  // rows; bytes of each

typedef struct {
  int64_t x_step, size;
  const int64_t *end;  // of the positions
} gather_plan;

#define GATHER(T)                                                                                             \
  for (int64_t i = 0; i < n; i++) {                                                                           \
    *(T *)(p[0] + i * step[0]) =                                                                              \
        *(const T *)(p[1] + i * step[1] + *(const int64_t *)(p[2] + i * step[2]) * plan->x_step);             \
  }

static void gather_row(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const gather_plan *plan = context;
  if (step[2] == 0 && step[0] == plan->size && step[1] == plan->size) {
    const int64_t *at = (const int64_t *)p[2], bytes = n * plan->size;
    if (at + AHEAD < plan->end) {  // rows of a table lie anywhere: the next ones come while this one is copied
      for (int64_t i = 0; i < MT_MIN(bytes, (int64_t)FETCHED); i += 64) {
        __builtin_prefetch(p[1] + at[AHEAD] * plan->x_step + i);
      }
    }
    memcpy(p[0], p[1] + *at * plan->x_step, (size_t)bytes);
  } else if (plan->size == 4) {
    GATHER(int32_t)
  } else if (plan->size == 8) {
    GATHER(int64_t)
  } else {
    GATHER(uint8_t)
  }
}

int mt_positions_gather(mt_tensor *y, const mt_tensor *x, int32_t dim, const mt_tensor *positions) {
  const int64_t size = mt_dtype_size(x->dtype);
  int64_t last = 0;
  for (int32_t d = 0; d < positions->ndim; d++) {
    last += (positions->shape[d] - 1) * positions->stride[d];
  }
  gather_plan plan = {x->stride[dim] * size, size, (const int64_t *)positions->data + last + 1};
  mt_tensor line = *x;  // x with y's sizes, standing still along dim
  memcpy(line.shape, y->shape, sizeof line.shape);
  line.stride[dim] = 0;
  return mt_loop_run(3, (const mt_tensor *const[]){y, &line, positions}, gather_row, &plan);
}

// ---- scatter ------------------------------------------------------------------------------------------------------

static void lines_range(void *context, int64_t begin, int64_t end) {
  const line_task *task = context;
  mt_loop_range(&task->loop, begin, end, task->row, task->plan);
}

static mt_tensor without(const mt_tensor *t, int32_t dim, const mt_tensor *shape_of) {
  mt_tensor line = *t;
  line.ndim = t->ndim - 1;
  line.numel = 1;
  for (int32_t d = 0, k = 0; d < t->ndim; d++) {
    if (d != dim) {
      line.shape[k] = shape_of->shape[d];
      line.stride[k] = t->stride[d];
      line.numel *= line.shape[k++];
    }
  }
  return line;
}

int mt_lines_run(mt_tensor *y, int32_t dim, const mt_tensor *positions, const mt_tensor *src, line_plan *plan, mt_loop_row row) {
  const mt_tensor a = without(src, dim, src), b = without(y, dim, src), c = without(positions, dim, src);
  const int64_t size = mt_dtype_size(y->dtype);
  plan->count = src->shape[dim];
  plan->src_step = src->stride[dim] * size;
  plan->y_step = y->stride[dim] * size;
  plan->at_step = positions->stride[dim] * (int64_t)sizeof(int64_t);
  plan->size = size;
  line_task task = {.row = row, .plan = plan};
  MT_TRY(mt_loop_plan(&task.loop, 3, (const mt_tensor *const[]){&a, &b, &c}));
  return mt_parallel(a.numel, MT_MAX(64, 16384 / MT_MAX(1, plan->count)), lines_range, &task);
}

int mt_positions_add(mt_tensor *y, int32_t dim, const mt_tensor *positions, const mt_tensor *src, double alpha) {
  line_plan plan = {.alpha = alpha};
  return mt_lines_run(y, dim, positions, src, &plan, MT_REAL_FN(y->dtype, add_row));
}

#endif
