// slots: which of the scratch areas, one per thread, some task has. Internal.
#pragma once
#include <stdint.h>

// A free one of `count`, taken; there are as many as threads, so one is free. taken: count flags, 0 at first.
static inline int32_t mt_slot_take(int32_t *taken, int32_t count) {
  int32_t i = 0;
  while (__atomic_exchange_n(&taken[i], 1, __ATOMIC_ACQUIRE)) {
    i = (i + 1) % count;
  }
  return i;
}

static inline void mt_slot_return(int32_t *taken, int32_t i) { __atomic_store_n(&taken[i], 0, __ATOMIC_RELEASE); }
