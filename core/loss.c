// loss: cross-entropy and negative log-likelihood over classes; see loss.h. A line of logits is read from memory once: its maximum,
// then, while it is near, the sum of its exponentials.
#ifdef REAL

// ---- a line of logits, its classes side by side ----------------------------------------------------------------------

// The largest value, NaN where there is one.
MT_CLONES static REAL FN(largest)(const REAL *x, int64_t n) {
  REAL most[LANES], all = -INFINITY;
  int32_t bad[LANES] = {0};
  int64_t i = 0;
  for (int k = 0; k < LANES; k++) most[k] = -INFINITY;
  for (; i + LANES <= n; i += LANES) {
    for (int k = 0; k < LANES; k++) {
      most[k] = x[i + k] > most[k] ? x[i + k] : most[k];
      bad[k] |= x[i + k] != x[i + k];
    }
  }
  for (int k = 0; i < n; i++, k++) {
    most[k] = x[i] > most[k] ? x[i] : most[k];
    bad[k] |= x[i] != x[i];
  }
  for (int k = 0; k < LANES; k++) {
    all = bad[k] || all != all ? (REAL)NAN : most[k] > all ? most[k] : all;
  }
  return all;
}

// e = exp(x - shift); returns the sum, in lanes. e may be NULL, or x. Meanwhile the n values at `next` are fetched, if any.
MT_CLONES static double FN(exponentials)(REAL *e, const REAL *x, REAL shift, int64_t n, const REAL *next) {
  double sum = 0;
  for (int64_t i0 = 0; i0 < n; i0 += BLOCK) {
    REAL lane[LANES] = {0}, out[BLOCK];
    const int64_t count = MT_MIN(n - i0, (int64_t)BLOCK), whole = count / LANES * LANES;
    REAL *to = e ? e + i0 : out;
    for (int64_t i = 0; next && i < count; i += 64 / (int64_t)sizeof(REAL)) __builtin_prefetch(next + i0 + i);
    _Pragma("GCC ivdep") for (int64_t i = 0; i < count; i++) to[i] = FN(mt_quick_exp)(x[i0 + i] - shift);
    for (int64_t i = 0; i < whole; i += LANES) {
      for (int k = 0; k < LANES; k++) lane[k] += to[i + k];
    }
    for (int64_t i = whole; i < count; i++) lane[i - whole] += to[i];
    double part = 0;
    for (int k = 0; k < LANES; k++) part += (double)lane[k];
    sum += part;
  }
  return sum;
}

MT_CLONES static void FN(scale)(REAL *g, REAL factor, int64_t n) {
  for (int64_t i = 0; i < n; i++) g[i] *= factor;
}

// g = exp(x - shift) factor; g may be x.
MT_CLONES static void FN(shares)(REAL *g, const REAL *x, REAL shift, REAL factor, int64_t n) {
  _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++) g[i] = FN(mt_quick_exp)(x[i] - shift) * factor;
}

MT_CLONES static bool FN(contains)(const REAL *x, REAL value, int64_t n) {
  int32_t found = 0;
  for (int64_t i = 0; i < n; i++) found |= x[i] == value;
  return found;
}

// Whether argmax is class t: the first NaN, or the first of the largest.
static bool FN(is_best)(const REAL *x, REAL largest, int64_t t) {
  if (largest == largest) {
    return x[t] == largest && !FN(contains)(x, largest, t);
  }
  for (int64_t c = 0; c < t; c++) {
    if (x[c] != x[c]) {
      return false;
    }
  }
  return x[t] != x[t];
}

// ---- positions ---------------------------------------------------------------------------------------------------------

// What target and mask say about a position.
static place FN(place_at)(job *j, int64_t o) {
  place p = {.m = 1, .w = 1};
  int64_t at, unused;
  if (j->mask_data) {
    mt_reduction_output(&j->mask, o, &at, &unused);
    p.m = (double)((const REAL *)j->mask_data)[at];
  }
  if (p.m == 0) {
    return p;
  }
  mt_reduction_output(&j->target, o, &at, &unused);
  if (!j->labels) {
    p.probabilities = (const REAL *)j->target_data + at;
    p.counts = true;
    return p;
  }
  const int64_t label = label_at(j, at);
  if (j->options->ignore && label == j->options->ignore_index) {
    return p;
  }
  if (label < 1 || label > j->x.length) {
    report(j, o);
    return p;
  }
  p.label = label - 1;
  p.w = j->weight ? (double)((const REAL *)j->weight)[p.label * j->weight_step] : 1;
  p.counts = true;
  return p;
}

