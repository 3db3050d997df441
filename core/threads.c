// threads: one pool. A loop is cut into chunks by shape alone; workers take the next chunk from a counter. Idle
// workers spin for a moment (longer than Lua needs from one kernel to the next), then sleep. The caller never waits for a worker
// that has not begun: it opens a loop, works on it, and closes it; workers that come late find it closed. Sleeping workers are
// woken only when what is left is worth more than waking them. The library is linked with -z nodelete: at exit LuaJIT unloads it while the
// workers still wait in this code.
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

enum { MAX_THREADS = 256, SPINS = 4000, CLOSED = 1 << 30 };
static const double WAKE_SECONDS = 20e-6;  // what waking a sleeper costs, about

static inline void pause_cpu(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// ---- cancel flag --------------------------------------------------------------------------------------------------

static volatile sig_atomic_t cancel_flag;
static struct sigaction previous_action;
static bool installed;

static void on_interrupt(int signal_number) {
  if (cancel_flag) {  // the second one: nothing has looked at the flag since
    if (previous_action.sa_handler != SIG_DFL && previous_action.sa_handler != SIG_IGN && !(previous_action.sa_flags & SA_SIGINFO)) {
      previous_action.sa_handler(signal_number);
    } else {
      signal(signal_number, SIG_DFL);
      raise(signal_number);
    }
  }
  cancel_flag = 1;
}

int mt_cancel_install(void) {
  struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};
  sigemptyset(&action.sa_mask);
  if (!installed && sigaction(SIGINT, &action, &previous_action) != 0) {
    return mt_fail(MT_ERROR_INTERNAL, "cancel_install: cannot set the SIGINT handler");
  }
  installed = true;
  return MT_OK;
}

int mt_cancel_restore(void) {
  if (installed) {
    sigaction(SIGINT, &previous_action, NULL);
    installed = false;
  }
  return MT_OK;
}

void mt_cancel_set(int32_t flag) { cancel_flag = flag; }
int32_t mt_cancel_pending(void) { return cancel_flag; }

// ---- pool -----------------------------------------------------------------------------------------------------

static struct {
  pthread_mutex_t lock;
  pthread_cond_t work, finished;
  pthread_t thread[MAX_THREADS];
  uint64_t seen[MAX_THREADS];  // worker i, from 1: the generation when it was started
  int32_t workers;             // running beside the caller
  _Atomic uint64_t generation; // counts jobs; a worker that sees a new value joins the job
  _Atomic int64_t next;        // first chunk not yet taken
  _Atomic int32_t inside;      // workers inside the job, + CLOSED between jobs
  _Atomic int32_t sleeping;    // workers that wait for a signal
  int32_t spins;               // 0 where threads have to share cores
  _Atomic bool stop, taken;
  int64_t n, grain;
  mt_task task;
  void *context;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER, .finished = PTHREAD_COND_INITIALIZER, .inside = CLOSED};

static int32_t wanted;                      // 0: not decided yet
static _Thread_local bool inside_parallel;  // nested loops run in the caller

// ---- profile ----------------------------------------------------------------------------------------------------

// A worker writes its own line; the caller reads it when the loop is over.
static _Alignas(64) struct {
  _Alignas(64) double seconds;
} busy[MAX_THREADS];
static struct {
  bool on;
  double loops, seconds;
} profile;

static double clock_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int mt_threads_profile(int32_t on) {
  if (on) {
    memset(busy, 0, sizeof busy);
    profile.loops = profile.seconds = 0;
  }
  profile.on = on != 0;
  return MT_OK;
}

double mt_threads_loops(void) { return profile.loops; }
double mt_threads_seconds(void) { return profile.seconds; }
double mt_threads_busy(int32_t i) { return i >= 0 && i < MAX_THREADS ? busy[i].seconds : 0; }

// ---- loops ------------------------------------------------------------------------------------------------------

static void wake(void) {
  pthread_mutex_lock(&pool.lock);
  pthread_cond_broadcast(&pool.work);
  pthread_mutex_unlock(&pool.lock);
}

// rouse: workers sleep; after the first chunk its time tells whether to wake them.
static void take_chunks(bool rouse) {
  int64_t n = pool.n, grain = pool.grain;
  for (;;) {
    int64_t begin = atomic_fetch_add(&pool.next, 1) * grain;
    if (begin >= n || cancel_flag) {
      return;
    }
    double start = rouse ? clock_seconds() : 0;
    pool.task(pool.context, begin, MT_MIN(begin + grain, n));
    if (rouse) {
      const double left = (double)(n - begin) / (double)grain - 1;
      rouse = false;
      if ((clock_seconds() - start) * left > WAKE_SECONDS) {
        wake();
      }
    }
  }
}

static void work(int32_t thread, bool rouse) {
  if (!profile.on) {
    take_chunks(rouse);
    return;
  }
  double begin = clock_seconds();
  take_chunks(rouse);
  busy[thread].seconds += clock_seconds() - begin;
}

