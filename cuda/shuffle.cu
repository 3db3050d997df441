// shuffle: see core/shuffle.h. Both directions are one strided copy between the views of core/shuffle_check.h.
#include "common.cuh"

extern "C" {
#include "../core/shuffle_check.h"
}

extern "C" int mt_shuffle_unshuffle(mt_tensor *y, const mt_tensor *x, int64_t factor) {
  mt_tensor coarse, fine;
  MT_TRY(mt_shuffle_check_unshuffle(&coarse, &fine, y, x, factor));
  MT_TRY(mt_check_together("pixel_unshuffle", y, 1, &x));
  return mt_tensor_copy(&coarse, &fine);
}

extern "C" int mt_shuffle_shuffle(mt_tensor *y, const mt_tensor *x, int64_t factor) {
  mt_tensor coarse, fine;
  MT_TRY(mt_shuffle_check_shuffle(&coarse, &fine, y, x, factor));
  MT_TRY(mt_check_together("pixel_shuffle", y, 1, &x));
  return mt_tensor_copy(&fine, &coarse);
}
