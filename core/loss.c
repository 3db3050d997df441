// loss: cross-entropy and negative log-likelihood over classes; see loss.h. Forward leaves the gradient of each term, so
// that backward is one scaling.
#ifdef REAL

// q[c], the weight of -log p[c] in the term, for a target of probabilities or a smoothed label; t is the label or -1.
static inline double FN(share)(const job *j, const REAL *probabilities, int64_t t, int64_t c) {
  const double w = j->weight ? (double)((const REAL *)j->weight)[c * j->weight_step] : 1;
  const double e = j->options->label_smoothing, one = probabilities ? (double)probabilities[c * j->target.stride] : c == t;
  return w * ((1 - e) * one + e / (double)j->x.length);
}

static double FN(cross_entropy_term)(const job *j, const REAL *x, REAL *g, const REAL *probabilities, int64_t t, double m) {
  const int64_t n = j->x.length, sx = j->x.stride, sg = j->gradient.stride;
  REAL largest = -INFINITY;
  for (int64_t c = 0; c < n && largest == largest; c++) {
    const REAL v = x[c * sx];
    largest = !(v <= largest) ? v : largest;
  }
  const double sum = FN(mt_exponentials)(g, sg, x, sx, largest, n);
  const double lse = (double)largest + log(sum);
  double term = 0, shares = 0;
  if (probabilities == NULL && j->options->label_smoothing == 0) {
    shares = FN(share)(j, NULL, t, t);
    term = shares == 0 ? 0 : shares * (lse - (double)x[t * sx]);
    if (g) {
      const double scale = shares * m / sum;
      for (int64_t c = 0; c < n; c++) {
        g[c * sg] = (REAL)((double)g[c * sg] * scale - (c == t ? shares * m : 0));
      }
    }
    return term;
  }
  for (int64_t c = 0; c < n; c++) {
    const double q = FN(share)(j, probabilities, t, c);
    shares += q;
    term += q == 0 ? 0 : q * (lse - (double)x[c * sx]);
  }
  for (int64_t c = 0; g && c < n; c++) {
    g[c * sg] = (REAL)(m * (shares * (double)g[c * sg] / sum - FN(share)(j, probabilities, t, c)));
  }
  return term;
}

static void FN(classes_task)(void *context, int64_t begin, int64_t end) {
  job *j = context;
  for (int64_t o = begin; o < end; o++) {
    int64_t in_x, in_g = 0, in_target, in_mask = 0, unused;
    mt_reduction_output(&j->x, o, &in_x, &unused);
    mt_reduction_output(&j->target, o, &in_target, &unused);
    if (j->mask_data) {
      mt_reduction_output(&j->mask, o, &in_mask, &unused);
    }
    if (j->gradient_data) {
      mt_reduction_output(&j->gradient, o, &in_g, &unused);
    }
    const REAL *x = (const REAL *)j->x_data + in_x;
    const REAL *probabilities = j->labels ? NULL : (const REAL *)j->target_data + in_target;
    REAL *g = j->gradient_data ? (REAL *)j->gradient_data + in_g : NULL;
    const double m = j->mask_data ? (double)((const REAL *)j->mask_data)[in_mask] : 1;
    const int64_t label = m != 0 && j->labels ? label_at(j, in_target) : 0;
    double *out = &j->out[2 * o];
    out[0] = out[1] = 0;
    if (m == 0 || (j->labels && j->options->ignore && label == j->options->ignore_index)) {
      for (int64_t c = 0; g && c < j->x.length; c++) {
        g[c * j->gradient.stride] = 0;
      }
      continue;
    }
    if (j->labels && (label < 1 || label > j->x.length)) {
      report(j, o);
      continue;
    }
    const double w = j->labels && j->weight ? (double)((const REAL *)j->weight)[(label - 1) * j->weight_step] : 1;
    if (j->options->logits) {
      out[0] = m * FN(cross_entropy_term)(j, x, g, probabilities, label - 1, m);
    } else {
      out[0] = w == 0 ? 0 : -m * w * (double)x[(label - 1) * j->x.stride];
      for (int64_t c = 0; g && c < j->x.length; c++) {
        g[c * j->gradient.stride] = (REAL)(c == label - 1 ? -m * w : 0);
      }
    }
    out[1] = m * w;
  }
}

static void FN(scale_row)(char *const *p, const int64_t *step, int64_t n, const void *context) {
  const REAL scale = (REAL) * (const double *)context;
  for (int64_t i = 0; i < n; i++) {
    const REAL g = *(const REAL *)(p[1] + i * step[1]);
    *(REAL *)(p[0] + i * step[0]) = g == 0 ? 0 : g * (*(const REAL *)(p[2] + i * step[2]) * scale);
  }
}

#else
#include "loop.h"
#include "reduce_plan.h"
#include "vector_math.h"

