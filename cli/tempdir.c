/* tempdir.c - mkdtemp, and a forked remover that outlives us by a moment. */
#include "cli/tempdir.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

#define REMOVE_TRIES 100u
#define REMOVE_PAUSE_MS 20u

static int remove_one(const char *path, const struct stat *st, int flag,
                      struct FTW *at)
{
    (void)st;
    (void)flag;
    (void)at;
    remove(path);
    return 0;
}

/* Workers that die with us may still be writing for a moment; so it goes on
 * until the directory is gone, within a bound. */
static void remove_tree(const char *path)
{
    for (unsigned i = 0; i < REMOVE_TRIES; i++) {
        nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
        if (access(path, F_OK) != 0)
            return;
        hth_sleep_ms(REMOVE_PAUSE_MS);
    }
}

/* The remover: in a session of its own so that Ctrl-C does not reach it, and
 * holding nothing of ours open, least of all the standard descriptors a
 * caller may be reading to their end. */
static void be_remover(const struct hth_tempdir *t, int wait_fd)
{
    int null = open("/dev/null", O_RDWR);
    char byte;

    setsid();
    for (int fd = 0; fd < 3 && null >= 0; fd++)
        dup2(null, fd);
    dup2(wait_fd, 3);
    close_range(4, ~0u, 0);
    signal(SIGTERM, SIG_IGN);
    while (read(3, &byte, 1) < 0 && errno == EINTR)
        continue;
    remove_tree(t->path);
    _exit(0);
}

int hth_tempdir_open(struct hth_tempdir *t, struct hth_err *err)
{
    const char *base = getenv("TMPDIR");
    int ends[2];
    int n;

    memset(t, 0, sizeof *t);
    if (base == NULL || base[0] != '/')
        base = "/tmp";
    n = snprintf(t->path, sizeof t->path, "%s/hearth-XXXXXX", base);
    if (n < 0 || (size_t)n >= sizeof t->path)
        return hth_fail(err, HTH_EUSAGE, "$TMPDIR is longer than %u characters",
                        HTH_TEMPDIR_BYTES_MAX - 16);
    if (pipe2(ends, O_CLOEXEC) != 0)
        return hth_fail(err, HTH_EIO, "pipe: %s", strerror(errno));
    if (mkdtemp(t->path) == NULL) {
        hth_fail(err, HTH_EIO, "make a directory in %s: %s", base,
                 strerror(errno));
        close(ends[0]);
        close(ends[1]);
        return HTH_EIO;
    }
    t->remover = fork();
    if (t->remover == 0) {
        close(ends[1]);
        be_remover(t, ends[0]);
    }
    close(ends[0]);
    t->alive_fd = ends[1];
    if (t->remover < 0) {
        hth_fail(err, HTH_EIO, "fork: %s", strerror(errno));
        close(ends[1]);
        rmdir(t->path);
        memset(t, 0, sizeof *t);
        return HTH_EIO;
    }
    return HTH_OK;
}

void hth_tempdir_close(struct hth_tempdir *t)
{
    if (t->remover <= 0)
        return;
    close(t->alive_fd);
    while (waitpid(t->remover, NULL, 0) < 0 && errno == EINTR)
        continue;
    memset(t, 0, sizeof *t);
}
