// upsample: nearest and linear (bi-, trilinear) resampling of 1 to 3 spatial axes, x (N, C, *S) -> y (N, C, *S').
//
// Positions, per axis, o = 0 .. S' - 1 and scale = S / S' or as given:
//   nearest           floor(o * scale)
//   linear            p = max(0, (o + 1/2) * scale - 1/2), between floor(p) and the next position
//   aligned corners   p = o * (S - 1) / (S' - 1)
// y = sum of w x over the 2^d neighbours. With a mask the weights count for valid neighbours only and are renormalised, axis by
// axis (last first): two values a, b of validity ta, tb and weights u, v give (u ta a + v tb b) / (u ta + v tb), the other one
// where one is invalid, and u a + v b where ta = tb. So a mask of ones equals no mask bit for bit, and values beside a
// masked edge are what they are beside the image's edge. An output without valid neighbour is 0.
#pragma once
#include "tensor.h"

#pragma GCC visibility push(default)

enum { MT_UPSAMPLE_NEAREST = 0, MT_UPSAMPLE_LINEAR = 1, MT_UPSAMPLE_ALIGNED = 2 };

// How the mask of an output follows from its neighbours of weight > 0.
//   GROW      the largest
//   KEEP      the nearest; the output is 0 where this is 0
//   COVERAGE  their weighted mean
enum { MT_UPSAMPLE_GROW = 0, MT_UPSAMPLE_KEEP = 1, MT_UPSAMPLE_COVERAGE = 2 };

typedef struct mt_upsample {
  int32_t dims;       // spatial axes, 1 to 3
  int32_t mode;       // MT_UPSAMPLE_NEAREST ...
  int32_t rule;       // MT_UPSAMPLE_GROW ...
  double scale[3];    // input positions per output position; 0: S / S'
} mt_upsample;

int mt_upsample_forward(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, const mt_upsample *g);
// dx = the adjoint of x -> y
int mt_upsample_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *mask, const mt_upsample *g);
// out (N|1, C|1, *S') from mask (N|1, C|1, *S)
int mt_upsample_mask(mt_tensor *out, const mt_tensor *mask, const mt_upsample *g);

#pragma GCC visibility pop
