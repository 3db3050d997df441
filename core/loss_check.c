// loss_check: see loss_check.h.
#include "loss_check.h"

// ---- classes ------------------------------------------------------------------------------------------------------------

const char *mt_loss_classes_name(const mt_loss_classes *options) {
  return options == NULL || options->logits ? "cross_entropy" : "nll_loss";
}

int32_t mt_loss_positions(int64_t *shape, const mt_tensor *x) {
  int32_t n = 0;
  for (int32_t d = 0; d < x->ndim; d++) {
    if (d != (x->ndim > 1)) {
      shape[n++] = x->shape[d];
    }
  }
  return n;
}

mt_tensor mt_loss_with_classes(const mt_tensor *t, const mt_tensor *x) {
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

static int plan_target(const char *op, mt_loss_plan *p, const mt_tensor *x, const mt_tensor *target, int32_t dims,
                       const mt_loss_classes *options) {
  int64_t shape[MT_MAX_DIMS];
  const int32_t n = mt_loss_positions(shape, x);
  MT_TRY(mt_check_tensor(op, "target", target));
  p->target_data = target->data;
  if (target->dtype == x->dtype && target->ndim == x->ndim && options->logits) {
    MT_TRY(mt_check_shape(op, "target", target, x->ndim, x->shape));
    if (options->ignore) {
      return mt_fail(MT_ERROR_ARGUMENT, "%s: ignore_index: has no meaning for a target of probabilities", op);
    }
    return mt_reduction_plan(op, &p->target, NULL, target, dims, false);
  }
  if (target->dtype != MT_INT64 && target->dtype != MT_INT32) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: target: expected int64 labels%s%s, got %s", op,
                   options->logits ? " or probabilities like the input " : "", options->logits ? MT_SHAPE(x) : "",
                   MT_SHAPE(target));
  }
  MT_TRY(mt_check_shape(op, "target", target, n, shape));
  p->labels = true;
  p->narrow = target->dtype == MT_INT32;
  const mt_tensor wide = mt_loss_with_classes(target, x);
  return mt_reduction_plan(op, &p->target, NULL, &wide, dims, false);
}

static int plan_mask(const char *op, mt_loss_plan *p, const mt_tensor *x, const mt_tensor *mask, int32_t dims) {
  mt_tensor one_class = *x, wide;
  one_class.shape[x->ndim > 1] = 1;
  one_class.numel = p->x.outputs;
  MT_TRY(mt_reduction_expand(op, "mask", &wide, mask, &one_class));
  p->mask_data = mask->data;
  return mt_reduction_plan(op, &p->mask, NULL, &wide, dims, false);
}

// What forward and backward have in common.
static int plan(const char *op, mt_loss_plan *p, const mt_tensor *x, const mt_tensor *target, const mt_tensor *weight,
                const mt_tensor *mask, const mt_loss_classes *options) {
  memset(p, 0, sizeof *p);
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
  const int32_t dims = 1 << (x->ndim > 1);
  MT_TRY(mt_reduction_plan(op, &p->x, NULL, x, dims, false));
  MT_TRY(plan_target(op, p, x, target, dims, options));
  if (weight) {
    MT_TRY(mt_check_dtype(op, "weight", weight, x->dtype));
    MT_TRY(mt_check_shape(op, "weight", weight, 1, &p->x.length));
    p->weight = weight->data;
    p->weight_step = weight->stride[0];
  }
  p->x_data = x->data;
  return mask ? plan_mask(op, p, x, mask, dims) : MT_OK;
}

static int plan_gradient(const char *op, mt_loss_plan *p, const mt_tensor *gradient, const mt_tensor *x) {
  MT_TRY(mt_check_like(op, "gradient", gradient, x));
  MT_TRY(mt_check_output(op, "gradient", gradient));
  MT_TRY(mt_check_overlap(op, gradient, x, true));
  p->gradient_data = gradient->data;
  return mt_reduction_plan(op, &p->gradient, NULL, gradient, 1 << (x->ndim > 1), false);
}

