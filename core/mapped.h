// mapped: files seen as tensors. The system reads a page when it is first touched, so a file may be larger than memory.
#pragma once
#include "tensor.h"

#pragma GCC visibility push(default)

// *out = the `count` elements of type dtype that begin `offset` bytes into the regular file (count < 0: all that follow; the
// rest must then be a whole number of elements). Shape (count), at least one element. The mapping is private: writing to the
// tensor changes neither the file nor what others see of it. It lives as long as the tensor and its views. A file that another
// program shortens meanwhile ends the process with SIGBUS when the lost part is touched; so do not truncate a file in use.
int mt_mapped_open(mt_tensor **out, const char *path, int32_t dtype, int64_t offset, int64_t count);

#pragma GCC visibility pop
