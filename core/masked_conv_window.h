// masked_conv_window: what every window of a convolution holds: S, the valid part, and K, all of it, in double precision; and
// masks and ratios made of them, written row by row as they are found. Internal to masked_conv.
#pragma once
#include "common.h"

// What becomes of S and K.
enum {
  MT_FINISH_KEEP,        // S
  MT_FINISH_GROW,        // min(1, S)
  MT_FINISH_SMALLEST,    // S is a minimum: 0 where no tap lies inside
  MT_FINISH_COVERAGE,    // S / K
  MT_FINISH_CONFIDENCE,  // S / (K + eps)
  MT_FINISH_RATIO,       // K / (S + eps), 0 where that is 0
  MT_FINISH_ROOT         // its square root
};

// Three spatial axes always; missing ones come first, with one position and one tap. Steps are in bytes.
typedef struct {
  const char *op;
  int64_t in[3], out[3], kernel[3], stride[3], dilation[3], pad[3];
  int64_t from[3], to[3];       // the taps that count
  int64_t middle[3];            // the one at the centre
  int64_t N, groups, channels;  // samples, mask groups, mask channels per group
  int64_t filters;              // channels of the result per group
  int64_t pixels, taps;
  bool border, strict, centre;
  int32_t finish;
  double eps, multiplicity;
  int32_t dtype;                // the mask's
  int64_t size;
  const char *mask;
  int64_t step_n, step_c, step[3];
  const uint8_t *kinds;         // (N, pixels): mt_mask_kinds
  int32_t out_dtype;
  char *result;
  int64_t out_size, out_n, out_c, out_step[3];
  mt_tensor *ratio;             // of a weighted mask: K / (S + eps) as well, of the result's shape and dtype; or NULL
  mt_tensor *own_kinds;
} mt_windows;

// Checks everything and fills c, which begins as zeros; from and to are all taps. kinds may be NULL.
int mt_window_open(mt_windows *c, const char *op, mt_tensor *out, const mt_tensor *mask, const mt_tensor *kinds,
                   const mt_tensor *w, const mt_conv *g, const mt_window *v);
void mt_window_close(mt_windows *c);
// The centre tap alone; outside the image it counts, as invalid.
void mt_window_centre(mt_windows *c);

// Every tap and channel weighs 1; of the channels of a pixel the sum, the smallest or the largest counts.
enum { MT_MERGE_SUM, MT_MERGE_SMALLEST, MT_MERGE_LARGEST };
int mt_window_count(mt_windows *c, int how);
// A tap weighs |w| or w^2.
int mt_window_weigh(mt_windows *c, const mt_tensor *w, bool squares);

// What filters weigh: merged[(g * taps + t) * padded + f] = all channels of tap t of filter f of group g, and where it is not NULL
// each[((g * taps + t) * channels + i) * padded + f] = channel i alone. With `centre` the only tap weighs what all taps do, in order.
// Channels are added in order.
int mt_window_norms(const mt_windows *c, const mt_tensor *w, bool squares, int64_t padded, double *merged, double *each);

// ---- shared by the two ------------------------------------------------------------------------------------------------

// S = what `finish` makes of S and K.
void mt_window_finish(const mt_windows *c, int32_t finish, double *S, const double *K, int64_t n);
// The positions [lo, hi) of axis d at which the tap t lies inside the image.
void mt_window_inside(const mt_windows *c, int32_t d, int64_t t, int64_t *lo, int64_t *hi);
// Values in the result's dtype, `step` bytes apart.
void mt_window_store(const mt_windows *c, char *to, int64_t step, const double *values, int64_t n);
