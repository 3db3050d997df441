// random: see random.h.
#include "philox.h"
#include "common.h"

int mt_random_philox(uint32_t *out, const uint32_t *counter, const uint32_t *key) {
  mt_philox(out, counter, key);
  return MT_OK;
}

// ---- from words to elements ---------------------------------------------------------------------------------------

typedef union {
  float f[4];
  double d[2];
  uint8_t b[4];
} elements;

// Turns the words of one block into `per_block` elements.
typedef void (*emitter)(elements *y, const uint32_t words[4], const void *context);

typedef struct {
  const mt_random *random;
  char *data;
  int64_t numel, size, per_block, first_block;
  emitter emit;
  const void *context;
} filling;

static void fill_blocks(void *context, int64_t begin, int64_t end) {
  const filling *f = context;
  for (int64_t b = begin; b < end; b++) {
    uint32_t words[4];
    elements values;
    const int64_t block = f->first_block + b, at = block * f->per_block - f->random->first;
    const int64_t from = MT_MAX(0, -at), to = MT_MIN(f->per_block, f->numel - at);
    mt_philox_block(words, f->random->seed, f->random->call, (uint64_t)block);
    f->emit(&values, words, f->context);
    memcpy(f->data + (at + from) * f->size, (const char *)&values + from * f->size, (size_t)((to - from) * f->size));
  }
}

static int check_state(const char *op, const mt_tensor *t, const mt_random *random) {
  if (random == NULL || random->first < 0 || random->first > INT64_MAX - t->numel) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: expected a generator state with elements numbered from 0 to 2^63 - 1", op);
  }
  return MT_OK;
}

// Fills t in row-major order; another memory format takes the way over a copy.
static int fill(const char *op, mt_tensor *t, const mt_random *random, int64_t per_block, emitter emit, const void *context) {
  MT_TRY(mt_check_output(op, "output", t));
  MT_TRY(check_state(op, t, random));
  if (t->numel == 0) {
    return MT_OK;
  }
  if (!mt_tensor_is_contiguous(t)) {
    mt_tensor *plain;
    MT_TRY(mt_tensor_new(&plain, t->dtype, t->ndim, t->shape, NULL));
    int status = fill(op, plain, random, per_block, emit, context);
    status = status == MT_OK ? mt_tensor_copy(t, plain) : status;
    mt_tensor_release(plain);
    return status;
  }
  const int64_t first_block = random->first / per_block, last_block = (random->first + t->numel - 1) / per_block;
  filling f = {random, t->data, t->numel, mt_dtype_size(t->dtype), per_block, first_block, emit, context};
  return mt_parallel(last_block - first_block + 1, 2048, fill_blocks, &f);
}

// ---- uniform ------------------------------------------------------------------------------------------------------

static void uniform_f32(elements *y, const uint32_t words[4], const void *context) {
  const double *bound = context;
  const float low = (float)bound[0], width = (float)(bound[1] - bound[0]), high = (float)bound[1];
  for (int i = 0; i < 4; i++) {
    const float x = low + width * ((float)(words[i] >> 8) * 0x1p-24f);
    y->f[i] = x < high ? x : low;   // rounding may reach the upper bound
  }
}

static void uniform_f64(elements *y, const uint32_t words[4], const void *context) {
  const double *bound = context;
  for (int i = 0; i < 2; i++) {
    const double x = bound[0] + (bound[1] - bound[0]) * ((double)(mt_philox_long(words, i) >> 11) * 0x1p-53);
    y->d[i] = x < bound[1] ? x : bound[0];
  }
}

int mt_random_uniform(mt_tensor *t, const mt_random *random, double low, double high) {
  MT_TRY(mt_check_real("uniform", "output", t));
  if (!(low <= high) || !isfinite(high - low)) {
    return mt_fail(MT_ERROR_ARGUMENT, "uniform: expected finite bounds, low <= high, got %g and %g", low, high);
  }
  const double bound[2] = {low, high};
  const bool single = t->dtype == MT_FLOAT32;
  return fill("uniform", t, random, single ? 4 : 2, single ? uniform_f32 : uniform_f64, bound);
}

// ---- normal -------------------------------------------------------------------------------------------------------

static void normal_f32(elements *y, const uint32_t words[4], const void *context) {
  const double *moment = context;
  for (int i = 0; i < 4; i += 2) {
    double z[2];
    mt_random_normal_pair(z, (words[i] + 1.0) * 0x1p-32, words[i + 1] * 0x1p-32);
    y->f[i] = (float)(moment[0] + moment[1] * z[0]);
    y->f[i + 1] = (float)(moment[0] + moment[1] * z[1]);
  }
}

