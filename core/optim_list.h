// optim_list: one parallel pass over lists of tensors. Internal.
#pragma once
#include "loop.h"

// Entry i of the lists is one loop over operands tensors. names[k] stands in messages; writes has bit k set where list k is
// written to. An absent list (NULL) is replaced by list 0 and must not be touched by the row.
typedef struct mt_optim_list {
  const char *op;
  int64_t count;
  int32_t operands, writes;
  mt_tensor *const *tensors[MT_LOOP_OPERANDS];
  const char *names[MT_LOOP_OPERANDS];
  bool row_major;  // walk every tensor in row-major order, not in the order of memory: for sums whose order must not depend on strides
} mt_optim_list;

// The piece [begin, end) of tensor i; chunk counts the pieces of the whole list.
typedef void (*mt_optim_piece)(const mt_loop *loop, const mt_tensor *t, int64_t i, int64_t chunk, int64_t begin, int64_t end,
                               void *context);

enum { MT_OPTIM_PIECE = 16384 };  // elements

// Checks all tensors; then the number of pieces in *chunks.
int mt_optim_list_check(const mt_optim_list *list, int64_t *chunks);
// Checks, plans, and runs every piece. A list that writes is finished even when an interruption is pending.
int mt_optim_list_run(const mt_optim_list *list, mt_optim_piece piece, void *context);

// The same for rows: rows[dtype] on every tensor, with the numbers at (char *)numbers + i * size as its context.
int mt_optim_list_rows(const mt_optim_list *list, mt_loop_row float32, mt_loop_row float64, const void *numbers, int64_t size);
