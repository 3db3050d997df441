// sort_check: see sort_check.h.
#include "sort_check.h"

// `take` results per line.
static int plan(const char *op, mt_sort_plan *p, int32_t dim) {
  const mt_tensor *x = p->x;
  int64_t shape[MT_MAX_DIMS];
  MT_TRY(mt_check_tensor(op, "input", x));
  MT_TRY(x->ndim > 0 ? mt_check_dim(op, dim, x) : MT_OK);
  const int32_t dims = x->ndim > 0 ? 1 << dim : 0;
  memcpy(shape, x->shape, sizeof shape);
  if (x->ndim > 0) {
    shape[dim] = p->take;
  }
  MT_TRY(mt_reduction_plan(op, &p->of_x, NULL, x, dims, false));
  if (p->values) {
    MT_TRY(mt_check_dtype(op, "values", p->values, x->dtype));
    MT_TRY(mt_check_shape(op, "values", p->values, x->ndim, shape));
    MT_TRY(mt_check_output(op, "values", p->values));
    MT_TRY(mt_check_overlap(op, p->values, x, false));
    MT_TRY(mt_reduction_plan(op, &p->of_values, NULL, p->values, dims, false));
  }
  if (p->index) {
    MT_TRY(mt_check_dtype(op, "index", p->index, MT_INT64));
    MT_TRY(mt_check_shape(op, "index", p->index, x->ndim, shape));
    MT_TRY(mt_check_output(op, "index", p->index));
    MT_TRY(mt_check_overlap(op, p->index, x, false));
    MT_TRY(mt_reduction_plan(op, &p->of_index, NULL, p->index, dims, false));
  }
  return MT_OK;
}

static int64_t line_length(const mt_tensor *x, int32_t dim) {
  return x == NULL || x->ndim == 0 ? 1 : dim >= 0 && dim < x->ndim ? x->shape[dim] : 0;
}

int mt_sort_check(mt_sort_plan *p, mt_tensor *values, mt_tensor *index, const mt_tensor *x, int32_t dim, int32_t descending) {
  *p = (mt_sort_plan){.x = x, .values = values, .index = index, .flip = descending ? UINT64_MAX : 0, .take = line_length(x, dim)};
  return plan("sort", p, dim);
}

int mt_sort_check_topk(mt_sort_plan *p, mt_tensor *values, mt_tensor *index, const mt_tensor *x, int32_t dim, int64_t k,
                       int32_t largest) {
  *p = (mt_sort_plan){.x = x, .values = values, .index = index, .flip = largest ? UINT64_MAX : 0, .take = k};
  MT_TRY(mt_check_tensor("topk", "input", x));
  MT_TRY(x->ndim > 0 ? mt_check_dim("topk", dim, x) : MT_OK);
  if (k < 0 || k > line_length(x, dim)) {
    return mt_fail(MT_ERROR_ARGUMENT, "topk: k: expected 0 to %lld, the size of dim %d of %s, got %lld",
                   (long long)line_length(x, dim), x->ndim > 0 ? dim + 1 : 1, MT_SHAPE(x), (long long)k);
  }
  return plan("topk", p, dim);
}

int mt_sort_check_kth(mt_sort_plan *p, mt_tensor *values, mt_tensor *index, const mt_tensor *x, int32_t dim, int64_t k) {
  const char *op = k == 0 ? "median" : "kthvalue";
  MT_TRY(mt_check_tensor(op, "input", x));
  MT_TRY(x->ndim > 0 ? mt_check_dim(op, dim, x) : MT_OK);
  const int64_t n = line_length(x, dim);
  if (n == 0 && x->numel == 0) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: input: %s has no element to choose from", op, MT_SHAPE(x));
  }
  if (k < 0 || k > n) {
    return mt_fail(MT_ERROR_ARGUMENT, "kthvalue: k: expected 1 to %lld, the size of dim %d of %s, got %lld", (long long)n,
                   x->ndim > 0 ? dim + 1 : 1, MT_SHAPE(x), (long long)k);
  }
  *p = (mt_sort_plan){.x = x, .values = values, .index = index, .take = 1, .skip = k == 0 ? (n - 1) / 2 : k - 1, .median = k == 0};
  return plan(op, p, dim);
}

int mt_sort_check_backward(mt_reduction *of_dx, mt_reduction *of_dy, mt_reduction *of_index, const mt_tensor *dx, const mt_tensor *dy,
                           const mt_tensor *index, int32_t dim) {
  MT_TRY(mt_check_real("sort", "gradient", dy));
  MT_TRY(mt_check_dtype("sort", "output", dx, dy->dtype));
  MT_TRY(mt_check_output("sort", "output", dx));
  MT_TRY(mt_check_dtype("sort", "index", index, MT_INT64));
  MT_TRY(mt_check_shape("sort", "index", index, dy->ndim, dy->shape));
  MT_TRY(mt_check_ndim("sort", "output", dx, dy->ndim));
  MT_TRY(dx->ndim > 0 ? mt_check_dim("sort", dim, dx) : MT_OK);
  for (int32_t d = 0; d < dx->ndim; d++) {
    if (d != dim && dx->shape[d] != dy->shape[d]) {
      return mt_fail(MT_ERROR_ARGUMENT, "sort: gradient: %s does not fit %s", MT_SHAPE(dy), MT_SHAPE(dx));
    }
  }
  const int32_t dims = dx->ndim > 0 ? 1 << dim : 0;
  MT_TRY(mt_reduction_plan("sort", of_dx, NULL, dx, dims, false));
  MT_TRY(mt_reduction_plan("sort", of_dy, NULL, dy, dims, false));
  return mt_reduction_plan("sort", of_index, NULL, index, dims, false);
}

static int check_places(const char *argument, const mt_tensor *t, const mt_tensor *x) {
  MT_TRY(mt_check_dtype("unique", argument, t, MT_INT64));
  MT_TRY(mt_check_shape("unique", argument, t, 1, x->shape));
  return mt_check_output("unique", argument, t);
}

int mt_sort_check_unique(const mt_tensor *values, const mt_tensor *inverse, const mt_tensor *counts, const mt_tensor *x) {
  MT_TRY(mt_check_ndim("unique", "input", x, 1));
  MT_TRY(mt_check_like("unique", "values", values, x));
  MT_TRY(mt_check_output("unique", "values", values));
  MT_TRY(mt_check_overlap("unique", values, x, false));
  MT_TRY(inverse ? check_places("inverse", inverse, x) : MT_OK);
  return counts ? check_places("counts", counts, x) : MT_OK;
}
