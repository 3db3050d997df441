// sort: see core/sort.h. Every dtype is mapped to unsigned keys in the same order; one stable sort of (key, place) serves all.
#include "lines.cuh"
#include "order.cuh"

extern "C" {
#include "../core/sort_check.h"
}

// ---- keys -----------------------------------------------------------------------------------------------------------

MT_DEVICE uint64_t float_key(double v) {
  if (v != v) {
    return UINT64_MAX;
  }
  v += 0.0;  // -0 becomes 0
  const uint64_t bits = (uint64_t)__double_as_longlong(v);
  return bits >> 63 ? ~bits : bits | 1ull << 63;
}

MT_DEVICE uint64_t key_at(const void *x, int32_t dtype, int64_t i) {
  switch (dtype) {
    case MT_FLOAT32: return float_key((double)((const float *)x)[i]);
    case MT_FLOAT64: return float_key(((const double *)x)[i]);
    case MT_INT64: return (uint64_t)((const int64_t *)x)[i] ^ 1ull << 63;
    case MT_INT32: return (uint64_t)(int64_t)((const int32_t *)x)[i] ^ 1ull << 63;
    default: return (uint64_t)((const uint8_t *)x)[i] ^ 1ull << 63;
  }
}

MT_DEVICE void move_element(void *to, int64_t to_at, const void *from, int64_t from_at, int64_t size) {
  if (size == 4) {
    ((int32_t *)to)[to_at] = ((const int32_t *)from)[from_at];
  } else if (size == 8) {
    ((int64_t *)to)[to_at] = ((const int64_t *)from)[from_at];
  } else {
    ((uint8_t *)to)[to_at] = ((const uint8_t *)from)[from_at];
  }
}

static __global__ void load_keys(mt_item *items, const void *x, int32_t dtype, const mt_lines of_x, uint64_t flip) {
  MT_EACH(k, of_x.outputs * of_x.length) {
    const int64_t o = k / of_x.length, i = k - o * of_x.length;
    items[k].key = key_at(x, dtype, mt_line_at(of_x, o) + i * of_x.stride) ^ flip;
    items[k].place = i;
  }
}

// ---- lines ----------------------------------------------------------------------------------------------------------

typedef struct sort_work {
  mt_lines of_x, of_values, of_index;
  const void *x;
  void *values;
  int64_t *index;
  const mt_item *items;
  int64_t take, skip, size, median;  // median: of real numbers, where a NaN wins
} sort_work;

static __global__ void write_lines(const sort_work w) {
  const int64_t n = w.of_x.length;
  MT_EACH(k, w.of_x.outputs * w.take) {
    const int64_t o = k / w.take, i = k - o * w.take;
    const mt_item *line = w.items + o * n;
    int64_t skip = w.skip;
    if (w.median && line[n - 1].key == UINT64_MAX) {  // the first NaN
      int64_t low = 0;
      for (skip = n - 1; low < skip;) {
        const int64_t middle = low + (skip - low) / 2;
        if (line[middle].key == UINT64_MAX) {
          skip = middle;
        } else {
          low = middle + 1;
        }
      }
    }
    const int64_t place = line[skip + i].place;
    if (w.values) {
      move_element(w.values, mt_line_at(w.of_values, o) + i * w.of_values.stride, w.x, mt_line_at(w.of_x, o) + place * w.of_x.stride,
                   w.size);
    }
    if (w.index) {
      w.index[mt_line_at(w.of_index, o) + i * w.of_index.stride] = place + 1;
    }
  }
}

