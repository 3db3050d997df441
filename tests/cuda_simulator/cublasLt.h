// A stand-in for the part of cuBLASLt that cuda/cublas.cu uses: the product as its documentation defines it, one thread per result, with
// operands rounded to what the tensor core would take. It refuses what the real one refuses (leading dimensions that are too small,
// alignments that are not what was promised), and says that a problem is not supported when it has as many rows as
// mt_simulated_cublas_refuses.
#pragma once
#include <cuda_runtime.h>

typedef enum { CUBLAS_STATUS_SUCCESS = 0, CUBLAS_STATUS_ALLOC_FAILED = 3, CUBLAS_STATUS_INVALID_VALUE = 7, CUBLAS_STATUS_NOT_SUPPORTED = 15 } cublasStatus_t;
typedef enum { CUBLAS_OP_N = 0, CUBLAS_OP_T = 1 } cublasOperation_t;
typedef enum { CUBLAS_COMPUTE_32F = 68, CUBLAS_COMPUTE_32F_FAST_16BF = 75, CUBLAS_COMPUTE_32F_FAST_TF32 = 77 } cublasComputeType_t;
typedef enum { CUDA_R_32F = 0, CUDA_R_16BF = 14 } cudaDataType_t;
typedef enum { CUBLASLT_EPILOGUE_DEFAULT = 1, CUBLASLT_EPILOGUE_BIAS = 4 } cublasLtEpilogue_t;
typedef enum {
  CUBLASLT_MATMUL_DESC_TRANSA = 3, CUBLASLT_MATMUL_DESC_TRANSB = 4, CUBLASLT_MATMUL_DESC_EPILOGUE = 7, CUBLASLT_MATMUL_DESC_BIAS_POINTER = 8
} cublasLtMatmulDescAttributes_t;
typedef enum { CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT = 5, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET = 6 } cublasLtMatrixLayoutAttribute_t;
typedef enum {
  CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES = 1, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK = 3, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES = 5,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES = 6, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES = 7, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES = 8
} cublasLtMatmulPreferenceAttributes_t;

enum { CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE = 2 };

struct mt_simulated_operation { int32_t bits, turned[2], epilogue; const void *bias; };  // bits: that operands lose
struct mt_simulated_layout { int64_t rows, columns, ld, step; int32_t count; bool bf16; };
struct mt_simulated_preference { size_t workspace; uint32_t alignment[4]; };
typedef struct mt_simulated_handle { int unused; } *cublasLtHandle_t;
typedef mt_simulated_operation *cublasLtMatmulDesc_t;
typedef mt_simulated_layout *cublasLtMatrixLayout_t;
typedef mt_simulated_preference *cublasLtMatmulPreference_t;
typedef struct { uint32_t alignment[4]; } cublasLtMatmulAlgo_t;
typedef struct { cublasLtMatmulAlgo_t algo; size_t workspaceSize; cublasStatus_t state; float wavesCount; int reserved[4]; } cublasLtMatmulHeuristicResult_t;

enum { mt_simulated_cublas_refuses = 777 };

static inline const char *cublasLtGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_NOT_SUPPORTED ? "not supported" : status == CUBLAS_STATUS_SUCCESS ? "success" : "invalid value";
}
static inline cublasStatus_t cublasLtCreate(cublasLtHandle_t *out) { *out = new mt_simulated_handle(); return CUBLAS_STATUS_SUCCESS; }

static inline cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t type, cudaDataType_t) {
  *out = new mt_simulated_operation();
  (*out)->bits = type == CUBLAS_COMPUTE_32F ? 0 : type == CUBLAS_COMPUTE_32F_FAST_16BF ? 16 : 13;
  (*out)->epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  return CUBLAS_STATUS_SUCCESS;
}
static inline cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t x) { delete x; return CUBLAS_STATUS_SUCCESS; }
static inline cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t x, cublasLtMatmulDescAttributes_t name, const void *value, size_t) {
  switch (name) {
    case CUBLASLT_MATMUL_DESC_TRANSA: memcpy(&x->turned[0], value, 4); break;
    case CUBLASLT_MATMUL_DESC_TRANSB: memcpy(&x->turned[1], value, 4); break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE: memcpy(&x->epilogue, value, 4); break;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: memcpy(&x->bias, value, sizeof x->bias); break;
  }
  return CUBLAS_STATUS_SUCCESS;
}

static inline cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType_t type, uint64_t rows, uint64_t columns, int64_t ld) {
  if (ld < (int64_t)rows) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  *out = new mt_simulated_layout{(int64_t)rows, (int64_t)columns, ld, 0, 1, type == CUDA_R_16BF};
  return CUBLAS_STATUS_SUCCESS;
}
static inline cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t x) { delete x; return CUBLAS_STATUS_SUCCESS; }
static inline cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t x, cublasLtMatrixLayoutAttribute_t name, const void *value, size_t) {
  if (name == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT) {
    memcpy(&x->count, value, 4);
  } else {
    memcpy(&x->step, value, 8);
  }
  return CUBLAS_STATUS_SUCCESS;
}

