// elementwise_binary: functions of two broadcast operands. See core/elementwise.h; the formulas are in
// core/elementwise_binary_rows.h.
#include "row.cuh"

extern "C" {
#include "../core/elementwise_check.h"
}

#define MT_SOURCE "elementwise_binary_rows.h"
#include "../core/five.h"

template <typename T> static __global__ void find_zero(const mt_walk walk, int32_t *found) {
  MT_EACH(i, walk.numel) {
    char *p[1];
    mt_walk_at(p, walk, i);
    if (*(const T *)p[0] == 0) {
      atomicExch(found, 1);
    }
  }
}

// Waits for the answer: the division may not begin before it is known.
static int refuse_zero(int32_t op, const mt_tensor *b) {
  mt_device *device;
  mt_walk walk;
  mt_scratch flag;
  int32_t found = 0;
  if (b->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_walk_plan(&walk, 1, &b));
  MT_TRY(mt_enter(&device, b));
  MT_TRY(flag.take(device, (int64_t)sizeof found));
  MT_CUDA(cudaMemsetAsync(flag.data, 0, sizeof found, device->stream));
  const int64_t size = mt_dtype_size(b->dtype);
  const unsigned grid = mt_grid(device, walk.numel);
  if (size == 8) {
    MT_LAUNCH(device, find_zero<int64_t>, grid, MT_BLOCK, 0, walk, (int32_t *)flag.data);
  } else if (size == 4) {
    MT_LAUNCH(device, find_zero<int32_t>, grid, MT_BLOCK, 0, walk, (int32_t *)flag.data);
  } else {
    MT_LAUNCH(device, find_zero<uint8_t>, grid, MT_BLOCK, 0, walk, (int32_t *)flag.data);
  }
  MT_TRY(mt_copy_to_host("division of integers", device, &found, flag.data, (int64_t)sizeof found));
  return found ? mt_elementwise_refuse_zero(op) : MT_OK;
}

extern "C" int mt_elementwise_binary(mt_tensor *y, const mt_tensor *a, const mt_tensor *b, int32_t op) {
  const mt_tensor *const t[] = {y, a, b};
  MT_TRY(mt_elementwise_check_binary(y, a, b, op));
  if (mt_elementwise_divides_integers(a, op)) {
    MT_TRY(refuse_zero(op, b));
  }
  return mt_loop_launch(3, t, MT_FIVE_FN(a->dtype, forward)[op], NULL, 0);
}

extern "C" int mt_elementwise_binary_backward(mt_tensor *d, const mt_tensor *dy, const mt_tensor *a, const mt_tensor *b, int32_t op,
                                              int32_t by_b) {
  const mt_tensor *const t[] = {d, dy, a, b};
  MT_TRY(mt_elementwise_check_binary_backward(d, dy, a, b, op));
  return mt_loop_launch(4, t, MT_REAL_FN(a->dtype, backward)[op][by_b != 0], NULL, 0);
}
