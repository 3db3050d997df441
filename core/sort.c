// sort: see sort.h. Every dtype is mapped to unsigned keys in the same order; one merge sort of (key, place) serves all.
#include "reduce_plan.h"

typedef struct { uint64_t key; int64_t place; } item;

// ---- keys -----------------------------------------------------------------------------------------------------------

static inline uint64_t float_key(double v) {
  if (v != v) {
    return UINT64_MAX;
  }
  uint64_t bits;
  v += 0.0;  // -0 becomes 0
  memcpy(&bits, &v, sizeof bits);
  return bits >> 63 ? ~bits : bits | 1ull << 63;
}

static inline uint64_t key_at(const mt_tensor *x, int64_t i) {
  switch (x->dtype) {
    case MT_FLOAT32: return float_key((double)((const float *)x->data)[i]);
    case MT_FLOAT64: return float_key(((const double *)x->data)[i]);
    default: return (uint64_t)mt_integer_at(x->data, x->dtype, i) ^ 1ull << 63;
  }
}

static void load_line(item *items, const mt_tensor *x, int64_t first, int64_t stride, int64_t n, uint64_t flip) {
  for (int64_t i = 0; i < n; i++) {
    items[i] = (item){key_at(x, first + i * stride) ^ flip, i};
  }
}

// Stable: runs of 16 by insertion, then merged back and forth. Returns which of the two buffers holds the result.
static item *merge_sort(item *a, item *b, int64_t n) {
  enum { RUN = 16 };
  for (int64_t first = 0; first < n; first += RUN) {
    for (int64_t i = first + 1; i < MT_MIN(first + RUN, n); i++) {
      const item v = a[i];
      int64_t k = i;
      for (; k > first && a[k - 1].key > v.key; k--) {
        a[k] = a[k - 1];
      }
      a[k] = v;
    }
  }
  for (int64_t width = RUN; width < n; width *= 2) {
    for (int64_t first = 0; first < n; first += 2 * width) {
      int64_t i = first, k = MT_MIN(first + width, n), at = first;
      const int64_t middle = k, end = MT_MIN(first + 2 * width, n);
      while (i < middle && k < end) {
        b[at++] = a[k].key < a[i].key ? a[k++] : a[i++];
      }
      memcpy(b + at, a + i, sizeof(item) * (size_t)(middle - i));
      memcpy(b + at + (middle - i), a + k, sizeof(item) * (size_t)(end - k));
    }
    item *t = a;
    a = b;
    b = t;
  }
  return a;
}

// The k smallest keys of a line in order, earlier places first: a short sorted list that better elements push into.
static int64_t select_first(item *best, int64_t k, const mt_tensor *x, int64_t first, int64_t stride, int64_t n,
                            uint64_t flip) {
  int64_t held = 0;
  for (int64_t i = 0; i < n; i++) {
    const uint64_t key = key_at(x, first + i * stride) ^ flip;
    if (held == k && key >= best[k - 1].key) {
      continue;
    }
    int64_t at = held < k ? held++ : k - 1;
    for (; at > 0 && best[at - 1].key > key; at--) {
      best[at] = best[at - 1];
    }
    best[at] = (item){key, i};
  }
  return held;
}

// ---- lines ----------------------------------------------------------------------------------------------------------

typedef struct {
  mt_reduction of_x, of_values, of_index;
  const mt_tensor *x;
  mt_tensor *values, *index;
  uint64_t flip;
  int64_t take, skip;  // outputs per line, and the rank of the first
  bool median;
  int status;
} job;

static void write_line(const job *j, int64_t o, int64_t in_x, const item *items) {
  const int64_t size = mt_dtype_size(j->x->dtype);
  int64_t in_values = 0, in_index = 0, unused;
  if (j->values) {
    mt_reduction_output(&j->of_values, o, &in_values, &unused);
    for (int64_t i = 0; i < j->take; i++) {
      memcpy((char *)j->values->data + (in_values + i * j->of_values.stride) * size,
             (const char *)j->x->data + (in_x + items[i].place * j->of_x.stride) * size, (size_t)size);
    }
  }
  if (j->index) {
    mt_reduction_output(&j->of_index, o, &in_index, &unused);
    for (int64_t i = 0; i < j->take; i++) {
      ((int64_t *)j->index->data)[in_index + i * j->of_index.stride] = items[i].place + 1;
    }
  }
}

