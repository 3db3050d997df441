// masked_conv_repeat: see masked_conv_repeat.h.
#ifdef NUMBER

// key[i] = bit k for a channel k that is 1. Returns false when some value is neither 0 nor 1.
MT_INLINE bool FN(bit_steps)(uint64_t *key, const char *m, int64_t n, int64_t step, int64_t channels, int64_t step_c) {
  int other = 0;
  for (int64_t i = 0; i < n; i++) {
    key[i] = 0;
  }
  for (int64_t k = 0; k < channels; k++, m += step_c) {
    for (int64_t i = 0; i < n; i++) {
      const NUMBER v = *(const NUMBER *)(m + i * step);
      key[i] |= (uint64_t)(v != 0) << k;
      other |= v != 0 && v != 1;
    }
  }
  return !other;
}

MT_CLONES_512 static bool FN(bits)(uint64_t *key, const char *m, int64_t n, int64_t step, int64_t channels, int64_t step_c) {
  return step == sizeof(NUMBER) ? FN(bit_steps)(key, m, n, sizeof(NUMBER), channels, step_c)
                                : FN(bit_steps)(key, m, n, step, channels, step_c);
}

#else
#include "masked_conv_repeat.h"
#include "row.h"
#define MT_SOURCE "masked_conv_repeat.c"
#include "five.h"

enum { BITS = 64, TRIES = 128 };
static const uint64_t prime = 0x9E3779B97F4A7C15u;

static uint64_t word_at(const char *p, int64_t bytes) {
  uint64_t word = 0;
  memcpy(&word, p, (size_t)bytes);
  return word;
}

// Four chains, so that one multiplication need not wait for the last.
static uint64_t hash_bytes(const char *p, int64_t bytes) {
  uint64_t h[4] = {1, 2, 3, 4};
  for (; bytes >= 32; bytes -= 32, p += 32) {
    for (int i = 0; i < 4; i++) h[i] = (h[i] ^ word_at(p + 8 * i, 8)) * prime;
    for (int i = 0; i < 4; i++) h[i] ^= h[i] >> 32;
  }
  for (; bytes > 0; bytes -= 8, p += 8) {
    h[0] = (h[0] ^ word_at(p, MT_MIN(8, bytes))) * prime;
    h[0] ^= h[0] >> 32;
  }
  return ((h[0] * prime ^ h[1]) * prime ^ h[2]) * prime ^ h[3];
}

bool mt_repeat_keys(const mt_windows *c, uint64_t *key, const char *pixel, int64_t n, int64_t step) {
  const bool near = c->step_c == c->size;
  if (!near && c->channels <= BITS && MT_FIVE_FN(c->dtype, bits)(key, pixel, n, step, c->channels, c->step_c)) {
    return true;
  }
  for (int64_t i = 0; i < n; i++, pixel += step) {
    if (near) {
      key[i] = hash_bytes(pixel, c->channels * c->size);
      continue;
    }
    key[i] = 0;
    for (int64_t k = 0; k < c->channels; k++) {
      key[i] = (key[i] ^ word_at(pixel + k * c->step_c, c->size)) * prime;
      key[i] ^= key[i] >> 32;
    }
  }
  return false;
}

static bool is_same(const mt_windows *c, const char *a, const char *b) {
  if (c->step_c == c->size) {
    return memcmp(a, b, (size_t)(c->channels * c->size)) == 0;
  }
  for (int64_t k = 0; k < c->channels; k++) {
    if (memcmp(a + k * c->step_c, b + k * c->step_c, (size_t)c->size) != 0) {
      return false;
    }
  }
  return true;
}

char *const *mt_repeat_find(mt_repeats *t, const mt_windows *c, uint64_t key, bool exact, const char *pixel, char *const result[2]) {
  const int64_t slot = (int64_t)(key * prime >> 32) % MT_REPEATS;
  t->asked++;
  if (t->entry[slot].pixel != NULL && t->entry[slot].key == key && t->entry[slot].exact == exact &&
      (exact || is_same(c, t->entry[slot].pixel, pixel))) {
    t->found++;
    return t->entry[slot].result;
  }
  t->off = t->asked >= TRIES && 2 * t->found < t->asked;
  t->entry[slot].key = key;
  t->entry[slot].exact = exact;
  t->entry[slot].pixel = pixel;
  memcpy(t->entry[slot].result, result, sizeof t->entry[slot].result);
  return NULL;
}

#endif
