// tensor_map: what the copy engine has to know of an operand: sizes, strides, the box that is copied at a time, and that rows of 128 bytes are
// swizzled. The maker is a function of the driver, which is asked for it at run time: libcuda is not linked.
#pragma once
#include "lab.cuh"

#ifdef MT_SIMULATOR
#include "hopper.h"
#else
#include <cuda.h>

#include <mutex>

static decltype(&cuTensorMapEncodeTiled) lab_map_maker(void) {
  static std::once_flag once;
  static void *maker = NULL;
  std::call_once(once, [] {
    cudaDriverEntryPointQueryResult found;
#if CUDART_VERSION >= 12050
    const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &maker, 12000, cudaEnableDefault, &found);
#else
    const cudaError_t error = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &maker, cudaEnableDefault, &found);
#endif
    if (error != cudaSuccess || found != cudaDriverEntryPointSuccess) {
      maker = NULL;
    }
  });
  return (decltype(&cuTensorMapEncodeTiled))maker;
}
#endif

// dims sizes, innermost first; strides in bytes of all dims but the first; the box in elements. Outside there are zeros.
static cudaError_t lab_make_map(CUtensorMap *map, int how, const void *data, uint32_t dims, const uint64_t *size, const uint64_t *stride,
                                const uint32_t *box) {
  const uint32_t step[] = {1, 1, 1};
  const auto make = lab_map_maker();
  if (make == NULL) {
    return cudaErrorNotSupported;
  }
  // TFLOAT32: the copy engine hands over float32 as tensor cores take it.
  const CUtensorMapDataType type = how == LAB_BF16   ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                   : how == LAB_TF32 ? CU_TENSOR_MAP_DATA_TYPE_TFLOAT32
                                                     : CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
  return make(map, type, dims, (void *)data, size, stride, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
              CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
              CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

// a: (a_rows, channels), `high` rows at a time. A box may begin before row 0 or reach over the end.
template <int HOW> static cudaError_t lab_map_a(CUtensorMap *map, const lab_problem &p, int high) {
  const uint64_t size[] = {(uint64_t)p.channels, (uint64_t)p.a_rows}, stride[] = {p.channels * sizeof(typename lab_of<HOW>::T)};
  const uint32_t box[] = {(uint32_t)lab_steps<HOW>::CHUNK, (uint32_t)high};
  return lab_make_map(map, HOW, p.a, 2, size, stride, box);
}

// b: (n, taps, channels), one tap of `wide` rows: a chunk that reaches over the end of a tap's channels has zeros there, not the next tap.
template <int HOW> static cudaError_t lab_map_b(CUtensorMap *map, const lab_problem &p, int wide) {
  const uint64_t size[] = {(uint64_t)p.channels, (uint64_t)p.taps, (uint64_t)p.n};
  const uint64_t line = p.channels * sizeof(typename lab_of<HOW>::T), stride[] = {line, line * p.taps};
  const uint32_t box[] = {(uint32_t)lab_steps<HOW>::CHUNK, 1, (uint32_t)wide};
  return lab_make_map(map, HOW, p.b, 3, size, stride, box);
}
