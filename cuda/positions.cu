// positions: see positions.cuh.
#include "positions.cuh"

// The texts of mt_fault_site must be literals.
static const char *site_text(const char *op) {
  static const char *const texts[] = {"gather: index", "take_along_dim: index", "index_select: index", "scatter: index",
                                      "scatter_add: index", "index_add: index", "index_copy: index", "index_fill: index",
                                      "one_hot: index", "embedding: index", "batch: index"};
  for (size_t k = 0; k < sizeof texts / sizeof *texts; k++) {
    const size_t length = strlen(op);
    if (strncmp(texts[k], op, length) == 0 && texts[k][length] == ':') {
      return texts[k];
    }
  }
  return "index: index";
}

mt_places mt_places_of(mt_device *device, const char *op, const mt_tensor *index, int64_t limit) {
  mt_places r;
  memset(&r, 0, sizeof r);
  r.data = (const char *)index->data;
  r.fault = device->fault;
  r.limit = limit;
  r.site = mt_fault_site(site_text(op));
  r.narrow = index->dtype == MT_INT32;
  int64_t raster = 1;
  for (int32_t d = index->ndim - 1; d >= 0; d--) {
    if (index->stride[d] == 0 || index->shape[d] <= 1) {
      continue;
    }
    int32_t k = r.dims++;
    for (; k > 0 && r.stride[k - 1] < index->stride[d]; k--) {
      r.stride[k] = r.stride[k - 1];
      r.raster[k] = r.raster[k - 1];
    }
    r.stride[k] = index->stride[d];
    r.raster[k] = raster;
    raster *= index->shape[d];
  }
  return r;
}

// ---- gather -------------------------------------------------------------------------------------------------------------

template <typename T> static __global__ void gather(const mt_walk walk, const mt_places places, int64_t step) {
  MT_EACH(i, walk.numel) {
    char *p[3];
    mt_walk_at(p, walk, i);
    const int64_t at = mt_place_at(places, p[2]);
    *(T *)p[0] = at < 0 ? (T)0 : *(const T *)(p[1] + at * step);
  }
}

int mt_places_gather(mt_device *device, const char *op, const mt_tensor *y, const mt_tensor *x, int32_t dim, const mt_tensor *index) {
  mt_walk walk;
  mt_tensor line = *x;  // x with y's sizes, standing still along dim
  const int64_t size = mt_dtype_size(x->dtype), step = x->stride[dim] * size;
  memcpy(line.shape, y->shape, sizeof line.shape);
  line.stride[dim] = 0;
  const mt_tensor *const t[] = {y, &line, index};
  MT_TRY(mt_walk_plan(&walk, 3, t));
  if (walk.numel == 0) {
    return MT_OK;
  }
  const mt_places places = mt_places_of(device, op, index, x->shape[dim]);
  const unsigned grid = mt_grid(device, walk.numel);
  if (size == 4) {
    MT_LAUNCH(device, gather<int32_t>, grid, MT_BLOCK, 0, walk, places, step);
  } else if (size == 8) {
    MT_LAUNCH(device, gather<int64_t>, grid, MT_BLOCK, 0, walk, places, step);
  } else {
    MT_LAUNCH(device, gather<uint8_t>, grid, MT_BLOCK, 0, walk, places, step);
  }
  return MT_OK;
}

// ---- sums ---------------------------------------------------------------------------------------------------------------

enum { SHORT = 16 };

// Lines have positions of their own; the columns of a line share them (the index is broadcast there).
typedef struct add_work {
  mt_places places;
  int64_t lines, columns, count, index_step, src_step, y_step, line_dims, column_dims, skip;
  int64_t line_shape[MT_MAX_DIMS], line_index[MT_MAX_DIMS], line_src[MT_MAX_DIMS], line_y[MT_MAX_DIMS];
  int64_t column_shape[MT_MAX_DIMS], column_src[MT_MAX_DIMS], column_y[MT_MAX_DIMS];
  const void *src;
  void *y;
  double alpha;
} add_work;

// The position of element k of a line; UINT64_MAX: none.
MT_DEVICE uint64_t place_of(const add_work &w, int64_t line, int64_t k) {
  int64_t from = k * w.index_step;
  for (int d = (int)w.line_dims - 1; d >= 0; d--) {
    from += line % w.line_shape[d] * w.line_index[d];
    line /= w.line_shape[d];
  }
  const int64_t at = mt_place_at(w.places, w.places.data + from * (w.places.narrow ? 4 : 8));
  return at < 0 || at == w.skip ? UINT64_MAX : (uint64_t)at;
}

// Where element 0 of a line's column begins: in src and, moved to position `key`, in y.
MT_DEVICE void find_column(int64_t *from, int64_t *to, const add_work &w, int64_t line, int64_t column, uint64_t key) {
  *from = 0;
  *to = (int64_t)key * w.y_step;
  for (int d = (int)w.line_dims - 1; d >= 0; d--) {
    const int64_t at = line % w.line_shape[d];
    line /= w.line_shape[d];
    *from += at * w.line_src[d];
    *to += at * w.line_y[d];
  }
  for (int d = (int)w.column_dims - 1; d >= 0; d--) {
    const int64_t at = column % w.column_shape[d];
    column /= w.column_shape[d];
    *from += at * w.column_src[d];
    *to += at * w.column_y[d];
  }
}

