// staging: bytes between host and device through pinned memory. See common.cuh.
//
// The driver copies ordinary memory through a buffer of its own while the caller waits; with two pinned halves, filling one goes
// on beside the transfer of the other, and what leaves for the device needs no wait at all. Small things that leave (lists of a batch's
// rows, masks) take turns in slots of their own: a half is free only when the device has come to its transfer, behind all work queued
// before, and the host would wait for that.
#include <mutex>

#include "common.cuh"

enum { HALF = 4 << 20, SLOT = 64 << 10, SLOTS = 64 };

typedef struct staging {
  char *half[2];
  cudaEvent_t done[2];   // the transfer from or to that half
  char *slots;
  cudaEvent_t left[SLOTS];
  int next;
} staging;

static staging stagings[MT_MAX_DEVICES];
static std::mutex lock;

static int prepare(staging **out, mt_device *device) {
  staging *s = &stagings[device->number];
  for (int i = 0; i < 2; i++) {
    if (s->done[i] == NULL) {
      MT_CUDA(cudaEventCreateWithFlags(&s->done[i], cudaEventDisableTiming));
    }
    if (s->half[i] == NULL) {
      MT_CUDA(cudaHostAlloc((void **)&s->half[i], HALF, cudaHostAllocPortable));
    }
  }
  *out = s;
  return MT_OK;
}

// Page-locked already: the driver copies it as it is.
static bool is_pinned(const void *memory) {
  cudaPointerAttributes attributes;
  const bool known = cudaPointerGetAttributes(&attributes, memory) == cudaSuccess;
  (void)cudaGetLastError();
  return known && attributes.type == cudaMemoryTypeHost;
}

static int send_small(staging *s, mt_device *device, void *to, const void *from, size_t bytes) {
  if (s->slots == NULL) {
    MT_CUDA(cudaHostAlloc((void **)&s->slots, (size_t)SLOT * SLOTS, cudaHostAllocPortable));
  }
  const int i = s->next;
  s->next = (i + 1) % SLOTS;
  if (s->left[i] == NULL) {
    MT_CUDA(cudaEventCreateWithFlags(&s->left[i], cudaEventDisableTiming));
  }
  char *slot = s->slots + (size_t)i * SLOT;
  MT_CUDA(cudaEventSynchronize(s->left[i]));
  memcpy(slot, from, bytes);
  MT_CUDA(cudaMemcpyAsync(to, slot, bytes, cudaMemcpyHostToDevice, device->stream));
  MT_CUDA(cudaEventRecord(s->left[i], device->stream));
  return MT_OK;
}

int mt_copy_to_device(const char *op, mt_device *device, void *to, const void *from, int64_t bytes) {
  staging *s;
  if (device->capture) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: brings values from the host, which would be the same at every launch of the graph; make the "
                                      "tensor outside the function and write it with copy_ before a step", op);
  }
  if (bytes > HALF && is_pinned(from)) {
    MT_CUDA(cudaMemcpyAsync(to, from, (size_t)bytes, cudaMemcpyHostToDevice, device->stream));
    MT_CUDA(cudaStreamSynchronize(device->stream));  // the caller may change it
    return MT_OK;
  }
  std::lock_guard<std::mutex> hold(lock);
  MT_TRY(prepare(&s, device));
  if (bytes <= SLOT) {
    return send_small(s, device, to, from, (size_t)bytes);
  }
  for (int64_t at = 0, i = 0; at < bytes; at += HALF, i = 1 - i) {
    const size_t n = (size_t)MT_MIN(bytes - at, (int64_t)HALF);
    MT_CUDA(cudaEventSynchronize(s->done[i]));
    memcpy(s->half[i], (const char *)from + at, n);
    MT_CUDA(cudaMemcpyAsync((char *)to + at, s->half[i], n, cudaMemcpyHostToDevice, device->stream));
    MT_CUDA(cudaEventRecord(s->done[i], device->stream));
  }
  return MT_OK;
}

int mt_copy_to_host(const char *op, mt_device *device, void *to, const void *from, int64_t bytes) {
  staging *s;
  MT_TRY(mt_check_may_wait(op, device));
  if (bytes > HALF && is_pinned(to)) {
    MT_CUDA(cudaMemcpyAsync(to, from, (size_t)bytes, cudaMemcpyDeviceToHost, device->stream));
    return mt_wait(op, device);
  }
  {
    std::lock_guard<std::mutex> hold(lock);
    MT_TRY(prepare(&s, device));
    const int64_t parts = (bytes + HALF - 1) / HALF;
    for (int64_t k = 0; k <= parts; k++) {
      if (k < parts) {
        const size_t n = (size_t)MT_MIN(bytes - k * HALF, (int64_t)HALF);
        MT_CUDA(cudaMemcpyAsync(s->half[k % 2], (const char *)from + k * HALF, n, cudaMemcpyDeviceToHost, device->stream));
        MT_CUDA(cudaEventRecord(s->done[k % 2], device->stream));
      }
      if (k > 0) {
        MT_CUDA(cudaEventSynchronize(s->done[(k - 1) % 2]));
        memcpy((char *)to + (k - 1) * HALF, s->half[(k - 1) % 2], (size_t)MT_MIN(bytes - (k - 1) * HALF, (int64_t)HALF));
      }
    }
  }
  return mt_wait(op, device);
}
