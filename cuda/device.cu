// device: devices, streams, errors, events. See device.h and common.cuh.
#include <stdio.h>
#include <stdlib.h>

#include <mutex>

#include "common.cuh"

// ---- errors ---------------------------------------------------------------------------------------------------------

static cudaError_t lost;  // the error after which nothing works any more

static bool loses_context(cudaError_t error) {
  switch (error) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorECCUncorrectable:
    case cudaErrorAssert: return true;
    default: return false;
  }
}

int mt_cuda_fail(cudaError_t error, const char *what) {
  (void)cudaGetLastError();  // or the next call would report it again
  if (loses_context(error)) {
    lost = error;
  }
  if (lost != cudaSuccess) {
    return mt_fail(MT_ERROR_INTERNAL, "cuda: %s (%s): a kernel failed and the device's state is lost; start a new process",
                   cudaGetErrorString(lost), cudaGetErrorName(lost));
  }
  if (error == cudaErrorNoKernelImageForDevice) {
    return mt_fail(MT_ERROR_INTERNAL, "cuda: the library holds no code for this GPU; run `make cuda CUDA_ARCHS=<its architecture>`");
  }
  const char *end = strchr(what, '(');
  return mt_fail(error == cudaErrorMemoryAllocation ? MT_ERROR_MEMORY : MT_ERROR_INTERNAL, "cuda: %.*s: %s (%s)",
                 (int)(end ? end - what : (ptrdiff_t)strlen(what)), what, cudaGetErrorString(error), cudaGetErrorName(error));
}

// ---- devices --------------------------------------------------------------------------------------------------------

static mt_device devices[MT_MAX_DEVICES];
static bool ready[MT_MAX_DEVICES];
static std::mutex devices_lock;
static thread_local int32_t current;        // where new tensors go
static thread_local int32_t entered = -1;   // CUDA's current device in this thread, as far as we set it

extern "C" int mt_device_count(int32_t *count) {
  int n = 0, driver = 0, runtime = 0;
  *count = 0;
  const cudaError_t error = cudaGetDeviceCount(&n);
  if (error == cudaSuccess && n > 0) {
    *count = n < MT_MAX_DEVICES ? n : MT_MAX_DEVICES;
    return MT_OK;
  }
  (void)cudaGetLastError();
  (void)cudaDriverGetVersion(&driver);
  (void)cudaRuntimeGetVersion(&runtime);
  if (error == cudaErrorInsufficientDriver && driver == 0) {
    return mt_fail(MT_ERROR_INTERNAL, "there is no NVIDIA driver (libcuda.so.1) on this machine");
  }
  if (error == cudaErrorInsufficientDriver) {
    return mt_fail(MT_ERROR_INTERNAL, "the NVIDIA driver is too old: it supports CUDA %d.%d, this library needs %d.%d",
                   driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
  }
  if (error == cudaErrorNoDevice || error == cudaSuccess) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    return mt_fail(MT_ERROR_INTERNAL, "the NVIDIA driver finds no GPU%s%s", visible ? " (CUDA_VISIBLE_DEVICES is " : "",
                   visible ? (visible[0] ? visible : "empty") : "");
  }
  return mt_fail(MT_ERROR_INTERNAL, "%s (%s)", cudaGetErrorString(error), cudaGetErrorName(error));
}

static int open_device(mt_device *d, int32_t number) {
  int32_t count;
  MT_TRY(mt_device_count(&count));
  if (number < 0 || number >= count) {
    return mt_fail(MT_ERROR_ARGUMENT, "device: cuda:%d does not exist; there %s %d", number, count == 1 ? "is" : "are", count);
  }
  int value = 0, major = 0, minor = 0;
  MT_CUDA(cudaSetDevice(number));
  entered = number;
  d->number = number;
  MT_CUDA(cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking));
  MT_CUDA(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, number));
  d->processors = value;
  MT_CUDA(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, number));
  d->shared_limit = value;
  MT_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, number));
  MT_CUDA(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, number));
  d->capability = 10 * major + minor;
  void *fault;
  MT_CUDA(cudaHostAlloc(&fault, sizeof(mt_fault), cudaHostAllocMapped));
  memset(fault, 0, sizeof(mt_fault));
  d->fault = (mt_fault *)fault;
  MT_CUDA(cudaMalloc((void **)&d->bad, sizeof *d->bad));
  MT_CUDA(cudaMemsetAsync(d->bad, 0x7F, sizeof *d->bad, d->stream));
  return MT_OK;
}

