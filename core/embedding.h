// embedding
#pragma once
#include "tensor.h"

#pragma GCC visibility push(default)

#pragma GCC visibility pop
