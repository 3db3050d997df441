// memory_cache: see memory_cache.h.
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common.h"
#include "memory_cache.h"

enum {
  FINE = 1024,                       // up to here sizes are multiples of 64 bytes
  CLASSES = FINE / 64 + 8 * 40 + 1,
  MAPPED = 1 << 18,                  // from here blocks are pages of their own, which can be given back one by one
  HUGE_PAGE = 2 << 20,
};
static const int64_t KEPT_ALWAYS = 256 << 20;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static mt_block *stack[CLASSES];
static _Atomic int64_t kept_bytes;

int64_t mt_cache_bytes(void) { return atomic_load(&kept_bytes); }

// A fork while another thread holds the lock would leave it held in the child for ever.
static void before_fork(void) { pthread_mutex_lock(&lock); }
static void after_fork(void) { pthread_mutex_unlock(&lock); }

static bool enabled;

__attribute__((constructor)) static void decide(void) {
#if !defined(MT_DEBUG) && !defined(__SANITIZE_ADDRESS__)
  const char *text = getenv("MASKED_TORCH_CACHE");
  enabled = text == NULL || text[0] != '0';
#endif
  pthread_atfork(before_fork, after_fork, after_fork);
}

bool mt_cache_enabled(void) { return enabled; }

// Rounds total up to the size of its class.
static int32_t class_of(int64_t *total) {
  if (*total <= FINE) {
    *total = (*total + 63) / 64 * 64;
    return (int32_t)(*total / 64);
  }
  const int high = 63 - __builtin_clzll((uint64_t)(*total - 1)), shift = high - 3;
  const int64_t steps = ((*total - 1) >> shift) + 1;  // 9 to 16 eighths of 2^high
  *total = steps << shift;
  return (int32_t)(FINE / 64 + 8 * (high - 10) + steps - 8);
}

static mt_block *pop(int32_t size_class) {
  pthread_mutex_lock(&lock);
  mt_block *block = stack[size_class];
  if (block != NULL) {
    stack[size_class] = block->next;
    atomic_fetch_sub_explicit(&kept_bytes, block->total, memory_order_relaxed);
  }
  pthread_mutex_unlock(&lock);
  return block;
}

static void give_back(mt_block *block) {
  if (block->mapped) {
    munmap(block, (size_t)block->total);
  } else {
    free(block);
  }
}

void mt_cache_empty(void) {
  for (int32_t c = 0; c < CLASSES && mt_cache_bytes() > 0; c++) {
    mt_block *block;
    while ((block = pop(c)) != NULL) {
      give_back(block);
    }
  }
}

// Big blocks ask for huge pages: one fault for 2 MB instead of 512.
static void *fresh(int64_t total, bool mapped) {
  void *raw = NULL;
  if (!mapped) {
    return posix_memalign(&raw, 64, (size_t)total) == 0 ? raw : NULL;
  }
  raw = mmap(NULL, (size_t)total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) {
    return NULL;
  }
#ifdef MADV_HUGEPAGE
  if (total >= 2 * HUGE_PAGE) {
    madvise(raw, (size_t)total, MADV_HUGEPAGE);
  }
#endif
  return raw;
}

mt_block *mt_cache_take(int64_t total, int64_t most) {
  int32_t size_class = -1;
  bool mapped = false;
  if (enabled) {
    size_class = class_of(&total);
    mapped = total >= MAPPED;
    mt_block *block = size_class < CLASSES ? pop(size_class) : NULL;
    if (block != NULL) {
      return block;
    }
  }
  if (mt_cache_bytes() > 0 && (int64_t)mt_memory_live() + mt_cache_bytes() + total > most / 10 * 9) {
    mt_cache_empty();
  }
  mt_block *block = fresh(total, mapped);
  if (block == NULL && mt_cache_bytes() > 0) {
    mt_cache_empty();
    block = fresh(total, mapped);
  }
  if (block != NULL) {
    block->total = total;
    block->size_class = size_class;
    block->mapped = mapped;
  }
  return block;
}

// Kept at most: as much as ever lived at once, so that a training step finds all its blocks again.
static int64_t limit(void) {
  const int64_t peak = (int64_t)mt_memory_peak();
  return MT_MAX(KEPT_ALWAYS, peak);
}

void mt_cache_put(mt_block *block) {
  if (block->size_class < 0 || block->size_class >= CLASSES) {
    give_back(block);
    return;
  }
  if (mt_cache_bytes() + block->total > limit()) {
    mt_cache_empty();  // full of sizes that nobody asked for
  }
  pthread_mutex_lock(&lock);
  block->next = stack[block->size_class];
  stack[block->size_class] = block;
  atomic_fetch_add_explicit(&kept_bytes, block->total, memory_order_relaxed);
  pthread_mutex_unlock(&lock);
}
