// loss_rows: the terms of the losses of elements and their slopes, for both libraries. Internal.

MT_INLINE double mt_loss_softplus(double x) { return fmax(x, 0.0) + log1p(exp(-fabs(x))); }

// The term of (x, t); a: the kind's parameter; q: pos_weight.
MT_INLINE double mt_loss_term(int kind, double a, double x, double t, double q) {
  const double d = x - t;
  switch (kind) {
    case MT_LOSS_MSE: return d * d;
    case MT_LOSS_L1: return fabs(d);
    case MT_LOSS_SMOOTH_L1: return fabs(d) < a ? 0.5 * d * d / a : fabs(d) - 0.5 * a;
    case MT_LOSS_HUBER: return fabs(d) <= a ? 0.5 * d * d : a * (fabs(d) - 0.5 * a);
    case MT_LOSS_BCE: return (1 - t) * x + (1 + (q - 1) * t) * mt_loss_softplus(-x);
    default: return a != 0 ? exp(t) * (t - x) : t == 0 ? 0 : t * (log(t) - x);
  }
}

// d term / dx, or d term / dt.
MT_INLINE double mt_loss_slope(int kind, double a, double x, double t, double q, bool of_target) {
  const double d = x - t, sign = d > 0 ? 1 : d < 0 ? -1 : d;
  double s;
  switch (kind) {
    case MT_LOSS_MSE: s = 2 * d; break;
    case MT_LOSS_L1: s = sign; break;
    case MT_LOSS_SMOOTH_L1: s = fabs(d) < a ? d / a : sign; break;
    case MT_LOSS_HUBER: s = fabs(d) <= a ? d : a * sign; break;
    case MT_LOSS_BCE:
      return of_target ? (q - 1) * mt_loss_softplus(-x) - x : (1 - t) - (1 + (q - 1) * t) / (1 + exp(x));
    default:
      if (a != 0) {
        return of_target ? exp(t) * (t - x + 1) : -exp(t);
      }
      return of_target ? (t == 0 ? 0 : log(t) + 1 - x) : -t;
  }
  return of_target ? -s : s;
}
