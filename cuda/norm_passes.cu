// norm_passes: the passes of norm.h over all elements. See norm.cuh.
#include "norm.cuh"

// Operands: y or dx, x, mask, cell, weight; then bias or dy. A thread takes V neighbours where the memory allows it: inner[k] is
// the step of operand k among them.
enum { OPERANDS = 6, OUT = 0, X, MASK, CELL, WEIGHT, LAST };
typedef struct norm_inner { int64_t step[OPERANDS]; } norm_inner;

template <typename T, int V> struct __align__(sizeof(T) * V) pack { T v[V]; };

// S: the type of x and of the result in memory, G: that of dy; T: what is computed in.

#define EACH_PACK                                                                       \
  MT_EACH(i, walk.numel) {                                                              \
    char *p[OPERANDS];                                                                  \
    mt_walk_at(p, walk, i);                                                             \
    const pack<S, V> x = *(const pack<S, V> *)p[X];                                     \
    pack<S, V> out;
#define AT(k, type) *(const type *)(p[k] + v * inner.step[k])

// y = m ((z - mean) rstd weight + bias) with x = m z
template <typename S, typename T, int V>
static __global__ void normalise(const mt_walk walk, const norm_inner inner, const norm_pass how) {
  EACH_PACK
#pragma unroll
    for (int v = 0; v < V; v++) {
      const norm_cell *cell = &AT(CELL, norm_cell);
      const double m = how.masked ? (double)AT(MASK, T) : 1, w = how.weight ? (double)AT(WEIGHT, T) : 1;
      const double b = how.bias ? (double)AT(LAST, T) : 0;
      const double y = ((double)x.v[v] - m * cell->mean) * (cell->rstd * w) + m * b;
      out.v[v] = (S)mt_activate<T>(m == 0 ? (T)0 : (T)y, how.activation, how.a);
    }
    *(pack<S, V> *)p[OUT] = out;
  }
}

// dx = rstd (g - A - d rstd^2 B)
template <typename S, typename G, typename T, int V>
static __global__ void pull_back(const mt_walk walk, const norm_inner inner, const norm_pass how) {
  EACH_PACK
    const pack<G, V> dy = *(const pack<G, V> *)p[LAST];
#pragma unroll
    for (int v = 0; v < V; v++) {
      const norm_cell cell = AT(CELL, norm_cell);
      const double m = how.masked ? (double)AT(MASK, T) : 1, w = how.weight ? (double)AT(WEIGHT, T) : 1;
      const double y = ((double)x.v[v] - (how.compat ? 1 : m) * cell.mean) * cell.scale + (how.compat ? 1 : m) * cell.bias;
      const double scaled = norm_gated<T>((double)dy.v[v], y, how.activation, how.a) * (cell.rstd * w);
      double dx = scaled;
      if (how.statistics) {
        const double z = (double)x.v[v], d = how.compat ? m * m * (z - cell.mean) : (m == 1 ? z : z / m) - cell.mean;
        dx = scaled - cell.offset - d * cell.slope;
      }
      out.v[v] = (S)(m == 0 && !how.compat ? (T)0 : (T)dx);
    }
    *(pack<S, V> *)p[OUT] = out;
  }
}

// Operands: the gradient before the activation, that behind it, x, mask, cell, weight, bias.
template <typename T> static __global__ void gate(const mt_walk walk, const norm_pass how) {
  MT_EACH(i, walk.numel) {
    char *p[7];
    mt_walk_at(p, walk, i);
    const norm_cell *cell = (const norm_cell *)p[4];
    const double m = how.masked ? (double)*(const T *)p[3] : 1, w = how.weight ? (double)*(const T *)p[5] : 1;
    const double b = how.bias ? (double)*(const T *)p[6] : 0;
    const double y = ((double)mt_walk_load(walk, 2, (const T *)p[2]) - m * cell->mean) * (cell->rstd * w) + m * b;
    *(T *)p[0] = (T)norm_gated<T>((double)mt_walk_load(walk, 1, (const T *)p[1]), y, how.activation, how.a);
  }
}

// weight or bias at x's dims; NULL: one element that nobody reads.
static mt_tensor spread(const mt_tensor *v, const mt_tensor *x, int32_t first) {
  mt_tensor view = *x;
  view.dtype = v == NULL ? x->dtype : v->dtype;
  for (int32_t d = 0; d < x->ndim; d++) {
    const bool there = v != NULL && d >= first && d < first + v->ndim;
    view.shape[d] = there ? v->shape[d - first] : 1;
    view.stride[d] = there ? v->stride[d - first] : 0;
  }
  view.data = v == NULL ? x->data : v->data;
  return view;
}

