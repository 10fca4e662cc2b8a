/* out.c - standard output, standard input, exit codes. Writes go straight to
 * descriptor 1 through stdio's buffer; every failure is kept and reported. */
#include "cli/out.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/options.h"

#define READ_BYTES 65536u
#define OUT_COLUMNS_MAX 10000

int hth_exit_code(int status)
{
    switch (status) {
    case HTH_OK:
        return HTH_EXIT_OK;
    case HTH_EUSAGE:
        return HTH_EXIT_USAGE;
    case HTH_EUNREACHABLE:
    case HTH_EPEER:
        return HTH_EXIT_UNREACHABLE;
    case HTH_EAUTH:
        return HTH_EXIT_DENIED;
    case HTH_ECANCELLED:
        return HTH_EXIT_INTERRUPTED;
    default:
        return HTH_EXIT_FAILURE;
    }
}

/* A closed 0 is opened for writing and a closed 1 for reading, so that using
 * it fails with EBADF, as using a closed one should. */
void hth_out_start(void)
{
    static const int modes[] = {O_WRONLY, O_RDONLY, O_WRONLY};

    for (int fd = 0; fd < 3; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF) {
            int got = open("/dev/null", modes[fd]);

            if (got >= 0 && got != fd) {
                dup2(got, fd);
                close(got);
            }
        }
    }
    signal(SIGPIPE, SIG_IGN);
}

static int write_failed(struct hth_err *err)
{
    if (errno == EPIPE)
        return hth_fail(err, HTH_EIO,
                        "standard output was closed before all was written");
    return hth_fail(err, HTH_EIO, "write to standard output: %s",
                    strerror(errno));
}

int hth_out_bytes(const void *p, size_t n, struct hth_err *err)
{
    errno = 0;
    if (fwrite(p, 1, n, stdout) != n || fflush(stdout) != 0)
        return write_failed(err);
    return HTH_OK;
}

int hth_out_text(const char *text, struct hth_err *err)
{
    return hth_out_bytes(text, strlen(text), err);
}

int hth_out_buf(const struct hth_buf *b, struct hth_err *err)
{
    if (b->failed)
        return hth_fail(err, HTH_ENOMEM, "the output does not fit in memory");
    return hth_out_bytes(b->data, b->len, err);
}

int hth_out_finish(struct hth_err *err)
{
    errno = 0;
    if (ferror(stdout) || fclose(stdout) != 0)
        return write_failed(err);
    return HTH_OK;
}

bool hth_err_is_terminal(void)
{
    const char *term = getenv("TERM");

    return isatty(STDERR_FILENO) == 1 && term != NULL &&
           strcmp(term, "dumb") != 0;
}

unsigned hth_out_columns(void)
{
    const char *term = getenv("TERM"), *set = getenv("COLUMNS");
    int64_t given = 0;
    struct winsize size;

    if (isatty(STDOUT_FILENO) != 1 || term == NULL || strcmp(term, "dumb") == 0)
        return 0;
    if (set != NULL && hth_parse_int(set, &given) == HTH_OK && given > 0 &&
        given <= OUT_COLUMNS_MAX)
        return (unsigned)given;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

int hth_read_all(int fd, const char *what, struct hth_buf *out,
                 struct hth_err *err)
{
    char piece[READ_BYTES];

    for (;;) {
        ssize_t n = read(fd, piece, sizeof piece);

        if (n < 0 && errno == EINTR)
            return hth_fail(err, HTH_ECANCELLED, "interrupted");
        if (n < 0)
            return hth_fail(err, HTH_EIO, "read %s: %s", what, strerror(errno));
        if (n == 0)
            return HTH_OK;
        if (out->max - out->len < (size_t)n)
            return hth_fail(err, HTH_ELIMIT, "%s is longer than %zu bytes",
                            what, out->max);
        hth_put_bytes(out, piece, (size_t)n);
        if (out->failed)
            return hth_fail(err, HTH_ENOMEM, "%s: out of memory", what);
    }
}

int hth_read_file(const char *path, struct hth_buf *out, struct hth_err *err)
{
    int fd;
    int rc;

    if (strcmp(path, "-") == 0)
        return hth_read_all(STDIN_FILENO, "standard input", out, err);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return hth_fail(err, errno == ENOENT ? HTH_ENOTFOUND : HTH_EIO,
                        "open %s: %s", path, strerror(errno));
    rc = hth_read_all(fd, path, out, err);
    close(fd);
    return rc;
}