int mt_enter_number(mt_device **device, int32_t number) {
  if (lost != cudaSuccess) {
    return mt_cuda_fail(lost, "");
  }
  if (number < 0 || number >= MT_MAX_DEVICES || !__atomic_load_n(&ready[number], __ATOMIC_ACQUIRE)) {
    std::lock_guard<std::mutex> hold(devices_lock);
    if (number < 0 || number >= MT_MAX_DEVICES || !ready[number]) {
      mt_device opened;
      memset(&opened, 0, sizeof opened);
      MT_TRY(open_device(&opened, number));
      devices[number] = opened;
      __atomic_store_n(&ready[number], true, __ATOMIC_RELEASE);
    }
  }
  *device = &devices[number];
  if (entered != number) {
    MT_CUDA(cudaSetDevice(number));
    entered = number;
  }
  return MT_OK;
}

int mt_enter(mt_device **device, const mt_tensor *t) { return mt_enter_number(device, t->storage->device); }

int mt_check_together(const char *op, const mt_tensor *t, int32_t count, const mt_tensor *const *others) {
  for (int32_t k = 0; k < count; k++) {
    if (others[k] && others[k]->storage->device != t->storage->device) {
      return mt_fail(MT_ERROR_ARGUMENT, "%s: one tensor is on cuda:%d, another on cuda:%d; move one with :to{device = ...}", op,
                     t->storage->device, others[k]->storage->device);
    }
  }
  return MT_OK;
}

extern "C" int mt_device_set(int32_t number) {
  mt_device *device;
  MT_TRY(mt_enter_number(&device, number));
  current = number;
  return MT_OK;
}

extern "C" int32_t mt_device_get(void) { return current; }

extern "C" int mt_device_describe(mt_device_properties *p, int32_t number) {
  mt_device *device;
  cudaDeviceProp found;
  size_t unused = 0, total = 0;
  int driver = 0, runtime = 0;
  MT_TRY(mt_enter_number(&device, number));
  MT_CUDA(cudaGetDeviceProperties(&found, number));
  MT_CUDA(cudaMemGetInfo(&unused, &total));
  MT_CUDA(cudaDriverGetVersion(&driver));
  MT_CUDA(cudaRuntimeGetVersion(&runtime));
  memset(p, 0, sizeof *p);
  snprintf(p->name, sizeof p->name, "%s", found.name);
  p->major = found.major;
  p->minor = found.minor;
  p->processors = found.multiProcessorCount;
  p->total_memory = (int64_t)total;
  p->free_memory = (int64_t)unused;
  p->shared_memory = (int64_t)found.sharedMemPerBlockOptin;
  p->l2_bytes = found.l2CacheSize;
  p->driver = driver;
  p->runtime = runtime;
#ifdef MT_SIMULATOR
  p->simulated = 1;
#endif
  return MT_OK;
}

// ---- waiting, and what kernels recorded -------------------------------------------------------------------------------

enum { MT_MAX_SITES = 256 };
static const char *sites[MT_MAX_SITES];
static int32_t site_count;
static std::mutex sites_lock;

int32_t mt_fault_site(const char *text) {
  std::lock_guard<std::mutex> hold(sites_lock);
  for (int32_t i = 0; i < site_count; i++) {
    if (sites[i] == text) {
      return i;
    }
  }
  if (site_count == MT_MAX_SITES) {
    return MT_MAX_SITES - 1;
  }
  sites[site_count] = text;
  return site_count++;
}

int mt_check_may_wait(const char *op, const mt_device *device) {
  return device->capture == NULL ? MT_OK : mt_fail(MT_ERROR_ARGUMENT,
    "%s: waits for the device, which a function inside torch.cuda.graph cannot do; keep the value on the device, or read it "
    "outside, after a step", op);
}

