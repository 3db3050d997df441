// order: stable sorting of many lines at once, and the ranks of chosen elements. Internal.
#pragma once
#include "common.cuh"

// An element of a line: sorted by key, then by place.
typedef struct mt_item {
  uint64_t key;
  int64_t place;
} mt_item;

// Sorts each of `lines` lines of n items. `items` holds them with ascending places, `other` is as large; *sorted is one of the two.
// Tiles of 1024 are sorted in shared memory; then pairs of runs are merged, each element finding its place by a search in the other
// run.
int mt_order_sort(mt_item **sorted, mt_device *device, mt_item *items, mt_item *other, int64_t lines, int64_t n);

// ---- which of n elements are chosen, and how many before each -----------------------------------------------------------
//
// Two passes over the elements: count in tiles, then, with the sums of the tiles before it, rank. A choice is a struct with
// `bool operator()(int64_t i) const`, a use one with `void operator()(int64_t i, int64_t rank) const`.

enum { MT_CHOICE_TILE = 1024 };

template <typename Choice> static __global__ void mt_choice_count(const Choice choice, int64_t n, int64_t *of_tile) {
  const int64_t tiles = (n + MT_CHOICE_TILE - 1) / MT_CHOICE_TILE;
  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int64_t i = tile * MT_CHOICE_TILE + threadIdx.x;
    const int count = __syncthreads_count(i < n && choice(i));
    if (threadIdx.x == 0) {
      of_tile[tile] = count;
    }
  }
}

// The sum of x over the threads before this one; *all: over all of them. A block of MT_CHOICE_TILE threads.
MT_DEVICE int64_t mt_block_before(int64_t x, int64_t *all) {
  __shared__ int64_t of_warp[MT_WARP];
  const int lane = threadIdx.x % MT_WARP, warp = threadIdx.x / MT_WARP;
  int64_t sum = x;
  for (int step = 1; step < MT_WARP; step *= 2) {
    const int64_t before = __shfl_up_sync(0xFFFFFFFFu, sum, step);
    sum += lane >= step ? before : 0;
  }
  if (lane == MT_WARP - 1) {
    of_warp[warp] = sum;
  }
  __syncthreads();
  int64_t before = 0, total = 0;
  for (int k = 0; k < MT_CHOICE_TILE / MT_WARP; k++) {
    before += k < warp ? of_warp[k] : 0;
    total += of_warp[k];
  }
  __syncthreads();
  *all = total;
  return before + sum - x;
}

template <typename Choice, typename Use>
static __global__ void mt_choice_rank(const Choice choice, const Use use, int64_t n, const int64_t *before_tile) {
  const int64_t tiles = (n + MT_CHOICE_TILE - 1) / MT_CHOICE_TILE;
  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int64_t i = tile * MT_CHOICE_TILE + threadIdx.x;
    const bool chosen = i < n && choice(i);
    int64_t all;
    const int64_t before = mt_block_before(chosen, &all);
    if (chosen) {
      use(i, before_tile[tile] + before);
    }
  }
}

// numbers[i] = the sum of those before it; numbers[n] = of all.
int mt_order_sums(mt_device *device, int64_t *numbers, int64_t n);

// The counts of tiles and their sums, in `tiles`: its last number is how many are chosen.
template <typename Choice> static int mt_choose(mt_scratch *tiles, int64_t **count, mt_device *device, const Choice &choice, int64_t n) {
  const int64_t k = (n + MT_CHOICE_TILE - 1) / MT_CHOICE_TILE;
  MT_TRY(tiles->take(device, k + 1, sizeof(int64_t)));
  int64_t *of_tile = (int64_t *)tiles->data;
  if (k > 0) {
    MT_LAUNCH(device, mt_choice_count<Choice>, mt_grid(device, k, 1), MT_CHOICE_TILE, 0, choice, n, of_tile);
  }
  MT_TRY(mt_order_sums(device, of_tile, k));
  *count = of_tile + k;
  return MT_OK;
}

template <typename Choice, typename Use>
static int mt_rank(const mt_scratch *tiles, mt_device *device, const Choice &choice, const Use &use, int64_t n) {
  const int64_t k = (n + MT_CHOICE_TILE - 1) / MT_CHOICE_TILE;
  if (k > 0) {
    MT_LAUNCH(device, (mt_choice_rank<Choice, Use>), mt_grid(device, k, 1), MT_CHOICE_TILE, 0, choice, use, n,
              (const int64_t *)tiles->data);
  }
  return MT_OK;
}
