// elementwise: y[i] = f(a[i], b[i]) with broadcasting: sizes 1 repeat, missing leading dims are added. y has the
// broadcast shape. In place (y the same view as an input) is allowed.
#pragma once
#include "tensor.h"

#pragma GCC visibility push(default)

// y = a + alpha * b
int mt_elementwise_add(mt_tensor *y, const mt_tensor *a, const mt_tensor *b, double alpha);

#pragma GCC visibility pop
