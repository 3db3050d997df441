// activate: the activation behind another operation, applied where that stores its result; once for each type (twice.h). The formulas of
// activation_rows.h. `activation` is a constant where these are called, so that nothing of the others is left. Internal.
// Read in the typed half of a file, hence no include guard.

// f(y)
MT_INLINE REAL FN(activate)(REAL y, int32_t activation, REAL a) {
  if (activation == MT_ACTIVATION_RELU) {
    return y < 0 ? 0 : y;
  }
  return activation == MT_ACTIVATION_LEAKY_RELU && !(y > 0) ? y * a : y;
}

// dy f'(y), from f(y): both are above 0 in the same places.
MT_INLINE REAL FN(activation_gated)(REAL dy, REAL result, int32_t activation, REAL a) {
  if (activation == MT_ACTIVATION_RELU) {
    return result > 0 ? dy : 0;
  }
  return activation == MT_ACTIVATION_LEAKY_RELU && !(result > 0) ? dy * a : dy;
}
