// random: see random.h.
#include "random_check.h"
#include "row.h"
#include "philox.h"
#include "philox_blocks.h"

int mt_random_philox(uint32_t *out, const uint32_t *counter, const uint32_t *key) {
  mt_philox(out, counter, key);
  return MT_OK;
}

// ---- from words to elements ---------------------------------------------------------------------------------------

enum { BATCH = 128 };  // blocks that are made at a time

// Turns the words of `blocks` blocks (philox_blocks.h) into that many times per_block elements.
typedef void (*emitter)(void *y, const uint64_t *words, int64_t blocks, const void *context);

typedef struct {
  const mt_random *random;
  char *data;
  int64_t numel, size, per_block, first_block;
  emitter emit;
  const void *context;
} filling;

static void fill_blocks(void *context, int64_t begin, int64_t end) {
  const filling *f = context;
  for (int64_t b = begin; b < end; b += BATCH) {
    uint64_t words[2 * BATCH];
    double values[4 * BATCH];  // room for any type
    const int64_t blocks = MT_MIN(end - b, (int64_t)BATCH), block = f->first_block + b;
    const int64_t at = block * f->per_block - f->random->first, count = blocks * f->per_block;
    const int64_t from = MT_MAX(0, -at), to = MT_MIN(count, f->numel - at);
    mt_philox_blocks(words, f->random->seed, f->random->call, (uint64_t)block, blocks);
    if (from == 0 && to == count) {
      f->emit(f->data + at * f->size, words, blocks, f->context);
    } else {
      f->emit(values, words, blocks, f->context);
      memcpy(f->data + (at + from) * f->size, (const char *)values + from * f->size, (size_t)((to - from) * f->size));
    }
  }
}

// Fills t in row-major order; another memory format takes the way over a copy.
static int fill(mt_tensor *t, const mt_random *random, int64_t per_block, emitter emit, const void *context) {
  if (t->numel == 0) {
    return MT_OK;
  }
  if (!mt_tensor_is_contiguous(t)) {
    mt_tensor *plain;
    MT_TRY(mt_tensor_new(&plain, t->dtype, t->ndim, t->shape, NULL));
    int status = fill(plain, random, per_block, emit, context);
    status = status == MT_OK ? mt_tensor_copy(t, plain) : status;
    mt_tensor_release(plain);
    return status;
  }
  const int64_t first_block = random->first / per_block, last_block = (random->first + t->numel - 1) / per_block;
  filling f = {random, t->data, t->numel, mt_dtype_size(t->dtype), per_block, first_block, emit, context};
  return mt_parallel(last_block - first_block + 1, 4096, fill_blocks, &f);
}

// ---- uniform ------------------------------------------------------------------------------------------------------

MT_CLONES static void uniform_f32(void *to, const uint64_t *words, int64_t blocks, const void *context) {
  const double *bound = context;
  const float low = (float)bound[0], width = (float)(bound[1] - bound[0]), high = (float)bound[1];
  float *y = to;
  for (int64_t i = 0; i < 2 * blocks; i++) {
    const int32_t k0 = (int32_t)((uint32_t)words[i] >> 8), k1 = (int32_t)(words[i] >> 40);
    const float x0 = low + width * ((float)k0 * 0x1p-24f), x1 = low + width * ((float)k1 * 0x1p-24f);
    y[2 * i] = x0 < high ? x0 : low;   // rounding may reach the upper bound
    y[2 * i + 1] = x1 < high ? x1 : low;
  }
}

// A whole number below 2^54 as a double, by way of its halves: exact, and there is no vector instruction for all of it.
MT_INLINE double from_long(uint64_t k) {
  const double low = mt_double_of(0x4330000000000000ULL | (k & 0xFFFFFFFF)) - 4503599627370496.0;
  const double high = mt_double_of(0x4330000000000000ULL | k >> 32) - 4503599627370496.0;
  return high * 4294967296.0 + low;
}

MT_CLONES static void uniform_f64(void *to, const uint64_t *words, int64_t blocks, const void *context) {
  const double *bound = context;
  const double low = bound[0], width = bound[1] - bound[0], high = bound[1];
  double *y = to;
  for (int64_t i = 0; i < 2 * blocks; i++) {
    const double x = low + width * (from_long(words[i] >> 11) * 0x1p-53);
    y[i] = x < high ? x : low;
  }
}

