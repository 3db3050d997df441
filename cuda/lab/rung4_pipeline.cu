// Rung 4: as rung 3, with copies that run beside the multiplications: three stages filled by cp.async, two steps ahead.
#include "warp_tile.cuh"

enum { STAGES = 3 };  // 97 KB: two blocks fit a multiprocessor of sm_90, one of sm_120

template <int HOW> static __global__ void __launch_bounds__(WARP_THREADS, warp_blocks(HOW)) pipeline_sum(const __grid_constant__ lab_problem p) {
  LAB_SHARED(shared);
  const int tiles_m = (p.m + WARP_TILE - 1) / WARP_TILE, tiles_n = (p.n + WARP_TILE - 1) / WARP_TILE;
  const lab_tile tile = lab_tile_at((int)blockIdx.x, tiles_m, tiles_n, WARP_TILE, WARP_TILE);
  const uint32_t stages = (lab_address(shared) + 1023) & ~1023u;
  const lab_steps<HOW> steps(p);
  lab_lines<HOW, WARP_TILE, WARP_THREADS> a, b;
  warp_tile<HOW> sums;
  a.of_a(p, tile.m0, (int)threadIdx.x);
  b.of_b(p, tile.n0, (int)threadIdx.x);
  sums.begin();
  const auto fetch = [&](int s) {
    if (s < steps.count) {
      const uint32_t stage = stages + s % STAGES * WARP_STAGE_BYTES;
      a.each_of_a(p, steps, s, [=](uint32_t to, const void *from, bool there) { lab_copy16(stage + to, from, there); });
      b.each_of_b(p, steps, s, [=](uint32_t to, const void *from, bool there) { lab_copy16(stage + WARP_TILE_BYTES + to, from, there); });
    }
    lab_copy_commit();  // an empty group too, so that the last STAGES - 2 are always those of later steps
  };
  for (int s = 0; s < STAGES - 1; s++) {
    fetch(s);
  }
  for (int s = 0; s < steps.count; s++) {
    lab_copy_wait<STAGES - 2>();
    __syncthreads();  // step s has arrived for all, and all are done with the stage of step s - 1, which is filled next
    fetch(s + STAGES - 1);
    sums.add(stages + s % STAGES * WARP_STAGE_BYTES);
  }
  sums.store(p, tile);
}

template <int HOW> static cudaError_t start(const lab_problem &p, cudaStream_t stream) {
  const int blocks = lab_blocks(p.m, WARP_TILE) * lab_blocks(p.n, WARP_TILE), bytes = STAGES * WARP_STAGE_BYTES + 1024;
  const cudaError_t error = cudaFuncSetAttribute(pipeline_sum<HOW>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  return error ? error : LAB_LAUNCH(pipeline_sum<HOW>, blocks, WARP_THREADS, bytes, stream, p);
}

cudaError_t lab_pipeline(const lab_problem &p, int how, cudaStream_t stream) {
  if (!lab_aligned(p, how)) {
    return cudaErrorNotSupported;
  }
  return how == LAB_BF16 ? start<LAB_BF16>(p, stream) : how == LAB_TF32 ? start<LAB_TF32>(p, stream) : start<LAB_F32>(p, stream);
}
