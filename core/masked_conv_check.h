// masked_conv_check: what masked_conv.h asks of its arguments, and the problem of a window's sums (masked_conv_window.h: open, close,
// centre), for both libraries. Internal.
#pragma once
#include "masked_conv_window.h"

int mt_masked_conv_check_rule(int32_t rule, const mt_tensor *w);
int mt_masked_conv_check_norm(int32_t norm, const mt_tensor *w);
int mt_masked_conv_check_confidence(const mt_tensor *out, const mt_tensor *q, const mt_tensor *w);
int mt_masked_conv_check_power(const mt_tensor *r, const mt_tensor *q);
int mt_masked_conv_check_finish(const mt_tensor *y, const mt_tensor *raw, const mt_tensor *r, const mt_tensor *b, const mt_tensor *m,
                                int32_t activation, double a);
int mt_masked_conv_check_alpha(const mt_tensor *dalpha, const mt_tensor *dy, const mt_tensor *raw, const mt_tensor *r,
                               const mt_tensor *q, const mt_tensor *m);
