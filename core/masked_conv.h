// masked_conv: what a convolution over incomplete data adds to the plain one of conv.h.
//
//   raw = conv(select(x, m), w)          holes are cleared, whatever they hold (mt_mask_select)
//   y   = gate(raw * r + b)              r re-weights by what the window holds, the gate multiplies by m'
//
// A window holds, for output position p and a set of (tap, channel) pairs,
//   K = the weights of all of them, S = the weights times the mask values,
// where the weights are 1 (count), |w| (L1) or w^2 (L2). Taps outside the image are invalid: they belong to K when `border`
// is set, and to neither otherwise. Channels: those of the output's group that the mask tells apart; a mask of one channel
// has one, counted `multiplicity` times.
//
//   mask rules    keep        m' = m at the kernel's centre (the largest channel's); 0 outside the image
//                 grow        m' = min(S, 1)
//                 erode       m' = the smallest mask value in the window; 0 when a tap lies outside and `border` is set
//                 coverage    m' = S / K, count
//                 confidence  m' = S / (K + eps), L1 over the window
//                 centre      m' = S / (K + eps) over the centre tap alone, a channel weighing the sum of |w| over its taps
//               A filter whose weights are all 0 has no confidence of its own: it gets the unweighted coverage
//               (centre: mean at the centre); with `strict` it gets 0.
//   ratio         q = K / (S + eps), for L2 its square root; 0 where S + eps = 0. r = q^alpha.
//
// S and K add up the same numbers in the same order, tap by tap (a tap whose channels are equal: the sum of their weights times
// the value), so a full window has q = 1 and m' = 1 exactly.
// Sums are in double precision. Outputs have 1 channel, or O channels: the group's value repeated for each of its filters.
// The batch size of q and m' is the mask's.
#pragma once
#include "conv.h"
#include "tensor.h"

#pragma GCC visibility push(default)

enum { MT_RULE_KEEP = 0, MT_RULE_GROW = 1, MT_RULE_ERODE = 2, MT_RULE_COVERAGE = 3, MT_RULE_CONFIDENCE = 4,
       MT_RULE_CENTRE = 5, MT_RULES = 6 };
enum { MT_NORM_COUNT = 0, MT_NORM_L1 = 1, MT_NORM_L2 = 2, MT_NORMS = 3 };

typedef struct mt_window {
  int32_t border;        // taps outside the image count as invalid (1) or do not count (0)
  int32_t strict;        // a filter of zeros gets mask 0
  int64_t multiplicity;  // how often a one-channel mask counts; 1 for others
  double eps;
  int64_t centre[3];     // the tap, per axis, that keep and centre look at: k / 2 rounded down; k - 1 where all padding is before
} mt_window;

// m' (Nm, 1 or O, *S') of mask (Nm, 1 or C, *S), which is bool or has the result's dtype. w (O, C / groups, *K): needed by
// confidence and centre, which have O channels; NULL otherwise. kinds: what mt_mask_kinds says of the mask, or NULL.
int mt_masked_conv_mask(mt_tensor *out, const mt_tensor *mask, const mt_tensor *kinds, const mt_tensor *w, const mt_conv *g,
                        const mt_window *v, int32_t rule);
// q, likewise; w is needed by L1 and L2, which have O channels.
int mt_masked_conv_ratio(mt_tensor *q, const mt_tensor *mask, const mt_tensor *kinds, const mt_tensor *w, const mt_conv *g,
                         const mt_window *v, int32_t norm);
// Both at once: m' of the rule confidence and q of L1, which are made of the same sums.
int mt_masked_conv_confidence(mt_tensor *out, mt_tensor *q, const mt_tensor *mask, const mt_tensor *kinds, const mt_tensor *w,
                              const mt_conv *g, const mt_window *v);
// r = q^alpha, 0 where q is 0 (nothing valid, whatever alpha is).
int mt_masked_conv_power(mt_tensor *r, const mt_tensor *q, double alpha);

// y = f((raw * r + b) * m'), 0 where m' is 0; the first product is 0 where r is 0. r, b, m' may be NULL: 1, 0 and 1.
// r and m' (1 or N, 1 or O, *S'), b (O). In place (y the same view as raw) is allowed. f: the activation behind it, as for mt_conv_forward.
int mt_masked_conv_finish(mt_tensor *y, const mt_tensor *raw, const mt_tensor *r, const mt_tensor *b, const mt_tensor *m,
                          int32_t activation, double a);
// draw = dy * m' * r, 0 where m' or r is 0
int mt_masked_conv_finish_backward(mt_tensor *draw, const mt_tensor *dy, const mt_tensor *r, const mt_tensor *m);
// dalpha (1) = sum of dy * m' * raw * r * log(q), where q is not 0: row by row, samples in order, in double precision
int mt_masked_conv_alpha_backward(mt_tensor *dalpha, const mt_tensor *dy, const mt_tensor *raw, const mt_tensor *r,
                                  const mt_tensor *q, const mt_tensor *m);

#pragma GCC visibility pop
