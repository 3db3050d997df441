// conv_epilogue: one pass over the gradient of a convolution's result makes it the gradient of the sums, and adds up that of the bias.
// See conv.h.
#ifdef REAL
#include "activate.h"

// The outputs [o, o + n) of a row: part = their sums over its pixels. n, f, neighbours and writes are constants where that pays.
MT_INLINE void FN(add_row)(const epilogue *e, int64_t row, int64_t o, const int64_t n, double *part, const int32_t f,
                           const bool neighbours, const bool writes) {
  const int64_t step = neighbours ? 1 : e->dy->stride[1], y_step = neighbours || !e->y ? 1 : e->y->stride[1];
  const int64_t to_step = neighbours || !writes ? 1 : e->draw->stride[1];
  const bool gated = f != MT_ACTIVATION_IDENTITY, apart = !writes && e->dy_step > 2 * LANES;  // one line of each pixel: no stream
  const REAL *p = (const REAL *)e->dy->data + mt_conv_row_offset(e->dy, row) + o * step;
  const REAL *y = gated ? (const REAL *)e->y->data + mt_conv_row_offset(e->y, row) + o * y_step : p;
  REAL *to = writes ? (REAL *)e->draw->data + mt_conv_row_offset(e->draw, row) + o * to_step : NULL;
  const uint8_t *active = e->active ? (const uint8_t *)e->active->data + mt_conv_row_offset(e->active, row) : NULL;
  const REAL *r = e->r ? (const REAL *)e->r->data + mt_conv_row_offset(e->r, row) : NULL;
  const REAL *m = e->m ? (const REAL *)e->m->data + mt_conv_row_offset(e->m, row) : NULL, a = (REAL)e->a;
  for (int64_t l = 0; l < n; l++) part[l] = 0;
  for (int64_t i = 0; i < e->columns; i++, p += e->dy_step, y += e->y_step) {
    if (active && !active[i * e->active_step]) {
      continue;
    }
    if (apart) {
      __builtin_prefetch(p + 2 * LANES * e->dy_step);
    }
    REAL *out = writes ? to + i * e->draw_step : NULL;
    const REAL gate = m ? m[i * e->m_step] : 1, scale = r ? r[i * e->r_step] : 1;
    if (gate == 0) {
      for (int64_t l = 0; l < n && writes; l++) out[l * to_step] = 0;
      continue;
    }
    _Pragma("GCC ivdep") for (int64_t l = 0; l < n; l++) {
      const REAL d = FN(activation_gated)(p[l * step], y[l * y_step], f, a) * gate;
      part[l] += d;
      if (writes) {
        out[l * to_step] = scale == 0 ? 0 : d * scale;
      }
    }
  }
}

// Neighbouring outputs together, or one by one.
MT_INLINE void FN(add_any_row)(const epilogue *e, int64_t row, int64_t o, int64_t n, double *part, const int32_t f, const bool writes) {
  if (!e->neighbours) {
    for (int64_t l = 0; l < n; l++) FN(add_row)(e, row, o + l, 1, part + l, f, false, writes);
  } else if (n == LANES && !writes) {
    FN(add_row)(e, row, o, LANES, part, f, true, writes);
  } else {
    FN(add_row)(e, row, o, n, part, f, true, writes);
  }
}

MT_INLINE void FN(add_chosen_row)(const epilogue *e, int64_t row, int64_t o, int64_t n, double *part, const bool writes) {
  if (e->activation == MT_ACTIVATION_IDENTITY) {
    FN(add_any_row)(e, row, o, n, part, MT_ACTIVATION_IDENTITY, writes);
  } else if (e->activation == MT_ACTIVATION_RELU) {
    FN(add_any_row)(e, row, o, n, part, MT_ACTIVATION_RELU, writes);
  } else {
    FN(add_any_row)(e, row, o, n, part, MT_ACTIVATION_LEAKY_RELU, writes);
  }
}

// Rows of all outputs. Their sums are kept, one row after the other.
MT_CLONES static void FN(each_row)(void *context, int64_t begin, int64_t end) {
  const epilogue *e = context;
  const int64_t outputs = e->dy->shape[1];
  double unused[WIDE];
  for (int64_t row = begin; row < end; row++) {
    for (int64_t o = 0; o < outputs; o += WIDE) {
      FN(add_chosen_row)(e, row, o, MT_MIN(WIDE, outputs - o), e->sums ? e->sums + row * outputs + o : unused, true);
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

// Some outputs in all rows: nothing is written but their sums.
MT_CLONES static void FN(each_output)(void *context, int64_t begin, int64_t end) {
  const epilogue *e = context;
  for (int64_t o = begin; o < end; o += LANES) {
    const int64_t n = MT_MIN(LANES, end - o);
    double sum[LANES] = {0}, part[LANES];
    for (int64_t row = 0; row < e->rows; row++) {
      FN(add_chosen_row)(e, row, o, n, part, false);
      for (int64_t l = 0; l < n; l++) sum[l] += part[l];
    }
    for (int64_t l = 0; l < n; l++) ((REAL *)e->db->data)[(o + l) * e->db->stride[0]] = (REAL)sum[l];
  }
}

#else
#include "conv_check.h"
#include "row.h"

enum { LANES = 16, WIDE = 64 };  // outputs whose sums stay in registers; outputs of a pixel that are read together

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

static int run(epilogue *e) {
  const int64_t outputs = e->dy->shape[1], numel = e->dy->numel, grain = numel < 65536 ? MT_MAX(1, outputs) : LANES;
  const int32_t dtype = e->dy->dtype;
  if (e->draw == NULL) {
    return e->db ? mt_parallel(outputs, grain, MT_REAL_FN(dtype, each_output), e) : MT_OK;
  }
  int64_t size = 0;
  if (e->db && (!mt_mul(&size, e->rows, outputs) || (e->sums = mt_alloc_array(MT_MAX(1, size), (int64_t)sizeof(double))) == NULL)) {
    return MT_ERROR_MEMORY;
  }
  MT_TRY(mt_parallel(e->rows, MT_MAX(1, 32768 / MT_MAX(1, e->columns * outputs)), MT_REAL_FN(dtype, each_row), e));
  return e->db ? mt_parallel(outputs, grain, MT_REAL_FN(dtype, add_rows), e) : MT_OK;
}

int mt_conv_backward_epilogue(mt_tensor *draw, mt_tensor *db, const mt_tensor *dy, const mt_tensor *y, const mt_tensor *active,
                              const mt_tensor *r, const mt_tensor *m, int32_t activation, double a) {
  MT_TRY(mt_conv_check_backward_epilogue(draw, db, dy, y, active, r, m, activation, a));
  y = activation == MT_ACTIVATION_IDENTITY ? NULL : y;
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
  const int status = run(&e);
  mt_free(e.sums);
  mt_tensor_release(near);
  return status;
}

#endif
