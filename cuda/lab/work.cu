// work: see work.h.
#include "work.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>

const char *const lab_kind_names[LAB_KINDS] = {"bfloat16", "TF32", "float32"};

const lab_rung lab_rungs[] = {
  {"1 naive", lab_naive, false},          {"2 shared memory", lab_shared, false},    {"3 tensor cores", lab_tensor, false},
  {"4 pipeline", lab_pipeline, false},    {"5 wgmma", lab_wgmma_copied, false},      {"6 wgmma, TMA", lab_wgmma_tma, true},
  {"7 wgmma, gather", lab_wgmma_gathered, false}, {"8 wgmma, 3xTF32", lab_wgmma_split, true},
};
const int lab_rung_count = sizeof lab_rungs / sizeof *lab_rungs;

void lab_must(cudaError_t error, const char *what) {
  if (error != cudaSuccess) {
    fprintf(stderr, "cuda_lab: %s: %s\n", what, cudaGetErrorString(error));
    exit(1);
  }
}

// ---- data ---------------------------------------------------------------------------------------------------------------------

static uint32_t hash(uint32_t x) {
  x = (x ^ x >> 16) * 0x7FEB352Du;
  x = (x ^ x >> 15) * 0x846CA68Bu;
  return x ^ x >> 16;
}

static uint16_t to_bf16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

static float from_bf16(uint16_t x) {
  const uint32_t bits = (uint32_t)x << 16;
  float f;
  memcpy(&f, &bits, 4);
  return f;
}

// Whole numbers from -3 to 3, or [-1, 1); what bfloat16 holds where that is the kind.
static float value(uint32_t seed, size_t i, int how, bool whole) {
  const uint32_t h = hash(hash((uint32_t)i) + seed * 0x9E3779B9u);
  if (whole) {
    return (float)(int)(h % 7) - 3;
  }
  const float x = (float)(h >> 8) / 8388608.0f - 1;
  return how == LAB_BF16 ? from_bf16(to_bf16(x)) : x;
}

static void *upload(const std::vector<float> &x, bool bf16, cudaStream_t stream) {
  const size_t bytes = x.size() * (bf16 ? 2 : 4);
  std::vector<uint16_t> half;
  void *to;
  if (bf16) {
    half.resize(x.size());
    std::transform(x.begin(), x.end(), half.begin(), to_bf16);
  }
  lab_must(cudaMalloc(&to, bytes), "cudaMalloc");
  lab_must(cudaMemcpyAsync(to, bf16 ? (const void *)half.data() : (const void *)x.data(), bytes, cudaMemcpyHostToDevice, stream), "upload");
  lab_must(cudaStreamSynchronize(stream), "upload");
  return to;
}

lab_work::lab_work(const lab_shape &s, int how_, bool whole, cudaStream_t stream) : shape(s), how(how_), device() {
  const int reach = s.kernel / 2, up = s.height > 1 ? reach : 0, high = s.height + 2 * up, wide = s.width + 2 * reach;
  lab_problem p;
  memset(&p, 0, sizeof p);
  p.n = s.n;
  p.channels = s.channels;
  p.a_rows = s.batch * high * wide;
  for (int y = -up; y <= up; y++) {
    for (int x = -reach; x <= reach; x++) {
      p.offset[p.taps++] = y * wide + x;
    }
  }
  a.assign((size_t)p.a_rows * (size_t)s.channels, 0);
  for (int i = 0; i < p.a_rows; i++) {
    const int y = i / wide % high - up, x = i % wide - reach;
    if (y < 0 || y >= s.height || x < 0 || x >= s.width) {
      continue;
    }
    for (size_t c = 0, at = (size_t)i * (size_t)s.channels; c < (size_t)s.channels; c++) {
      a[at + c] = value(1, at + c, how, whole);
    }
    if ((int)(hash((uint32_t)i) % 100) < s.active) {
      rows.push_back(i);
    }
  }
  b.resize((size_t)s.n * (size_t)p.taps * (size_t)s.channels);
  for (size_t i = 0; i < b.size(); i++) {
    b[i] = value(2, i, how, whole);
  }
  bias.resize((size_t)s.n);
  for (size_t i = 0; i < bias.size(); i++) {
    bias[i] = value(3, i, LAB_F32, whole);
  }
  p.a = device[0] = upload(a, how == LAB_BF16, stream);
  p.b = device[1] = upload(b, how == LAB_BF16, stream);
  p.bias = (const float *)(device[2] = upload(bias, false, stream));
  lab_must(cudaMalloc(&device[3], (size_t)p.a_rows * (size_t)p.n * sizeof(float)), "cudaMalloc");
  p.c = (float *)device[3];
  p.m = p.a_rows;
  dense = listed = p;
  if ((int)rows.size() != p.a_rows) {
    lab_must(cudaMalloc(&device[4], std::max<size_t>(1, rows.size()) * sizeof(int)), "cudaMalloc");
    lab_must(cudaMemcpyAsync(device[4], rows.data(), rows.size() * sizeof(int), cudaMemcpyHostToDevice, stream), "upload");
    lab_must(cudaStreamSynchronize(stream), "upload");
    listed.rows = (const int *)device[4];
    listed.m = (int)rows.size();
  }
}

