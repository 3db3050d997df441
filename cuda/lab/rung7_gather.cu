// Rung 7: the gather on Hopper. As rung 6, but the rows of a come from a list: the producers' warpgroup copies them by cp.async, 16 bytes at a
// time, into the swizzled layout; b, whose rows are neighbours, still comes through the copy engine. A producer's copies of a step are known
// to have arrived LAG steps later; then it fences them (they are writes of the ordinary proxy) and arrives at the stage's barrier.
#include "group_tile.cuh"
#include "tensor_map.cuh"

enum { HIGH = 128, THREADS = 3 * 128, PRODUCER_REGISTERS = 56, CONSUMER_REGISTERS = 224 };

template <int WIDE> struct gather_shape {
  static const int BYTES = (HIGH + WIDE) * 128, STAGES = 196608 / BYTES;
  // A consumer gives a stage back when it has issued the next step, so at most STAGES - 2 may be held back.
  static const int LAG = STAGES - 2;
};

template <int HOW, int WIDE>
static __global__ void __launch_bounds__(THREADS, 1) gather_sum(const __grid_constant__ lab_problem p, const __grid_constant__ CUtensorMap b) {
#ifdef LAB_HOPPER
  typedef gather_shape<WIDE> shape;
  LAB_SHARED(shared);
  const group_stages<shape::STAGES, shape::BYTES> stages(shared);
  const int tiles_m = (p.m + HIGH - 1) / HIGH, tiles_n = (p.n + WIDE - 1) / WIDE, tiles = tiles_m * tiles_n;
  const int group = (int)threadIdx.x / GROUP_THREADS;
  const lab_steps<HOW> steps(p);
  group_ring<shape::STAGES> at;
  stages.begin(GROUP_THREADS + 1, 8);  // every producer, and the one that orders b
  if (group == 0) {
    lab_registers_shrink<PRODUCER_REGISTERS>();
    lab_lines<HOW, HIGH, GROUP_THREADS> rows;
    group_ring<shape::STAGES> arrived;
    int ahead = 0;  // steps that were ordered and not yet handed over
    for (int w = (int)blockIdx.x; w < tiles; w += (int)gridDim.x) {
      const lab_tile tile = lab_tile_at(w, tiles_m, tiles_n, HIGH, WIDE);
      rows.of_a(p, tile.m0, (int)threadIdx.x);
      for (int s = 0; s < steps.count; s++, at.next()) {
        lab_barrier_wait(stages.empty(at.stage), at.round ^ 1);
        if (threadIdx.x == 0) {
          lab_barrier_expect(stages.full(at.stage), WIDE * 128);
          lab_box_load(stages.b(at.stage), &b, stages.full(at.stage), steps.channel(s), steps.tap(s), tile.n0);
        }
        const uint32_t stage = stages.a(at.stage);
        rows.each_of_a(p, steps, s, [=](uint32_t to, const void *from, bool there) { lab_copy16(stage + to, from, there); });
        lab_copy_commit();
        if (ahead == shape::LAG) {
          lab_copy_wait<shape::LAG>();
          lab_fence_async();
          lab_barrier_arrive(stages.full(arrived.stage));
          arrived.next();
        } else {
          ahead++;
        }
      }
    }
    lab_copy_wait<0>();
    lab_fence_async();
    for (; ahead > 0; ahead--, arrived.next()) {
      lab_barrier_arrive(stages.full(arrived.stage));
    }
  } else {
    lab_registers_grow<CONSUMER_REGISTERS>();
    group_tile<HOW, WIDE> sums;
    for (int w = (int)blockIdx.x; w < tiles; w += (int)gridDim.x) {
      const lab_tile tile = lab_tile_at(w, tiles_m, tiles_n, HIGH, WIDE);
      group_consume(sums, stages, at, group - 1, steps.count);
      sums.store(p, tile.m0 + (group - 1) * GROUP_ROWS, tile.n0);
    }
  }
#endif
}

template <int HOW, int WIDE> static cudaError_t start(const lab_problem &p, int processors, cudaStream_t stream) {
  typedef gather_shape<WIDE> shape;
  const int tiles = lab_blocks(p.m, HIGH) * lab_blocks(p.n, WIDE), bytes = 1024 + shape::STAGES * (shape::BYTES + 16);
  CUtensorMap b;
  cudaError_t error = lab_map_b<HOW>(&b, p, WIDE);
  if (!error) error = cudaFuncSetAttribute(gather_sum<HOW, WIDE>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  return error ? error : LAB_LAUNCH((gather_sum<HOW, WIDE>), tiles < processors ? tiles : processors, THREADS, bytes, stream, p, b);
}

template <int HOW> static cudaError_t choose(const lab_problem &p, int processors, cudaStream_t stream) {
  switch (group_width(p, processors)) {
    case 64: return start<HOW, 64>(p, processors, stream);
    case 128: return start<HOW, 128>(p, processors, stream);
    default: return start<HOW, 256>(p, processors, stream);
  }
}

cudaError_t lab_wgmma_gathered(const lab_problem &p, int how, cudaStream_t stream) {
  int capability, processors;
  const cudaError_t error = lab_device(&capability, &processors);
  if (error || capability != 90 || !lab_aligned(p, how) || how == LAB_F32) {
    return error ? error : cudaErrorNotSupported;
  }
  return how == LAB_BF16 ? choose<LAB_BF16>(p, processors, stream) : choose<LAB_TF32>(p, processors, stream);
}
