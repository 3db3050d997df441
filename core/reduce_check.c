// reduce_check: see reduce_check.h.
#include "reduce_check.h"

static bool is_real(const mt_tensor *x) { return x->dtype == MT_FLOAT32 || x->dtype == MT_FLOAT64; }

int mt_reduce_check_real(const char *op, mt_reduction *r, const mt_tensor *y, const mt_tensor *x, int32_t dims) {
  MT_TRY(mt_check_real(op, "input", x));
  MT_TRY(mt_check_dtype(op, "output", y, x->dtype));
  return mt_reduction_plan_into(op, r, y, x, dims, true);
}

int mt_reduce_check_integer_sum(mt_reduction *r, const mt_tensor *y, const mt_tensor *x, int32_t dims) {
  MT_TRY(mt_check_dtype("sum", "output", y, MT_INT64));
  return mt_reduction_plan_into("sum", r, y, x, dims, true);
}

int mt_reduce_check_sum_backward(const mt_tensor *dx, const mt_tensor *dy) {
  MT_TRY(mt_check_real("sum", "gradient", dy));
  MT_TRY(mt_check_dtype("sum", "output", dx, dy->dtype));
  MT_TRY(mt_check_output("sum", "output", dx));
  MT_TRY(mt_check_overlap("sum", dx, dy, true));
  return mt_check_fits("sum", "gradient", dy, dx);
}

int mt_reduce_check_var(mt_reduction *r, mt_reduction *r_mean, const mt_tensor *y, const mt_tensor *mean, const mt_tensor *x,
                        int32_t dims, int32_t root) {
  const char *op = root ? "std" : "var";
  MT_TRY(mt_check_real(op, "input", x));
  MT_TRY(mt_check_dtype(op, "output", y, x->dtype));
  MT_TRY(mt_check_dtype(op, "mean", mean, MT_FLOAT64));
  MT_TRY(mt_reduction_plan_into(op, r, y, x, dims, true));
  return mt_reduction_plan_into(op, r_mean, mean, x, dims, true);
}

int mt_reduce_check_var_backward(const mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, const mt_tensor *y,
                                 const mt_tensor *mean, int32_t root) {
  const char *op = root ? "std" : "var";
  MT_TRY(mt_check_real(op, "input", x));
  MT_TRY(mt_check_like(op, "output", dx, x));
  MT_TRY(mt_check_output(op, "output", dx));
  MT_TRY(mt_check_dtype(op, "gradient", dy, x->dtype));
  MT_TRY(mt_check_like(op, "y", y, dy));
  MT_TRY(mt_check_dtype(op, "mean", mean, MT_FLOAT64));
  MT_TRY(mt_check_fits(op, "gradient", dy, x));
  return mt_check_fits(op, "mean", mean, dy);
}

int mt_reduce_check_norm(mt_reduction *r, const mt_tensor *y, const mt_tensor *x, int32_t dims, double p) {
  MT_TRY(mt_reduce_check_real("norm", r, y, x, dims));
  return p == p ? MT_OK : mt_fail(MT_ERROR_ARGUMENT, "norm: p: expected a number, got NaN");
}

int mt_reduce_check_slope(const char *op, const mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, const mt_tensor *y) {
  MT_TRY(mt_check_real(op, "input", x));
  MT_TRY(mt_check_like(op, "output", dx, x));
  MT_TRY(mt_check_output(op, "output", dx));
  MT_TRY(mt_check_dtype(op, "gradient", dy, x->dtype));
  return mt_check_like(op, "y", y, dy);
}

// ---- extremes, truth, products ------------------------------------------------------------------------------------

int mt_reduce_check_extreme(mt_reduction *r, mt_reduction *r_index, const mt_tensor *values, const mt_tensor *index,
                            const mt_tensor *x, int32_t dims, int32_t largest) {
  const char *op = largest ? "max" : "min";
  MT_TRY(mt_check_tensor(op, "input", x));
  if (values) {
    MT_TRY(mt_check_dtype(op, "values", values, x->dtype));
  }
  if (index) {
    MT_TRY(mt_check_dtype(op, "index", index, MT_INT64));
  }
  MT_TRY(mt_reduction_plan_into(op, r, values, x, dims, false));
  MT_TRY(mt_reduction_plan_into(op, r_index, index, x, dims, false));
  if (r->count == 0 && r->outputs > 0) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: input: %s has no element to choose from", op, MT_SHAPE(x));
  }
  return MT_OK;
}

