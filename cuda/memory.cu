// memory: the caching allocator of device memory, small host blocks, staging for copies. See common.cuh and core/runtime.h.
//
// Blocks come in sizes of eight steps per doubling; each device keeps a stack of free blocks per size. All work of a device is
// queued on one stream, so a block that is freed may be given out at once. When the driver has no more, what is kept goes back to
// it and the request is repeated; then Lua collects and asks again.
#include <stdlib.h>

#include <mutex>
#include <unordered_map>
#include <vector>

#include "graph.cuh"

enum { CLASSES = 512, SMALLEST = 512 };

typedef struct counters {
  int64_t live, peak, cached, blocks;
  int64_t pooled;  // unused blocks of graphs, and what they hold
} counters;

static std::mutex lock;
static std::vector<void *> kept[MT_MAX_DEVICES][CLASSES];
static counters count[MT_MAX_DEVICES];
static int64_t fail_countdown;  // 0: off
static bool fail_persistent;
static mt_graph_pool *pools[MT_MAX_DEVICES];                       // of the graph that is being captured
static std::unordered_map<void *, mt_graph_pool *> owner;          // blocks of graphs

// ---- sizes ----------------------------------------------------------------------------------------------------------

// The class of a size and the bytes of its blocks: m * 2^e with m from 8 to 15.
static int class_of(int64_t bytes, int64_t *rounded) {
  int64_t step = SMALLEST / 8;
  int index = 0;
  bytes = MT_MAX(bytes, (int64_t)SMALLEST);
  while (bytes > 16 * step) {
    step *= 2;
    index += 8;
  }
  const int64_t steps = (bytes + step - 1) / step;  // 8 to 16
  *rounded = steps * step;
  return index + (int)(steps - 8);
}

static int64_t size_of_class(int k) { return (int64_t)(8 + k % 8) << (k / 8 + 6); }
static_assert(SMALLEST / 8 == 1 << 6, "the step of the first eight classes");

static bool keeps(void) {
  static const char *setting = getenv("MASKED_TORCH_CACHE");
  return setting == NULL || strcmp(setting, "0") != 0;
}

// ---- device blocks ----------------------------------------------------------------------------------------------------

// The lock is held. Memory may be in use by queued work: cudaFree waits for it.
static void give_back(int32_t device) {
  for (int k = 0; k < CLASSES; k++) {
    for (void *block : kept[device][k]) {
      (void)cudaFree(block);
    }
    kept[device][k].clear();
  }
  count[device].cached = 0;
}

static bool told_to_fail(void) {
  if (fail_countdown == 0) {
    return false;
  }
  if (fail_countdown == 1) {
    fail_countdown = fail_persistent ? 1 : 0;
    return true;
  }
  fail_countdown--;
  return false;
}

static int refuse(const mt_device *device, int64_t bytes) {
  size_t unused = 0, total = 0;
  const counters *c = &count[device->number];
  (void)cudaGetLastError();
  (void)cudaMemGetInfo(&unused, &total);
  return mt_fail(MT_ERROR_MEMORY,
                 "out of memory on cuda:%d: asked for %.6g MB; tensors hold %.6g MB, %.6g MB of the device's %.6g MB are free",
                 device->number, (double)bytes / 1e6, (double)c->live / 1e6, (double)unused / 1e6, (double)total / 1e6);
}

int mt_device_alloc(void **block, mt_device *device, int64_t bytes) {
  int64_t rounded;
  *block = NULL;
  if (bytes > INT64_MAX / 2) {
    return refuse(device, bytes);
  }
  const int k = class_of(bytes, &rounded);
  std::lock_guard<std::mutex> hold(lock);
  counters *c = &count[device->number];
  std::vector<void *> *stack = &kept[device->number][k];
  mt_graph_pool *pool = pools[device->number];
  if (told_to_fail()) {
    return refuse(device, bytes);
  }
  std::vector<void *> *unused = pool ? &pool->unused[k] : NULL;
  if (pool && !unused->empty()) {
    *block = unused->back();
    unused->pop_back();
    c->pooled -= rounded;
  } else if (!stack->empty()) {
    *block = stack->back();
    stack->pop_back();
    c->cached -= rounded;
  } else {
    // Without the cache blocks are exactly as large as asked for, so that memory checkers see every overrun.
    const size_t size = (size_t)(keeps() || pool ? rounded : bytes > 0 ? bytes : 1);
    cudaError_t error = cudaMalloc(block, size);
    if (error == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();
      give_back(device->number);
      error = cudaMalloc(block, size);
    }
    if (error != cudaSuccess) {
      *block = NULL;
      return error == cudaErrorMemoryAllocation ? refuse(device, bytes) : mt_cuda_fail(error, "cudaMalloc");
    }
  }
  if (pool && owner.insert({*block, pool}).second) {
    pool->reserved += rounded;
  }
  c->live += bytes;
  c->blocks++;
  c->peak = c->live > c->peak ? c->live : c->peak;
  return MT_OK;
}