// Short lines need no sorting: the first of equal positions looks for the others.
template <typename T> static __global__ void add_short(const add_work w) {
  MT_EACH(i, w.lines * w.count * w.columns) {
    const int64_t column = i % w.columns, k = i / w.columns % w.count, line = i / w.columns / w.count;
    const uint64_t key = place_of(w, line, k);
    bool first = key != UINT64_MAX;
    for (int64_t j = 0; first && j < k; j++) {
      first = place_of(w, line, j) != key;
    }
    if (first) {
      int64_t from, to;
      find_column(&from, &to, w, line, column, key);
      const T *src = (const T *)w.src + from;
      double sum = 0;
      for (int64_t j = k; j < w.count; j++) {
        sum += place_of(w, line, j) == key ? (double)src[j * w.src_step] : 0;
      }
      T *y = (T *)w.y + to;
      *y = (T)((double)*y + (double)(T)w.alpha * sum);
    }
  }
}

static __global__ void load_places(mt_item *items, const add_work w) {
  MT_EACH(i, w.lines * w.count) {
    const int64_t line = i / w.count, k = i - line * w.count;
    items[i].key = place_of(w, line, k);
    items[i].place = k;
  }
}

template <typename T> static __global__ void add_places(const mt_item *items, const add_work w) {
  MT_EACH(i, w.lines * w.count * w.columns) {
    const int64_t column = i % w.columns, line = i / w.columns / w.count;
    int64_t k = i / w.columns % w.count;
    const mt_item *own = items + line * w.count;
    const uint64_t key = own[k].key;
    if (key == UINT64_MAX || (k > 0 && own[k - 1].key == key)) {
      continue;
    }
    int64_t low = k + 1, end = w.count;  // behind the last equal one
    while (low < end) {
      const int64_t middle = low + (end - low) / 2;
      if (own[middle].key == key) {
        low = middle + 1;
      } else {
        end = middle;
      }
    }
    int64_t from, to;
    find_column(&from, &to, w, line, column, key);
    const T *src = (const T *)w.src + from;
    double sum = 0;
#pragma unroll 8
    for (; k < end; k++) {
      sum += (double)src[own[k].place * w.src_step];
    }
    T *y = (T *)w.y + to;
    *y = (T)((double)*y + (double)(T)w.alpha * sum);
  }
}

static void plan_dims(add_work *w, const mt_tensor *y, int32_t dim, const mt_tensor *index, const mt_tensor *src) {
  w->lines = w->columns = 1;
  for (int32_t d = 0; d < src->ndim; d++) {
    if (d == dim || src->shape[d] == 1) {
      continue;
    }
    if (index->stride[d] != 0) {
      const int64_t k = w->line_dims++;
      w->line_shape[k] = src->shape[d];
      w->line_index[k] = index->stride[d];
      w->line_src[k] = src->stride[d];
      w->line_y[k] = y->stride[d];
      w->lines *= src->shape[d];
      continue;
    }
    int64_t k = w->column_dims++;  // the nearest in y's memory last: neighbouring threads
    for (; k > 0 && w->column_y[k - 1] < y->stride[d]; k--) {
      w->column_shape[k] = w->column_shape[k - 1];
      w->column_src[k] = w->column_src[k - 1];
      w->column_y[k] = w->column_y[k - 1];
    }
    w->column_shape[k] = src->shape[d];
    w->column_src[k] = src->stride[d];
    w->column_y[k] = y->stride[d];
    w->columns *= src->shape[d];
  }
}

int mt_places_add(mt_device *device, const char *op, const mt_tensor *y, int32_t dim, const mt_tensor *index, const mt_tensor *src,
                  double alpha, int64_t skip) {
  mt_scratch block;
  mt_item *sorted;
  add_work w;
  memset(&w, 0, sizeof w);
  if (src->numel == 0) {
    return MT_OK;
  }
  w.places = mt_places_of(device, op, index, y->shape[dim]);
  w.count = src->shape[dim];
  w.index_step = index->stride[dim];
  w.src_step = src->stride[dim];
  w.y_step = y->stride[dim];
  w.src = src->data;
  w.y = y->data;
  w.alpha = alpha;
  w.skip = skip;
  plan_dims(&w, y, dim, index, src);
  const int64_t n = w.lines * w.count;
  const unsigned grid = mt_grid(device, src->numel);
  if (w.count <= SHORT && y->dtype == MT_FLOAT32) {
    MT_LAUNCH(device, add_short<float>, grid, MT_BLOCK, 0, w);
    return MT_OK;
  }
  if (w.count <= SHORT) {
    MT_LAUNCH(device, add_short<double>, grid, MT_BLOCK, 0, w);
    return MT_OK;
  }
  MT_TRY(block.take(device, 2 * n, sizeof(mt_item)));
  mt_item *items = (mt_item *)block.data;
  MT_LAUNCH(device, load_places, mt_grid(device, n), MT_BLOCK, 0, items, w);
  MT_TRY(mt_order_sort(&sorted, device, items, items + n, w.lines, w.count));
  if (y->dtype == MT_FLOAT32) {
    MT_LAUNCH(device, add_places<float>, grid, MT_BLOCK, 0, (const mt_item *)sorted, w);
  } else {
    MT_LAUNCH(device, add_places<double>, grid, MT_BLOCK, 0, (const mt_item *)sorted, w);
  }
  return MT_OK;
}
