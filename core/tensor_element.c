// tensor_element: single elements, and the comparison of whole tensors. See tensor.h.
#include "loop.h"
#include "tensor_copy.h"

static double canonical(double x) { return x != x ? __builtin_nan("") : x; }

int mt_tensor_get(double *value, const mt_tensor *t, const int64_t *i) {
  mt_tensor element;
  MT_TRY(mt_element_of(&element, t, i));
  int32_t types[2] = {MT_FLOAT64, t->dtype};
  mt_copy_row((char *const[]){(char *)value, element.data}, (const int64_t[]){8, 8}, 1, types);
  *value = canonical(*value);
  return MT_OK;
}

int mt_tensor_set(mt_tensor *t, const int64_t *i, double value) {
  mt_tensor element;
  MT_TRY(mt_element_of(&element, t, i));
  int32_t types[2] = {t->dtype, MT_FLOAT64};
  mt_copy_row((char *const[]){element.data, (char *)&value}, (const int64_t[]){8, 8}, 1, types);
  return MT_OK;
}

static void same_row(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const struct { int64_t size; int32_t *result; } *c = context;
  for (int64_t i = 0; i < n; i++) {
    if (memcmp(p[0] + i * step[0], p[1] + i * step[1], (size_t)c->size) != 0) {
      __atomic_store_n(c->result, 0, __ATOMIC_RELAXED);
      return;
    }
  }
}

int mt_tensor_same_bits(int32_t *result, const mt_tensor *a, const mt_tensor *b) {
  MT_TRY(mt_check_stored("same_bits", "a", a));
  MT_TRY(mt_check_stored("same_bits", "b", b));
  *result = a->dtype == b->dtype && mt_same_shape(a, b);
  struct { int64_t size; int32_t *result; } context = {mt_dtype_size(a->dtype), result};
  return *result ? mt_loop_run(2, (const mt_tensor *const[]){a, b}, same_row, &context) : MT_OK;
}