int mt_wait(const char *op, mt_device *device) {
  MT_TRY(mt_check_may_wait(op, device));
  MT_CUDA(cudaStreamSynchronize(device->stream));
  const mt_fault fault = *device->fault;
  if (fault.site == 0) {
    return MT_OK;
  }
  memset(device->fault, 0, sizeof *device->fault);
  if (fault.kind == MT_FAULT_GRADIENT) {
    MT_CUDA(cudaMemsetAsync(device->bad, 0x7F, sizeof *device->bad, device->stream));
    return mt_fail(MT_ERROR_ARGUMENT, "%s: the gradient of parameter %lld holds NaN or infinity; no parameter has changed since then "
                                      "(on_nonfinite = 'skip' leaves such steps out, 'ignore' does not look)",
                   sites[fault.site - 1], (long long)fault.value);
  }
  if (fault.kind == MT_FAULT_SIZE) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: %lld of sample %lld is outside 0..%lld", sites[fault.site - 1], (long long)fault.value,
                   (long long)fault.position + 1, (long long)fault.limit);
  }
  if (fault.kind == MT_FAULT_VALUE) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s %lld (in row-major order) is NaN or outside 0..1", sites[fault.site - 1],
                   (long long)fault.position + 1);
  }
  return mt_fail(MT_ERROR_ARGUMENT, "%s: index %lld at position %lld is outside 1..%lld", sites[fault.site - 1],
                 (long long)fault.value, (long long)fault.position + 1, (long long)fault.limit);
}

int mt_poll(const char *op, mt_device *device) {
  return __atomic_load_n(&device->fault->site, __ATOMIC_ACQUIRE) > 0 && device->capture == NULL ? mt_wait(op, device) : MT_OK;
}

extern "C" int mt_device_synchronize(int32_t number) {
  mt_device *device = NULL;
  MT_TRY(mt_enter_number(&device, number));
  return mt_wait("synchronize", device);
}

// ---- events -----------------------------------------------------------------------------------------------------------

struct mt_event {
  cudaEvent_t event;
  int32_t number;
};

extern "C" int mt_device_event_new(mt_event **out, int32_t number, int32_t timing) {
  mt_device *device;
  *out = NULL;
  MT_TRY(mt_enter_number(&device, number));
  mt_event *made = (mt_event *)mt_alloc((int64_t)sizeof *made);
  if (made == NULL) {
    return MT_ERROR_MEMORY;
  }
  const cudaError_t error = cudaEventCreateWithFlags(&made->event, timing ? cudaEventDefault : cudaEventDisableTiming);
  if (error != cudaSuccess) {
    mt_free(made);
    return mt_cuda_fail(error, "cudaEventCreate");
  }
  made->number = number;
  *out = made;
  return MT_OK;
}

extern "C" void mt_device_event_free(mt_event *event) {
  if (event) {
    (void)cudaEventDestroy(event->event);
    mt_free(event);
  }
}

extern "C" int mt_device_event_record(mt_event *event) {
  mt_device *device = NULL;
  MT_TRY(mt_enter_number(&device, event->number));
  MT_TRY(mt_check_may_wait("Event:record", device));
  MT_CUDA(cudaEventRecord(event->event, device->stream));
  return MT_OK;
}

extern "C" int mt_device_event_wait(mt_event *event, int32_t number) {
  mt_device *device = NULL;
  MT_TRY(mt_enter_number(&device, number));
  MT_TRY(mt_check_may_wait("Event:wait", device));
  MT_CUDA(cudaStreamWaitEvent(device->stream, event->event, 0));
  return MT_OK;
}

extern "C" int mt_device_event_synchronize(mt_event *event) {
  MT_CUDA(cudaEventSynchronize(event->event));
  return MT_OK;
}

extern "C" int mt_device_event_query(int32_t *done, mt_event *event) {
  const cudaError_t state = cudaEventQuery(event->event);
  *done = state == cudaSuccess;
  return state == cudaSuccess || state == cudaErrorNotReady ? MT_OK : mt_cuda_fail(state, "cudaEventQuery");
}

extern "C" int mt_device_event_elapsed(double *milliseconds, mt_event *from, mt_event *to) {
  float elapsed = 0;
  MT_CUDA(cudaEventElapsedTime(&elapsed, from->event, to->event));
  *milliseconds = elapsed;
  return MT_OK;
}
