// row_tables: the rows of activation.h and of the unary functions of elementwise.h, one build per instruction set (activation_rows.c,
// elementwise_unary_rows.c). By dtype and function, in the order of
// its enum. Internal.
#pragma once
#include "loop.h"

typedef struct activation_rows {
  const mt_loop_row *forward[MT_DTYPES], *backward[MT_DTYPES];
} activation_rows;

typedef struct unary_rows {
  const mt_loop_row *forward[MT_DTYPES], *backward[MT_DTYPES];
} unary_rows;

extern const activation_rows activation_rows_avx512, activation_rows_avx2, activation_rows_portable;
extern const unary_rows unary_rows_avx512, unary_rows_avx2, unary_rows_portable;
