// optim_list: one parallel pass over lists of tensors. Internal.
#pragma once
#include "optim_check.h"

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
