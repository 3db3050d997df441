// sort: see sort.h. Every dtype is mapped to unsigned keys in the same order; one merge sort of (key, place) serves all.
#include "sort_check.h"

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
  mt_sort_plan plan;
  int status;
} job;

static void write_line(const job *j, int64_t o, int64_t in_x, const item *items) {
  const int64_t size = mt_dtype_size(j->plan.x->dtype);
  int64_t in_values = 0, in_index = 0, unused;
  if (j->plan.values) {
    mt_reduction_output(&j->plan.of_values, o, &in_values, &unused);
    for (int64_t i = 0; i < j->plan.take; i++) {
      memcpy((char *)j->plan.values->data + (in_values + i * j->plan.of_values.stride) * size,
             (const char *)j->plan.x->data + (in_x + items[i].place * j->plan.of_x.stride) * size, (size_t)size);
    }
  }
  if (j->plan.index) {
    mt_reduction_output(&j->plan.of_index, o, &in_index, &unused);
    for (int64_t i = 0; i < j->plan.take; i++) {
      ((int64_t *)j->plan.index->data)[in_index + i * j->plan.of_index.stride] = items[i].place + 1;
    }
  }
}

static void line_task(void *context, int64_t begin, int64_t end) {
  enum { SHORT = 64 };
  job *j = context;
  const mt_reduction *r = &j->plan.of_x;
  const int64_t n = r->length;
  const bool few = j->plan.skip == 0 && !j->plan.median && j->plan.take <= SHORT && j->plan.take < n / 4;
  item *items = mt_alloc_array(few ? j->plan.take : 2 * n, (int64_t)sizeof(item));
  if (items == NULL) {
    __atomic_store_n(&j->status, MT_ERROR_MEMORY, __ATOMIC_RELAXED);
    return;
  }
  for (int64_t o = begin; o < end; o++) {
    int64_t in_x, unused, skip = j->plan.skip;
    item *sorted = items;
    mt_reduction_output(r, o, &in_x, &unused);
    if (few) {
      select_first(items, j->plan.take, j->plan.x, in_x, r->stride, n, j->plan.flip);
    } else {
      load_line(items, j->plan.x, in_x, r->stride, n, j->plan.flip);
      sorted = merge_sort(items, items + n, n);
    }
    if (j->plan.median && n > 0 && sorted[n - 1].key == UINT64_MAX && j->plan.x->dtype <= MT_FLOAT64) {
      for (skip = n - 1; skip > 0 && sorted[skip - 1].key == UINT64_MAX; skip--) {
      }
    }
    write_line(j, o, in_x, sorted + skip);
  }
  mt_free(items);
}

static int run(job *j) {
  const mt_reduction *of_x = &j->plan.of_x;
  if (j->plan.take == 0) {
    return MT_OK;
  }
  int status = mt_parallel(of_x->outputs, MT_MAX(1, 4096 / MT_MAX(1, of_x->length)), line_task, j);
  return status != MT_OK ? status : j->status;
}

int mt_sort(mt_tensor *values, mt_tensor *index, const mt_tensor *x, int32_t dim, int32_t descending) {
  job j = {.status = MT_OK};
  MT_TRY(mt_sort_check(&j.plan, values, index, x, dim, descending));
  return run(&j);
}

int mt_sort_topk(mt_tensor *values, mt_tensor *index, const mt_tensor *x, int32_t dim, int64_t k, int32_t largest) {
  job j = {.status = MT_OK};
  MT_TRY(mt_sort_check_topk(&j.plan, values, index, x, dim, k, largest));
  return run(&j);
}

int mt_sort_kth(mt_tensor *values, mt_tensor *index, const mt_tensor *x, int32_t dim, int64_t k) {
  job j = {.status = MT_OK};
  MT_TRY(mt_sort_check_kth(&j.plan, values, index, x, dim, k));
  return run(&j);
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
  MT_TRY(mt_sort_check_backward(&s.of_dx, &s.of_dy, &s.of_index, dx, dy, index, dim));
  MT_TRY(mt_tensor_fill(dx, 0));
  return mt_parallel(s.of_dx.outputs, mt_reduction_grain(&s.of_dx), scatter_task, &s);
}

// ---- unique ---------------------------------------------------------------------------------------------------------

int mt_sort_unique(mt_tensor *values, mt_tensor *inverse, mt_tensor *counts, int64_t *count, const mt_tensor *x) {
  MT_TRY(mt_sort_check_unique(values, inverse, counts, x));
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
