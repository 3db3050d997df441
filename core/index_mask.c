// index_mask: the half of index.h that works with masks: nonzero, masked_fill, masked_select, masked_scatter, triangle.
#include "index_check.h"
#include "loop.h"

// The whole loop in the calling thread, in pieces between which an interruption is seen.
static int walk(const mt_loop *loop, mt_loop_row row, void *context) {
  const int64_t piece = 1 << 20;
  for (int64_t begin = 0; begin < loop->numel; begin += piece) {
    if (mt_cancel_pending()) {
      return mt_fail(MT_ERROR_INTERRUPTED, "interrupted");
    }
    mt_loop_range(loop, begin, MT_MIN(begin + piece, loop->numel), row, context);
  }
  return MT_OK;
}

// Raster order whatever the layout: the loop follows its first operand, so the first is a row-major stand-in that no row reads.
// In one thread: each element's place depends on those before it.
static int raster(int32_t operands, const mt_tensor *const *t, mt_loop_row row, void *context) {
  const mt_tensor *all[MT_LOOP_OPERANDS];
  mt_tensor order = *t[0];
  mt_loop loop;
  mt_row_major(order.stride, order.ndim, order.shape);
  all[0] = &order;
  memcpy(all + 1, t, sizeof *t * (size_t)operands);
  MT_TRY(mt_loop_plan(&loop, operands + 1, all));
  return walk(&loop, row, context);
}

// ---- nonzero --------------------------------------------------------------------------------------------------------

typedef struct {
  int32_t dtype;
  int64_t count, seen;
  mt_tensor *y;
  const mt_tensor *x;
} nonzero_plan;

static inline bool is_nonzero(const char *p, int32_t dtype) {
  switch (dtype) {
    case MT_FLOAT32: return *(const float *)p != 0;
    case MT_FLOAT64: return *(const double *)p != 0;
    case MT_INT64: return *(const int64_t *)p != 0;
    case MT_INT32: return *(const int32_t *)p != 0;
    default: return *(const uint8_t *)p != 0;
  }
}

static void count_row(char *const *p, const int64_t *step, int64_t n, const void *context) {
  nonzero_plan *plan = (nonzero_plan *)(uintptr_t)context;
  for (int64_t i = 0; i < n; i++) {
    plan->count += is_nonzero(p[0] + i * step[0], plan->dtype);
  }
}

int mt_index_count(int64_t *count, const mt_tensor *x) {
  mt_loop loop;
  MT_TRY(mt_check_tensor("count_nonzero", "input", x));
  nonzero_plan plan = {.dtype = x->dtype};
  MT_TRY(mt_loop_plan(&loop, 1, (const mt_tensor *const[]){x}));
  MT_TRY(walk(&loop, count_row, &plan));
  *count = plan.count;
  return MT_OK;
}

static void nonzero_row(char *const *p, const int64_t *step, int64_t n, const void *context) {
  nonzero_plan *plan = (nonzero_plan *)(uintptr_t)context;
  mt_tensor *y = plan->y;
  for (int64_t i = 0; i < n; i++, plan->seen++) {
    if (!is_nonzero(p[1] + i * step[1], plan->dtype)) {
      continue;
    }
    int64_t rest = plan->seen;
    for (int32_t d = plan->x->ndim - 1; d >= 0; d--) {
      ((int64_t *)y->data)[plan->count * y->stride[0] + d * y->stride[1]] = rest % plan->x->shape[d] + 1;
      rest /= plan->x->shape[d];
    }
    plan->count++;
  }
}

int mt_index_nonzero(mt_tensor *y, const mt_tensor *x) {
  int64_t count;
  MT_TRY(mt_index_count(&count, x));
  MT_TRY(mt_check_dtype("nonzero", "output", y, MT_INT64));
  MT_TRY(mt_check_shape("nonzero", "output", y, 2, (const int64_t[]){count, x->ndim}));
  MT_TRY(mt_check_output("nonzero", "output", y));
  MT_TRY(mt_check_overlap("nonzero", y, x, false));
  nonzero_plan plan = {.dtype = x->dtype, .y = y, .x = x};
  return raster(1, (const mt_tensor *const[]){x}, nonzero_row, &plan);
}

// ---- masks ------------------------------------------------------------------------------------------------------------

typedef struct {
  int64_t size, count;
  char *list;          // the 1-D side: its next element
  int64_t list_step;
  char value[8];
} mask_plan;

