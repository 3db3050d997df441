// index_check: what index.h and embedding.h ask of their arguments, and their tensors as others see them, for both libraries. Internal.
#pragma once
#include "common.h"

// index and `other` (the output of a gather, the source of a scatter) against the tensor x that is read or written along dim.
int mt_index_check(const char *op, const mt_tensor *x, int32_t dim, const mt_tensor *index, const char *name, const mt_tensor *other);
int mt_index_check_gather(const char *op, const mt_tensor *y, const mt_tensor *x, int32_t dim, const mt_tensor *index);
int mt_index_check_scatter(const char *op, const mt_tensor *y, int32_t dim, const mt_tensor *index, const mt_tensor *src);
int mt_index_check_scatter_backward(const char *op, const mt_tensor *dsrc, const mt_tensor *dy, int32_t dim, const mt_tensor *index);
// bool or uint8, broadcasts to x.
int mt_index_check_mask(const char *op, const mt_tensor *mask, const mt_tensor *x);
int mt_index_check_flip(const mt_tensor *y, const mt_tensor *x);
// A header of x read backwards along the dims whose bits are set.
mt_tensor mt_index_flipped(const mt_tensor *x, int32_t dims);
int mt_index_check_fill(const mt_tensor *y, const mt_tensor *x, const mt_tensor *mask);
int mt_index_check_triangle(const mt_tensor *mask);

// rows: y or dy, called `name`; weight is called `table`.
int mt_embedding_check(const char *name, const mt_tensor *rows, const char *table, const mt_tensor *weight, const mt_tensor *index);
// An embedding as a gather along the first dim: headers of `to` (y's memory), `table` (weight's) and `at` (index's), of one shape.
void mt_embedding_gather(mt_tensor *to, mt_tensor *table, mt_tensor *at, const mt_tensor *y, const mt_tensor *weight,
                         const mt_tensor *index);
// Its backward as adding rows: headers (numel of index, row length) of `at` (index's memory) and `from` (dy's); both contiguous.
void mt_embedding_scatter(mt_tensor *at, mt_tensor *from, const mt_tensor *index, const mt_tensor *dy);