static int check_state(const char *op, const mt_tensor *state, const mt_reduction *x) {
  const int64_t shape[] = {x->outputs, 2};
  MT_TRY(mt_check_dtype(op, "state", state, MT_FLOAT64));
  MT_TRY(mt_check_shape(op, "state", state, 2, shape));
  if (!mt_tensor_is_contiguous(state)) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: state: expected a contiguous tensor, got %s", op, MT_SHAPE(state));
  }
  return MT_OK;
}

int mt_loss_check_classes_forward(mt_loss_plan *p, const mt_tensor *y, const mt_tensor *hits, const mt_tensor *state,
                                  const mt_tensor *gradient, const mt_tensor *total, const mt_tensor *x, const mt_tensor *target,
                                  const mt_tensor *weight, const mt_tensor *mask, const mt_loss_classes *options) {
  const char *op = mt_loss_classes_name(options);
  int64_t shape[MT_MAX_DIMS];
  MT_TRY(plan(op, p, x, target, weight, mask, options));
  MT_TRY(mt_check_dtype(op, "output", y, x->dtype));
  MT_TRY(mt_check_shape(op, "output", y, options->reduction == MT_LOSS_NONE ? mt_loss_positions(shape, x) : 0, shape));
  MT_TRY(mt_check_output(op, "output", y));
  MT_TRY(mt_check_dtype(op, "total", total, MT_FLOAT64));
  MT_TRY(mt_check_ndim(op, "total", total, 0));
  if (hits) {
    MT_TRY(mt_check_dtype(op, "hits", hits, MT_INT64));
    MT_TRY(mt_check_ndim(op, "hits", hits, 0));
  }
  if ((hits || gradient) && (!options->logits || (hits && !p->labels))) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: %s: needs logits and labels", op, hits ? "metric" : "gradient");
  }
  MT_TRY(state ? check_state(op, state, &p->x) : MT_OK);
  return gradient ? plan_gradient(op, p, gradient, x) : MT_OK;
}

int mt_loss_check_classes_backward(mt_loss_plan *p, const mt_tensor *dx, const mt_tensor *dy, const mt_tensor *state,
                                   const mt_tensor *total, const mt_tensor *x, const mt_tensor *target, const mt_tensor *weight,
                                   const mt_tensor *mask, const mt_loss_classes *options) {
  const char *op = mt_loss_classes_name(options);
  int64_t shape[MT_MAX_DIMS];
  MT_TRY(plan(op, p, x, target, weight, mask, options));
  MT_TRY(plan_gradient(op, p, dx, x));
  MT_TRY(mt_check_dtype(op, "total", total, MT_FLOAT64));
  MT_TRY(mt_check_ndim(op, "total", total, 0));
  MT_TRY(mt_check_dtype(op, "gradient", dy, x->dtype));
  MT_TRY(mt_check_shape(op, "gradient", dy, options->reduction == MT_LOSS_NONE ? mt_loss_positions(shape, x) : 0, shape));
  MT_TRY(options->logits ? check_state(op, state, &p->x) : MT_OK);
  p->dy_data = dy->data;
  if (options->reduction == MT_LOSS_NONE) {
    const mt_tensor wide = mt_loss_with_classes(dy, x);
    MT_TRY(mt_reduction_plan(op, &p->dy, NULL, &wide, 1 << (x->ndim > 1), false));
  }
  return MT_OK;
}

