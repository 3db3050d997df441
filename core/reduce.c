// reduce: sums of mapped elements (sum, mean, variance, norms, log-sum-exp) on one walk; see reduce_plan.h for the order.
#ifdef REAL

static inline __attribute__((always_inline)) double FN(map)(int kind, REAL x, double c) {
  const double v = x;
  switch (kind) {
    case MAP_IDENTITY: return v;
    case MAP_DEVIATION: return (v - c) * (v - c);
    case MAP_SQUARE: return (v * c) * (v * c);
    case MAP_ABS: return fabs(v);
    case MAP_POWER: return pow(fabs(v), c);
    case MAP_EXP: return exp(v - c);
    default: return v != 0;
  }
}

// acc[b] += sum over i of map(x[b * lane_step + i * step]), each lane in its own order.
static inline __attribute__((always_inline)) void FN(lanes)(int kind, int lanes, const REAL *x, int64_t lane_step,
                                                            int64_t step, int64_t n, const double *c, double *acc) {
  for (int64_t i = 0; i < n; i++) {
    for (int b = 0; b < lanes; b++) {
      acc[b] += FN(map)(kind, x[i * step + b * lane_step], c[b]);
    }
  }
}

// Up to MT_LANES sums of one row length.
static inline __attribute__((always_inline)) void FN(sums)(int kind, int64_t lanes, const REAL *x, int64_t lane_step,
                                                           int64_t step, int64_t n, const double *c, double *sum) {
  if (lanes == MT_LANES && lane_step == 1) {
    double acc[MT_LANES] = {0};
    FN(lanes)(kind, MT_LANES, x, 1, step, n, c, acc);
    memcpy(sum, acc, sizeof acc);
    return;
  }
  int64_t b = 0;
  for (; b + 4 <= lanes; b += 4) {  // four chains hide the latency of the additions
    double acc[4] = {0};
    FN(lanes)(kind, 4, x + b * lane_step, lane_step, step, n, c + b, acc);
    memcpy(sum + b, acc, sizeof acc);
  }
  for (; b < lanes; b++) {
    double acc = 0;
    FN(lanes)(kind, 1, x + b * lane_step, lane_step, step, n, c + b, &acc);
    sum[b] = acc;
  }
}

// Sums of `rows` rows of one length that begin anywhere: chains side by side hide the latency of the additions.
static inline __attribute__((always_inline)) void FN(chains)(int kind, int rows, const REAL *data, const int64_t *offset,
                                                             int64_t step, int64_t n, double c, double *sum) {
  const REAL *x[MT_CHAINS];
  double acc[MT_CHAINS] = {0};
  for (int b = 0; b < rows; b++) {
    x[b] = data + offset[b];
  }
  for (int64_t i = 0; i < n; i++) {
    for (int b = 0; b < rows; b++) {
      acc[b] += FN(map)(kind, x[b][i * step], c);
    }
  }
  for (int b = 0; b < rows; b++) {
    sum[b] = acc[b];
  }
}

static inline __attribute__((always_inline)) void FN(rows)(int kind, int rows, const REAL *data, const int64_t *offset,
                                                           int64_t step, int64_t n, double c, double *sum) {
  if (rows == MT_CHAINS) {
    if (step == 1) {
      FN(chains)(kind, MT_CHAINS, data, offset, 1, n, c, sum);
    } else {
      FN(chains)(kind, MT_CHAINS, data, offset, step, n, c, sum);
    }
    return;
  }
  for (int b = 0; b < rows; b++) {
    FN(chains)(kind, 1, data, offset + b, step, n, c, sum + b);
  }
}

