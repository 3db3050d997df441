// What the simulator adds for cuda/lab: cp.async, ldmatrix, mma.sync, and of sm_90 the barriers that count bytes, the copy engine with its
// tensor maps, and wgmma with its descriptors. They are played from their encoded forms as the PTX ISA describes them, not from what the
// kernels meant: an operand is read through the 64 bits of its descriptor, element by element.
//
// Copies and products that run beside the program happen as early or as late as they may: with early copies, copies at once and wgmma when it is
// waited for, which shows stages that are filled too early; with late copies the other way, which shows stages that are read too early.
// Also found: wgmma that reads what ordinary writes left without a fence, tiles at wrong addresses, barriers that are arrived at too often,
// tensor maps that the driver would refuse. `mistake` names one that is made on purpose, to see that it is noticed.
#pragma once
#include <stdio.h>
#include <stdlib.h>

#include <deque>
#include <map>
#include <vector>

#include "cuda_runtime.h"

// ---- state of the block that runs -------------------------------------------------------------------------------------------

typedef std::function<void()> hopper_work;
struct hopper_sums {  // a wgmma and where its results go
  hopper_work work;
  float *d;
  void operator()() { work(); }
};
struct hopper_barrier {
  uint64_t phases;   // completed ones
  uint64_t changes;  // what wakes those who wait: a phase, or a box that was ordered and will arrive
  int count, pending, bytes;
};
struct hopper_thread {
  std::vector<hopper_work> copies;                            // not yet committed
  std::vector<hopper_sums> products;
  std::deque<std::vector<hopper_work>> copy_groups;
  std::deque<std::vector<hopper_sums>> product_groups;
  std::vector<uint32_t> unfenced;                             // pieces of 16 bytes that this thread has written
};
struct hopper_state {
  hopper_thread threads[1024];
  std::map<uint32_t, hopper_barrier> barriers;
  std::deque<hopper_work> boxes;                              // ordered, not yet copied
  std::vector<uint8_t> unfenced = std::vector<uint8_t>(1 << 14);
  bool late_copies = false;
  const char *mistake = "";
};
inline hopper_state hopper;
static inline bool hopper_mistake(const char *name) { return !strcmp(hopper.mistake, name); }

// One mistake has many consequences: the first few are said.
static inline void hopper_complain(const char *text) {
  static int said;
  if (said++ < 20) mt_simulator_complain(text);
}
static inline hopper_thread &hopper_self(void) { return hopper.threads[threadIdx.x]; }

// Shared memory's addresses: 18 bits from a multiple of 1024 on.
static inline char *hopper_window(void) { return (char *)((uintptr_t)mt_simulator_shared() & ~(uintptr_t)1023); }
static inline char *hopper_at(uint32_t address) { return hopper_window() + address; }
static inline uint32_t lab_address(const void *p) { return (uint32_t)((const char *)p - hopper_window()); }

// ---- copies ----------------------------------------------------------------------------------------------------------------------

static inline void hopper_written(hopper_thread *self, uint32_t to) {
  hopper.unfenced[to / 16] = 1;
  self->unfenced.push_back(to / 16);
}

static inline void lab_copy16(uint32_t to, const void *from, bool there) {
  hopper_thread *const self = &hopper_self();
  if (to % 16 || (there && (uintptr_t)from % 16)) hopper_complain("cp.async: an address is not a multiple of 16");
  self->copies.push_back([=] {
    there ? (void)memcpy(hopper_at(to), from, 16) : (void)memset(hopper_at(to), 0, 16);
    hopper_written(self, to);
  });
  if (!hopper.late_copies) {
    self->copies.back()();
    self->copies.clear();
  }
}

static inline uint4 lab_load16(uint32_t from) {
  uint4 x;
  memcpy(&x, hopper_at(from), 16);
  return x;
}
template <int THREADS> static inline void lab_meet() {
  static uint64_t meetings;
  static int there;
  if (++there == THREADS) {
    there = 0;
    meetings++;
  } else {
    mt_simulator_wait(&meetings, meetings);
  }
}

static inline void lab_store16(uint32_t to, uint4 x) {
  memcpy(hopper_at(to), &x, 16);
  hopper_written(&hopper_self(), to);
}

