// linear_check: what linear.h asks of its arguments, and its tensors as matrices, for both libraries. Internal.
#pragma once
#include "common.h"

int mt_linear_check_forward(const mt_tensor *y, const mt_tensor *x, const mt_tensor *w, const mt_tensor *b);
int mt_linear_check_backward_input(const mt_tensor *dx, const mt_tensor *dy, const mt_tensor *w);
int mt_linear_check_backward_weight(const mt_tensor *dw, const mt_tensor *dy, const mt_tensor *x);
int mt_linear_check_backward_bias(const mt_tensor *db, const mt_tensor *dy);

// (*, features) as (rows, features) with one distance between rows: t itself with another reference, or a copy.
int mt_linear_matrix(mt_tensor **out, const mt_tensor *t);
// A matrix to write to: over t itself, or over a new tensor that mt_linear_finish copies to t.
int mt_linear_output(mt_tensor **out, const mt_tensor *t);
int mt_linear_finish(mt_tensor *t, mt_tensor *matrix);
// (*, features) as (rows, features, positions), a copy where its elements are not in row-major order.
int mt_linear_image(mt_tensor **out, const mt_tensor *t);
