// conv_pixels: see conv_pixels.cuh.
#include "conv_pixels.cuh"

mt_pixel_map mt_pixel_map_of(const mt_tensor *t) {
  mt_pixel_map map;
  memset(&map, 0, sizeof map);
  if (t) {
    map.data = t->data;
    map.sample = t->shape[0] == 1 ? 0 : t->stride[0];
    for (int32_t d = 2, a = 5 - t->ndim; d < t->ndim; d++, a++) {
      map.step[a] = t->stride[d];
    }
  }
  return map;
}

// ---- kernels ------------------------------------------------------------------------------------------------------------

typedef struct {
  mt_pixel_map active;
  int64_t rows, size[3];
  int64_t group;
  int64_t *start, *rank;   // rows + 1 each
  mt_pixel *list;
  uint8_t *fresh;
} find_plan;

MT_DEVICE bool is_active(const find_plan &p, int64_t row, int64_t x, mt_pixel *pixel) {
  const int64_t rest = row / p.size[1], n = rest / p.size[0];
  *pixel = mt_pixel{(int32_t)n, {(int32_t)(rest % p.size[0]), (int32_t)(row % p.size[1]), (int32_t)x}};
  return x < p.size[2] && (p.active.data == NULL ||
                           ((const uint8_t *)p.active.data)[mt_pixel_offset(p.active.sample, p.active.step, *pixel)] != 0);
}

// A warp counts a row: places in start, whether it has any in rank.
static __global__ void count_rows(const find_plan p) {
  const int lane = threadIdx.x % MT_WARP;
  const int64_t warps = (int64_t)gridDim.x * (blockDim.x / MT_WARP);
  for (int64_t r = (int64_t)blockIdx.x * (blockDim.x / MT_WARP) + threadIdx.x / MT_WARP; r < p.rows; r += warps) {
    int64_t count = p.size[2];
    if (p.active.data) {
      count = 0;
      for (int64_t x = 0; x < p.size[2]; x += MT_WARP) {
        mt_pixel pixel;
        count += __popc(__ballot_sync(0xFFFFFFFFu, is_active(p, r, x + lane, &pixel)));
      }
    }
    if (lane == 0) {
      p.start[r] = (count + p.group - 1) / p.group * p.group;
      p.rank[r] = count > 0;
    }
  }
}

// What comes before each row, by one block: a thread adds up neighbouring rows, then the threads' sums are scanned.
static __global__ void scan_rows(const find_plan p) {
  __shared__ int64_t sum[2][1024];
  const int64_t each = (p.rows + blockDim.x - 1) / blockDim.x, first = threadIdx.x * each;
  const int64_t last = first + each < p.rows ? first + each : p.rows;
  int64_t places = 0, ranks = 0;
  for (int64_t r = first; r < last; r++) {
    places += p.start[r];
    ranks += p.rank[r];
  }
  sum[0][threadIdx.x] = places;
  sum[1][threadIdx.x] = ranks;
  for (unsigned step = 1; step < blockDim.x; step *= 2) {
    __syncthreads();
    const int64_t a = threadIdx.x >= step ? sum[0][threadIdx.x - step] : 0, b = threadIdx.x >= step ? sum[1][threadIdx.x - step] : 0;
    __syncthreads();
    sum[0][threadIdx.x] += a;
    sum[1][threadIdx.x] += b;
  }
  __syncthreads();
  places = sum[0][threadIdx.x] - places;
  ranks = sum[1][threadIdx.x] - ranks;
  for (int64_t r = first; r < last; r++) {
    const int64_t a = p.start[r], b = p.rank[r];
    p.start[r] = places;
    p.rank[r] = ranks;
    places += a;
    ranks += b;
  }
  if (threadIdx.x == blockDim.x - 1) {
    p.start[p.rows] = sum[0][threadIdx.x];
    p.rank[p.rows] = sum[1][threadIdx.x];
  }
}

static __global__ void list_rows(const find_plan p) {
  const int lane = threadIdx.x % MT_WARP;
  const int64_t warps = (int64_t)gridDim.x * (blockDim.x / MT_WARP);
  for (int64_t r = (int64_t)blockIdx.x * (blockDim.x / MT_WARP) + threadIdx.x / MT_WARP; r < p.rows; r += warps) {
    int64_t at = p.start[r];
    const int64_t end = p.start[r + 1];
    for (int64_t g = at / p.group + lane; p.fresh && g < end / p.group; g += MT_WARP) {
      p.fresh[g] = (g - at / p.group) % MT_TILE_RUN == 0;
    }
    for (int64_t x = 0; x < p.size[2]; x += MT_WARP) {
      mt_pixel pixel;
      const bool active = is_active(p, r, x + lane, &pixel);
      const unsigned all = __ballot_sync(0xFFFFFFFFu, active);
      if (active) {
        p.list[at + __popc(all & ((1u << lane) - 1))] = pixel;
      }
      at += __popc(all);
    }
    if (at + lane < end) {
      p.list[at + lane] = mt_pixel{-1, {0, 0, 0}};
    }
  }
}

