// lines: the walk of scatter kernels. Internal. Elements that differ only in their position along `dim` form a line; lines are
// independent of each other, so they are what is done in parallel, and each takes its elements in order.
#pragma once
#include "loop.h"

// What a row function sees: p[0], p[1], p[2] are the starts of n lines of src, y and positions, step[] leads to the next line;
// along a line there are `count` elements, these many bytes apart.
typedef struct {
  int64_t count, src_step, y_step, at_step, size;
  double alpha;
} line_plan;

typedef struct {
  mt_loop loop;
  mt_loop_row row;
  const line_plan *plan;
} line_task;

int mt_lines_run(mt_tensor *y, int32_t dim, const mt_tensor *positions, const mt_tensor *src, line_plan *plan, mt_loop_row row);
