// ptx: the instructions that CUDA C++ has no words for, one function each. Under MT_SIMULATOR the processor plays them
// (tests/cuda_simulator/hopper.h), from the encoded descriptors and tensor maps on, as the PTX ISA describes them.
#pragma once
#include "lab.cuh"

#ifdef MT_SIMULATOR
#include "hopper.h"
#else
#include <cuda.h>

// The address of shared memory as instructions take it.
LAB_DEVICE uint32_t lab_address(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }

// ---- sm_80: copies of 16 bytes that run beside the program ---------------------------------------------------------------------

// Zeros where there is nothing.
LAB_DEVICE void lab_copy16(uint32_t to, const void *from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(there ? 16 : 0) : "memory");
}
LAB_DEVICE void lab_copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int LEFT> LAB_DEVICE void lab_copy_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory"); }

LAB_DEVICE void lab_store16(uint32_t to, uint4 x) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(x.x), "r"(x.y), "r"(x.z), "r"(x.w) : "memory");
}

LAB_DEVICE uint4 lab_load16(uint32_t from) {
  uint4 x;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];" : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w) : "r"(from) : "memory");
  return x;
}

// Some of a block's threads meet, always the same, by whole warps.
template <int THREADS> LAB_DEVICE void lab_meet() { asm volatile("bar.sync 1, %0;" ::"n"(THREADS) : "memory"); }

// ---- sm_80: tensor cores, a warp at a time -----------------------------------------------------------------------------------------

// Four matrices of 8 rows of 16 bytes; lane 8 * i + r says where row r of matrix i is. x[i] of lane 4 * g + t: word t of row g.
LAB_DEVICE void lab_load_matrices(uint32_t (&x)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "r"(address) : "memory");
}

// c += a * b, 16 x 8 results of a warp, 32 bytes of terms. Lane 4 * g + t has of a words t and t + 4 of rows g and g + 8, as (g, t), (g + 8, t),
// (g, t + 4), (g + 8, t + 4), of b words t and t + 4 of column g, of c (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
LAB_DEVICE void lab_mma_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
LAB_DEVICE void lab_mma_tf32(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Rounded to 11 bits, to nearest.
LAB_DEVICE uint32_t lab_to_tf32(uint32_t x) {
  uint32_t y;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(__uint_as_float(x)));
  return y;
}

#ifdef LAB_HOPPER

// ---- sm_90: barriers in shared memory that count arrivals and bytes -----------------------------------------------------------------

LAB_DEVICE void lab_barrier_init(uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
// After all inits, before __syncthreads: the copy engine sees them too.
LAB_DEVICE void lab_barrier_init_done() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
LAB_DEVICE void lab_barrier_arrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
// Arrives, and lets the phase wait for so many bytes more.
LAB_DEVICE void lab_barrier_expect(uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
// Until the phase of this parity is complete. Of a new barrier phase 0 is under way, so parity 1 counts as complete.
LAB_DEVICE void lab_barrier_wait(uint32_t barrier, int parity) {
  uint32_t complete;
  do {
    asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.b32 %0, 1, 0, p;\n}"
                 : "=r"(complete) : "r"(barrier), "r"(parity) : "memory");
  } while (!complete);
}

// ---- sm_90: boxes of a tensor, copied by one thread ------------------------------------------------------------------------------------

LAB_DEVICE void lab_box_load(uint32_t to, const CUtensorMap *map, uint32_t barrier, int x, int y) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];"
               ::"r"(to), "l"((uint64_t)map), "r"(barrier), "r"(x), "r"(y) : "memory");
}
LAB_DEVICE void lab_box_load(uint32_t to, const CUtensorMap *map, uint32_t barrier, int x, int y, int z) {
  asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];"
               ::"r"(to), "l"((uint64_t)map), "r"(barrier), "r"(x), "r"(y), "r"(z) : "memory");
}
LAB_DEVICE void lab_box_prefetch_map(const CUtensorMap *map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"((uint64_t)map) : "memory");
}

// What this thread has written to shared memory by ordinary stores and cp.async can be read by wgmma from here on.
LAB_DEVICE void lab_fence_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// ---- sm_90a: tensor cores, a warpgroup at a time -------------------------------------------------------------------------------------------