int mt_random_uniform(mt_tensor *t, const mt_random *random, double low, double high) {
  MT_TRY(mt_random_check_uniform(t, random, low, high));
  const double bound[2] = {low, high};
  const bool single = t->dtype == MT_FLOAT32;
  return fill(t, random, single ? 4 : 2, single ? uniform_f32 : uniform_f64, bound);
}

// ---- normal -------------------------------------------------------------------------------------------------------

// mt_random_log and mt_random_sincos (philox.h) step by step, with the same roundings, in operations that have vector forms:
// tests compare every bit.
MT_INLINE double normal_log(double u) {
  const uint64_t bits = mt_bits_of(u), above = bits - 0x3FE6A09E667F3BCDULL;
  const double m = mt_double_of(bits - (above & 0xFFF0000000000000ULL));
  const double k = mt_double_of(0x4330000000000000ULL | (above + 0x4000000000000000ULL) >> 52) - (4503599627370496.0 + 1024);
  return mt_random_log_of(k, m);
}

// Adding and taking off 2^52 rounds to the nearest whole number; where that lies above, the floor is one less.
MT_INLINE double normal_quarter(double v) {
  const double quarter = 4 * v + 0.5, near = (quarter + 4503599627370496.0) - 4503599627370496.0;
  return near > quarter ? near - 1 : near;
}

MT_INLINE double normal_short_sine(double t, double z) {
  double s = 1.0 / 355687428096000.0;
  s = s * z - 1.0 / 1307674368000.0;
  s = s * z + 1.0 / 6227020800.0;
  s = s * z - 1.0 / 39916800;
  s = s * z + 1.0 / 362880;
  s = s * z - 1.0 / 5040;
  s = s * z + 1.0 / 120;
  s = s * z - 1.0 / 6;
  return t + t * (z * s);
}

MT_INLINE double normal_short_cosine(double z) {
  double c = 1.0 / 20922789888000.0;
  c = c * z - 1.0 / 87178291200.0;
  c = c * z + 1.0 / 479001600;
  c = c * z - 1.0 / 3628800;
  c = c * z + 1.0 / 40320;
  c = c * z - 1.0 / 720;
  c = c * z + 1.0 / 24;
  return 1 - z / 2 + z * z * c;
}

// u[i], v[i] become the pair of standard normal numbers that they make (mt_random_normal_pair). One loop for each step: each is
// short enough for the compiler to turn it into vector code.
MT_CLONES static void normal_pairs(double *restrict u, double *restrict v, int64_t n) {
  double cosine[2 * BATCH];
  for (int64_t i = 0; i < n; i++) {
    u[i] = sqrt(-2 * normal_log(u[i]));
  }
  for (int64_t i = 0; i < n; i++) {
    const double q = normal_quarter(v[i]), t = (v[i] - 0.25 * q) * 6.28318530717958647692, z = t * t;
    const double s = normal_short_sine(t, z), c = normal_short_cosine(z);
    // q is 0 to 4: odd ones exchange the two; 2 and 3 turn the sine's sign, 1 and 2 the cosine's. Its low bits stand in the low
    // bits of q + 2^52.
    const uint64_t k = mt_bits_of(q + 4503599627370496.0), odd = -(k & 1);
    const uint64_t bits_s = mt_bits_of(s), bits_c = mt_bits_of(c), other = (bits_s ^ bits_c) & odd;
    v[i] = mt_double_of(bits_s ^ other ^ ((k >> 1 & 1) << 63));
    cosine[i] = mt_double_of(bits_c ^ other ^ (((k + 1) >> 1 & 1) << 63));
  }
  for (int64_t i = 0; i < n; i++) {
    const double radius = u[i];
    u[i] = radius * cosine[i];
    v[i] = radius * v[i];
  }
}

MT_CLONES static void words_to_pairs(double *restrict u, double *restrict v, const uint64_t *restrict words, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    u[i] = (mt_double_of(0x4330000000000000ULL | (words[i] & 0xFFFFFFFF)) - 4503599627370496.0 + 1.0) * 0x1p-32;
    v[i] = (mt_double_of(0x4330000000000000ULL | words[i] >> 32) - 4503599627370496.0) * 0x1p-32;
  }
}

MT_CLONES static void longs_to_pairs(double *restrict u, double *restrict v, const uint64_t *restrict words, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    u[i] = from_long((words[2 * i] >> 11) + 1) * 0x1p-53;
    v[i] = from_long(words[2 * i + 1] >> 11) * 0x1p-53;
  }
}

