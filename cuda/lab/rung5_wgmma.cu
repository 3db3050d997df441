// Rung 5: wgmma. As rung 4, but a warpgroup multiplies 64 x 128 at once straight from shared memory: operands pass no registers. All threads of
// two warpgroups copy by cp.async, into the layout that wgmma's descriptors name; a fence hands what they wrote to the other proxy.
#include "group_tile.cuh"

enum { HIGH = 128, WIDE = 128, THREADS = 256, STAGES = 4, BYTES = (HIGH + WIDE) * 128, SHARED = STAGES * BYTES + 1024 };

template <int HOW> static __global__ void __launch_bounds__(THREADS) copied_sum(const __grid_constant__ lab_problem p) {
#ifdef LAB_HOPPER
  LAB_SHARED(shared);
  const lab_tile tile = lab_tile_at((int)blockIdx.x, (p.m + HIGH - 1) / HIGH, (p.n + WIDE - 1) / WIDE, HIGH, WIDE);
  const uint32_t stages = (lab_address(shared) + 1023) & ~1023u;
  const int group = (int)threadIdx.x / GROUP_THREADS;
  const lab_steps<HOW> steps(p);
  lab_lines<HOW, HIGH, THREADS> a;
  lab_lines<HOW, WIDE, THREADS> b;
  group_tile<HOW, WIDE> sums;
  a.of_a(p, tile.m0, (int)threadIdx.x);
  b.of_b(p, tile.n0, (int)threadIdx.x);
  sums.begin();
  const auto fetch = [&](int s) {
    if (s < steps.count) {
      const uint32_t stage = stages + s % STAGES * BYTES;
      a.each_of_a(p, steps, s, [=](uint32_t to, const void *from, bool there) { lab_copy16(stage + to, from, there); });
      b.each_of_b(p, steps, s, [=](uint32_t to, const void *from, bool there) { lab_copy16(stage + HIGH * 128 + to, from, there); });
    }
    lab_copy_commit();  // an empty group too, so that the last STAGES - 2 are always those of later steps
  };
  for (int s = 0; s < STAGES - 1; s++) {
    fetch(s);
  }
  for (int s = 0; s < steps.count; s++) {
    lab_copy_wait<STAGES - 2>();
    lab_fence_async();
    __syncthreads();  // step s has arrived for all; both groups are done with the stage of step s - 1, which is filled next
    const uint32_t stage = stages + s % STAGES * BYTES;
    sums.add(stage + group * GROUP_BYTES, stage + HIGH * 128);
    fetch(s + STAGES - 1);
    lab_wgmma_wait<0>();
  }
  sums.store(p, tile.m0 + group * GROUP_ROWS, tile.n0);
#endif
}

template <int HOW> static cudaError_t start(const lab_problem &p, cudaStream_t stream) {
  const int blocks = lab_blocks(p.m, HIGH) * lab_blocks(p.n, WIDE);
  const cudaError_t error = cudaFuncSetAttribute(copied_sum<HOW>, cudaFuncAttributeMaxDynamicSharedMemorySize, SHARED);
  return error ? error : LAB_LAUNCH(copied_sum<HOW>, blocks, THREADS, SHARED, stream, p);
}

cudaError_t lab_wgmma_copied(const lab_problem &p, int how, cudaStream_t stream) {
  int capability, processors;
  const cudaError_t error = lab_device(&capability, &processors);
  if (error || capability != 90 || !lab_aligned(p, how) || how == LAB_F32) {
    return error ? error : cudaErrorNotSupported;
  }
  return how == LAB_BF16 ? start<LAB_BF16>(p, stream) : start<LAB_TF32>(p, stream);
}
