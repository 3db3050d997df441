// upsample_check: what upsample.h asks of its arguments, for both libraries. A mask's function is checked like forward. Internal.
#pragma once
#include "spatial.h"

int mt_upsample_check_forward(const mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, const mt_upsample *g);
int mt_upsample_check_backward(const mt_tensor *dx, const mt_tensor *dy, const mt_tensor *mask, const mt_upsample *g);
