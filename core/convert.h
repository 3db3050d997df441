// convert: floating point to integer, for both libraries. Internal.
#pragma once
#include "vector_math.h"

// Float to integer is undefined in C outside the target's range; here it saturates, and NaN becomes 0.
MT_VECTOR int64_t mt_to_int64(double x) {
  return x != x ? 0 : x >= 9223372036854775807.0 ? INT64_MAX : x <= -9223372036854775808.0 ? INT64_MIN : (int64_t)x;
}
MT_VECTOR int32_t mt_to_int32(double x) {
  return x != x ? 0 : x >= 2147483647.0 ? INT32_MAX : x <= -2147483648.0 ? INT32_MIN : (int32_t)x;
}
