// checksum: CRC-32C by the processor's instruction (8 bytes each) or by eight tables (slicing by 8).
#include "common.h"

static const uint32_t polynomial = 0x82f63b78;  // reflected

static uint32_t table[8][256];

// Constant contents: whoever comes second writes the same numbers.
static void fill_table(void) {
  static bool done;
  if (__atomic_load_n(&done, __ATOMIC_ACQUIRE)) {
    return;
  }
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t c = i;
    for (int bit = 0; bit < 8; bit++) {
      c = c & 1 ? (c >> 1) ^ polynomial : c >> 1;
    }
    table[0][i] = c;
  }
  for (uint32_t i = 0; i < 256; i++) {
    for (int k = 1; k < 8; k++) {
      table[k][i] = (table[k - 1][i] >> 8) ^ table[0][table[k - 1][i] & 255];
    }
  }
  __atomic_store_n(&done, true, __ATOMIC_RELEASE);
}

static uint32_t by_tables(uint32_t c, const uint8_t *p, int64_t n) {
  fill_table();
  for (; n >= 8; n -= 8, p += 8) {
    c ^= (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    c = table[7][c & 255] ^ table[6][c >> 8 & 255] ^ table[5][c >> 16 & 255] ^ table[4][c >> 24] ^ table[3][p[4]] ^
        table[2][p[5]] ^ table[1][p[6]] ^ table[0][p[7]];
  }
  for (; n > 0; n--, p++) {
    c = (c >> 8) ^ table[0][(c ^ *p) & 255];
  }
  return c;
}

#if defined(__x86_64__)
#include <nmmintrin.h>

__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t c, const uint8_t *p, int64_t n) {
  uint64_t wide = c;
  for (; n >= 8; n -= 8, p += 8) {
    uint64_t word;
    memcpy(&word, p, 8);
    wide = _mm_crc32_u64(wide, word);
  }
  c = (uint32_t)wide;
  for (; n > 0; n--, p++) {
    c = _mm_crc32_u8(c, *p);
  }
  return c;
}
#endif

uint32_t mt_checksum_crc32c(uint32_t before, const void *bytes, int64_t count, int32_t hardware) {
  uint32_t c = ~before;
#if defined(__x86_64__)
  if (hardware && __builtin_cpu_supports("sse4.2")) {
    return ~by_instruction(c, bytes, count);
  }
#else
  (void)hardware;
#endif
  return ~by_tables(c, bytes, count);
}
