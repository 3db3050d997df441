// device: what only the CUDA library has: devices, events, pinned memory. lua/masked_torch/native/cuda.lua declares this page beside
// the contract (core/kernels.h), whose other names both libraries have. Devices are numbered as CUDA counts them, from 0.
#pragma once
#include "../core/tensor.h"

#pragma GCC visibility push(default)

// *count = usable devices. Fails with the reason when there is none: no driver, a driver older than this library, no GPU.
int mt_device_count(int32_t *count);
// New tensors of this thread go to device `number`.
int mt_device_set(int32_t number);
int32_t mt_device_get(void);

typedef struct mt_device_properties {
  char name[256];
  int32_t major, minor;        // compute capability
  int32_t processors;          // streaming multiprocessors
  int32_t simulated;           // 1: tests/cuda_simulator
  int64_t total_memory, free_memory, shared_memory, l2_bytes;
  int32_t driver, runtime;     // 13000 is CUDA 13.0
} mt_device_properties;
int mt_device_describe(mt_device_properties *properties, int32_t number);

// Waits until all work of the device is done; raises what its kernels recorded (an index out of range).
int mt_device_synchronize(int32_t number);

// Bytes of one device: what tensors hold, its highest value, what is kept for later; then the number of blocks that live.
enum { MT_DEVICE_LIVE, MT_DEVICE_PEAK, MT_DEVICE_CACHED, MT_DEVICE_BLOCKS };
double mt_device_memory(int32_t number, int32_t what);
int mt_device_reset_peak(int32_t number);
// Gives what is kept back to the driver.
int mt_device_empty_cache(int32_t number);

// *out = a CPU tensor in page-locked memory: copies between it and a device need no staging. Row-major.
int mt_device_pinned(mt_tensor **out, int32_t dtype, int32_t ndim, const int64_t *shape);

// A point in a device's queue of work. timing: elapsed may be asked.
typedef struct mt_event mt_event;
int mt_device_event_new(mt_event **out, int32_t number, int32_t timing);
void mt_device_event_free(mt_event *event);
int mt_device_event_record(mt_event *event);
// The later work of device `number` waits for the event.
int mt_device_event_wait(mt_event *event, int32_t number);
int mt_device_event_synchronize(mt_event *event);
int mt_device_event_query(int32_t *done, mt_event *event);
int mt_device_event_elapsed(double *milliseconds, mt_event *from, mt_event *to);

// A graph: what is queued between begin and end is not done but kept, and done as a whole by every launch. The memory that it takes
// stays its own until it is freed. Meanwhile nothing may wait for the device or bring bytes from the host: those calls fail.
// seed, call: where the default generator stands (core/random.h); numbers drawn in the graph begin at those given to launch.
typedef struct mt_graph mt_graph;
int mt_graph_begin(mt_graph **out, int32_t number, uint64_t seed, uint64_t call);
int mt_graph_end(mt_graph *graph);
int mt_graph_launch(mt_graph *graph, uint64_t seed, uint64_t call);
// Ends a capture too. What tensors still hold stays theirs.
void mt_graph_free(mt_graph *graph);
// Numbers that an optimiser's step takes, in slots: how many there are so far. Between renew and renewed the calls of core/optim.h that
// made slots first to last - 1 are made again; they compute nothing but the slots' new numbers, for the next launch.
int64_t mt_graph_slots(const mt_graph *graph);
int mt_graph_renew(mt_graph *graph, int64_t first, int64_t last);
int mt_graph_renewed(mt_graph *graph);
// Bytes of the device that it keeps.
double mt_graph_memory(const mt_graph *graph);

// mt_loader_gather (core/loader.h) with out and source on one device, first and length on the CPU. Queued, not done.
struct mt_gather;
int mt_device_gather(const struct mt_gather *gather);

#pragma GCC visibility pop
