// loop: the walk over strided tensors of one shape that elementwise kernels share. Internal.
#pragma once
#include "common.h"

enum { MT_LOOP_OPERANDS = 7 };  // mt_loop_elements joins up to one fewer

// One inner row: n elements, p[k] the first element of operand k, step[k] the distance to the next in bytes.
typedef void (*mt_loop_row)(char *const *p, const int64_t *step, int64_t n, const void *context);

// A plan: dimensions are ordered by the first operand's strides, those of size 1 dropped and neighbours merged
// wherever every operand allows, so a dense loop is one long row in any memory format.
typedef struct mt_loop {
  int32_t operands, ndim;
  int64_t shape[MT_MAX_DIMS];                       // shape[0] is the inner row
  int64_t step[MT_LOOP_OPERANDS][MT_MAX_DIMS];      // bytes
  char *base[MT_LOOP_OPERANDS];
  int64_t size[MT_LOOP_OPERANDS];                   // of an element, bytes
  int64_t numel;
} mt_loop;

// Operands are broadcast to the shape of the first (sizes 1 repeat; missing leading dims are added).
int mt_loop_plan(mt_loop *loop, int32_t operands, const mt_tensor *const *t);
// Calls row for the elements [begin, end) of the plan's order.
void mt_loop_range(const mt_loop *loop, int64_t begin, int64_t end, mt_loop_row row, const void *context);
// Plans and runs in parallel.
int mt_loop_run(int32_t operands, const mt_tensor *const *t, mt_loop_row row, const void *context);
// The same for rows that read nothing but the elements they are given, and of operand 0 not even those: operands that repeat may come
// from a buffer, and operands of bfloat16 come and go as float32 (loop_bf16.c). Rows that use an operand as the address of something else
// (gather) cannot.
int mt_loop_elements(int32_t operands, const mt_tensor *const *t, mt_loop_row row, const void *context);
// The same, bfloat16 included, where the last operand is a mask of bool, float32 or float64, or NULL: none. Where it is 0, operand 0 becomes 0 and nothing is
// computed, but for holes of less than `bridge` elements, which are computed and then cleared: that costs less than another row.
enum { MT_BRIDGE = 16, MT_BRIDGE_CHEAP = 64 };  // of functions with an exponential; of those that memory limits
int mt_loop_valid(int32_t operands, const mt_tensor *const *t, mt_loop_row row, const void *context, int64_t bridge);

// Rows of float32 over operands of bfloat16: a part of a row at a time is widened into buffers that stay in the nearest cache, and what
// operand 0 becomes there is rounded on the way out.
typedef struct mt_loop_bf16 {
  mt_loop_row row;
  const void *context;
  int32_t operands;
  bool narrow[MT_LOOP_OPERANDS];
} mt_loop_bf16;
// Where an operand is of bfloat16, *row and *context become those of *staging, which lives as long as the loop; else nothing happens.
void mt_loop_stage(mt_loop_bf16 *staging, int32_t operands, const mt_tensor *const *t, mt_loop_row *row, const void **context);
// n elements of bfloat16, `step` bytes apart, to and from neighbours of float32.
void mt_bf16_widen(float *to, const void *from, int64_t step, int64_t n);
void mt_bf16_narrow(void *to, int64_t step, const float *from, int64_t n);

// Whether mask, or NULL, is bool, broadcasts to y, and shares no memory with it.
int mt_loop_check_mask(const char *op, const mt_tensor *mask, const mt_tensor *y);
