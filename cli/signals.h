/* signals.h - Ctrl-C and its kin as a flag that loops look at.
 *
 * The first SIGINT, SIGTERM or SIGHUP sets the flag; the second one of the
 * same kind ends the process as if nothing had been caught, so that a hung
 * shutdown can always be left. Process-wide; main thread only. */
#ifndef HTH_CLI_SIGNALS_H
#define HTH_CLI_SIGNALS_H

#include <signal.h>
#include <stdbool.h>

#include "base/status.h"

/* Nonzero once a signal came: its number. For hth_worker_run(). */
extern volatile sig_atomic_t hth_signal_seen;

void hth_signals_start(void);
static inline bool hth_interrupted(void)
{
    return hth_signal_seen != 0;
}
/* HTH_ECANCELLED "interrupted". */
int hth_fail_interrupted(struct hth_err *err);

#endif
