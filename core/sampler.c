// sampler: see sampler.h.
#include "common.h"
#include "philox.h"

// The high word of the call number tells the uses of one seed apart; generators (random.h) stay below 2^20.
enum { ROUNDS = 12, USE_PERMUTATION = 0x40, USE_REPLACEMENT = 0x60, USE_LENGTHS = 0x61 };

static uint64_t word(uint64_t seed, uint64_t epoch, uint32_t use, uint64_t position) {
  uint32_t words[4];
  mt_philox_block(words, seed, (uint64_t)use << 56 | (epoch & 0xFFFFFFFFFFFFFFull), position);
  return mt_philox_long(words, 0);
}

__extension__ typedef unsigned __int128 wide;

// x * span / 2^64: among fewer than 2^62 values none is favoured by more than span / 2^64.
static uint64_t scale(uint64_t x, uint64_t span) { return (uint64_t)((wide)x * span >> 64); }

typedef struct {
  int64_t *out;
  const int64_t *high, *key;
  uint64_t seed, epoch, n, a, b;
  int64_t first, low;
} drawing;

static uint64_t permuted(const drawing *d, uint64_t x) {
  do {
    uint64_t left = x % d->a, right = x / d->a;
    for (uint32_t round = 0; round < ROUNDS; round += 2) {
      left = (left + scale(word(d->seed, d->epoch, USE_PERMUTATION + round, right), d->a)) % d->a;
      right = (right + scale(word(d->seed, d->epoch, USE_PERMUTATION + round + 1, left), d->b)) % d->b;
    }
    x = right * d->a + left;
  } while (x >= d->n);
  return x;
}

static void permute(void *context, int64_t begin, int64_t end) {
  const drawing *d = context;
  for (int64_t i = begin; i < end; i++) {
    d->out[i] = (int64_t)permuted(d, (uint64_t)(d->first + i)) + 1;
  }
}

static void replace(void *context, int64_t begin, int64_t end) {
  const drawing *d = context;
  for (int64_t i = begin; i < end; i++) {
    d->out[i] = (int64_t)scale(word(d->seed, d->epoch, USE_REPLACEMENT, (uint64_t)(d->first + i)), d->n) + 1;
  }
}

static void draw_lengths(void *context, int64_t begin, int64_t end) {
  const drawing *d = context;
  for (int64_t i = begin; i < end; i++) {
    const int64_t high = d->high[i];
    d->out[i] = high <= d->low ? high
                               : d->low + (int64_t)scale(word(d->seed, d->epoch, USE_LENGTHS, (uint64_t)d->key[i]),
                                                         (uint64_t)(high - d->low) + 1);
  }
}

static int check_line(const char *argument, const mt_tensor *t) {
  MT_TRY(mt_check_dtype("sampler", argument, t, MT_INT64));
  MT_TRY(mt_check_ndim("sampler", argument, t, 1));
  return mt_tensor_is_contiguous(t) ? MT_OK
                                    : mt_fail(MT_ERROR_ARGUMENT, "sampler: %s: expected a contiguous tensor", argument);
}

static int check_range(const mt_tensor *t, int64_t n, int64_t first, bool whole) {
  MT_TRY(check_line("output", t));
  if (t->numel > 0 && (n < 1 || n > INT64_MAX / 2 || first < 0 || (whole && t->numel > n - first))) {
    return mt_fail(MT_ERROR_ARGUMENT, "sampler: expected positions within 1..%lld, got %lld to %lld", (long long)n,
                   (long long)first + 1, (long long)first + (long long)t->numel);
  }
  return MT_OK;
}

int mt_sampler_permutation(mt_tensor *t, uint64_t seed, uint64_t epoch, int64_t n, int64_t first) {
  MT_TRY(check_range(t, n, first, true));
  drawing d = {.out = t->data, .seed = seed, .epoch = epoch, .n = (uint64_t)n, .first = first};
  d.a = (uint64_t)sqrt((double)n);
  while (d.a > 1 && (d.a - 1) * (d.a - 1) >= d.n) {
    d.a--;
  }
  while (d.a * d.a < d.n) {
    d.a++;
  }
  d.b = d.a > 0 ? (d.n + d.a - 1) / d.a : 0;
  return mt_parallel(t->numel, 2048, permute, &d);
}

int mt_sampler_replacement(mt_tensor *t, uint64_t seed, uint64_t epoch, int64_t n, int64_t first) {
  MT_TRY(check_range(t, n, first, false));
  drawing d = {.out = t->data, .seed = seed, .epoch = epoch, .n = (uint64_t)n, .first = first};
  return mt_parallel(t->numel, 8192, replace, &d);
}

int mt_sampler_lengths(mt_tensor *t, uint64_t seed, uint64_t epoch, int64_t low, const mt_tensor *high, const mt_tensor *key) {
  MT_TRY(check_line("output", t));
  MT_TRY(check_line("high", high));
  MT_TRY(check_line("key", key));
  MT_TRY(mt_check_like("sampler", "high", high, t));
  MT_TRY(mt_check_like("sampler", "key", key, t));
  drawing d = {.out = t->data, .high = high->data, .key = key->data, .seed = seed, .epoch = epoch, .low = low};
  return mt_parallel(t->numel, 8192, draw_lengths, &d);
}