int mt_loss_check_classes_scale(mt_tensor *wide, const mt_tensor *gradient, const mt_tensor *dy) {
  const char *op = "cross_entropy";
  int64_t shape[MT_MAX_DIMS];
  MT_TRY(mt_check_real(op, "gradient", gradient));
  MT_TRY(mt_check_output(op, "gradient", gradient));
  MT_TRY(mt_check_dtype(op, "gradient of the loss", dy, gradient->dtype));
  MT_TRY(mt_check_overlap(op, gradient, dy, false));
  if (dy->ndim > 0 || gradient->ndim == 0) {
    MT_TRY(mt_check_shape(op, "gradient of the loss", dy, mt_loss_positions(shape, gradient), shape));
  }
  *wide = dy->ndim > 0 ? mt_loss_with_classes(dy, gradient) : *dy;
  return MT_OK;
}

// ---- elements -----------------------------------------------------------------------------------------------------------

static const char *const names[] = {"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss",
                                    "binary_cross_entropy_with_logits", "kl_div"};

const char *mt_loss_elements_name(const mt_loss_elements *options) {
  return options && options->kind >= 0 && options->kind <= MT_LOSS_KL ? names[options->kind] : "loss";
}

static int expand_or_ones(const char *op, const char *argument, mt_tensor *wide, const mt_tensor *t, const mt_tensor *x,
                          const void *one) {
  if (t) {
    return mt_reduction_expand(op, argument, wide, t, x);
  }
  *wide = *x;
  wide->data = (void *)(uintptr_t)one;
  memset(wide->stride, 0, sizeof wide->stride);
  return MT_OK;
}

static int check_inputs(const char *op, mt_tensor wide[4], const mt_tensor *x, const mt_tensor *target, const mt_tensor *mask,
                        const mt_tensor *pos_weight, const mt_loss_elements *options, const void *one) {
  if (options == NULL) {
    return mt_fail(MT_ERROR_ARGUMENT, "loss: options: expected a value, got nil");
  }
  MT_TRY(mt_check_real(op, "input", x));
  MT_TRY(mt_check_like(op, "target", target, x));
  wide[0] = *x;
  wide[1] = *target;
  MT_TRY(expand_or_ones(op, "mask", &wide[2], mask, x, one));
  return expand_or_ones(op, "pos_weight", &wide[3], pos_weight, x, one);
}

int mt_loss_check_elements_forward(mt_tensor wide[4], const mt_tensor *y, const mt_tensor *total, const mt_tensor *x,
                                   const mt_tensor *target, const mt_tensor *mask, const mt_tensor *pos_weight,
                                   const mt_loss_elements *options, const void *one) {
  const char *op = mt_loss_elements_name(options);
  MT_TRY(check_inputs(op, wide, x, target, mask, pos_weight, options, one));
  MT_TRY(mt_check_dtype(op, "output", y, x->dtype));
  MT_TRY(mt_check_output(op, "output", y));
  MT_TRY(mt_check_dtype(op, "total", total, MT_FLOAT64));
  MT_TRY(mt_check_ndim(op, "total", total, 0));
  return options->reduction != MT_LOSS_NONE ? mt_check_ndim(op, "output", y, 0) : mt_check_like(op, "output", y, x);
}

int mt_loss_check_elements_backward(mt_tensor wide[4], const mt_tensor *d, const mt_tensor *dy, const mt_tensor *total,
                                    const mt_tensor *x, const mt_tensor *target, const mt_tensor *mask,
                                    const mt_tensor *pos_weight, const mt_loss_elements *options, const void *one) {
  const char *op = mt_loss_elements_name(options);
  MT_TRY(check_inputs(op, wide, x, target, mask, pos_weight, options, one));
  MT_TRY(mt_check_like(op, "output", d, x));
  MT_TRY(mt_check_output(op, "output", d));
  MT_TRY(mt_check_dtype(op, "gradient", dy, x->dtype));
  MT_TRY(mt_check_dtype(op, "total", total, MT_FLOAT64));
  MT_TRY(mt_check_ndim(op, "total", total, 0));
  return options->reduction == MT_LOSS_NONE ? mt_check_like(op, "gradient", dy, x) : mt_check_ndim(op, "gradient", dy, 0);
}