#define FOR_KIND(kind, function, ...)                                      \
  switch (kind) {                                                          \
    case MAP_IDENTITY: FN(function)(MAP_IDENTITY, __VA_ARGS__); break;     \
    case MAP_DEVIATION: FN(function)(MAP_DEVIATION, __VA_ARGS__); break;   \
    case MAP_SQUARE: FN(function)(MAP_SQUARE, __VA_ARGS__); break;         \
    case MAP_ABS: FN(function)(MAP_ABS, __VA_ARGS__); break;               \
    case MAP_POWER: FN(function)(MAP_POWER, __VA_ARGS__); break;           \
    case MAP_EXP: FN(function)(MAP_EXP, __VA_ARGS__); break;               \
    default: FN(function)(MAP_NONZERO, __VA_ARGS__); break;                \
  }

static void FN(lane_sums)(int kind, int64_t lanes, const void *data, int64_t lane_step, int64_t step, int64_t n,
                          const double *c, double *sum) {
  FOR_KIND(kind, sums, lanes, data, lane_step, step, n, c, sum)
}

static void FN(row_sums)(int kind, int rows, const void *data, const int64_t *offset, int64_t step, int64_t n, double c,
                         double *sum) {
  FOR_KIND(kind, rows, rows, data, offset, step, n, c, sum)
}
#undef FOR_KIND

static void FN(scale_row)(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const REAL scale = (REAL) * (const double *)context;
  for (int64_t i = 0; i < n; i++) {
    *(REAL *)(p[0] + i * step[0]) = *(const REAL *)(p[1] + i * step[1]) * scale;
  }
}

// operands: dx, dy, x, y, mean (float64); context: 2 / (count - correction) or, for the root, half of it
static void FN(var_row)(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const double *scale = context;
  for (int64_t i = 0; i < n; i++) {
    const double dy = *(const REAL *)(p[1] + i * step[1]), x = *(const REAL *)(p[2] + i * step[2]);
    const double y = *(const REAL *)(p[3] + i * step[3]), mean = *(const double *)(p[4] + i * step[4]);
    *(REAL *)(p[0] + i * step[0]) = (REAL)(dy * FN(var_slope)(x, y, mean, scale[0], scale[1] != 0));
  }
}

// operands: dx, dy, x, y; context: p
static void FN(norm_row)(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const double power = *(const double *)context;
  for (int64_t i = 0; i < n; i++) {
    const double dy = *(const REAL *)(p[1] + i * step[1]), x = *(const REAL *)(p[2] + i * step[2]);
    const double y = *(const REAL *)(p[3] + i * step[3]);
    *(REAL *)(p[0] + i * step[0]) = (REAL)(dy * FN(norm_slope)(x, y, power));
  }
}

// operands: dx, dy, x, y
static void FN(logsumexp_row)(char *const *p, const int64_t *step, int64_t n, const void *context) {
  (void)context;
  for (int64_t i = 0; i < n; i++) {
    const double dy = *(const REAL *)(p[1] + i * step[1]), x = *(const REAL *)(p[2] + i * step[2]);
    const double y = *(const REAL *)(p[3] + i * step[3]);
    *(REAL *)(p[0] + i * step[0]) = FN(logsumexp_gradient)(dy, x, y);
  }
}

#else
#include "reduce_check.h"
#include "row.h"
enum { MAP_IDENTITY, MAP_DEVIATION, MAP_SQUARE, MAP_ABS, MAP_POWER, MAP_EXP, MAP_NONZERO };
enum { MT_CHAINS = 4 };
#define MT_SOURCE "reduce_rows.h"
#include "twice.h"
#undef MT_SOURCE
#define MT_SOURCE "reduce.c"
#include "twice.h"

// ---- the walk -----------------------------------------------------------------------------------------------------

typedef struct {
  const mt_reduction *r;
  const char *x;
  int64_t size;      // bytes of an element
  int32_t dtype, kind;
  const double *c;   // the map's constant, one per output
  double *out;       // one per output
  double *row_sum;   // when few outputs: the sums of the rows [first, first + ...) of output `output`
  int64_t output, first;
} walk;