template <typename W> static inline void hopper_finish(std::deque<std::vector<W>> &groups, size_t left) {
  for (; groups.size() > left; groups.pop_front()) {
    for (auto &work : groups.front()) work();
  }
}
static inline void lab_copy_commit() {
  hopper_self().copy_groups.push_back(std::move(hopper_self().copies));
  hopper_self().copies.clear();
}
template <int LEFT> static inline void lab_copy_wait() { hopper_finish(hopper_self().copy_groups, hopper_mistake("arrival") ? LEFT + 1 : LEFT); }

static inline void lab_fence_async() {
  if (hopper_mistake("fence")) return;
  for (uint32_t piece : hopper_self().unfenced) hopper.unfenced[piece] = 0;
  hopper_self().unfenced.clear();
}

// ---- tensor cores of a warp ----------------------------------------------------------------------------------------------------------

static inline void lab_load_matrices(uint32_t (&x)[4], uint32_t address) {
  const int lane = mt_simulator_lane();
  if (address % 16) hopper_complain("ldmatrix: an address is not a multiple of 16");
  for (int i = 0; i < 4; i++) {
    const uint32_t row = __shfl_sync(0xFFFFFFFFu, address, 8 * i + lane / 4);
    memcpy(&x[i], hopper_at(row) + lane % 4 * 4, 4);
  }
}

// As tensor cores do it, or a little worse: the exact sum, truncated.
static inline float hopper_truncated(double sum) {
  const float f = (float)sum;
  return f - f == 0 && fabs((double)f) > fabs(sum) ? nextafterf(f, 0) : f;
}
static inline double hopper_bf16(uint32_t word, int upper) { return __uint_as_float(upper ? word & 0xFFFF0000u : word << 16); }
static inline double hopper_tf32(uint32_t word) { return __uint_as_float(word & 0xFFFFE000u); }
static inline double hopper_product(uint32_t a, uint32_t b, bool bf16) {
  return bf16 ? hopper_bf16(a, 0) * hopper_bf16(b, 0) + hopper_bf16(a, 1) * hopper_bf16(b, 1) : hopper_tf32(a) * hopper_tf32(b);
}

static inline void hopper_mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, bool bf16) {
  static uint32_t warps[32][32][6];
  uint32_t(*all)[6] = warps[threadIdx.x / 32];
  const int lane = mt_simulator_lane(), g = lane / 4, t = lane % 4;
  memcpy(all[lane], a, sizeof a);
  all[lane][4] = b0;
  all[lane][5] = b1;
  __syncwarp();
  for (int i = 0; i < 4; i++) {
    const int low = i / 2, n = 2 * t + i % 2;
    double sum = c[i];
    for (int word = 0; word < 8; word++) {
      sum += hopper_product(all[g * 4 + word % 4][low + word / 4 * 2], all[n * 4 + word % 4][4 + word / 4], bf16);
    }
    c[i] = hopper_truncated(sum);
  }
  __syncwarp();
}
static inline void lab_mma_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) { hopper_mma(c, a, b0, b1, true); }
static inline void lab_mma_tf32(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) { hopper_mma(c, a, b0, b1, false); }

static inline uint32_t lab_to_tf32(uint32_t x) { return (x & 0x7F800000u) == 0x7F800000u ? x : (x + 0x1000u) & 0xFFFFE000u; }

// ---- barriers ------------------------------------------------------------------------------------------------------------------------

static inline hopper_barrier &hopper_barrier_at(uint32_t address) {
  const auto entry = hopper.barriers.find(address);
  if (entry == hopper.barriers.end()) {
    hopper_complain("mbarrier: there is none at this address");
    exit(1);
  }
  return entry->second;
}
static inline void hopper_complete(hopper_barrier &b) {
  if (b.pending == 0 && b.bytes == 0) {
    b.phases++;
    b.changes++;
    b.pending = b.count;
  }
}