static int check_gradient(const char *op, const mt_tensor *dx, const mt_tensor *dy) {
  MT_TRY(mt_check_real(op, "gradient", dy));
  MT_TRY(mt_check_dtype(op, "output", dx, dy->dtype));
  return mt_check_output(op, "output", dx);
}

int mt_reduce_check_chosen(mt_reduction *of_dx, mt_reduction *of_index, const mt_tensor *dx, const mt_tensor *dy,
                           const mt_tensor *index, int32_t dims) {
  MT_TRY(check_gradient("max", dx, dy));
  MT_TRY(mt_check_dtype("max", "index", index, MT_INT64));
  MT_TRY(mt_reduction_plan("max", of_dx, dy, dx, dims, false));
  return mt_reduction_plan("max", of_index, index, dx, dims, false);
}

int mt_reduce_check_even(const char *op, mt_reduction *of_x, mt_reduction *of_dx, const mt_tensor *dx, const mt_tensor *dy,
                         const mt_tensor *x, const mt_tensor *y, int32_t dims) {
  MT_TRY(check_gradient(op, dx, dy));
  MT_TRY(mt_check_like(op, "input", x, dx));
  MT_TRY(mt_check_like(op, "y", y, dy));
  MT_TRY(mt_reduction_plan(op, of_dx, dy, dx, dims, false));
  return mt_reduction_plan(op, of_x, y, x, dims, false);
}

int mt_reduce_check_truth(mt_reduction *r, const mt_tensor *y, const mt_tensor *x, int32_t dims, int32_t every) {
  const char *op = every ? "all" : "any";
  MT_TRY(mt_check_dtype(op, "output", y, MT_BOOL));
  MT_TRY(mt_reduction_plan_into(op, r, y, x, dims, false));
  r->rows = r->count == 0 ? 0 : r->rows;
  return MT_OK;
}

int mt_reduce_check_prod(mt_reduction *r, const mt_tensor *y, const mt_tensor *x, int32_t dims) {
  MT_TRY(mt_check_tensor("prod", "input", x));
  MT_TRY(mt_check_dtype("prod", "output", y, is_real(x) ? x->dtype : MT_INT64));
  MT_TRY(mt_reduction_plan_into("prod", r, y, x, dims, false));
  r->rows = r->count == 0 ? 0 : r->rows;
  return MT_OK;
}

int mt_reduce_check_prod_backward(mt_reduction *of_x, mt_reduction *of_dx, const mt_tensor *dx, const mt_tensor *dy,
                                  const mt_tensor *x, int32_t dims) {
  MT_TRY(check_gradient("prod", dx, dy));
  MT_TRY(mt_check_like("prod", "input", x, dx));
  MT_TRY(mt_reduction_plan("prod", of_dx, dy, dx, dims, false));
  return mt_reduction_plan("prod", of_x, NULL, x, dims, false);
}

// ---- along one axis -----------------------------------------------------------------------------------------------

int mt_reduce_check_scan(const char *op, mt_reduction *of_x, mt_reduction *of_y, const mt_tensor *y, const mt_tensor *x,
                         int32_t dim) {
  MT_TRY(mt_check_tensor(op, "input", x));
  MT_TRY(mt_check_dtype(op, "output", y, is_real(x) ? x->dtype : MT_INT64));
  MT_TRY(mt_check_shape(op, "output", y, x->ndim, x->shape));
  MT_TRY(mt_check_output(op, "output", y));
  MT_TRY(mt_check_overlap(op, y, x, false));
  MT_TRY(x->ndim > 0 ? mt_check_dim(op, dim, x) : MT_OK);
  const int32_t dims = x->ndim > 0 ? 1 << dim : 0;
  MT_TRY(mt_reduction_plan(op, of_x, NULL, x, dims, false));
  return mt_reduction_plan(op, of_y, NULL, y, dims, false);
}

int mt_reduce_check_cumprod_backward(mt_reduction *of_x, mt_reduction *of_dx, mt_reduction *of_dy, const mt_tensor *dx,
                                     const mt_tensor *dy, const mt_tensor *x, int32_t dim) {
  MT_TRY(mt_check_real("cumprod", "input", x));
  MT_TRY(mt_check_like("cumprod", "gradient", dy, x));
  MT_TRY(mt_reduce_check_scan("cumprod", of_x, of_dx, dx, x, dim));
  return mt_reduction_plan("cumprod", of_dy, NULL, dy, x->ndim > 0 ? 1 << dim : 0, false);
}
