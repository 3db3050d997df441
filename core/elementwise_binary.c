// elementwise_binary: functions of two broadcast operands. See elementwise.h; the formulas are in elementwise_binary_rows.h.
#include "elementwise_check.h"
#include "row.h"
#define MT_SOURCE "elementwise_binary_rows.h"
#include "five.h"

static void zero_row(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const struct { int64_t size; int32_t *found; } *c = context;
  static const char zero[8];
  for (int64_t i = 0; i < n; i++) {
    if (memcmp(p[0] + i * step[0], zero, (size_t)c->size) == 0) {
      __atomic_store_n(c->found, 1, __ATOMIC_RELAXED);
    }
  }
}

static int refuse_zero(int32_t op, const mt_tensor *b) {
  int32_t found = 0;
  struct { int64_t size; int32_t *found; } context = {mt_dtype_size(b->dtype), &found};
  MT_TRY(mt_loop_run(1, (const mt_tensor *const[]){b}, zero_row, &context));
  return found ? mt_elementwise_refuse_zero(op) : MT_OK;
}

int mt_elementwise_binary(mt_tensor *y, const mt_tensor *a, const mt_tensor *b, int32_t op) {
  MT_TRY(mt_elementwise_check_binary(y, a, b, op));
  if (mt_elementwise_divides_integers(a, op)) {
    MT_TRY(refuse_zero(op, b));
  }
  return mt_loop_elements(3, (const mt_tensor *const[]){y, a, b}, MT_FIVE_FN(a->dtype, forward)[op], NULL);
}

int mt_elementwise_binary_backward(mt_tensor *d, const mt_tensor *dy, const mt_tensor *a, const mt_tensor *b, int32_t op,
                                   int32_t by_b) {
  MT_TRY(mt_elementwise_check_binary_backward(d, dy, a, b, op));
  return mt_loop_elements(4, (const mt_tensor *const[]){d, dy, a, b}, MT_REAL_FN(a->dtype, backward)[op][by_b != 0], NULL);
}
