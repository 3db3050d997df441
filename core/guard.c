// guard: see guard.h. The handler writes one flag; everything else happens in Lua between two steps.
#include <signal.h>

#include "common.h"

enum { GUARDED = 3 };
static const int guarded[GUARDED] = {SIGINT, SIGTERM, SIGHUP};
static struct sigaction previous[GUARDED];
static bool installed;
static volatile sig_atomic_t noted;

static void note(int signal_number) {
  if (noted && signal_number == SIGINT) {  // the second Ctrl-C: the user means now
    signal(signal_number, SIG_DFL);
    sigset_t only;
    sigemptyset(&only);
    sigaddset(&only, signal_number);
    raise(signal_number);
    sigprocmask(SIG_UNBLOCK, &only, NULL);
    return;
  }
  if (!noted) {
    noted = signal_number;
  }
}

int mt_guard_install(void) {
  if (installed) {
    return MT_OK;
  }
  noted = 0;
  struct sigaction action = {.sa_handler = note, .sa_flags = SA_RESTART};
  sigemptyset(&action.sa_mask);
  for (int i = 0; i < GUARDED; i++) {
    if (sigaction(guarded[i], NULL, &previous[i]) != 0 ||
        (previous[i].sa_handler != SIG_IGN && sigaction(guarded[i], &action, NULL) != 0)) {
      for (int j = 0; j < i; j++) {
        sigaction(guarded[j], &previous[j], NULL);
      }
      return mt_fail(MT_ERROR_INTERNAL, "guard: cannot set the handler of signal %d", guarded[i]);
    }
  }
  installed = true;
  return MT_OK;
}

int mt_guard_default(void) {
  struct sigaction now;
  if (installed || sigaction(SIGINT, NULL, &now) != 0 || now.sa_handler == SIG_IGN) {
    return MT_OK;
  }
  return signal(SIGINT, SIG_DFL) == SIG_ERR ? mt_fail(MT_ERROR_INTERNAL, "guard: cannot set the handler of signal %d", SIGINT) : MT_OK;
}

int mt_guard_restore(void) {
  if (installed) {
    for (int i = 0; i < GUARDED; i++) {
      sigaction(guarded[i], &previous[i], NULL);
    }
    installed = false;
  }
  noted = 0;
  return MT_OK;
}

int32_t mt_guard_pending(void) { return noted; }
void mt_guard_set(int32_t signal_number) { noted = signal_number; }