// Outputs side by side: [begin, end) counts groups of up to MT_LANES outputs along the last kept axis.
static void lane_task(void *context, int64_t begin, int64_t end) {
  const walk *w = context;
  const mt_reduction *r = w->r;
  const int64_t groups = (r->lane + MT_LANES - 1) / MT_LANES;
  for (int64_t g = begin; g < end; g++) {
    int64_t o = g / groups * r->lane + g % groups * MT_LANES, lanes = MT_MIN(r->lane - g % groups * MT_LANES, MT_LANES);
    int64_t in_x, in_y, lane_step = r->kept ? r->kept_stride[r->kept - 1] : 0;
    mt_total t[MT_LANES] = {{0, 0}};
    double sum[MT_LANES];
    mt_row_cursor cursor;
    mt_reduction_output(r, o, &in_x, &in_y);
    mt_row_seek(r, &cursor, 0);
    for (int64_t row = 0; row < r->rows; row++, mt_row_next(r, &cursor)) {
      MT_REAL_CALL(w->dtype, lane_sums, w->kind, lanes, w->x + (in_x + mt_row_offset(r, &cursor)) * w->size, lane_step,
                   r->stride, mt_row_length(r, &cursor), w->c + o, sum);
      for (int64_t b = 0; b < lanes; b++) {
        mt_total_add(&t[b], sum[b]);
      }
    }
    for (int64_t b = 0; b < lanes; b++) {
      w->out[o + b] = mt_total_value(&t[b]);
    }
  }
}

// Rows of one length that wait to be summed together, and where their sums go.
typedef struct {
  int rows;
  int64_t n, offset[MT_CHAINS], slot[MT_CHAINS];
} batch;

static void flush(const walk *w, int64_t o, batch *b, double *sum) {
  double sums[MT_CHAINS];
  MT_REAL_CALL(w->dtype, row_sums, w->kind, b->rows, w->x, b->offset, w->r->stride, b->n, w->c[o], sums);
  for (int i = 0; i < b->rows; i++) {
    sum[b->slot[i]] = sums[i];
  }
  b->rows = 0;
}

// Sums of the rows [begin, end) of one output into sum. A row is whole (MT_ROW) or the last piece of its line.
static void some_rows(const walk *w, int64_t o, int64_t begin, int64_t end, double *sum) {
  const mt_reduction *r = w->r;
  batch waiting[2] = {{0}, {0}};
  int64_t in_x, in_y;
  mt_row_cursor cursor;
  mt_reduction_output(r, o, &in_x, &in_y);
  mt_row_seek(r, &cursor, begin);
  for (int64_t row = begin; row < end; row++, mt_row_next(r, &cursor)) {
    const int64_t n = mt_row_length(r, &cursor);
    batch *b = &waiting[n == MT_ROW];
    b->n = n;
    b->slot[b->rows] = row - begin;
    b->offset[b->rows++] = in_x + mt_row_offset(r, &cursor);
    if (b->rows == MT_CHAINS) {
      flush(w, o, b, sum);
    }
  }
  flush(w, o, &waiting[0], sum);
  flush(w, o, &waiting[1], sum);
}

static void output_task(void *context, int64_t begin, int64_t end) {
  const walk *w = context;
  double sum[64];
  for (int64_t o = begin; o < end; o++) {
    mt_total t = {0, 0};
    for (int64_t row = 0; row < w->r->rows; row += 64) {
      const int64_t n = MT_MIN(w->r->rows - row, 64);
      some_rows(w, o, row, row + n, sum);
      for (int64_t i = 0; i < n; i++) {
        mt_total_add(&t, sum[i]);
      }
    }
    w->out[o] = mt_total_value(&t);
  }
}

static void row_task(void *context, int64_t begin, int64_t end) {
  const walk *w = context;
  some_rows(w, w->output, w->first + begin, w->first + end, w->row_sum + begin);
}