static void normal_f32(void *to, const uint64_t *words, int64_t blocks, const void *context) {
  const double *moment = context, mean = moment[0], std = moment[1];
  double u[2 * BATCH], v[2 * BATCH];
  float *y = to;
  words_to_pairs(u, v, words, 2 * blocks);
  normal_pairs(u, v, 2 * blocks);
  for (int64_t i = 0; i < 2 * blocks; i++) {
    y[2 * i] = (float)(mean + std * u[i]);
    y[2 * i + 1] = (float)(mean + std * v[i]);
  }
}

static void normal_f64(void *to, const uint64_t *words, int64_t blocks, const void *context) {
  const double *moment = context, mean = moment[0], std = moment[1];
  double u[BATCH], v[BATCH];
  double *y = to;
  longs_to_pairs(u, v, words, blocks);
  normal_pairs(u, v, blocks);
  for (int64_t i = 0; i < blocks; i++) {
    y[2 * i] = mean + std * u[i];
    y[2 * i + 1] = mean + std * v[i];
  }
}

int mt_random_normal(mt_tensor *t, const mt_random *random, double mean, double std) {
  MT_TRY(mt_random_check_normal(t, random, mean, std));
  const double moment[2] = {mean, std};
  const bool single = t->dtype == MT_FLOAT32;
  return fill(t, random, single ? 4 : 2, single ? normal_f32 : normal_f64, moment);
}

// ---- whole numbers --------------------------------------------------------------------------------------------------

typedef struct {
  const mt_random *random;
  int64_t *data;
  uint64_t low, span;
} drawing;

// The 64 bits of elements [begin, begin + count), count <= 2 BATCH - 1. Returns the first one's place in words.
static const uint64_t *draw_words(uint64_t words[2 * BATCH], const mt_random *random, int64_t begin, int64_t count) {
  mt_philox_blocks(words, random->seed, random->call, (uint64_t)(begin / 2), (begin + count - 1) / 2 - begin / 2 + 1);
  return words + begin % 2;
}

static void draw(void *context, int64_t begin, int64_t end) {
  const drawing *d = context;
  const int64_t most = 2 * BATCH - 1;
  for (int64_t i = begin; i < end; i += most) {
    uint64_t words[2 * BATCH];
    const int64_t count = MT_MIN(end - i, most);
    const uint64_t *x = draw_words(words, d->random, d->random->first + i, count);
    for (int64_t k = 0; k < count; k++) {
      d->data[i + k] = (int64_t)(d->low + mt_random_below(d->span, d->random->seed, d->random->call, d->random->first + i + k, x[k]));
    }
  }
}

int mt_random_integers(mt_tensor *t, const mt_random *random, int64_t low, int64_t high) {
  MT_TRY(mt_random_check_integers(t, random, low, high));
  drawing d = {random, t->data, (uint64_t)low, (uint64_t)high - (uint64_t)low + 1};
  return mt_parallel(t->numel, 4096, draw, &d);
}

int mt_random_permutation(mt_tensor *t, const mt_random *random) {
  MT_TRY(mt_random_check_permutation(t, random));
  int64_t *order = t->data;
  const int64_t most = 2 * BATCH - 1;
  for (int64_t begin = 0; begin < t->numel; begin += most) {
    uint64_t words[2 * BATCH];
    const int64_t count = MT_MIN(t->numel - begin, most);
    const uint64_t *x = draw_words(words, random, random->first + begin, count);
    for (int64_t k = 0; k < count; k++) {
      const int64_t i = begin + k, j = (int64_t)mt_random_below((uint64_t)i + 1, random->seed, random->call, random->first + i, x[k]);
      order[i] = order[j];
      order[j] = i + 1;
    }
  }
  return MT_OK;
}

// ---- coins --------------------------------------------------------------------------------------------------------

MT_CLONES static void coins(void *to, const uint64_t *words, int64_t blocks, const void *context) {
  const uint64_t threshold = *(const uint64_t *)context;
  uint8_t *y = to;
  if (threshold >> 32) {
    memset(y, 1, (size_t)(4 * blocks));
    return;
  }
  uint32_t word[4 * BATCH];
  memcpy(word, words, sizeof(uint32_t) * (size_t)(4 * blocks));
  for (int64_t i = 0; i < 4 * blocks; i++) {
    y[i] = word[i] < (uint32_t)threshold;
  }
}

int mt_random_bernoulli(mt_tensor *t, const mt_random *random, double p) {
  MT_TRY(mt_random_check_bernoulli(t, random, p));
  const uint64_t threshold = (uint64_t)(p * 0x1p32);
  return fill(t, random, 4, coins, &threshold);
}
