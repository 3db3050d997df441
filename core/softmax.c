// softmax: see softmax.h. Three passes over a line: maximum, exponentials and their sum, scaling.
#ifdef REAL

// The loops over neighbours, where nothing is masked.
MT_CLONES static bool FN(any_beats)(const REAL *x, REAL largest) {
  int32_t any = 0;
  for (int i = 0; i < SKIP; i++) any |= !(x[i] <= largest);
  return any;
}

MT_CLONES static void FN(log_of_line)(REAL *y, const REAL *x, double shift, int64_t n) {
  for (int64_t i = 0; i < n; i++) y[i] = (REAL)((double)x[i] - shift);
}

MT_CLONES static void FN(scaled_line)(REAL *y, double scale, int64_t n) {
  for (int64_t i = 0; i < n; i++) y[i] = (REAL)((double)y[i] * scale);
}

MT_CLONES static void FN(backward_of_line)(REAL *dx, const REAL *dy, const REAL *y, double sum, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    const double d = (double)y[i] * ((double)dy[i] - sum);
    dx[i] = y[i] != 0 ? (REAL)d : 0;
  }
}

MT_CLONES static void FN(log_backward_of_line)(REAL *dx, const REAL *dy, const REAL *y, double sum, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    const double d = (double)dy[i] - (double)FN(mt_quick_exp)(y[i]) * sum;
    dx[i] = y[i] != -(REAL)INFINITY ? (REAL)d : 0;
  }
}

static void FN(forward_line)(const lines *l, REAL *y, const REAL *x, const REAL *mask) {
  const int64_t n = l->x.length, sy = l->y.stride, sx = l->x.stride, sm = l->mask.stride;
  REAL largest = -INFINITY;
  for (int64_t i = 0; i < n; i++) {
    while (mask == NULL && sx == 1 && i + SKIP <= n && !FN(any_beats)(x + i, largest)) {
      i += SKIP;
    }
    if (i == n) {
      break;
    }
    const REAL v = x[i * sx];
    if ((mask == NULL || mask[i * sm] != 0) && !(v <= largest)) {
      largest = v;
      if (v != v) {
        break;
      }
    }
  }
  if (largest == -INFINITY) {
    for (int64_t i = 0; i < n; i++) {
      y[i * sy] = l->log ? -INFINITY : 0;
    }
    return;
  }
  double sum = 0;
  if (mask == NULL) {
    sum = FN(mt_exponentials)(y, sy, x, sx, largest, n);
  }
  for (int64_t i = 0; mask != NULL && i < n; i++) {
    if (mask[i * sm] != 0) {
      const REAL e = FN(mt_quick_exp)(x[i * sx] - largest);
      sum += (double)e;
      y[i * sy] = e;
    } else {
      y[i * sy] = 0;
    }
  }
  if (l->log) {
    const double shift = (double)largest + log(sum);
    if (mask == NULL && sx == 1 && sy == 1) {
      FN(log_of_line)(y, x, shift, n);
      return;
    }
    for (int64_t i = 0; i < n; i++) {
      y[i * sy] = mask == NULL || mask[i * sm] != 0 ? (REAL)((double)x[i * sx] - shift) : -(REAL)INFINITY;
    }
  } else {
    const double scale = 1 / sum;
    if (sy == 1) {
      FN(scaled_line)(y, scale, n);
      return;
    }
    for (int64_t i = 0; i < n; i++) {
      y[i * sy] = (REAL)((double)y[i * sy] * scale);
    }
  }
}

static void FN(forward_task)(void *context, int64_t begin, int64_t end) {
  const lines *l = context;
  for (int64_t o = begin; o < end; o++) {
    int64_t in_y, in_x, in_mask = 0, unused;
    mt_reduction_output(&l->y, o, &in_y, &unused);
    mt_reduction_output(&l->x, o, &in_x, &unused);
    if (l->mask_data) {
      mt_reduction_output(&l->mask, o, &in_mask, &unused);
    }
    FN(forward_line)(l, (REAL *)l->y_data + in_y, (const REAL *)l->x_data + in_x,
                     l->mask_data ? (const REAL *)l->mask_data + in_mask : NULL);
  }
}

// Here y is dx, x is y, mask is dy.
static void FN(backward_task)(void *context, int64_t begin, int64_t end) {
  const lines *l = context;
  const int64_t n = l->x.length, sdx = l->y.stride, sy = l->x.stride, sdy = l->mask.stride;
  for (int64_t o = begin; o < end; o++) {
    int64_t in_dx, in_y, in_dy, unused;
    mt_reduction_output(&l->y, o, &in_dx, &unused);
    mt_reduction_output(&l->x, o, &in_y, &unused);
    mt_reduction_output(&l->mask, o, &in_dy, &unused);
    REAL *dx = (REAL *)l->y_data + in_dx;
    const REAL *y = (const REAL *)l->x_data + in_y, *dy = (const REAL *)l->mask_data + in_dy;
    const REAL outside = l->log ? -(REAL)INFINITY : 0;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
      if (y[i * sy] != outside) {
        sum += l->log ? (double)dy[i * sdy] : (double)dy[i * sdy] * (double)y[i * sy];
      }
    }
    if (sdx == 1 && sy == 1 && sdy == 1) {
      if (l->log) {
        FN(log_backward_of_line)(dx, dy, y, sum, n);
      } else {
        FN(backward_of_line)(dx, dy, y, sum, n);
      }
      continue;
    }
    for (int64_t i = 0; i < n; i++) {
      const double v = y[i * sy], g = dy[i * sdy];
      REAL d = 0;
      if (y[i * sy] != outside) {
        d = (REAL)(l->log ? g - (double)FN(mt_quick_exp)((REAL)v) * sum : v * (g - sum));
      }
      dx[i * sdx] = d;
    }
  }
}

#else
#include "softmax_check.h"
#include "vector_math.h"

enum { SKIP = 64 };  // elements that are looked at together

typedef mt_softmax_lines lines;

#define MT_SOURCE "softmax.c"
#include "twice.h"

int mt_softmax_forward(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, int32_t dim, int32_t log) {
  lines l;
  MT_TRY(mt_softmax_check_forward(&l, y, x, mask, dim, log));
  return mt_parallel(l.x.outputs, mt_reduction_grain(&l.x), MT_REAL_FN(x->dtype, forward_task), &l);
}

int mt_softmax_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *y, int32_t dim, int32_t log) {
  lines l;
  MT_TRY(mt_softmax_check_backward(&l, dx, dy, y, dim, log));
  return mt_parallel(l.x.outputs, mt_reduction_grain(&l.x), MT_REAL_FN(y->dtype, backward_task), &l);
}

#endif