// Before the first wgmma after accumulators were touched by other instructions.
LAB_DEVICE void lab_wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
LAB_DEVICE void lab_wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int LEFT> LAB_DEVICE void lab_wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory"); }

// The compiler sees no connection between a wait and the accumulators: reads stay behind this.
template <int COUNT> LAB_DEVICE void lab_keep(float (&d)[COUNT]) {
#pragma unroll
  for (int i = 0; i < COUNT; i++) {
    asm volatile("" : "+f"(d[i])::"memory");
  }
}

#define LAB_NAMES_32                                                                                                       \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, " \
  "%26, %27, %28, %29, %30, %31"
#define LAB_NAMES_64                                                                                                      \
  LAB_NAMES_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, " \
  "%53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define LAB_NAMES_128                                                                                                      \
  LAB_NAMES_64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84, " \
  "%85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, "    \
  "%107, %108, %109, %110, %111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define LAB_ACCUMULATORS_8(i) \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define LAB_ACCUMULATORS_32(i) LAB_ACCUMULATORS_8(i), LAB_ACCUMULATORS_8(i + 8), LAB_ACCUMULATORS_8(i + 16), LAB_ACCUMULATORS_8(i + 24)
#define LAB_ACCUMULATORS_64(i) LAB_ACCUMULATORS_32(i), LAB_ACCUMULATORS_32(i + 32)
#define LAB_ACCUMULATORS_128(i) LAB_ACCUMULATORS_64(i), LAB_ACCUMULATORS_64(i + 64)

// SHAPE, TYPES: of the instruction; COUNT accumulators, then %A, %B the descriptors, %ADD. TURNED: bfloat16 says that neither operand is turned.
#define LAB_WGMMA(SHAPE, TYPES, COUNT, A, B, ADD, TURNED)                                                              \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " ADD ", 0;\nwgmma.mma_async.sync.aligned." SHAPE "." TYPES " {"      \
               LAB_NAMES_##COUNT "}, " A ", " B ", p, 1, 1" TURNED ";\n}"                                              \
               : LAB_ACCUMULATORS_##COUNT(0) : "l"(a), "l"(b), "r"(add))

// d = a * b, + d if `add`: 64 x N results of a warpgroup, 32 bytes of terms. Warp w, lane 4 * g + t has in d[4 * j + e]: row 16 * w + g + 8 * (e / 2),
// column 8 * j + 2 * t + e % 2.
template <int HOW, int N> LAB_DEVICE void lab_wgmma(float (&d)[N / 2], uint64_t a, uint64_t b, int add) {
  static_assert(HOW != LAB_F32 && (N == 64 || N == 128 || N == 256), "the shapes that are written out here");
  if constexpr (HOW == LAB_BF16 && N == 64) {
    LAB_WGMMA("m64n64k16", "f32.bf16.bf16", 32, "%32", "%33", "%34", ", 0, 0");
  } else if constexpr (HOW == LAB_BF16 && N == 128) {
    LAB_WGMMA("m64n128k16", "f32.bf16.bf16", 64, "%64", "%65", "%66", ", 0, 0");
  } else if constexpr (HOW == LAB_BF16) {
    LAB_WGMMA("m64n256k16", "f32.bf16.bf16", 128, "%128", "%129", "%130", ", 0, 0");
  } else if constexpr (N == 64) {
    LAB_WGMMA("m64n64k8", "f32.tf32.tf32", 32, "%32", "%33", "%34", "");
  } else if constexpr (N == 128) {
    LAB_WGMMA("m64n128k8", "f32.tf32.tf32", 64, "%64", "%65", "%66", "");
  } else {
    LAB_WGMMA("m64n256k8", "f32.tf32.tf32", 128, "%128", "%129", "%130", "");
  }
}

// Registers of each thread from here on; by all warps of a warpgroup.
template <int COUNT> LAB_DEVICE void lab_registers_grow() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT)); }
template <int COUNT> LAB_DEVICE void lab_registers_shrink() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT)); }

#endif
#endif