// The lock is held.
static void keep_or_free(void *block, int32_t device, int64_t bytes) {
  int64_t rounded;
  const int k = class_of(bytes, &rounded);
  if (keeps()) {
    kept[device][k].push_back(block);
    count[device].cached += rounded;
  } else {
    (void)cudaFree(block);
  }
}

void mt_device_free(void *block, int32_t device, int64_t bytes) {
  int64_t rounded;
  if (block == NULL) {
    return;
  }
  const int k = class_of(bytes, &rounded);
  std::lock_guard<std::mutex> hold(lock);
  count[device].live -= bytes;
  count[device].blocks--;
  const auto of = owner.empty() ? owner.end() : owner.find(block);
  if (of != owner.end()) {
    of->second->unused[k].push_back(block);
    count[device].pooled += rounded;
  } else if (pools[device]) {
    pools[device]->held.push_back({block, bytes});
    count[device].pooled += rounded;
  } else {
    keep_or_free(block, device, bytes);
  }
}

// ---- blocks of graphs ---------------------------------------------------------------------------------------------------

void mt_pool_begin(int32_t device, mt_graph_pool *pool) {
  std::lock_guard<std::mutex> hold(lock);
  pools[device] = pool;
}

void mt_pool_end(int32_t device) {
  std::lock_guard<std::mutex> hold(lock);
  pools[device] = NULL;
}

// What is queued may still use the blocks: their next users come after it.
void mt_pool_release(int32_t device, mt_graph_pool *pool) {
  std::lock_guard<std::mutex> hold(lock);
  for (auto &entry : pool->unused) {
    for (void *block : entry.second) {
      const int64_t bytes = size_of_class(entry.first);
      count[device].pooled -= bytes;
      keep_or_free(block, device, bytes);
    }
  }
  for (auto &entry : pool->held) {
    int64_t rounded;
    (void)class_of(entry.second, &rounded);
    count[device].pooled -= rounded;
    keep_or_free(entry.first, device, entry.second);
  }
  for (auto entry = owner.begin(); entry != owner.end();) {
    entry = entry->second == pool ? owner.erase(entry) : std::next(entry);
  }
  pool->unused.clear();
  pool->held.clear();
  pool->reserved = 0;
}

// ---- what core/runtime.h and device.h ask ------------------------------------------------------------------------------

extern "C" double mt_device_memory(int32_t number, int32_t what) {
  if (number < 0 || number >= MT_MAX_DEVICES) {
    return 0;
  }
  std::lock_guard<std::mutex> hold(lock);
  const counters *c = &count[number];
  switch (what) {
    case MT_DEVICE_LIVE: return (double)c->live;
    case MT_DEVICE_PEAK: return (double)c->peak;
    case MT_DEVICE_CACHED: return (double)(c->cached + c->pooled);
    default: return (double)c->blocks;
  }
}

static double over_devices(int32_t what) {
  double sum = 0;
  for (int32_t d = 0; d < MT_MAX_DEVICES; d++) {
    sum += mt_device_memory(d, what);
  }
  return sum;
}

extern "C" double mt_memory_live(void) { return over_devices(MT_DEVICE_LIVE); }
extern "C" double mt_memory_peak(void) { return over_devices(MT_DEVICE_PEAK); }
extern "C" double mt_memory_blocks(void) { return over_devices(MT_DEVICE_BLOCKS); }
extern "C" double mt_memory_cached(void) { return over_devices(MT_DEVICE_CACHED); }

extern "C" int mt_device_reset_peak(int32_t number) {
  mt_device *device;
  MT_TRY(mt_enter_number(&device, number));
  std::lock_guard<std::mutex> hold(lock);
  count[number].peak = count[number].live;
  return MT_OK;
}

extern "C" int mt_device_empty_cache(int32_t number) {
  mt_device *device;
  MT_TRY(mt_enter_number(&device, number));
  std::lock_guard<std::mutex> hold(lock);
  give_back(number);
  return MT_OK;
}

