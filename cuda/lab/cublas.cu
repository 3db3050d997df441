// The peer: see lab_peer in work.h. A convolution's sums are given to it as the product that is left when the pixels' rows have been gathered
// already, so it does less work than a rung.
#include <cublasLt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "work.h"

enum { WORKSPACE = 32 << 20 };

struct peer_plan {
  cublasLtHandle_t handle;
  cublasLtMatmulDesc_t operation;
  cublasLtMatrixLayout_t a, b, c;
  cublasLtMatmulHeuristicResult_t found;
  void *workspace;
  bool possible;
};

static void must(cublasStatus_t status, const char *what) {
  if (status != CUBLAS_STATUS_SUCCESS) {
    fprintf(stderr, "cuda_lab: %s: %s\n", what, cublasLtGetStatusString(status));
    exit(1);
  }
}

// Any values: neither zeros nor what is not finite, which would cost less power.
static __global__ void fill(void *to, int64_t count, int bf16) {
  for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (int64_t)gridDim.x * blockDim.x) {
    const uint32_t h = (uint32_t)i * 2654435761u, x = (h & 0x80000000u) | 0x3F000000u | (h >> 3 & 0x7FFFFFu);
    if (bf16) {
      ((uint16_t *)to)[i] = (uint16_t)(x >> 16);
    } else {
      ((uint32_t *)to)[i] = x;
    }
  }
}

lab_peer::lab_peer(int m_, int n_, int k_, int how_, cudaStream_t stream) : m(m_), n(n_), k(k_), how(how_) {
  peer_plan *const q = new peer_plan;
  const bool bf16 = how == LAB_BF16;
  const cudaDataType_t type = bf16 ? CUDA_R_16BF : CUDA_R_32F;
  const cublasOperation_t turned = CUBLAS_OP_T;
  const size_t size = bf16 ? 2 : 4, workspace = WORKSPACE;
  cublasLtMatmulPreference_t preference;
  int count = 0;
  memset(q, 0, sizeof *q);
  plan = q;
  lab_must(cudaMalloc(&a, (size_t)m * (size_t)k * size), "cudaMalloc");
  lab_must(cudaMalloc(&b, (size_t)n * (size_t)k * size), "cudaMalloc");
  lab_must(cudaMalloc(&c, (size_t)m * (size_t)n * sizeof(float)), "cudaMalloc");
  lab_must(cudaMalloc(&q->workspace, WORKSPACE), "cudaMalloc");
  fill<<<1024, 256, 0, stream>>>(a, (int64_t)m * k, bf16);
  fill<<<1024, 256, 0, stream>>>(b, (int64_t)n * k, bf16);
  lab_must(cudaGetLastError(), "fill");
  // Its matrices are column-major: c (m, n) by rows is its d (n, m), b (n, k) by rows its (k, n), to be turned.
  must(cublasLtCreate(&q->handle), "cublasLtCreate");
  must(cublasLtMatmulDescCreate(&q->operation, how == LAB_TF32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F), "operation");
  must(cublasLtMatmulDescSetAttribute(q->operation, CUBLASLT_MATMUL_DESC_TRANSA, &turned, sizeof turned), "operation");
  must(cublasLtMatrixLayoutCreate(&q->b, type, (uint64_t)k, (uint64_t)n, k), "layout");
  must(cublasLtMatrixLayoutCreate(&q->a, type, (uint64_t)k, (uint64_t)m, k), "layout");
  must(cublasLtMatrixLayoutCreate(&q->c, CUDA_R_32F, (uint64_t)n, (uint64_t)m, n), "layout");
  must(cublasLtMatmulPreferenceCreate(&preference), "preference");
  must(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace), "preference");
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(q->handle, q->operation, q->b, q->a, q->c, q->c, preference, 1, &q->found, &count);
  q->possible = status == CUBLAS_STATUS_SUCCESS && count > 0;
  cublasLtMatmulPreferenceDestroy(preference);
}

lab_peer::~lab_peer() {
  peer_plan *const q = (peer_plan *)plan;
  cudaDeviceSynchronize();
  cublasLtMatrixLayoutDestroy(q->a);
  cublasLtMatrixLayoutDestroy(q->b);
  cublasLtMatrixLayoutDestroy(q->c);
  cublasLtMatmulDescDestroy(q->operation);
  cublasLtDestroy(q->handle);
  for (void *p : {a, b, c, q->workspace}) {
    cudaFree(p);
  }
  delete q;
}

bool lab_peer::run(cudaStream_t stream) {
  peer_plan *const q = (peer_plan *)plan;
  const float one = 1, zero = 0;
  return q->possible && cublasLtMatmul(q->handle, q->operation, &one, b, q->b, a, q->a, &zero, c, q->c, c, q->c, &q->found.algo, q->workspace,
                                       WORKSPACE, stream) == CUBLAS_STATUS_SUCCESS;
}
