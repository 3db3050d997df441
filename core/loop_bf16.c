// loop_bf16: rows of float32 over operands of bfloat16. See mt_loop_stage in loop.h.
#include "convert.h"
#include "loop.h"

enum { PART = 1024, LINE = 32 };  // elements; with four operands the buffers take 16 KB

MT_CLONES_512 void mt_bf16_widen(float *to, const void *from, int64_t step, int64_t n) {
  if (step == 2) {
    const uint16_t *x = from;
    int64_t i = 0;
    for (; i + LINE <= n; i += LINE) {
      __builtin_prefetch((const char *)(x + n + i));  // what is worked on next follows, as a rule
      for (int64_t k = i; k < i + LINE; k++) to[k] = mt_bf16_value(x[k]);
    }
    for (; i < n; i++) to[i] = mt_bf16_value(x[i]);
  } else {
    for (int64_t i = 0; i < n; i++) to[i] = mt_bf16_value(*(const uint16_t *)((const char *)from + i * step));
  }
}

MT_CLONES_512 void mt_bf16_narrow(void *to, int64_t step, const float *from, int64_t n) {
  if (step == 2) {
    uint16_t *y = to;
    for (int64_t i = 0; i < n; i++) y[i] = mt_bf16_of(from[i]);
  } else {
    for (int64_t i = 0; i < n; i++) *(uint16_t *)((char *)to + i * step) = mt_bf16_of(from[i]);
  }
}

static void staged_row(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const mt_loop_bf16 *s = context;
  float buffer[MT_LOOP_OPERANDS][PART];
  char *q[MT_LOOP_OPERANDS];
  int64_t steps[MT_LOOP_OPERANDS];
  for (int32_t k = 0; k < s->operands; k++) {
    q[k] = s->narrow[k] ? (char *)buffer[k] : p[k];
    steps[k] = s->narrow[k] && (step[k] != 0 || k == 0) ? (int64_t)sizeof(float) : step[k];
    if (steps[k] == 0 && s->narrow[k]) {
      mt_bf16_widen(buffer[k], p[k], 2, 1);
    }
  }
  for (int64_t done = 0; done < n; done += PART) {
    const int64_t count = MT_MIN(n - done, (int64_t)PART);
    for (int32_t k = 0; k < s->operands; k++) {
      if (!s->narrow[k]) {
        q[k] = p[k] + done * step[k];
      } else if (k > 0 && steps[k] != 0) {
        mt_bf16_widen(buffer[k], p[k] + done * step[k], step[k], count);
      }
    }
    s->row(q, steps, count, s->context);
    if (s->narrow[0]) {
      mt_bf16_narrow(p[0] + done * step[0], step[0], buffer[0], count);
    }
  }
}

void mt_loop_stage(mt_loop_bf16 *staging, int32_t operands, const mt_tensor *const *t, mt_loop_row *row, const void **context) {
  bool any = false;
  for (int32_t k = 0; k < operands; k++) {
    staging->narrow[k] = t[k]->dtype == MT_BFLOAT16;
    any = any || staging->narrow[k];
  }
  if (any) {
    staging->row = *row;
    staging->context = *context;
    staging->operands = operands;
    *row = staged_row;
    *context = staging;
  }
}
