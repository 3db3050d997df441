// random_check: see random_check.h.
#include "random_check.h"

static int check_state(const char *op, const mt_tensor *t, const mt_random *random) {
  MT_TRY(mt_check_output(op, "output", t));
  if (random == NULL || random->first < 0 || random->first > INT64_MAX - t->numel) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: expected a generator state with elements numbered from 0 to 2^63 - 1", op);
  }
  return MT_OK;
}

int mt_random_check_uniform(const mt_tensor *t, const mt_random *random, double low, double high) {
  MT_TRY(mt_check_real("uniform", "output", t));
  if (!(low <= high) || !isfinite(high - low)) {
    return mt_fail(MT_ERROR_ARGUMENT, "uniform: expected finite bounds, low <= high, got %g and %g", low, high);
  }
  return check_state("uniform", t, random);
}

int mt_random_check_normal(const mt_tensor *t, const mt_random *random, double mean, double std) {
  MT_TRY(mt_check_real("normal", "output", t));
  if (!isfinite(mean) || !isfinite(std) || std < 0) {
    return mt_fail(MT_ERROR_ARGUMENT, "normal: expected a finite mean and a standard deviation of at least 0, got %g and %g",
                   mean, std);
  }
  return check_state("normal", t, random);
}

static int check_integers(const char *op, const mt_tensor *t, const mt_random *random) {
  MT_TRY(mt_check_output(op, "output", t));
  MT_TRY(mt_check_dtype(op, "output", t, MT_INT64));
  if (!mt_tensor_is_contiguous(t)) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: expected a contiguous output, got %s", op, MT_SHAPE(t));
  }
  return check_state(op, t, random);
}

int mt_random_check_integers(const mt_tensor *t, const mt_random *random, int64_t low, int64_t high) {
  MT_TRY(check_integers("randint", t, random));
  if (low > high) {
    return mt_fail(MT_ERROR_ARGUMENT, "randint: expected low <= high, got %lld and %lld", (long long)low, (long long)high);
  }
  return MT_OK;
}

int mt_random_check_permutation(const mt_tensor *t, const mt_random *random) {
  MT_TRY(check_integers("randperm", t, random));
  return mt_check_ndim("randperm", "output", t, 1);
}

int mt_random_check_bernoulli(const mt_tensor *t, const mt_random *random, double p) {
  MT_TRY(mt_check_dtype("bernoulli", "output", t, MT_BOOL));
  if (!(p >= 0 && p <= 1)) {
    return mt_fail(MT_ERROR_ARGUMENT, "bernoulli: p: expected a probability from 0 to 1, got %g", p);
  }
  return check_state("bernoulli", t, random);
}
