// row: elementwise kernels from one expression, the counterpart of core/row.h. The formulas in core/*_rows.h are compiled by the C
// and by the CUDA file: here MT_ROW_1 to MT_ROW_3 make kernels, and mt_loop_run launches one of them.
#pragma once
#include "bf16.cuh"

extern "C" {
#include "../core/loop.h"
}

#define MT_PASTE_(a, b) a##b
#define MT_PASTE(a, b) MT_PASTE_(a, b)

// ---- the walk -------------------------------------------------------------------------------------------------------

// n / size by a multiplication, for n below 2^31.
typedef struct mt_divisor {
  uint32_t size, factor, shift;
} mt_divisor;
mt_divisor mt_divisor_of(int64_t size);  // 1 to 2^31 - 1

// core/loop.h's plan as a kernel takes it: dims merged, ordered by the output's strides.
typedef struct mt_walk {
  int64_t numel;
  int32_t ndim;
  int32_t narrow;                                  // indexes fit in 31 bits
  int32_t mask;                                    // the operand that is one (bool), or 0: none
  uint32_t bf16;                                   // bit k: operand k is of bfloat16
  mt_divisor by[MT_MAX_DIMS];
  int64_t shape[MT_MAX_DIMS];
  int64_t step[MT_LOOP_OPERANDS][MT_MAX_DIMS];     // bytes
  char *base[MT_LOOP_OPERANDS];
} mt_walk;

// The parameters of a formula: `context` in core/*_rows.h.
typedef struct mt_context {
  double words[4];
} mt_context;

typedef void (*mt_row_function)(mt_walk, mt_context);

int mt_walk_plan(mt_walk *walk, int32_t operands, const mt_tensor *const *t);

// Plans and launches over all elements; `context` is at most sizeof(mt_context) bytes, or NULL. Operands broadcast to the first.
int mt_loop_launch(int32_t operands, const mt_tensor *const *t, mt_row_function row, const void *context, size_t bytes);
// The same where the last operand is a mask, or NULL: where it is 0, operand 0 becomes 0 and nothing else is read.
int mt_loop_launch_valid(int32_t operands, const mt_tensor *const *t, mt_row_function row, const void *context, size_t bytes);

MT_DEVICE uint32_t mt_divide(uint32_t n, mt_divisor by) { return (__umulhi(n, by.factor) + n) >> by.shift; }

// The addresses of element i.
template <int OPERANDS> MT_DEVICE void mt_walk_at(char *(&p)[OPERANDS], const mt_walk &w, int64_t i) {
  for (int k = 0; k < OPERANDS; k++) {
    p[k] = w.base[k];
  }
  if (w.ndim == 1) {
    for (int k = 0; k < OPERANDS; k++) {
      p[k] += i * w.step[k][0];
    }
  } else if (w.narrow) {
    uint32_t rest = (uint32_t)i;
    for (int d = 0; d < w.ndim; d++) {
      const uint32_t next = mt_divide(rest, w.by[d]), at = rest - next * w.by[d].size;
      rest = next;
      for (int k = 0; k < OPERANDS; k++) {
        p[k] += at * w.step[k][d];
      }
    }
  } else {
    int64_t rest = i;
    for (int d = 0; d < w.ndim; d++) {
      const int64_t next = rest / w.shape[d], at = rest - next * w.shape[d];
      rest = next;
      for (int k = 0; k < OPERANDS; k++) {
        p[k] += at * w.step[k][d];
      }
    }
  }
}

// The address of element i of one operand.
MT_DEVICE char *mt_walk_operand(const mt_walk &w, int k, int64_t i) {
  char *p = w.base[k];
  int64_t rest = i;
  for (int d = 0; d < w.ndim; d++) {
    const int64_t next = w.narrow ? (int64_t)mt_divide((uint32_t)rest, w.by[d]) : rest / w.shape[d];
    p += (rest - next * w.shape[d]) * w.step[k][d];
    rest = next;
  }
  return p;
}

