// bpe_parts: what the files of byte-pair encoding share. Internal; the contract is bpe.h.
#pragma once
#include "common.h"

// The end of the piece that begins at `at` (at < end).
int64_t mt_bpe_next(const uint8_t *text, int64_t end, int64_t at);

// The bytes in the order of ids 1 to 256.
void mt_bpe_alphabet(uint8_t order[256]);

// Makes room for `wanted` elements of `size` bytes in a block that has room for *capacity: doubles.
int mt_bpe_reserve(void **block, int64_t *capacity, int64_t wanted, int64_t size);

static inline uint64_t mt_bpe_mix(uint64_t x) {
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdULL;
  x ^= x >> 33;
  x *= 0xc4ceb9fe1a85ec53ULL;
  return x ^ (x >> 33);
}

static inline uint64_t mt_bpe_hash(const uint8_t *bytes, int64_t length) {
  uint64_t hash = (uint64_t)length * 0x9e3779b97f4a7c15ULL, word;
  for (; length >= 8; length -= 8, bytes += 8) {
    memcpy(&word, bytes, 8);
    hash = mt_bpe_mix(hash ^ word) + 0x9e3779b97f4a7c15ULL;
  }
  word = 0;
  memcpy(&word, bytes, (size_t)length);
  return mt_bpe_mix(hash ^ word);
}

static inline uint64_t mt_bpe_pair(int32_t left, int32_t right) { return (uint64_t)left << 32 | (uint32_t)right; }

// A table from pairs to values > 0, open addressing; key 0 is an empty slot (ids begin at 1).
typedef struct {
  uint64_t *key;
  int32_t *value;
  int64_t capacity, count;  // capacity is a power of two, or 0
} mt_bpe_pairs;

int mt_bpe_pairs_put(mt_bpe_pairs *table, uint64_t key, int32_t value);
void mt_bpe_pairs_free(mt_bpe_pairs *table);

// The value, 0 when there is none.
static inline int32_t mt_bpe_pairs_get(const mt_bpe_pairs *table, uint64_t key) {
  if (table->capacity == 0) {
    return 0;
  }
  const uint64_t last = (uint64_t)table->capacity - 1;
  for (uint64_t i = mt_bpe_mix(key) & last;; i = (i + 1) & last) {
    if (table->key[i] == key) {
      return table->value[i];
    }
    if (table->key[i] == 0) {
      return 0;
    }
  }
}

// A growing set of byte strings, numbered 0, 1, ... in the order of their arrival.
typedef struct {
  uint8_t *bytes;
  int64_t *offset;  // count + 1 entries
  int32_t *slot;    // number + 1; 0 is empty
  int64_t bytes_capacity, offset_capacity, slots, count;
} mt_bpe_strings;

// *number = the string's number; *is_new tells whether it was added.
int mt_bpe_strings_add(mt_bpe_strings *set, const uint8_t *bytes, int64_t length, int32_t *number, bool *is_new);
// The number, -1 when it is not there.
int32_t mt_bpe_strings_find(const mt_bpe_strings *set, const uint8_t *bytes, int64_t length);
void mt_bpe_strings_free(mt_bpe_strings *set);
