// dropout: see core/dropout.h. The draws are made where they are used: memory holds no mask.
#include "graph.cuh"
#include "row.cuh"

extern "C" {
#include "../core/dropout_check.h"
#include "../core/philox.h"
#include "../core/random_check.h"
}

// Every element draws, all in row-major order: a block of Philox serves four neighbours.
// S is the type in memory, T what is computed in.
template <typename S, typename T>
static __global__ void drop_blocks(S *y, const S *x, int64_t numel, const mt_draw numbers, int64_t blocks, uint64_t threshold, T scale) {
  const mt_random random = mt_drawn(numbers);
  const int64_t first = random.first / 4;
  MT_EACH(b, blocks) {
    uint32_t words[4];
    mt_philox_block(words, random.seed, random.call, (uint64_t)(first + b));
    const int64_t at = (first + b) * 4 - random.first;
#pragma unroll
    for (int i = 0; i < 4; i++) {
      if (at + i >= 0 && at + i < numel) {
        const T product = (T)x[at + i] * scale;
        y[at + i] = (S)((uint64_t)words[i] < threshold ? product : (T)0);
      }
    }
  }
}

// Operands: y, x, the numbers of the draws as addresses, and the mask where there is one.
template <typename T> static __global__ void drop(const mt_walk walk, const mt_draw numbers, uint64_t threshold, T scale) {
  const mt_random random = mt_drawn(numbers);
  MT_EACH(i, walk.numel) {
    char *p[3];
    uint32_t words[4];
    mt_walk_at(p, walk, i);
    if (!mt_walk_valid(walk, i)) {
      mt_walk_store(walk, (T *)p[0], (T)0);
      continue;
    }
    const uint64_t draw = (uint64_t)random.first + (uint64_t)(uintptr_t)p[2];
    mt_philox_block(words, random.seed, random.call, draw / 4);
    const T product = mt_walk_load(walk, 1, (const T *)p[1]) * scale;
    mt_walk_store(walk, (T *)p[0], (uint64_t)words[draw % 4] < threshold ? product : (T)0);
  }
}

template <typename S, typename T>
static int launch_blocks(mt_device *device, mt_tensor *y, const mt_tensor *x, const mt_draw &numbers, int64_t first, uint64_t threshold,
                         T scale) {
  const int64_t blocks = (first + x->numel - 1) / 4 - first / 4 + 1;
  MT_LAUNCH(device, (drop_blocks<S, T>), mt_grid(device, blocks), MT_BLOCK, 0, (S *)y->data, (const S *)x->data, x->numel, numbers,
            blocks, threshold, scale);
  return MT_OK;
}

template <typename T>
static int apply(mt_device *device, mt_tensor *y, const mt_tensor *x, const mt_tensor *draws, const mt_tensor *mask,
                 const mt_random *random, double p) {
  const uint64_t threshold = (uint64_t)((1 - p) * 0x1p32);
  const T scale = (T)(1 / (1 - p));
  mt_draw numbers;
  MT_TRY(mt_draw_of(&numbers, "dropout", device, random));
  if (mask == NULL && draws->numel == x->numel && mt_tensor_is_contiguous(x) && mt_tensor_is_contiguous(y)) {
    return x->dtype == MT_BFLOAT16 ? launch_blocks<mt_bf16>(device, y, x, numbers, random->first, threshold, scale)
                                   : launch_blocks<T>(device, y, x, numbers, random->first, threshold, scale);
  }
  mt_walk walk;
  const mt_tensor *const t[] = {y, x, draws, mask};
  MT_TRY(mt_walk_plan(&walk, mask ? 4 : 3, t));
  walk.mask = mask ? 3 : 0;
  MT_LAUNCH(device, drop<T>, mt_grid(device, walk.numel), MT_BLOCK, 0, walk, numbers, threshold, scale);
  return MT_OK;
}

extern "C" int mt_dropout_apply(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, const mt_random *random, double p,
                                int32_t dims) {
  mt_device *device;
  int64_t shape[MT_MAX_DIMS];
  MT_TRY(mt_dropout_check(shape, y, x, mask, p, dims));
  mt_tensor draws = *x;  // a bool tensor without memory: the address of an element is its row-major number
  memcpy(draws.shape, shape, sizeof(int64_t) * (size_t)x->ndim);
  mt_row_major(draws.stride, x->ndim, shape);
  draws.dtype = MT_BOOL;
  draws.numel = 1;
  for (int32_t d = 0; d < x->ndim; d++) {
    draws.numel *= shape[d];
  }
  MT_TRY(mt_random_check_bernoulli(&draws, random, 1 - p));
  draws.data = NULL;
  const mt_tensor *const others[] = {x, mask};
  MT_TRY(mt_check_together("dropout", y, 2, others));
  if (x->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_enter(&device, y));
  return MT_REAL_TEMPLATE(x->dtype, apply, device, y, x, &draws, mask, random, p);
}
