// elementwise: add with a factor, clamp, where, comparison of whole tensors, and the gradient of broadcasting.
// See elementwise.h.
#ifdef NUMBER

typedef struct {
  NUMBER low, high;
} FN(bounds);

MT_INLINE NUMBER FN(clamped)(NUMBER x, const FN(bounds) * c) {
  const NUMBER raised = x < c->low ? c->low : x;
  return raised > c->high ? c->high : raised;
}
MT_ROW_1(FN(clamp_row), NUMBER, NUMBER, FN(clamped)(x, context))

#if NUMBER_IS_REAL

MT_ROW_2(FN(add_row), NUMBER, NUMBER, NUMBER, a + *(const NUMBER *)context * b)

MT_INLINE NUMBER FN(clamped_slope)(NUMBER g, NUMBER x, const FN(bounds) * c) { return c->low <= x && x <= c->high ? g : 0; }
MT_ROW_2(FN(clamp_backward_row), NUMBER, NUMBER, NUMBER, FN(clamped_slope)(a, b, context))

static int FN(clamp)(mt_tensor *y, const mt_tensor *x, double low, double high) {
  const FN(bounds) bounds = {(NUMBER)low, (NUMBER)high};
  return mt_loop_run(2, (const mt_tensor *const[]){y, x}, FN(clamp_row), &bounds);
}

static int FN(clamp_backward)(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, double low, double high) {
  const FN(bounds) bounds = {(NUMBER)low, (NUMBER)high};
  return mt_loop_run(3, (const mt_tensor *const[]){dx, dy, x}, FN(clamp_backward_row), &bounds);
}

// The outputs k = 0..count-1 of a block, `apart` elements from one to the next in g, accumulate side by side: the loads are
// neighbours where the layout allows, and each sum keeps its own order.
static void FN(sum_block)(double *total, const NUMBER *g, int64_t count, int64_t apart, const sum_plan *plan) {
  int64_t index[MT_MAX_DIMS] = {0};
  memset(total, 0, sizeof(double) * (size_t)count);
  for (int64_t r = 0; r < plan->rows; r++) {
    double row[SUM_BLOCK] = {0};
    for (int64_t i = 0; i < plan->row; i++) {
      for (int64_t k = 0; k < count; k++) {
        row[k] += g[i * plan->row_step + k * apart];
      }
    }
    for (int64_t k = 0; k < count; k++) {
      total[k] += row[k];
    }
    for (int32_t d = plan->summed - 1; d >= 0; d--) {
      g += plan->sum_step[d];
      if (++index[d] < plan->sum_size[d]) {
        break;
      }
      g -= plan->sum_size[d] * plan->sum_step[d];
      index[d] = 0;
    }
  }
}

static void FN(sum_task)(void *context, int64_t begin, int64_t end) {
  const sum_plan *plan = context;
  const int64_t blocks = (plan->inner + SUM_BLOCK - 1) / SUM_BLOCK;
  for (int64_t t = begin; t < end; t++) {
    int64_t rest = t / blocks, first = t % blocks * SUM_BLOCK, count = MT_MIN(SUM_BLOCK, plan->inner - first);
    const NUMBER *g = (const NUMBER *)plan->g + first * plan->inner_from;
    NUMBER *out = (NUMBER *)plan->out + first * plan->inner_to;
    for (int32_t d = plan->kept - 1; d >= 0; d--) {
      g += rest % plan->keep_size[d] * plan->keep_from[d];
      out += rest % plan->keep_size[d] * plan->keep_to[d];
      rest /= plan->keep_size[d];
    }
    double total[SUM_BLOCK];
    FN(sum_block)(total, g, count, plan->inner_from, plan);
    for (int64_t k = 0; k < count; k++) {
      out[k * plan->inner_to] = (NUMBER)total[k];
    }
  }
}

MT_INLINE bool FN(apart)(NUMBER a, NUMBER b, const tolerance *t) {
  if (a == b || (t->equal_nan && a != a && b != b)) {
    return false;
  }
  return !(fabs((double)a - (double)b) <= t->absolute + t->relative * fabs((double)b)) || isinf((double)b);
}

#else

