// activate: the activation behind another operation, applied where that stores its result; once for each type (twice.h). The formulas of
// activation_rows.h. `activation` is a constant where these are called, so that nothing of the others is left. Internal.
// Read in the typed half of a file, hence no include guard.

// m ((y - mean) scale + shift) of a frozen norm (norm.h), whose numbers for this output are at[0], at[outputs] and at[2 * outputs];
// y is multiplied by m.
MT_INLINE REAL FN(normalise_frozen)(REAL y, REAL m, const double *at, int64_t outputs) {
  const REAL v = (REAL)(((double)y - (double)m * at[0]) * at[outputs] + (double)m * at[2 * outputs]);
  return m == 0 ? 0 : v;
}

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
