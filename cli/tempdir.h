/* tempdir.h - a private directory that does not outlive this process.
 *
 * Owns: the directory (0700, under $TMPDIR or /tmp) and a small process that
 * removes it when ours is gone, whatever ended it: exit, Ctrl-C or kill -9.
 * Open it before the program starts threads; one per process is meant. */
#ifndef HTH_CLI_TEMPDIR_H
#define HTH_CLI_TEMPDIR_H

#include <sys/types.h>

#include "base/status.h"

#define HTH_TEMPDIR_BYTES_MAX 80u /* socket paths inside must stay short */

struct hth_tempdir {
    char path[HTH_TEMPDIR_BYTES_MAX];
    int alive_fd;  /* the remover waits for its end to close */
    pid_t remover; /* 0: not open */
};

HTH_MUST_CHECK int hth_tempdir_open(struct hth_tempdir *t, struct hth_err *err);
/* Remove it now and wait until it is gone; processes using it must have
 * ended. Fine on a zeroed one. */
void hth_tempdir_close(struct hth_tempdir *t);

#endif
