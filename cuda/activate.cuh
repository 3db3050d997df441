// activate: the activation behind another operation, as in core/activate.h. Internal.
#pragma once
#include "common.cuh"

template <typename T> MT_DEVICE T mt_activate(T y, int32_t activation, double a) {
  if (activation == MT_ACTIVATION_RELU) {
    return y < 0 ? (T)0 : y;
  }
  return activation == MT_ACTIVATION_LEAKY_RELU && !(y > 0) ? (T)(y * (T)a) : y;
}

// dy f'(y), from f(y).
template <typename T> MT_DEVICE T mt_activation_gated(T dy, T result, int32_t activation, double a) {
  if (activation == MT_ACTIVATION_RELU) {
    return result > 0 ? dy : (T)0;
  }
  return activation == MT_ACTIVATION_LEAKY_RELU && !(result > 0) ? (T)(dy * (T)a) : dy;
}
