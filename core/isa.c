// isa: which build of the micro-kernels this process uses.
#include <stdlib.h>

#include "tile.h"

static const mt_tile *choose(void) {
#if defined(__x86_64__)
  const char *wanted = getenv("MASKED_TORCH_ISA");
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl");
  // A wish that the machine cannot run falls to the best it can.
  if (wanted && strcmp(wanted, "portable") == 0) {
    return &mt_tile_portable;
  }
  if (avx512 && !(wanted && strcmp(wanted, "avx2") == 0)) {
    return &mt_tile_avx512;
  }
  if (avx2) {
    return &mt_tile_avx2;
  }
#endif
  return &mt_tile_portable;
}

// Two threads that get here first both choose the same.
const mt_tile *mt_tile_get(void) {
  static const mt_tile *chosen;
  const mt_tile *tile = __atomic_load_n(&chosen, __ATOMIC_ACQUIRE);
  if (tile == NULL) {
    tile = choose();
    __atomic_store_n(&chosen, tile, __ATOMIC_RELEASE);
  }
  return tile;
}

const char *mt_isa(void) { return mt_tile_get()->isa; }
