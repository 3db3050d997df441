// activation: y = f(x) elementwise, and dx = dy * f'(x). All tensors have one shape and dtype (float32, float64);
// in place (y the same view as x) is allowed in forward.
#pragma once
#include "tensor.h"

#pragma GCC visibility push(default)

// y = max(x, 0); NaN stays NaN.
int mt_activation_relu_forward(mt_tensor *y, const mt_tensor *x);
// dx = dy where y > 0, else 0
int mt_activation_relu_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *y);

#pragma GCC visibility pop
