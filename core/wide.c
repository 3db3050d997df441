// wide: see wide.h.
#include "wide.h"

static mt_tensor *stand_in(mt_wide *wide, const mt_tensor *t, mt_tensor *to) {
  mt_tensor *copy = NULL;
  if (wide->status == MT_OK) {
    wide->status = mt_tensor_new_like(&copy, t, NULL, MT_FLOAT32);
  }
  if (wide->status == MT_OK) {
    wide->to[wide->count] = to;
    wide->copy[wide->count++] = copy;
  }
  return copy;
}

const mt_tensor *mt_wide_input(mt_wide *wide, const mt_tensor *t) {
  if (t == NULL || t->dtype != MT_BFLOAT16) {
    return t;
  }
  mt_tensor *copy = stand_in(wide, t, NULL);
  if (wide->status == MT_OK) {
    wide->status = mt_tensor_copy(copy, t);
  }
  return copy;
}

mt_tensor *mt_wide_output(mt_wide *wide, mt_tensor *t) { return t == NULL || t->dtype != MT_BFLOAT16 ? t : stand_in(wide, t, t); }

int mt_wide_end(mt_wide *wide, int status) {
  for (int32_t i = 0; i < wide->count; i++) {
    if (status == MT_OK && wide->to[i]) {
      status = mt_tensor_copy(wide->to[i], wide->copy[i]);
    }
    mt_tensor_release(wide->copy[i]);
  }
  return status;
}
