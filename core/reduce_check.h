// reduce_check: what reduce.h asks of its arguments, and the plans of the walks, for both libraries. Internal.
#pragma once
#include "reduce_plan.h"

// Floating point x, y of its dtype; r: side by side.
int mt_reduce_check_real(const char *op, mt_reduction *r, const mt_tensor *y, const mt_tensor *x, int32_t dims);
// Integers and bool: y is int64.
int mt_reduce_check_integer_sum(mt_reduction *r, const mt_tensor *y, const mt_tensor *x, int32_t dims);
int mt_reduce_check_sum_backward(const mt_tensor *dx, const mt_tensor *dy);

int mt_reduce_check_var(mt_reduction *r, mt_reduction *r_mean, const mt_tensor *y, const mt_tensor *mean, const mt_tensor *x,
                        int32_t dims, int32_t root);
int mt_reduce_check_var_backward(const mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, const mt_tensor *y,
                                 const mt_tensor *mean, int32_t root);
int mt_reduce_check_norm(mt_reduction *r, const mt_tensor *y, const mt_tensor *x, int32_t dims, double p);
// dx, dy, x and the result y of norm or logsumexp.
int mt_reduce_check_slope(const char *op, const mt_tensor *dx, const mt_tensor *dy, const mt_tensor *x, const mt_tensor *y);

int mt_reduce_check_extreme(mt_reduction *r, mt_reduction *r_index, const mt_tensor *values, const mt_tensor *index,
                            const mt_tensor *x, int32_t dims, int32_t largest);
int mt_reduce_check_chosen(mt_reduction *of_dx, mt_reduction *of_index, const mt_tensor *dx, const mt_tensor *dy,
                           const mt_tensor *index, int32_t dims);
int mt_reduce_check_even(const char *op, mt_reduction *of_x, mt_reduction *of_dx, const mt_tensor *dx, const mt_tensor *dy,
                         const mt_tensor *x, const mt_tensor *y, int32_t dims);
int mt_reduce_check_truth(mt_reduction *r, const mt_tensor *y, const mt_tensor *x, int32_t dims, int32_t every);
int mt_reduce_check_prod(mt_reduction *r, const mt_tensor *y, const mt_tensor *x, int32_t dims);
int mt_reduce_check_prod_backward(mt_reduction *of_x, mt_reduction *of_dx, const mt_tensor *dx, const mt_tensor *dy,
                                  const mt_tensor *x, int32_t dims);

// y and x along one axis: the reduced one of both plans.
int mt_reduce_check_scan(const char *op, mt_reduction *of_x, mt_reduction *of_y, const mt_tensor *y, const mt_tensor *x,
                         int32_t dim);
int mt_reduce_check_cumprod_backward(mt_reduction *of_x, mt_reduction *of_dx, mt_reduction *of_dy, const mt_tensor *dx,
                                     const mt_tensor *dy, const mt_tensor *x, int32_t dim);
