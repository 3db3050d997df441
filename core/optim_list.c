// optim_list: see optim_list.h.
#include "optim_list.h"

enum { TOGETHER = 16 };  // pieces

static int64_t pieces(const mt_tensor *t) { return (t->numel + MT_OPTIM_PIECE - 1) / MT_OPTIM_PIECE; }

int mt_optim_list_check(const mt_optim_list *list, int64_t *chunks) {
  *chunks = 0;
  MT_TRY(mt_optim_check(list));
  for (int64_t i = 0; i < list->count; i++) {
    *chunks += pieces(list->tensors[0][i]);
  }
  return MT_OK;
}

typedef struct {
  const mt_optim_list *list;
  mt_loop *loops;
  int64_t *first;  // the first piece of every tensor
  bool *done;
  mt_optim_piece piece;
  void *context;
} pass;

static void run_pieces(void *context, int64_t begin, int64_t end) {
  const pass *p = context;
  for (int64_t chunk = begin; chunk < end; chunk++) {
    if (p->done[chunk]) {
      continue;
    }
    int64_t low = 0, high = p->list->count;  // the last tensor whose first piece is not behind this one
    while (high - low > 1) {
      const int64_t middle = (low + high) / 2;
      if (p->first[middle] <= chunk) {
        low = middle;
      } else {
        high = middle;
      }
    }
    const mt_tensor *t = p->list->tensors[0][low];
    const int64_t from = (chunk - p->first[low]) * MT_OPTIM_PIECE;
    p->piece(&p->loops[low], t, low, chunk, from, MT_MIN(from + MT_OPTIM_PIECE, t->numel), p->context);
    p->done[chunk] = true;
  }
}

// Tensors without elements have no piece; their `first` equals the next one's, which the search prefers.
static int plan(pass *p) {
  const mt_optim_list *list = p->list;
  int64_t chunk = 0;
  for (int64_t i = 0; i < list->count; i++) {
    const mt_tensor *t[MT_LOOP_OPERANDS + 1];
    mt_tensor guide = *list->tensors[0][i];
    int32_t n = 0;
    if (list->row_major) {  // mt_loop_plan follows the memory of its first operand
      mt_row_major(guide.stride, guide.ndim, guide.shape);
      t[n++] = &guide;
    }
    for (int32_t k = 0; k < list->operands; k++) {
      t[n++] = list->tensors[k] ? list->tensors[k][i] : list->tensors[0][i];
    }
    MT_TRY(mt_loop_plan(&p->loops[i], n, t));
    p->first[i] = chunk;
    chunk += pieces(list->tensors[0][i]);
  }
  return MT_OK;
}

int mt_optim_list_run(const mt_optim_list *list, mt_optim_piece piece, void *context) {
  int64_t chunks;
  MT_TRY(mt_optim_list_check(list, &chunks));
  if (chunks == 0) {
    return MT_OK;
  }
  MT_SCRATCH(mt_loop, loops, list->count);
  MT_SCRATCH(int64_t, first, list->count);
  MT_SCRATCH(bool, done, chunks);
  int status = loops && first && done ? MT_OK : MT_ERROR_MEMORY;
  if (status == MT_OK) {
    memset(done, 0, (size_t)chunks * sizeof(bool));
    pass p = {list, loops, first, done, piece, context};
    status = plan(&p);
    if (status == MT_OK) {
      // Neighbours go to the same thread: two that take turns at short pieces are slower than the memory. Enough for many threads.
      status = mt_parallel(chunks, MT_MAX(1, MT_MIN(TOGETHER, chunks / 64)), run_pieces, &p);
    }
    if (status == MT_ERROR_INTERRUPTED && list->writes) {
      run_pieces(&p, 0, chunks);  // what is left; the flag stays set for the next kernel
      status = MT_OK;
    }
  }
  mt_free(done);
  mt_free(first);
  mt_free(loops);
  return status;
}

typedef struct {
  mt_loop_row row[2];
  const char *numbers;
  int64_t size;
} rows;

static void run_rows(const mt_loop *loop, const mt_tensor *t, int64_t i, int64_t chunk, int64_t begin, int64_t end, void *context) {
  const rows *r = context;
  (void)chunk;
  mt_loop_range(loop, begin, end, r->row[t->dtype == MT_FLOAT64], r->numbers + i * r->size);
}

int mt_optim_list_rows(const mt_optim_list *list, mt_loop_row float32, mt_loop_row float64, const void *numbers, int64_t size) {
  rows r = {{float32, float64}, numbers, size};
  return mt_optim_list_run(list, run_rows, &r);
}