// q[c], the weight of -log p[c] in the term.
static inline double FN(share)(const job *j, const place *p, int64_t c) {
  const REAL *probabilities = p->probabilities;
  const double w = j->weight ? (double)((const REAL *)j->weight)[c * j->weight_step] : 1;
  const double e = j->options->label_smoothing, one = probabilities ? (double)probabilities[c * j->target.stride] : c == p->label;
  return w * ((1 - e) * one + e / (double)j->x.length);
}

static inline bool FN(is_plain)(const job *j, const place *p) {
  return p->probabilities == NULL && j->options->label_smoothing == 0;
}

// ---- forward -----------------------------------------------------------------------------------------------------------

// factor d(term)/dx into g, which holds exp(x - largest) where `plain`; otherwise g and x may be the same.
static void FN(gradient_of_line)(const job *j, const place *p, REAL *g, const REAL *x, double largest, double sum, double factor,
                                 bool stored) {
  const int64_t n = j->x.length;
  if (FN(is_plain)(j, p)) {
    const double share = p->w * factor;
    const double own = stored ? (double)g[p->label] : (double)FN(mt_quick_exp)(x[p->label] - (REAL)largest);
    if (stored) {
      FN(scale)(g, (REAL)(share / sum), n);
    } else {
      FN(shares)(g, x, (REAL)largest, (REAL)(share / sum), n);
    }
    g[p->label] = (REAL)((own / sum - 1) * share);
    return;
  }
  double all = 0;
  for (int64_t c = 0; c < n; c++) all += FN(share)(j, p, c);
  for (int64_t c = 0; c < n; c++) {
    const double e = (double)FN(mt_quick_exp)(x[c] - (REAL)largest);
    g[c] = (REAL)(factor * (all * e / sum - FN(share)(j, p, c)));
  }
}

static void FN(forward_line)(job *j, int64_t o, const REAL *x, REAL *g, const REAL *next) {
  const place p = FN(place_at)(j, o);
  const int64_t n = j->x.length;
  double *out = &j->out[3 * o], *state = j->state ? &j->state[2 * o] : NULL;
  out[TERM] = out[WEIGHT] = out[HIT] = 0;
  if (!p.counts) {
    if (g) memset(g, 0, sizeof(REAL) * (size_t)n);
    return;
  }
  out[WEIGHT] = p.m * p.w;
  if (!j->options->logits) {
    out[TERM] = p.w == 0 ? 0 : -p.m * p.w * (double)x[p.label];
    return;
  }
  const bool plain = FN(is_plain)(j, &p);
  const REAL largest = FN(largest)(x, n);
  out[HIT] = j->hits && FN(is_best)(x, largest, p.label);
  const double own = plain ? (double)x[p.label] : 0, factor = p.m * j->factor;
  const bool flat = factor == 0 || (plain && p.w == 0);
  const double sum = FN(exponentials)(plain && !flat ? g : NULL, x, largest, n, next), lse = (double)largest + log(sum);
  double term = 0;
  if (plain) {
    term = p.w == 0 ? 0 : p.w * (lse - own);
  } else {
    for (int64_t c = 0; c < n; c++) {
      const double q = FN(share)(j, &p, c);
      term += q == 0 ? 0 : q * (lse - (double)x[c]);
    }
  }
  out[TERM] = p.m * term;
  if (state) {
    state[0] = (double)largest;
    state[1] = sum;
  }
  if (g && flat) {
    memset(g, 0, sizeof(REAL) * (size_t)n);
  } else if (g) {
    FN(gradient_of_line)(j, &p, g, x, (double)largest, sum, factor, plain);
  }
}

// ---- backward ----------------------------------------------------------------------------------------------------------

static void FN(backward_line)(job *j, int64_t o, const REAL *x, REAL *g) {
  const place p = FN(place_at)(j, o);
  int64_t at = 0, unused;
  if (j->options->reduction == MT_LOSS_NONE) {
    mt_reduction_output(&j->dy, o, &at, &unused);
  }
  const double factor = p.m * j->factor * (double)((const REAL *)j->dy_data)[at];
  if (!p.counts || factor == 0 || (FN(is_plain)(j, &p) && p.w == 0)) {
    memset(g, 0, sizeof(REAL) * (size_t)j->x.length);
  } else if (j->options->logits) {
    FN(gradient_of_line)(j, &p, g, x, j->state[2 * o], j->state[2 * o + 1], factor, false);
  } else {
    memset(g, 0, sizeof(REAL) * (size_t)j->x.length);
    g[p.label] = (REAL)(-p.w * factor);
  }
}

