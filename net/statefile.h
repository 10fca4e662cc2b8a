/* statefile.h - small files that must survive a crash: keys, certificates,
 * lists. Internal to net/. Blocking file I/O; thread-safe for different
 * paths. Errors: HTH_EIO with the path, HTH_ELIMIT, HTH_ENOTFOUND. */
#ifndef HTH_NET_STATEFILE_H
#define HTH_NET_STATEFILE_H

#include <stddef.h>
#include <sys/types.h>

#include "base/status.h"

#define HTH_PATH_BYTES_MAX 4096u

/* dir + "/" + name into out; HTH_ELIMIT when too long. */
HTH_MUST_CHECK int hth__path(char out[HTH_PATH_BYTES_MAX], const char *dir,
                             const char *name, struct hth_err *err);
/* Make dir (mode 0700) and its parents where missing. */
HTH_MUST_CHECK int hth__dir_make(const char *dir, struct hth_err *err);
/* Take the lock of a directory, waiting for other processes; the descriptor
 * returned gives it back when closed. */
HTH_MUST_CHECK int hth__dir_lock(const char *dir, struct hth_err *err);

/* Read all of a file of at most max - 1 bytes; *out is NUL-terminated and the
 * caller's (free). HTH_ENOTFOUND when there is none: err is left alone. */
HTH_MUST_CHECK int hth__file_read(const char *path, size_t max, char **out,
                                  size_t *len, struct hth_err *err);

struct hth__file {
    const char *path;
    const void *data;
    size_t n;
    mode_t mode;
};
/* Write to path + ".new", sync, rename over path, sync the directory: after a
 * crash the old or the new content is there, never a mixture. */
HTH_MUST_CHECK int hth__file_write(const struct hth__file *f,
                                   struct hth_err *err);
/* Remove; a missing file is success. */
HTH_MUST_CHECK int hth__file_remove(const char *path, struct hth_err *err);

#endif
