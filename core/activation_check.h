// activation_check: what activation.h asks of its arguments, for both libraries. Internal.
#pragma once
#include "common.h"

typedef struct mt_activation_parameters {
  double a, b;
} mt_activation_parameters;

int mt_activation_check_forward(const mt_tensor *y, const mt_tensor *x, int32_t function, double a, double b);
int mt_activation_check_backward(const mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, int32_t function, double a, double b);
