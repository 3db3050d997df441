// masked_conv_window: masks and ratios from windows on the device. Internal to masked_conv.
#pragma once
#include "common.cuh"

extern "C" {
#include "../core/masked_conv_check.h"
}

// Every tap and channel weighs 1; how: MT_MERGE_SUM, ...
int mt_window_launch_count(mt_device *device, const mt_windows *c, const mt_tensor *out, int how);
// A tap weighs |w| or w^2.
int mt_window_launch_weigh(mt_device *device, const mt_windows *c, const mt_tensor *out, const mt_tensor *w, bool squares);
