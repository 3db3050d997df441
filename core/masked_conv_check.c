// masked_conv_check: see masked_conv_check.h.
#include "masked_conv_check.h"

#include "activation_check.h"

// ---- windows ----------------------------------------------------------------------------------------------------------

static int check_weight(const char *op, const mt_tensor *out, const mt_tensor *mask, const mt_tensor *w, const mt_conv *g) {
  MT_TRY(mt_check_dtype(op, "weight", w, out->dtype));
  MT_TRY(mt_check_ndim(op, "weight", w, g->dims + 2));
  for (int32_t d = 0; d < g->dims; d++) {
    if (w->shape[2 + d] != g->kernel[d]) {
      return mt_fail(MT_ERROR_ARGUMENT, "%s: weight: expected kernel size %lld on axis %d, got %s", op,
                     (long long)g->kernel[d], d + 1, MT_SHAPE(w));
    }
  }
  if (w->shape[0] % g->groups != 0 || (mask->shape[1] != 1 && mask->shape[1] != w->shape[1] * g->groups)) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: mask %s and weight %s do not fit with %d groups", op, MT_SHAPE(mask), MT_SHAPE(w),
                   g->groups);
  }
  return MT_OK;
}

static int check_arguments(const char *op, const mt_tensor *out, const mt_tensor *mask, const mt_tensor *w, const mt_conv *g,
                           const mt_window *v) {
  MT_TRY(mt_check_tensor(op, "mask", mask));
  if (g == NULL || v == NULL || g->dims < 1 || g->dims > 3 || g->groups < 1) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: geometry: expected 1 to 3 spatial axes and at least 1 group", op);
  }
  MT_TRY(mt_check_ndim(op, "mask", mask, g->dims + 2));
  MT_TRY(mt_check_real(op, "output", out));
  if (mask->dtype != MT_BOOL) {
    MT_TRY(mt_check_dtype(op, "mask", mask, out->dtype));
  }
  if (w != NULL) {
    MT_TRY(check_weight(op, out, mask, w, g));
  }
  if (mask->shape[1] != 1 && mask->shape[1] % g->groups != 0) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: mask: the channels of %s do not divide into %d groups", op, MT_SHAPE(mask),
                   g->groups);
  }
  if (v->multiplicity < 1 || !(v->eps >= 0)) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: multiplicity and eps: expected at least 1 and at least 0, got %lld and %g", op,
                   (long long)v->multiplicity, v->eps);
  }
  for (int32_t d = 0; d < g->dims; d++) {
    if (v->centre[d] < 0 || v->centre[d] >= g->kernel[d]) {
      return mt_fail(MT_ERROR_ARGUMENT, "%s: centre: expected a tap of the kernel %s, got %s", op, MT_SIZES(g->dims, g->kernel),
                     MT_SIZES(g->dims, v->centre));
    }
  }
  return mt_check_output(op, "output", out);
}

// A kind per position: what mt_mask_kinds says, which the caller may have at hand.
static int open_kinds(mt_windows *c, const mt_tensor *mask, const mt_tensor *kinds) {
  int64_t shape[MT_MAX_DIMS], counts[MT_MASK_KINDS];
  memcpy(shape, mask->shape, sizeof shape);
  shape[1] = 1;
  if (kinds != NULL) {
    MT_TRY(mt_check_dtype(c->op, "kinds", kinds, MT_UINT8));
    MT_TRY(mt_check_shape(c->op, "kinds", kinds, mask->ndim, shape));
    if (!mt_tensor_is_contiguous(kinds)) {
      return mt_fail(MT_ERROR_ARGUMENT, "%s: kinds: expected a row-major tensor", c->op);
    }
    c->kinds = kinds->data;
    return MT_OK;
  }
  mt_tensor *valid;
  MT_TRY(mt_tensor_new(&c->own_kinds, MT_UINT8, mask->ndim, shape, NULL));
  c->kinds = c->own_kinds->data;
  MT_TRY(mt_tensor_new(&valid, MT_BOOL, mask->ndim, shape, NULL));
  int status = mt_mask_kinds(valid, c->own_kinds, counts, mask);
  mt_tensor_release(valid);
  return status;
}