static int FN(clamp)(mt_tensor *y, const mt_tensor *x, double low, double high) {
  const int bits = 8 * (int)sizeof(NUMBER) - ((NUMBER)-1 > 0 ? 0 : 1);
  const double limit_low = (NUMBER)-1 > 0 ? 0 : -ldexp(1, bits), limit_high = ldexp(1, bits);
  const NUMBER smallest = (NUMBER)-1 > 0 ? 0 : (NUMBER)((uint64_t)1 << (8 * sizeof(NUMBER) - 1));
  const NUMBER largest = (NUMBER)~smallest;
  FN(bounds) bounds;
  bounds.low = low <= limit_low ? smallest : low >= limit_high ? largest : (NUMBER)ceil(low);
  bounds.high = high >= limit_high ? largest : high <= limit_low ? smallest : (NUMBER)floor(high);
  return mt_loop_run(2, (const mt_tensor *const[]){y, x}, FN(clamp_row), &bounds);
}

MT_INLINE bool FN(apart)(NUMBER a, NUMBER b, const tolerance *t) {
  return a != b && !(fabs((double)a - (double)b) <= t->absolute + t->relative * fabs((double)b));
}

#endif

static void FN(differences_row)(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const tolerance *t = context;
  int64_t count = 0;
  for (int64_t i = 0; i < n; i++) {
    count += FN(apart)(*(const NUMBER *)(p[0] + i * step[0]), *(const NUMBER *)(p[1] + i * step[1]), t);
  }
  __atomic_add_fetch(t->count, count, __ATOMIC_RELAXED);
}

#else
#include "row.h"

enum { SUM_BLOCK = 16 };

// How sum_to walks g. Strides in elements; the row is the last dim that is summed, `sum_*` are the ones before it,
// `inner` is the last dim that is kept, `keep_*` are the ones before it with their strides in g and in out.
typedef struct {
  const void *g;
  void *out;
  int64_t rows, row, row_step, inner, inner_from, inner_to;
  int32_t summed, kept;
  int64_t sum_size[MT_MAX_DIMS], sum_step[MT_MAX_DIMS];
  int64_t keep_size[MT_MAX_DIMS], keep_from[MT_MAX_DIMS], keep_to[MT_MAX_DIMS];
} sum_plan;

typedef struct {
  double relative, absolute;
  bool equal_nan;
  int64_t *count;
} tolerance;

#define MT_SOURCE "elementwise.c"
#include "five.h"

int mt_elementwise_add(mt_tensor *y, const mt_tensor *a, const mt_tensor *b, double alpha) {
  MT_TRY(mt_check_output("add", "output", y));
  MT_TRY(mt_check_real("add", "output", y));
  MT_TRY(mt_check_tensor("add", "a", a));
  MT_TRY(mt_check_tensor("add", "b", b));
  MT_TRY(mt_check_dtype("add", "a", a, y->dtype));
  MT_TRY(mt_check_dtype("add", "b", b, y->dtype));
  MT_TRY(mt_check_fits("add", "a", a, y));
  MT_TRY(mt_check_fits("add", "b", b, y));
  MT_TRY(mt_check_overlap("add", y, a, true));
  MT_TRY(mt_check_overlap("add", y, b, true));
  const float single = (float)alpha;
  const void *factor = y->dtype == MT_FLOAT32 ? (const void *)&single : &alpha;
  return mt_loop_elements(3, (const mt_tensor *const[]){y, a, b}, MT_REAL_FN(y->dtype, add_row), factor);
}

int mt_elementwise_clamp(mt_tensor *y, const mt_tensor *x, double low, double high) {
  MT_TRY(mt_check_tensor("clamp", "input", x));
  MT_TRY(mt_check_like("clamp", "output", y, x));
  MT_TRY(mt_check_output("clamp", "output", y));
  MT_TRY(mt_check_overlap("clamp", y, x, true));
  if (x->dtype == MT_BOOL || low != low || high != high) {
    return mt_fail(MT_ERROR_ARGUMENT, "clamp: expected numbers and bounds that are not NaN, got %s, %g to %g", MT_SHAPE(x), low,
                   high);
  }
  return MT_FIVE_FN(x->dtype, clamp)(y, x, low, high);
}

int mt_elementwise_clamp_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, double low, double high) {
  MT_TRY(mt_check_real("clamp", "input", x));
  MT_TRY(mt_check_like("clamp", "output", dx, x));
  MT_TRY(mt_check_like("clamp", "gradient", dy, x));
  MT_TRY(mt_check_output("clamp", "output", dx));
  MT_TRY(mt_check_overlap("clamp", dx, dy, true));
  MT_TRY(mt_check_overlap("clamp", dx, x, true));
  return MT_REAL_CALL(x->dtype, clamp_backward, dx, dy, x, low, high);
}

