// order: see order.cuh.
#include "order.cuh"

enum { TILE = 1024 };

MT_DEVICE bool comes_before(const mt_item &a, const mt_item &b) { return a.key < b.key || (a.key == b.key && a.place < b.place); }

// A block of size / 2 threads sorts one tile of a line at a time (bitonic; what is missing counts as the largest). size: a power of 2.
static __global__ void sort_tiles(mt_item *items, int64_t lines, int64_t n, int size) {
  MT_DYNAMIC_SHARED(mt_item, tile);
  const int64_t of_line = (n + size - 1) / size;
  const mt_item none = {UINT64_MAX, INT64_MAX};
  for (int64_t t = blockIdx.x; t < lines * of_line; t += gridDim.x) {
    const int64_t begin = t % of_line * size, count = MT_MIN((int64_t)size, n - begin);
    mt_item *from = items + t / of_line * n + begin;
    for (int i = threadIdx.x; i < size; i += blockDim.x) {
      tile[i] = i < count ? from[i] : none;
    }
    for (int run = 2; run <= size; run *= 2) {
      for (int step = run / 2; step > 0; step /= 2) {
        __syncthreads();
        for (int pair = threadIdx.x; pair < size / 2; pair += blockDim.x) {
          const int low = pair / step * 2 * step + pair % step, high = low + step;
          const bool rising = (low & run) == 0;
          const mt_item a = tile[low], b = tile[high];
          if (comes_before(b, a) == rising) {
            tile[low] = b;
            tile[high] = a;
          }
        }
      }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
      from[i] = tile[i];
    }
    __syncthreads();
  }
}

// How many of n sorted items come before `item`.
MT_DEVICE int64_t count_before(const mt_item *items, int64_t n, const mt_item &item) {
  int64_t low = 0, high = n;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (comes_before(items[middle], item)) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// Runs of `width` items become runs of twice that.
static __global__ void merge_runs(mt_item *to, const mt_item *from, int64_t lines, int64_t n, int64_t width) {
  MT_EACH(k, lines * n) {
    const int64_t line = k / n * n, i = k - line, begin = i / (2 * width) * (2 * width);
    const int64_t middle = MT_MIN(begin + width, n), end = MT_MIN(begin + 2 * width, n);
    const mt_item item = from[k];
    const int64_t at = i < middle ? i + count_before(from + line + middle, end - middle, item)
                                  : i - middle + begin + count_before(from + line + begin, middle - begin, item);
    to[line + at] = item;
  }
}

int mt_order_sort(mt_item **sorted, mt_device *device, mt_item *items, mt_item *other, int64_t lines, int64_t n) {
  int size = 2;
  while (size < TILE && size < n) {
    size *= 2;
  }
  *sorted = items;
  if (lines == 0 || n <= 1) {
    return MT_OK;
  }
  const int64_t tiles = lines * ((n + size - 1) / size);
  MT_LAUNCH(device, sort_tiles, mt_grid(device, tiles, 1), MT_MAX(size / 2, (int)MT_WARP), size * sizeof(mt_item), items, lines, n, size);
  for (int64_t width = size; width < n; width *= 2) {
    MT_LAUNCH(device, merge_runs, mt_grid(device, lines * n), MT_BLOCK, 0, other, (const mt_item *)items, lines, n, width);
    mt_item *swap = items;
    items = other;
    other = swap;
  }
  *sorted = items;
  return MT_OK;
}

// One block.
static __global__ void sum_before(int64_t *numbers, int64_t n) {
  int64_t base = 0;
  for (int64_t begin = 0; begin < n; begin += MT_CHOICE_TILE) {
    const int64_t i = begin + threadIdx.x;
    int64_t all;
    const int64_t before = mt_block_before(i < n ? numbers[i] : 0, &all);
    if (i < n) {
      numbers[i] = base + before;
    }
    base += all;
  }
  if (threadIdx.x == 0) {
    numbers[n] = base;
  }
}

int mt_order_sums(mt_device *device, int64_t *numbers, int64_t n) {
  MT_LAUNCH(device, sum_before, 1, MT_CHOICE_TILE, 0, numbers, n);
  return MT_OK;
}
