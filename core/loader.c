// loader: see loader.h.
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "loader_check.h"

// ---- one gather -----------------------------------------------------------------------------------------------------

#define WIDEN(T)                                          \
  {                                                       \
    const T *s = (const T *)from;                         \
    for (int64_t i = 0; i < n; i++) {                     \
      out[i] = (int64_t)((uint64_t)(int64_t)s[i] + (uint64_t)add); \
    }                                                     \
    break;                                                \
  }

static void widen(int64_t *out, const char *from, int64_t n, int32_t type, int64_t add) {
  switch (type) {
    case MT_UINT8: WIDEN(uint8_t)
    case MT_UINT16: WIDEN(uint16_t)
    case MT_INT32: WIDEN(int32_t)
    default: WIDEN(int64_t)
  }
}

static void fill(char *out, int64_t n, int64_t size, const char *element) {
  if (size == 8) {
    int64_t x;
    memcpy(&x, element, sizeof x);
    for (int64_t i = 0; i < n; i++) {
      ((int64_t *)(void *)out)[i] = x;
    }
  } else if (size == 4) {
    int32_t x;
    memcpy(&x, element, sizeof x);
    for (int64_t i = 0; i < n; i++) {
      ((int32_t *)(void *)out)[i] = x;
    }
  } else {
    memset(out, element[0], (size_t)n);
  }
}

typedef struct {
  const mt_gather *gather;
  int64_t row;
  char pad[8];
} gathering;

static void gather_rows(void *context, int64_t begin, int64_t end) {
  const gathering *c = context;
  const mt_gather *g = c->gather;
  const int64_t size = mt_dtype_size(g->out->dtype), width = g->type == MT_UINT16 ? 2 : mt_dtype_size(g->type);
  const int64_t *first = g->first->data, *length = g->length ? g->length->data : NULL;
  for (int64_t r = begin; r < end; r++) {
    char *out = (char *)g->out->data + r * c->row * size;
    const int64_t n = length ? length[r] : c->row, rest = c->row - n;
    const char *from = (const char *)g->source->data + (first[r] - 1) * width;
    fill(g->align_right ? out : out + n * size, rest, size, c->pad);
    out += g->align_right ? rest * size : 0;
    if (g->type == g->out->dtype && g->add == 0) {
      memcpy(out, from, (size_t)(n * size));
    } else {
      widen((int64_t *)(void *)out, from, n, g->type, g->add);
    }
  }
}

// The value of the padding in the output's type.
static int prepare(gathering *c, const mt_gather *g) {
  mt_storage storage = {.data = c->pad, .bytes = sizeof c->pad, .references = 1, .device = -1};
  mt_tensor t = {.data = c->pad, .storage = &storage, .numel = 1, .dtype = g->out->dtype, .ndim = 0};
  c->gather = g;
  c->row = g->out->shape[0] > 0 ? g->out->numel / g->out->shape[0] : 0;
  return mt_tensor_fill(&t, g->pad);
}

int mt_loader_gather(const mt_gather *gather) {
  gathering c;
  MT_TRY(mt_loader_check_gather(gather));
  MT_TRY(prepare(&c, gather));
  return mt_parallel(gather->out->shape[0], MT_MAX(1, 65536 / MT_MAX(1, c.row)), gather_rows, &c);
}

// ---- the thread -----------------------------------------------------------------------------------------------------

enum { JOBS = 64, GATHERS = 8 };

typedef struct {
  int32_t count;
  mt_gather gather[GATHERS];
  gathering prepared[GATHERS];
} job;

struct mt_loader {
  pthread_mutex_t lock;
  pthread_cond_t work, finished;
  pthread_t thread;
  pid_t process;         // a thread does not survive fork
  bool running, stop;
  int64_t submitted, done, dropped;  // counts; jobs up to `dropped` have given their tensors back
  job jobs[JOBS];
};

static void run(job *j) {
  for (int32_t k = 0; k < j->count; k++) {
    gather_rows(&j->prepared[k], 0, j->gather[k].out->shape[0]);
  }
}

static void *worker(void *argument) {
  mt_loader *loader = argument;
  pthread_mutex_lock(&loader->lock);
  for (;;) {
    while (loader->done == loader->submitted && !loader->stop) {
      pthread_cond_wait(&loader->work, &loader->lock);
    }
    if (loader->stop) {
      pthread_mutex_unlock(&loader->lock);
      return NULL;
    }
    job *j = &loader->jobs[loader->done % JOBS];
    pthread_mutex_unlock(&loader->lock);
    run(j);
    pthread_mutex_lock(&loader->lock);
    loader->done++;
    pthread_cond_broadcast(&loader->finished);
  }
}

static void start(mt_loader *loader) {
  sigset_t all, old;
  pthread_mutex_init(&loader->lock, NULL);
  pthread_cond_init(&loader->work, NULL);
  pthread_cond_init(&loader->finished, NULL);
  sigfillset(&all);  // signals belong to the user's thread
  pthread_sigmask(SIG_BLOCK, &all, &old);
  loader->process = getpid();
  loader->running = pthread_create(&loader->thread, NULL, worker, loader) == 0;
  pthread_sigmask(SIG_SETMASK, &old, NULL);
}