lab_work::~lab_work() {
  for (void *p : device) {
    cudaFree(p);
  }
}

double lab_work::flops() const { return 2.0 * listed.m * listed.n * listed.channels * listed.taps; }

// ---- the check -------------------------------------------------------------------------------------------------------------------

// Errors that a kind of sum may make, of the sum of absolute products: operands of 11 bits, cut off rather than rounded where the hardware does
// so; sums that tensor cores truncate; float32.
static const double bounds[LAB_KINDS] = {1e-4, 2.0 / 1024, 2e-6};
enum { UNTOUCHED = 0x7E };  // bytes that c holds before

bool lab_work::check(const lab_rung &rung, bool whole, int64_t most, bool *able, double *worst, cudaStream_t stream) {
  const lab_problem &p = of(rung);
  const size_t size = (size_t)p.a_rows * (size_t)p.n;
  std::vector<float> c(size);
  float untouched;
  memset(&untouched, UNTOUCHED, sizeof untouched);
  lab_must(cudaMemsetAsync(p.c, UNTOUCHED, size * sizeof(float), stream), "memset");
  cudaError_t error = rung.start(p, how, stream);
  *able = error != cudaErrorNotSupported;
  if (!*able) {
    return true;
  }
  if (!error) error = cudaStreamSynchronize(stream);
  if (error) {
    fprintf(stderr, "FAIL %s, %s, %s: %s\n", rung.name, lab_kind_names[how], shape.name, cudaGetErrorString(error));
    return false;
  }
  lab_must(cudaMemcpyAsync(c.data(), p.c, size * sizeof(float), cudaMemcpyDeviceToHost, stream), "download");
  lab_must(cudaStreamSynchronize(stream), "download");
  std::vector<uint8_t> active((size_t)p.a_rows, p.rows == NULL);
  for (int row : rows) {
    active[(size_t)row] = 1;
  }
  const size_t stride = most < (int64_t)size ? size / (size_t)most | 1 : 1;
  for (size_t i = 0; i < size; i += stride) {
    const int row = (int)(i / (size_t)p.n), n = (int)(i % (size_t)p.n);
    double sum = bias[(size_t)n], scale = fabs(sum), expected = untouched;
    if (active[(size_t)row]) {
      for (int t = 0; t < p.taps; t++) {
        const int from = row + p.offset[t];
        if (from < 0 || from >= p.a_rows) {
          continue;
        }
        const float *const left = &a[(size_t)from * (size_t)p.channels], *const right = &b[((size_t)n * (size_t)p.taps + (size_t)t) * (size_t)p.channels];
        for (int k = 0; k < p.channels; k++) {
          sum += (double)left[k] * right[k];
          scale += fabs((double)left[k] * right[k]);
        }
      }
      expected = sum;
    }
    const double off = fabs((double)c[i] - expected), relative = active[(size_t)row] ? off / (scale > 0 ? scale : 1) : off;
    const bool right = whole || !active[(size_t)row] ? off == 0 : relative <= bounds[how];
    if (!right) {
      fprintf(stderr, "FAIL %s, %s, %s: row %d, column %d: %.9g, not %.9g\n", rung.name, lab_kind_names[how], shape.name, row, n, (double)c[i], expected);
      return false;
    }
    *worst = std::max(*worst, active[(size_t)row] ? relative : 0);
  }
  return true;
}