// Few outputs with many rows each: the rows are shared out, their sums added in order.
static int row_walk(walk *w) {
  enum { SLAB = 1 << 16 };
  const mt_reduction *r = w->r;
  MT_SCRATCH(double, row_sum, MT_MIN(r->rows, (int64_t)SLAB));
  if (row_sum == NULL) {
    return MT_ERROR_MEMORY;
  }
  int status = MT_OK;
  w->row_sum = row_sum;
  for (int64_t o = 0; o < r->outputs && status == MT_OK; o++) {
    mt_total t = {0, 0};
    for (w->first = 0; w->first < r->rows && status == MT_OK; w->first += SLAB) {
      const int64_t n = MT_MIN(r->rows - w->first, (int64_t)SLAB);
      w->output = o;
      status = mt_parallel(n, MT_MAX(24, 65536 / MT_MIN(r->length, (int64_t)MT_ROW)), row_task, w);
      for (int64_t i = 0; i < n; i++) {
        mt_total_add(&t, row_sum[i]);
      }
    }
    w->out[o] = mt_total_value(&t);
  }
  mt_free(row_sum);
  return status;
}

// out[o] = sum of map(x, c[o]) over output o's elements.
static int sum_of(const mt_reduction *r, const mt_tensor *x, int kind, const double *c, double *out) {
  walk w = {.r = r, .x = x->data, .size = mt_dtype_size(x->dtype), .dtype = x->dtype, .kind = kind, .c = c, .out = out};
  const int64_t each = MT_MAX(1, r->count);
  if (r->count == 0) {
    for (int64_t o = 0; o < r->outputs; o++) {
      out[o] = 0;
    }
    return MT_OK;
  }
  const bool few = r->outputs < 16 && each >= 65536;
  if (r->lane > 1 && (r->near || !few)) {
    const int64_t groups = r->outputs / r->lane * ((r->lane + MT_LANES - 1) / MT_LANES);
    return mt_parallel(groups, MT_MAX(1, 32768 / (each * MT_MIN(r->lane, MT_LANES))), lane_task, &w);
  }
  if (!few) {
    return mt_parallel(r->outputs, mt_reduction_grain(r), output_task, &w);
  }
  return row_walk(&w);
}

// Scratch of `count` doubles per output, the first set to `value`.
static double *per_output(const mt_reduction *r, int64_t count, double value) {
  double *values = mt_alloc_array(r->outputs * count, (int64_t)sizeof(double));
  for (int64_t o = 0; values && o < r->outputs; o++) {
    values[o] = value;
  }
  return values;
}

// ---- sum, mean ------------------------------------------------------------------------------------------------------

static int real_sum(const char *op, mt_tensor *y, const mt_tensor *x, int32_t dims, bool mean) {
  mt_reduction r;
  MT_TRY(mt_reduce_check_real(op, &r, y, x, dims));
  double *values = per_output(&r, 2, 0);
  if (values == NULL) {
    return MT_ERROR_MEMORY;
  }
  int status = sum_of(&r, x, MAP_IDENTITY, values, values + r.outputs);
  if (mean) {
    for (int64_t o = 0; o < r.outputs; o++) {
      values[r.outputs + o] /= (double)r.count;
    }
  }
  mt_reduction_store(&r, y, values + r.outputs);
  mt_free(values);
  return status;
}

typedef struct {
  const mt_reduction *r;
  const mt_tensor *x;
  int64_t *out;
} integer_walk;

static void integer_task(void *context, int64_t begin, int64_t end) {
  const integer_walk *w = context;
  const mt_reduction *r = w->r;
  for (int64_t o = begin; o < end; o++) {
    int64_t in_x, in_y;
    uint64_t sum = 0;  // unsigned: wraps around
    mt_row_cursor cursor;
    mt_reduction_output(r, o, &in_x, &in_y);
    mt_row_seek(r, &cursor, 0);
    for (int64_t row = 0; row < r->rows; row++, mt_row_next(r, &cursor)) {
      const int64_t n = mt_row_length(r, &cursor), first = in_x + mt_row_offset(r, &cursor);
      for (int64_t i = 0; i < n; i++) {
        sum += (uint64_t)mt_integer_at(w->x->data, w->x->dtype, first + i * r->stride);
      }
    }
    w->out[o] = (int64_t)sum;
  }
}

