// The simulator's runtime: devices, memory, and the threads of a block as fibers. See README.md.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <map>
#include <mutex>
#include <vector>

#include "cuda_runtime.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

static cudaError_t last_error = cudaSuccess;
static cudaError_t fail(cudaError_t error) { return last_error = error; }

static void complain(const char *name, const char *text) {
  fprintf(stderr, "simulator: kernel %s: %s\n", name, text);
  last_error = cudaErrorLaunchFailure;
}

// ---- memory: one range of addresses, closed to the host except while a kernel or a copy runs ----------------------------------------

enum : size_t { DEVICES = 2, ARENA = (size_t)4 << 30, ZONE = 256, PAGE = 4096, POISON = 0xCB };

struct block {
  size_t bytes;
  int device;
};
static char *arena, *arena_end;
static std::map<char *, block> blocks;                       // by address
static std::multimap<size_t, char *> holes;                  // freed ranges by size
static std::map<void *, size_t> pinned;
static size_t used[DEVICES];
static int damaged, open_depth, device_now, since_closed;
static bool closed;
static std::recursive_mutex lock;

static size_t range_of(size_t bytes) { return (bytes + 2 * ZONE + 255) / 256 * 256; }

static void segv(int, siginfo_t *info, void *) {
  const char *at = (const char *)info->si_addr;
  if (arena && at >= arena && at < arena + ARENA) {
    static const char text[] = "simulator: host code touched device memory\n";
    (void)!write(2, text, sizeof text - 1);
  }
  signal(SIGSEGV, SIG_DFL);
}

static size_t arena_pages(void) { return (size_t)(arena_end - arena + PAGE - 1) / PAGE; }

static void protect(bool close) {
  closed = close;
  if (arena_pages() > 0) {
    mprotect(arena, arena_pages() * PAGE, close ? PROT_NONE : PROT_READ | PROT_WRITE);
  }
}

// While one lives, device memory may be touched. Closing costs time for every page, so with much memory it is done now and then.
struct opened {
  opened() {
    lock.lock();
    if (open_depth++ == 0 && closed) protect(false);
  }
  ~opened() {
    if (--open_depth == 0 && ++since_closed > (int)(arena_pages() / 16)) {
      since_closed = 0;
      protect(true);
    }
    lock.unlock();
  }
};

static bool on_device(const void *p) { return arena && (const char *)p >= arena && (const char *)p < arena + ARENA; }

static void check_zones(const char *p, const block &b) {
  for (size_t i = 0; i < ZONE; i++) {
    if ((unsigned char)p[(ptrdiff_t)i - (ptrdiff_t)ZONE] != POISON || (unsigned char)p[b.bytes + i] != POISON) {
      fprintf(stderr, "simulator: something was written outside a block of %zu bytes\n", b.bytes);
      damaged++;
      last_error = cudaErrorIllegalAddress;
      return;
    }
  }
}

int mt_simulator_damaged(void) {
  opened now;
  for (auto &entry : blocks) check_zones(entry.first, entry.second);
  return damaged;
}

cudaError_t cudaMalloc(void **out, size_t bytes) {
  std::lock_guard<std::recursive_mutex> hold(lock);
  if (arena == NULL) {
    arena = (char *)mmap(NULL, ARENA, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (arena == MAP_FAILED) {
      arena = NULL;
      return fail(cudaErrorMemoryAllocation);
    }
    arena_end = arena;
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = segv;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, NULL);
  }
  const size_t range = range_of(bytes);
  char *at;
  auto hole = bytes > ARENA ? holes.end() : holes.find(range);
  if (hole != holes.end()) {
    at = hole->second;
    holes.erase(hole);
  } else {
    if (bytes > ARENA || range > (size_t)(arena + ARENA - arena_end)) return fail(cudaErrorMemoryAllocation);
    at = arena_end;
    arena_end += range;
    protect(closed && open_depth == 0);
  }
  opened now;
  memset(at, POISON, range);
  blocks[at + ZONE] = block{bytes, device_now};
  used[device_now] += bytes;
  *out = at + ZONE;
  return cudaSuccess;
}

