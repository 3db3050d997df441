// peak: what this machine can do right now: multiply-adds on float32 registers, no memory, on n threads.
//
//   bench_peak(n, seconds) -> GFLOP/s over all threads (a multiply-add counts 2), the best of short slices of `seconds` in all.
// The widest instruction set of the machine is used, whatever the library's kernels use: percentages are of the hardware.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <time.h>

enum { ACCUMULATORS = 12, BATCH = 20000, MAX_THREADS = 64 };

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static volatile float sink;

// a = a * b + c on 12 independent registers, BATCH times. The file is built with -ffp-contract=fast: one FMA each.
#define DEFINE_BURN(name, bytes, attributes)                                                   \
  typedef float vector_##name __attribute__((vector_size(bytes)));                              \
  attributes __attribute__((noinline)) static void burn_##name(void) {                         \
    vector_##name a[ACCUMULATORS], b = {0}, c = {0};                                           \
    b += 0.999f, c += 1e-9f;                                                                   \
    for (int i = 0; i < ACCUMULATORS; i++) a[i] = c + (float)i;                                \
    for (int k = 0; k < BATCH; k++) {                                                          \
      _Pragma("GCC unroll 12") for (int i = 0; i < ACCUMULATORS; i++) a[i] = a[i] * b + c;     \
    }                                                                                          \
    for (int i = 1; i < ACCUMULATORS; i++) a[0] += a[i];                                       \
    sink = a[0][0];                                                                            \
  }

DEFINE_BURN(portable, 16, )
#if defined(__x86_64__)
DEFINE_BURN(avx2, 32, __attribute__((target("avx2,fma"))))
DEFINE_BURN(avx512, 64, __attribute__((target("avx512f"))))
#endif

static void (*choose(int *floats))(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f")) {
    *floats = 16;
    return burn_avx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    *floats = 8;
    return burn_avx2;
  }
#endif
  *floats = 4;
  return burn_portable;
}

typedef struct {
  double slice;
  int64_t batches;
  double seconds;
  pthread_barrier_t *start;
} job;

static void *work(void *context) {
  job *j = context;
  int floats;
  void (*burn)(void) = choose(&floats);
  pthread_barrier_wait(j->start);
  double begin = now(), end = begin;
  for (j->batches = 0; end - begin < j->slice; j->batches++) {
    burn();
    end = now();
  }
  j->seconds = end - begin;
  return NULL;
}

__attribute__((visibility("default"))) double bench_peak(int32_t threads, double seconds);

double bench_peak(int32_t threads, double seconds) {
  enum { SLICES = 5 };
  int floats;
  choose(&floats);
  if (threads < 1 || threads > MAX_THREADS) {
    return 0;
  }
  double best = 0;
  for (int s = 0; s < SLICES; s++) {
    job jobs[MAX_THREADS];
    pthread_t thread[MAX_THREADS];
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, (unsigned)threads);
    for (int i = 0; i < threads; i++) {
      jobs[i] = (job){.slice = seconds / SLICES, .start = &start};
    }
    for (int i = 1; i < threads; i++) {
      if (pthread_create(&thread[i], NULL, work, &jobs[i]) != 0) {
        return 0;  // the others wait at the barrier for ever: the caller gives up
      }
    }
    work(&jobs[0]);
    double rate = 0;
    for (int i = 0; i < threads; i++) {
      if (i > 0) {
        pthread_join(thread[i], NULL);
      }
      rate += (double)jobs[i].batches * BATCH * ACCUMULATORS * 2 * floats / jobs[i].seconds * 1e-9;
    }
    best = rate > best ? rate : best;
    pthread_barrier_destroy(&start);
  }
  return best;
}
