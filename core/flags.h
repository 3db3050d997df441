// flags: runs in rows of bytes that are 0 or not. Internal.
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

// The first of [from, to) whose flag is not `on`, or `to`; flags are `step` bytes apart.
static inline int64_t mt_flags_end(const uint8_t *flag, int64_t step, int64_t from, int64_t to, bool on) {
  int64_t i = from;
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  static const uint64_t ones = UINT64_MAX / 255;
  for (uint64_t word; step == 1 && i + 8 <= to; i += 8) {
    memcpy(&word, flag + i, 8);
    const uint64_t found = on ? (word - ones) & ~word & ones << 7 : word;  // the lowest bit is in the first such byte
    if (found) {
      return i + __builtin_ctzll(found) / 8;
    }
  }
#endif
  while (i < to && (flag[i * step] != 0) == on) {
    i++;
  }
  return i;
}
