// vector_math: exponentials of a line and their sum, for softmax and cross-entropy. See vector_math.h.
#ifdef REAL

MT_CLONES static void FN(block)(REAL *e, const REAL *x, REAL shift, int64_t n) {
  _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++) {
    e[i] = FN(mt_quick_exp)(x[i] - shift);
  }
}

double FN(mt_exponentials)(REAL *e, int64_t e_step, const REAL *x, int64_t x_step, REAL shift, int64_t n) {
  double sum = 0;
  for (int64_t i0 = 0; i0 < n; i0 += BLOCK) {
    const int64_t count = MT_MIN(n - i0, (int64_t)BLOCK);
    REAL in[BLOCK], out[BLOCK];
    const REAL *from = x + i0 * x_step;
    REAL *to = e != NULL && e_step == 1 ? e + i0 : out;
    if (x_step != 1) {
      for (int64_t i = 0; i < count; i++) {
        in[i] = from[i * x_step];
      }
      from = in;
    }
    FN(block)(to, from, shift, count);
    for (int64_t i = 0; i < count; i++) {
      sum += (double)to[i];
    }
    if (e != NULL && to == out) {
      for (int64_t i = 0; i < count; i++) {
        e[(i0 + i) * e_step] = out[i];
      }
    }
  }
  return sum;
}

#else
#include "common.h"
#include "vector_math.h"

enum { BLOCK = 256 };

#define MT_SOURCE "vector_math.c"
#include "twice.h"

#endif