// ---- lines from memory and back ------------------------------------------------------------------------------------------

// Where classes are not neighbours, a few positions at a time are copied side by side: then memory is read in whole lines.
static void FN(lines_task)(void *context, int64_t begin, int64_t end) {
  job *j = context;
  const int64_t n = j->x.length;
  const bool copies = j->x.stride != 1, writes = j->gradient_data != NULL, copies_back = writes && j->gradient.stride != 1;
  const int64_t few = copies || copies_back ? MT_MAX(1, MT_MIN(FEW, TILE / MT_MAX(1, n))) : 1;
  REAL *tile = NULL, *back = NULL;
  if ((copies && (tile = mt_alloc_array(few * n, sizeof(REAL))) == NULL) ||
      (copies_back && (back = mt_alloc_array(few * n, sizeof(REAL))) == NULL)) {
    __atomic_store_n(&j->status, MT_ERROR_MEMORY, __ATOMIC_RELAXED);
    mt_free(tile);
    return;
  }
  int64_t in_x[FEW], in_g[FEW] = {0}, unused;
  for (int64_t o = begin; o < end; o += few) {
    const int64_t count = MT_MIN(few, end - o);
    for (int64_t i = 0; i < count; i++) {
      mt_reduction_output(&j->x, o + i, &in_x[i], &unused);
      if (writes) mt_reduction_output(&j->gradient, o + i, &in_g[i], &unused);
    }
    for (int64_t c = 0; copies && c < n; c++) {
      for (int64_t i = 0; i < count; i++) tile[i * n + c] = ((const REAL *)j->x_data)[in_x[i] + c * j->x.stride];
    }
    for (int64_t i = 0; i < count; i++) {
      const REAL *x = copies ? tile + i * n : (const REAL *)j->x_data + in_x[i];
      const REAL *next = !copies && o + i + 1 < end ? x + j->x_next : NULL;
      REAL *g = copies_back ? back + i * n : writes ? (REAL *)j->gradient_data + in_g[i] : NULL;
      if (j->dy_data) {
        FN(backward_line)(j, o + i, x, g);
      } else {
        FN(forward_line)(j, o + i, x, g, next);
      }
    }
    for (int64_t c = 0; copies_back && c < n; c++) {
      for (int64_t i = 0; i < count; i++) ((REAL *)j->gradient_data)[in_g[i] + c * j->gradient.stride] = back[i * n + c];
    }
  }
  mt_free(back);
  mt_free(tile);
}

static void FN(weights)(job *j, mt_total *total) {
  for (int64_t o = 0; o < j->x.outputs; o++) {
    const place p = FN(place_at)(j, o);
    mt_total_add(total, p.counts ? p.m * p.w : 0);
  }
}

static void FN(scale_row)(char *const *p, const int64_t *step, int64_t n, const void *context) {
  (void)context;
  for (int64_t i = 0; i < n; i++) {
    REAL *g = (REAL *)(p[0] + i * step[0]);
    *g = *g == 0 ? 0 : *g * *(const REAL *)(p[1] + i * step[1]);
  }
}

#else
#include "loop.h"
#include "reduce_plan.h"
#include "vector_math.h"

enum {
  LANES = 16,
  BLOCK = 256,      // exponentials summed in their own type before they go on in double
  FEW = 16,         // positions copied side by side,
  TILE = 1 << 16,   // at most so many values
  TERM = 0, WEIGHT = 1, HIT = 2,
};

typedef struct {
  mt_reduction x, gradient, target, mask, dy;
  const void *x_data, *target_data, *mask_data, *weight, *dy_data;  // dy_data: backward
  void *gradient_data;
  int64_t weight_step;
  const mt_loss_classes *options;
  bool labels, narrow, hits;  // narrow: int32 labels
  int64_t x_next;             // about where the next position's logits begin
  double factor;              // of all gradients: 1 / total for the mean
  double *out, *state;        // of every position: term, weight, hit; the largest logit, the sum of exponentials
  int64_t bad;                // the first position with a label out of range
  int status;
} job;

typedef struct {
  double m, w;                // mask, weight of the label
  int64_t label;              // from 0
  const void *probabilities;  // or NULL
  bool counts;
} place;