static void line_task(void *context, int64_t begin, int64_t end) {
  enum { SHORT = 64 };
  job *j = context;
  const mt_reduction *r = &j->of_x;
  const int64_t n = r->length;
  const bool few = j->skip == 0 && !j->median && j->take <= SHORT && j->take < n / 4;
  item *items = mt_alloc_array(few ? j->take : 2 * n, (int64_t)sizeof(item));
  if (items == NULL) {
    __atomic_store_n(&j->status, MT_ERROR_MEMORY, __ATOMIC_RELAXED);
    return;
  }
  for (int64_t o = begin; o < end; o++) {
    int64_t in_x, unused, skip = j->skip;
    item *sorted = items;
    mt_reduction_output(r, o, &in_x, &unused);
    if (few) {
      select_first(items, j->take, j->x, in_x, r->stride, n, j->flip);
    } else {
      load_line(items, j->x, in_x, r->stride, n, j->flip);
      sorted = merge_sort(items, items + n, n);
    }
    if (j->median && n > 0 && sorted[n - 1].key == UINT64_MAX && j->x->dtype <= MT_FLOAT64) {
      for (skip = n - 1; skip > 0 && sorted[skip - 1].key == UINT64_MAX; skip--) {
      }
    }
    write_line(j, o, in_x, sorted + skip);
  }
  mt_free(items);
}

// Checks, plans and runs: `take` results per line.
static int run(const char *op, job *j, int32_t dim) {
  const mt_tensor *x = j->x;
  int64_t shape[MT_MAX_DIMS];
  MT_TRY(mt_check_tensor(op, "input", x));
  MT_TRY(x->ndim > 0 ? mt_check_dim(op, dim, x) : MT_OK);
  const int32_t dims = x->ndim > 0 ? 1 << dim : 0;
  memcpy(shape, x->shape, sizeof shape);
  if (x->ndim > 0) {
    shape[dim] = j->take;
  }
  MT_TRY(mt_reduction_plan(op, &j->of_x, NULL, x, dims, false));
  if (j->values) {
    MT_TRY(mt_check_dtype(op, "values", j->values, x->dtype));
    MT_TRY(mt_check_shape(op, "values", j->values, x->ndim, shape));
    MT_TRY(mt_check_output(op, "values", j->values));
    MT_TRY(mt_check_overlap(op, j->values, x, false));
    MT_TRY(mt_reduction_plan(op, &j->of_values, NULL, j->values, dims, false));
  }
  if (j->index) {
    MT_TRY(mt_check_dtype(op, "index", j->index, MT_INT64));
    MT_TRY(mt_check_shape(op, "index", j->index, x->ndim, shape));
    MT_TRY(mt_check_output(op, "index", j->index));
    MT_TRY(mt_check_overlap(op, j->index, x, false));
    MT_TRY(mt_reduction_plan(op, &j->of_index, NULL, j->index, dims, false));
  }
  if (j->take == 0) {
    return MT_OK;
  }
  int status = mt_parallel(j->of_x.outputs, MT_MAX(1, 4096 / MT_MAX(1, j->of_x.length)), line_task, j);
  return status != MT_OK ? status : j->status;
}

static int64_t line_length(const mt_tensor *x, int32_t dim) {
  return x == NULL || x->ndim == 0 ? 1 : dim >= 0 && dim < x->ndim ? x->shape[dim] : 0;
}

int mt_sort(mt_tensor *values, mt_tensor *index, const mt_tensor *x, int32_t dim, int32_t descending) {
  job j = {.x = x, .values = values, .index = index, .flip = descending ? UINT64_MAX : 0, .take = line_length(x, dim)};
  return run("sort", &j, dim);
}

int mt_sort_topk(mt_tensor *values, mt_tensor *index, const mt_tensor *x, int32_t dim, int64_t k, int32_t largest) {
  job j = {.x = x, .values = values, .index = index, .flip = largest ? UINT64_MAX : 0, .take = k};
  MT_TRY(mt_check_tensor("topk", "input", x));
  MT_TRY(x->ndim > 0 ? mt_check_dim("topk", dim, x) : MT_OK);
  if (k < 0 || k > line_length(x, dim)) {
    return mt_fail(MT_ERROR_ARGUMENT, "topk: k: expected 0 to %lld, the size of dim %d of %s, got %lld",
                   (long long)line_length(x, dim), x->ndim > 0 ? dim + 1 : 1, MT_SHAPE(x), (long long)k);
  }
  return run("topk", &j, dim);
}