typedef struct {
  mt_reduction x, gradient, target, mask;
  const void *x_data, *target_data, *mask_data, *weight;
  void *gradient_data;
  int64_t weight_step;
  const mt_loss_classes *options;
  bool labels, narrow;  // narrow: int32 labels
  double *out;          // term and weight of every position
  int64_t bad;          // the first position with a label out of range
} job;

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
  if (target->dtype == x->dtype && j->options->logits) {
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

int mt_loss_classes_forward(mt_tensor *y, mt_tensor *gradient, mt_tensor *total, const mt_tensor *x, const mt_tensor *target,
                            const mt_tensor *weight, const mt_tensor *mask, const mt_loss_classes *options) {
  const char *op = options == NULL || options->logits ? "cross_entropy" : "nll_loss";
  job j = {.options = options, .bad = INT64_MAX};
  mt_reduction none;
  int64_t shape[MT_MAX_DIMS];
  if (options == NULL) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: options: expected a value, got nil", op);
  }
  MT_TRY(mt_check_real(op, "input", x));
  if (x->ndim < 1) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: input: expected (C) or (N, C, ...), got %s", op, MT_SHAPE(x));
  }
  const int32_t dims = 1 << (x->ndim > 1);
  MT_TRY(mt_reduction_plan(op, &j.x, NULL, x, dims, false));
  MT_TRY(plan_target(op, &j, x, target, dims));
  MT_TRY(mt_check_dtype(op, "output", y, x->dtype));
  MT_TRY(mt_check_shape(op, "output", y, options->reduction == MT_LOSS_NONE ? positions_of(shape, x) : 0, shape));
  MT_TRY(mt_check_output(op, "output", y));
  MT_TRY(mt_check_dtype(op, "total", total, MT_FLOAT64));
  MT_TRY(mt_check_ndim(op, "total", total, 0));
  if (!(options->label_smoothing >= 0 && options->label_smoothing <= 1)) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: label_smoothing: expected 0 to 1, got %g", op, options->label_smoothing);
  }
  if (gradient) {
    MT_TRY(mt_check_like(op, "gradient", gradient, x));
    MT_TRY(mt_check_output(op, "gradient", gradient));
    MT_TRY(mt_reduction_plan(op, &j.gradient, NULL, gradient, dims, false));
    j.gradient_data = gradient->data;
  }
  if (weight) {
    MT_TRY(mt_check_dtype(op, "weight", weight, x->dtype));
    MT_TRY(mt_check_shape(op, "weight", weight, 1, &j.x.length));
    j.weight = weight->data;
    j.weight_step = weight->stride[0];
  }
  if (mask) {
    MT_TRY(plan_mask(op, &j, x, mask, dims));
  }
  j.x_data = x->data;
  MT_SCRATCH(double, out, 2 * j.x.outputs);
  if (out == NULL) {
    return MT_ERROR_MEMORY;
  }
  j.out = out;
  int status = mt_parallel(j.x.outputs, mt_reduction_grain(&j.x), MT_REAL_FN(x->dtype, classes_task), &j);
  status = status != MT_OK ? status : check_label(op, &j, target);
  mt_total terms = {0, 0}, weights = {0, 0};
  for (int64_t o = 0; o < j.x.outputs && status == MT_OK; o++) {
    mt_total_add(&terms, out[2 * o]);
    mt_total_add(&weights, out[2 * o + 1]);
    out[o] = out[2 * o];  // the terms alone, packed
  }
  if (status == MT_OK) {
    *(double *)total->data = mt_total_value(&weights);
    if (options->reduction == MT_LOSS_NONE) {
      const mt_tensor wide = with_classes(y, x);
      status = mt_reduction_plan(op, &none, &wide, x, dims, false);
      mt_reduction_store(&none, y, out);
    } else {
      const double sum = mt_total_value(&terms);
      store_scalar(y, options->reduction == MT_LOSS_SUM ? sum : sum / mt_total_value(&weights));
    }
  }
  mt_free(out);
  return status;
}

int mt_loss_classes_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *gradient, const mt_tensor *total,
                             int32_t reduction) {
  const char *op = "cross_entropy";
  int64_t shape[MT_MAX_DIMS];
  MT_TRY(mt_check_real(op, "kept gradient", gradient));
  MT_TRY(mt_check_like(op, "output", dx, gradient));
  MT_TRY(mt_check_output(op, "output", dx));
  MT_TRY(mt_check_dtype(op, "gradient", dy, gradient->dtype));
  MT_TRY(mt_check_dtype(op, "total", total, MT_FLOAT64));
  MT_TRY(mt_check_ndim(op, "total", total, 0));
  MT_TRY(mt_check_shape(op, "gradient", dy, reduction == MT_LOSS_NONE ? positions_of(shape, gradient) : 0, shape));
  const double scale = reduction == MT_LOSS_MEAN ? 1 / *(const double *)total->data : 1;
  const mt_tensor wide = reduction == MT_LOSS_NONE ? with_classes(dy, gradient) : *dy;
  return mt_loop_run(3, (const mt_tensor *const[]){dx, gradient, &wide}, MT_REAL_FN(dx->dtype, scale_row), &scale);
}

#endif
