/* signals.c - one handler, one flag. System calls are not restarted, so that
 * a blocking read at the terminal ends too. */
#include "cli/signals.h"

#include <string.h>

volatile sig_atomic_t hth_signal_seen;

static void on_signal(int number)
{
    hth_signal_seen = number;
}

void hth_signals_start(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action;

    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = (int)SA_RESETHAND;
    sigemptyset(&action.sa_mask);
    for (unsigned i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        struct sigaction old;

        /* nohup ignores SIGHUP, and that is respected. Not so SIGINT, which
         * every shell script ignores for what it puts in the background. */
        if (numbers[i] == SIGHUP && sigaction(SIGHUP, NULL, &old) == 0 &&
            old.sa_handler == SIG_IGN)
            continue;
        sigaction(numbers[i], &action, NULL);
    }
}

int hth_fail_interrupted(struct hth_err *err)
{
    return hth_fail(err, HTH_ECANCELLED, "interrupted");
}
