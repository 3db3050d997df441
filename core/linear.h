// linear: y = x w^T + b
//
//   x (*, in)   w (out, in)   b (out) or NULL   y (*, out); x has at least one dim
//   x, w and dy of one type: float32, float64 or bfloat16, beside which a result may be float32; of float32 and bfloat16, b and db may
//   be the other one
//
// bfloat16: products are exact, sums float32 (matmul.h), b is added in float32, the result is rounded once.
//
// Products of gemm.h, whose sums depend on nothing but their own terms: y's rows depend neither on one another nor on their number.
// In the gradient of w the positions of the last-but-one dim are a run, so positions of zeros at its end, or further rows of
// them, change no bit; in that of b they add up in order, then the rows of the dims before it.
#pragma once
#include "tensor.h"

#pragma GCC visibility push(default)

int mt_linear_forward(mt_tensor *y, const mt_tensor *x, const mt_tensor *w, const mt_tensor *b);
// dx = dy w
int mt_linear_backward_input(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *w);
// dw = dy^T x
int mt_linear_backward_weight(mt_tensor *dw, const mt_tensor *dy, const mt_tensor *x);
// db = sum of dy over all dims but the last
int mt_linear_backward_bias(mt_tensor *db, const mt_tensor *dy);

#pragma GCC visibility pop