MT_DEVICE bool mt_walk_valid(const mt_walk &w, int64_t i) { return w.mask == 0 || *mt_walk_operand(w, w.mask, i) != 0; }

// Operand k at p. Kernels of float32 take bfloat16 too, by bits that are the same for all threads.
template <typename T> MT_DEVICE T mt_walk_load(const mt_walk &, int, const T *p) { return *p; }
MT_DEVICE float mt_walk_load(const mt_walk &w, int k, const float *p) {
  return w.bf16 >> k & 1 ? mt_bf16_value(*(const uint16_t *)p) : *p;
}
template <typename T> MT_DEVICE void mt_walk_store(const mt_walk &, T *p, T value) { *p = value; }
MT_DEVICE void mt_walk_store(const mt_walk &w, float *p, float value) {
  if (w.bf16 & 1) {
    *(uint16_t *)p = mt_bf16_of(value);
  } else {
    *p = value;
  }
}

// ---- kernels from expressions -----------------------------------------------------------------------------------------

#define MT_ROW_1(name, Y, X, ...)                                            \
  MT_DEVICE Y MT_PASTE(name, _of)(X x, const void *context) {                \
    (void)context;                                                           \
    return (Y)(__VA_ARGS__);                                                 \
  }                                                                          \
  static __global__ void name(const mt_walk walk, const mt_context context) { \
    MT_EACH(i, walk.numel) {                                                 \
      char *p[2];                                                            \
      if (!mt_walk_valid(walk, i)) {                                         \
        mt_walk_store(walk, (Y *)mt_walk_operand(walk, 0, i), (Y)0);         \
        continue;                                                            \
      }                                                                      \
      mt_walk_at(p, walk, i);                                                \
      mt_walk_store(walk, (Y *)p[0], MT_PASTE(name, _of)(mt_walk_load(walk, 1, (const X *)p[1]), &context)); \
    }                                                                        \
  }

#define MT_ROW_2(name, Y, A, B, ...)                                                          \
  MT_DEVICE Y MT_PASTE(name, _of)(A a, B b, const void *context) {                            \
    (void)context;                                                                            \
    return (Y)(__VA_ARGS__);                                                                  \
  }                                                                                           \
  static __global__ void name(const mt_walk walk, const mt_context context) {                 \
    MT_EACH(i, walk.numel) {                                                                  \
      char *p[3];                                                                             \
      if (!mt_walk_valid(walk, i)) {                                                          \
        mt_walk_store(walk, (Y *)mt_walk_operand(walk, 0, i), (Y)0);                          \
        continue;                                                                             \
      }                                                                                       \
      mt_walk_at(p, walk, i);                                                                 \
      mt_walk_store(walk, (Y *)p[0],                                                          \
                    MT_PASTE(name, _of)(mt_walk_load(walk, 1, (const A *)p[1]), mt_walk_load(walk, 2, (const B *)p[2]), &context)); \
    }                                                                                         \
  }

#define MT_ROW_3(name, Y, A, B, C, ...)                                                                          \
  MT_DEVICE Y MT_PASTE(name, _of)(A a, B b, C c, const void *context) {                                          \
    (void)context;                                                                                               \
    return (Y)(__VA_ARGS__);                                                                                     \
  }                                                                                                              \
  static __global__ void name(const mt_walk walk, const mt_context context) {                                    \
    MT_EACH(i, walk.numel) {                                                                                     \
      char *p[4];                                                                                                \
      if (!mt_walk_valid(walk, i)) {                                                                             \
        mt_walk_store(walk, (Y *)mt_walk_operand(walk, 0, i), (Y)0);                                             \
        continue;                                                                                                \
      }                                                                                                          \
      mt_walk_at(p, walk, i);                                                                                    \
      mt_walk_store(walk, (Y *)p[0],                                                                             \
                    MT_PASTE(name, _of)(mt_walk_load(walk, 1, (const A *)p[1]), mt_walk_load(walk, 2, (const B *)p[2]), \
                                        mt_walk_load(walk, 3, (const C *)p[3]), &context));                      \
    }                                                                                                            \
  }
