// conv: convolution (cross-correlation) over 1 to 3 spatial axes, one implementation for all.
//
//   y[n, o, p] = b[o] + sum over input channel c of o's group and tap t of x[n, c, p * stride + t * dilation - pad_before] * w[o, c, t]
//   x (N, C, *S)   w (O, C / groups, *K)   b (O) or NULL   y (N, O, *S')
//   S' = (S + pad_before + pad_after - dilation * (K - 1) - 1) / stride + 1, rounded down; outside the image x is 0.
//
// x, w and dy are of one type: float32, float64 or bfloat16. Beside bfloat16, results may be float32; r and m are float32. Of float32
// and bfloat16, b and db may be the other one. bfloat16: the formulas in float32 from the values as they are, rounded once where the
// result (draw too) is bfloat16; an activation finds rounded numbers. A CPU's sums are those of float32, a GPU's those of MEDIUM
// (matmul.h).
//
// An output depends neither on its neighbours nor on the batch. Direct sums take (tap, channel) in that order, in blocks of whole
// taps up to 256 terms (or of 256 channels of a tap), bias last: a tap over zeros leaves them unchanged to the bit. Direct
// gradients of weights and bias add up row by row of the image, rows in order, samples in order; for weights a row counts in
// pieces of 256 pixels from the first active one. So neither zeros at the end of rows or of the image nor more masked pixels at
// either end change a bit; winograd.h says how the transform keeps that for masked pixels. Results are best allocated
// channels-last.
// (Weights that are Inf or NaN may or may not show where a tap lies outside the image.)
//
// Masks: every kernel takes them, NULL meaning that everything counts. Bool, one channel, one entry per pixel:
//   valid  (N or 1, 1, *S)   pixels of x that count; the others are 0, whatever they hold
//   active (N or 1, 1, *S')  outputs that are computed; the others are 0
// Work is proportional to what they leave, and skipping changes no bit of the rest.
#pragma once
#include "activation.h"
#include "tensor.h"

#pragma GCC visibility push(default)

typedef struct mt_conv {
  int32_t dims;           // spatial axes, 1 to 3; entries [0, dims) of the arrays count
  int32_t groups;
  int64_t kernel[3];
  int64_t stride[3];
  int64_t dilation[3];
  int64_t pad_before[3];  // may be negative: crops
  int64_t pad_after[3];
} mt_conv;

// How sums are computed, for the whole process: AUTO takes what is fastest, DIRECT the order of sums above, WINOGRAD the
// transform of winograd.h wherever it is possible (float32, dilation 1, one or two axes with kernels of 2, 3 or 5 and stride 1 or of
// 3 to 5 and stride 2, or 3 x 3 x 3 with stride 1; over a multiple of 16 channels in three axes and with stride 2). AUTO takes the
// transform from 32 channels and outputs (for kernels of 2 and 5 in one axis from 128) and a valid extent of 5 pixels on; with
// stride 2 in two axes only, from an extent of 48 on, and for the gradient of 3 x 3 weights not at all. That is decided by the
// sample alone, so that neither its batch nor its padding changes a bit. Its error is about 1e-6 of the largest output; float64
// is always direct, and so are GPUs.
enum { MT_CONV_AUTO = 0, MT_CONV_DIRECT = 1, MT_CONV_WINOGRAD = 2, MT_CONV_ALGORITHMS = 3 };
int mt_conv_algorithm_set(int32_t algorithm);
int32_t mt_conv_algorithm_get(void);

// Sizes of the output's spatial axes for an input of spatial sizes `in`; an error when one is below 1.
int mt_conv_output_size(int64_t *out, const int64_t *in, const mt_conv *g);

// y = f((the sum * r + b) * m) with r, m (N or 1, 1, *S') or NULL; where r is 0, the first product is. Masked convolution
// re-weights and gates with them (masked_conv.h).
// f: what stands behind the convolution, done before anything is stored, with the bits of the operations one after the other:
//   norm        (3, O), of mt_norm_batch_frozen: batch norm over the mask m; NULL: none; not for a y of bfloat16
//   activation  RELU or LEAKY_RELU with 0 <= a <= 1 (activation.h); MT_ACTIVATION_IDENTITY: none
int mt_conv_forward(mt_tensor *y, const mt_tensor *x, const mt_tensor *w, const mt_tensor *b, const mt_conv *g,
                    const mt_tensor *valid, const mt_tensor *active, const mt_tensor *r, const mt_tensor *m, const mt_tensor *norm,
                    int32_t activation, double a);
// What the gradient dy of y (without a norm) is for the sum, and for b: with d = dy f' m (m NULL: 1) at the active outputs,
//   draw = d r, 0 where m or r is 0; what it holds at outputs that are not active is open
//   db[o] = sum of d[n, o, p] over n, p
// Either may be NULL. y: what forward gave, whose sign tells f'; NULL without an activation. draw may be dy.
int mt_conv_backward_epilogue(mt_tensor *draw, mt_tensor *db, const mt_tensor *dy, const mt_tensor *y, const mt_tensor *active,
                              const mt_tensor *r, const mt_tensor *m, int32_t activation, double a);
// dx = the adjoint of x -> the sum, from the active dy, at the valid pixels; b, when given, is added there (that is the
// transposed convolution's forward)
int mt_conv_backward_input(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *w, const mt_tensor *b, const mt_conv *g,
                           const mt_tensor *valid, const mt_tensor *active);
// dw = gradient of w, from the active dy and the valid x
int mt_conv_backward_weight(mt_tensor *dw, const mt_tensor *dy, const mt_tensor *x, const mt_conv *g,
                            const mt_tensor *valid, const mt_tensor *active);

#pragma GCC visibility pop
