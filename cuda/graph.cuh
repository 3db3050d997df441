// graph: what the other files need to know of a graph that is being captured (device.h says what one is). Internal.
#pragma once
#include <map>
#include <utility>
#include <vector>

#include "common.cuh"

extern "C" {
#include "../core/random.h"
}

// ---- memory (memory.cu) -----------------------------------------------------------------------------------------------

// The blocks of one graph. From mt_pool_begin to mt_pool_end all memory of the device comes from here and what is freed is used
// again here only: the graph's kernels will write to it whenever the graph is launched. Blocks from elsewhere that are freed
// meanwhile are kept as well, because kernels captured before may use them.
struct mt_graph_pool {
  std::map<int, std::vector<void *>> unused;               // by class of size
  std::vector<std::pair<void *, int64_t>> held;            // from elsewhere, with the bytes that were asked for
  int64_t reserved;                                        // bytes of the pool's blocks, used or not
};
void mt_pool_begin(int32_t device, mt_graph_pool *pool);
void mt_pool_end(int32_t device);
// Gives everything back; blocks that tensors still hold become ordinary ones.
void mt_pool_release(int32_t device, mt_graph_pool *pool);

// ---- numbers that differ from launch to launch ------------------------------------------------------------------------------

enum { MT_GRAPH_NUMBERS = 112 };

// Numbers of a kernel that the host computes for every step (an optimiser's). Outside a graph *at = NULL: they go as arguments. In a
// capture *at = where the kernel will find them on the device. While a graph's numbers are renewed, *renewed = true: they
// have been noted, nothing is to be launched.
int mt_graph_numbers(const void **at, bool *renewed, mt_device *device, const void *numbers, size_t bytes);

// A call's random numbers as kernels take them: in a graph, seed and call number stand on the device, `random` counts from there.
typedef struct mt_draw {
  mt_random random;
  const uint64_t *start;
} mt_draw;
int mt_draw_of(mt_draw *draw, const char *op, mt_device *device, const mt_random *random);

MT_DEVICE mt_random mt_drawn(const mt_draw &draw) {
  mt_random random = draw.random;
  if (draw.start) {
    random.seed = draw.start[0];
    random.call += draw.start[1];
  }
  return random;
}
