// conv: see conv.h. The sums themselves are in taps_*.c and winograd.c; this file turns a convolution into taps.
#include "conv_check.h"
#include "taps.h"
#include "wide.h"
#include "winograd.h"

// A map of the pixels of a tensor: (N or 1, 1, *S), or NULL.
static void set_map(mt_taps_map *map, const mt_tensor *m) {
  *map = (mt_taps_map){0};
  if (m != NULL) {
    map->data = m->data;
    map->sample = m->shape[0] == 1 ? 0 : m->stride[0];
    for (int32_t d = 2; d < m->ndim; d++) {
      map->step[d - 2] = m->stride[d];
    }
  }
}

static void set_taps(mt_taps *t, const mt_conv_taps *list) {
  t->taps = list->count;
  t->offset = (const int64_t(*)[MT_TAPS_DIMS])list->offset;
  t->w_tap = list->w;
}

// What forward and gradients share: x is read channels-last, w by strides.
static mt_taps taps_over(const mt_tensor *x, const mt_tensor *w, const mt_conv *g) {
  mt_taps t = {.dtype = x->dtype, .dims = g->dims, .samples = x->shape[0], .groups = g->groups, .x = x->data,
               .x_sample = x->stride[0], .w = w->data, .w_group = w->shape[0] / g->groups * w->stride[0]};
  for (int32_t d = 0; d < g->dims; d++) {
    t.x_step[d] = x->stride[d + 2];
    t.size[d] = x->shape[d + 2];
  }
  return t;
}

typedef struct {
  mt_taps_map valid, active, scale, gate;
} maps;

// ---- algorithm -----------------------------------------------------------------------------------------------------------

static int32_t algorithm;

int mt_conv_algorithm_set(int32_t wanted) {
  MT_TRY(mt_conv_check_algorithm(wanted));
  algorithm = wanted;
  return MT_OK;
}

int32_t mt_conv_algorithm_get(void) { return algorithm; }

// One sum, or those of all phases (winograd.h).
static int sum(const mt_taps *t, int32_t sums) {
  const bool forced = algorithm == MT_CONV_WINOGRAD;
  if (algorithm != MT_CONV_DIRECT && mt_winograd_suits(t, sums, forced)) {
    return mt_winograd_sum(t, sums, forced);
  }
  for (int32_t k = 0; k < sums; k++) MT_TRY(mt_taps_sum(&t[k]));
  return MT_OK;
}

// ---- forward ------------------------------------------------------------------------------------------------------------

static int run_forward(mt_tensor *y, const mt_tensor *x, const mt_tensor *w, const mt_tensor *b, const mt_conv *g,
                       const maps *m, const mt_tile_behind *behind, mt_conv_taps *list) {
  mt_taps t = taps_over(x, w, g);
  t.behind = behind;
  t.x_channel = x->shape[1] > 1 ? x->stride[1] : 0;
  t.valid = m->valid;
  t.active = m->active;
  t.scale = m->scale;
  t.gate = m->gate;
  t.channels = w->shape[1];
  t.outputs = w->shape[0] / g->groups;
  t.w_channel = w->stride[1];
  t.w_output = w->stride[0];
  t.y = y->data;
  t.y_sample = y->stride[0];
  t.y_channel = y->stride[1];
  t.y_group = t.outputs * y->stride[1];
  t.bias = b ? b->data : NULL;
  for (int32_t d = 0; d < g->dims; d++) {
    t.y_step[d] = y->stride[d + 2];
    t.grid[d] = y->shape[d + 2];
    t.mul[d] = g->stride[d];
  }
  mt_conv_taps_forward(list, g, w->stride + 2);
  set_taps(&t, list);
  return sum(&t, 1);
}

// An image whose rows are planes' need not be turned where the sums are made from planes.
static bool stays_planar(const mt_tensor *x, const mt_tensor *w, const mt_conv *g) {
  const mt_taps t = {.dtype = x->dtype, .groups = g->groups, .channels = w->shape[1], .outputs = w->shape[0] / g->groups,
                     .taps = mt_conv_kernel_taps(g)};
  return x->stride[x->ndim - 1] == 1 && x->stride[1] > 0 && algorithm != MT_CONV_WINOGRAD && mt_taps_takes_planes(&t);
}

// y = f(y), from its rounded values.
static int activate(mt_tensor *y, const mt_tile_behind *f) {
  mt_wide wide = {0};
  const mt_tensor *from = mt_wide_input(&wide, y);
  mt_tensor *to = mt_wide_output(&wide, y);
  return mt_wide_end(&wide, wide.status ? wide.status : mt_activation_forward(to, from, NULL, f->activation, f->a, 0));
}

