// row: see row.cuh.
#include "row.cuh"

// Granlund and Montgomery, Division by invariant integers using multiplication, 1994.
mt_divisor mt_divisor_of(int64_t size) {
  mt_divisor by = {(uint32_t)size, 0, 0};
  while (by.shift < 31 && ((int64_t)1 << by.shift) < size) {
    by.shift++;
  }
  by.factor = (uint32_t)((((uint64_t)1 << 32) * (((uint64_t)1 << by.shift) - (uint64_t)size)) / (uint64_t)size + 1);
  return by;
}

int mt_walk_plan(mt_walk *walk, int32_t operands, const mt_tensor *const *t) {
  mt_loop loop;
  MT_TRY(mt_loop_plan(&loop, operands, t));
  memset(walk, 0, sizeof *walk);
  walk->numel = loop.numel;
  walk->ndim = loop.ndim;
  walk->narrow = loop.numel <= INT32_MAX;
  for (int32_t d = 0; d < loop.ndim; d++) {
    walk->shape[d] = loop.shape[d];
    if (walk->narrow && loop.numel > 0) {
      walk->by[d] = mt_divisor_of(loop.shape[d]);
    }
  }
  for (int32_t k = 0; k < operands; k++) {
    walk->base[k] = loop.base[k];
    walk->bf16 |= (uint32_t)(t[k]->dtype == MT_BFLOAT16) << k;
    memcpy(walk->step[k], loop.step[k], sizeof walk->step[k]);
  }
  return MT_OK;
}

static int launch(int32_t operands, const mt_tensor *const *t, mt_row_function row, const void *context, size_t bytes, int32_t mask) {
  mt_device *device;
  mt_walk walk;
  mt_context words;
  memset(&words, 0, sizeof words);
  if (bytes > 0) {
    memcpy(&words, context, bytes);
  }
  MT_TRY(mt_check_together("elementwise", t[0], operands, t));
  MT_TRY(mt_walk_plan(&walk, operands, t));
  walk.mask = mask;
  if (walk.numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_enter(&device, t[0]));
  MT_LAUNCH(device, row, mt_grid(device, walk.numel), MT_BLOCK, 0, walk, words);
  return MT_OK;
}

int mt_loop_launch(int32_t operands, const mt_tensor *const *t, mt_row_function row, const void *context, size_t bytes) {
  return launch(operands, t, row, context, bytes, 0);
}

int mt_loop_launch_valid(int32_t operands, const mt_tensor *const *t, mt_row_function row, const void *context, size_t bytes) {
  const int32_t mask = operands - 1;
  return t[mask] ? launch(operands, t, row, context, bytes, mask) : launch(mask, t, row, context, bytes, 0);
}
