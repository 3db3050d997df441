// masked_conv_repeat: pixels whose channels hold the same values as those of an earlier pixel, told apart by a key. Under a rule
// that looks at one tap their results are copies: a mask cut by shapes or grids has few different pixels. Internal to masked_conv.
#pragma once
#include "masked_conv_window.h"

enum { MT_REPEATS = 256, MT_REPEAT_SPAN = 256 };

// The pixels that were met last, by their keys.
typedef struct {
  bool off;              // too few repeat: not worth the search
  int64_t asked, found;
  struct {
    uint64_t key;
    bool exact;
    const char *pixel;   // its first channel; NULL: none yet
    char *result[2];
  } entry[MT_REPEATS];
} mt_repeats;

// The keys of n pixels, at most MT_REPEAT_SPAN, `step` bytes apart. Returns whether equal keys mean equal pixels.
bool mt_repeat_keys(const mt_windows *c, uint64_t *key, const char *pixel, int64_t n, int64_t step);
// The results of an equal pixel, or NULL after having noted that those of this one come to `result`.
char *const *mt_repeat_find(mt_repeats *t, const mt_windows *c, uint64_t key, bool exact, const char *pixel, char *const result[2]);
