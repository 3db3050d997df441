// random: see core/random.h. Blocks of Philox and their transforms are the text of core/philox.h, so the CPU's bits come out.
#include "graph.cuh"

extern "C" {
#include "../core/philox.h"
#include "../core/random_check.h"
}

extern "C" int mt_random_philox(uint32_t *out, const uint32_t *counter, const uint32_t *key) {
  mt_philox(out, counter, key);
  return MT_OK;
}

// ---- from words to elements: `each` elements of a block of 128 bits ---------------------------------------------------------

struct uniform_f32 {
  enum { each = 4 };
  typedef float type;
  float low, width, high;
  MT_INSIDE void operator()(float *y, const uint32_t *words) const {
    for (int i = 0; i < 4; i++) {
      const float x = low + width * ((float)(int32_t)(words[i] >> 8) * 0x1p-24f);
      y[i] = x < high ? x : low;   // rounding may reach the upper bound
    }
  }
};

struct uniform_f64 {
  enum { each = 2 };
  typedef double type;
  double low, width, high;
  MT_INSIDE void operator()(double *y, const uint32_t *words) const {
    for (int i = 0; i < 2; i++) {
      const double x = low + width * ((double)(mt_philox_long(words, i) >> 11) * 0x1p-53);
      y[i] = x < high ? x : low;
    }
  }
};

struct normal_f32 {
  enum { each = 4 };
  typedef float type;
  double mean, std;
  MT_INSIDE void operator()(float *y, const uint32_t *words) const {
    for (int i = 0; i < 2; i++) {
      double z[2];
      mt_random_normal_pair(z, ((double)words[2 * i] + 1.0) * 0x1p-32, (double)words[2 * i + 1] * 0x1p-32);
      y[2 * i] = (float)(mean + std * z[0]);
      y[2 * i + 1] = (float)(mean + std * z[1]);
    }
  }
};

struct normal_f64 {
  enum { each = 2 };
  typedef double type;
  double mean, std;
  MT_INSIDE void operator()(double *y, const uint32_t *words) const {
    double z[2];
    mt_random_normal_pair(z, (double)((mt_philox_long(words, 0) >> 11) + 1) * 0x1p-53,
                          (double)(mt_philox_long(words, 1) >> 11) * 0x1p-53);
    y[0] = mean + std * z[0];
    y[1] = mean + std * z[1];
  }
};

struct coins {
  enum { each = 4 };
  typedef uint8_t type;
  uint64_t threshold;
  MT_INSIDE void operator()(uint8_t *y, const uint32_t *words) const {
    for (int i = 0; i < 4; i++) {
      y[i] = (uint64_t)words[i] < threshold;
    }
  }
};

template <typename E>
static __global__ void fill_blocks(typename E::type *y, int64_t numel, const mt_draw numbers, int64_t first_block, int64_t blocks,
                                   const E emit) {
  const mt_random random = mt_drawn(numbers);
  MT_EACH(b, blocks) {
    uint32_t words[4];
    typename E::type values[E::each];
    mt_philox_block(words, random.seed, random.call, (uint64_t)(first_block + b));
    emit(values, words);
    const int64_t at = (first_block + b) * E::each - random.first;
    for (int i = 0; i < E::each; i++) {
      if (at + i >= 0 && at + i < numel) {
        y[at + i] = values[i];
      }
    }
  }
}

// Fills t in row-major order; another memory format takes the way over a copy.
template <typename E> static int fill(const char *op, mt_tensor *t, const mt_random *random, const E emit) {
  mt_device *device;
  mt_draw numbers;
  if (t->numel == 0) {
    return MT_OK;
  }
  if (!mt_tensor_is_contiguous(t)) {
    mt_tensor *plain;
    MT_TRY(mt_enter(&device, t));
    MT_TRY(mt_plain_like(&plain, t));
    int status = fill(op, plain, random, emit);
    status = status == MT_OK ? mt_tensor_copy(t, plain) : status;
    mt_tensor_release(plain);
    return status;
  }
  const int64_t first = random->first / E::each, blocks = (random->first + t->numel - 1) / E::each - first + 1;
  MT_TRY(mt_enter(&device, t));
  MT_TRY(mt_draw_of(&numbers, op, device, random));
  MT_LAUNCH(device, fill_blocks<E>, mt_grid(device, blocks), MT_BLOCK, 0, (typename E::type *)t->data, t->numel, numbers, first,
            blocks, emit);
  return MT_OK;
}

