// cublas: see cublas.cuh.
#include "cublas.cuh"

#include <cublasLt.h>

#include <mutex>

#define MT_CUBLAS(call)                                                                                                  \
  do {                                                                                                                   \
    const cublasStatus_t status_ = (call);                                                                               \
    if (status_ != CUBLAS_STATUS_SUCCESS) {                                                                              \
      return mt_fail(status_ == CUBLAS_STATUS_ALLOC_FAILED ? MT_ERROR_MEMORY : MT_ERROR_INTERNAL, "cuBLAS: %s: %s",      \
                     #call, cublasLtGetStatusString(status_));                                                           \
    }                                                                                                                    \
  } while (0)

enum { PLANS = 128, WORKSPACE = 32 << 20 };

// Multiplications from which cuBLASLt takes a product. Not measured: small ones are cheaper to start without it.
static const double LARGE = 1 << 27;

// ---- the product as cuBLASLt sees it ----------------------------------------------------------------------------------------

// Its matrices are column-major, so c (m, n) by rows is its d (n, m), and d = b' a': the operands change places.
struct cublas_matrix {
  int64_t ld, step;   // step: from one matrix of the batch to the next
  int32_t turned;     // op T
  uint32_t alignment; // of every matrix, in bytes: a power of 2, at most 256
};

// Compared byte by byte: no gaps.
struct cublas_problem {
  int64_t rows, columns, terms, batch;  // of d
  cublas_matrix first, second, d;
  int32_t device, how, bias, d_narrow;  // d_narrow: bfloat16, as operands are whose `how` is NARROW
};

static uint32_t alignment_of(const void *data, int64_t ld, int64_t step, int64_t size) {
  const uint64_t bits = (uint64_t)(uintptr_t)data | (uint64_t)(ld * size) | (uint64_t)(step * size) | 256;
  return (uint32_t)(bits & (0 - bits));
}

// A matrix of high x wide whose element (i, j) lies at i * down + j * across; false where cuBLASLt has no way to say so.
static bool matrix(cublas_matrix *out, const void *data, int64_t high, int64_t wide, int64_t down, int64_t across, int64_t step,
                   bool narrow) {
  out->turned = !(down == 1 && across >= high);
  out->ld = out->turned ? down : across;
  out->step = step;
  out->alignment = alignment_of(data, out->ld, step, narrow ? 2 : 4);
  return step >= 0 && (!out->turned || (across == 1 && down >= wide));
}

static bool describe(cublas_problem *q, mt_device *device, const mt_product *p, int32_t how) {
  memset(q, 0, sizeof *q);
  int64_t a_step = 0, b_step = 0, c_step = 0;
  int32_t many = 0;
  for (int32_t d = 0; d < p->batch_dims; d++) {
    if (p->batch_size[d] > 1) {
      a_step = p->a_batch[d];
      b_step = p->b_batch[d];
      c_step = p->c_batch[d];
      many++;
    }
  }
  q->rows = p->n;
  q->columns = p->m;
  q->terms = p->k;
  q->batch = p->batch;
  q->device = device->number;
  q->how = how;
  q->bias = p->bias != NULL;
  q->d_narrow = p->c_narrow;
  const bool narrow = how == MT_TILE_NARROW;
  return many <= 1 && (!p->bias || (p->bias_step == 1 && many == 0 && p->bias_narrow == p->c_narrow)) &&
         matrix(&q->first, p->b, p->n, p->k, p->b_col, p->b_row, b_step, narrow) &&
         matrix(&q->second, p->a, p->k, p->m, p->a_col, p->a_row, a_step, narrow) &&
         matrix(&q->d, p->c, p->n, p->m, p->c_col, p->c_row, c_step, p->c_narrow) && !q->d.turned;
}

// ---- plans: what cuBLASLt needs to know of a problem, and the kernel it chose ----------------------------------------------------

struct cublas_plan {
  cublas_problem problem;
  cublasLtMatmulDesc_t operation;
  cublasLtMatrixLayout_t first, second, d;
  cublasLtMatmulAlgo_t algorithm;
  size_t workspace;
  bool known, possible;
};

static std::mutex lock;
static cublasLtHandle_t handles[MT_MAX_DEVICES];
static cublas_plan plans[PLANS];
static int32_t next_plan;

static void forget(cublas_plan *plan) {
  if (plan->operation) {
    cublasLtMatmulDescDestroy(plan->operation);
  }
  cublasLtMatrixLayout_t layouts[] = {plan->first, plan->second, plan->d};
  for (cublasLtMatrixLayout_t layout : layouts) {
    if (layout) {
      cublasLtMatrixLayoutDestroy(layout);
    }
  }
  memset(plan, 0, sizeof *plan);
}

// The matrix in memory: `high` x `wide`, or turned.
static int make_layout(cublasLtMatrixLayout_t *layout, const cublas_matrix &x, int64_t high, int64_t wide, int64_t batch, bool narrow) {
  const int32_t count = (int32_t)batch;
  MT_CUBLAS(cublasLtMatrixLayoutCreate(layout, narrow ? CUDA_R_16BF : CUDA_R_32F, x.turned ? wide : high, x.turned ? high : wide, x.ld));
  MT_CUBLAS(cublasLtMatrixLayoutSetAttribute(*layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count));
  MT_CUBLAS(cublasLtMatrixLayoutSetAttribute(*layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &x.step, sizeof x.step));
  return MT_OK;
}

static int make_operation(cublas_plan *plan) {
  const cublas_problem &q = plan->problem;
  const cublasOperation_t turned = CUBLAS_OP_T;
  const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
  MT_CUBLAS(cublasLtMatmulDescCreate(&plan->operation, q.how == MT_TILE_NARROW ? CUBLAS_COMPUTE_32F
                                                       : q.how == MT_TILE_BF16 ? CUBLAS_COMPUTE_32F_FAST_16BF
                                                                               : CUBLAS_COMPUTE_32F_FAST_TF32, CUDA_R_32F));
  if (q.first.turned) {
    MT_CUBLAS(cublasLtMatmulDescSetAttribute(plan->operation, CUBLASLT_MATMUL_DESC_TRANSA, &turned, sizeof turned));
  }
  if (q.second.turned) {
    MT_CUBLAS(cublasLtMatmulDescSetAttribute(plan->operation, CUBLASLT_MATMUL_DESC_TRANSB, &turned, sizeof turned));
  }
  if (q.bias) {
    MT_CUBLAS(cublasLtMatmulDescSetAttribute(plan->operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue));
  }
  return MT_OK;
}

static int choose_algorithm(cublas_plan *plan, cublasLtMatmulPreference_t preference) {
  const cublas_problem &q = plan->problem;
  const size_t workspace = WORKSPACE;
  const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;  // parts of a sum are not rounded
  cublasLtMatmulHeuristicResult_t found;
  int count = 0;
  MT_CUBLAS(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace));
  if (q.d_narrow) {
    MT_CUBLAS(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof reductions));
  }
  const struct { cublasLtMatmulPreferenceAttributes_t name; uint32_t alignment; } alignments[] = {
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, q.first.alignment}, {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, q.second.alignment},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, q.d.alignment}, {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, q.d.alignment}};
  for (const auto &each : alignments) {
    MT_CUBLAS(cublasLtMatmulPreferenceSetAttribute(preference, each.name, &each.alignment, sizeof each.alignment));
  }
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handles[q.device], plan->operation, plan->first, plan->second, plan->d, plan->d,
                                                               preference, 1, &found, &count);
  plan->possible = status == CUBLAS_STATUS_SUCCESS && count > 0 && found.state == CUBLAS_STATUS_SUCCESS;
  if (!plan->possible) {
    return MT_OK;
  }
  plan->algorithm = found.algo;
  plan->workspace = found.workspaceSize;
  return MT_OK;
}

