// convert: floating point to integer and to bfloat16, for both libraries. Internal.
#pragma once
#include "vector_math.h"

// Float to integer is undefined in C outside the target's range; here it saturates, and NaN becomes 0.
MT_VECTOR int64_t mt_to_int64(double x) {
  return x != x ? 0 : x >= 9223372036854775807.0 ? INT64_MAX : x <= -9223372036854775808.0 ? INT64_MIN : (int64_t)x;
}
MT_VECTOR int32_t mt_to_int32(double x) {
  return x != x ? 0 : x >= 2147483647.0 ? INT32_MAX : x <= -2147483648.0 ? INT32_MIN : (int32_t)x;
}

// bfloat16 is the upper half of a float32's bits.
MT_VECTOR float mt_bf16_value(uint16_t h) {
  const uint32_t bits = (uint32_t)h << 16;
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

// To nearest, ties to even. Infinity comes out of the carry; NaN stays one whatever half its bits are in.
MT_VECTOR uint16_t mt_bf16_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  const uint32_t near = bits + 0x7fff + (bits >> 16 & 1), nan = bits | 0x00400000;
  return (uint16_t)(((bits & 0x7fffffff) > 0x7f800000 ? nan : near) >> 16);
}

// Once: a float32 on the way would round a second time. The last bit of one that is cut off instead of rounded says "and more".
MT_VECTOR uint16_t mt_bf16_of_double(double x) {
  float near = (float)x;
  uint32_t bits;
  memcpy(&bits, &near, sizeof bits);
  const double size = x < 0 ? -x : x, got = near < 0 ? -(double)near : (double)near;
  bits = got == size || x != x ? bits : (got > size ? bits - 1 : bits) | 1;
  memcpy(&near, &bits, sizeof near);
  return mt_bf16_of(near);
}
