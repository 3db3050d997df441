// optim_rows: the updates of optim_rows.h as loops over rows, on threads.
#ifdef REAL

// A row: the body for element i, where AT(k) is that element of operand k. Compiled once for neighbouring elements, where it
// vectorises, and once for any steps. Every value is rounded to REAL after each operation, in any instruction set.
#define AT(k) (*(REAL *)(q##k + i * s##k))
#define UPDATE(name, last, constants, ...)                                                                                  \
  MT_INLINE void FN(name##_steps)(char *const *at, int64_t s0, int64_t s1, int64_t s2, int64_t s3, int64_t s4, int64_t s5,  \
                                  int64_t n, const name##_numbers *c) {                                                     \
    char *const q0 = at[0], *const q1 = at[MT_MIN(1, last)], *const q2 = at[MT_MIN(2, last)], *const q3 = at[MT_MIN(3, last)],            \
                *const q4 = at[MT_MIN(4, last)], *const q5 = at[MT_MIN(5, last)];                                           \
    (void)q1, (void)q2, (void)q3, (void)q4, (void)q5, (void)s1, (void)s2, (void)s3, (void)s4, (void)s5;                     \
    constants _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++) __VA_ARGS__                                              \
  }                                                                                                                         \
  MT_CLONES static void FN(name)(char *const *at, const int64_t *step, int64_t n, const void *context) {                    \
    const int64_t z = sizeof(REAL);                                                                                         \
    bool near = true;                                                                                                       \
    for (int32_t k = 0; k <= last; k++) {                                                                                   \
      near = near && step[k] == z;                                                                                          \
    }                                                                                                                       \
    if (near) {                                                                                                             \
      FN(name##_steps)(at, z, z, z, z, z, z, n, context);                                                                   \
    } else {                                                                                                                \
      FN(name##_steps)(at, step[0], step[MT_MIN(1, last)], step[MT_MIN(2, last)], step[MT_MIN(3, last)], step[MT_MIN(4, last)],           \
                       step[MT_MIN(5, last)], n, context);                                                                  \
    }                                                                                                                       \
  }
#define K(name) const REAL name = (REAL)c->name;
#include "optim_rows.h"
#undef AT
#undef UPDATE
#undef K

#else
#include "optim_list.h"
#include "row.h"

#define MT_SOURCE "optim_rows.c"
#include "twice.h"

int mt_optim_rows(const mt_optim_list *list, int32_t kind, const void *numbers, int64_t size) {
  static const mt_loop_row single[MT_OPTIM_KINDS] = {sgd_f32, adam_f32, rmsprop_f32, adan_f32, ema_f32, swap_f32, scale_f32, clamp_f32};
  static const mt_loop_row exact[MT_OPTIM_KINDS] = {sgd_f64, adam_f64, rmsprop_f64, adan_f64, ema_f64, swap_f64, scale_f64, clamp_f64};
  return mt_optim_list_rows(list, single[kind], exact[kind], numbers, size);
}

#endif
