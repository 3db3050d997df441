// index: see index.h. masked_*, nonzero and triangle stand in index_mask.c.
#ifdef REAL

// Operands: dsrc, dy and the last writers (both standing still along dim), positions, order numbers.
static void FN(survivor_row)(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const int64_t *steps = context;
  for (int64_t i = 0; i < n; i++) {
    const int64_t at = *(const int64_t *)(p[2] + i * step[2]), number = *(const int64_t *)(p[4] + i * step[4]);
    const int64_t winner = *(const int64_t *)(p[3] + i * step[3] + at * steps[1]);
    *(REAL *)(p[0] + i * step[0]) = winner == number ? *(const REAL *)(p[1] + i * step[1] + at * steps[0]) : 0;
  }
}

#else
#include "common.h"
#include "index_check.h"
#include "lines.h"
#include "positions.h"

#define MT_SOURCE "index.c"
#include "twice.h"

// ---- gather and scatter ---------------------------------------------------------------------------------------------

int mt_index_gather(mt_tensor *y, const mt_tensor *x, int32_t dim, const mt_tensor *index, const char *op) {
  mt_tensor *positions;
  op = op ? op : "gather";
  MT_TRY(mt_index_check_gather(op, y, x, dim, index));
  MT_TRY(mt_positions(&positions, op, index, x->shape[dim], dim, x));
  int status = mt_positions_gather(y, x, dim, positions);
  mt_tensor_release(positions);
  return status;
}

#define SCATTER(T)                                                                                              \
  if (step[0] <= plan->src_step) {                                                                              \
    for (int64_t k = 0; k < plan->count; k++) {                                                                 \
      for (int64_t i = 0; i < n; i++) {                                                                         \
        const int64_t at = *(const int64_t *)(p[2] + i * step[2] + k * plan->at_step);                          \
        *(T *)(p[1] + i * step[1] + at * plan->y_step) = *(const T *)(p[0] + i * step[0] + k * plan->src_step); \
      }                                                                                                         \
    }                                                                                                           \
  } else {                                                                                                      \
    for (int64_t i = 0; i < n; i++) {                                                                           \
      for (int64_t k = 0; k < plan->count; k++) {                                                               \
        const int64_t at = *(const int64_t *)(p[2] + i * step[2] + k * plan->at_step);                          \
        *(T *)(p[1] + i * step[1] + at * plan->y_step) = *(const T *)(p[0] + i * step[0] + k * plan->src_step); \
      }                                                                                                         \
    }                                                                                                           \
  }

static void scatter_row(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const line_plan *plan = context;
  if (plan->size == 4) {
    SCATTER(int32_t)
  } else if (plan->size == 8) {
    SCATTER(int64_t)
  } else {
    SCATTER(uint8_t)
  }
}

int mt_index_scatter(mt_tensor *y, int32_t dim, const mt_tensor *index, const mt_tensor *src, const char *op) {
  mt_tensor *positions;
  line_plan plan = {0};
  op = op ? op : "scatter";
  MT_TRY(mt_index_check_scatter(op, y, dim, index, src));
  MT_TRY(mt_positions(&positions, op, index, y->shape[dim], dim, y));
  int status = mt_lines_run(y, dim, positions, src, &plan, scatter_row);
  mt_tensor_release(positions);
  return status;
}

// The order numbers 1, 2, .. of the positions are scattered like the source was: where a position finds its own number again,
// it was the last to write.
static int scatter_backward(mt_tensor *dsrc, const mt_tensor *dy, int32_t dim, const mt_tensor *positions, mt_tensor *number,
                            mt_tensor *last) {
  line_plan plan = {0};
  mt_tensor numbers = *dsrc;
  int64_t *value = number->data;
  for (int64_t k = 0; k < number->numel; k++) {
    value[k] = k;
  }
  numbers.data = number->data;
  numbers.storage = number->storage;
  numbers.dtype = MT_INT64;
  memset(numbers.stride, 0, sizeof numbers.stride);
  numbers.stride[dim] = 1;
  MT_TRY(mt_lines_run(last, dim, positions, &numbers, &plan, scatter_row));
  const int64_t size = mt_dtype_size(dy->dtype);
  mt_tensor from = *dy, winner = *last;
  memcpy(from.shape, dsrc->shape, sizeof from.shape);
  memcpy(winner.shape, dsrc->shape, sizeof winner.shape);
  const int64_t steps[2] = {dy->stride[dim] * size, last->stride[dim] * (int64_t)sizeof(int64_t)};
  from.stride[dim] = 0;
  winner.stride[dim] = 0;
  return mt_loop_run(5, (const mt_tensor *const[]){dsrc, &from, positions, &winner, &numbers},
                     MT_REAL_FN(dy->dtype, survivor_row), steps);
}

int mt_index_scatter_backward(mt_tensor *dsrc, const mt_tensor *dy, int32_t dim, const mt_tensor *index, const char *op) {
  mt_tensor *positions = NULL, *number = NULL, *last = NULL;
  op = op ? op : "scatter";
  MT_TRY(mt_index_check_scatter_backward(op, dsrc, dy, dim, index));
  MT_TRY(mt_positions(&positions, op, index, dy->shape[dim], dim, dy));
  int64_t shape[MT_MAX_DIMS];
  memcpy(shape, index->shape, sizeof shape);
  shape[dim] = dy->shape[dim];
  int status = mt_tensor_new(&last, MT_INT64, dy->ndim, shape, NULL);
  if (status == MT_OK) {
    status = mt_tensor_new(&number, MT_INT64, 1, &index->shape[dim], NULL);
  }
  if (status == MT_OK) {
    status = scatter_backward(dsrc, dy, dim, positions, number, last);
  }
  mt_tensor_release(positions);
  mt_tensor_release(number);
  mt_tensor_release(last);
  return status;
}

int mt_index_scatter_add(mt_tensor *y, int32_t dim, const mt_tensor *index, const mt_tensor *src, double alpha,
                         const char *op) {
  mt_tensor *positions;
  op = op ? op : "scatter_add";
  MT_TRY(mt_check_real(op, "output", y));
  MT_TRY(mt_index_check_scatter(op, y, dim, index, src));
  MT_TRY(mt_positions(&positions, op, index, y->shape[dim], dim, y));
  int status = mt_positions_add(y, dim, positions, src, alpha);
  mt_tensor_release(positions);
  return status;
}

// ---- flip ----------------------------------------------------------------------------------------------------

int mt_index_flip(mt_tensor *y, const mt_tensor *x, int32_t dims) {
  MT_TRY(mt_index_check_flip(y, x));
  const mt_tensor from = mt_index_flipped(x, dims);
  return mt_tensor_copy(y, &from);
}

#endif