int mt_conv_forward(mt_tensor *y, const mt_tensor *x, const mt_tensor *w, const mt_tensor *b, const mt_conv *g,
                    const mt_tensor *valid, const mt_tensor *active, const mt_tensor *r, const mt_tensor *m, const mt_tensor *norm,
                    int32_t activation, double a) {
  maps k;
  mt_wide wide = {0};
  mt_tensor *given = y;
  MT_TRY(mt_conv_check_forward(y, x, w, b, g, valid, active, r, m, norm, activation, a));
  const mt_tile_behind f = {norm ? norm->data : NULL, w->shape[0], activation, a};
  set_map(&k.valid, valid);
  set_map(&k.active, active);
  set_map(&k.scale, r);
  set_map(&k.gate, m);
  // Rounding comes first; only RELU gives the same either way.
  const bool inside = y->dtype != MT_BFLOAT16 || activation == MT_ACTIVATION_RELU;
  x = mt_wide_input(&wide, x);
  w = mt_wide_input(&wide, w);
  b = mt_wide_input(&wide, b);
  y = mt_wide_output(&wide, y);
  mt_tensor *rows = NULL, *bias = NULL;
  mt_conv_taps list = {0, NULL, NULL};
  int status = wide.status;
  status = status ? status : stays_planar(x, w, g) ? mt_tensor_alias(&rows, x) : mt_conv_side_by_side(&rows, x);
  status = status || !b ? status : mt_contiguous(&bias, b);
  status = status ? status : mt_conv_taps_new(&list, g);
  const bool behind = norm || (inside && activation != MT_ACTIVATION_IDENTITY);
  status = status ? status : run_forward(y, rows, w, bias, g, &k, behind ? &f : NULL, &list);
  mt_free(list.offset);
  mt_tensor_release(bias);
  mt_tensor_release(rows);
  MT_TRY(mt_wide_end(&wide, status));
  return inside || activation == MT_ACTIVATION_IDENTITY ? MT_OK : activate(given, &f);
}

// ---- input gradient -----------------------------------------------------------------------------------------------------

// One sum per phase: the pixels of dx that share their remainder modulo the stride share their taps. A few sums are handed over
// together, with one list after the other.
static int run_backward_input(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *w, const mt_tensor *b, const mt_conv *g,
                              const maps *m, mt_conv_taps *list) {
  mt_taps t = taps_over(dy, w, g);
  t.valid = m->active;
  t.active = m->valid;
  int64_t phases = 1;
  t.channels = w->shape[0] / g->groups;
  t.outputs = w->shape[1];
  t.w_channel = w->stride[0];
  t.w_output = w->stride[1];
  t.y_sample = dx->stride[0];
  t.y_channel = dx->stride[1];
  t.y_group = t.outputs * dx->stride[1];
  t.bias = b ? b->data : NULL;
  for (int32_t d = 0; d < g->dims; d++) {
    t.y_step[d] = dx->stride[d + 2] * g->stride[d];
    t.active.step[d] *= g->stride[d];
    t.mul[d] = 1;
    phases *= MT_MIN(g->stride[d], dx->shape[d + 2]);
  }
  mt_taps together[MT_WINOGRAD_SUMS];
  mt_conv_taps part = *list;
  const bool few = phases > 0 && phases <= MT_WINOGRAD_SUMS;
  for (int64_t k = 0; k < phases; k++) {
    int64_t phase[MT_TAPS_DIMS], rest = k, start = 0, pixel = 0;
    for (int32_t d = g->dims - 1; d >= 0; d--) {
      const int64_t n = MT_MIN(g->stride[d], dx->shape[d + 2]);
      phase[d] = rest % n;
      rest /= n;
      start += phase[d] * dx->stride[d + 2];
      pixel += phase[d] * m->valid.step[d];
      t.grid[d] = (dx->shape[d + 2] - phase[d] - 1) / g->stride[d] + 1;
    }
    t.y = (char *)dx->data + start * mt_dtype_size(dx->dtype);
    t.active.data = m->valid.data ? (const uint8_t *)m->valid.data + pixel : NULL;
    mt_conv_taps_adjoint(&part, g, w->stride + 2, phase);
    set_taps(&t, &part);
    if (few) {
      together[k] = t;
      part.offset += part.count;
      part.w += part.count;
    } else {
      MT_TRY(sum(&t, 1));
    }
  }
  return few ? sum(together, (int32_t)phases) : MT_OK;
}

