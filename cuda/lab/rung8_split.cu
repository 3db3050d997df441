// Rung 8: float32 on wgmma, as 3xTF32 (warp_tile.cuh). As rung 6, but the copy engine hands over float32 as it is, and the consumers first split
// what has arrived: the upper part in place, the rest beside it, which the swizzle does not mind. Both groups need all of b, so they meet. Every
// 8 terms are summed from 0 on tensor cores and added up in float32, while the next 8 are under way.
#include "group_tile.cuh"
#include "tensor_map.cuh"

enum { HIGH = 128, WIDE = 128, THREADS = 3 * 128, CONSUMERS = 256, PRODUCER_REGISTERS = 40, CONSUMER_REGISTERS = 232 };
enum { WHOLE = (HIGH + WIDE) * 128, BYTES = 2 * WHOLE, STAGES = 3 };  // 64 KB a stage, half of it the rests

#ifdef LAB_HOPPER

LAB_DEVICE void split_word(uint32_t *x, uint32_t *rest) {
  const float whole = __uint_as_float(*x);
  *x = lab_to_tf32(*x);
  *rest = lab_to_tf32(__float_as_uint(whole - __uint_as_float(*x)));
}

// A stage's operands, 16 bytes at a time.
LAB_DEVICE void split_stage(uint32_t stage, int thread) {
#pragma unroll
  for (int i = 0; i < WHOLE / 16 / CONSUMERS; i++) {
    const uint32_t at = stage + (uint32_t)((thread + i * CONSUMERS) * 16);
    uint4 x = lab_load16(at), rest;
    split_word(&x.x, &rest.x);
    split_word(&x.y, &rest.y);
    split_word(&x.z, &rest.z);
    split_word(&x.w, &rest.w);
    lab_store16(at, x);
    lab_store16(at + WHOLE, rest);
  }
}

LAB_DEVICE void split_add(float (&sum)[WIDE / 2], float (&part)[WIDE / 2]) {
  lab_keep(part);
#pragma unroll
  for (int i = 0; i < WIDE / 2; i++) {
    sum[i] += part[i];
  }
}

#endif

static __global__ void __launch_bounds__(THREADS, 1)
    split_sum(const __grid_constant__ lab_problem p, const __grid_constant__ CUtensorMap a, const __grid_constant__ CUtensorMap b) {
#ifdef LAB_HOPPER
  LAB_SHARED(shared);
  const group_stages<STAGES, BYTES> stages(shared);
  const int tiles_m = (p.m + HIGH - 1) / HIGH, tiles_n = (p.n + WIDE - 1) / WIDE, tiles = tiles_m * tiles_n;
  const int group = (int)threadIdx.x / GROUP_THREADS;
  const lab_steps<LAB_F32> steps(p);
  group_ring<STAGES> at;
  stages.begin(1, 8);
  if (group == 0) {
    lab_registers_shrink<PRODUCER_REGISTERS>();
    if (threadIdx.x == 0) {
      for (int w = (int)blockIdx.x; w < tiles; w += (int)gridDim.x) {
        const lab_tile tile = lab_tile_at(w, tiles_m, tiles_n, HIGH, WIDE);
        for (int s = 0; s < steps.count; s++, at.next()) {
          const int tap = steps.tap(s), channel = steps.channel(s);
          lab_barrier_wait(stages.empty(at.stage), at.round ^ 1);
          lab_barrier_expect(stages.full(at.stage), WHOLE);
          lab_box_load(stages.a(at.stage), &a, stages.full(at.stage), channel, tile.m0 + p.offset[tap]);
          lab_box_load(stages.b(at.stage), &b, stages.full(at.stage), channel, tap, tile.n0);
        }
      }
    }
  } else {
    lab_registers_grow<CONSUMER_REGISTERS>();
    group_tile<LAB_TF32, WIDE> total;
    float part[2][WIDE / 2];
    for (int w = (int)blockIdx.x; w < tiles; w += (int)gridDim.x) {
      const lab_tile tile = lab_tile_at(w, tiles_m, tiles_n, HIGH, WIDE);
#pragma unroll
      for (int i = 0; i < WIDE / 2; i++) {
        total.sum[i] = part[0][i] = part[1][i] = 0;
      }
      for (int s = 0; s < steps.count; s++, at.next()) {
        lab_barrier_wait(stages.full(at.stage), at.round);
        split_stage(stages.a(at.stage), (int)threadIdx.x - GROUP_THREADS);
        lab_fence_async();
        lab_meet<CONSUMERS>();
        const uint64_t left = group_descriptor(stages.a(at.stage) + (uint32_t)((group - 1) * GROUP_BYTES));
        const uint64_t right = group_descriptor(stages.b(at.stage)), rest = WHOLE / 16;
#pragma unroll
        for (int i = 0; i < 4; i++) {
          lab_wgmma_fence();
          lab_wgmma<LAB_TF32, WIDE>(part[i % 2], left + rest + 2 * i, right + 2 * i, 0);
          lab_wgmma<LAB_TF32, WIDE>(part[i % 2], left + 2 * i, right + rest + 2 * i, 1);
          lab_wgmma<LAB_TF32, WIDE>(part[i % 2], left + 2 * i, right + 2 * i, 1);
          lab_wgmma_commit();
          if (i > 0) {
            lab_wgmma_wait<1>();
            split_add(total.sum, part[(i - 1) % 2]);
          }
        }
        lab_wgmma_wait<0>();
        if (threadIdx.x % 32 == 0) {
          lab_barrier_arrive(stages.empty(at.stage));
        }
        split_add(total.sum, part[1]);
      }
      total.store(p, tile.m0 + (group - 1) * GROUP_ROWS, tile.n0);
    }
  }
#endif
}

cudaError_t lab_wgmma_split(const lab_problem &p, int how, cudaStream_t stream) {
  const int tiles = lab_blocks(p.m, HIGH) * lab_blocks(p.n, WIDE), bytes = 1024 + STAGES * (BYTES + 16);
  int capability, processors;
  CUtensorMap a, b;
  cudaError_t error = lab_device(&capability, &processors);
  if (!error && (capability != 90 || !lab_aligned(p, how) || how != LAB_F32 || p.rows)) error = cudaErrorNotSupported;
  if (!error) error = lab_map_a<LAB_F32>(&a, p, HIGH);
  if (!error) error = lab_map_b<LAB_F32>(&b, p, WIDE);
  if (!error) error = cudaFuncSetAttribute(split_sum, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  return error ? error : LAB_LAUNCH(split_sum, tiles < processors ? tiles : processors, THREADS, bytes, stream, p, a, b);
}