extern "C" int mt_random_uniform(mt_tensor *t, const mt_random *random, double low, double high) {
  MT_TRY(mt_random_check_uniform(t, random, low, high));
  if (t->dtype == MT_FLOAT32) {
    return fill("uniform", t, random, uniform_f32{(float)low, (float)(high - low), (float)high});
  }
  return fill("uniform", t, random, uniform_f64{low, high - low, high});
}

extern "C" int mt_random_normal(mt_tensor *t, const mt_random *random, double mean, double std) {
  MT_TRY(mt_random_check_normal(t, random, mean, std));
  return t->dtype == MT_FLOAT32 ? fill("normal", t, random, normal_f32{mean, std})
                                : fill("normal", t, random, normal_f64{mean, std});
}

extern "C" int mt_random_bernoulli(mt_tensor *t, const mt_random *random, double p) {
  MT_TRY(mt_random_check_bernoulli(t, random, p));
  return fill("bernoulli", t, random, coins{(uint64_t)(p * 0x1p32)});
}

// ---- whole numbers ----------------------------------------------------------------------------------------------------------

static __global__ void draw(int64_t *y, int64_t numel, const mt_draw numbers, uint64_t low, uint64_t span) {
  const mt_random random = mt_drawn(numbers);
  MT_EACH(i, numel) {
    uint32_t words[4];
    const int64_t element = random.first + i;
    mt_philox_block(words, random.seed, random.call, (uint64_t)element / 2);
    y[i] = (int64_t)(low + mt_random_below(span, random.seed, random.call, element, mt_philox_long(words, (int)(element % 2))));
  }
}

extern "C" int mt_random_integers(mt_tensor *t, const mt_random *random, int64_t low, int64_t high) {
  mt_device *device;
  mt_draw numbers;
  MT_TRY(mt_random_check_integers(t, random, low, high));
  if (t->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_enter(&device, t));
  MT_TRY(mt_draw_of(&numbers, "integers", device, random));
  MT_LAUNCH(device, draw, mt_grid(device, t->numel), MT_BLOCK, 0, (int64_t *)t->data, t->numel, numbers, (uint64_t)low,
            (uint64_t)high - (uint64_t)low + 1);
  return MT_OK;
}

// Every step of the shuffle needs the one before it: the host does it, faster than one thread of a device.
extern "C" int mt_random_permutation(mt_tensor *t, const mt_random *random) {
  mt_device *device;
  MT_TRY(mt_random_check_permutation(t, random));
  MT_TRY(mt_enter(&device, t));
  int64_t *order = (int64_t *)mt_alloc_array(t->numel, (int64_t)sizeof *order);
  if (order == NULL) {
    return MT_ERROR_MEMORY;
  }
  for (int64_t i = 0; i < t->numel; i++) {
    uint32_t words[4];
    const int64_t element = random->first + i;
    mt_philox_block(words, random->seed, random->call, (uint64_t)element / 2);
    const uint64_t x = mt_philox_long(words, (int)(element % 2));
    const int64_t j = (int64_t)mt_random_below((uint64_t)i + 1, random->seed, random->call, element, x);
    order[i] = order[j];
    order[j] = i + 1;
  }
  const int status = t->numel > 0 ? mt_copy_to_device("randperm", device, t->data, order, t->numel * (int64_t)sizeof *order) : MT_OK;
  mt_free(order);
  return status;
}
