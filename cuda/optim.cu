// optim: see core/optim.h. core/optim.c makes lists and numbers for both libraries; here one launch updates up to 60 tensors, and the
// update of an element is the text of core/optim_rows.h, so both devices give the same bits.
#include "exact.cuh"
#include "graph.cuh"
#include "row.cuh"

extern "C" {
#include "../core/optim_check.h"
}

enum { MT_ENTRIES = 60, MT_OPERANDS = 6, PIECE = 4096 };

// What a launch takes: at most 4 KB.
typedef struct optim_numbers {
  double number[14];
} optim_numbers;

typedef struct optim_entry {
  char *at[MT_OPERANDS];
  int64_t numel, first;  // the first piece of PIECE elements
} optim_entry;

typedef struct optim_work {
  optim_numbers numbers;
  const optim_numbers *at;   // where the numbers are instead; NULL: here
  const unsigned long long *bad;   // mt_optim_guard; NULL: not asked for
  int64_t count, pieces;
  optim_entry entry[MT_ENTRIES];
} optim_work;

static_assert(sizeof(adan_numbers) <= sizeof(optim_numbers) && sizeof(adam_numbers) <= sizeof(optim_numbers) &&
              sizeof(sgd_numbers) <= sizeof(optim_numbers) && sizeof(rmsprop_numbers) <= sizeof(optim_numbers), "numbers");
static_assert(sizeof(optim_numbers) <= MT_GRAPH_NUMBERS, "a graph's slot holds the numbers");
static_assert(sizeof(optim_work) <= 4096, "a launch takes 4 KB of arguments");

// The tensor that a piece belongs to.
MT_DEVICE int entry_of(const optim_work &w, int64_t piece) {
  int low = 0, high = (int)w.count;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (w.entry[middle].first <= piece) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

// ---- updates --------------------------------------------------------------------------------------------------------------

#define AT(k) (*(REAL *)(q[k]))
#define K(name) const REAL name = (REAL)c->name;
#define UPDATE(name, last, constants, ...)                                              \
  struct FN(name##_update) {                                                            \
    typedef REAL type;                                                                  \
    static __device__ __forceinline__ void run(char *const *q, const void *numbers) {   \
      [[maybe_unused]] const name##_numbers *c = (const name##_numbers *)numbers;       \
      constants __VA_ARGS__                                                             \
    }                                                                                   \
  };
#define MT_SOURCE "optim_rows.h"
#include "../core/twice.h"
#undef AT
#undef K
#undef UPDATE

// Tensors whose operands lie alike and without gaps. Four elements in flight per thread.
template <typename U> static __global__ void update_dense(const __grid_constant__ optim_work w) {
  typedef typename U::type T;
  const optim_numbers *numbers = w.at ? w.at : &w.numbers;
  if (w.bad && *w.bad != MT_NONE_BAD) {
    return;
  }
  for (int64_t piece = blockIdx.x; piece < w.pieces; piece += gridDim.x) {
    const optim_entry &e = w.entry[entry_of(w, piece)];
    const int64_t begin = (piece - e.first) * PIECE, end = MT_MIN(begin + PIECE, e.numel);
    char *base[MT_OPERANDS];
#pragma unroll
    for (int k = 0; k < MT_OPERANDS; k++) {
      base[k] = e.at[k];
    }
#pragma unroll 4
    for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
      char *q[MT_OPERANDS];
#pragma unroll
      for (int k = 0; k < MT_OPERANDS; k++) {
        q[k] = base[k] + i * (int64_t)sizeof(T);
      }
      U::run(q, numbers);
    }
  }
}

// One tensor of any strides.
template <typename U> static __global__ void update_strided(const mt_walk walk, const __grid_constant__ optim_numbers own,
                                                              const optim_numbers *at, const unsigned long long *bad) {
  const optim_numbers *numbers = at ? at : &own;
  if (bad && *bad != MT_NONE_BAD) {
    return;
  }
  MT_EACH(i, walk.numel) {
    char *q[MT_OPERANDS];
    mt_walk_at(q, walk, i);
    U::run(q, numbers);
  }
}

template <typename U> static int launch_dense(mt_device *device, const optim_work *w) {
  MT_LAUNCH(device, update_dense<U>, mt_grid(device, w->pieces, 1), MT_BLOCK, 0, *w);
  return MT_OK;
}

