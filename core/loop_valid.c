// loop_valid: elementwise work under a mask. See mt_loop_valid in loop.h.
//
// The walk is that of loop.c over the values of the mask, each of which stands for `unit` elements: neighbouring channels under a mask of
// one channel, or one. Runs of values other than 0 become one row each, holes are cleared. Where a mask repeats, over the channels of
// a row-major image, its runs are looked for once.
#include "loop.h"
#include "mask_runs.h"
#include "vector_math.h"
#include "zero.h"

enum {
  RUNS = 512,   // found at a time
  ROUND = 8,    // a row of so many elements, or a multiple, has no slow end
  FETCHED = 256,  // bytes
  SHORT = 64,   // runs and holes that are shorter on average are cleared element by element
};

typedef struct {
  mt_loop loop;                    // over the mask's values; the mask is the last operand
  mt_loop_row row;
  const void *context;
  int64_t unit, step[MT_LOOP_OPERANDS];  // elements under a value; from one to the next in bytes
  int64_t bridge;
  bool weights;                    // a row reads the mask where several elements share a value: its run has one value
  bool joined, away;               // the elements of neighbouring values are one row; the result is large
} valid_plan;

typedef struct {
  const valid_plan *plan;
  const char *mask;                // whose runs are known, if they are all
  int64_t n, runs;
  struct {
    int64_t from, to;
  } run[RUNS];
} valid_state;

// Operand 0 of the values [from, to).
static void clear(const valid_plan *v, char *y, int64_t step, int64_t from, int64_t to) {
  const int64_t size = v->loop.size[0], unit = v->unit;
  if (v->joined && v->step[0] == size) {
    if (to > from) {
      mt_zero(y + from * step, (size_t)((to - from) * unit * size), v->away);
    }
    return;
  }
  for (int64_t i = from; i < to; i++) {
    for (int64_t k = 0; k < unit; k++) memset(y + i * step + k * v->step[0], 0, (size_t)size);
  }
}

#define CLEAR_EACH(name, T)                                              \
  MT_CLONES static void name(T *y, const char *mask, int64_t n) {        \
    for (int64_t i = 0; i < n; i++) y[i] &= -(T)(mask[i] != 0);          \
  }
CLEAR_EACH(clear_each_2, uint16_t)
CLEAR_EACH(clear_each_4, uint32_t)
CLEAR_EACH(clear_each_8, uint64_t)

// The holes between the runs first to last, which have been computed.
static void clear_between(const valid_state *s, char *y, const char *mask, int64_t step, int64_t mask_step, int64_t first, int64_t last) {
  const valid_plan *v = s->plan;
  const int64_t from = s->run[first].from, to = s->run[last].to, size = v->loop.size[0];
  const bool bytes = v->unit == 1 && step == size && mask_step == 1 && v->loop.size[v->loop.operands - 1] == 1;
  if (bytes && size >= 2 && (last - first) * SHORT > to - from) {
    if (size == 2) {
      clear_each_2((uint16_t *)(void *)(y + from * step), mask + from, to - from);
    } else if (size == 4) {
      clear_each_4((uint32_t *)(void *)(y + from * step), mask + from, to - from);
    } else {
      clear_each_8((uint64_t *)(void *)(y + from * step), mask + from, to - from);
    }
    return;
  }
  for (int64_t r = first; r < last; r++) clear(v, y, step, s->run[r].to, s->run[r + 1].from);
}

static void compute(const valid_plan *v, char *const *p, const int64_t *step, int64_t from, int64_t to) {
  char *q[MT_LOOP_OPERANDS];
  const int64_t each = v->joined ? to - from : 1;
  for (int64_t i = from; i < to; i += each) {
    for (int32_t k = 0; k < v->loop.operands; k++) q[k] = p[k] + i * step[k];
    v->row(q, v->step, each * v->unit, v->context);
  }
}

// The processor fetches ahead within a run by itself, but not where the next one begins: after run r, or in the next row.
static void fetch(const valid_state *s, char *const *p, const int64_t *step, int64_t r) {
  const mt_loop *l = &s->plan->loop;
  for (int32_t k = 0; k < l->operands - 1; k++) {
    const int64_t to = r + 1 < s->runs ? s->run[r + 1].from * step[k] : s->run[0].from * step[k] + l->step[k][1];
    const uintptr_t next = (uintptr_t)p[k] + (uintptr_t)to;
    for (uintptr_t i = 0; i < FETCHED; i += 64) __builtin_prefetch((const void *)(next + i));
  }
}

