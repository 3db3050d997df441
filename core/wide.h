// wide: bfloat16 arguments of a kernel of the CPU library that computes in float32: copies stand in for them. Internal.
//
//   mt_wide wide = {0};
//   x = mt_wide_input(&wide, x);          // x itself where it is not bfloat16; NULL stays NULL
//   y = mt_wide_output(&wide, y);
//   return mt_wide_end(&wide, wide.status ? wide.status : run(y, x));
#pragma once
#include "common.h"

enum { MT_WIDE = 8 };
typedef struct mt_wide {
  int status;                            // MT_OK, or why a copy could not be made
  int32_t count;
  mt_tensor *copy[MT_WIDE], *to[MT_WIDE];  // to: the output that a copy stands for; NULL: an input's
} mt_wide;

// t, or a float32 copy of it.
const mt_tensor *mt_wide_input(mt_wide *wide, const mt_tensor *t);
// t, or a float32 tensor like it, whose values mt_wide_end rounds to t.
mt_tensor *mt_wide_output(mt_wide *wide, mt_tensor *t);
// The copies end; status: of what was computed with them.
int mt_wide_end(mt_wide *wide, int status);