template <typename U> static int launch_strided(mt_device *device, const mt_walk *walk, const optim_numbers *numbers,
                                                const optim_numbers *at, const unsigned long long *bad) {
  MT_LAUNCH(device, update_strided<U>, mt_grid(device, walk->numel), MT_BLOCK, 0, *walk, *numbers, at, bad);
  return MT_OK;
}

typedef struct update_functions {
  int (*dense)(mt_device *, const optim_work *);
  int (*strided)(mt_device *, const mt_walk *, const optim_numbers *, const optim_numbers *,
                 const unsigned long long *);
} update_functions;

#define FUNCTIONS(name)                                                            \
  {{launch_dense<name##_update_f32>, launch_strided<name##_update_f32>},           \
   {launch_dense<name##_update_f64>, launch_strided<name##_update_f64>}}
static const update_functions functions[MT_OPTIM_KINDS][2] = {FUNCTIONS(sgd),  FUNCTIONS(adam), FUNCTIONS(rmsprop), FUNCTIONS(adan),
                                                              FUNCTIONS(ema),  FUNCTIONS(swap), FUNCTIONS(scale),   FUNCTIONS(clamp)};
static const int64_t sizes[MT_OPTIM_KINDS] = {sizeof(sgd_numbers), sizeof(adam_numbers), sizeof(rmsprop_numbers), sizeof(adan_numbers),
                                              sizeof(ema_numbers), sizeof(swap_numbers), sizeof(scale_numbers),   sizeof(clamp_numbers)};

// All operands of entry i in the same order in one piece of memory each.
static bool is_dense(const mt_optim_list *list, int64_t i) {
  const mt_tensor *first = list->tensors[0][i];
  int64_t reach = 1;
  for (int32_t d = 0; d < first->ndim; d++) {
    reach += (first->shape[d] - 1) * first->stride[d];
  }
  bool dense = reach == first->numel && mt_tensor_is_dense(first);
  for (int32_t k = 1; k < list->operands && dense; k++) {
    dense = list->tensors[k] == NULL || mt_tensor_alike(first, list->tensors[k][i]) == 3;
  }
  return dense;
}

static void add_entry(optim_work *w, const mt_optim_list *list, int64_t i) {
  optim_entry *e = &w->entry[w->count++];
  for (int32_t k = 0; k < MT_OPERANDS; k++) {
    const bool given = k < list->operands && list->tensors[k];
    e->at[k] = (char *)(given ? list->tensors[k][i] : list->tensors[0][i])->data;
  }
  e->numel = list->tensors[0][i]->numel;
  e->first = w->pieces;
  w->pieces += (e->numel + PIECE - 1) / PIECE;
}

// Where the numbers of a launch are: at `fixed`, else as a graph has it; the updates of optimisers obey mt_optim_guard.
typedef struct update_how {
  int32_t kind;
  const optim_numbers *fixed;
  const unsigned long long *bad;
} update_how;

static int numbers_of(const optim_numbers **at, bool *renewed, mt_device *device, const update_how *how, const optim_numbers *numbers) {
  const void *found = how->fixed;
  *renewed = false;
  if (how->fixed == NULL) {
    MT_TRY(mt_graph_numbers(&found, renewed, device, numbers, sizeof *numbers));
  }
  *at = (const optim_numbers *)found;
  return MT_OK;
}

static int update_one(mt_device *device, const mt_optim_list *list, int64_t i, const update_how *how, const optim_numbers *numbers) {
  const mt_tensor *t[MT_OPERANDS];
  const optim_numbers *at;
  mt_walk walk;
  bool renewed;
  for (int32_t k = 0; k < MT_OPERANDS; k++) {
    t[k] = k < list->operands && list->tensors[k] ? list->tensors[k][i] : list->tensors[0][i];
  }
  MT_TRY(mt_walk_plan(&walk, MT_OPERANDS, t));
  MT_TRY(numbers_of(&at, &renewed, device, how, numbers));
  return renewed ? MT_OK : functions[how->kind][t[0]->dtype == MT_FLOAT64].strided(device, &walk, numbers, at, how->bad);
}

static int update_portion(mt_device *device, optim_work *w, const update_how *how, int32_t exact) {
  bool renewed;
  MT_TRY(numbers_of(&w->at, &renewed, device, how, &w->numbers));
  w->bad = how->bad;
  return renewed ? MT_OK : functions[how->kind][exact].dense(device, w);
}

static int check_devices(const mt_optim_list *list) {
  for (int64_t i = 0; i < list->count; i++) {
    for (int32_t k = 0; k < list->operands; k++) {
      if (list->tensors[k]) {
        const mt_tensor *t = list->tensors[k][i];
        MT_TRY(mt_check_together(list->op, list->tensors[0][0], 1, &t));
      }
    }
  }
  return MT_OK;
}

static int update_all(mt_device *device, const mt_optim_list *list, const update_how *how, const void *numbers, int64_t size) {
  optim_work w;
  for (int32_t exact = 0; exact < 2; exact++) {
    memset(&w, 0, sizeof w);
    for (int64_t i = 0; i <= list->count; i++) {
      const bool last = i == list->count;
      const mt_tensor *t = last ? NULL : list->tensors[0][i];
      if (!last && (t->numel == 0 || (t->dtype == MT_FLOAT64) != exact)) {
        continue;
      }
      optim_numbers own;
      memset(&own, 0, sizeof own);
      if (!last) {
        memcpy(&own, (const char *)numbers + i * size, (size_t)sizes[how->kind]);
      }
      if (w.count > 0 && (last || w.count == MT_ENTRIES || memcmp(&own, &w.numbers, sizeof own) != 0)) {
        MT_TRY(update_portion(device, &w, how, exact));
        memset(&w, 0, sizeof w);
      }
      if (!last && is_dense(list, i)) {
        w.numbers = own;
        add_entry(&w, list, i);
      } else if (!last) {
        MT_TRY(update_one(device, list, i, how, &own));
      }
    }
  }
  return MT_OK;
}

int mt_optim_rows(const mt_optim_list *list, int32_t kind, const void *numbers, int64_t size) {
  mt_device *device;
  MT_TRY(mt_optim_check(list));
  if (list->count == 0) {
    return MT_OK;
  }
  MT_TRY(check_devices(list));
  MT_TRY(mt_enter(&device, list->tensors[0][0]));
  const update_how how = {kind, NULL, kind <= MT_OPTIM_ADAN ? device->bad : NULL};
  return update_all(device, list, &how, numbers, size);
}

// ---- norms and looks --------------------------------------------------------------------------------------------------------

// A block for each piece: the sum of |x|^p, or the largest |x|. What goes where depends on positions alone.
template <typename T> static __global__ void norm_pieces(double *of_piece, const __grid_constant__ optim_work w, double p) {
  for (int64_t piece = blockIdx.x; piece < w.pieces; piece += gridDim.x) {
    const optim_entry &e = w.entry[entry_of(w, piece)];
    const int64_t begin = (piece - e.first) * PIECE;
    const mt_block_team team(MT_MIN((int64_t)PIECE, e.numel - begin));
    const T *x = (const T *)e.at[0] + begin;
    double all;
    if (isinf(p)) {
      all = team.largest(0.0, [&](int64_t i) { return fabs((double)x[i]); });
    } else {
      all = team.sum([&](int64_t i) {
        const double v = fabs((double)x[i]);
        return p == 2 ? v * v : p == 1 ? v : pow(v, p);
      });
    }
    if (threadIdx.x == 0) {
      of_piece[piece] = all;
    }
  }
}

// One block. The norm, and the factor that brings it to `limit`.
static __global__ void norm_all(double *norm, scale_numbers *scale, const double *of_piece, int64_t pieces, double p, double limit) {
  const mt_block_team team(pieces);
  const double all = isinf(p) ? team.largest(0.0, [&](int64_t i) { return of_piece[i]; }) : mt_exact_sum(of_piece, pieces, 1);
  if (threadIdx.x == 0) {
    const double value = isinf(p) || p == 1 ? all : p == 2 ? sqrt(all) : pow(all, 1 / p), factor = limit / (value + 1e-6);
    *norm = value;
    scale->factor = factor >= 1 ? 1 : factor;
  }
}

static __global__ void record_gradient(const unsigned long long *bad, mt_fault *fault, int32_t site) {
  if (*bad != MT_NONE_BAD) {
    mt_record(fault, site, (int64_t)*bad, 0, 0, MT_FAULT_GRADIENT);
  }
}

// *first = the smallest number of a tensor with an element that is not finite.
template <typename T> static __global__ void find_non_finite(unsigned long long *first, const __grid_constant__ optim_work w) {
  for (int64_t piece = blockIdx.x; piece < w.pieces; piece += gridDim.x) {
    const optim_entry &e = w.entry[entry_of(w, piece)];
    const int64_t begin = (piece - e.first) * PIECE, end = MT_MIN(begin + PIECE, e.numel);
    bool found = false;
    for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
      const T x = ((const T *)e.at[0])[i];
      found = found || x - x != 0;
    }
    if (__syncthreads_or(found) && threadIdx.x == 0) {
      atomicMin(first, (unsigned long long)(uintptr_t)e.at[1]);  // its number
    }
  }
}

// Row-major tensors, those that are not copied; each reference is dropped at the end.
struct plain_list {
  mt_tensor **data;
  int64_t count;
  plain_list() : data(NULL), count(0) {}
  ~plain_list() {
    for (int64_t i = 0; i < count; i++) {
      mt_tensor_release(data[i]);
    }
    mt_free(data);
  }
  int take(const mt_optim_list *list) {
    data = (mt_tensor **)mt_alloc_array(MT_MAX(list->count, 1), (int64_t)sizeof *data);
    if (data == NULL) {
      return MT_ERROR_MEMORY;
    }
    for (; count < list->count; count++) {
      MT_TRY(mt_contiguous(&data[count], list->tensors[0][count]));
    }
    return MT_OK;
  }
};

// Calls launch(w, exact, pieces before) for the list in portions; numbers: what to call the tensors (NULL: 1, 2, ...).
template <typename F> static int each_portion(const plain_list &plain, const double *numbers, const F &launch) {
  optim_work w;
  int64_t before = 0;
  for (int32_t exact = 0; exact < 2; exact++) {
    memset(&w, 0, sizeof w);
    for (int64_t i = 0; i <= plain.count; i++) {
      const bool last = i == plain.count;
      if (!last && (plain.data[i]->numel == 0 || (plain.data[i]->dtype == MT_FLOAT64) != exact)) {
        continue;
      }
      if (w.count > 0 && (last || w.count == MT_ENTRIES)) {
        MT_TRY(launch(w, exact, before));
        before += w.pieces;
        memset(&w, 0, sizeof w);
      }
      if (!last) {
        optim_entry *e = &w.entry[w.count++];
        e->at[0] = (char *)plain.data[i]->data;
        e->at[1] = (char *)(uintptr_t)(numbers ? (int64_t)numbers[i] : i + 1);
        e->numel = plain.data[i]->numel;
        e->first = w.pieces;
        w.pieces += (e->numel + PIECE - 1) / PIECE;
      }
    }
  }
  return MT_OK;
}

static mt_optim_list list_of(const char *op, int64_t count, mt_tensor *const *tensors, const char *name) {
  mt_optim_list list;
  memset(&list, 0, sizeof list);
  list.op = op;
  list.count = count;
  list.operands = 1;
  list.tensors[0] = tensors;
  list.names[0] = name;
  return list;
}

// *out = the norm and then the scale_numbers of a non-empty list, on the device.
static int find_norm(mt_scratch *block, double **out, mt_device **device, const mt_optim_list *list, double p, double limit) {
  plain_list plain;
  int64_t pieces = 0;
  MT_TRY(check_devices(list));
  MT_TRY(mt_enter(device, list->tensors[0][0]));
  MT_TRY(plain.take(list));
  for (int64_t i = 0; i < list->count; i++) {
    pieces += (list->tensors[0][i]->numel + PIECE - 1) / PIECE;
  }
  MT_TRY(block->take(*device, pieces + 2 + (int64_t)(sizeof(optim_numbers) / sizeof(double)), sizeof(double)));
  double *of_piece = (double *)block->data;
  *out = of_piece + pieces;
  MT_TRY(each_portion(plain, NULL, [&](const optim_work &w, int32_t exact, int64_t before) -> int {
    if (exact) {
      MT_LAUNCH(*device, norm_pieces<double>, mt_grid(*device, w.pieces, 1), MT_SLOTS, 0, of_piece + before, w, p);
    } else {
      MT_LAUNCH(*device, norm_pieces<float>, mt_grid(*device, w.pieces, 1), MT_SLOTS, 0, of_piece + before, w, p);
    }
    return MT_OK;
  }));
  MT_LAUNCH(*device, norm_all, 1, MT_SLOTS, 0, *out, (scale_numbers *)(*out + 1), (const double *)of_piece, pieces, p, limit);
  return MT_OK;
}

extern "C" int mt_optim_norm(double *norm, int64_t count, mt_tensor *const *gradients, double p) {
  mt_device *device;
  mt_scratch block;
  double *found;
  const mt_optim_list list = list_of("grad_norm", count, gradients, "gradient");
  MT_TRY(mt_optim_check_norm(p));
  MT_TRY(mt_optim_check(&list));
  *norm = 0;
  if (count == 0) {
    return MT_OK;
  }
  MT_TRY(find_norm(&block, &found, &device, &list, p, 0));
  return mt_copy_to_host("grad_norm", device, norm, found, (int64_t)sizeof *norm);
}

extern "C" int mt_optim_clip_norm(mt_tensor *norm, int64_t count, mt_tensor *const *gradients, double limit, double p) {
  mt_device *device;
  mt_scratch block;
  double *found;
  mt_optim_list list = list_of("clip_grad_norm_", count, gradients, "gradient");
  list.writes = 1;
  const scale_numbers unused = {1};
  MT_TRY(mt_optim_check_norm(p));
  MT_TRY(mt_optim_check_clip_norm(norm, limit));
  MT_TRY(mt_optim_check(&list));
  if (count == 0) {
    return mt_tensor_fill(norm, 0);
  }
  const mt_tensor *const t[] = {norm};
  MT_TRY(mt_check_together(list.op, gradients[0], 1, t));
  MT_TRY(find_norm(&block, &found, &device, &list, p, limit));
  MT_CUDA(cudaMemcpyAsync(norm->data, found, sizeof *found, cudaMemcpyDeviceToDevice, device->stream));
  if (isinf(limit)) {
    return MT_OK;
  }
  const update_how how = {MT_OPTIM_SCALE, (const optim_numbers *)(found + 1), NULL};
  return update_all(device, &list, &how, &unused, 0);
}

// *number = the smallest number of a tensor that holds NaN or infinity.
static int look_at(mt_device *device, unsigned long long *number, const mt_optim_list *list, const double *numbers) {
  plain_list plain;
  MT_TRY(plain.take(list));
  return each_portion(plain, numbers, [&](const optim_work &w, int32_t exact, int64_t before) -> int {
    (void)before;
    if (exact) {
      MT_LAUNCH(device, find_non_finite<double>, mt_grid(device, w.pieces, 1), MT_BLOCK, 0, number, w);
    } else {
      MT_LAUNCH(device, find_non_finite<float>, mt_grid(device, w.pieces, 1), MT_BLOCK, 0, number, w);
    }
    return MT_OK;
  });
}

extern "C" int mt_optim_non_finite(int64_t *first, int64_t count, mt_tensor *const *tensors) {
  mt_device *device;
  mt_scratch block;
  const mt_optim_list list = list_of("has_non_finite", count, tensors, "tensor");
  MT_TRY(mt_optim_check(&list));
  *first = 0;
  if (count == 0) {
    return MT_OK;
  }
  MT_TRY(check_devices(&list));
  MT_TRY(mt_enter(&device, tensors[0]));
  MT_TRY(block.take(device, 1, sizeof(int64_t)));
  unsigned long long *found = (unsigned long long *)block.data, number = 0;
  MT_CUDA(cudaMemsetAsync(found, 0x7F, sizeof *found, device->stream));
  MT_TRY(look_at(device, found, &list, NULL));
  MT_TRY(mt_copy_to_host(list.op, device, &number, found, (int64_t)sizeof number));
  *first = number == MT_NONE_BAD ? 0 : (int64_t)number;
  return MT_OK;
}

extern "C" int mt_optim_guard(int64_t *first, int64_t count, mt_tensor *const *tensors, const double *numbers) {
  mt_device *device;
  const mt_optim_list list = list_of("step", count, tensors, "gradient");
  MT_TRY(mt_optim_check(&list));
  *first = 0;
  if (count == 0) {
    return MT_OK;
  }
  MT_TRY(check_devices(&list));
  MT_TRY(mt_enter(&device, tensors[0]));
  MT_TRY(mt_poll("step", device));
  MT_TRY(look_at(device, device->bad, &list, numbers));
  MT_LAUNCH(device, record_gradient, 1, 1, 0, (const unsigned long long *)device->bad, device->fault, mt_fault_site("step"));
  return MT_OK;
}