int mt_sort_kth(mt_tensor *values, mt_tensor *index, const mt_tensor *x, int32_t dim, int64_t k) {
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
  job j = {.x = x, .values = values, .index = index, .take = 1, .skip = k == 0 ? (n - 1) / 2 : k - 1, .median = k == 0};
  return run(op, &j, dim);
}

// ---- gradient -------------------------------------------------------------------------------------------------------

typedef struct {
  mt_reduction of_dx, of_dy, of_index;
  mt_tensor *dx;
  const mt_tensor *dy, *index;
} scatter;

static void scatter_task(void *context, int64_t begin, int64_t end) {
  const scatter *s = context;
  for (int64_t o = begin; o < end; o++) {
    int64_t in_dx, in_dy, in_index, unused;
    mt_reduction_output(&s->of_dx, o, &in_dx, &unused);
    mt_reduction_output(&s->of_dy, o, &in_dy, &unused);
    mt_reduction_output(&s->of_index, o, &in_index, &unused);
    for (int64_t i = 0; i < s->of_dy.length; i++) {
      const int64_t place = ((const int64_t *)s->index->data)[in_index + i * s->of_index.stride];
      if (place < 1 || place > s->of_dx.length) {
        continue;
      }
      const int64_t to = in_dx + (place - 1) * s->of_dx.stride, from = in_dy + i * s->of_dy.stride;
      if (s->dx->dtype == MT_FLOAT32) {
        ((float *)s->dx->data)[to] = ((const float *)s->dy->data)[from];
      } else {
        ((double *)s->dx->data)[to] = ((const double *)s->dy->data)[from];
      }
    }
  }
}

int mt_sort_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *index, int32_t dim) {
  scatter s = {.dx = dx, .dy = dy, .index = index};
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
  MT_TRY(mt_reduction_plan("sort", &s.of_dx, NULL, dx, dims, false));
  MT_TRY(mt_reduction_plan("sort", &s.of_dy, NULL, dy, dims, false));
  MT_TRY(mt_reduction_plan("sort", &s.of_index, NULL, index, dims, false));
  MT_TRY(mt_tensor_fill(dx, 0));
  return mt_parallel(s.of_dx.outputs, mt_reduction_grain(&s.of_dx), scatter_task, &s);
}

// ---- unique ---------------------------------------------------------------------------------------------------------

static int check_places(const char *argument, const mt_tensor *t, const mt_tensor *x) {
  MT_TRY(mt_check_dtype("unique", argument, t, MT_INT64));
  MT_TRY(mt_check_shape("unique", argument, t, 1, x->shape));
  return mt_check_output("unique", argument, t);
}

int mt_sort_unique(mt_tensor *values, mt_tensor *inverse, mt_tensor *counts, int64_t *count, const mt_tensor *x) {
  MT_TRY(mt_check_ndim("unique", "input", x, 1));
  MT_TRY(mt_check_like("unique", "values", values, x));
  MT_TRY(mt_check_output("unique", "values", values));
  MT_TRY(mt_check_overlap("unique", values, x, false));
  MT_TRY(inverse ? check_places("inverse", inverse, x) : MT_OK);
  MT_TRY(counts ? check_places("counts", counts, x) : MT_OK);
  const int64_t n = x->numel, size = mt_dtype_size(x->dtype);
  const bool real = x->dtype == MT_FLOAT32 || x->dtype == MT_FLOAT64;
  MT_SCRATCH(item, items, 2 * n);
  if (items == NULL) {
    return MT_ERROR_MEMORY;
  }
  load_line(items, x, 0, x->stride[0], n, 0);
  const item *sorted = merge_sort(items, items + n, n);
  int64_t found = 0;
  for (int64_t i = 0; i < n; i++) {
    const bool first = i == 0 || sorted[i].key != sorted[i - 1].key || (real && sorted[i].key == UINT64_MAX);
    if (first) {
      memcpy((char *)values->data + found * values->stride[0] * size,
             (const char *)x->data + sorted[i].place * x->stride[0] * size, (size_t)size);
      found++;
    }
    if (counts) {
      int64_t *c = (int64_t *)counts->data + (found - 1) * counts->stride[0];
      *c = first ? 1 : *c + 1;
    }
    if (inverse) {
      ((int64_t *)inverse->data)[sorted[i].place * inverse->stride[0]] = found;
    }
  }
  *count = found;
  mt_free(items);
  return MT_OK;
}