static inline cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out) {
  *out = new mt_simulated_preference{0, {256, 256, 256, 256}};
  return CUBLAS_STATUS_SUCCESS;
}
static inline cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t x) { delete x; return CUBLAS_STATUS_SUCCESS; }
static inline cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t x, cublasLtMatmulPreferenceAttributes_t name,
                                                                  const void *value, size_t) {
  if (name == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) {
    memcpy(&x->workspace, value, sizeof x->workspace);
  } else if (name != CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK) {
    memcpy(&x->alignment[name - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value, 4);
  }
  return CUBLAS_STATUS_SUCCESS;
}

static inline cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                                            cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
                                                            cublasLtMatmulPreference_t preference, int, cublasLtMatmulHeuristicResult_t *found,
                                                            int *count) {
  *count = d->rows != mt_simulated_cublas_refuses;
  memcpy(found->algo.alignment, preference->alignment, sizeof found->algo.alignment);
  found->workspaceSize = preference->workspace < 1024 ? preference->workspace : 1024;
  found->state = CUBLAS_STATUS_SUCCESS;
  return *count ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

struct mt_simulated_product {
  const void *a, *b, *bias;
  void *d;
  int64_t rows, columns, terms, a_down, a_across, a_step, b_down, b_across, b_step, d_ld, d_step;
  int32_t bits, bf16, d_bf16, unused;
};

// To nearest, ties away from zero, as many bits less.
static inline float mt_simulated_rounded(float x, int bits) {
  uint32_t u;
  memcpy(&u, &x, 4);
  u = bits == 0 || (u & 0x7F800000) == 0x7F800000 ? u : (u + (1u << (bits - 1))) & ~((1u << bits) - 1);
  memcpy(&x, &u, 4);
  return x;
}

static inline float mt_simulated_element(const void *p, int64_t i, bool bf16) {
  if (!bf16) {
    return ((const float *)p)[i];
  }
  const uint32_t u = (uint32_t)((const uint16_t *)p)[i] << 16;
  float x;
  memcpy(&x, &u, 4);
  return x;
}

static void mt_simulated_multiply(mt_simulated_product p) {
  const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, j = blockIdx.y, z = blockIdx.z;
  if (i >= p.rows) {
    return;
  }
  const int64_t a = z * p.a_step + i * p.a_down, b = z * p.b_step + j * p.b_across, d = z * p.d_step + j * p.d_ld + i;
  double sum = 0;
  for (int64_t k = 0; k < p.terms; k++) {
    sum += (double)mt_simulated_rounded(mt_simulated_element(p.a, a + k * p.a_across, p.bf16), p.bits) *
           mt_simulated_rounded(mt_simulated_element(p.b, b + k * p.b_down, p.bf16), p.bits);
  }
  const float result = (float)(sum + (p.bias ? mt_simulated_element(p.bias, i, p.d_bf16) : 0));
  if (p.d_bf16) {
    uint32_t u;
    memcpy(&u, &result, 4);
    ((uint16_t *)p.d)[d] = (uint16_t)(result != result ? 0x7FFF : (u + 0x7FFF + (u >> 16 & 1)) >> 16);
  } else {
    ((float *)p.d)[d] = result;
  }
}

static inline cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t operation, const void *alpha, const void *a, cublasLtMatrixLayout_t la,
                                            const void *b, cublasLtMatrixLayout_t lb, const void *beta, const void *, cublasLtMatrixLayout_t, void *d,
                                            cublasLtMatrixLayout_t ld, const cublasLtMatmulAlgo_t *algorithm, void *, size_t, cudaStream_t) {
  const mt_simulated_operation &o = *operation;
  const int64_t terms = o.turned[0] ? la->rows : la->columns;
  if (*(const float *)alpha != 1 || *(const float *)beta != 0 || (o.turned[0] ? la->columns : la->rows) != ld->rows ||
      (o.turned[1] ? lb->rows : lb->columns) != ld->columns || (o.turned[1] ? lb->columns : lb->rows) != terms ||
      la->count != ld->count || lb->count != ld->count || (uintptr_t)a % algorithm->alignment[0] || (uintptr_t)b % algorithm->alignment[1] ||
      (uintptr_t)d % algorithm->alignment[3] || la->bf16 != lb->bf16 || la->bf16 != (o.bits == 0)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  const mt_simulated_product p = {a, b, o.epilogue == CUBLASLT_EPILOGUE_BIAS ? o.bias : NULL, d,
    ld->rows, ld->columns, terms, o.turned[0] ? la->ld : 1, o.turned[0] ? 1 : la->ld, la->step, o.turned[1] ? lb->ld : 1, o.turned[1] ? 1 : lb->ld,
    lb->step, ld->ld, ld->step, o.bits, la->bf16, ld->bf16, 0};
  mt_simulator_launch("cublasLtMatmul", mt_simulated_multiply, dim3((unsigned)((ld->rows + 255) / 256), (unsigned)ld->columns, (unsigned)ld->count),
                      256, 0, p);
  return cudaGetLastError() == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}
