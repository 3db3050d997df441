// loss: cross-entropy and negative log-likelihood over classes; see loss.h. A line of logits is read from memory once: its maximum,
// then, while it is near, the sum of its exponentials.
#ifdef REAL

// ---- a line of logits ------------------------------------------------------------------------------------------------------

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
  if (j->at.mask_data) {
    mt_reduction_output(&j->at.mask, o, &at, &unused);
    p.m = (double)((const REAL *)j->at.mask_data)[at];
  }
  if (p.m == 0) {
    return p;
  }
  mt_reduction_output(&j->at.target, o, &at, &unused);
  if (!j->at.labels) {
    p.probabilities = (const REAL *)j->at.target_data + at;
    p.counts = true;
    return p;
  }
  const int64_t label = label_at(j, at);
  if (j->options->ignore && label == j->options->ignore_index) {
    return p;
  }
  if (label < 1 || label > j->at.x.length) {
    report(j, o);
    return p;
  }
  p.label = label - 1;
  p.w = j->at.weight ? (double)((const REAL *)j->at.weight)[p.label * j->at.weight_step] : 1;
  p.counts = true;
  return p;
}

// q[c], the weight of -log p[c] in the term.
static inline double FN(share)(const job *j, const place *p, int64_t c) {
  const REAL *probabilities = p->probabilities;
  const double w = j->at.weight ? (double)((const REAL *)j->at.weight)[c * j->at.weight_step] : 1;
  const double e = j->options->label_smoothing, one = probabilities ? (double)probabilities[c * j->at.target.stride] : c == p->label;
  return w * ((1 - e) * one + e / (double)j->at.x.length);
}

static inline bool FN(is_plain)(const job *j, const place *p) {
  return p->probabilities == NULL && j->options->label_smoothing == 0;
}

// ---- forward -----------------------------------------------------------------------------------------------------------

// factor d(term)/dx into g, which holds exp(x - largest) where `plain`; otherwise g and x may be the same.
static void FN(gradient_of_line)(const job *j, const place *p, REAL *g, const REAL *x, double largest, double sum, double factor,
                                 bool stored) {
  const int64_t n = j->at.x.length;
  if (FN(is_plain)(j, p)) {
    const double share = p->w * factor;
    REAL own;
    if (stored) {
      own = g[p->label];
      j->logits->FN(scale)(g, (REAL)(share / sum), n);
    } else {
      j->logits->FN(shares)(&own, x + p->label, (REAL)largest, 1, 1);
      j->logits->FN(shares)(g, x, (REAL)largest, (REAL)(share / sum), n);
    }
    g[p->label] = (REAL)(((double)own / sum - 1) * share);
    return;
  }
  double all = 0;
  for (int64_t c = 0; c < n; c++) all += FN(share)(j, p, c);
  for (int64_t c = 0; c < n; c++) {
    const double e = (double)FN(mt_quick_exp)(x[c] - (REAL)largest);
    g[c] = (REAL)(factor * (all * e / sum - FN(share)(j, p, c)));
  }
}