static int make_plan(cublas_plan *plan, const cublas_problem &q) {
  cublasLtMatmulPreference_t preference;
  plan->problem = q;
  if (!handles[q.device]) {
    MT_CUBLAS(cublasLtCreate(&handles[q.device]));
  }
  MT_TRY(make_operation(plan));
  MT_TRY(make_layout(&plan->first, q.first, q.rows, q.terms, q.batch, q.how == MT_TILE_NARROW));
  MT_TRY(make_layout(&plan->second, q.second, q.terms, q.columns, q.batch, q.how == MT_TILE_NARROW));
  MT_TRY(make_layout(&plan->d, q.d, q.rows, q.columns, q.batch, q.d_narrow));
  MT_CUBLAS(cublasLtMatmulPreferenceCreate(&preference));
  const int status = choose_algorithm(plan, preference);
  cublasLtMatmulPreferenceDestroy(preference);
  plan->known = status == MT_OK;
  return status;
}

// Choosing takes longer than a small product: plans are kept, the oldest goes first.
static int find_plan(cublas_plan **out, const cublas_problem &q) {
  for (cublas_plan &plan : plans) {
    if (plan.known && memcmp(&plan.problem, &q, sizeof q) == 0) {
      *out = &plan;
      return MT_OK;
    }
  }
  *out = &plans[next_plan];
  next_plan = (next_plan + 1) % PLANS;
  forget(*out);
  const int status = make_plan(*out, q);
  if (status != MT_OK) {
    forget(*out);
  }
  return status;
}