cudaError_t cudaFree(void *p) {
  if (p == NULL) return cudaSuccess;
  opened now;
  auto entry = blocks.find((char *)p);
  if (entry == blocks.end()) return fail(cudaErrorInvalidValue);
  check_zones((char *)p, entry->second);
  memset(p, 0xDD, entry->second.bytes);
  used[entry->second.device] -= entry->second.bytes;
  holes.insert({range_of(entry->second.bytes), (char *)p - ZONE});
  blocks.erase(entry);
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned) {
  std::lock_guard<std::recursive_mutex> hold(lock);
  *out = aligned_alloc(64, (bytes + 63) / 64 * 64);
  if (*out == NULL) return fail(cudaErrorMemoryAllocation);
  pinned[*out] = bytes;
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void *p) {
  std::lock_guard<std::recursive_mutex> hold(lock);
  pinned.erase(p);
  free(p);
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *a, const void *p) {
  std::lock_guard<std::recursive_mutex> hold(lock);
  memset(a, 0, sizeof *a);
  auto after = pinned.upper_bound((void *)p);
  const bool inside = after != pinned.begin() && (--after, (const char *)p < (const char *)after->first + after->second);
  a->type = on_device(p) ? cudaMemoryTypeDevice : inside ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *unused, size_t *total) {
  *total = ARENA / DEVICES;
  *unused = *total - (used[device_now] < *total ? used[device_now] : *total);
  return cudaSuccess;
}

static bool inside_a_block(const void *p, size_t bytes) {
  auto after = blocks.upper_bound((char *)p);
  return after != blocks.begin() && (--after, (const char *)p + bytes <= after->first + after->second.bytes);
}

// ---- graphs: what a captured stream is given is kept and run by every launch ---------------------------------------------------------

struct mt_simulated_graph {
  std::vector<std::function<void()>> work;
};
static mt_simulated_graph *captured;
static cudaStream_t captured_stream;