static inline int64_t label_at(const job *j, int64_t i) {
  return j->narrow ? ((const int32_t *)j->target_data)[i] : ((const int64_t *)j->target_data)[i];
}

static void report(job *j, int64_t position) {
  int64_t first = __atomic_load_n(&j->bad, __ATOMIC_RELAXED);
  while (position < first &&
         !__atomic_compare_exchange_n(&j->bad, &first, position, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
}

#define MT_SOURCE "loss.c"
#include "twice.h"

// The shape of the positions: x's without the classes.
static int32_t positions_of(int64_t *shape, const mt_tensor *x) {
  int32_t n = 0;
  for (int32_t d = 0; d < x->ndim; d++) {
    if (d != (x->ndim > 1)) {
      shape[n++] = x->shape[d];
    }
  }
  return n;
}

// t, of the positions' shape, with a size 1 at the classes' place.
static mt_tensor with_classes(const mt_tensor *t, const mt_tensor *x) {
  mt_tensor wide = *t;
  const int32_t at = x->ndim > 1;
  wide.ndim = x->ndim;
  for (int32_t d = 0, k = 0; d < x->ndim; d++) {
    wide.shape[d] = d == at ? 1 : t->shape[k];
    wide.stride[d] = d == at ? 1 : t->stride[k];
    k += d != at;
  }
  return wide;
}

static int check_label(const char *op, const job *j, const mt_tensor *target) {
  char text[MT_TEXT];
  int64_t position[MT_MAX_DIMS], rest = j->bad, in_target, unused;
  if (j->bad == INT64_MAX) {
    return MT_OK;
  }
  for (int32_t d = target->ndim - 1; d >= 0; d--) {
    position[d] = rest % target->shape[d] + 1;
    rest /= target->shape[d];
  }
  mt_reduction_output(&j->target, j->bad, &in_target, &unused);
  return mt_fail(MT_ERROR_ARGUMENT, "%s: target: label %lld at position %s is outside 1..%lld (labels are 1-based)", op,
                 (long long)label_at(j, in_target), mt_sizes_text(text, target->ndim, position), (long long)j->x.length);
}

static int plan_target(const char *op, job *j, const mt_tensor *x, const mt_tensor *target, int32_t dims) {
  int64_t shape[MT_MAX_DIMS];
  const int32_t n = positions_of(shape, x);
  MT_TRY(mt_check_tensor(op, "target", target));
  j->target_data = target->data;
  if (target->dtype == x->dtype && target->ndim == x->ndim && j->options->logits) {
    MT_TRY(mt_check_shape(op, "target", target, x->ndim, x->shape));
    if (j->options->ignore) {
      return mt_fail(MT_ERROR_ARGUMENT, "%s: ignore_index: has no meaning for a target of probabilities", op);
    }
    return mt_reduction_plan(op, &j->target, NULL, target, dims, false);
  }
  if (target->dtype != MT_INT64 && target->dtype != MT_INT32) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: target: expected int64 labels%s%s, got %s", op,
                   j->options->logits ? " or probabilities like the input " : "", j->options->logits ? MT_SHAPE(x) : "",
                   MT_SHAPE(target));
  }
  MT_TRY(mt_check_shape(op, "target", target, n, shape));
  j->labels = true;
  j->narrow = target->dtype == MT_INT32;
  const mt_tensor wide = with_classes(target, x);
  return mt_reduction_plan(op, &j->target, NULL, &wide, dims, false);
}

static int plan_mask(const char *op, job *j, const mt_tensor *x, const mt_tensor *mask, int32_t dims) {
  mt_tensor one_class = *x, wide;
  one_class.shape[x->ndim > 1] = 1;
  one_class.numel = j->x.outputs;
  MT_TRY(mt_reduction_expand(op, "mask", &wide, mask, &one_class));
  j->mask_data = mask->data;
  return mt_reduction_plan(op, &j->mask, NULL, &wide, dims, false);
}

static void store_scalar(mt_tensor *y, double value) {
  if (y->dtype == MT_FLOAT32) {
    *(float *)y->data = (float)value;
  } else {
    *(double *)y->data = value;
  }
}

// What forward and backward have in common.
static int plan(const char *op, job *j, const mt_tensor *x, const mt_tensor *target, const mt_tensor *weight, const mt_tensor *mask,
                int32_t dims) {
  MT_TRY(mt_reduction_plan(op, &j->x, NULL, x, dims, false));
  MT_TRY(plan_target(op, j, x, target, dims));
  if (weight) {
    MT_TRY(mt_check_dtype(op, "weight", weight, x->dtype));
    MT_TRY(mt_check_shape(op, "weight", weight, 1, &j->x.length));
    j->weight = weight->data;
    j->weight_step = weight->stride[0];
  }
  j->x_data = x->data;
  return mask ? plan_mask(op, j, x, mask, dims) : MT_OK;
}