static int integer_sum(mt_tensor *y, const mt_tensor *x, int32_t dims) {
  mt_reduction r;
  MT_TRY(mt_reduce_check_integer_sum(&r, y, x, dims));
  MT_SCRATCH(int64_t, out, r.outputs);
  if (out == NULL) {
    return MT_ERROR_MEMORY;
  }
  integer_walk w = {&r, x, out};
  int status = mt_parallel(r.outputs, mt_reduction_grain(&r), integer_task, &w);
  if (status == MT_OK) {
    mt_reduction_store_int64(&r, y, out);
  }
  mt_free(out);
  return status;
}

int mt_reduce_sum(mt_tensor *y, const mt_tensor *x, int32_t dims) {
  MT_TRY(mt_check_tensor("sum", "input", x));
  if (x->dtype != MT_FLOAT32 && x->dtype != MT_FLOAT64) {
    return integer_sum(y, x, dims);
  }
  return real_sum("sum", y, x, dims, false);
}

int mt_reduce_mean(mt_tensor *y, const mt_tensor *x, int32_t dims) { return real_sum("mean", y, x, dims, true); }

int mt_reduce_sum_backward(mt_tensor *dx, const mt_tensor *dy, double scale) {
  MT_TRY(mt_reduce_check_sum_backward(dx, dy));
  return mt_loop_run(2, (const mt_tensor *const[]){dx, dy}, MT_REAL_FN(dy->dtype, scale_row), &scale);
}

// ---- variance -------------------------------------------------------------------------------------------------------

int mt_reduce_var(mt_tensor *y, mt_tensor *mean, const mt_tensor *x, int32_t dims, double correction, int32_t root) {
  mt_reduction r, r_mean;
  MT_TRY(mt_reduce_check_var(&r, &r_mean, y, mean, x, dims, root));
  double *values = per_output(&r, 2, 0);
  if (values == NULL) {
    return MT_ERROR_MEMORY;
  }
  double *means = values, *squares = values + r.outputs;
  int status = sum_of(&r, x, MAP_IDENTITY, means, squares);
  if (status == MT_OK) {
    for (int64_t o = 0; o < r.outputs; o++) {
      means[o] = squares[o] / (double)r.count;
    }
    status = sum_of(&r, x, MAP_DEVIATION, means, squares);
  }
  if (status == MT_OK) {
    const double divisor = fmax(0, (double)r.count - correction);
    for (int64_t o = 0; o < r.outputs; o++) {
      squares[o] /= divisor;
      squares[o] = root ? sqrt(squares[o]) : squares[o];
    }
    mt_reduction_store(&r, y, squares);
    mt_reduction_store(&r_mean, mean, means);
  }
  mt_free(values);
  return status;
}

int mt_reduce_var_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, const mt_tensor *y, const mt_tensor *mean,
                           double correction, int32_t root) {
  MT_TRY(mt_reduce_check_var_backward(dx, dy, x, y, mean, root));
  const double count = (double)x->numel / (double)MT_MAX(1, y->numel), divisor = fmax(0, count - correction);
  const double scale[2] = {(root ? 1 : 2) / divisor, root};
  return mt_loop_run(5, (const mt_tensor *const[]){dx, dy, x, y, mean}, MT_REAL_FN(x->dtype, var_row), scale);
}

// ---- norm -----------------------------------------------------------------------------------------------------------

