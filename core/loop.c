// loop: see loop.h.
#include "loop.h"

void mt_loop_range(const mt_loop *loop, int64_t begin, int64_t end, mt_loop_row row, const void *context) {
  int64_t index[MT_MAX_DIMS], rest = begin, step[MT_LOOP_OPERANDS];
  char *p[MT_LOOP_OPERANDS];
  for (int32_t k = 0; k < loop->operands; k++) {
    p[k] = loop->base[k];
    step[k] = loop->step[k][0];
  }
  for (int32_t d = 0; d < loop->ndim; d++) {
    index[d] = rest % loop->shape[d];
    rest /= loop->shape[d];
    for (int32_t k = 0; k < loop->operands; k++) {
      p[k] += index[d] * loop->step[k][d];
    }
  }
  while (begin < end) {
    int64_t n = MT_MIN(loop->shape[0] - index[0], end - begin);
    row(p, step, n, context);
    begin += n;
    if (begin >= end) {
      return;
    }
    // The row is finished: back to its start, then carry into the outer dims.
    for (int32_t k = 0; k < loop->operands; k++) {
      p[k] -= index[0] * loop->step[k][0];
    }
    index[0] = 0;
    for (int32_t d = 1; d < loop->ndim; d++) {
      for (int32_t k = 0; k < loop->operands; k++) {
        p[k] += loop->step[k][d];
      }
      if (++index[d] < loop->shape[d]) {
        break;
      }
      for (int32_t k = 0; k < loop->operands; k++) {
        p[k] -= loop->shape[d] * loop->step[k][d];
      }
      index[d] = 0;
    }
  }
}

// ---- short rows ---------------------------------------------------------------------------------------------------

// Three channels and a bias for each: rows of three elements cost more than their work. Where only operands that repeat keep two
// dims from being one row, their elements are laid out in a buffer, and the two dims are one row for all.
enum { SHORT = 64, SHORT_EACH = 16, BUFFER = 1024, REPEATING = 3, ORIGIN = 64 };

typedef struct {
  mt_loop loop;                  // dims 0 and 1 as one; operand `operands` counts the position in that row
  int64_t inner;                 // the size of dim 0
  int32_t repeating, operand[REPEATING];
  int64_t step[REPEATING][2];    // of dims 0 and 1; one of them is 0
} joined;

static bool join(joined *j, const mt_loop *loop) {
  if (loop->ndim < 2 || loop->shape[0] > SHORT || loop->operands >= MT_LOOP_OPERANDS || loop->numel < BUFFER / 2) {
    return false;
  }
  *j = (joined){.inner = loop->shape[0]};
  mt_loop *l = &j->loop;
  *l = *loop;
  l->ndim = loop->ndim - 1;
  l->operands = loop->operands + 1;
  for (int32_t d = 1; d < loop->ndim; d++) {
    l->shape[d - 1] = loop->shape[d];
    for (int32_t k = 0; k < loop->operands; k++) {
      l->step[k][d - 1] = loop->step[k][d];
    }
  }
  l->shape[0] *= j->inner;
  for (int32_t k = 0; k < loop->operands; k++) {
    const int64_t first = loop->step[k][0], second = loop->step[k][1];
    l->step[k][0] = first;
    if (second == first * j->inner) {
      continue;
    }
    if ((first != 0 && second != 0) || k == 0 || j->repeating == REPEATING || (second != 0 && j->inner > SHORT_EACH)) {
      return false;
    }
    l->step[k][0] = 0;
    j->operand[j->repeating] = k;
    j->step[j->repeating][0] = first;
    j->step[j->repeating++][1] = second;
  }
  l->base[loop->operands] = (char *)ORIGIN;  // not NULL: offsets from it are undefined
  memset(l->step[loop->operands], 0, sizeof l->step[0]);
  l->step[loop->operands][0] = 1;
  return j->repeating > 0;
}