static int run(const char *op, const mt_sort_plan *p) {
  mt_device *device;
  mt_scratch block;
  mt_item *sorted;
  sort_work w;
  const mt_tensor *x = p->x, *const others[] = {p->values, p->index};
  MT_TRY(mt_check_together(op, x, 2, others));
  if (p->take == 0 || x->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_enter(&device, x));
  MT_TRY(block.take(device, 2 * x->numel, sizeof(mt_item)));
  mt_item *items = (mt_item *)block.data;
  memset(&w, 0, sizeof w);
  w.of_x = mt_lines_of(&p->of_x);
  w.of_values = mt_lines_of(&p->of_values);
  w.of_index = mt_lines_of(&p->of_index);
  w.x = x->data;
  w.values = p->values ? p->values->data : NULL;
  w.index = p->index ? (int64_t *)p->index->data : NULL;
  w.take = p->take;
  w.skip = p->skip;
  w.size = mt_dtype_size(x->dtype);
  w.median = p->median && x->dtype <= MT_FLOAT64;
  MT_LAUNCH(device, load_keys, mt_grid(device, x->numel), MT_BLOCK, 0, items, (const void *)x->data, x->dtype, w.of_x, p->flip);
  MT_TRY(mt_order_sort(&sorted, device, items, items + x->numel, w.of_x.outputs, w.of_x.length));
  w.items = sorted;
  MT_LAUNCH(device, write_lines, mt_grid(device, w.of_x.outputs * w.take), MT_BLOCK, 0, w);
  return MT_OK;
}

extern "C" int mt_sort(mt_tensor *values, mt_tensor *index, const mt_tensor *x, int32_t dim, int32_t descending) {
  mt_sort_plan p;
  MT_TRY(mt_sort_check(&p, values, index, x, dim, descending));
  return run("sort", &p);
}

extern "C" int mt_sort_topk(mt_tensor *values, mt_tensor *index, const mt_tensor *x, int32_t dim, int64_t k, int32_t largest) {
  mt_sort_plan p;
  MT_TRY(mt_sort_check_topk(&p, values, index, x, dim, k, largest));
  return run("topk", &p);
}

extern "C" int mt_sort_kth(mt_tensor *values, mt_tensor *index, const mt_tensor *x, int32_t dim, int64_t k) {
  mt_sort_plan p;
  MT_TRY(mt_sort_check_kth(&p, values, index, x, dim, k));
  return run(k == 0 ? "median" : "kthvalue", &p);
}

// ---- gradient -------------------------------------------------------------------------------------------------------

template <typename T>
static __global__ void scatter_lines(T *dx, const T *dy, const int64_t *index, const mt_lines of_dx, const mt_lines of_dy,
                                     const mt_lines of_index) {
  MT_EACH(k, of_dy.outputs * of_dy.length) {
    const int64_t o = k / of_dy.length, i = k - o * of_dy.length;
    const int64_t place = index[mt_line_at(of_index, o) + i * of_index.stride];
    if (place >= 1 && place <= of_dx.length) {
      dx[mt_line_at(of_dx, o) + (place - 1) * of_dx.stride] = dy[mt_line_at(of_dy, o) + i * of_dy.stride];
    }
  }
}

extern "C" int mt_sort_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *index, int32_t dim) {
  mt_device *device;
  mt_reduction of_dx, of_dy, of_index;
  const mt_tensor *const others[] = {dy, index};
  MT_TRY(mt_sort_check_backward(&of_dx, &of_dy, &of_index, dx, dy, index, dim));
  MT_TRY(mt_check_together("sort", dx, 2, others));
  MT_TRY(mt_tensor_fill(dx, 0));
  if (dy->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_enter(&device, dx));
  const unsigned grid = mt_grid(device, dy->numel);
  const int64_t *places = (const int64_t *)index->data;
  if (dx->dtype == MT_FLOAT32) {
    MT_LAUNCH(device, scatter_lines<float>, grid, MT_BLOCK, 0, (float *)dx->data, (const float *)dy->data, places, mt_lines_of(&of_dx),
              mt_lines_of(&of_dy), mt_lines_of(&of_index));
  } else {
    MT_LAUNCH(device, scatter_lines<double>, grid, MT_BLOCK, 0, (double *)dx->data, (const double *)dy->data, places,
              mt_lines_of(&of_dx), mt_lines_of(&of_dy), mt_lines_of(&of_index));
  }
  return MT_OK;
}

