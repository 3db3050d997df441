// memory: the one allocator. Counts what lives, can be told to fail, and in debug builds surrounds every block with
// guard zones and fills new and freed memory with patterns, "to give some bugs a chance" (after Lua's ltests.c).
//
// A block is [head 64 bytes][guard][user bytes][guard]; the user part is 64-byte aligned. Freed blocks are kept for their next
// use (memory_cache.h).
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "common.h"
#include "memory_cache.h"

#ifdef MT_DEBUG
enum { GUARD = 64 };
#else
enum { GUARD = 0 };
#endif
enum { ALIGNMENT = 64, FRESH = 0xF5, FREED = 0xDD, MARK = 0xA7 };

typedef mt_block header;
_Static_assert(sizeof(header) <= ALIGNMENT, "the head fits in front of the user part");

static _Atomic int64_t live_bytes, peak_bytes, live_blocks;
static _Atomic int64_t fail_countdown;  // 0: off
static _Atomic int32_t fail_persistent;

double mt_memory_live(void) { return (double)atomic_load(&live_bytes); }
double mt_memory_peak(void) { return (double)atomic_load(&peak_bytes); }
double mt_memory_blocks(void) { return (double)atomic_load(&live_blocks); }
double mt_memory_cached(void) { return (double)mt_cache_bytes(); }
int mt_memory_empty_cache(void) {
  mt_cache_empty();
  return MT_OK;
}

void mt_memory_fail_at(int64_t n, int32_t persistent) {
  atomic_store(&fail_persistent, persistent);
  atomic_store(&fail_countdown, n);
}

static bool told_to_fail(void) {
  int64_t n = atomic_load(&fail_countdown);
  if (n == 0) {
    return false;
  }
  if (n == 1) {
    if (!atomic_load(&fail_persistent)) {
      atomic_store(&fail_countdown, 0);
    }
    return true;
  }
  atomic_store(&fail_countdown, n - 1);
  return false;
}

#ifdef MT_DEBUG
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static header *list;

static void list_insert(header *h) {
  pthread_mutex_lock(&list_lock);
  h->previous = NULL;
  h->next = list;
  if (list) {
    list->previous = h;
  }
  list = h;
  pthread_mutex_unlock(&list_lock);
}

static void list_remove(header *h) {
  pthread_mutex_lock(&list_lock);
  if (h->previous) {
    h->previous->next = h->next;
  } else {
    list = h->next;
  }
  if (h->next) {
    h->next->previous = h->previous;
  }
  pthread_mutex_unlock(&list_lock);
}

static bool guards_intact(const header *h) {
  const unsigned char *low = (const unsigned char *)h + ALIGNMENT, *high = low + GUARD + h->bytes;
  for (int i = 0; i < GUARD; i++) {
    if (low[i] != MARK || high[i] != MARK) {
      return false;
    }
  }
  return true;
}
#endif

int mt_memory_check(int32_t *damaged) {
  *damaged = 0;
#ifdef MT_DEBUG
  pthread_mutex_lock(&list_lock);
  for (const header *h = list; h; h = h->next) {
    *damaged += !guards_intact(h);
  }
  pthread_mutex_unlock(&list_lock);
#endif
  return MT_OK;
}

// The kernel grants allocations that it cannot back and kills the process on first touch; what exceeds the machine's
// memory is refused here, where it is still an error message.
static int64_t physical_bytes(void) {
  static _Atomic int64_t cached;
  int64_t bytes = atomic_load(&cached);
  if (bytes == 0) {
    bytes = (int64_t)sysconf(_SC_PHYS_PAGES) * (int64_t)sysconf(_SC_PAGESIZE);
    atomic_store(&cached, bytes);
  }
  return bytes;
}

void *mt_alloc(int64_t bytes) {
  int64_t total;
  header *h = NULL;
  if (bytes < 0 || !mt_add(&total, bytes, ALIGNMENT + 2 * GUARD) || total > physical_bytes() || told_to_fail() ||
      (h = mt_cache_take(total, physical_bytes())) == NULL) {
    mt_fail(MT_ERROR_MEMORY, "out of memory: asked for %.6g MB; tensors hold %.6g MB of the machine's %.6g MB",
            (double)bytes / 1e6, mt_memory_live() / 1e6, (double)physical_bytes() / 1e6);
    return NULL;
  }
  h->bytes = bytes;
  char *raw = (char *)h;
#ifdef MT_DEBUG
  memset(raw + ALIGNMENT, MARK, GUARD);
  memset(raw + ALIGNMENT + GUARD, FRESH, (size_t)bytes);
  memset(raw + ALIGNMENT + GUARD + bytes, MARK, GUARD);
  list_insert(h);
#endif
  int64_t now = atomic_fetch_add(&live_bytes, bytes) + bytes, peak = atomic_load(&peak_bytes);
  while (now > peak && !atomic_compare_exchange_weak(&peak_bytes, &peak, now)) {
  }
  atomic_fetch_add(&live_blocks, 1);
  return raw + ALIGNMENT + GUARD;
}

void mt_free(void *block) {
  if (block == NULL) {
    return;
  }
  header *h = (header *)((char *)block - GUARD - ALIGNMENT);
  atomic_fetch_sub(&live_bytes, h->bytes);
  atomic_fetch_sub(&live_blocks, 1);
#ifdef MT_DEBUG
  if (!guards_intact(h)) {
    static const char text[] = "masked_torch: a kernel wrote outside its block\n";
    (void)!write(2, text, sizeof text - 1);
    __builtin_trap();
  }
  list_remove(h);
  memset(block, FREED, (size_t)h->bytes);
#endif
  mt_cache_put(h);
}

void *mt_alloc_array(int64_t count, int64_t size) {
  int64_t bytes;
  if (count < 0 || !mt_mul(&bytes, count, size)) {
    mt_fail(MT_ERROR_MEMORY, "out of memory: %lld elements of %lld bytes", (long long)count, (long long)size);
    return NULL;
  }
  return mt_alloc(bytes);
}