// The first init of a block: what its predecessor left is gone. Barriers have addresses of their own in every block.
static inline void lab_barrier_init(uint32_t barrier, int arrivals) {
  if (barrier % 8) hopper_complain("mbarrier: the address is not a multiple of 8");
  hopper.barriers[barrier] = hopper_barrier{0, 0, arrivals, arrivals, 0};
}
static inline void lab_barrier_init_done() {}
static inline void lab_barrier_arrive(uint32_t barrier) {
  hopper_barrier &b = hopper_barrier_at(barrier);
  if (b.pending-- == 0) hopper_complain("mbarrier: more arrivals than the phase has");
  hopper_complete(b);
}
static inline void lab_barrier_expect(uint32_t barrier, int bytes) {
  hopper_barrier_at(barrier).bytes += bytes;
  lab_barrier_arrive(barrier);
}
static inline void lab_barrier_wait(uint32_t barrier, int parity) {
  hopper_barrier &b = hopper_barrier_at(barrier);
  while ((b.phases & 1) == (uint64_t)parity) {
    if (hopper.boxes.empty()) {
      mt_simulator_wait(&b.changes, b.changes);
    } else {
      hopper.boxes.front()();
      hopper.boxes.pop_front();
    }
  }
}

// ---- the copy engine ---------------------------------------------------------------------------------------------------------------------

typedef enum { CUDA_SUCCESS = 0, CUDA_ERROR_INVALID_VALUE = 1 } CUresult;
typedef enum { CU_TENSOR_MAP_DATA_TYPE_FLOAT32 = 7, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 = 9, CU_TENSOR_MAP_DATA_TYPE_TFLOAT32 = 11 } CUtensorMapDataType;
typedef enum { CU_TENSOR_MAP_INTERLEAVE_NONE } CUtensorMapInterleave;
typedef enum { CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_SWIZZLE_32B, CU_TENSOR_MAP_SWIZZLE_64B, CU_TENSOR_MAP_SWIZZLE_128B } CUtensorMapSwizzle;
typedef enum { CU_TENSOR_MAP_L2_PROMOTION_L2_256B = 3 } CUtensorMapL2promotion;
typedef enum { CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE } CUtensorMapFloatOOBfill;
struct alignas(64) CUtensorMap {
  const char *data;
  uint32_t dims, element, box[3], tf32;
  uint64_t size[3], stride[3];
};