// Where no pixel of dx is named, those that some active dy reaches: the others are 0. (N or 1, 1, *S), bool; a little too
// much where the dilation leaves gaps.
static int reached(mt_tensor **out, const mt_tensor *dx, const mt_tensor *active, const mt_conv *g) {
  int64_t shape[MT_MAX_DIMS];
  memcpy(shape, dx->shape, sizeof shape);
  shape[0] = active->shape[0];
  shape[1] = 1;
  MT_TRY(mt_tensor_new(out, MT_BOOL, dx->ndim, shape, NULL));
  memset((*out)->data, 0, (size_t)(*out)->numel);
  const int32_t last = active->ndim - 1, dims = g->dims;
  const int64_t columns = active->shape[last], width = shape[last];
  const int64_t rows = active->numel / MT_MAX(1, columns), outer = (*out)->numel / MT_MAX(1, width) / MT_MAX(1, shape[0]);
  for (int64_t row = 0; row < rows; row++) {
    const uint8_t *from = (const uint8_t *)active->data + mt_conv_row_offset(active, row);
    int64_t low[3] = {0, 0, 0}, high[3] = {1, 1, 1}, rest = row;  // of the axes before the last, in dx
    for (int32_t d = dims - 2; d >= 0; d--) {
      const int64_t first = rest % active->shape[d + 2] * g->stride[d] - g->pad_before[d];
      rest /= active->shape[d + 2];
      low[d] = MT_MAX(0, first);
      high[d] = MT_MIN(shape[d + 2], first + (g->kernel[d] - 1) * g->dilation[d] + 1);
    }
    for (int64_t i = 0, after; i < columns; i = after) {
      for (after = i + 1; after < columns && !from[i * active->stride[last]] == !from[after * active->stride[last]]; after++) {
      }
      if (!from[i * active->stride[last]]) {
        continue;
      }
      const int32_t e = dims - 1;
      const int64_t begin = MT_MAX(0, i * g->stride[e] - g->pad_before[e]);
      const int64_t end = MT_MIN(width, (after - 1) * g->stride[e] - g->pad_before[e] + (g->kernel[e] - 1) * g->dilation[e] + 1);
      for (int64_t a = low[0]; a < (dims > 1 ? high[0] : 1) && end > begin; a++) {
        for (int64_t b = low[1]; b < (dims > 2 ? high[1] : 1); b++) {
          const int64_t line = dims == 3 ? a * shape[3] + b : a;
          memset((uint8_t *)(*out)->data + (rest * outer + line) * width + begin, 1, (size_t)(end - begin));
        }
      }
    }
  }
  return MT_OK;
}

int mt_conv_backward_input(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *w, const mt_tensor *b, const mt_conv *g,
                           const mt_tensor *valid, const mt_tensor *active) {
  maps k;
  MT_TRY(mt_conv_check_backward_input(dx, dy, w, b, g, valid, active));
  mt_wide wide = {0};
  set_map(&k.valid, valid);
  set_map(&k.active, active);
  dy = mt_wide_input(&wide, dy);
  w = mt_wide_input(&wide, w);
  b = mt_wide_input(&wide, b);
  dx = mt_wide_output(&wide, dx);
  mt_tensor *rows = NULL, *bias = NULL, *map = NULL;
  mt_conv_taps list = {0, NULL, NULL};
  int status = wide.status ? wide.status : mt_conv_side_by_side(&rows, dy);
  if (status == MT_OK && active && !valid && !b) {
    status = reached(&map, dx, active, g);
    set_map(&k.valid, map);
  }
  status = status || !b ? status : mt_contiguous(&bias, b);
  status = status ? status : mt_conv_taps_new(&list, g);
  status = status ? status : run_backward_input(dx, rows, w, bias, g, &k, &list);
  mt_free(list.offset);
  mt_tensor_release(map);
  mt_tensor_release(bias);
  mt_tensor_release(rows);
  return mt_wide_end(&wide, status);
}

// ---- weight gradient ----------------------------------------------------------------------------------------------------

static int run_backward_weight(mt_tensor *dw, const mt_tensor *dy, const mt_tensor *x, const mt_conv *g, const maps *m,
                               mt_conv_taps *list) {
  mt_taps t = taps_over(x, dw, g);
  t.valid = m->valid;
  t.active = m->active;
  t.channels = dw->shape[1];
  t.outputs = dw->shape[0] / g->groups;
  t.w_channel = dw->stride[1];
  t.w_output = dw->stride[0];
  t.y = dy->data;
  t.y_sample = dy->stride[0];
  t.y_channel = 1;
  t.y_group = t.outputs;
  for (int32_t d = 0; d < g->dims; d++) {
    t.y_step[d] = dy->stride[d + 2];
    t.grid[d] = dy->shape[d + 2];
    t.mul[d] = g->stride[d];
  }
  mt_conv_taps_forward(list, g, dw->stride + 2);
  set_taps(&t, list);
  const bool forced = algorithm == MT_CONV_WINOGRAD;
  return algorithm != MT_CONV_DIRECT && mt_winograd_gradient_suits(&t, forced) ? mt_winograd_gradient(&t, forced) : mt_taps_gradient(&t);
}

int mt_conv_backward_weight(mt_tensor *dw, const mt_tensor *dy, const mt_tensor *x, const mt_conv *g,
                            const mt_tensor *valid, const mt_tensor *active) {
  maps k;
  MT_TRY(mt_conv_check_backward_weight(dw, dy, x, g, valid, active));
  mt_wide wide = {0};
  set_map(&k.valid, valid);
  set_map(&k.active, active);
  dy = mt_wide_input(&wide, dy);
  x = mt_wide_input(&wide, x);
  dw = mt_wide_output(&wide, dw);
  mt_tensor *rows = NULL, *gradient = NULL;
  mt_conv_taps list = {0, NULL, NULL};
  int status = wide.status ? wide.status : mt_conv_side_by_side(&rows, x);
  status = status ? status : mt_conv_side_by_side(&gradient, dy);
  status = status ? status : mt_conv_taps_new(&list, g);
  status = status ? status : run_backward_weight(dw, gradient, rows, g, &k, &list);
  mt_free(list.offset);
  mt_tensor_release(gradient);
  mt_tensor_release(rows);
  return mt_wide_end(&wide, status);
}
