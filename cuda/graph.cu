// graph: work that is queued again and again without the host's work for it. See device.h and graph.cuh.
//
// A device has one stream, so a capture is a chain of kernels and fills. What a kernel takes as arguments is fixed by then; what has to
// differ between launches (an optimiser's numbers, random numbers) lies in one block on the device, which the host renews before
// each launch: first the state of the random numbers, then a slot for each launch of an optimiser's kernel.
#include "graph.cuh"

enum { FIRST_SLOT = 128, SLOT = 128, BLOCK = 64 << 10 };
static_assert((int)MT_GRAPH_NUMBERS <= (int)SLOT, "a slot holds the numbers of an update");

struct mt_graph {
  mt_device *device;
  cudaGraph_t graph;
  cudaGraphExec_t run;
  mt_graph_pool pool;
  char *numbers, *host;     // on the device; the host's copy
  int64_t slots, next, last;
  uint64_t seed, call;      // of the random numbers, when the capture began
  bool capturing;
};

static void stop_capture(mt_graph *g) {
  if (g->capturing) {
    g->capturing = false;
    g->device->capture = NULL;
    mt_pool_end(g->device->number);
  }
}

extern "C" void mt_graph_free(mt_graph *g) {
  mt_device *device;
  if (g == NULL) {
    return;
  }
  (void)mt_enter_number(&device, g->device->number);
  if (g->capturing) {
    (void)cudaStreamEndCapture(g->device->stream, &g->graph);
    (void)cudaGetLastError();
    stop_capture(g);
  }
  if (g->device->renewed == g) {
    g->device->renewed = NULL;
  }
  if (g->run) {
    (void)cudaGraphExecDestroy(g->run);
  }
  if (g->graph) {
    (void)cudaGraphDestroy(g->graph);
  }
  mt_pool_release(g->device->number, &g->pool);
  mt_device_free(g->numbers, g->device->number, BLOCK);
  mt_free(g->host);
  delete g;
}

extern "C" int mt_graph_begin(mt_graph **out, int32_t number, uint64_t seed, uint64_t call) {
  mt_device *device;
  void *numbers;
  *out = NULL;
  MT_TRY(mt_enter_number(&device, number));
  if (device->capture || device->renewed) {
    return mt_fail(MT_ERROR_ARGUMENT, "graph: cuda:%d is captured already; one capture cannot stand in another", number);
  }
  MT_TRY(mt_device_alloc(&numbers, device, BLOCK));
  mt_graph *g = new mt_graph();
  g->device = device;
  g->numbers = (char *)numbers;
  g->host = (char *)mt_alloc(BLOCK);
  if (g->host == NULL) {
    mt_graph_free(g);
    return MT_ERROR_MEMORY;
  }
  memset(g->host, 0, BLOCK);
  g->seed = seed;
  g->call = call;
  // Relaxed: reserving memory and sending constants on another stream are allowed meanwhile.
  const cudaError_t error = cudaStreamBeginCapture(device->stream, cudaStreamCaptureModeRelaxed);
  if (error != cudaSuccess) {
    mt_graph_free(g);
    return mt_cuda_fail(error, "cudaStreamBeginCapture");
  }
  g->capturing = true;
  device->capture = g;
  mt_pool_begin(number, &g->pool);
  *out = g;
  return MT_OK;
}

extern "C" int mt_graph_end(mt_graph *g) {
  mt_device *device;
  MT_TRY(mt_enter_number(&device, g->device->number));
  if (!g->capturing) {
    return mt_fail(MT_ERROR_ARGUMENT, "graph: nothing is being captured");
  }
  stop_capture(g);
  MT_CUDA(cudaStreamEndCapture(device->stream, &g->graph));
  MT_CUDA(cudaGraphInstantiate(&g->run, g->graph, 0));
  return MT_OK;
}

extern "C" int64_t mt_graph_slots(const mt_graph *g) { return g->slots; }

extern "C" double mt_graph_memory(const mt_graph *g) { return (double)(g->pool.reserved + BLOCK); }

extern "C" int mt_graph_renew(mt_graph *g, int64_t first, int64_t last) {
  if (g->run == NULL || g->device->capture || first < 0 || last < first || last > g->slots) {
    return mt_fail(MT_ERROR_ARGUMENT, "graph: slots %lld to %lld cannot be renewed now", (long long)first, (long long)last);
  }
  g->next = first;
  g->last = last;
  g->device->renewed = g;
  return MT_OK;
}

extern "C" int mt_graph_renewed(mt_graph *g) {
  const bool complete = g->device->renewed == g && g->next == g->last;
  g->device->renewed = NULL;
  return complete ? MT_OK : mt_fail(MT_ERROR_ARGUMENT, "graph: the optimiser's parameters fall into other groups of equal numbers than "
                                                       "when the step was captured; capture it again");
}

extern "C" int mt_graph_launch(mt_graph *g, uint64_t seed, uint64_t call) {
  mt_device *device;
  MT_TRY(mt_enter_number(&device, g->device->number));
  if (g->run == NULL || device->capture || device->renewed) {
    return mt_fail(MT_ERROR_ARGUMENT, "graph: %s", g->run == NULL ? "nothing was captured" : "a launch cannot stand in a capture");
  }
  MT_TRY(mt_poll("graph", device));
  const uint64_t state[2] = {seed, call};
  memcpy(g->host, state, sizeof state);
  MT_TRY(mt_copy_to_device("graph", device, g->numbers, g->host, FIRST_SLOT + g->slots * SLOT));
  MT_CUDA(cudaGraphLaunch(g->run, device->stream));
  return MT_OK;
}

int mt_graph_numbers(const void **at, bool *renewed, mt_device *device, const void *numbers, size_t bytes) {
  mt_graph *g = device->capture ? device->capture : device->renewed;
  *at = NULL;
  *renewed = device->renewed != NULL;
  if (g == NULL) {
    return MT_OK;
  }
  int64_t slot = g->slots;
  if (*renewed) {
    slot = g->next++;
    if (slot >= g->last) {
      return MT_OK;  // mt_graph_renewed says so
    }
  } else if (FIRST_SLOT + (g->slots + 1) * SLOT > BLOCK) {
    return mt_fail(MT_ERROR_ARGUMENT, "graph: more than %d launches of optimisers", (int)((BLOCK - FIRST_SLOT) / SLOT));
  } else {
    g->slots++;
  }
  memcpy(g->host + FIRST_SLOT + slot * SLOT, numbers, bytes);
  *at = g->numbers + FIRST_SLOT + slot * SLOT;
  return MT_OK;
}

int mt_draw_of(mt_draw *draw, const char *op, mt_device *device, const mt_random *random) {
  const mt_graph *g = device->capture;
  draw->random = *random;
  draw->start = NULL;
  if (g == NULL) {
    return MT_OK;
  }
  if (random->seed != g->seed || random->call - g->call > UINT32_MAX) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: in a graph only numbers that the default generator draws there can change from launch to launch",
                   op);
  }
  draw->random.call -= g->call;
  draw->start = (const uint64_t *)g->numbers;
  return MT_OK;
}