int mt_window_open(mt_windows *c, const char *op, mt_tensor *out, const mt_tensor *mask, const mt_tensor *kinds,
                   const mt_tensor *w, const mt_conv *g, const mt_window *v) {
  MT_TRY(check_arguments(op, out, mask, w, g, v));
  int64_t sizes[3], unused;
  MT_TRY(mt_conv_output_size(sizes, mask->shape + 2, g));
  int64_t results[6] = {mask->shape[0], mask->shape[1], w ? w->shape[0] : 1};
  memcpy(results + 3, sizes, sizeof(int64_t) * (size_t)g->dims);
  if (!mt_numel(&unused, g->dims + 3, results) || !mt_numel(&unused, g->dims, g->kernel)) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: the output size %s or the kernel %s does not fit in 64 bits", op,
                   MT_SIZES(g->dims, sizes), MT_SIZES(g->dims, g->kernel));
  }
  c->op = op;
  c->N = mask->shape[0];
  c->groups = mask->shape[1] == 1 ? 1 : g->groups;
  c->channels = mask->shape[1] / c->groups;
  c->pixels = c->taps = 1;
  c->border = v->border != 0;
  c->strict = v->strict != 0;
  c->eps = v->eps;
  c->multiplicity = (double)v->multiplicity;
  c->dtype = mask->dtype;
  c->size = mt_dtype_size(mask->dtype);
  c->mask = mask->data;
  c->step_n = mask->stride[0] * c->size;
  c->step_c = mask->stride[1] * c->size;
  c->out_dtype = out->dtype;
  c->out_size = mt_dtype_size(out->dtype);
  c->result = out->data;
  MT_TRY(mt_check_ndim(op, "output", out, g->dims + 2));
  int64_t have = w ? MT_MAX(w->shape[0], c->groups) : c->groups;
  bool fits = out->shape[0] == c->N && (w ? out->shape[1] == w->shape[0] : out->shape[1] >= have && out->shape[1] % have == 0);
  for (int32_t d = 0; d < 3; d++) {
    int32_t s = d - (3 - g->dims);
    c->in[d] = s < 0 ? 1 : mask->shape[2 + s];
    c->out[d] = s < 0 ? 1 : sizes[s];
    c->kernel[d] = s < 0 ? 1 : g->kernel[s];
    c->stride[d] = s < 0 ? 1 : g->stride[s];
    c->dilation[d] = s < 0 ? 1 : g->dilation[s];
    c->pad[d] = s < 0 ? 0 : g->pad_before[s];
    c->step[d] = s < 0 ? 0 : mask->stride[2 + s] * c->size;
    c->out_step[d] = s < 0 ? 0 : out->stride[2 + s] * c->out_size;
    c->to[d] = c->kernel[d];
    c->middle[d] = s < 0 ? 0 : v->centre[s];
    c->pixels *= c->in[d];
    c->taps *= c->kernel[d];
    fits = fits && (s < 0 || out->shape[2 + s] == sizes[s]);
  }
  if (!fits) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: output: expected (%lld, a multiple of %lld, *S'), got %s", op, (long long)c->N,
                   (long long)have, MT_SHAPE(out));
  }
  c->filters = out->shape[1] / c->groups;
  c->out_n = out->stride[0] * c->out_size;
  c->out_c = out->stride[1] * c->out_size;
  return open_kinds(c, mask, kinds);
}

void mt_window_close(mt_windows *c) { mt_tensor_release(c->own_kinds); }

void mt_window_centre(mt_windows *c) {
  for (int32_t d = 0; d < 3; d++) {
    c->from[d] = c->middle[d];
    c->to[d] = c->from[d] + 1;
  }
  c->taps = 1;
  c->centre = c->border = true;
}

// ---- arguments --------------------------------------------------------------------------------------------------------

int mt_masked_conv_check_rule(int32_t rule, const mt_tensor *w) {
  if (rule < 0 || rule >= MT_RULES) {
    return mt_fail(MT_ERROR_ARGUMENT, "masked_conv: rule: expected 0 to %d, got %d", MT_RULES - 1, rule);
  }
  return rule == MT_RULE_CONFIDENCE || rule == MT_RULE_CENTRE ? mt_check_tensor("masked_conv", "weight", w) : MT_OK;
}

