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

// The largest class whose blocks fit into total bytes, above FINE.
static int32_t class_within(int64_t total) {
  const int high = 63 - __builtin_clzll((uint64_t)total);
  return (int32_t)(FINE / 64 + 8 * (high - 10) + (total >> (high - 3)) - 8);
}

// With the lock held.
static void keep(mt_block *block) {
  block->next = stack[block->size_class];
  stack[block->size_class] = block;
  atomic_fetch_add_explicit(&kept_bytes, block->total, memory_order_relaxed);
}

static mt_block *unkeep(int32_t size_class) {
  mt_block *block = stack[size_class];
  if (block != NULL) {
    stack[size_class] = block->next;
    atomic_fetch_sub_explicit(&kept_bytes, block->total, memory_order_relaxed);
  }
  return block;
}

static mt_block *pop(int32_t size_class) {
  pthread_mutex_lock(&lock);
  mt_block *block = unkeep(size_class);
  pthread_mutex_unlock(&lock);
  return block;
}

// ---- pages of larger blocks ---------------------------------------------------------------------------------------
//
// Fresh pages are dear, most of all on a virtual machine whose host has not seen them before. So a size that no block has is cut
// from a larger one, and where there is none, neighbours are joined first.

// A block of `total` bytes, a whole number of pages, from one of a larger class; with the lock held.
static mt_block *cut(int64_t total, int32_t size_class) {
  mt_block *block = NULL;
  for (int32_t c = size_class; c < CLASSES && block == NULL; c++) {
    block = unkeep(c);
  }
  if (block != NULL) {
    const int64_t rest = block->total - total;
    if (rest >= MAPPED) {
      mt_block *left = (mt_block *)((char *)block + total);
      *left = (mt_block){.total = rest, .size_class = class_within(rest), .mapped = 1};
      keep(left);
      block->total = total;
    }
    block->size_class = size_class;
  }
  return block;
}

static int by_address(const void *a, const void *b) {
  const mt_block *const *left = a, *const *right = b;
  return *left < *right ? -1 : *left > *right;
}

// Makes one of all kept mapped blocks that are neighbours; with the lock held.
static void join(void) {
  int64_t count = 0, smallest = MAPPED;
  const int32_t first = class_of(&smallest);
  for (int32_t c = first; c < CLASSES; c++) {
    for (const mt_block *b = stack[c]; b != NULL; b = b->next) count++;
  }
  mt_block **all = malloc((size_t)count * sizeof *all);
  if (all == NULL) {
    return;
  }
  count = 0;
  for (int32_t c = first; c < CLASSES; c++) {
    while (stack[c] != NULL) all[count++] = unkeep(c);
  }
  qsort(all, (size_t)count, sizeof *all, by_address);
  for (int64_t i = 0; i < count;) {
    const int64_t last = i;
    for (i++; i < count && (char *)all[last] + all[last]->total == (char *)all[i]; i++) {
      all[last]->total += all[i]->total;
    }
    all[last]->size_class = class_within(all[last]->total);
    keep(all[last]);
  }
  free(all);
}

static mt_block *from_larger(int64_t total, int32_t size_class) {
  pthread_mutex_lock(&lock);
  mt_block *block = cut(total, size_class);
  if (block == NULL && total >= 2 * HUGE_PAGE && mt_cache_bytes() >= total) {
    join();
    block = cut(total, size_class);
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
    if (block == NULL && mapped && mt_cache_bytes() >= total) {
      block = from_larger(total, size_class);
    }
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

// Kept at most: as much as ever lived at once, rounded up to sizes of blocks, so that a training step finds all its blocks again.
static int64_t limit(void) {
  const int64_t peak = (int64_t)mt_memory_peak();
  return MT_MAX(KEPT_ALWAYS, peak + peak / 8);
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
  keep(block);
  pthread_mutex_unlock(&lock);
}
