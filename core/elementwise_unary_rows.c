// elementwise_unary_rows: see row_tables.h; the formulas are in elementwise_unary_rows.h. The Makefile builds this file once per
// instruction set.
#include "elementwise_check.h"
#include "row.h"
#include "row_tables.h"

#define MT_SOURCE "elementwise_unary_rows.h"
#include "five.h"

const unary_rows MT_PASTE(unary_rows_, TILE_NAME) = {
  .forward = {[MT_FLOAT32] = forward_f32, [MT_FLOAT64] = forward_f64, [MT_INT64] = forward_i64, [MT_INT32] = forward_i32,
              [MT_UINT8] = forward_u8, [MT_BOOL] = forward_u8},
  .backward = {[MT_FLOAT32] = backward_f32, [MT_FLOAT64] = backward_f64},
};
