// conv_epilogue: one pass over the gradient of a convolution's result makes it the gradient of the sums, and adds up that of the bias.
// See conv.h.
#ifdef REAL
#include "activate.h"

typedef REAL FN(lanes) __attribute__((vector_size(LANES * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
typedef REAL FN(half_lanes) __attribute__((vector_size(LANES / 2 * sizeof(REAL))));

// What the pixels of a row have in common, from output o on.
typedef struct {
  const REAL *dy, *y, *r, *m;
  REAL *to;
  const uint8_t *active;
} FN(line);

MT_INLINE FN(line) FN(line_of)(const epilogue *e, int64_t row, int64_t o) {
  return (FN(line)){(const REAL *)e->dy->data + mt_conv_row_offset(e->dy, row) + o * e->dy->stride[1],
                    e->y ? (const REAL *)e->y->data + mt_conv_row_offset(e->y, row) + o * e->y->stride[1] : NULL,
                    e->r ? (const REAL *)e->r->data + mt_conv_row_offset(e->r, row) : NULL,
                    e->m ? (const REAL *)e->m->data + mt_conv_row_offset(e->m, row) : NULL,
                    e->draw ? (REAL *)e->draw->data + mt_conv_row_offset(e->draw, row) + o * e->draw->stride[1] : NULL,
                    e->active ? (const uint8_t *)e->active->data + mt_conv_row_offset(e->active, row) : NULL};
}

// n neighbouring outputs, whole vectors: sum[l] += what they add up to over the pixels of the row. f is a constant.
MT_INLINE void FN(add_vectors)(const epilogue *e, FN(line) line, int64_t n, double *sum, const int32_t f) {
  typedef __typeof__((FN(lanes)){0} > (FN(lanes)){0}) bits;
  const REAL a = (REAL)e->a;
  const int64_t ahead = 4 * e->dy_step;
  for (int64_t i = 0; i < e->columns; i++) {
    if (line.active && !line.active[i * e->active_step]) {
      continue;
    }
    const REAL gate = line.m ? line.m[i * e->m_step] : 1, scale = line.r ? line.r[i * e->r_step] : 1;
    const REAL *p = line.dy + i * e->dy_step, *y = f == MT_ACTIVATION_IDENTITY ? p : line.y + i * e->y_step;
    REAL *to = line.to ? line.to + i * e->draw_step : NULL;
    for (int64_t l = 0; l < n; l += LANES) {
      FN(lanes) d = *(const FN(lanes) *)(p + l);
      __builtin_prefetch(p + l + ahead);
      if (f != MT_ACTIVATION_IDENTITY) {
        const bits open = *(const FN(lanes) *)(y + l) > (FN(lanes)){0};
        d = f == MT_ACTIVATION_RELU ? (FN(lanes))((bits)d & open) : (FN(lanes))(((bits)d & open) | ((bits)(d * a) & ~open));
      }
      d *= gate;
      if (gate == 0) {
        d = (FN(lanes)){0};
      }
      const FN(half_lanes) low = __builtin_shufflevector(d, d, 0, 1, 2, 3, 4, 5, 6, 7);
      const FN(half_lanes) high = __builtin_shufflevector(d, d, 8, 9, 10, 11, 12, 13, 14, 15);
      *(doubles *)(sum + l) += __builtin_convertvector(low, doubles);
      *(doubles *)(sum + l + LANES / 2) += __builtin_convertvector(high, doubles);
      if (to) {
        d *= scale;
        if (scale == 0) {
          d = (FN(lanes)){0};
        }
        *(FN(lanes) *)(to + l) = d;
      }
    }
  }
}

// One output, whatever lies between its pixels.
MT_INLINE void FN(add_output)(const epilogue *e, FN(line) line, double *sum, const int32_t f) {
  const REAL a = (REAL)e->a;
  for (int64_t i = 0; i < e->columns; i++) {
    if (line.active && !line.active[i * e->active_step]) {
      continue;
    }
    const REAL gate = line.m ? line.m[i * e->m_step] : 1, scale = line.r ? line.r[i * e->r_step] : 1;
    REAL d = line.dy[i * e->dy_step];
    if (f != MT_ACTIVATION_IDENTITY) {
      d = FN(activation_gated)(d, line.y[i * e->y_step], f, a);
    }
    d = gate == 0 ? 0 : d * gate;
    *sum += d;
    if (line.to) {
      line.to[i * e->draw_step] = scale == 0 ? 0 : d * scale;
    }
  }
}

// The outputs [o, o + n) of a row: part = their sums over its pixels.
MT_INLINE void FN(add_row)(const epilogue *e, int64_t row, int64_t o, int64_t n, double *part, const int32_t f) {
  const int64_t whole = e->neighbours ? n / LANES * LANES : 0;
  memset(part, 0, sizeof *part * (size_t)n);
  if (whole > 0) {
    FN(add_vectors)(e, FN(line_of)(e, row, o), whole, part, f);
  }
  for (int64_t l = whole; l < n; l++) FN(add_output)(e, FN(line_of)(e, row, o + l), part + l, f);
}

MT_INLINE void FN(add_chosen_row)(const epilogue *e, int64_t row, int64_t o, int64_t n, double *part) {
  if (e->activation == MT_ACTIVATION_IDENTITY) {
    FN(add_row)(e, row, o, n, part, MT_ACTIVATION_IDENTITY);
  } else if (e->activation == MT_ACTIVATION_RELU) {
    FN(add_row)(e, row, o, n, part, MT_ACTIVATION_RELU);
  } else {
    FN(add_row)(e, row, o, n, part, MT_ACTIVATION_LEAKY_RELU);
  }
}

// Rows of all outputs. Their sums are kept, one row after the other.
MT_CLONES_512 static void FN(each_row)(void *context, int64_t begin, int64_t end) {
  const epilogue *e = context;
  const int64_t outputs = e->dy->shape[1];
  double unused[WIDE];
  for (int64_t row = begin; row < end; row++) {
    for (int64_t o = 0; o < outputs; o += WIDE) {
      FN(add_chosen_row)(e, row, o, MT_MIN(WIDE, outputs - o), e->sums ? e->sums + row * outputs + o : unused);
    }
  }
}

// The rows' sums in order.
static void FN(add_rows)(void *context, int64_t begin, int64_t end) {
  const epilogue *e = context;
  const int64_t outputs = e->dy->shape[1];
  for (int64_t o = begin; o < end; o += LANES) {
    const int64_t n = MT_MIN(LANES, end - o);
    double sum[LANES] = {0};
    for (int64_t row = 0; row < e->rows; row++) {
      for (int64_t l = 0; l < n; l++) sum[l] += e->sums[row * outputs + o + l];
    }
    for (int64_t l = 0; l < n; l++) ((REAL *)e->db->data)[(o + l) * e->db->stride[0]] = (REAL)sum[l];
  }
}

// Some outputs in all rows.
MT_CLONES_512 static void FN(each_output)(void *context, int64_t begin, int64_t end) {
  const epilogue *e = context;
  for (int64_t o = begin; o < end; o += WIDE) {
    const int64_t n = MT_MIN(WIDE, end - o);
    double sum[WIDE] = {0}, part[WIDE];
    for (int64_t row = 0; row < e->rows; row++) {
      FN(add_chosen_row)(e, row, o, n, part);
      for (int64_t l = 0; l < n; l++) sum[l] += part[l];
    }
    for (int64_t l = 0; l < n && e->db; l++) ((REAL *)e->db->data)[(o + l) * e->db->stride[0]] = (REAL)sum[l];
  }
}

#else
#include "conv_check.h"
#include "row.h"
#include "wide.h"

enum { LANES = 16, WIDE = 128 };  // outputs of a vector; of a pixel that are read together

typedef double doubles __attribute__((vector_size(LANES / 2 * sizeof(double)), aligned(sizeof(double)), may_alias));

typedef struct {
  const mt_tensor *draw, *db, *dy, *y, *active, *r, *m;
  int32_t activation;
  double a;
  bool neighbours;                   // outputs of a pixel, in all of them
  int64_t rows, columns;
  int64_t draw_step, dy_step, y_step, active_step, r_step, m_step;   // from column to column
  double *sums;                      // [row][output]
} epilogue;

#define MT_SOURCE "conv_epilogue.c"
#include "twice.h"

static int64_t column_step(const mt_tensor *t) { return t ? t->stride[t->ndim - 1] : 0; }
static bool has_neighbours(const mt_tensor *t) { return t == NULL || t->stride[1] == 1; }

// Rows are dealt to tasks where there are enough, and their sums little beside them; else outputs are. The bits are the same.
static int run(epilogue *e) {
  const int64_t outputs = e->dy->shape[1], numel = e->dy->numel;
  const int32_t dtype = e->dy->dtype;
  if (e->rows < 16 || e->columns < 8) {
    const int64_t grain = numel < 65536 ? outputs : outputs >= 4 * WIDE ? WIDE : LANES;
    return mt_parallel(outputs, MT_MAX(1, grain), MT_REAL_FN(dtype, each_output), e);
  }
  int64_t size = 0;
  if (e->db && (!mt_mul(&size, e->rows, outputs) || (e->sums = mt_alloc_array(MT_MAX(1, size), (int64_t)sizeof(double))) == NULL)) {
    return MT_ERROR_MEMORY;
  }
  MT_TRY(mt_parallel(e->rows, MT_MAX(1, 32768 / MT_MAX(1, e->columns * outputs)), MT_REAL_FN(dtype, each_row), e));
  return e->db ? mt_parallel(outputs, numel < 65536 ? MT_MAX(1, outputs) : LANES, MT_REAL_FN(dtype, add_rows), e) : MT_OK;
}

static int pull_back(mt_tensor *draw, mt_tensor *db, const mt_tensor *dy, const mt_tensor *y, const mt_tensor *active,
                     const mt_tensor *r, const mt_tensor *m, int32_t activation, double a) {
  mt_tensor *near = NULL;
  if (dy->shape[1] > 1 && !has_neighbours(dy) && draw && has_neighbours(draw) && has_neighbours(y)) {
    MT_TRY(mt_conv_side_by_side(&near, dy));
    dy = near;
  }
  epilogue e = {.draw = draw, .db = db, .dy = dy, .y = y, .active = active, .r = r, .m = m, .activation = activation, .a = a,
                .neighbours = has_neighbours(draw) && has_neighbours(dy) && has_neighbours(y),
                .rows = dy->numel > 0 ? dy->shape[0] : 0, .columns = dy->shape[dy->ndim - 1], .draw_step = column_step(draw),
                .dy_step = column_step(dy), .y_step = column_step(y), .active_step = column_step(active), .r_step = column_step(r),
                .m_step = column_step(m)};
  for (int32_t d = 2; d < dy->ndim - 1; d++) {
    e.rows *= dy->shape[d];
  }
  const int status = draw || db ? run(&e) : MT_OK;
  mt_free(e.sums);
  mt_tensor_release(near);
  return status;
}

// d = dy f', rounded, as the activation's own backward gives it.
static int gated(mt_tensor **d, const mt_tensor *dy, const mt_tensor *y, int32_t activation, double a) {
  mt_wide wide = {0};
  MT_TRY(mt_tensor_new_like(d, dy, NULL, -1));
  dy = mt_wide_input(&wide, dy);
  y = mt_wide_input(&wide, y);
  mt_tensor *to = mt_wide_output(&wide, *d);
  return mt_wide_end(&wide, wide.status ? wide.status : mt_activation_backward(to, dy, y, NULL, activation, a, 0));
}

int mt_conv_backward_epilogue(mt_tensor *draw, mt_tensor *db, const mt_tensor *dy, const mt_tensor *y, const mt_tensor *active,
                              const mt_tensor *r, const mt_tensor *m, int32_t activation, double a) {
  MT_TRY(mt_conv_check_backward_epilogue(draw, db, dy, y, active, r, m, activation, a));
  mt_wide wide = {0};
  mt_tensor *d = NULL;
  if (dy->dtype == MT_BFLOAT16 && activation == MT_ACTIVATION_LEAKY_RELU) {
    wide.status = gated(&d, dy, y, activation, a);
    dy = d;
    activation = MT_ACTIVATION_IDENTITY;
  }
  y = activation == MT_ACTIVATION_IDENTITY ? NULL : y;
  if (wide.status == MT_OK) {
    dy = mt_wide_input(&wide, dy);
    y = mt_wide_input(&wide, y);
    draw = mt_wide_output(&wide, draw);
    db = mt_wide_output(&wide, db);
  }
  const int status = mt_wide_end(&wide, wide.status ? wide.status : pull_back(draw, db, dy, y, active, r, m, activation, a));
  mt_tensor_release(d);
  return status;
}

#endif
