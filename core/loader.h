// loader: batches from rows of contiguous memory, on a thread of its own ahead of time.
#pragma once
#include "tensor.h"

#pragma GCC visibility push(default)

// Element types that a source may have beside the dtypes: 16-bit tokens. Such a source is a uint8 tensor of twice the length.
enum { MT_UINT16 = 16 };

// Row r of out (N, *), seen as one line of L elements, gets length[r] elements of source from its element first[r] on, and pad
// elsewhere:
//   out[r] = source[first[r] .. first[r] + length[r] - 1] + add, at the beginning of the line, or at its end (align_right)
// Either out has the source's dtype and add is 0, or the source holds integers and out is int64. out and source are contiguous;
// first, length (N) int64, positions 1-based; length == NULL: L everywhere. A row must lie within the source.
typedef struct mt_gather {
  mt_tensor *out;
  const mt_tensor *source, *first, *length;
  int64_t add;
  double pad;
  int32_t type;         // of the source's elements: its dtype, or MT_UINT16
  int32_t align_right;
} mt_gather;

// One gather, now, on all threads.
int mt_loader_gather(const mt_gather *gather);

// A thread that works through submitted gathers in their order. It never calls back.
typedef struct mt_loader mt_loader;
int mt_loader_new(mt_loader **out);
// Ends the thread after the gather in progress and drops what was not begun. A finalizer: never fails, NULL is allowed.
void mt_loader_free(mt_loader *loader);
// Checks n gathers (1 to 8) and queues them as one job; the tensors are kept alive until it is done. At most 64 jobs wait.
// *ticket names the job. Nothing may write to the tensors meanwhile.
int mt_loader_submit(mt_loader *loader, int32_t n, const mt_gather *gathers, int64_t *ticket);
// Returns when that job is done.
int mt_loader_wait(mt_loader *loader, int64_t ticket);

#pragma GCC visibility pop