template <typename E> static __global__ void round_matrix(E *c, int64_t row, int64_t column, const float *from, int64_t rows, int64_t columns) {
  MT_EACH(i, rows * columns) {
    c[i / columns * row + i % columns * column] = (E)from[i];
  }
}

// A float32 bias goes with float32 results only: they are rounded afterwards.
static int run_rounded(bool *done, mt_device *device, const mt_product *p) {
  mt_product wide = *p;
  mt_scratch sums;
  MT_TRY(sums.take(device, p->m * p->n, sizeof(float)));
  wide.c = sums.data;
  wide.c_narrow = false;
  wide.c_row = p->n;
  wide.c_col = 1;
  MT_TRY(mt_cublas_run(done, device, &wide));
  if (*done) {
    MT_LAUNCH(device, round_matrix<mt_bf16>, mt_grid(device, p->m * p->n), MT_BLOCK, 0, (mt_bf16 *)p->c, p->c_row, p->c_col,
              (const float *)sums.data, p->m, p->n);
  }
  return MT_OK;
}

int mt_cublas_run(bool *done, mt_device *device, const mt_product *p) {
  const int32_t how = mt_tile_how(p->dtype);
  const float one = 1, zero = 0;
  cublas_problem q;
  cublas_plan *plan;
  mt_scratch workspace;
  *done = false;
  if (how == MT_TILE_3XTF32 || how == MT_TILE_F64 || (double)p->m * (double)p->n * (double)p->k * (double)p->batch < LARGE ||
      p->batch > INT32_MAX) {
    return MT_OK;
  }
  if (p->bias && p->c_narrow && !p->bias_narrow && p->batch == 1) {
    return run_rounded(done, device, p);
  }
  if (!describe(&q, device, p, how)) {
    return MT_OK;
  }
  std::lock_guard<std::mutex> hold(lock);
  MT_TRY(find_plan(&plan, q));
  if (!plan->possible) {
    return MT_OK;
  }
  if (p->bias) {
    MT_CUBLAS(cublasLtMatmulDescSetAttribute(plan->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias, sizeof p->bias));
  }
  MT_TRY(workspace.take(device, (int64_t)plan->workspace));
  MT_CUBLAS(cublasLtMatmul(handles[device->number], plan->operation, &one, p->b, plan->first, p->a, plan->second, &zero, p->c, plan->d, p->c,
                           plan->d, &plan->algorithm, workspace.data, plan->workspace, device->stream));
  *done = true;
  return MT_OK;
}