static void FN(forward_line)(job *j, int64_t o, place p, const REAL *x, REAL *g, const REAL *next) {
  const int64_t n = j->at.x.length;
  double *out = &j->out[3 * o], *state = j->state ? &j->state[2 * o] : NULL;
  out[TERM] = out[WEIGHT] = out[HIT] = 0;
  if (!p.counts) {
    if (g) mt_zero(g, sizeof(REAL) * (size_t)n, j->away);
    return;
  }
  out[WEIGHT] = p.m * p.w;
  if (!j->options->logits) {
    out[TERM] = p.w == 0 ? 0 : -p.m * p.w * (double)x[p.label];
    return;
  }
  const bool plain = FN(is_plain)(j, &p);
  const REAL largest = j->logits->FN(largest)(x, n);
  out[HIT] = j->hits && FN(is_best)(x, largest, p.label);
  const double own = plain ? (double)x[p.label] : 0, factor = p.m * j->factor;
  const bool flat = factor == 0 || (plain && p.w == 0);
  const double sum = j->logits->FN(exponentials)(plain && !flat ? g : NULL, x, largest, n, next), lse = (double)largest + log(sum);
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

static void FN(backward_line)(job *j, int64_t o, place p, const REAL *x, REAL *g) {
  int64_t at = 0, unused;
  if (j->options->reduction == MT_LOSS_NONE) {
    mt_reduction_output(&j->at.dy, o, &at, &unused);
  }
  const double factor = p.m * j->factor * (double)((const REAL *)j->at.dy_data)[at];
  if (!p.counts || factor == 0 || (FN(is_plain)(j, &p) && p.w == 0)) {
    mt_zero(g, sizeof(REAL) * (size_t)j->at.x.length, j->away);
  } else if (j->options->logits) {
    FN(gradient_of_line)(j, &p, g, x, j->state[2 * o], j->state[2 * o + 1], factor, false);
  } else {
    memset(g, 0, sizeof(REAL) * (size_t)j->at.x.length);
    g[p.label] = (REAL)(-p.w * factor);
  }
}

// ---- lines from memory and back ------------------------------------------------------------------------------------------

// Where classes are not neighbours, a few positions at a time are copied side by side: then memory is read in whole lines.
static void FN(lines_task)(void *context, int64_t begin, int64_t end) {
  job *j = context;
  const int64_t n = j->at.x.length;
  const bool copies = j->at.x.stride != 1, writes = j->at.gradient_data != NULL, copies_back = writes && j->at.gradient.stride != 1;
  const int64_t few = copies || copies_back ? MT_MAX(1, MT_MIN(FEW, TILE / MT_MAX(1, n))) : 1;
  REAL *tile = NULL, *back = NULL;
  if ((copies && (tile = mt_alloc_array(few * n, sizeof(REAL))) == NULL) ||
      (copies_back && (back = mt_alloc_array(few * n, sizeof(REAL))) == NULL)) {
    __atomic_store_n(&j->status, MT_ERROR_MEMORY, __ATOMIC_RELAXED);
    mt_free(tile);
    return;
  }
  int64_t in_x[FEW], in_g[FEW] = {0}, unused;
  place p[FEW];
  for (int64_t o = begin; o < end; o += few) {
    const int64_t count = MT_MIN(few, end - o);
    bool any = false;
    for (int64_t i = 0; i < count; i++) {
      mt_reduction_output(&j->at.x, o + i, &in_x[i], &unused);
      if (writes) mt_reduction_output(&j->at.gradient, o + i, &in_g[i], &unused);
      p[i] = few == 1 && o > begin ? p[1] : FN(place_at)(j, o + i);
      any = any || p[i].counts;
    }
    if (few == 1) {  // what the next position says is known early: lines that do not count are not fetched
      p[1] = o + 1 < end ? FN(place_at)(j, o + 1) : (place){0};
    }
    for (int64_t c = 0; copies && any && c < n; c++) {
      for (int64_t i = 0; i < count; i++) tile[i * n + c] = ((const REAL *)j->at.x_data)[in_x[i] + c * j->at.x.stride];
    }
    for (int64_t i = 0; i < count; i++) {
      const REAL *x = copies ? tile + i * n : (const REAL *)j->at.x_data + in_x[i];
      const REAL *next = !copies && few == 1 && p[1].counts ? x + j->x_next : NULL;
      REAL *g = copies_back ? back + i * n : writes ? (REAL *)j->at.gradient_data + in_g[i] : NULL;
      if (j->at.dy_data) {
        FN(backward_line)(j, o + i, p[i], x, g);
      } else {
        FN(forward_line)(j, o + i, p[i], x, g, next);
      }
    }
    for (int64_t c = 0; copies_back && c < n; c++) {
      for (int64_t i = 0; i < count; i++) ((REAL *)j->at.gradient_data)[in_g[i] + c * j->at.gradient.stride] = back[i * n + c];
    }
  }
  mt_free(back);
  mt_free(tile);
}

static void FN(weights)(job *j, mt_total *total) {
  for (int64_t o = 0; o < j->at.x.outputs; o++) {
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
#include "logits.h"
#include "loop.h"
#include "loss_check.h"
#include "tile.h"
#include "vector_math.h"
#include "zero.h"

enum {
  FEW = 16,         // positions copied side by side,
  TILE = 1 << 16,   // at most so many values
  TERM = 0, WEIGHT = 1, HIT = 2,
};

typedef struct {
  mt_loss_plan at;
  const mt_loss_classes *options;
  const logits *logits;
  bool hits;
  int64_t x_next;             // about where the next position's logits begin
  double factor;              // of all gradients: 1 / total for the mean
  bool away;                  // the gradient is large
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
  return j->at.narrow ? ((const int32_t *)j->at.target_data)[i] : ((const int64_t *)j->at.target_data)[i];
}

static void report(job *j, int64_t position) {
  int64_t first = __atomic_load_n(&j->bad, __ATOMIC_RELAXED);
  while (position < first &&
         !__atomic_compare_exchange_n(&j->bad, &first, position, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
}

#define MT_SOURCE "loss.c"
#include "twice.h"

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
  mt_reduction_output(&j->at.target, j->bad, &in_target, &unused);
  return mt_fail(MT_ERROR_ARGUMENT, "%s: target: label %lld at position %s is outside 1..%lld (labels are 1-based)", op,
                 (long long)label_at(j, in_target), mt_sizes_text(text, target->ndim, position), (long long)j->at.x.length);
}

static void store_scalar(mt_tensor *y, double value) {
  if (y->dtype == MT_FLOAT32) {
    *(float *)y->data = (float)value;
  } else {
    *(double *)y->data = value;
  }
}

static int run_lines(job *j, int32_t dtype) {
  const int64_t grain = mt_reduction_grain(&j->at.x);
  j->x_next = j->at.x.kept > 0 ? j->at.x.kept_stride[j->at.x.kept - 1] : 0;
  j->logits = mt_tile_get()->logits;
  j->away = j->at.x.outputs * j->at.x.length * mt_dtype_size(dtype) >= MT_ZERO_AWAY;
  const int status = mt_parallel(j->at.x.outputs, MT_MAX(grain, j->at.x.stride != 1 ? FEW : 4), MT_REAL_FN(dtype, lines_task), j);
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
  for (int64_t o = 0; o < j->at.x.outputs; o++) {
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
  const mt_tensor wide = mt_loss_with_classes(y, x);
  MT_TRY(mt_reduction_plan("cross_entropy", &none, &wide, x, dims, false));
  mt_reduction_store(&none, y, j->out);
  return MT_OK;
}

int mt_loss_classes_forward(mt_tensor *y, mt_tensor *hits, mt_tensor *state, mt_tensor *gradient, mt_tensor *total, const mt_tensor *x,
                            const mt_tensor *target, const mt_tensor *weight, const mt_tensor *mask, const mt_loss_classes *options) {
  const char *op = mt_loss_classes_name(options);
  job j = {.options = options, .bad = INT64_MAX, .factor = 1, .hits = hits != NULL};
  MT_TRY(mt_loss_check_classes_forward(&j.at, y, hits, state, gradient, total, x, target, weight, mask, options));
  j.state = state ? state->data : NULL;
  if (gradient) {
    MT_TRY(weigh(op, &j, x, target));
  }
  MT_SCRATCH(double, out, 3 * j.at.x.outputs);
  if (out == NULL) {
    return MT_ERROR_MEMORY;
  }
  j.out = out;
  int status = run_lines(&j, x->dtype);
  status = status != MT_OK ? status : check_label(op, &j, target);
  status = status != MT_OK ? status : finish(&j, y, hits, total, x, 1 << (x->ndim > 1));
  mt_free(out);
  return status;
}

int mt_loss_classes_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *state, const mt_tensor *total, const mt_tensor *x,
                             const mt_tensor *target, const mt_tensor *weight, const mt_tensor *mask, const mt_loss_classes *options) {
  job j = {.options = options, .bad = INT64_MAX};
  MT_TRY(mt_loss_check_classes_backward(&j.at, dx, dy, state, total, x, target, weight, mask, options));
  j.state = options->logits ? state->data : NULL;
  j.factor = options->reduction == MT_LOSS_MEAN ? 1 / *(const double *)total->data : 1;
  MT_TRY(run_lines(&j, x->dtype));
  return check_label(mt_loss_classes_name(options), &j, target);
}

int mt_loss_classes_scale(mt_tensor *gradient, const mt_tensor *dy) {
  mt_tensor wide;
  MT_TRY(mt_loss_check_classes_scale(&wide, gradient, dy));
  if (dy->ndim == 0 && (dy->dtype == MT_FLOAT32 ? *(const float *)dy->data == 1 : *(const double *)dy->data == 1)) {
    return MT_OK;
  }
  return mt_loop_run(2, (const mt_tensor *const[]){gradient, &wide}, MT_REAL_FN(gradient->dtype, scale_row), NULL);
}

#endif