extern "C" int mt_memory_empty_cache(void) {
  for (int32_t d = 0; d < MT_MAX_DEVICES; d++) {
    if (mt_device_memory(d, MT_DEVICE_CACHED) > 0) {
      MT_TRY(mt_device_empty_cache(d));
    }
  }
  return MT_OK;
}

extern "C" void mt_memory_fail_at(int64_t n, int32_t persistent) {
  std::lock_guard<std::mutex> hold(lock);
  fail_countdown = n;
  fail_persistent = persistent != 0;
}

// compute-sanitizer, or the simulator, looks after the device's memory.
extern "C" int mt_memory_check(int32_t *damaged) {
  *damaged = 0;
#ifdef MT_SIMULATOR
  *damaged = mt_simulator_damaged();
#endif
  return MT_OK;
}

// ---- host blocks ------------------------------------------------------------------------------------------------------

// Handles and plans: small and short-lived.
void *mt_alloc(int64_t bytes) {
  void *block = NULL;
  if (bytes < 0 || posix_memalign(&block, 64, (size_t)(bytes > 0 ? bytes : 1)) != 0) {
    mt_fail(MT_ERROR_MEMORY, "out of memory: asked for %.6g MB of host memory", (double)bytes / 1e6);
    return NULL;
  }
  return block;
}

void mt_free(void *block) { free(block); }

void *mt_alloc_array(int64_t items, int64_t size) {
  int64_t bytes;
  if (items < 0 || !mt_mul(&bytes, items, size)) {
    mt_fail(MT_ERROR_MEMORY, "out of memory: %lld elements of %lld bytes", (long long)items, (long long)size);
    return NULL;
  }
  return mt_alloc(bytes);
}

// ---- storage ----------------------------------------------------------------------------------------------------------

extern "C" int32_t mt_storage_device(void) { return mt_device_get(); }

extern "C" void mt_storage_free(mt_storage *s) {
  mt_device_free(s->data, s->device, s->bytes);
  mt_free(s);
}

extern "C" int mt_storage_new(mt_storage **out, int64_t bytes, int32_t device) {
  mt_device *on;
  mt_storage *s = (mt_storage *)mt_alloc((int64_t)sizeof *s);
  if (s == NULL) {
    return MT_ERROR_MEMORY;
  }
  memset(s, 0, sizeof *s);
  int status = mt_enter_number(&on, device);
  status = status == MT_OK ? mt_device_alloc(&s->data, on, bytes) : status;
  if (status != MT_OK) {
    mt_free(s);
    return status;
  }
  s->bytes = bytes;
  s->references = 1;
  s->device = device;
  s->free = mt_storage_free;
  *out = s;
  return MT_OK;
}

static void free_pinned(mt_storage *s) {
  (void)cudaFreeHost(s->data);
  mt_free(s);
}

extern "C" int mt_device_pinned(mt_tensor **out, int32_t dtype, int32_t ndim, const int64_t *shape) {
  mt_device *device;
  int64_t numel;
  *out = NULL;
  MT_TRY(mt_check_sizes("pinned", &numel, ndim, shape));
  if (dtype < 0 || dtype >= MT_DTYPES) {
    return mt_fail(MT_ERROR_ARGUMENT, "pinned: unknown dtype %d", dtype);
  }
  MT_TRY(mt_enter_number(&device, mt_device_get()));
  mt_tensor *t = (mt_tensor *)mt_alloc((int64_t)sizeof *t);
  mt_storage *s = t ? (mt_storage *)mt_alloc((int64_t)sizeof *s) : NULL;
  void *data = NULL;
  if (s == NULL) {
    mt_free(t);
    return MT_ERROR_MEMORY;
  }
  const int64_t bytes = numel * mt_dtype_size(dtype);
  const cudaError_t error = cudaHostAlloc(&data, (size_t)(bytes > 0 ? bytes : 1), cudaHostAllocPortable);
  if (error != cudaSuccess) {
    mt_free(s);
    mt_free(t);
    (void)cudaGetLastError();
    return mt_fail(MT_ERROR_MEMORY, "out of memory: asked for %.6g MB of page-locked memory", (double)bytes / 1e6);
  }
  memset(s, 0, sizeof *s);
  memset(t, 0, sizeof *t);
  s->data = t->data = data;
  s->bytes = bytes;
  s->references = 1;
  s->device = -1;
  s->free = free_pinned;
  t->storage = s;
  t->numel = numel;
  t->dtype = dtype;
  t->ndim = ndim;
  memcpy(t->shape, shape, sizeof(int64_t) * (size_t)ndim);
  mt_row_major(t->stride, ndim, shape);
  *out = t;
  return MT_OK;
}
