// optim_norm: what optim.h says about lists of gradients: norm, non_finite.
#ifdef REAL

// Each adds |x|^p of a row to the lanes of `sum`. Element k of a piece belongs to lane k % LANES whatever the rows are, so the order
// of the sum depends on the shape alone; several lanes keep the machine's adders busy.
static void FN(squares)(lanes *sum, const char *at, int64_t step, int64_t n) {
  const REAL *row = (const REAL *)at;
  int64_t i = 0;
  if (step == sizeof(REAL)) {
    for (; i < n && sum->position % LANES != 0; i++) {
      sum->lane[sum->position++ % LANES] += (double)row[i] * (double)row[i];
    }
    for (; i + LANES <= n; i += LANES, sum->position += LANES) {
      for (int32_t k = 0; k < LANES; k++) {
        sum->lane[k] += (double)row[i + k] * (double)row[i + k];
      }
    }
  }
  for (; i < n; i++) {
    const double x = *(const REAL *)(at + i * step);
    sum->lane[sum->position++ % LANES] += x * x;
  }
}

static void FN(powers)(lanes *sum, const char *at, int64_t step, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    const double x = fabs((double)*(const REAL *)(at + i * step));
    sum->lane[sum->position++ % LANES] += sum->p == 1 ? x : pow(x, sum->p);
  }
}

static void FN(largest)(lanes *sum, const char *at, int64_t step, int64_t n) {
  double most = sum->lane[0];
  for (int64_t i = 0; i < n; i++) {
    const double x = fabs((double)*(const REAL *)(at + i * step));
    most = most >= x || most != most ? most : x;  // NaN wins
  }
  sum->lane[0] = most;
}

static void FN(norm_row)(char *const *p, const int64_t *step, int64_t n, const void *context) {
  lanes *sum = (lanes *)(uintptr_t)context;  // one piece, one thread: the row may count in it
  if (sum->p == 2) {
    FN(squares)(sum, p[1], step[1], n);
  } else if (isinf(sum->p)) {
    FN(largest)(sum, p[1], step[1], n);
  } else {
    FN(powers)(sum, p[1], step[1], n);
  }
}

// x - x is 0 for a finite x, NaN for the others.
MT_CLONES static void FN(finite_row)(char *const *p, const int64_t *step, int64_t n, const void *context) {
  bool *bad = (bool *)(uintptr_t)context;
  int32_t found = 0;
  if (step[0] == sizeof(REAL)) {
    const REAL *row = (const REAL *)p[0];
    for (int64_t i = 0; i < n; i++) {
      found |= row[i] - row[i] != 0;
    }
  } else {
    for (int64_t i = 0; i < n; i++) {
      const REAL x = *(const REAL *)(p[0] + i * step[0]);
      found |= x - x != 0;
    }
  }
  *bad = *bad || found;
}

#else
#include "optim_list.h"
#include "row.h"

enum { LANES = 8 };
typedef struct {
  double lane[LANES];
  double p;
  int64_t position;
} lanes;

#define MT_SOURCE "optim_norm.c"
#include "twice.h"

// Sums of lanes and of pieces: compensated, since a list can have very many pieces (Neumaier, 1974).
typedef struct {
  double sum, lost;
} total;

static void add(total *t, double x) {
  const double s = t->sum + x;
  if (isfinite(s)) {
    t->lost += fabs(t->sum) >= fabs(x) ? (t->sum - s) + x : (x - s) + t->sum;
  }
  t->sum = s;
}

typedef struct {
  double *of_piece;
  double p;
} norm_context;

static void norm_piece(const mt_loop *loop, const mt_tensor *t, int64_t i, int64_t chunk, int64_t begin, int64_t end, void *context) {
  const norm_context *c = context;
  lanes sum = {.p = c->p};
  (void)i;
  mt_loop_range(loop, begin, end, MT_REAL_FN(t->dtype, norm_row), &sum);
  total all = {0, 0};
  for (int32_t k = 0; k < LANES; k++) {
    add(&all, sum.lane[k]);
  }
  c->of_piece[chunk] = all.sum + all.lost;
}

int mt_optim_norm(double *norm, int64_t count, mt_tensor *const *gradients, double p) {
  const mt_optim_list list = {.op = "grad_norm", .count = count, .operands = 1, .tensors = {gradients}, .names = {"gradient"},
    .row_major = true};
  int64_t chunks;
  MT_TRY(mt_optim_check_norm(p));
  MT_TRY(mt_optim_list_check(&list, &chunks));
  MT_SCRATCH(double, of_piece, chunks);
  if (!of_piece) {
    return MT_ERROR_MEMORY;
  }
  norm_context c = {of_piece, p};
  const int status = mt_optim_list_run(&list, norm_piece, &c);
  if (status == MT_OK) {
    total all = {0, 0};
    for (int64_t i = 0; i < chunks; i++) {
      if (isinf(p)) {  // NaN wins
        all.sum = all.sum >= of_piece[i] || all.sum != all.sum ? all.sum : of_piece[i];
      } else {
        add(&all, of_piece[i]);
      }
    }
    const double sum = all.sum + all.lost;
    *norm = isinf(p) || p == 1 ? sum : p == 2 ? sqrt(sum) : pow(sum, 1 / p);
  }
  mt_free(of_piece);
  return status;
}

static void finite_piece(const mt_loop *loop, const mt_tensor *t, int64_t i, int64_t chunk, int64_t begin, int64_t end,
                         void *context) {
  int64_t *tensor_of_piece = context;
  bool bad = false;
  mt_loop_range(loop, begin, end, MT_REAL_FN(t->dtype, finite_row), &bad);
  tensor_of_piece[chunk] = bad ? i + 1 : 0;
}

int mt_optim_clip_norm(mt_tensor *norm, int64_t count, mt_tensor *const *gradients, double limit, double p) {
  double value;
  MT_TRY(mt_optim_check_clip_norm(norm, limit));
  MT_TRY(mt_optim_norm(&value, count, gradients, p));
  MT_TRY(mt_tensor_fill(norm, value));
  const double factor = limit / (value + 1e-6);
  return isinf(limit) || factor >= 1 ? MT_OK : mt_optim_scale(count, gradients, factor);
}

int mt_optim_non_finite(int64_t *first, int64_t count, mt_tensor *const *tensors) {
  const mt_optim_list list = {.op = "has_non_finite", .count = count, .operands = 1, .tensors = {tensors}, .names = {"tensor"}};
  int64_t chunks;
  MT_TRY(mt_optim_list_check(&list, &chunks));
  MT_SCRATCH(int64_t, tensor_of_piece, chunks);
  if (!tensor_of_piece) {
    return MT_ERROR_MEMORY;
  }
  const int status = mt_optim_list_run(&list, finite_piece, tensor_of_piece);
  *first = 0;
  for (int64_t i = 0; status == MT_OK && i < chunks && *first == 0; i++) {
    *first = tensor_of_piece[i];
  }
  mt_free(tensor_of_piece);
  return status;
}

int mt_optim_guard(int64_t *first, int64_t count, mt_tensor *const *tensors, const double *numbers) {
  (void)numbers;
  return mt_optim_non_finite(first, count, tensors);
}

#endif