// What the driver's documentation asks of a map with this swizzle.
static inline CUresult hopper_encode(CUtensorMap *map, CUtensorMapDataType type, uint32_t dims, void *data, const uint64_t *size,
                                     const uint64_t *stride, const uint32_t *box, const uint32_t *step, CUtensorMapInterleave,
                                     CUtensorMapSwizzle swizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  const uint32_t element = type == CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 ? 2 : 4;
  bool right = (uintptr_t)map % 64 == 0 && (uintptr_t)data % 16 == 0 && dims >= 1 && dims <= 3 && swizzle == CU_TENSOR_MAP_SWIZZLE_128B &&
               box[0] * element <= 128 && box[0] * element % 16 == 0;
  *map = CUtensorMap{(const char *)data, dims, element, {1, 1, 1}, type == CU_TENSOR_MAP_DATA_TYPE_TFLOAT32, {1, 1, 1}, {element, 0, 0}};
  for (uint32_t d = 0; right && d < dims; d++) {
    right = size[d] > 0 && size[d] <= (uint64_t)1 << 32 && box[d] > 0 && box[d] <= 256 && step[d] == 1;
    map->size[d] = size[d];
    map->box[d] = box[d];
    if (d > 0) {
      right = right && stride[d - 1] % 16 == 0 && stride[d - 1] < (uint64_t)1 << 40;
      map->stride[d] = stride[d - 1];
    }
  }
  return right ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
static inline decltype(&hopper_encode) lab_map_maker(void) { return hopper_encode; }

// Rows of the box one after the other, each 128 bytes; bits 4 to 6 of an address ^= bits 7 to 9.
static inline uint32_t hopper_swizzled(uint32_t address) { return address ^ (address >> 3 & 0x70); }
static inline uint32_t hopper_boxed(uint32_t address) { return hopper_mistake("swizzle") ? address : hopper_swizzled(address); }

static inline void lab_box_load(uint32_t to, const CUtensorMap *map, uint32_t barrier, int x, int y, int z = 0) {
  const CUtensorMap m = *map;
  if (to % 1024) hopper_complain("cp.async.bulk.tensor: a swizzled box begins at a multiple of 1024 bytes");
  const auto load = [=] {
    const int at[3] = {x, y, z};
    uint32_t place = to;
    for (uint32_t k = 0; k < m.box[2]; k++) {
      for (uint32_t j = 0; j < m.box[1]; j++) {
        for (uint32_t i = 0; i < m.box[0]; i++, place += m.element) {
          const int64_t index[3] = {at[0] + (int64_t)i, at[1] + (int64_t)j, at[2] + (int64_t)k};
          uint32_t bits = 0;
          int64_t offset = 0;
          bool inside = true;
          for (int d = 0; d < 3; d++) {
            inside = inside && index[d] >= 0 && index[d] < (int64_t)m.size[d];
            offset += index[d] * (int64_t)m.stride[d];
          }
          if (inside) memcpy(&bits, m.data + offset, m.element);
          if (m.tf32) bits = lab_to_tf32(bits);
          memcpy(hopper_at(hopper_boxed(place)), &bits, m.element);
          hopper.unfenced[place / 16] = 0;
        }
      }
    }
    hopper_barrier &b = hopper_barrier_at(barrier);
    b.bytes -= (int)(place - to);
    if (b.bytes < 0) hopper_complain("mbarrier: more bytes than were expected");
    hopper_complete(b);
  };
  if (hopper.late_copies) {
    hopper.boxes.push_back(load);
    hopper_barrier_at(barrier).changes++;
  } else {
    load();
  }
}
static inline void lab_box_prefetch_map(const CUtensorMap *) {}

// ---- tensor cores of a warpgroup -----------------------------------------------------------------------------------------------------------

// 32 bits of an operand whose terms are neighbours: row r, word k of 8.
static inline uint32_t hopper_operand(uint64_t descriptor, int r, int k) {
  const uint32_t start = (uint32_t)(descriptor & 0x3FFF) << 4, stride = (uint32_t)(descriptor >> 32 & 0x3FFF) << 4 >> hopper_mistake("stride");
  const uint32_t address = hopper_swizzled(start + (uint32_t)(r % 8 * 128 + k * 4) + (uint32_t)(r / 8) * stride);
  uint32_t word;
  if (hopper.unfenced[address / 16]) hopper_complain("wgmma reads what was written without fence.proxy.async");
  memcpy(&word, hopper_at(address), 4);
  return word;
}

// N columns, of this thread's results.
static inline void hopper_wgmma(float *d, int n, uint64_t a, uint64_t b, int add, bool bf16) {
  const int warp = (int)threadIdx.x / 32 % 4, g = mt_simulator_lane() / 4, t = mt_simulator_lane() % 4;
  uint32_t left[2][8];
  for (int i = 0; i < 16; i++) left[i / 8][i % 8] = hopper_operand(a, 16 * warp + g + 8 * (i / 8), i % 8);
  for (int column = 0; column < n / 4; column++) {
    const int c = column / 2 * 8 + 2 * t + column % 2;
    uint32_t right[8];
    for (int k = 0; k < 8; k++) right[k] = hopper_operand(b, c, k);
    for (int low = 0; low < 2; low++) {
      float *const to = &d[column / 2 * 4 + low * 2 + column % 2];
      double sum = add ? *to : 0;
      for (int k = 0; k < 8; k++) sum += hopper_product(left[low][k], right[k], bf16);
      *to = hopper_truncated(sum);
    }
  }
}

template <int HOW, int N> static inline void lab_wgmma(float (&d)[N / 2], uint64_t a, uint64_t b, int add) {
  if ((a >> 62) != 1 || (b >> 62) != 1 || (a >> 49 & 7) || (b >> 49 & 7)) hopper_complain("wgmma: the descriptor is not of a 128-byte swizzle");
  float *const to = d;
  const hopper_work work = [=] { hopper_wgmma(to, N, a, b, add, HOW == 0); };
  if (hopper.late_copies) {
    work();
  } else {
    hopper_self().products.push_back(hopper_sums{work, to});
  }
}
static inline void lab_wgmma_fence() {}
static inline void lab_wgmma_commit() {
  hopper_self().product_groups.push_back(std::move(hopper_self().products));
  hopper_self().products.clear();
}
template <int LEFT> static inline void lab_wgmma_wait() { hopper_finish(hopper_self().product_groups, hopper_mistake("release") && LEFT > 0 ? LEFT + 1 : LEFT); }
template <int COUNT> static inline void lab_keep(float (&d)[COUNT]) {
  for (const auto &group : hopper_self().product_groups) {
    for (const hopper_sums &sums : group) {
      if (sums.d == d) hopper_complain("wgmma: results are used before they are waited for");
    }
  }
}
template <int COUNT> static inline void lab_registers_grow() {}
template <int COUNT> static inline void lab_registers_shrink() {}