int mt_reduce_norm(mt_tensor *y, const mt_tensor *x, int32_t dims, double p) {
  mt_reduction r;
  MT_TRY(mt_reduce_check_norm(&r, y, x, dims, p));
  double *values = per_output(&r, 2, p);
  if (values == NULL) {
    return MT_ERROR_MEMORY;
  }
  double *out = values + r.outputs;
  int status = MT_OK;
  if (isinf(p)) {
    mt_reduction_extreme_abs(&r, x, p > 0, out);
  } else if (p == 2) {
    for (int64_t o = 0; o < r.outputs; o++) {
      values[o] = 1;  // the scale of MAP_SQUARE
    }
    status = sum_of(&r, x, MAP_SQUARE, values, out);
    bool again = false;  // float64 only: the squares left the range, so scale by the largest element
    for (int64_t o = 0; o < r.outputs; o++) {
      again = again || (x->dtype == MT_FLOAT64 && !(out[o] >= 1e-280 && out[o] <= 1e300));
    }
    if (status == MT_OK && again) {
      mt_reduction_extreme_abs(&r, x, true, values);
      for (int64_t o = 0; o < r.outputs; o++) {
        int exponent = 0;
        if (values[o] > 0 && isfinite(values[o])) {
          frexp(values[o], &exponent);
        }
        values[o] = ldexp(1, -MT_MAX(-1000, MT_MIN(1000, exponent)));
      }
      status = sum_of(&r, x, MAP_SQUARE, values, out);
    }
    for (int64_t o = 0; o < r.outputs; o++) {
      out[o] = sqrt(out[o]) / values[o];
    }
  } else {
    status = sum_of(&r, x, p == 1 ? MAP_ABS : p == 0 ? MAP_NONZERO : MAP_POWER, values, out);
    for (int64_t o = 0; o < r.outputs && p != 0 && p != 1; o++) {
      out[o] = pow(out[o], 1 / p);
    }
  }
  if (status == MT_OK) {
    mt_reduction_store(&r, y, out);
  }
  mt_free(values);
  return status;
}

int mt_reduce_norm_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, const mt_tensor *y, int32_t dims,
                            double p) {
  MT_TRY(mt_reduce_check_slope("norm", dx, dy, x, y));
  if (isinf(p)) {
    return mt_reduction_even_backward("norm", dx, dy, x, y, dims, true);
  }
  return mt_loop_run(4, (const mt_tensor *const[]){dx, dy, x, y}, MT_REAL_FN(x->dtype, norm_row), &p);
}

// ---- log-sum-exp ----------------------------------------------------------------------------------------------------

int mt_reduce_logsumexp(mt_tensor *y, const mt_tensor *x, int32_t dims) {
  mt_reduction r;
  MT_TRY(mt_reduce_check_real("logsumexp", &r, y, x, dims));
  double *values = per_output(&r, 2, 0);
  if (values == NULL) {
    return MT_ERROR_MEMORY;
  }
  double *largest = values, *out = values + r.outputs;
  int status = MT_OK;
  if (r.count > 0) {
    // The maximum, straight into y, read back in plan order.
    status = mt_reduce_extreme(y, NULL, x, dims, 1);
    for (int64_t o = 0; o < r.outputs && status == MT_OK; o++) {
      int64_t in_x, in_y;
      mt_reduction_output(&r, o, &in_x, &in_y);
      const double v = y->dtype == MT_FLOAT32 ? (double)((const float *)y->data)[in_y] : ((const double *)y->data)[in_y];
      largest[o] = isfinite(v) ? v : 0;
    }
  }
  if (status == MT_OK) {
    status = sum_of(&r, x, MAP_EXP, largest, out);
  }
  if (status == MT_OK) {
    for (int64_t o = 0; o < r.outputs; o++) {
      out[o] = log(out[o]) + largest[o];
    }
    mt_reduction_store(&r, y, out);
  }
  mt_free(values);
  return status;
}

int mt_reduce_logsumexp_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, const mt_tensor *y) {
  MT_TRY(mt_reduce_check_slope("logsumexp", dx, dy, x, y));
  return mt_loop_run(4, (const mt_tensor *const[]){dx, dy, x, y}, MT_REAL_FN(x->dtype, logsumexp_row), NULL);
}

#endif
