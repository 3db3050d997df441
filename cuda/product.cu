// product: see product.cuh.
#include "cublas.cuh"

enum { PIECE = 8192 };  // terms after which a sum is split, wherever it is computed

// Results of a product of elements E; or sums of splits, (matrix, split, row, column).
template <typename E> struct product_place {
  typedef typename mt_wider<E>::type T;
  void *c;
  T *sums;
  const void *bias;
  int32_t c_narrow, bias_narrow;
  int64_t row_step, column_step, bias_step, rows, columns;
  int64_t batch_dims, batch_size[MT_TILE_BATCH], batch_step[MT_TILE_BATCH];
  struct Row {
    void *to;
  };
  __device__ __forceinline__ Row row(int64_t m, int64_t z) const {
    if (sums) {
      return Row{sums + (z * rows + m) * columns};
    }
    int64_t offset = m * row_step;
    for (int d = (int)batch_dims - 1; d >= 0; d--) {
      offset += z % batch_size[d] * batch_step[d];
      z /= batch_size[d];
    }
    return Row{mt_beside_at<E>(c, offset, c_narrow)};
  }
  __device__ __forceinline__ void store(const Row &r, int64_t n, T v, int64_t) const {
    if (sums) {
      ((T *)r.to)[n] = v;
    } else {
      mt_beside_store<E>(r.to, n * column_step, c_narrow, bias ? v + mt_beside_load<E>(bias, n * bias_step, bias_narrow) : v);
    }
  }
};

// L: lines are rows of a or columns of b, else they are terms.
template <typename E, bool L>
static mt_tile_matrix<E, L> source(const void *data, int64_t line_step, int64_t step, int64_t along, const mt_product *p,
                                   const int64_t *batch_step, int64_t run_slots) {
  mt_tile_matrix<E, L> s;
  memset(&s, 0, sizeof s);
  s.base = (const E *)data;
  s.line_step = line_step;
  s.step = step;
  s.run = L ? 0 : p->run;
  s.run_slots = run_slots;
  s.batch_dims = p->batch_dims;
  memcpy(s.batch_size, p->batch_size, sizeof s.batch_size);
  memcpy(s.batch_step, batch_step, sizeof s.batch_step);
  mt_tile_align(&s, along);
  return s;
}

template <int HOW, bool AL, bool BL>
static int multiply(mt_device *device, const mt_product *p) {
  typedef typename mt_tile_of<HOW>::E E;
  typedef typename mt_tile_of<HOW>::T T;
  static const int STEP = mt_tile_of<HOW>::STEP;
  const int64_t run_slots = p->run ? (p->run + STEP - 1) / STEP * STEP : 0;
  product_place<E> out;
  mt_tile_plan t;
  mt_scratch sums;
  memset(&t, 0, sizeof t);
  memset(&out, 0, sizeof out);
  t.m = p->m;
  t.n = p->n;
  t.k = p->run ? p->k / p->run * run_slots : p->k;
  t.parts = p->batch;
  t.run = p->run ? run_slots / STEP : INT64_MAX;
  // Whole runs together, or pieces of the only one.
  const int64_t runs = p->run ? p->k / p->run : 1;
  t.piece = runs > 1 ? MT_MAX(1, runs / 64) * run_slots : p->run ? PIECE / 2 : PIECE;
  t.splits = MT_MAX(1, (t.k + t.piece - 1) / t.piece);
  const mt_tile_matrix<E, AL> a = source<E, AL>(p->a, AL ? p->a_row : p->a_col, AL ? p->a_col : p->a_row, AL ? p->k : p->m, p, p->a_batch, run_slots);
  const mt_tile_matrix<E, BL> b = source<E, BL>(p->b, BL ? p->b_col : p->b_row, BL ? p->b_row : p->b_col, BL ? p->k : p->n, p, p->b_batch, run_slots);
  out.c = p->c;
  out.c_narrow = p->c_narrow;
  out.bias = p->bias;
  out.bias_narrow = p->bias_narrow;
  out.bias_step = p->bias_step;
  out.row_step = p->c_row;
  out.column_step = p->c_col;
  out.rows = p->m;
  out.columns = p->n;
  out.batch_dims = p->batch_dims;
  memcpy(out.batch_size, p->batch_size, sizeof out.batch_size);
  memcpy(out.batch_step, p->c_batch, sizeof out.batch_step);
  if (t.splits == 1) {
    return mt_tile_run<HOW, true>(device, t, a, b, out);
  }
  product_place<E> apart = out;
  MT_TRY(sums.take(device, t.parts * t.splits * t.m * t.n, sizeof(T)));
  apart.sums = (T *)sums.data;
  MT_TRY((mt_tile_run<HOW, true>(device, t, a, b, apart)));
  MT_LAUNCH(device, (mt_tile_add_splits<T, product_place<E>>), mt_grid(device, t.parts * t.m * t.n), MT_BLOCK, 0, out,
            (const T *)sums.data, t.parts, t.splits);
  return MT_OK;
}

template <int HOW> static int choose(mt_device *device, const mt_product *p) {
  // Lines run along what lies together in memory; runs are made of terms. Which way it is changes no bit.
  const bool a_rows = p->run == 0 && (p->a_col == 1 || p->a_row != 1), b_columns = p->run == 0 && p->b_row == 1 && p->b_col != 1;
  return b_columns ? multiply<HOW, true, true>(device, p)
         : a_rows  ? multiply<HOW, true, false>(device, p)
                   : multiply<HOW, false, false>(device, p);
}

int mt_product_run(mt_device *device, const mt_product *p) {
  bool done;
  if (p->m == 0 || p->n == 0 || p->batch == 0) {
    return MT_OK;
  }
  MT_TRY(mt_cublas_run(&done, device, p));
  if (done) {
    return MT_OK;
  }
  switch (mt_tile_how(p->dtype)) {
    case MT_TILE_3XTF32: return choose<MT_TILE_3XTF32>(device, p);
    case MT_TILE_TF32: return choose<MT_TILE_TF32>(device, p);
    case MT_TILE_BF16: return choose<MT_TILE_BF16>(device, p);
    case MT_TILE_NARROW: return choose<MT_TILE_NARROW>(device, p);
    default: return choose<MT_TILE_F64>(device, p);
  }
}
