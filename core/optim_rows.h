// optim_rows: the updates of optim.h, one element at a time, for both libraries. Internal.
//
// UPDATE(name, last, constants, body): AT(k) is the element of operand k (0 to last), K(name) a number of name_numbers
// (optim_check.h) as REAL; root is the inverse of the square root of 1 - beta^step: divisions are what limits these loops. Every
// value is rounded to REAL after each operation, on any processor.

UPDATE(sgd, 2, K(lr) K(momentum) K(rest) K(decay) K(sign) const bool decays = decay != 0; const int32_t mode = c->mode;, {
  REAL g = sign * AT(1);
  const REAL p = AT(0);
  g = decays ? g + decay * p : g;
  if (mode != SGD_PLAIN) {
    const REAL b = mode & SGD_FIRST ? g : momentum * AT(2) + rest * g;
    AT(2) = b;
    g = mode & SGD_NESTEROV ? g + momentum * b : b;
  }
  AT(0) = p - lr * g;
})

UPDATE(adam, 4, K(beta1) K(beta2) K(rest1) K(rest2) K(size) K(root) K(eps) K(decay) K(shrink) K(sign)
       const bool decays = decay != 0; const bool amsgrad = c->amsgrad;, {
  REAL g = sign * AT(1);
  const REAL p = AT(0) * shrink;
  g = decays ? g + decay * p : g;
  const REAL m = beta1 * AT(2) + rest1 * g;
  const REAL v = beta2 * AT(3) + rest2 * (g * g);
  REAL u = v;
  if (amsgrad) {
    const REAL w = AT(4);
    u = v > w || v != v ? v : w;
    AT(4) = u;
  }
  AT(2) = m;
  AT(3) = v;
  AT(0) = p - size * (m / (MATH(sqrt)(u) * root + eps));
})

UPDATE(rmsprop, 4, K(lr) K(alpha) K(rest) K(eps) K(decay) K(momentum) K(sign)
       const bool decays = decay != 0; const bool centered = c->centered; const bool moves = c->moves;, {
  REAL g = sign * AT(1);
  const REAL p = AT(0);
  g = decays ? g + decay * p : g;
  const REAL s = alpha * AT(2) + rest * (g * g);
  AT(2) = s;
  REAL d = s;
  if (centered) {
    const REAL m = alpha * AT(3) + rest * g;
    AT(3) = m;
    d = s - m * m;
    d = d < 0 ? 0 : d;  // a variance: below 0 by rounding only
  }
  REAL u = g / (MATH(sqrt)(d) + eps);
  if (moves) {
    u = momentum * AT(4) + u;
    AT(4) = u;
  }
  AT(0) = p - lr * u;
})

UPDATE(adan, 5, K(beta1) K(beta2) K(beta3) K(rest1) K(rest2) K(rest3) K(size1) K(size2) K(root) K(eps) K(shrink) K(factor)
       K(sign) K(after), {
  const REAL g = sign * AT(1);
  const REAL d = (AT(5) + g) * after;
  const REAL m = beta1 * AT(2) + rest1 * g;
  const REAL k = beta2 * AT(3) + rest2 * d;
  const REAL t = beta2 * d + g;
  const REAL v = beta3 * AT(4) + rest3 * (t * t);
  AT(2) = m;
  AT(3) = k;
  AT(4) = v;
  AT(5) = -g;
  const REAL a = MATH(sqrt)(v) * root + eps;
  AT(0) = (AT(0) * shrink - (size1 * m + size2 * k) / a) * factor;
})

UPDATE(ema, 1, K(rest), {
  const REAL a = AT(0);
  AT(0) = a + rest * (AT(1) - a);
})

UPDATE(swap, 1, (void)c;, {
  const REAL a = AT(0);
  AT(0) = AT(1);
  AT(1) = a;
})

UPDATE(scale, 0, K(factor), { AT(0) *= factor; })

UPDATE(clamp, 0, K(limit), {
  const REAL x = AT(0);
  AT(0) = x > limit ? limit : x < -limit ? -limit : x;
})
