/* statefile.c - reading, and writing so that a crash leaves old or new. */
#include "net/statefile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int sys_fail(struct hth_err *err, const char *what, const char *path)
{
    return hth_fail(err, HTH_EIO, "%s %s: %s", what, path, strerror(errno));
}

int hth__path(char out[HTH_PATH_BYTES_MAX], const char *dir, const char *name,
              struct hth_err *err)
{
    int n = snprintf(out, HTH_PATH_BYTES_MAX, "%s/%s", dir, name);

    if (n < 0 || (size_t)n >= HTH_PATH_BYTES_MAX)
        return hth_fail(err, HTH_ELIMIT, "path is too long: %.100s.../%s", dir,
                        name);
    return HTH_OK;
}

/* Parents are made one by one, by cutting a copy at each slash. */
int hth__dir_make(const char *dir, struct hth_err *err)
{
    char part[HTH_PATH_BYTES_MAX];
    size_t n = strlen(dir);

    if (n == 0 || n >= sizeof part)
        return hth_fail(err, HTH_ELIMIT, "not usable as a directory: '%.100s'",
                        dir);
    memcpy(part, dir, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (part[i] != '/' && part[i] != '\0')
            continue;
        part[i] = '\0';
        if (mkdir(part, 0700) != 0 && errno != EEXIST)
            return sys_fail(err, "make directory", part);
        part[i] = dir[i];
    }
    return HTH_OK;
}

int hth__dir_lock(const char *dir, struct hth_err *err)
{
    char path[HTH_PATH_BYTES_MAX];
    int status = hth__path(path, dir, "identity.lock", err);
    int fd;

    if (status != HTH_OK)
        return status;
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return sys_fail(err, "open", path);
    while (flock(fd, LOCK_EX) != 0) {
        if (errno == EINTR)
            continue;
        status = sys_fail(err, "lock", path);
        close(fd);
        return status;
    }
    return fd;
}

/* Up to max bytes or the end, whichever comes first; -1 with errno. */
static ssize_t read_all(int fd, char *dst, size_t max)
{
    size_t n = 0;

    while (n < max) {
        ssize_t r = read(fd, dst + n, max - n);

        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -1;
        if (r == 0)
            break;
        n += (size_t)r;
    }
    return (ssize_t)n;
}

int hth__file_read(const char *path, size_t max, char **out, size_t *len,
                   struct hth_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *data;
    ssize_t n;

    if (fd < 0)
        return errno == ENOENT ? HTH_ENOTFOUND : sys_fail(err, "open", path);
    data = calloc(1, max + 1);
    if (data == NULL) {
        close(fd);
        return hth_fail(err, HTH_ENOMEM, "read %s: out of memory", path);
    }
    n = read_all(fd, data, max);
    close(fd);
    if (n < 0 || (size_t)n >= max) {
        free(data);
        return n < 0 ? sys_fail(err, "read", path)
                     : hth_fail(err, HTH_ELIMIT,
                                "%s has more than %zu bytes, which no file of "
                                "Hearth's has",
                                path, max - 1);
    }
    data[n] = '\0';
    *out = data;
    *len = (size_t)n;
    return HTH_OK;
}

static int write_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t w = write(fd, p, n);

        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return -1;
        p += w;
        n -= (size_t)w;
    }
    return 0;
}

/* A rename is only durable once its directory is; some file systems refuse
 * fsync on a directory, and then there is nothing more to do. */
static void sync_dir_of(const char *path)
{
    char dir[HTH_PATH_BYTES_MAX];
    char *slash;
    int fd;

    snprintf(dir, sizeof dir, "%s", path);
    slash = strrchr(dir, '/');
    if (slash == NULL)
        snprintf(dir, sizeof dir, ".");
    else if (slash == dir)
        slash[1] = '\0';
    else
        *slash = '\0';
    fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
}

static int write_new(const char *path, const struct hth__file *f,
                     struct hth_err *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, f->mode);
    int bad;

    if (fd < 0)
        return sys_fail(err, "create", path);
    bad = fchmod(fd, f->mode) != 0 || write_all(fd, f->data, f->n) != 0 ||
          fsync(fd) != 0;
    if (bad) {
        int status = sys_fail(err, "write", path);

        close(fd);
        return status;
    }
    if (close(fd) != 0)
        return sys_fail(err, "close", path);
    return HTH_OK;
}

int hth__file_write(const struct hth__file *f, struct hth_err *err)
{
    char tmp[HTH_PATH_BYTES_MAX];
    int n = snprintf(tmp, sizeof tmp, "%s.new", f->path);
    int status;

    if (n < 0 || (size_t)n >= sizeof tmp)
        return hth_fail(err, HTH_ELIMIT, "path is too long: %.100s...",
                        f->path);
    status = write_new(tmp, f, err);
    if (status == HTH_OK && rename(tmp, f->path) != 0)
        status = sys_fail(err, "rename to", f->path);
    if (status != HTH_OK) {
        (void)unlink(tmp);
        return status;
    }
    sync_dir_of(f->path);
    return HTH_OK;
}

int hth__file_remove(const char *path, struct hth_err *err)
{
    if (unlink(path) != 0 && errno != ENOENT)
        return sys_fail(err, "remove", path);
    return HTH_OK;
}