// Without a thread (none could be made, or this is the child of a fork) the jobs are done here; the result is the same.
static bool alone(const mt_loader *loader) { return !loader->running || loader->process != getpid(); }

static void catch_up(mt_loader *loader) {
  for (; loader->done < loader->submitted; loader->done++) {
    run(&loader->jobs[loader->done % JOBS]);
  }
}

static void drop(job *j) {
  for (int32_t k = 0; k < j->count; k++) {
    mt_gather *g = &j->gather[k];
    mt_tensor_release(g->out);
    mt_tensor_release((mt_tensor *)(uintptr_t)g->source);
    mt_tensor_release((mt_tensor *)(uintptr_t)g->first);
    mt_tensor_release((mt_tensor *)(uintptr_t)g->length);
  }
  j->count = 0;
}

static void drop_until(mt_loader *loader, int64_t done) {
  for (; loader->dropped < done; loader->dropped++) {
    drop(&loader->jobs[loader->dropped % JOBS]);
  }
}

int mt_loader_new(mt_loader **out) {
  *out = mt_alloc((int64_t)sizeof **out);
  if (*out == NULL) {
    return MT_ERROR_MEMORY;
  }
  memset(*out, 0, sizeof **out);
  start(*out);
  return MT_OK;
}

void mt_loader_free(mt_loader *loader) {
  if (loader == NULL) {
    return;
  }
  if (!alone(loader)) {
    pthread_mutex_lock(&loader->lock);
    loader->stop = true;
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->lock);
    pthread_join(loader->thread, NULL);
  }
  drop_until(loader, loader->submitted);
  mt_free(loader);
}

static int hold(const mt_tensor **slot, const mt_tensor *t) {
  mt_tensor *copy = NULL;
  if (t != NULL) {
    MT_TRY(mt_tensor_view(&copy, t, t->ndim, t->shape, t->stride, 0));
  }
  *slot = copy;
  return MT_OK;
}

static int hold_gather(job *j, const mt_gather *g) {
  const int32_t k = j->count++;
  mt_gather *own = &j->gather[k];
  *own = *g;
  own->out = NULL;
  own->source = own->first = own->length = NULL;
  MT_TRY(hold((const mt_tensor **)&own->out, g->out));
  MT_TRY(hold(&own->source, g->source));
  MT_TRY(hold(&own->first, g->first));
  MT_TRY(hold(&own->length, g->length));
  return prepare(&j->prepared[k], own);
}

int mt_loader_submit(mt_loader *loader, int32_t n, const mt_gather *gathers, int64_t *ticket) {
  if (loader == NULL || gathers == NULL || n < 1 || n > GATHERS) {
    return mt_fail(MT_ERROR_ARGUMENT, "loader: expected 1 to %d gathers, got %d", GATHERS, n);
  }
  for (int32_t k = 0; k < n; k++) {
    MT_TRY(mt_loader_check_gather(&gathers[k]));
  }
  // Only this thread changes `submitted` and `dropped`; the worker changes `done`.
  const bool inline_work = alone(loader);
  if (!inline_work) {
    pthread_mutex_lock(&loader->lock);
  }
  const int64_t done = loader->done;
  if (!inline_work) {
    pthread_mutex_unlock(&loader->lock);
  }
  drop_until(loader, done);
  if (loader->submitted - loader->dropped >= JOBS) {
    return mt_fail(MT_ERROR_ARGUMENT, "loader: %d jobs are waiting already", JOBS);
  }
  job *j = &loader->jobs[loader->submitted % JOBS];
  j->count = 0;
  for (int32_t k = 0; k < n; k++) {
    const int status = hold_gather(j, &gathers[k]);
    if (status != MT_OK) {
      drop(j);
      return status;
    }
  }
  if (inline_work) {
    *ticket = ++loader->submitted;
    catch_up(loader);
    return MT_OK;
  }
  pthread_mutex_lock(&loader->lock);
  *ticket = ++loader->submitted;
  pthread_cond_signal(&loader->work);
  pthread_mutex_unlock(&loader->lock);
  return MT_OK;
}

int mt_loader_wait(mt_loader *loader, int64_t ticket) {
  if (loader == NULL || ticket < 1 || ticket > loader->submitted) {
    return mt_fail(MT_ERROR_ARGUMENT, "loader: no such job: %lld", (long long)ticket);
  }
  if (alone(loader)) {
    catch_up(loader);
  } else {
    pthread_mutex_lock(&loader->lock);
    while (loader->done < ticket) {
      pthread_cond_wait(&loader->finished, &loader->lock);
    }
    pthread_mutex_unlock(&loader->lock);
  }
  int64_t reached = ticket;
  drop_until(loader, MT_MAX(loader->dropped, reached));
  return MT_OK;
}