static void *worker(void *number) {
  int32_t self = (int32_t)(uintptr_t)number;
  uint64_t seen = pool.seen[self];
  inside_parallel = true;
  for (;;) {
    for (int i = 0; i < pool.spins && atomic_load_explicit(&pool.generation, memory_order_relaxed) == seen; i++) {
      pause_cpu();
    }
    if (atomic_load(&pool.generation) == seen) {
      pthread_mutex_lock(&pool.lock);
      atomic_fetch_add(&pool.sleeping, 1);
      while (atomic_load(&pool.generation) == seen) {
        pthread_cond_wait(&pool.work, &pool.lock);
      }
      atomic_fetch_sub(&pool.sleeping, 1);
      pthread_mutex_unlock(&pool.lock);
    }
    seen = atomic_load(&pool.generation);
    if (atomic_load(&pool.stop)) {
      return NULL;
    }
    if (!(atomic_fetch_add(&pool.inside, 1) & CLOSED)) {
      work(self, false);
    }
    if (atomic_fetch_sub(&pool.inside, 1) == CLOSED + 1) {  // the last one out, and the caller may wait
      pthread_mutex_lock(&pool.lock);
      pthread_cond_signal(&pool.finished);
      pthread_mutex_unlock(&pool.lock);
    }
  }
}

static void stop_workers(void) {
  if (pool.workers == 0) {
    return;
  }
  atomic_store(&pool.stop, true);
  atomic_fetch_add(&pool.generation, 1);
  wake();
  for (int32_t i = 0; i < pool.workers; i++) {
    pthread_join(pool.thread[i], NULL);
  }
  pool.workers = 0;
  atomic_store(&pool.stop, false);
}

// In the child of a fork the workers do not exist: start again with an empty pool.
static void forget_workers(void) {
  pool.workers = 0;
  atomic_store(&pool.inside, CLOSED);
  atomic_store(&pool.sleeping, 0);
  atomic_store(&pool.taken, false);
  pthread_mutex_init(&pool.lock, NULL);
  pthread_cond_init(&pool.work, NULL);
  pthread_cond_init(&pool.finished, NULL);
}

static void start_workers(int32_t count) {
  static bool fork_handler;
  if (!fork_handler) {
    pthread_atfork(NULL, NULL, forget_workers);
    fork_handler = true;
  }
  // Workers must not receive the user's signals.
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &old);
  uint64_t seen = atomic_load(&pool.generation);
  pool.spins = count < sysconf(_SC_NPROCESSORS_ONLN) ? SPINS : 0;
  while (pool.workers < count) {
    int32_t self = pool.workers + 1;
    pool.seen[self] = seen;
    if (pthread_create(&pool.thread[pool.workers], NULL, worker, (void *)(uintptr_t)self) != 0) {
      break;
    }
    pool.workers = self;
  }
  pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static int32_t default_threads(void) {
  const char *text = getenv("MASKED_TORCH_THREADS");
  long n = text ? strtol(text, NULL, 10) : sysconf(_SC_NPROCESSORS_ONLN);
  return (int32_t)MT_MAX(1, MT_MIN(n, MAX_THREADS));
}

int mt_threads_set(int32_t n) {
  if (n < 1 || n > MAX_THREADS) {
    return mt_fail(MT_ERROR_ARGUMENT, "set_num_threads: expected 1 to %d, got %d", MAX_THREADS, n);
  }
  stop_workers();
  wanted = n;
  return MT_OK;
}

int32_t mt_threads_get(void) { return wanted ? wanted : (wanted = default_threads()); }

static void run_on_pool(int64_t n, int64_t grain, mt_task task, void *context) {
  double begin = profile.on ? clock_seconds() : 0;
  pool.n = n;
  pool.grain = grain;
  pool.task = task;
  pool.context = context;
  atomic_store(&pool.next, 0);
  atomic_fetch_and(&pool.inside, ~CLOSED);
  atomic_fetch_add(&pool.generation, 1);
  inside_parallel = true;
  work(0, atomic_load(&pool.sleeping) > 0);
  inside_parallel = false;
  atomic_fetch_or(&pool.inside, CLOSED);
  for (int i = 0; i < SPINS && atomic_load(&pool.inside) != CLOSED; i++) {
    pause_cpu();
  }
  if (atomic_load(&pool.inside) != CLOSED) {
    pthread_mutex_lock(&pool.lock);
    while (atomic_load(&pool.inside) != CLOSED) {
      pthread_cond_wait(&pool.finished, &pool.lock);
    }
    pthread_mutex_unlock(&pool.lock);
  }
  if (profile.on) {
    profile.loops += 1;
    profile.seconds += clock_seconds() - begin;
  }
}

int mt_parallel(int64_t n, int64_t grain, mt_task task, void *context) {
  // One loop at a time: a second thread that calls kernels works alone meanwhile.
  if (n > grain && !inside_parallel && mt_threads_get() > 1 && !atomic_exchange(&pool.taken, true)) {
    if (pool.workers < wanted - 1) {
      start_workers(wanted - 1);
    }
    run_on_pool(n, grain, task, context);
    atomic_store(&pool.taken, false);
  } else {
    for (int64_t begin = 0; begin < n && !cancel_flag; begin += grain) {
      task(context, begin, MT_MIN(begin + grain, n));
    }
  }
  return cancel_flag ? mt_fail(MT_ERROR_INTERRUPTED, "interrupted") : MT_OK;
}
