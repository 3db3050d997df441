// activation_rows: see row_tables.h; the formulas are in activation_rows.h. The Makefile builds this file once per instruction set.
#include "activation_check.h"
#include "row.h"
#include "row_tables.h"

typedef mt_activation_parameters parameters;
#define MT_SOURCE "activation_rows.h"
#include "twice.h"

const activation_rows MT_PASTE(activation_rows_, TILE_NAME) = {
  .forward = {[MT_FLOAT32] = forward_f32, [MT_FLOAT64] = forward_f64},
  .backward = {[MT_FLOAT32] = backward_f32, [MT_FLOAT64] = backward_f64},
};
