// zero: clearing memory that nobody reads soon. Internal.
#pragma once
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum {
  MT_ZERO_AWAY = 1 << 22,    // bytes of a whole tensor that is better cleared past the caches
  MT_ZERO_LEAST = 1 << 11,   // of a part for which that pays: a few pixels of many channels
};

// n bytes; away: around the caches. They are seen by other threads once those have been waited for.
static inline void mt_zero(void *p, size_t n, bool away) {
#if defined(__SSE2__)
  if (away && n >= MT_ZERO_LEAST) {
    char *q = p;
    const size_t before = (size_t)(-(uintptr_t)q & 63), middle = (n - before) / 64 * 64;
    memset(q, 0, before);
    q += before;
    for (size_t i = 0; i < middle; i += 64) {
      for (size_t k = 0; k < 64; k += 16) _mm_stream_si128((__m128i *)(void *)(q + i + k), _mm_setzero_si128());
    }
    _mm_sfence();
    memset(q + middle, 0, n - before - middle);
    return;
  }
#endif
  (void)away;
  memset(p, 0, n);
}

// Makes stores past the caches seen by whoever waits for this thread.
static inline void mt_zero_fence(void) {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}
