// index_check: what index.h and embedding.h ask of their arguments, for both libraries. Internal.
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
int mt_index_check_fill(const mt_tensor *y, const mt_tensor *x, const mt_tensor *mask);
int mt_index_check_triangle(const mt_tensor *mask);

// rows: y or dy, called `name`; weight is called `table`.
int mt_embedding_check(const char *name, const mt_tensor *rows, const char *table, const mt_tensor *weight, const mt_tensor *index);
// A header of t with one more dim, of this size and stride, at `at`.
mt_tensor mt_embedding_raised(const mt_tensor *t, int32_t at, int64_t size, int64_t stride);
