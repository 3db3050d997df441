// row: inner loops for loop.h, written from one expression. Internal.
//
//   MT_ROW_1(name, Y, X, expression of x)               y[i] = expression
//   MT_ROW_2(name, Y, A, B, expression of a, b)
//   MT_ROW_3(name, Y, A, B, C, expression of a, b, c)
//
// Y, X, A, B, C are element types; `context` is visible. The loop is compiled once for neighbouring elements, where it
// vectorises (vector_math.h has functions that do, and MT_CLONES), and once for any steps (MT_ROW_2 also for an operand that
// stands still). ivdep: an output is either the very
// same view as an input or apart from it (mt_check_overlap), so no element depends on an earlier one.
#pragma once
#include "loop.h"
#include "vector_math.h"

typedef mt_loop_row mt_row_function;  // formulas (*_rows.h) are compiled for the GPU too, where this is a kernel (cuda/row.cuh)

#define MT_INLINE static inline __attribute__((always_inline))
#define MT_PASTE_(a, b) a##b
#define MT_PASTE(a, b) MT_PASTE_(a, b)

#define MT_ROW_1(name, Y, X, ...)                                                                                       \
  MT_INLINE void MT_PASTE(name, _steps)(char *yp, const char *xp, int64_t ys, int64_t xs, int64_t n, const void *context) {      \
    (void)context;                                                                                                      \
    _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++) {                                                              \
      const X x = *(const X *)(xp + i * xs);                                                                            \
      *(Y *)(yp + i * ys) = (Y)(__VA_ARGS__);                                                                           \
    }                                                                                                                   \
  }                                                                                                                     \
  MT_CLONES static void name(char *const *p, const int64_t *step, int64_t n, const void *context) {                    \
    if (step[0] == sizeof(Y) && step[1] == sizeof(X)) {                                                                 \
      MT_PASTE(name, _steps)(p[0], p[1], sizeof(Y), sizeof(X), n, context);                                                       \
    } else {                                                                                                            \
      MT_PASTE(name, _steps)(p[0], p[1], step[0], step[1], n, context);                                                           \
    }                                                                                                                   \
  }

#define MT_ROW_2(name, Y, A, B, ...)                                                                                    \
  MT_INLINE void MT_PASTE(name, _steps)(char *yp, const char *ap, const char *bp, int64_t ys, int64_t as, int64_t bs, int64_t n, \
                              const void *context) {                                                                    \
    (void)context;                                                                                                      \
    _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++) {                                                              \
      const A a = *(const A *)(ap + i * as);                                                                            \
      const B b = *(const B *)(bp + i * bs);                                                                            \
      *(Y *)(yp + i * ys) = (Y)(__VA_ARGS__);                                                                           \
    }                                                                                                                   \
  }                                                                                                                     \
  MT_CLONES static void name(char *const *p, const int64_t *step, int64_t n, const void *context) {                    \
    const bool y_near = step[0] == sizeof(Y), a_near = step[1] == sizeof(A), b_near = step[2] == sizeof(B);             \
    if (y_near && a_near && b_near) {                                                                                   \
      MT_PASTE(name, _steps)(p[0], p[1], p[2], sizeof(Y), sizeof(A), sizeof(B), n, context);                                      \
    } else if (y_near && a_near && step[2] == 0) {                                                                      \
      MT_PASTE(name, _steps)(p[0], p[1], p[2], sizeof(Y), sizeof(A), 0, n, context);                                              \
    } else if (y_near && b_near && step[1] == 0) {                                                                      \
      MT_PASTE(name, _steps)(p[0], p[1], p[2], sizeof(Y), 0, sizeof(B), n, context);                                              \
    } else {                                                                                                            \
      MT_PASTE(name, _steps)(p[0], p[1], p[2], step[0], step[1], step[2], n, context);                                            \
    }                                                                                                                   \
  }

#define MT_ROW_3(name, Y, A, B, C, ...)                                                                                 \
  MT_INLINE void MT_PASTE(name, _steps)(char *yp, const char *ap, const char *bp, const char *cp, int64_t ys, int64_t as,        \
                              int64_t bs, int64_t cs, int64_t n, const void *context) {                                 \
    (void)context;                                                                                                      \
    _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++) {                                                              \
      const A a = *(const A *)(ap + i * as);                                                                            \
      const B b = *(const B *)(bp + i * bs);                                                                            \
      const C c = *(const C *)(cp + i * cs);                                                                            \
      *(Y *)(yp + i * ys) = (Y)(__VA_ARGS__);                                                                           \
    }                                                                                                                   \
  }                                                                                                                     \
  MT_CLONES static void name(char *const *p, const int64_t *step, int64_t n, const void *context) {                    \
    if (step[0] == sizeof(Y) && step[1] == sizeof(A) && step[2] == sizeof(B) && step[3] == sizeof(C)) {                 \
      MT_PASTE(name, _steps)(p[0], p[1], p[2], p[3], sizeof(Y), sizeof(A), sizeof(B), sizeof(C), n, context);                     \
    } else {                                                                                                            \
      MT_PASTE(name, _steps)(p[0], p[1], p[2], p[3], step[0], step[1], step[2], step[3], n, context);                             \
    }                                                                                                                   \
  }
