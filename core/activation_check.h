// activation_check: what activation.h asks of its arguments, for both libraries. Internal.
#pragma once
#include "common.h"

typedef struct mt_activation_parameters {
  double a, b;
} mt_activation_parameters;

// What may follow another operation, as its last step: none, RELU, or LEAKY_RELU with a slope from 0 to 1.
int mt_activation_check_behind(const char *op, int32_t activation, double a);

int mt_activation_check_forward(const mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, int32_t function, double a, double b);
int mt_activation_check_backward(const mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, const mt_tensor *mask, int32_t function,
                                 double a, double b);
