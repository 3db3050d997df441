// Rung 6: the copy engine. One thread orders boxes of both operands (TMA), which arrive swizzled and count their bytes on a barrier; two
// warpgroups do nothing but wait for stages and issue wgmma. Blocks stay and take tile after tile, so the copies for the next tile run while
// the results of this one are stored. No list of rows: on sm_90 a box is made of neighbouring rows (boxes of chosen rows came with sm_100).
#include "group_tile.cuh"
#include "tensor_map.cuh"

enum { HIGH = 128, THREADS = 3 * 128, PRODUCER_REGISTERS = 40, CONSUMER_REGISTERS = 232 };

template <int WIDE> struct tma_shape {
  static const int BYTES = (HIGH + WIDE) * 128, STAGES = 196608 / BYTES;  // 192 KB: 4, 6, 8 stages
};

template <int HOW, int WIDE>
static __global__ void __launch_bounds__(THREADS, 1)
    tma_sum(const __grid_constant__ lab_problem p, const __grid_constant__ CUtensorMap a, const __grid_constant__ CUtensorMap b) {
#ifdef LAB_HOPPER
  typedef tma_shape<WIDE> shape;
  LAB_SHARED(shared);
  const group_stages<shape::STAGES, shape::BYTES> stages(shared);
  const int tiles_m = (p.m + HIGH - 1) / HIGH, tiles_n = (p.n + WIDE - 1) / WIDE, tiles = tiles_m * tiles_n;
  const int group = (int)threadIdx.x / GROUP_THREADS;
  const lab_steps<HOW> steps(p);
  group_ring<shape::STAGES> at;
  stages.begin(1, 8);
  if (group == 0) {
    lab_registers_shrink<PRODUCER_REGISTERS>();
    if (threadIdx.x == 0) {
      lab_box_prefetch_map(&a);
      lab_box_prefetch_map(&b);
      for (int w = (int)blockIdx.x; w < tiles; w += (int)gridDim.x) {
        const lab_tile tile = lab_tile_at(w, tiles_m, tiles_n, HIGH, WIDE);
        for (int s = 0; s < steps.count; s++, at.next()) {
          const int tap = steps.tap(s), channel = steps.channel(s);
          lab_barrier_wait(stages.empty(at.stage), at.round ^ 1);
          lab_barrier_expect(stages.full(at.stage), shape::BYTES);
          lab_box_load(stages.a(at.stage), &a, stages.full(at.stage), channel, tile.m0 + p.offset[tap]);
          lab_box_load(stages.b(at.stage), &b, stages.full(at.stage), channel, tap, tile.n0);
        }
      }
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
  typedef tma_shape<WIDE> shape;
  const int tiles = lab_blocks(p.m, HIGH) * lab_blocks(p.n, WIDE), bytes = 1024 + shape::STAGES * (shape::BYTES + 16);
  CUtensorMap a, b;
  cudaError_t error = lab_map_a<HOW>(&a, p, HIGH);
  if (!error) error = lab_map_b<HOW>(&b, p, WIDE);
  if (!error) error = cudaFuncSetAttribute(tma_sum<HOW, WIDE>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  return error ? error : LAB_LAUNCH((tma_sum<HOW, WIDE>), tiles < processors ? tiles : processors, THREADS, bytes, stream, p, a, b);
}

template <int HOW> static cudaError_t choose(const lab_problem &p, int processors, cudaStream_t stream) {
  switch (group_width(p, processors)) {
    case 64: return start<HOW, 64>(p, processors, stream);
    case 128: return start<HOW, 128>(p, processors, stream);
    default: return start<HOW, 256>(p, processors, stream);
  }
}

cudaError_t lab_wgmma_tma(const lab_problem &p, int how, cudaStream_t stream) {
  int capability, processors;
  const cudaError_t error = lab_device(&capability, &processors);
  if (error || capability != 90 || !lab_aligned(p, how) || how == LAB_F32 || p.rows) {
    return error ? error : cudaErrorNotSupported;
  }
  return how == LAB_BF16 ? choose<LAB_BF16>(p, processors, stream) : choose<LAB_TF32>(p, processors, stream);
}
