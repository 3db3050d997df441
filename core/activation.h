// activation: y = f(x) elementwise, and dx = dy * f'(x). All tensors have one shape and dtype (float32, float64, bfloat16); in place
// (y the same view as x, dx the same view as dy) is allowed. relu and leaky_relu of float32 are exact; errors of the others are in
// vector_math.h: within 1.1 units of the last place (elu), 3 (softplus, silu, tanh form of gelu) and 6 (gelu). bfloat16: rounded float32.
// mask: bool, broadcasts to x, or NULL. Where it is 0 the result is 0 and x and dy are not looked at.
#pragma once
#include "tensor.h"

#pragma GCC visibility push(default)

// The functions, with their parameters a and b where they have any:
//   RELU        max(x, 0); NaN stays NaN
//   LEAKY_RELU  x > 0 ? x : a x
//   ELU         x > 0 ? x : a (exp(x) - 1)
//   SOFTPLUS    log(1 + exp(a x)) / a; x itself where a x > b
//   SILU        x / (1 + exp(-x))
//   GELU        x Phi(x), Phi the normal distribution function
//   GELU_TANH   x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
enum {
  MT_ACTIVATION_IDENTITY = -1,  // none; for operations that take the activation behind them
  MT_ACTIVATION_RELU, MT_ACTIVATION_LEAKY_RELU, MT_ACTIVATION_ELU, MT_ACTIVATION_SOFTPLUS, MT_ACTIVATION_SILU,
  MT_ACTIVATION_GELU, MT_ACTIVATION_GELU_TANH, MT_ACTIVATIONS
};
int mt_activation_forward(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, int32_t function, double a, double b);
// dx = dy * f'(x); at the kinks of RELU, LEAKY_RELU and ELU the derivative from below. RELU may be given y in place of x.
int mt_activation_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, const mt_tensor *mask, int32_t function, double a,
                           double b);

#pragma GCC visibility pop
