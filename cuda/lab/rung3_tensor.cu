// Rung 3: tensor cores. One stage: all threads copy 128 bytes of terms of 128 rows and 128 columns through registers to shared memory, meet,
// multiply (warp_tile.cuh), meet.
#include "warp_tile.cuh"

template <int HOW> static __global__ void __launch_bounds__(WARP_THREADS, warp_blocks(HOW)) tensor_sum(const __grid_constant__ lab_problem p) {
  LAB_SHARED(shared);
  const int tiles_m = (p.m + WARP_TILE - 1) / WARP_TILE, tiles_n = (p.n + WARP_TILE - 1) / WARP_TILE;
  const lab_tile tile = lab_tile_at((int)blockIdx.x, tiles_m, tiles_n, WARP_TILE, WARP_TILE);
  const uint32_t stage = (lab_address(shared) + 1023) & ~1023u;
  const lab_steps<HOW> steps(p);
  lab_lines<HOW, WARP_TILE, WARP_THREADS> a, b;
  warp_tile<HOW> sums;
  a.of_a(p, tile.m0, (int)threadIdx.x);
  b.of_b(p, tile.n0, (int)threadIdx.x);
  sums.begin();
  for (int s = 0; s < steps.count; s++) {
    const auto copy_to = [&](uint32_t operand) {
      return [=](uint32_t to, const void *from, bool there) { lab_store16(operand + to, there ? *(const uint4 *)from : uint4{0, 0, 0, 0}); };
    };
    __syncthreads();
    a.each_of_a(p, steps, s, copy_to(stage));
    b.each_of_b(p, steps, s, copy_to(stage + WARP_TILE_BYTES));
    __syncthreads();
    sums.add(stage);
  }
  sums.store(p, tile);
}

template <int HOW> static cudaError_t start(const lab_problem &p, cudaStream_t stream) {
  const int blocks = lab_blocks(p.m, WARP_TILE) * lab_blocks(p.n, WARP_TILE), bytes = WARP_STAGE_BYTES + 1024;
  return LAB_LAUNCH(tensor_sum<HOW>, blocks, WARP_THREADS, bytes, stream, p);
}

cudaError_t lab_tensor(const lab_problem &p, int how, cudaStream_t stream) {
  if (!lab_aligned(p, how)) {
    return cudaErrorNotSupported;
  }
  return how == LAB_BF16 ? start<LAB_BF16>(p, stream) : how == LAB_TF32 ? start<LAB_TF32>(p, stream) : start<LAB_F32>(p, stream);
}
