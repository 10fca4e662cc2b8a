/* packed_key.c - see packed_key.h. */
#include "worker/packed_key.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- names --------------------------------------------------------------- */

static int hash_files(struct hth_hash *h, const struct hth_gguf *g,
                      struct hth_err *err)
{
    for (uint32_t i = 0; i < hth_gguf_parts(g); i++) {
        const char *path = hth_gguf_part_path(g, i);
        struct stat st;
        uint64_t id[5];

        if (stat(path, &st) != 0)
            return hth_fail(err, HTH_EIO, "%s: %s", path, strerror(errno));
        id[0] = st.st_dev;
        id[1] = st.st_ino;
        id[2] = (uint64_t)st.st_size;
        id[3] = (uint64_t)st.st_mtim.tv_sec;
        id[4] = (uint64_t)st.st_mtim.tv_nsec;
        hth_hash_update(h, id, sizeof id);
    }
    return HTH_OK;
}

static int hash_model(struct hth_hash *h, const struct hth_session *s,
                      struct hth_err *err)
{
    const struct hth_share *share = &s->plan.share[s->rank];
    struct hth_buf b;
    int rc = HTH_OK;

    hth_buf_init(&b, HTH_SESSION_BYTES_MAX);
    hth_spec_encode(&s->spec, &b);
    hth_put_bytes(&b, share, sizeof *share);
    if (b.failed)
        rc = hth_fail(err, HTH_ENOMEM, "no memory for the names of blocks");
    else
        hth_hash_update(h, b.data, b.len);
    hth_buf_fini(&b);
    return rc;
}

int hth_packed_keys(const struct hth_gguf *g, const struct hth_session *s,
                    uint8_t *key, struct hth_err *err)
{
    uint8_t all[HTH_HASH_BYTES];
    struct hth_hash *h;
    int rc = hth_hash_open(&h);

    if (rc != HTH_OK)
        return hth_fail(err, rc, "no memory for a hash");
    rc = hash_files(h, g, err);
    if (rc == HTH_OK)
        rc = hash_model(h, s, err);
    hth_hash_finish(h, all);
    for (uint32_t i = 0; rc == HTH_OK && i < hth_shard_blocks(&s->spec); i++) {
        hth_hash_update(h, all, sizeof all);
        hth_hash_update(h, &i, sizeof i);
        hth_hash_finish(h, key + (size_t)i * HTH_HASH_BYTES);
    }
    hth_hash_close(h);
    return rc;
}

/* ---- the directory ------------------------------------------------------- */

static int make_dirs(char *path, struct hth_err *err)
{
    for (char *c = path + 1;; c++) {
        char end = *c;

        if (end != '/' && end != '\0')
            continue;
        *c = '\0';
        if (mkdir(path, 0700) != 0 && errno != EEXIST)
            return hth_fail(err, HTH_EIO, "cannot make directory %s: %s", path,
                            strerror(errno));
        *c = end;
        if (end == '\0')
            return HTH_OK;
    }
}

/* Half written files are locked by who writes them. */
static void sweep(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *d;

    if (dir == NULL)
        return;
    while ((d = readdir(dir)) != NULL) {
        int fd;

        if (d->d_name[0] != '.' || strlen(d->d_name) < HTH_HASH_HEX_SIZE)
            continue;
        fd = openat(dirfd(dir), d->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
            continue;
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            (void)unlinkat(dirfd(dir), d->d_name, 0);
        close(fd);
    }
    closedir(dir);
}

int hth_packed_dir(const char *store, char *dst, size_t size,
                   struct hth_err *err)
{
    int n = snprintf(dst, size, "%s/packed", store);
    int rc;

    if (n < 0 || (size_t)n >= size)
        return hth_fail(err, HTH_EINVAL, "path too long: %s", store);
    rc = make_dirs(dst, err);
    if (rc == HTH_OK)
        sweep(dst);
    return rc;
}