MT_ROW_3(where_8, int64_t, uint8_t, int64_t, int64_t, a ? b : c)
MT_ROW_3(where_4, int32_t, uint8_t, int32_t, int32_t, a ? b : c)
MT_ROW_3(where_1, uint8_t, uint8_t, uint8_t, uint8_t, a ? b : c)

int mt_elementwise_where(mt_tensor *y, const mt_tensor *condition, const mt_tensor *a, const mt_tensor *b) {
  MT_TRY(mt_check_tensor("where", "condition", condition));
  MT_TRY(mt_check_tensor("where", "a", a));
  MT_TRY(mt_check_tensor("where", "b", b));
  MT_TRY(mt_check_output("where", "output", y));
  MT_TRY(mt_check_dtype("where", "a", a, y->dtype));
  MT_TRY(mt_check_dtype("where", "b", b, y->dtype));
  if (condition->dtype != MT_BOOL && condition->dtype != MT_UINT8) {
    return mt_fail(MT_ERROR_ARGUMENT, "where: condition: expected bool or uint8, got %s", MT_SHAPE(condition));
  }
  const mt_tensor *const t[] = {y, condition, a, b};
  const char *const arguments[] = {"output", "condition", "a", "b"};
  for (int i = 1; i < 4; i++) {
    MT_TRY(mt_check_fits("where", arguments[i], t[i], y));
    MT_TRY(mt_check_overlap("where", y, t[i], true));
  }
  const int64_t size = mt_dtype_size(y->dtype);
  return mt_loop_elements(4, t, size == 8 ? where_8 : size == 4 ? where_4 : where_1, NULL);
}

int mt_elementwise_sum_to(mt_tensor *out, const mt_tensor *g) {
  MT_TRY(mt_check_real("sum_to", "gradient", g));
  MT_TRY(mt_check_output("sum_to", "output", out));
  MT_TRY(mt_check_dtype("sum_to", "output", out, g->dtype));
  MT_TRY(mt_check_overlap("sum_to", out, g, false));
  MT_TRY(mt_check_fits("sum_to", "output", out, g));
  if (g->numel == 0) {  // its other sizes may be beyond counting
    return mt_tensor_fill(out, 0);
  }
  sum_plan plan = {.g = g->data, .out = out->data, .rows = 1, .row = 1, .inner = 1};
  int32_t row = -1, inner = -1;
  for (int32_t d = 0; d < g->ndim; d++) {
    const int32_t o = d - (g->ndim - out->ndim);
    *(o < 0 || out->shape[o] == 1 ? &row : &inner) = d;
  }
  for (int32_t d = 0; d < g->ndim; d++) {
    const int32_t o = d - (g->ndim - out->ndim);
    if (d == row) {
      plan.row = g->shape[d];
      plan.row_step = g->stride[d];
    } else if (d == inner) {
      plan.inner = g->shape[d];
      plan.inner_from = g->stride[d];
      plan.inner_to = out->stride[o];
    } else if (o < 0 || out->shape[o] == 1) {
      plan.sum_size[plan.summed] = g->shape[d];
      plan.sum_step[plan.summed++] = g->stride[d];
      plan.rows *= g->shape[d];
    } else {
      plan.keep_size[plan.kept] = g->shape[d];
      plan.keep_from[plan.kept] = g->stride[d];
      plan.keep_to[plan.kept++] = out->stride[o];
    }
  }
  if (out->numel == 0) {
    return MT_OK;
  }
  const int64_t work = plan.rows * plan.row * SUM_BLOCK, grain = MT_MAX(1, 32768 / MT_MAX(1, work));
  const int64_t tasks = out->numel / plan.inner * ((plan.inner + SUM_BLOCK - 1) / SUM_BLOCK);
  return mt_parallel(tasks, grain, MT_REAL_FN(g->dtype, sum_task), &plan);
}

int mt_elementwise_differences(double *count, const mt_tensor *a, const mt_tensor *b, double rtol, double atol,
                               int32_t equal_nan) {
  MT_TRY(mt_check_tensor("allclose", "input", a));
  MT_TRY(mt_check_tensor("allclose", "other", b));
  MT_TRY(mt_check_like("allclose", "other", b, a));
  int64_t found = 0;
  const tolerance t = {rtol, atol, equal_nan != 0, &found};
  MT_TRY(mt_loop_run(2, (const mt_tensor *const[]){a, b}, MT_FIVE_FN(a->dtype, differences_row), &t));
  *count = (double)found;
  return MT_OK;
}

#endif