// Runs in [at, n) until the list is full; returns where it goes on.
static int64_t find_runs(valid_state *s, const char *mask, int64_t step, int64_t size, int64_t at, int64_t n) {
  s->runs = 0;
  while (at < n && s->runs < RUNS) {
    const int64_t from = mt_mask_next(mask, step, size, at, n, false);
    if (from == n) {
      return n;
    }
    at = mt_mask_next(mask, step, size, from, n, true);
    if (s->plan->weights) {
      int64_t end = from + 1;
      while (end < at && memcmp(mask + end * step, mask + from * step, (size_t)size) == 0) end++;
      at = end;
    }
    s->run[s->runs].from = from;
    s->run[s->runs++].to = at;
  }
  return at;
}

static void valid_row(char *const *p, const int64_t *step, int64_t n, const void *context) {
  valid_state *s = (valid_state *)(uintptr_t)context;
  const valid_plan *v = s->plan;
  const int32_t m = v->loop.operands - 1;
  const int64_t bridge = v->joined && !v->weights ? v->bridge / v->unit : 0;
  for (int64_t at = 0; at < n;) {
    const int64_t begin = at;
    if (s->mask == p[m] && s->n == n) {
      at = n;
    } else {
      at = find_runs(s, p[m], step[m], v->loop.size[m], begin, n);
      s->mask = begin == 0 && at == n ? p[m] : NULL;
      s->n = n;
    }
    int64_t done = begin;
    for (int64_t r = 0; r < s->runs;) {
      int64_t last = r;
      while (last + 1 < s->runs && s->run[last + 1].from - s->run[last].to < bridge) last++;
      const int64_t from = s->run[r].from, to = s->run[last].to;
      const int64_t more = v->joined && v->unit == 1 ? -(to - from) & (ROUND - 1) : 0;
      clear(v, p[0], step[0], done, from);
      fetch(s, p, step, last);
      compute(v, p, step, from, MT_MIN(to + more, at));
      clear_between(s, p[0], p[m], step[0], step[m], r, last);
      done = to;
      r = last + 1;
    }
    clear(v, p[0], step[0], done, at);
  }
}

static void run_range(void *context, int64_t begin, int64_t end) {
  valid_state s;  // the list is not cleared
  s.plan = context;
  s.mask = NULL;
  s.n = 0;
  mt_loop_range(&s.plan->loop, begin, end, valid_row, &s);
}

int mt_loop_valid(int32_t operands, const mt_tensor *const *t, mt_loop_row row, const void *context, int64_t bridge) {
  const int32_t m = operands - 1;
  mt_loop_bf16 staging;
  mt_loop_stage(&staging, t[m] ? operands : m, t, &row, &context);
  if (t[m] == NULL) {
    return mt_loop_run(m, t, row, context);
  }
  valid_plan v = {.row = row, .context = context, .unit = 1, .bridge = bridge, .joined = true};
  mt_loop *l = &v.loop;
  MT_TRY(mt_loop_plan(l, operands, t));
  for (int32_t k = 0; k < operands; k++) v.step[k] = l->step[k][0];
  if (l->step[m][0] == 0) {
    v.unit = l->shape[0];
    for (int32_t k = 0; k < m; k++) v.joined = v.joined && (l->ndim < 2 || l->step[k][1] == l->step[k][0] * v.unit);
    l->numel = v.unit > 0 ? l->numel / v.unit : 0;
    for (int32_t d = 1; d < MT_MAX(l->ndim, 2); d++) {
      l->shape[d - 1] = d < l->ndim ? l->shape[d] : 1;
      for (int32_t k = 0; k < operands; k++) l->step[k][d - 1] = d < l->ndim ? l->step[k][d] : 0;
    }
    l->ndim = MT_MAX(l->ndim - 1, 1);
  }
  v.weights = v.unit > 1 && l->size[m] > 1;
  v.away = t[0]->numel * l->size[0] >= MT_ZERO_AWAY;
  return mt_parallel(l->numel, MT_MAX(1, 32768 / MT_MAX(v.unit, 1)), run_range, &v);
}