static void normal_f64(elements *y, const uint32_t words[4], const void *context) {
  const double *moment = context;
  double z[2];
  mt_random_normal_pair(z, (double)((mt_philox_long(words, 0) >> 11) + 1) * 0x1p-53,
                        (double)(mt_philox_long(words, 1) >> 11) * 0x1p-53);
  y->d[0] = moment[0] + moment[1] * z[0];
  y->d[1] = moment[0] + moment[1] * z[1];
}

int mt_random_normal(mt_tensor *t, const mt_random *random, double mean, double std) {
  MT_TRY(mt_check_real("normal", "output", t));
  if (!isfinite(mean) || !isfinite(std) || std < 0) {
    return mt_fail(MT_ERROR_ARGUMENT, "normal: expected a finite mean and a standard deviation of at least 0, got %g and %g",
                   mean, std);
  }
  const double moment[2] = {mean, std};
  const bool single = t->dtype == MT_FLOAT32;
  return fill("normal", t, random, single ? 4 : 2, single ? normal_f32 : normal_f64, moment);
}

// ---- whole numbers --------------------------------------------------------------------------------------------------

__extension__ typedef unsigned __int128 wide;

// A number below `span` (0 stands for 2^64), each equally likely: the high half of x * span, where x is drawn again while the
// low half lies among the 2^64 mod span values that would favour some numbers (Lemire, Fast random integer generation in an
// interval, 2019).
static uint64_t below(uint64_t span, const mt_random *random, int64_t element) {
  for (uint64_t attempt = 0;; attempt++) {
    uint32_t words[4];
    mt_philox_block(words, random->seed, random->call, (uint64_t)element / 2 + (attempt << 56));
    const uint64_t x = mt_philox_long(words, (int)(element % 2));
    if (span == 0) {
      return x;
    }
    const wide product = (wide)x * span;
    if ((uint64_t)product >= span || (uint64_t)product >= (0 - span) % span) {
      return (uint64_t)(product >> 64);
    }
  }
}

typedef struct {
  const mt_random *random;
  int64_t *data;
  uint64_t low, span;
} drawing;

static void draw(void *context, int64_t begin, int64_t end) {
  const drawing *d = context;
  for (int64_t i = begin; i < end; i++) {
    d->data[i] = (int64_t)(d->low + below(d->span, d->random, d->random->first + i));
  }
}

static int check_integers(const char *op, const mt_tensor *t, const mt_random *random) {
  MT_TRY(mt_check_output(op, "output", t));
  MT_TRY(mt_check_dtype(op, "output", t, MT_INT64));
  if (!mt_tensor_is_contiguous(t)) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: expected a contiguous output, got %s", op, MT_SHAPE(t));
  }
  return check_state(op, t, random);
}

int mt_random_integers(mt_tensor *t, const mt_random *random, int64_t low, int64_t high) {
  MT_TRY(check_integers("randint", t, random));
  if (low > high) {
    return mt_fail(MT_ERROR_ARGUMENT, "randint: expected low <= high, got %lld and %lld", (long long)low, (long long)high);
  }
  drawing d = {random, t->data, (uint64_t)low, (uint64_t)high - (uint64_t)low + 1};
  return mt_parallel(t->numel, 4096, draw, &d);
}

int mt_random_permutation(mt_tensor *t, const mt_random *random) {
  MT_TRY(check_integers("randperm", t, random));
  MT_TRY(mt_check_ndim("randperm", "output", t, 1));
  int64_t *order = t->data;
  for (int64_t i = 0; i < t->numel; i++) {
    const int64_t j = (int64_t)below((uint64_t)i + 1, random, random->first + i);
    order[i] = order[j];
    order[j] = i + 1;
  }
  return MT_OK;
}

// ---- coins --------------------------------------------------------------------------------------------------------

static void coins(elements *y, const uint32_t words[4], const void *context) {
  for (int i = 0; i < 4; i++) {
    y->b[i] = words[i] < *(const uint64_t *)context;
  }
}

int mt_random_bernoulli(mt_tensor *t, const mt_random *random, double p) {
  MT_TRY(mt_check_tensor("bernoulli", "output", t));
  MT_TRY(mt_check_dtype("bernoulli", "output", t, MT_BOOL));
  if (!(p >= 0 && p <= 1)) {
    return mt_fail(MT_ERROR_ARGUMENT, "bernoulli: p: expected a probability from 0 to 1, got %g", p);
  }
  const uint64_t threshold = (uint64_t)(p * 0x1p32);
  return fill("bernoulli", t, random, 4, coins, &threshold);
}
