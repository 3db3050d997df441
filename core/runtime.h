// runtime: errors, memory, threads and interruption.
#pragma once
#include <stdint.h>

#pragma GCC visibility push(default)

// "major.minor.patch"; Lua refuses a library of another version.
const char *mt_version(void);
// The message of this thread's last failed call.
const char *mt_last_error(void);
// When that was, in seconds of a clock that both libraries read: the later one's message belongs to the failure at hand.
double mt_last_error_time(void);
// "avx512", "avx2" or "portable": the instruction set the hot kernels use (MASKED_TORCH_ISA forces one).
const char *mt_isa(void);

// Tensor memory, in bytes: what lives now, the highest it has been, how many allocations live. Doubles, so that
// Lua reads plain numbers.
double mt_memory_live(void);
double mt_memory_peak(void);
double mt_memory_blocks(void);
// Freed memory that is kept for the next allocations, and giving it back to the system. Kept at most: 256 MB or the peak of what
// lived at once. It is given back by itself when the machine's memory runs short. MASKED_TORCH_CACHE=0 keeps nothing.
double mt_memory_cached(void);
int mt_memory_empty_cache(void);
// Makes the n-th allocation from now fail (1 = the next), once or from then on; n = 0 switches it off. For tests.
void mt_memory_fail_at(int64_t n, int32_t persistent);
// Debug builds put a guard zone around every block: *damaged = blocks whose guards changed. Release builds: 0.
int mt_memory_check(int32_t *damaged);

// Threads of the pool, 1 to 256. Results do not depend on it.
int mt_threads_set(int32_t n);
int32_t mt_threads_get(void);
// What the pool does, counted from mt_threads_profile(1) to mt_threads_profile(0): how many loops ran on several threads, the
// seconds that their callers spent in them, and the seconds thread i (0: the caller; 1, ...: the workers) worked in them.
int mt_threads_profile(int32_t on);
double mt_threads_loops(void);
double mt_threads_seconds(void);
double mt_threads_busy(int32_t i);

// Interruption: install makes SIGINT set a flag; kernels poll it and return MT_ERROR_INTERRUPTED. A second SIGINT while it is set goes
// to the previous handler (LuaJIT's raises an error in interpreted code, and lets a third end the process), or ends the process
// where there is none. restore gives SIGINT back to the previous handler.
int mt_cancel_install(void);
int mt_cancel_restore(void);
void mt_cancel_set(int32_t flag);
int32_t mt_cancel_pending(void);

#pragma GCC visibility pop
