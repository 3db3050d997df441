// norm_check: what norm.h asks of its arguments, for both libraries. Internal.
#pragma once
#include "common.h"

// What follows the normalisation.
int mt_norm_check_activation(const char *op, int32_t activation, double a);

int mt_norm_check_batch_forward(const mt_tensor *y, const mt_tensor *stats, const mt_tensor *running_mean,
                                const mt_tensor *running_var, const mt_tensor *x, const mt_tensor *mask, const mt_tensor *weight,
                                const mt_tensor *bias, int32_t flags);
int mt_norm_check_batch_backward(const mt_tensor *dx, const mt_tensor *dweight, const mt_tensor *dbias, const mt_tensor *dy,
                                 const mt_tensor *x, const mt_tensor *mask, const mt_tensor *weight, const mt_tensor *bias,
                                 const mt_tensor *stats, int32_t flags);
int mt_norm_check_batch_frozen(const mt_tensor *table, const mt_tensor *running_mean, const mt_tensor *running_var,
                               const mt_tensor *weight, const mt_tensor *bias);
// Such a table, for who reads it.
int mt_norm_check_frozen(const char *op, const mt_tensor *table, int64_t channels);
// *members = channels of a group.
int mt_norm_check_group_forward(int64_t *members, const mt_tensor *y, const mt_tensor *stats, const mt_tensor *running_mean,
                                const mt_tensor *running_var, const mt_tensor *x, const mt_tensor *mask, const mt_tensor *weight,
                                const mt_tensor *bias);
int mt_norm_check_group_backward(int64_t *members, const mt_tensor *dx, const mt_tensor *dweight, const mt_tensor *dbias,
                                 const mt_tensor *dy, const mt_tensor *x, const mt_tensor *mask, const mt_tensor *weight,
                                 const mt_tensor *bias, const mt_tensor *stats);
// Layer and RMS norm, named by op. The leading dims that stats has are kept.
int mt_norm_check_layer_forward(const char *op, const mt_tensor *y, const mt_tensor *stats, const mt_tensor *x,
                                const mt_tensor *mask, const mt_tensor *weight, const mt_tensor *bias);
int mt_norm_check_layer_backward(const char *op, const mt_tensor *dx, const mt_tensor *dweight, const mt_tensor *dbias,
                                 const mt_tensor *dy, const mt_tensor *x, const mt_tensor *mask, const mt_tensor *weight,
                                 const mt_tensor *bias, const mt_tensor *stats);
