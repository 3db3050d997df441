// norm_sums: the sums of norm.h and the statistics made of them. See norm.cuh; the formulas are those of core/norm_rows.c.
#include "norm.cuh"

// Operands of every term: x, mask, cell, dy, weight.
enum { X, MASK, CELL, DY, WEIGHT };
#define TERM(name, width, holes, ...)                                                   \
  template <typename T> struct norm_##name {                                            \
    enum { WIDTH = width };                                                             \
    int32_t masked, weighted, activation, bf16;                                         \
    double a;                                                                           \
    __device__ __forceinline__ void operator()(double *sum, const char *const *p) const { \
      const double m = masked ? (double)*(const T *)p[MASK] : 1;                        \
      if (m == 0 && !(holes)) {                                                         \
        return;                                                                         \
      }                                                                                 \
      __VA_ARGS__                                                                       \
    }                                                                                   \
  };
// Kernels of float32 take bfloat16 too: bit k of `bf16` tells operand k's type.
MT_DEVICE double number(int32_t, int, const double *p) { return *p; }
MT_DEVICE double number(int32_t bf16, int k, const float *p) {
  return bf16 >> k & 1 ? (double)mt_bf16_value(*(const uint16_t *)p) : (double)*p;
}
#define VALUE const double x = number(bf16, X, (const T *)p[X]);
#define DEVIATION                                       \
  VALUE                                                 \
  const norm_cell *cell = (const norm_cell *)p[CELL];   \
  const double e = x - m * cell->mean;
#define GRADIENT                                                                                              \
  const double dy = norm_gated<T>(number(bf16, DY, (const T *)p[DY]), e * cell->scale + m * cell->bias, activation, a);

TERM(moments, 4, false, VALUE sum[0] += m; sum[1] += m * m; sum[2] += x; sum[3] += m == 1 ? x * x : x * x / m;)
TERM(power, 3, false, VALUE sum[0] += m; sum[1] += m * m; sum[2] += m == 1 ? x * x : x * x / m;)
TERM(squares, 1, false, DEVIATION sum[0] += m == 1 ? e * e : e * e / m;)
TERM(gradients, 2, false, DEVIATION GRADIENT const double g = weighted ? dy * (double)*(const T *)p[WEIGHT] : dy;
     sum[0] += g * m; sum[1] += g * e;)
TERM(parameters, 2, false, DEVIATION GRADIENT sum[0] += dy * m; sum[1] += dy * (e * cell->rstd);)
TERM(compat_moments, 3, true, VALUE sum[0] += m; sum[2] += x;)
TERM(compat_squares, 1, true, VALUE const double e = (x - ((const norm_cell *)p[CELL])->mean) * m; sum[0] += e * e;)
TERM(compat_skew, 1, true, VALUE sum[0] += m * m * (x - ((const norm_cell *)p[CELL])->mean);)

int norm_open(norm_problem *p, const mt_tensor *x, const mt_tensor *mask, int32_t kept, int64_t members) {
  p->x = x;
  p->mask = mask;
  p->weight = p->bias = NULL;
  p->first = 0;
  p->activation = MT_ACTIVATION_IDENTITY;
  p->a = 0;
  p->cells = 1;
  p->members = members;
  memset(&p->cell_view, 0, sizeof p->cell_view);
  p->cell_view.dtype = MT_FLOAT64;
  p->cell_view.ndim = x->ndim;
  p->cell_view.numel = 1;
  for (int32_t d = x->ndim - 1; d >= 0; d--) {
    p->kept[d] = kept < 0 ? d == 1 : d < kept;
    p->cell_view.shape[d] = p->kept[d] ? x->shape[d] : 1;
    p->cell_view.stride[d] = p->cells * (int64_t)(sizeof(norm_cell) / sizeof(double));
    p->cells *= p->cell_view.shape[d];
  }
  p->groups = p->cells / members;
  MT_TRY(mt_enter(&p->device, x));
  MT_TRY(p->cell_table.take(p->device, MT_MAX(1, p->cells), sizeof(norm_cell)));
  MT_TRY(p->sum_table.take(p->device, MT_MAX(1, p->cells), MT_SUMS_WIDTH * sizeof(double)));
  MT_TRY(p->group_table.take(p->device, MT_MAX(1, p->groups), sizeof(norm_moment)));
  p->cell = (norm_cell *)p->cell_table.data;
  p->sums = (double *)p->sum_table.data;
  p->group = (norm_moment *)p->group_table.data;
  p->cell_view.data = p->cell;
  return MT_OK;
}

void norm_set_activation(norm_problem *p, int32_t activation, double a) {
  p->activation = activation;
  p->a = p->x->dtype != MT_FLOAT64 ? (double)(float)a : a;
}

