// Mistakes that the simulator has to find, and what it has to get right: bad_kernels <which>. tests/cuda/simulator_spec.lua runs it.
#include <stdio.h>
#include <stdlib.h>

#include "cuda_runtime.h"

static void write_at(int *p, int i) { p[i] = 1; }

static void half_a_warp(int *p) {
  if (threadIdx.x < 16) __syncwarp();  // the other lanes have left
  p[threadIdx.x] = 1;
}

// Thread i passes its number on to its left neighbour, round after round, through shared memory.
static void rotate(int *p, int rounds) {
  static int seat[96];
  int mine = (int)threadIdx.x;
  for (int r = 0; r < rounds; r++) {
    seat[threadIdx.x] = mine;
    __syncthreads();
    mine = seat[(threadIdx.x + 1) % blockDim.x];
    __syncthreads();
  }
  p[threadIdx.x] = mine;
}

static void warp_functions(int *p) {
  const int lane = (int)threadIdx.x % 32;
  int sum = lane;
  for (int step = 1; step < 32; step *= 2) sum += __shfl_xor_sync(0xFFFFFFFFu, sum, step);
  const int above = __shfl_down_sync(0xFFFFFFFFu, lane, 3), below = __shfl_up_sync(0xFFFFFFFFu, lane, 3, 8);
  const unsigned odd = __ballot_sync(0xFFFFFFFFu, lane & 1);
  const bool right = sum == 496 && above == (lane + 3 < 32 ? lane + 3 : lane) && below == (lane % 8 >= 3 ? lane - 3 : lane) &&
                     odd == 0xAAAAAAAAu && __syncthreads_count(lane < 4) == 8;
  p[threadIdx.x] = right;
}

int main(int argc, char **argv) {
  const char *which = argc > 1 ? argv[1] : "";
  int *p = NULL, here[96];
  cudaMalloc((void **)&p, 96 * sizeof(int));
  cudaMemsetAsync(p, 0, 96 * sizeof(int));
  if (!strcmp(which, "outside")) mt_simulator_launch(which, write_at, 1, 1, 0, p, 96);
  if (!strcmp(which, "before")) mt_simulator_launch(which, write_at, 1, 1, 0, p, -1);
  if (!strcmp(which, "barrier")) mt_simulator_launch(which, half_a_warp, 1, 32, 0, p);
  if (!strcmp(which, "host pointer")) mt_simulator_launch(which, write_at, 1, 1, 0, here, 0);
  if (!strcmp(which, "too many threads")) mt_simulator_launch(which, write_at, 1, 2048, 0, p, 0);
  if (!strcmp(which, "host touch")) here[0] = p[0];
  if (!strcmp(which, "rotate")) {
    mt_simulator_launch(which, rotate, 3, 96, 0, p, 5);
    cudaMemcpyAsync(here, p, sizeof here, cudaMemcpyDeviceToHost);
    for (int i = 0; i < 96; i++) {
      if (here[i] != (i + 5) % 96) printf("thread %d has %d\n", i, here[i]);
    }
  }
  if (!strcmp(which, "warp functions")) {
    mt_simulator_launch(which, warp_functions, 2, 64, 0, p);
    cudaMemcpyAsync(here, p, sizeof here, cudaMemcpyDeviceToHost);
    for (int i = 0; i < 64; i++) {
      if (!here[i]) printf("thread %d is wrong\n", i);
    }
  }
  const cudaError_t launched = cudaGetLastError();
  printf("%s, %d damaged\n", cudaGetErrorString(launched), mt_simulator_damaged());
  return 0;
}
