// reduce_rows: the gradients of reduce.h, element by element, read by the C and by the CUDA file (twice.h). Internal.

// dy times this; mean is float64; scale: 2 / (count - correction) or, for the root, half of it.
MT_INLINE double FN(var_slope)(double x, double y, double mean, double scale, bool root) {
  const double g = scale * (x - mean);
  return root ? (y == 0 ? 0 : g / y) : g;
}

MT_INLINE double FN(norm_slope)(double x, double y, double power) {
  const double sign = x > 0 ? 1 : x < 0 ? -1 : x;
  if (power == 1) {
    return sign;
  }
  if (y == 0 || power == 0) {
    return 0;
  }
  if (power == 2) {
    return x / y;
  }
  return sign == 0 ? 0 : sign * pow(fabs(x) / y, power - 1);
}

MT_INLINE REAL FN(logsumexp_gradient)(double dy, double x, double y) { return (REAL)(y == -INFINITY ? 0 : dy * exp(x - y)); }