template <template <typename> class Term>
static int run(norm_problem *p, double *sums, const bool *kept, bool masked, const mt_tensor *dy, const mt_tensor *weight) {
  mt_sums_plan plan;
  mt_tensor spread;
  const mt_tensor *t[MT_SUMS_OPERANDS] = {p->x, masked ? p->mask : NULL, &p->cell_view, dy, NULL};
  if (weight != NULL) {  // at x's dims
    spread = *p->x;
    spread.dtype = weight->dtype;
    spread.data = weight->data;
    for (int32_t d = 0; d < p->x->ndim; d++) {
      const bool there = d >= p->first && d < p->first + weight->ndim;
      spread.shape[d] = there ? weight->shape[d - p->first] : 1;
      spread.stride[d] = there ? weight->stride[d - p->first] : 0;
    }
    t[WEIGHT] = &spread;
  }
  mt_sums_make(&plan, t, kept);
  if (p->x->dtype != MT_FLOAT64) {
    const int32_t bf16 = (p->x->dtype == MT_BFLOAT16) << X | (dy != NULL && dy->dtype == MT_BFLOAT16) << DY;
    const Term<float> term = {masked, weight != NULL, p->activation, bf16, p->a};
    return mt_sums_run(p->device, sums, &plan, term);
  }
  const Term<double> term = {masked, weight != NULL, p->activation, 0, p->a};
  return mt_sums_run(p->device, sums, &plan, term);
}

int norm_sum_gradients(norm_problem *p, const mt_tensor *dy, bool masked, const mt_tensor *weight) {
  return run<norm_gradients>(p, p->sums, p->kept, masked, dy, weight);
}

int norm_sum_skew(norm_problem *p) { return run<norm_compat_skew>(p, p->sums, p->kept, true, NULL, NULL); }

int norm_sum_parameters(norm_problem *p, double *sums, const mt_tensor *dy) {
  bool others[MT_MAX_DIMS];
  for (int32_t d = 0; d < p->x->ndim; d++) {
    others[d] = !p->kept[d];
  }
  return run<norm_parameters>(p, sums, others, p->mask != NULL, dy, NULL);
}

// ---- statistics ---------------------------------------------------------------------------------------------------------------

typedef struct statistics_job {
  const double *sums;
  norm_cell *cell;
  norm_moment *group;
  double *stats;
  int64_t cells, members, groups;
  double count, repeats, eps;      // count: elements of a group, without a mask
  int32_t masked, compat, rms, once, second, unused;
} statistics_job;

MT_DEVICE double group_sum(const statistics_job &j, int64_t group, int w) {
  double sum = 0;
  for (int64_t k = group * j.members; k < (group + 1) * j.members; k++) {
    sum += j.sums[w * j.cells + k];
  }
  return sum;
}

MT_DEVICE double ratio(double sum, double n, bool compat) { return n == 0 && !compat ? 0 : sum / n; }

// From sums to moments: `once` and rms at once; otherwise first the mean, then (second) the variance.
static __global__ void finish_moments(const statistics_job j) {
  MT_EACH(g, j.groups) {
    norm_moment s = j.group[g];
    if (j.second) {
      s.variance = ratio(group_sum(j, g, 0), s.n, j.compat);
    } else {
      s.n = j.masked ? group_sum(j, g, 0) / j.repeats : j.count;
      s.squares = j.masked ? group_sum(j, g, 1) : j.count;
      const double average = ratio(group_sum(j, g, 2), s.n, j.compat);
      s.mean = j.rms ? 0 : average;
      s.variance = j.rms ? average : 0;
      if (j.once) {
        // Squares of float32 values are exact in double, and its 53 bits leave enough after the subtraction: one pass will do.
        const double variance = ratio(group_sum(j, g, 3), s.n, false) - s.mean * s.mean;
        s.variance = variance > 0 || variance != variance ? variance : 0;
      }
    }
    const double rstd = s.n == 0 && !j.compat ? 0 : 1 / sqrt(s.variance + j.eps);
    j.group[g] = s;
    j.stats[g * 3] = s.mean;
    j.stats[g * 3 + 1] = rstd;
    j.stats[g * 3 + 2] = s.n;
    for (int64_t k = g * j.members; k < (g + 1) * j.members; k++) {
      j.cell[k] = norm_cell{s.mean, rstd, 0, 0, 0, 0};
    }
  }
}

int norm_statistics(norm_problem *p, mt_tensor *stats, double eps, bool rms, bool compat) {
  statistics_job j;
  const bool masked = p->mask != NULL, once = p->x->dtype != MT_FLOAT64 && !compat && !rms;
  if (p->groups == 0) {
    return MT_OK;
  }
  memset(&j, 0, sizeof j);
  j.sums = p->sums;
  j.cell = p->cell;
  j.group = p->group;
  j.stats = (double *)stats->data;
  j.cells = p->cells;
  j.members = p->members;
  j.groups = p->groups;
  j.count = (double)(p->x->numel / p->groups);
  // masked_torch counts a mask of batch 1 once, however many samples it serves.
  j.repeats = compat && p->mask->shape[0] == 1 ? (double)p->x->shape[0] : 1;
  j.eps = eps;
  j.masked = masked;
  j.compat = compat;
  j.rms = rms;
  j.once = once;
  MT_TRY(compat ? run<norm_compat_moments>(p, p->sums, p->kept, masked, NULL, NULL)
         : rms  ? run<norm_power>(p, p->sums, p->kept, masked, NULL, NULL)
                : run<norm_moments>(p, p->sums, p->kept, masked, NULL, NULL));
  MT_LAUNCH(p->device, finish_moments, mt_grid(p->device, p->groups), MT_BLOCK, 0, j);
  if (!rms && !once) {
    MT_TRY(compat ? run<norm_compat_squares>(p, p->sums, p->kept, masked, NULL, NULL)
                  : run<norm_squares>(p, p->sums, p->kept, masked, NULL, NULL));
    j.second = 1;
    MT_LAUNCH(p->device, finish_moments, mt_grid(p->device, p->groups), MT_BLOCK, 0, j);
  }
  return MT_OK;
}