typedef struct {
  const int64_t *start, *rank;
  int64_t samples, rows, splits, each, blocks;  // rows of a sample; samples of a split; splits of a sample
  int64_t block_rows, block_terms;
  int64_t *begin, *end;
} cut_plan;

// The first row of the sample before which `rank` rows have something.
MT_DEVICE int64_t row_of_rank(const cut_plan &p, int64_t first, int64_t rank) {
  int64_t low = first, high = first + p.rows;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (p.rank[middle] - p.rank[first] < rank) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

static __global__ void cut_rows(const cut_plan p) {
  MT_EACH(i, p.splits) {
    const int64_t n = i / p.blocks, block = i % p.blocks;
    const int64_t from = n * p.each * p.rows, last = (n + 1) * p.each, to = (last < p.samples ? last : p.samples) * p.rows;
    int64_t begin = p.start[from], end = p.start[to];
    if (p.block_terms) {
      const int64_t a = begin + block * p.block_terms, b = a + p.block_terms;
      begin = a < end ? a : end;
      end = b < end ? b : end;
    } else if (p.block_rows) {
      begin = p.start[row_of_rank(p, from, block * p.block_rows)];
      end = p.start[row_of_rank(p, from, (block + 1) * p.block_rows)];
    }
    p.begin[i] = begin;
    p.end[i] = end;
  }
}

// ---- host -----------------------------------------------------------------------------------------------------------------

int mt_pixels::all(mt_device *d, int64_t n, const int64_t size[3]) {
  device = d;
  memset(&walk, 0, sizeof walk);
  most = n * size[0] * size[1] * size[2];
  walk.narrow = most <= INT32_MAX;
  for (int k = 0; k < 3; k++) {
    walk.size[k] = size[k];
    if (walk.narrow && size[k] > 0) {
      walk.by[k] = mt_divisor_of(size[k]);
    }
  }
  count = NULL;
  return MT_OK;
}

int mt_pixels::find(mt_device *d, int64_t n, const int64_t size[3], const mt_pixel_map *active, int group) {
  find_plan p;
  memset(&p, 0, sizeof p);
  memset(&walk, 0, sizeof walk);
  device = d;
  samples = n;
  rows = size[0] * size[1];
  width = size[2];
  p.active = *active;
  p.rows = n * rows;
  memcpy(p.size, size, sizeof p.size);
  p.group = group;
  most = p.rows * ((width + group - 1) / group * group);
  const int64_t groups = group > 1 ? most / group : 0;
  MT_TRY(memory.take(d, most * (int64_t)sizeof(mt_pixel) + (p.rows + 1) * 16 + groups));
  p.list = (mt_pixel *)memory.data;
  p.start = (int64_t *)(p.list + most);
  p.rank = p.start + p.rows + 1;
  p.fresh = groups ? (uint8_t *)(p.rank + p.rows + 1) : NULL;
  const unsigned grid = mt_grid(d, p.rows, MT_BLOCK / MT_WARP);
  MT_LAUNCH(d, count_rows, grid, MT_BLOCK, 0, p);
  MT_LAUNCH(d, scan_rows, 1, 1024, 0, p);
  MT_LAUNCH(d, list_rows, grid, MT_BLOCK, 0, p);
  walk.list = p.list;
  start = p.start;
  rank = p.rank;
  fresh = p.fresh;
  count = start + p.rows;
  return MT_OK;
}

int mt_pixels::cut(const mt_pixel_cut *how, int group) {
  cut_plan p = {start, rank, samples, rows, 0, MT_MAX(1, how->samples), 1, 0, 0, NULL, NULL};
  if (p.each == 1 && how->terms > 0) {
    p.block_terms = how->terms;
    p.blocks = ((width + group - 1) / group * group + how->terms - 1) / how->terms;
  } else if (p.each == 1 && how->rows > 0) {
    p.block_rows = how->rows;
    p.blocks = (rows + how->rows - 1) / how->rows;
  }
  splits = p.splits = (samples + p.each - 1) / p.each * p.blocks;
  MT_TRY(cuts.take(device, splits, 2 * (int64_t)sizeof(int64_t)));
  p.begin = (int64_t *)cuts.data;
  p.end = p.begin + splits;
  MT_LAUNCH(device, cut_rows, mt_grid(device, splits), MT_BLOCK, 0, p);
  begin = p.begin;
  end = p.end;
  return MT_OK;
}
