// conv_taps: the taps of convolutions on the device. See conv.cuh.
//
// A step of training repeats its shapes, so what was sent once is kept to the end of the process: a second call sends nothing, and a
// graph's kernels find it at the same address for ever. Sent on a stream of its own, which is waited for: it happens once, and a
// capture on the device's stream does not see it.
#include <mutex>
#include <string>
#include <unordered_map>

#include "conv.cuh"

enum { SLAB = 256 << 10, MOST = 64 << 20 };

typedef struct tap_store {
  std::unordered_map<std::string, const mt_tap *> known;   // by the taps' own bytes
  char *slab;
  int64_t left, total;
  cudaStream_t stream;
} tap_store;

static tap_store stores[MT_MAX_DEVICES];
static std::mutex lock;

// *out = where the taps are, or NULL when there are too many of them already: shapes without end (images of any size) do not fill
// the device. The memory is taken from the driver and never given back.
static int keep(const mt_tap **out, mt_device *device, const std::string &bytes) {
  std::lock_guard<std::mutex> hold(lock);
  tap_store *s = &stores[device->number];
  const auto found = s->known.find(bytes);
  if (found != s->known.end()) {
    *out = found->second;
    return MT_OK;
  }
  const int64_t size = ((int64_t)bytes.size() + 255) / 256 * 256;
  if (s->left < size) {
    void *slab;
    const int64_t take = MT_MAX(size, (int64_t)SLAB);
    if (s->total + take > MOST && device->capture == NULL) {
      *out = NULL;
      return MT_OK;
    }
    MT_CUDA(cudaMalloc(&slab, (size_t)take));
    s->slab = (char *)slab;
    s->left = take;
    s->total += take;
  }
  if (s->stream == NULL) {
    MT_CUDA(cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking));
  }
  MT_CUDA(cudaMemcpyAsync(s->slab, bytes.data(), bytes.size(), cudaMemcpyHostToDevice, s->stream));
  MT_CUDA(cudaStreamSynchronize(s->stream));
  *out = (const mt_tap *)s->slab;
  s->known.insert({bytes, *out});
  s->slab += size;
  s->left -= size;
  return MT_OK;
}

int mt_tap_list::take(mt_device *device, const char *op, const mt_conv_taps *list, int32_t dims, const mt_image *x) {
  const int64_t limit = INT32_MAX / 4;
  count = list->count;
  std::string bytes((size_t)MT_MAX(1, count) * sizeof(mt_tap), 0);
  mt_tap *host = (mt_tap *)&bytes[0];
  for (int64_t j = 0; j < count; j++) {
    host[j].w = list->w[j];
    for (int32_t d = 0, a = 3 - dims; d < dims; d++, a++) {
      const int64_t at = list->offset[j][d];
      if (at > limit || at < -limit) {
        return mt_fail(MT_ERROR_ARGUMENT, "%s: a distance of %lld pixels is more than the GPU kernels handle (%lld)", op, (long long)at,
                       (long long)limit);
      }
      host[j].at[a] = (int32_t)at;
      host[j].x += at * x->step[a];
      host[j].valid += at * x->valid.step[a];
    }
  }
  MT_TRY(keep(&taps, device, bytes));
  if (taps == NULL) {
    MT_TRY(memory.take(device, (int64_t)bytes.size()));
    taps = (const mt_tap *)memory.data;
    return mt_copy_to_device(op, device, memory.data, host, (int64_t)bytes.size());
  }
  return MT_OK;
}
