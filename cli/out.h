/* out.h - standard output as data that must arrive, exit codes, and the state
 * a terminal program has to put up with.
 *
 * Everything a verb prints goes through here, so that a full disk or a closed
 * pipe becomes an error and an exit code, never silence. Main thread only. */
#ifndef HTH_CLI_OUT_H
#define HTH_CLI_OUT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/cursor.h"
#include "base/status.h"

enum hth_exit {
    HTH_EXIT_OK = 0,
    HTH_EXIT_FAILURE = 1,
    HTH_EXIT_USAGE = 2,
    HTH_EXIT_UNREACHABLE = 3,
    HTH_EXIT_DENIED = 4,
    HTH_EXIT_INTERRUPTED = 130
};
/* The exit code of a status. */
int hth_exit_code(int status);

/* Make descriptors 0 to 2 safe (a closed one would be reused by the next file
 * opened) and ignore SIGPIPE. First thing in main. */
void hth_out_start(void);

/* Write now: streams flush what they have, so that text appears as it is
 * made. Errors: HTH_EIO "standard output: ...". */
HTH_MUST_CHECK int hth_out_bytes(const void *p, size_t n, struct hth_err *err);
HTH_MUST_CHECK int hth_out_text(const char *text, struct hth_err *err);
/* Write a buffer that was filled with hth_put_*(); HTH_ENOMEM if it failed. */
HTH_MUST_CHECK int hth_out_buf(const struct hth_buf *b, struct hth_err *err);
/* Flush and close; the last chance to hear of a failed write. */
HTH_MUST_CHECK int hth_out_finish(struct hth_err *err);

/* Standard error is a terminal that can redraw a line. */
bool hth_err_is_terminal(void);

/* Columns of a line of standard output now: COLUMNS where it is set, else the
 * terminal's. 0: it is no terminal, or one that says nothing (TERM=dumb). */
unsigned hth_out_columns(void);

/* Append all that a descriptor gives to out; more than out->max bytes is
 * HTH_ELIMIT, and errors name `what`. */
HTH_MUST_CHECK int hth_read_all(int fd, const char *what, struct hth_buf *out,
                                struct hth_err *err);
/* The same of a file by path; "-" is standard input. */
HTH_MUST_CHECK int hth_read_file(const char *path, struct hth_buf *out,
                                 struct hth_err *err);

#endif
