// masked_torch: the contract for programs in C and C++. kernels.h itself is read by LuaJIT too, which knows no linkage.
#pragma once
#ifdef __cplusplus
extern "C" {
#endif
#include "kernels.h"
#ifdef __cplusplus
}
#endif