int mt_masked_conv_check_norm(int32_t norm, const mt_tensor *w) {
  if (norm < 0 || norm >= MT_NORMS) {
    return mt_fail(MT_ERROR_ARGUMENT, "masked_conv: reweight: expected 0 to %d, got %d", MT_NORMS - 1, norm);
  }
  return norm != MT_NORM_COUNT ? mt_check_tensor("masked_conv", "weight", w) : MT_OK;
}

int mt_masked_conv_check_confidence(const mt_tensor *out, const mt_tensor *q, const mt_tensor *w) {
  MT_TRY(mt_check_tensor("masked_conv", "weight", w));
  MT_TRY(mt_check_tensor("masked_conv", "output", out));
  MT_TRY(mt_check_like("masked_conv", "ratio", q, out));
  MT_TRY(mt_check_output("masked_conv", "ratio", q));
  return mt_check_overlap("masked_conv", q, out, false);
}

int mt_masked_conv_check_power(const mt_tensor *r, const mt_tensor *q) {
  MT_TRY(mt_check_real("masked_conv", "ratio", q));
  MT_TRY(mt_check_like("masked_conv", "output", r, q));
  MT_TRY(mt_check_output("masked_conv", "output", r));
  return mt_check_overlap("masked_conv", r, q, true);
}

// t is (1 or N, 1 or O, *S'), or NULL.
static int check_factor(const char *argument, const mt_tensor *t, const mt_tensor *y) {
  if (t == NULL) {
    return MT_OK;
  }
  MT_TRY(mt_check_dtype("masked_conv", argument, t, y->dtype));
  bool fits = t->ndim == y->ndim;
  for (int32_t d = 0; d < y->ndim && fits; d++) {
    fits = t->shape[d] == y->shape[d] || (d < 2 && t->shape[d] == 1);
  }
  if (!fits) {
    return mt_fail(MT_ERROR_ARGUMENT, "masked_conv: %s: %s does not fit the output %s", argument, MT_SHAPE(t), MT_SHAPE(y));
  }
  return MT_OK;
}

static int check_finish(const mt_tensor *y, const mt_tensor *x) {
  MT_TRY(mt_check_real("masked_conv", "input", x));
  MT_TRY(mt_check_like("masked_conv", "output", y, x));
  MT_TRY(mt_check_output("masked_conv", "output", y));
  MT_TRY(mt_check_overlap("masked_conv", y, x, true));
  return y->ndim < 2 ? mt_fail(MT_ERROR_ARGUMENT, "masked_conv: input: expected (N, O, *S), got %s", MT_SHAPE(x)) : MT_OK;
}

int mt_masked_conv_check_finish(const mt_tensor *y, const mt_tensor *raw, const mt_tensor *r, const mt_tensor *b, const mt_tensor *m,
                                int32_t activation, double a) {
  MT_TRY(mt_activation_check_behind("masked_conv", activation, a));
  MT_TRY(check_finish(y, raw));
  MT_TRY(check_factor("ratio", r, y));
  MT_TRY(check_factor("mask", m, y));
  if (b != NULL) {
    MT_TRY(mt_check_dtype("masked_conv", "bias", b, y->dtype));
    MT_TRY(mt_check_shape("masked_conv", "bias", b, 1, y->shape + 1));
  }
  return MT_OK;
}

int mt_masked_conv_check_alpha(const mt_tensor *dalpha, const mt_tensor *dy, const mt_tensor *raw, const mt_tensor *r,
                               const mt_tensor *q, const mt_tensor *m) {
  MT_TRY(mt_check_real("masked_conv", "gradient", dy));
  MT_TRY(mt_check_like("masked_conv", "raw", raw, dy));
  MT_TRY(mt_check_dtype("masked_conv", "alpha", dalpha, dy->dtype));
  if (dalpha->numel != 1 || dy->ndim < 3 || dy->ndim > 5) {
    return mt_fail(MT_ERROR_ARGUMENT, "masked_conv: alpha: expected one element and a gradient (N, O, *S), got %s and %s",
                   MT_SHAPE(dalpha), MT_SHAPE(dy));
  }
  MT_TRY(check_factor("ratio", r, dy));
  MT_TRY(check_factor("ratio", q, dy));
  return check_factor("mask", m, dy);
}