static int plan_gradient(const char *op, job *j, const mt_tensor *gradient, const mt_tensor *x, int32_t dims) {
  MT_TRY(mt_check_like(op, "gradient", gradient, x));
  MT_TRY(mt_check_output(op, "gradient", gradient));
  MT_TRY(mt_check_overlap(op, gradient, x, true));
  j->gradient_data = gradient->data;
  return mt_reduction_plan(op, &j->gradient, NULL, gradient, dims, false);
}

static int check_input(const char *op, const mt_tensor *x, const mt_loss_classes *options) {
  if (options == NULL) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: options: expected a value, got nil", op);
  }
  MT_TRY(mt_check_real(op, "input", x));
  if (x->ndim < 1) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: input: expected (C) or (N, C, ...), got %s", op, MT_SHAPE(x));
  }
  if (!(options->label_smoothing >= 0 && options->label_smoothing <= 1)) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: label_smoothing: expected 0 to 1, got %g", op, options->label_smoothing);
  }
  return MT_OK;
}

static int check_state(const char *op, const mt_tensor *state, const mt_reduction *x) {
  MT_TRY(mt_check_dtype(op, "state", state, MT_FLOAT64));
  MT_TRY(mt_check_shape(op, "state", state, 2, (const int64_t[]){x->outputs, 2}));
  if (!mt_tensor_is_contiguous(state)) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: state: expected a contiguous tensor, got %s", op, MT_SHAPE(state));
  }
  return MT_OK;
}

static int run_lines(job *j, int32_t dtype) {
  const int64_t grain = mt_reduction_grain(&j->x);
  j->x_next = j->x.kept > 0 ? j->x.kept_stride[j->x.kept - 1] : 0;
  const int status = mt_parallel(j->x.outputs, MT_MAX(grain, j->x.stride != 1 ? FEW : 4), MT_REAL_FN(dtype, lines_task), j);
  return status != MT_OK ? status : j->status;
}

// Gradients in place need the sum of weights before anything is written, and all labels right.
static int weigh(const char *op, job *j, const mt_tensor *x, const mt_tensor *target) {
  mt_total weights = {0, 0};
  MT_REAL_CALL(x->dtype, weights, j, &weights);
  MT_TRY(check_label(op, j, target));
  j->factor = j->options->reduction == MT_LOSS_MEAN ? 1 / mt_total_value(&weights) : 1;
  return MT_OK;
}

static int finish(job *j, mt_tensor *y, mt_tensor *hits, mt_tensor *total, const mt_tensor *x, int32_t dims) {
  mt_total terms = {0, 0}, weights = {0, 0};
  int64_t found = 0;
  for (int64_t o = 0; o < j->x.outputs; o++) {
    mt_total_add(&terms, j->out[3 * o + TERM]);
    mt_total_add(&weights, j->out[3 * o + WEIGHT]);
    found += j->out[3 * o + HIT] != 0;
    j->out[o] = j->out[3 * o + TERM];  // the terms alone, packed
  }
  *(double *)total->data = mt_total_value(&weights);
  if (hits) {
    *(int64_t *)hits->data = found;
  }
  if (j->options->reduction != MT_LOSS_NONE) {
    const double sum = mt_total_value(&terms);
    store_scalar(y, j->options->reduction == MT_LOSS_SUM ? sum : sum / mt_total_value(&weights));
    return MT_OK;
  }
  mt_reduction none;
  const mt_tensor wide = with_classes(y, x);
  MT_TRY(mt_reduction_plan("cross_entropy", &none, &wide, x, dims, false));
  mt_reduction_store(&none, y, j->out);
  return MT_OK;
}