static void fill_row(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const mask_plan *plan = context;
  for (int64_t i = 0; i < n; i++) {
    const char *from = *(const uint8_t *)(p[2] + i * step[2]) ? plan->value : p[1] + i * step[1];
    if (plan->size == 4) {
      *(int32_t *)(p[0] + i * step[0]) = *(const int32_t *)from;
    } else if (plan->size == 8) {
      *(int64_t *)(p[0] + i * step[0]) = *(const int64_t *)from;
    } else {
      *(p[0] + i * step[0]) = *from;
    }
  }
}

int mt_index_masked_fill(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, double value) {
  MT_TRY(mt_index_check_fill(y, x, mask));
  mask_plan plan = {.size = mt_dtype_size(x->dtype)};
  mt_storage storage = {.data = plan.value, .bytes = 8, .references = 1, .device = -1};
  mt_tensor one = {.data = plan.value, .storage = &storage, .numel = 1, .dtype = x->dtype};
  MT_TRY(mt_tensor_fill(&one, value));  // converts the value to x's type
  return mt_loop_run(3, (const mt_tensor *const[]){y, x, mask}, fill_row, &plan);
}

static void select_row(char *const *p, const int64_t *step, int64_t n, const void *context) {
  mask_plan *plan = (mask_plan *)(uintptr_t)context;
  for (int64_t i = 0; i < n; i++) {
    if (*(const uint8_t *)(p[2] + i * step[2])) {
      memcpy(plan->list, p[1] + i * step[1], (size_t)plan->size);
      plan->list += plan->list_step;
    }
  }
}

static void scatter_row(char *const *p, const int64_t *step, int64_t n, const void *context) {
  mask_plan *plan = (mask_plan *)(uintptr_t)context;
  for (int64_t i = 0; i < n; i++) {
    if (*(const uint8_t *)(p[2] + i * step[2])) {
      memcpy(p[1] + i * step[1], plan->list, (size_t)plan->size);
      plan->list += plan->list_step;
    }
  }
}

// The number of true elements once the mask is broadcast to x.
static int count_true(int64_t *count, const char *op, const mt_tensor *mask, const mt_tensor *x) {
  MT_TRY(mt_index_check_mask(op, mask, x));
  MT_TRY(mt_index_count(count, mask));
  *count *= mask->numel > 0 ? x->numel / mask->numel : 0;
  return MT_OK;
}

int mt_index_masked_select(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask) {
  int64_t count;
  MT_TRY(mt_check_tensor("masked_select", "input", x));
  MT_TRY(count_true(&count, "masked_select", mask, x));
  MT_TRY(mt_check_dtype("masked_select", "output", y, x->dtype));
  MT_TRY(mt_check_shape("masked_select", "output", y, 1, &count));
  MT_TRY(mt_check_output("masked_select", "output", y));
  MT_TRY(mt_check_overlap("masked_select", y, x, false));
  MT_TRY(mt_check_overlap("masked_select", y, mask, false));
  const int64_t size = mt_dtype_size(x->dtype);
  mask_plan plan = {.size = size, .list = y->data, .list_step = y->stride[0] * size};
  return raster(2, (const mt_tensor *const[]){x, mask}, select_row, &plan);
}

int mt_index_masked_scatter(mt_tensor *y, const mt_tensor *mask, const mt_tensor *src) {
  int64_t count;
  MT_TRY(mt_check_output("masked_scatter", "output", y));
  MT_TRY(count_true(&count, "masked_scatter", mask, y));
  MT_TRY(mt_check_dtype("masked_scatter", "source", src, y->dtype));
  MT_TRY(mt_check_ndim("masked_scatter", "source", src, 1));
  MT_TRY(mt_check_overlap("masked_scatter", y, src, false));
  MT_TRY(mt_check_overlap("masked_scatter", y, mask, false));
  if (src->numel < count) {
    return mt_fail(MT_ERROR_ARGUMENT, "masked_scatter: source: %lld elements for %lld true elements of the mask",
                   (long long)src->numel, (long long)count);
  }
  const int64_t size = mt_dtype_size(y->dtype);
  mask_plan plan = {.size = size, .list = src->data, .list_step = src->stride[0] * size};
  return raster(2, (const mt_tensor *const[]){y, mask}, scatter_row, &plan);
}

int mt_index_triangle(mt_tensor *mask, int64_t diagonal, int32_t upper) {
  MT_TRY(mt_index_check_triangle(mask));
  for (int64_t i = 0; i < mask->shape[0] && mask->numel > 0; i++) {
    for (int64_t j = 0; j < mask->shape[1]; j++) {
      ((uint8_t *)mask->data)[i * mask->stride[0] + j * mask->stride[1]] = upper ? j - i > diagonal : j - i < diagonal;
    }
  }
  return MT_OK;
}
