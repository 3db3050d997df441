// random_check: what random.h asks of its arguments, for both libraries. Internal.
#pragma once
#include "common.h"

int mt_random_check_uniform(const mt_tensor *t, const mt_random *random, double low, double high);
int mt_random_check_normal(const mt_tensor *t, const mt_random *random, double mean, double std);
int mt_random_check_integers(const mt_tensor *t, const mt_random *random, int64_t low, int64_t high);
int mt_random_check_permutation(const mt_tensor *t, const mt_random *random);
int mt_random_check_bernoulli(const mt_tensor *t, const mt_random *random, double p);