int mt_loss_classes_forward(mt_tensor *y, mt_tensor *hits, mt_tensor *state, mt_tensor *gradient, mt_tensor *total, const mt_tensor *x,
                            const mt_tensor *target, const mt_tensor *weight, const mt_tensor *mask, const mt_loss_classes *options) {
  const char *op = options == NULL || options->logits ? "cross_entropy" : "nll_loss";
  job j = {.options = options, .bad = INT64_MAX, .factor = 1, .hits = hits != NULL};
  int64_t shape[MT_MAX_DIMS];
  MT_TRY(check_input(op, x, options));
  const int32_t dims = 1 << (x->ndim > 1);
  MT_TRY(plan(op, &j, x, target, weight, mask, dims));
  MT_TRY(mt_check_dtype(op, "output", y, x->dtype));
  MT_TRY(mt_check_shape(op, "output", y, options->reduction == MT_LOSS_NONE ? positions_of(shape, x) : 0, shape));
  MT_TRY(mt_check_output(op, "output", y));
  MT_TRY(mt_check_dtype(op, "total", total, MT_FLOAT64));
  MT_TRY(mt_check_ndim(op, "total", total, 0));
  if (hits) {
    MT_TRY(mt_check_dtype(op, "hits", hits, MT_INT64));
    MT_TRY(mt_check_ndim(op, "hits", hits, 0));
  }
  if ((hits || gradient) && (!options->logits || (hits && !j.labels))) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: %s: needs logits and labels", op, hits ? "metric" : "gradient");
  }
  if (state) {
    MT_TRY(check_state(op, state, &j.x));
    j.state = state->data;
  }
  if (gradient) {
    MT_TRY(plan_gradient(op, &j, gradient, x, dims));
    MT_TRY(weigh(op, &j, x, target));
  }
  MT_SCRATCH(double, out, 3 * j.x.outputs);
  if (out == NULL) {
    return MT_ERROR_MEMORY;
  }
  j.out = out;
  int status = run_lines(&j, x->dtype);
  status = status != MT_OK ? status : check_label(op, &j, target);
  status = status != MT_OK ? status : finish(&j, y, hits, total, x, dims);
  mt_free(out);
  return status;
}

int mt_loss_classes_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *state, const mt_tensor *total, const mt_tensor *x,
                             const mt_tensor *target, const mt_tensor *weight, const mt_tensor *mask, const mt_loss_classes *options) {
  const char *op = options == NULL || options->logits ? "cross_entropy" : "nll_loss";
  job j = {.options = options, .bad = INT64_MAX};
  int64_t shape[MT_MAX_DIMS];
  MT_TRY(check_input(op, x, options));
  const int32_t dims = 1 << (x->ndim > 1);
  MT_TRY(plan(op, &j, x, target, weight, mask, dims));
  MT_TRY(plan_gradient(op, &j, dx, x, dims));
  MT_TRY(mt_check_dtype(op, "total", total, MT_FLOAT64));
  MT_TRY(mt_check_ndim(op, "total", total, 0));
  MT_TRY(mt_check_dtype(op, "gradient", dy, x->dtype));
  MT_TRY(mt_check_shape(op, "gradient", dy, options->reduction == MT_LOSS_NONE ? positions_of(shape, x) : 0, shape));
  if (options->logits) {
    MT_TRY(check_state(op, state, &j.x));
    j.state = state->data;
  }
  if (options->reduction == MT_LOSS_NONE) {
    const mt_tensor wide = with_classes(dy, x);
    MT_TRY(mt_reduction_plan(op, &j.dy, NULL, &wide, dims, false));
  }
  j.dy_data = dy->data;
  j.factor = options->reduction == MT_LOSS_MEAN ? 1 / *(const double *)total->data : 1;
  MT_TRY(run_lines(&j, x->dtype));
  return check_label(op, &j, target);
}

int mt_loss_classes_scale(mt_tensor *gradient, const mt_tensor *dy) {
  const char *op = "cross_entropy";
  int64_t shape[MT_MAX_DIMS];
  MT_TRY(mt_check_real(op, "gradient", gradient));
  MT_TRY(mt_check_output(op, "gradient", gradient));
  MT_TRY(mt_check_dtype(op, "gradient of the loss", dy, gradient->dtype));
  MT_TRY(mt_check_overlap(op, gradient, dy, false));
  if (dy->ndim == 0 && (dy->dtype == MT_FLOAT32 ? *(const float *)dy->data == 1 : *(const double *)dy->data == 1)) {
    return MT_OK;
  }
  if (dy->ndim > 0 || gradient->ndim == 0) {
    MT_TRY(mt_check_shape(op, "gradient of the loss", dy, positions_of(shape, gradient), shape));
  }
  const mt_tensor wide = dy->ndim > 0 ? with_classes(dy, gradient) : *dy;
  return mt_loop_run(2, (const mt_tensor *const[]){gradient, &wide}, MT_REAL_FN(gradient->dtype, scale_row), NULL);
}

#endif