// ---- unique ---------------------------------------------------------------------------------------------------------

// Sorted items that differ from the one before; NaNs always do.
struct is_new {
  const mt_item *items;
  int64_t real;
  __device__ bool operator()(int64_t i) const {
    return i == 0 || items[i].key != items[i - 1].key || (real && items[i].key == UINT64_MAX);
  }
};

struct write_unique {
  const mt_item *items;
  void *values;
  const void *x;
  int64_t *start, size, values_step, x_step;
  __device__ void operator()(int64_t i, int64_t rank) const {
    move_element(values, rank * values_step, x, items[i].place * x_step, size);
    start[rank] = i;
  }
};

// Which of the `found` ranges holds sorted item i; start[found] counts as n.
static __global__ void write_places(int64_t *inverse, int64_t inverse_step, int64_t *counts, int64_t counts_step, const mt_item *items,
                                    const int64_t *start, const int64_t *found, int64_t n) {
  MT_EACH(i, n) {
    int64_t low = 0, high = *found;  // the last start that is not behind i
    while (high - low > 1) {
      const int64_t middle = low + (high - low) / 2;
      if (start[middle] <= i) {
        low = middle;
      } else {
        high = middle;
      }
    }
    if (inverse) {
      inverse[items[i].place * inverse_step] = low + 1;
    }
    if (counts && start[low] == i) {
      counts[low * counts_step] = (low + 1 < *found ? start[low + 1] : n) - i;
    }
  }
}

extern "C" int mt_sort_unique(mt_tensor *values, mt_tensor *inverse, mt_tensor *counts, int64_t *count, const mt_tensor *x) {
  mt_device *device;
  mt_scratch block, tiles, starts;
  mt_item *sorted;
  mt_reduction of_x;
  int64_t *found = NULL;
  const mt_tensor *const others[] = {values, inverse, counts};
  MT_TRY(mt_sort_check_unique(values, inverse, counts, x));
  MT_TRY(mt_check_together("unique", x, 3, others));
  const int64_t n = x->numel;
  *count = 0;
  if (n == 0) {
    return MT_OK;
  }
  MT_TRY(mt_reduction_plan("unique", &of_x, NULL, x, 1, false));
  MT_TRY(mt_enter(&device, x));
  MT_TRY(block.take(device, 2 * n, sizeof(mt_item)));
  MT_TRY(starts.take(device, n, sizeof(int64_t)));
  mt_item *items = (mt_item *)block.data;
  int64_t *start = (int64_t *)starts.data;
  MT_LAUNCH(device, load_keys, mt_grid(device, n), MT_BLOCK, 0, items, (const void *)x->data, x->dtype, mt_lines_of(&of_x), (uint64_t)0);
  MT_TRY(mt_order_sort(&sorted, device, items, items + n, 1, n));
  const is_new choice = {sorted, x->dtype == MT_FLOAT32 || x->dtype == MT_FLOAT64};
  const write_unique use = {sorted, values->data, x->data, start, mt_dtype_size(x->dtype), values->stride[0], x->stride[0]};
  MT_TRY(mt_choose(&tiles, &found, device, choice, n));
  MT_TRY(mt_rank(&tiles, device, choice, use, n));
  if (inverse || counts) {
    MT_LAUNCH(device, write_places, mt_grid(device, n), MT_BLOCK, 0, inverse ? (int64_t *)inverse->data : (int64_t *)NULL,
              inverse ? inverse->stride[0] : 0, counts ? (int64_t *)counts->data : (int64_t *)NULL, counts ? counts->stride[0] : 0,
              (const mt_item *)sorted, (const int64_t *)start, (const int64_t *)found, n);
  }
  return mt_copy_to_host("unique", device, count, found, (int64_t)sizeof *count);
}
