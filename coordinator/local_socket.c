/* local_socket.c - a private place for the socket file, and one coordinator
 * per state directory (flock on DIR/lock). */
#include "coordinator/local_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PATH_BYTES_MAX 4096u

static int fail_errno(struct hth_err *err, const char *what, const char *path)
{
    return hth_fail(err, HTH_EIO, "%s %s: %s", what, path, strerror(errno));
}

static bool fits(const char *path)
{
    struct sockaddr_un a;

    return strlen(path) < sizeof a.sun_path;
}

static int lock_dir(const char *state_dir, int *fd_out, struct hth_err *err)
{
    char path[PATH_BYTES_MAX];
    int fd;

    snprintf(path, sizeof path, "%.4000s/lock", state_dir);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail_errno(err, "cannot create", path);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        close(fd);
        return hth_fail(err, HTH_EBUSY,
                        "another hearth coordinator is using %s; stop it, or "
                        "give this one a --state-dir of its own",
                        state_dir);
    }
    *fd_out = fd;
    return HTH_OK;
}

/* A fresh directory of our own under /tmp, written down in DIR/run/where. */
static int make_short(const char *run_dir, char url[HTH_LOCAL_URL_MAX],
                      struct hth_err *err)
{
    char temp[] = "/tmp/hearth-XXXXXX", where[PATH_BYTES_MAX];
    FILE *f;

    if (mkdtemp(temp) == NULL)
        return fail_errno(err, "cannot make directory", temp);
    snprintf(where, sizeof where, "%.4000s/where", run_dir);
    f = fopen(where, "we");
    if (f == NULL)
        return fail_errno(err, "cannot write", where);
    fprintf(f, "%s/socket", temp);
    if (fclose(f) != 0)
        return fail_errno(err, "cannot write", where);
    snprintf(url, HTH_LOCAL_URL_MAX, "ipc://%s/socket", temp);
    return HTH_OK;
}

int hth_local_make(const char *state_dir, char url[HTH_LOCAL_URL_MAX],
                   int *lock_fd_out, struct hth_err *err)
{
    char run_dir[PATH_BYTES_MAX], path[PATH_BYTES_MAX + 16];
    int fd = -1, status;

    if ((status = lock_dir(state_dir, &fd, err)) != HTH_OK)
        return status;
    snprintf(run_dir, sizeof run_dir, "%.4000s/run", state_dir);
    snprintf(path, sizeof path, "%s/where", run_dir);
    if (mkdir(run_dir, 0700) != 0 && errno != EEXIST) {
        status = fail_errno(err, "cannot make directory", run_dir);
        close(fd);
        return status;
    }
    (void)unlink(path);
    snprintf(path, sizeof path, "%s/socket", run_dir);
    if (fits(path))
        snprintf(url, HTH_LOCAL_URL_MAX, "ipc://%.140s", path);
    else if ((status = make_short(run_dir, url, err)) != HTH_OK) {
        close(fd);
        return status;
    }
    *lock_fd_out = fd;
    return HTH_OK;
}

void hth_local_remove(const char *url, int lock_fd)
{
    char dir[HTH_LOCAL_URL_MAX], *slash;

    if (strncmp(url, "ipc://", 6) == 0) {
        (void)unlink(url + 6);
        snprintf(dir, sizeof dir, "%s", url + 6);
        slash = strrchr(dir, '/');
        if (slash != NULL && strncmp(dir, "/tmp/hearth-", 12) == 0) {
            *slash = '\0';
            (void)rmdir(dir);
        }
    }
    if (lock_fd >= 0)
        close(lock_fd);
}

/* The path the coordinator wrote down, if it did. */
static bool read_where(const char *state_dir, char *path, size_t size)
{
    char where[PATH_BYTES_MAX];
    size_t n;
    FILE *f;

    snprintf(where, sizeof where, "%.4000s/run/where", state_dir);
    f = fopen(where, "re");
    if (f == NULL)
        return false;
    n = fread(path, 1, size - 1, f);
    fclose(f);
    path[n] = '\0';
    return n > 0;
}

int hth_local_find(const char *state_dir, char url[HTH_LOCAL_URL_MAX],
                   struct hth_err *err)
{
    char path[PATH_BYTES_MAX];
    struct stat st;

    if (state_dir == NULL)
        return hth_fail(err, HTH_EINVAL, "no coordinator given");
    if (!read_where(state_dir, path, sizeof path))
        snprintf(path, sizeof path, "%.4000s/run/socket", state_dir);
    if (stat(path, &st) != 0 || !S_ISSOCK(st.st_mode) || !fits(path))
        return hth_fail(err, HTH_EUNREACHABLE,
                        "no coordinator is running here (%s is not there); "
                        "start one with `hearth serve -m MODEL.gguf`",
                        path);
    snprintf(url, HTH_LOCAL_URL_MAX, "ipc://%.140s", path);
    return HTH_OK;
}