bool mt_simulator_captures(cudaStream_t stream) { return captured && (stream == NULL || stream == captured_stream); }
void mt_simulator_keep(std::function<void()> work) { captured->work.push_back(std::move(work)); }

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (captured || stream == NULL) return fail(cudaErrorIllegalState);
  captured = new mt_simulated_graph();
  captured_stream = stream;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
  *graph = NULL;
  if (captured == NULL || stream != captured_stream) return fail(cudaErrorIllegalState);
  *graph = captured;
  captured = NULL;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *run, cudaGraph_t graph, unsigned long long) {
  *run = new mt_simulated_graph(*graph);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t run, cudaStream_t) {
  if (captured) return fail(cudaErrorStreamCaptureUnsupported);
  for (auto &work : run->work) work();
  return last_error;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { delete graph; return cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t run) { delete run; return cudaSuccess; }

// What a capture does not allow.
static cudaError_t check_not_captured(cudaStream_t stream) {
  return captured && stream == captured_stream ? fail(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  if (captured && stream == captured_stream) {
    mt_simulator_keep([=] { (void)cudaMemcpyAsync(to, from, bytes, kind, NULL); });
    return cudaSuccess;
  }
  opened now;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (kind != cudaMemcpyDefault && (on_device(to) != to_device || on_device(from) != from_device)) return fail(cudaErrorInvalidValue);
  if ((to_device && !inside_a_block(to, bytes)) || (from_device && !inside_a_block(from, bytes))) return fail(cudaErrorInvalidValue);
  memmove(to, from, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemcpyPeerAsync(void *to, int, const void *from, int, size_t bytes, cudaStream_t) {
  return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, NULL);
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream) {
  if (captured && stream == captured_stream) {
    mt_simulator_keep([=] { (void)cudaMemsetAsync(to, value, bytes, NULL); });
    return cudaSuccess;
  }
  opened now;
  if (!inside_a_block(to, bytes)) return fail(cudaErrorInvalidValue);
  memset(to, value, bytes);
  return cudaSuccess;
}

// ---- devices, streams, events: everything happens at once -----------------------------------------------------------------------------

struct mt_simulated_stream { int unused; };
struct mt_simulated_event {
  struct timespec at;
};

const char *cudaGetErrorString(cudaError_t e) {
  switch (e) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
    case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
    case cudaErrorLaunchFailure: return "unspecified launch failure";
    default: return "simulated error";
  }
}
const char *cudaGetErrorName(cudaError_t e) {
  switch (e) {
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration: return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
    case cudaErrorIllegalAddress: return "cudaErrorIllegalAddress";
    case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
    default: return "cudaError";
  }
}
cudaError_t cudaGetLastError(void) {
  const cudaError_t e = last_error;
  last_error = cudaSuccess;
  return e;
}
cudaError_t cudaPeekAtLastError(void) { return last_error; }
cudaError_t cudaDriverGetVersion(int *v) { *v = 13000; return cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int *v) { *v = 13000; return cudaSuccess; }
cudaError_t cudaGetDeviceCount(int *n) { *n = DEVICES; return cudaSuccess; }
cudaError_t cudaSetDevice(int n) {
  if (n < 0 || n >= (int)DEVICES) return fail(cudaErrorInvalidDevice);
  device_now = n;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int *n) { *n = device_now; return cudaSuccess; }
cudaError_t cudaDeviceSynchronize(void) { return captured ? fail(cudaErrorStreamCaptureUnsupported) : cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr what, int) {
  switch (what) {
    case cudaDevAttrMultiProcessorCount: *value = 1; break;
    case cudaDevAttrComputeCapabilityMajor: *value = 9; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = 232448; break;
    default: *value = 0;
  }
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int) {
  memset(p, 0, sizeof *p);
  snprintf(p->name, sizeof p->name, "simulator");
  p->major = 9;
  p->multiProcessorCount = 1;
  p->totalGlobalMem = ARENA / DEVICES;
  p->sharedMemPerBlockOptin = 232448;
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned) { *s = new mt_simulated_stream(); return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return check_not_captured(stream); }
cudaError_t cudaStreamDestroy(cudaStream_t s) { delete s; return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned) { *e = new mt_simulated_event(); return cudaSuccess; }
cudaError_t cudaEventDestroy(cudaEvent_t e) { delete e; return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t stream) {
  if (check_not_captured(stream) != cudaSuccess) return cudaErrorStreamCaptureUnsupported;
  clock_gettime(CLOCK_MONOTONIC, &e->at);
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventQuery(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t a, cudaEvent_t b) {
  *ms = (float)((double)(b->at.tv_sec - a->at.tv_sec) * 1e3 + (double)(b->at.tv_nsec - a->at.tv_nsec) / 1e6);
  return cudaSuccess;
}

// ---- fibers --------------------------------------------------------------------------------------------------------------------------
// One fiber runs the threads of a block in a plain loop. Where a thread has to wait, the fiber stays with it and another fiber goes
// on with the next thread: kernels without synchronisation never switch.

enum { STACK = 256 << 10, MAX_THREADS = 1024, WARP = 32 };

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

struct fiber {
  void *stack_pointer;
  char *stack;
  uint3 thread;
  int linear;
  bool busy, waiting;      // waiting: for `*generation` to leave `seen`
  const uint64_t *generation;
  uint64_t seen;
#if !defined(__x86_64__)
  ucontext_t context;
#endif
};

static std::vector<fiber *> fibers;
static fiber *running;
static fiber scheduler;
static int next_thread, threads, finished;

#if defined(__x86_64__)
// Saves the callee-saved registers on the stack, exchanges the stacks, restores.
extern "C" void mt_simulator_switch(void **from, void *to);
asm(".text\n.local mt_simulator_switch\n.type mt_simulator_switch,@function\nmt_simulator_switch:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n  ret\n");
static void switch_to(fiber *from, fiber *to) { mt_simulator_switch(&from->stack_pointer, to->stack_pointer); }
#else
static void switch_to(fiber *from, fiber *to) { swapcontext(&from->context, &to->context); }
#endif

static void (*body)(void *);
static void *body_context;

static void set_thread(int linear) {
  running->linear = linear;
  running->thread = uint3{(unsigned)linear % blockDim.x, (unsigned)linear / blockDim.x % blockDim.y,
                          (unsigned)linear / (blockDim.x * blockDim.y)};
  threadIdx = running->thread;
}

static void thread_finished(int linear);

static void work(void) {
  for (;;) {
    while (next_thread < threads) {
      const int linear = next_thread++;
      set_thread(linear);
      body(body_context);
      finished++;
      thread_finished(linear);
    }
    running->busy = false;
    switch_to(running, &scheduler);
  }
}

static fiber *new_fiber(void) {
  fiber *f = new fiber();
  f->stack = (char *)mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (f->stack == MAP_FAILED) abort();
  mprotect(f->stack, PAGE, PROT_NONE);
#if defined(__x86_64__)
  void **top = (void **)(f->stack + STACK - 64);
  *--top = NULL;            // where work would return to
  *--top = (void *)work;
  for (int i = 0; i < 6; i++) *--top = NULL;
  f->stack_pointer = top;
#else
  getcontext(&f->context);
  f->context.uc_stack.ss_sp = f->stack;
  f->context.uc_stack.ss_size = STACK;
  makecontext(&f->context, work, 0);
#endif
  return f;
}

static void wait_until_changed(const uint64_t *generation, uint64_t seen) {
  fiber *self = running;
  self->waiting = true;
  self->generation = generation;
  self->seen = seen;
  switch_to(self, &scheduler);
  threadIdx = self->thread;
}

// ---- barriers --------------------------------------------------------------------------------------------------------------------------

static struct { uint64_t generation; int arrived, count[2]; } block_barrier;
static struct warp {
  uint64_t generation, published[2][WARP];
  unsigned arrived, mask, truth[2], alive;
} warps[MAX_THREADS / WARP];

static void open_block_barrier(void) {
  block_barrier.arrived = 0;
  block_barrier.generation++;
  block_barrier.count[block_barrier.generation & 1] = 0;
}

// Threads that have returned count as arrived, as on the devices.
static void thread_finished(int linear) {
  warp *w = &warps[linear / WARP];
  w->alive &= ~(1u << linear % WARP);
  if (block_barrier.arrived > 0 && block_barrier.arrived + finished == threads) open_block_barrier();
}

static int barrier_count(int truth) {
  const uint64_t now = block_barrier.generation;
  block_barrier.count[now & 1] += truth;
  if (++block_barrier.arrived + finished == threads) {
    const int count = block_barrier.count[now & 1];
    open_block_barrier();
    return count;
  }
  wait_until_changed(&block_barrier.generation, now);
  return block_barrier.count[now & 1];
}

void mt_simulator_block_barrier(void) { barrier_count(0); }
int __syncthreads_count(int truth) { return barrier_count(truth != 0); }

int mt_simulator_lane(void) { return running->linear % WARP; }
void mt_simulator_wait(const uint64_t *generation, uint64_t seen) { wait_until_changed(generation, seen); }

static const char *kernel_name = "";
void mt_simulator_complain(const char *text) { complain(kernel_name, text); }

// Two buffers: a lane that is ahead by one round writes beside those that still read.
static uint64_t meet(unsigned mask, uint64_t bits, int truth, unsigned *truths, int source) {
  warp *w = &warps[running->linear / WARP];
  const int lane = running->linear % WARP, linear_first = running->linear / WARP * WARP;
  const int last = threads - linear_first < WARP ? threads - linear_first : WARP;
  const unsigned there = last == WARP ? 0xFFFFFFFFu : (1u << last) - 1;
  const uint64_t now = w->generation;
  const int side = (int)(now & 1);
  if (!(mask >> lane & 1)) complain(kernel_name, "a lane calls a warp function whose mask leaves it out");
  if (w->arrived == 0) {
    w->mask = mask;
    w->truth[side] = 0;
  } else if (w->mask != mask) {
    complain(kernel_name, "lanes of one warp meet with different masks");
  }
  w->published[side][lane] = bits;
  w->truth[side] |= (truth ? 1u : 0u) << lane;
  w->arrived |= 1u << lane;
  if ((w->arrived & mask & there) == (mask & there)) {
    w->arrived = 0;
    w->generation++;
  } else {
    wait_until_changed(&w->generation, now);
  }
  if (truths) *truths = w->truth[side];
  return w->published[side][source & (WARP - 1)];
}

uint64_t mt_simulator_exchange(unsigned mask, uint64_t bits, int source) { return meet(mask, bits, 0, NULL, source); }
unsigned mt_simulator_ballot(unsigned mask, int truth) {
  unsigned truths;
  meet(mask, 0, truth, &truths, 0);
  return truths;
}

// ---- launches --------------------------------------------------------------------------------------------------------------------------

static std::vector<char> shared_memory;
void *mt_simulator_shared(void) { return (void *)(((uintptr_t)shared_memory.data() + 127) / 128 * 128); }

static bool is_mapped(uint64_t address) {
  unsigned char unused;
  return mincore((void *)(address / PAGE * PAGE), 1, &unused) == 0;
}

// Numbers in arguments are far below the addresses of host memory, and floating point numbers far above.
void mt_simulator_argument(const char *name, const void *bytes, size_t count) {
  for (size_t at = 0; at + 8 <= count; at += 8) {
    uint64_t word;
    memcpy(&word, (const char *)bytes + at, 8);
    cudaPointerAttributes a;
    if (word < 0x550000000000ull || word > 0x7fffffffffffull || on_device((void *)word)) continue;
    cudaPointerGetAttributes(&a, (void *)word);
    if (a.type != cudaMemoryTypeHost && is_mapped(word)) complain(name, "an argument holds the address of host memory");
  }
}

// Everything has stopped: each fiber waits for lanes or threads that never come.
static void give_up(void) {
  complain(kernel_name, "threads wait for each other for ever (a barrier that only some of them reach)");
  fibers.clear();  // their stacks are lost; this is the end of a failing test
  next_thread = finished = threads;
}

static void run_block(void) {
  next_thread = finished = 0;
  block_barrier.generation++;
  block_barrier.arrived = 0;
  block_barrier.count[0] = block_barrier.count[1] = 0;
  for (int w = 0; w * WARP < threads; w++) warps[w].arrived = 0;
  size_t at = 0;
  bool moved = true;
  while (finished < threads || next_thread < threads) {
    if (at >= fibers.size()) {
      if (next_thread < threads) {
        fibers.push_back(new_fiber());
      } else if (moved) {
        at = 0;
        moved = false;
        continue;
      } else {
        return give_up();
      }
    }
    fiber *f = fibers[at++];
    if (f->busy ? f->waiting && *f->generation == f->seen : next_thread >= threads) continue;
    f->busy = true;
    f->waiting = false;
    moved = true;
    running = f;
    threadIdx = f->thread;
    switch_to(&scheduler, f);
  }
}

void mt_simulator_run(const char *name, dim3 grid, dim3 block, size_t shared, void (*kernel)(void *), void *context) {
  opened now;
  const size_t count = (size_t)block.x * block.y * block.z;
  if (count == 0 || count > MAX_THREADS || grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7FFFFFFF || grid.y > 65535 ||
      grid.z > 65535 || shared > 232448) {
    fail(cudaErrorInvalidConfiguration);
    return;
  }
  kernel_name = name;
  body = kernel;
  body_context = context;
  threads = (int)count;
  blockDim = block;
  gridDim = grid;
  if (shared_memory.size() < shared + 128) shared_memory.resize(shared + 128);
  for (unsigned z = 0; z < grid.z; z++) {
    for (unsigned y = 0; y < grid.y; y++) {
      for (unsigned x = 0; x < grid.x; x++) {
        blockIdx = uint3{x, y, z};
        memset(shared_memory.data(), POISON, shared_memory.size());
        run_block();
      }
    }
  }
}
