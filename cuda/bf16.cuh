// bf16: bfloat16 as a type of memory, for kernels that are templates over what they load and store. They compute in float32. Internal.
#pragma once
#include "common.cuh"

extern "C" {
#include "../core/convert.h"
}

struct mt_bf16 {
  uint16_t bits;
  mt_bf16() = default;
  MT_INSIDE explicit mt_bf16(float x) : bits(mt_bf16_of(x)) {}
  MT_INSIDE operator float() const { return mt_bf16_value(bits); }
};

// What a kernel computes in for elements of type T.
template <typename T> struct mt_wider { typedef T type; };
template <> struct mt_wider<mt_bf16> { typedef float type; };

// function<T>(...) of the type of memory.
#define MT_STORED_TEMPLATE(dtype, function, ...)                   \
  ((dtype) == MT_FLOAT32   ? function<float>(__VA_ARGS__)          \
   : (dtype) == MT_FLOAT64 ? function<double>(__VA_ARGS__)         \
                           : function<mt_bf16>(__VA_ARGS__))
