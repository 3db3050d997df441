// Rung 1: a thread per result, every operand from memory.
#include "lab.cuh"

template <int HOW> static __global__ void __launch_bounds__(256) naive_sum(const __grid_constant__ lab_problem p) {
  typedef typename lab_of<HOW>::T T;
  const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= (int64_t)p.m * p.n) {
    return;
  }
  const int m = (int)(i / p.n), n = (int)(i % p.n), row = lab_row(p, m);
  float sum = 0;
  for (int t = 0; t < p.taps; t++) {
    if (!lab_exists(p, row + p.offset[t])) {
      continue;
    }
    const T *const a = (const T *)p.a + (int64_t)(row + p.offset[t]) * p.channels;
    const T *const b = (const T *)p.b + ((int64_t)n * p.taps + t) * p.channels;
    for (int k = 0; k < p.channels; k++) {
      sum = __fmaf_rn(lab_float(a[k]), lab_float(b[k]), sum);
    }
  }
  p.c[(int64_t)row * p.n + n] = sum + p.bias[n];
}

cudaError_t lab_naive(const lab_problem &p, int how, cudaStream_t stream) {
  const unsigned blocks = (unsigned)(((int64_t)p.m * p.n + 255) / 256);
  switch (how) {
    case LAB_BF16: return LAB_LAUNCH(naive_sum<LAB_BF16>, blocks, 256, 0, stream, p);
    case LAB_F32: return LAB_LAUNCH(naive_sum<LAB_F32>, blocks, 256, 0, stream, p);
    default: return cudaErrorNotSupported;
  }
}
