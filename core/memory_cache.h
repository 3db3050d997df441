// memory_cache: freed blocks, kept for the next allocation of their size. Internal to memory.c.
//
// Fresh pages cost the kernel more than most kernels cost us, and malloc more than a small operation. Blocks come in sizes of
// eight steps per doubling; each size has a stack of free ones. A large size that has none is cut from a larger block, or from
// neighbours joined. What is kept is bounded by a limit, given back when the machine's memory runs short, and on request.
#pragma once
#include <stdbool.h>
#include <stdint.h>

// The head of every block, kept or in use. 64 bytes, so that what follows stays aligned.
typedef struct mt_block {
  int64_t bytes;                            // what the user asked for
  int64_t total;                            // what the block occupies, this head included
  struct mt_block *previous, *next;         // free: the stack; in use, debug builds: the list of live blocks
  int32_t size_class;                       // -1: not from the cache
  int32_t mapped;                           // its pages come from mmap
} mt_block;

// A block of at least `total` bytes, 64-byte aligned, or NULL. `most`: fail rather than hold more than this many bytes in all.
mt_block *mt_cache_take(int64_t total, int64_t most);
void mt_cache_put(mt_block *block);
// Gives all kept blocks back to the system.
void mt_cache_empty(void);
int64_t mt_cache_bytes(void);
// Whether freed blocks are kept: not in debug and sanitizer builds, whose guards and checks want every block fresh, nor with
// MASKED_TORCH_CACHE=0 (for valgrind).
bool mt_cache_enabled(void);
