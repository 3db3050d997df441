// loss_check: what loss.h asks of its arguments, and how its lines lie, for both libraries. Internal.
#pragma once
#include "reduce_plan.h"

typedef struct mt_loss_plan {
  mt_reduction x, gradient, target, mask, dy;
  const void *x_data, *target_data, *mask_data, *weight, *dy_data;  // dy_data: backward
  void *gradient_data;
  int64_t weight_step;
  bool labels, narrow;        // narrow: int32 labels
} mt_loss_plan;

// "cross_entropy" or "nll_loss".
const char *mt_loss_classes_name(const mt_loss_classes *options);
// The shape of the positions: x's without the classes; returns the number of dims.
int32_t mt_loss_positions(int64_t *shape, const mt_tensor *x);
// t, of the positions' shape, with a size 1 at the classes' place.
mt_tensor mt_loss_with_classes(const mt_tensor *t, const mt_tensor *x);

int mt_loss_check_classes_forward(mt_loss_plan *p, const mt_tensor *y, const mt_tensor *hits, const mt_tensor *state,
                                  const mt_tensor *gradient, const mt_tensor *total, const mt_tensor *x, const mt_tensor *target,
                                  const mt_tensor *weight, const mt_tensor *mask, const mt_loss_classes *options);
int mt_loss_check_classes_backward(mt_loss_plan *p, const mt_tensor *dx, const mt_tensor *dy, const mt_tensor *state,
                                   const mt_tensor *total, const mt_tensor *x, const mt_tensor *target, const mt_tensor *weight,
                                   const mt_tensor *mask, const mt_loss_classes *options);
// *wide = dy seen in the gradient's shape.
int mt_loss_check_classes_scale(mt_tensor *wide, const mt_tensor *gradient, const mt_tensor *dy);

// wide: x, target, mask, pos_weight seen in x's shape. `one` stands for what is NULL: the address of a 1 of x's dtype.
int mt_loss_check_elements_forward(mt_tensor wide[4], const mt_tensor *y, const mt_tensor *total, const mt_tensor *x,
                                   const mt_tensor *target, const mt_tensor *mask, const mt_tensor *pos_weight,
                                   const mt_loss_elements *options, const void *one);
int mt_loss_check_elements_backward(mt_tensor wide[4], const mt_tensor *d, const mt_tensor *dy, const mt_tensor *total,
                                    const mt_tensor *x, const mt_tensor *target, const mt_tensor *mask,
                                    const mt_tensor *pos_weight, const mt_loss_elements *options, const void *one);
const char *mt_loss_elements_name(const mt_loss_elements *options);