// Sixteen bytes at a time: operands that are moved as packs are those with `packed` set.
static int pack_of(const mt_walk *walk, const bool *packed, int64_t size) {
  const int64_t pack = 16 / size;
  if (walk->shape[0] % pack != 0) {
    return 1;
  }
  for (int k = 0; k < OPERANDS; k++) {
    if (!packed[k]) {
      continue;
    }
    bool fits = walk->step[k][0] == size && (uintptr_t)walk->base[k] % 16 == 0;
    for (int32_t d = 1; d < walk->ndim; d++) {
      fits = fits && walk->step[k][d] % 16 == 0;
    }
    if (!fits) {
      return 1;
    }
  }
  return (int)pack;
}

// The walk of packs of `pack` elements.
static void widen(mt_walk *walk, norm_inner *inner, int pack) {
  for (int k = 0; k < OPERANDS; k++) {
    inner->step[k] = walk->step[k][0];
    walk->step[k][0] *= pack;
  }
  walk->numel /= pack;
  walk->shape[0] /= pack;
  if (walk->narrow) {
    walk->by[0] = mt_divisor_of(walk->shape[0]);
  }
}

static int run(norm_problem *p, mt_tensor *out, const mt_tensor *last, bool is_backward, const norm_pass &how) {
  mt_walk walk;
  norm_inner inner;
  const mt_tensor weight = spread(p->weight, p->x, p->first);
  const mt_tensor none = spread(NULL, p->x, 0);
  const mt_tensor *const t[OPERANDS] = {out, p->x, how.masked ? p->mask : &none, &p->cell_view, &weight, last};
  const bool packed[OPERANDS] = {true, true, false, false, false, is_backward};
  if (out->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_walk_plan(&walk, OPERANDS, t));
  const int64_t size = mt_dtype_size(out->dtype);
  const int pack = pack_of(&walk, packed, size);
  widen(&walk, &inner, pack);
  const unsigned grid = mt_grid(p->device, walk.numel);
#define GO(S, T, V)                                                                          \
  if (is_backward) {                                                                         \
    MT_LAUNCH(p->device, (pull_back<S, S, T, V>), grid, MT_BLOCK, 0, walk, inner, how);      \
  } else {                                                                                   \
    MT_LAUNCH(p->device, (normalise<S, T, V>), grid, MT_BLOCK, 0, walk, inner, how);         \
  }
  if (size == 2 && is_backward && last->dtype == MT_FLOAT32) {  // a gradient that norm_gate made
    MT_LAUNCH(p->device, (pull_back<mt_bf16, float, float, 1>), grid, MT_BLOCK, 0, walk, inner, how);
  } else if (size == 2 && pack == 8) {
    GO(mt_bf16, float, 8)
  } else if (size == 2) {
    GO(mt_bf16, float, 1)
  } else if (size == 4 && pack == 4) {
    GO(float, float, 4)
  } else if (size == 4) {
    GO(float, float, 1)
  } else if (pack == 2) {
    GO(double, double, 2)
  } else {
    GO(double, double, 1)
  }
  return MT_OK;
}

int norm_normalise(norm_problem *p, mt_tensor *y, bool masked) {
  const norm_pass how = {masked, 0, 0, p->weight != NULL, p->bias != NULL, p->activation, p->a};
  const mt_tensor bias = spread(p->bias, p->x, p->first);
  return run(p, y, &bias, false, how);
}

int norm_pull_back(norm_problem *p, mt_tensor *dx, const mt_tensor *dy, bool masked, bool compat, bool statistics) {
  const norm_pass how = {masked, compat, statistics, p->weight != NULL, 0, p->activation, p->a};
  return run(p, dx, dy, true, how);
}

int norm_gate(norm_problem *p, const mt_tensor **dy, bool masked) {
  const norm_pass how = {masked, 0, 0, p->weight != NULL, p->bias != NULL, p->activation, p->a};
  const mt_tensor weight = spread(p->weight, p->x, p->first), bias = spread(p->bias, p->x, p->first), none = spread(NULL, p->x, 0);
  mt_walk walk;
  if (p->activation == MT_ACTIVATION_IDENTITY || p->x->numel == 0) {
    return MT_OK;
  }
  p->gated = *p->x;
  p->gated.dtype = mt_computed(p->x->dtype);
  MT_TRY(p->gate_table.take(p->device, p->x->numel, mt_dtype_size(p->gated.dtype)));
  mt_row_major(p->gated.stride, p->x->ndim, p->x->shape);
  p->gated.data = p->gate_table.data;
  const mt_tensor *const t[] = {&p->gated, *dy, p->x, masked ? p->mask : &none, &p->cell_view, &weight, &bias};
  MT_TRY(mt_walk_plan(&walk, 7, t));
  const unsigned grid = mt_grid(p->device, walk.numel);
  if (p->x->dtype != MT_FLOAT64) {
    MT_LAUNCH(p->device, gate<float>, grid, MT_BLOCK, 0, walk, how);
  } else {
    MT_LAUNCH(p->device, gate<double>, grid, MT_BLOCK, 0, walk, how);
  }
  p->activation = MT_ACTIVATION_IDENTITY;
  *dy = &p->gated;
  return MT_OK;
}
