// guard: a request to stop that waits for the end of the training step. Unlike the cancel flag (runtime.h) it does not stop
// kernels.
#pragma once
#include <stdint.h>

#pragma GCC visibility push(default)

// While the guard is installed, SIGINT (Ctrl-C), SIGTERM and SIGHUP are only noted; a SIGINT that follows another noted signal
// ends the process at once. A signal that the process ignored before (nohup) stays ignored. Installing twice changes nothing.
int mt_guard_install(void);
// The handlers from before the guard; forgets what was noted.
int mt_guard_restore(void);
// Without a guard: SIGINT ends the process at once, unless it is ignored.
int mt_guard_default(void);
// The number of the first signal noted, or 0.
int32_t mt_guard_pending(void);
// Notes signal_number as if it had arrived; 0 forgets.
void mt_guard_set(int32_t signal_number);

#pragma GCC visibility pop
