// Rung 2: tiles in shared memory. 256 threads compute 64 x 64 results, each 4 x 4: 16 terms of 64 rows and 64 columns are read once from
// memory, and a thread makes 16 multiplications of every 8 elements that it reads from shared memory.
#include "lab.cuh"

enum { SIDE = 64, TERMS = 16 };

template <int HOW> static __global__ void __launch_bounds__(256) shared_sum(const __grid_constant__ lab_problem p) {
  typedef typename lab_of<HOW>::T T;
  __shared__ float left[TERMS][SIDE + 4], right[TERMS][SIDE + 4];  // the pad keeps 16 bytes aligned and spreads stores over banks
  const int tiles_m = (p.m + SIDE - 1) / SIDE, tiles_n = (p.n + SIDE - 1) / SIDE;
  const lab_tile tile = lab_tile_at((int)blockIdx.x, tiles_m, tiles_n, SIDE, SIDE);
  const int thread = (int)threadIdx.x, x = thread % 16 * 4, y = thread / 16 * 4;
  const int term = thread % TERMS, line = thread / TERMS;  // this thread copies term `term` of lines `line`, + 16, + 32, + 48
  int rows[4];
  float sum[4][4] = {};
  for (int i = 0; i < 4; i++) {
    const int m = tile.m0 + line + 16 * i;
    rows[i] = m < p.m ? lab_row(p, m) : INT32_MIN / 2;
  }
  for (int t = 0; t < p.taps; t++) {
    for (int k = 0; k < p.channels; k += TERMS) {
      __syncthreads();
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int row = rows[i] + p.offset[t], n = tile.n0 + line + 16 * i;
        const bool inside = k + term < p.channels;
        left[term][line + 16 * i] = inside && lab_exists(p, row) ? lab_float(((const T *)p.a)[(int64_t)row * p.channels + k + term]) : 0;
        right[term][line + 16 * i] =
          inside && n < p.n ? lab_float(((const T *)p.b)[((int64_t)n * p.taps + t) * p.channels + k + term]) : 0;
      }
      __syncthreads();
#pragma unroll
      for (int s = 0; s < TERMS; s++) {
        const float4 u = *(const float4 *)&left[s][y], v = *(const float4 *)&right[s][x];
        const float a[4] = {u.x, u.y, u.z, u.w}, b[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int i = 0; i < 16; i++) {
          sum[i / 4][i % 4] = __fmaf_rn(a[i / 4], b[i % 4], sum[i / 4][i % 4]);
        }
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const int m = tile.m0 + y + i;
    if (m < p.m) {
      const int64_t row = lab_row(p, m);
      lab_store_pair(p, row, tile.n0 + x, sum[i][0], sum[i][1]);
      lab_store_pair(p, row, tile.n0 + x + 2, sum[i][2], sum[i][3]);
    }
  }
}

cudaError_t lab_shared(const lab_problem &p, int how, cudaStream_t stream) {
  const int blocks = lab_blocks(p.m, SIDE) * lab_blocks(p.n, SIDE);
  switch (how) {
    case LAB_BF16: return LAB_LAUNCH(shared_sum<LAB_BF16>, blocks, 256, 0, stream, p);
    case LAB_F32: return LAB_LAUNCH(shared_sum<LAB_F32>, blocks, 256, 0, stream, p);
    default: return cudaErrorNotSupported;
  }
}
