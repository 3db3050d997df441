// masked_conv_window: what every window of a convolution holds, in double precision. Internal; masked_conv.c makes masks and
// ratios of it.
#pragma once
#include "common.h"

// Three spatial axes always; missing ones come first, with one position and one tap.
typedef struct {
  int64_t in[3], out[3], kernel[3], stride[3], dilation[3], pad[3];
  int64_t N, groups, channels;  // samples, mask groups, mask channels per group
  int64_t merged;               // how many channels were summed into each of those (counts)
  int64_t filters;              // results per group
  int64_t positions, pixels, taps;
  const double *mask;           // (N, groups, channels, *S)
  const double *weight;         // (groups, taps, channels, filters), NULL: counts
  const double *whole;          // (groups, filters): K of a window without taps outside the image
  double *S, *K;                // (N, *S', groups, filters); erode: S holds the minimum, K whether a tap lies inside
  bool border, erode, centre_only;
} mt_windows;

// Everything a call needs; released in one place.
typedef struct {
  mt_windows c;
  mt_tensor *mask;
  double *weight, *whole, *result;
} mt_window_work;

void mt_window_release(mt_window_work *k);
// Checks mask, weight and geometry, and loads the mask. k begins as zeros.
int mt_window_begin(const char *op, mt_window_work *k, const mt_tensor *mask, const mt_tensor *w, const mt_conv *g,
                    const mt_window *v);
enum { MT_MERGE_SUM, MT_MERGE_SMALLEST, MT_MERGE_LARGEST };
// Where channels weigh the same, one pass merges those of a group.
void mt_window_merge(mt_window_work *k, int how);
// Loads |w| or w^2; `centre` sums over the taps first. A one-channel mask sees the sum over the input channels.
int mt_window_weigh(mt_window_work *k, const mt_tensor *w, const mt_conv *g, int32_t norm, bool centre);
// Fills S and K of every window.
int mt_window_sum(mt_window_work *k);
// Writes S to out (N, 1 or O, *S'): a group's value repeats for each of its filters.
int mt_window_write(const char *op, mt_tensor *out, const mt_window_work *k, const mt_conv *g);

static inline int64_t mt_window_count(const mt_windows *c) { return c->N * c->positions * c->groups * c->filters; }
