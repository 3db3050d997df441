// optim_check: see optim_check.h.
#include "optim_check.h"

#include <stdio.h>

static int check_operand(const mt_optim_list *list, int64_t i, int32_t k, const char *name) {
  const mt_tensor *t = list->tensors[k][i];
  MT_TRY(mt_check_real(list->op, name, t));
  MT_TRY(mt_check_like(list->op, name, t, list->tensors[0][i]));
  if (list->writes >> k & 1) {
    MT_TRY(mt_check_output(list->op, name, t));
    for (int32_t j = 0; j < list->operands; j++) {
      if (j != k && list->tensors[j] && list->tensors[j][i]) {
        MT_TRY(mt_check_overlap(list->op, t, list->tensors[j][i], false));
      }
    }
  }
  return MT_OK;
}

// Names with numbers are made for the message only: printing hundreds of them would take longer than the checks.
static int check_entry(const mt_optim_list *list, int64_t i) {
  for (int32_t k = 0; k < list->operands; k++) {
    if (list->tensors[k] && check_operand(list, i, k, list->names[k]) != MT_OK) {
      char name[64];
      snprintf(name, sizeof(name), "%s %lld", list->names[k], (long long)i + 1);
      return check_operand(list, i, k, name);
    }
  }
  return MT_OK;
}

int mt_optim_check(const mt_optim_list *list) {
  if (list->count < 0 || (list->count > 0 && !list->tensors[0])) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: expected a list of tensors", list->op);
  }
  for (int64_t i = 0; i < list->count; i++) {
    MT_TRY(check_entry(list, i));
  }
  return MT_OK;
}

int mt_optim_check_norm(double p) {
  return p > 0 ? MT_OK : mt_fail(MT_ERROR_ARGUMENT, "grad_norm: norm_type: expected a number above 0, got %g", p);
}

int mt_optim_check_clip_norm(const mt_tensor *norm, double limit) {
  MT_TRY(mt_check_tensor("clip_grad_norm_", "norm", norm));
  if (norm->dtype != MT_FLOAT64 || norm->numel != 1) {
    return mt_fail(MT_ERROR_ARGUMENT, "clip_grad_norm_: norm: expected one element of float64, got %s %s", MT_SHAPE(norm),
                   mt_dtype_name(norm->dtype));
  }
  return limit >= 0 ? MT_OK : mt_fail(MT_ERROR_ARGUMENT, "clip_grad_norm_: max_norm: expected a number of at least 0, got %g", limit);
}