#define LAY_OUT(T)                                                                      \
  {                                                                                     \
    T *to = (T *)buffer;                                                                \
    for (int64_t i = 0; i < n;) {                                                       \
      const int64_t count = MT_MIN(inner - c, n - i);                                   \
      if (step[0] == 0) {                                                               \
        const T x = *(const T *)from;                                                   \
        for (int64_t q = 0; q < count; q++) to[i + q] = x;                              \
      } else {                                                                          \
        for (int64_t q = 0; q < count; q++) to[i + q] = *(const T *)(from + (c + q) * step[0]); \
      }                                                                                 \
      from += step[1];                                                                  \
      i += count;                                                                       \
      c = 0;                                                                            \
    }                                                                                   \
    return;                                                                             \
  }

// n elements from position `at` of a row on.
static void lay_out(char *buffer, const char *from, const int64_t step[2], int64_t inner, int64_t at, int64_t n, int64_t size) {
  int64_t c = at % inner;
  from += at / inner * step[1];
  if (size == 4) LAY_OUT(uint32_t)
  if (size == 8) LAY_OUT(uint64_t)
  if (size == 2) LAY_OUT(uint16_t)
  LAY_OUT(uint8_t)
}

typedef struct {
  const joined *plan;
  mt_loop_row row;
  const void *context;
  const char *laid[REPEATING];                          // what the buffer holds where it repeats all along (step[1] 0)
  uint64_t buffer[REPEATING][BUFFER + SHORT];
} joined_state;

static void joined_row(char *const *p, const int64_t *step, int64_t n, const void *context) {
  joined_state *s = (joined_state *)(uintptr_t)context;
  const joined *j = s->plan;
  const int32_t operands = j->loop.operands - 1;
  const int64_t at = (int64_t)(intptr_t)p[operands] - ORIGIN;
  char *q[MT_LOOP_OPERANDS];
  int64_t steps[MT_LOOP_OPERANDS];
  memcpy(q, p, sizeof q);
  memcpy(steps, step, sizeof steps);
  for (int64_t done = 0; done < n;) {
    const int64_t count = MT_MIN(n - done, (int64_t)BUFFER);
    for (int32_t r = 0; r < j->repeating; r++) {
      const int32_t k = j->operand[r];
      const int64_t size = j->loop.size[k];
      char *buffer = (char *)s->buffer[r];
      steps[k] = size;
      if (j->step[r][1] != 0) {
        lay_out(buffer, p[k], j->step[r], j->inner, at + done, count, size);
        q[k] = buffer;
      } else {
        if (s->laid[r] != p[k]) {
          lay_out(buffer, p[k], j->step[r], j->inner, 0, BUFFER + SHORT, size);
          s->laid[r] = p[k];
        }
        q[k] = buffer + (at + done) % j->inner * size;
      }
    }
    s->row(q, steps, count, s->context);
    for (int32_t k = 0; k < operands; k++) {
      q[k] += count * step[k];
    }
    done += count;
  }
}

// ---- parallel runs --------------------------------------------------------------------------------------------------

typedef struct {
  const mt_loop *loop;
  const joined *plan;  // or NULL
  mt_loop_row row;
  const void *context;
} loop_task;

static void run_range(void *context, int64_t begin, int64_t end) {
  const loop_task *task = context;
  if (task->plan) {
    joined_state state;  // not cleared: the buffer is large
    state.plan = task->plan;
    state.row = task->row;
    state.context = task->context;
    memset(state.laid, 0, sizeof state.laid);
    mt_loop_range(&task->plan->loop, begin, end, joined_row, &state);
  } else {
    mt_loop_range(task->loop, begin, end, task->row, task->context);
  }
}

static int run(bool may_join, int32_t operands, const mt_tensor *const *t, mt_loop_row row, const void *context) {
  mt_loop loop;
  MT_TRY(mt_loop_plan(&loop, operands, t));
  joined plan;
  loop_task task = {&loop, may_join && join(&plan, &loop) ? &plan : NULL, row, context};
  return mt_parallel(loop.numel, 32768, run_range, &task);
}

int mt_loop_run(int32_t operands, const mt_tensor *const *t, mt_loop_row row, const void *context) {
  return run(false, operands, t, row, context);
}

int mt_loop_elements(int32_t operands, const mt_tensor *const *t, mt_loop_row row, const void *context) {
  mt_loop_bf16 staging;
  mt_loop_stage(&staging, operands, t, &row, &context);
  return run(true, operands, t, row, context);
}
