// conv_check: what conv.h asks of its arguments, and a convolution as a list of taps, for both libraries. Internal.
#pragma once
#include "common.h"

// "conv2d"
const char *mt_conv_name(const mt_conv *g);
int mt_conv_check_forward(const mt_tensor *y, const mt_tensor *x, const mt_tensor *w, const mt_tensor *b, const mt_conv *g,
                          const mt_tensor *valid, const mt_tensor *active, const mt_tensor *r, const mt_tensor *m,
                          const mt_tensor *norm, int32_t activation, double a);
int mt_conv_check_backward_input(const mt_tensor *dx, const mt_tensor *dy, const mt_tensor *w, const mt_tensor *b,
                                 const mt_conv *g, const mt_tensor *valid, const mt_tensor *active);
int mt_conv_check_backward_weight(const mt_tensor *dw, const mt_tensor *dy, const mt_tensor *x, const mt_conv *g,
                                  const mt_tensor *valid, const mt_tensor *active);
int mt_conv_check_backward_epilogue(const mt_tensor *draw, const mt_tensor *db, const mt_tensor *dy, const mt_tensor *y,
                                    const mt_tensor *active, const mt_tensor *r, const mt_tensor *m, int32_t activation, double a);
// A map of the pixels of t (N, C, *S): (N or 1, 1, *S), or NULL.
int mt_conv_check_map(const char *op, const char *argument, const mt_tensor *m, int32_t dtype, const mt_tensor *t);
int mt_conv_check_algorithm(int32_t wanted);

// Element offset of the first pixel of row `row` (all samples' rows counted in order) of an (N or 1, C, *S) tensor.
static inline int64_t mt_conv_row_offset(const mt_tensor *t, int64_t row) {
  int64_t offset = 0;
  for (int32_t d = t->ndim - 2; d >= 2; d--) {
    offset += row % t->shape[d] * t->stride[d];
    row /= t->shape[d];
  }
  return offset + (t->shape[0] == 1 ? 0 : row * t->stride[0]);
}

// (N, C, *S) with its channels side by side: t itself with another reference, or a copy.
int mt_conv_side_by_side(mt_tensor **out, const mt_tensor *t);

// The taps of a geometry: how far each is from a pixel, and where its weight is. `step`: the strides of the kernel's axes in w.
enum { MT_CONV_DIMS = 3 };
typedef struct mt_conv_taps {
  int64_t count, (*offset)[MT_CONV_DIMS], *w;  // both freed with `offset`
} mt_conv_taps;
int64_t mt_conv_kernel_taps(const mt_conv *g);
int mt_conv_taps_new(mt_conv_taps *list, const mt_conv *g);
// All of them, as the forward pass reads x.
void mt_conv_taps_forward(mt_conv_taps *list, const mt_conv *g, const int64_t *step);
// Those that reach the pixels phase, phase + stride, ... of x from dy.
void mt_conv_taps_adjoint(mt_conv_taps *list, const mt_conv *g, const int64_t *step, const int64_t phase[MT_CONV_DIMS]);
