/* store_evict.c - pins and eviction: what may go when the store is full.
 *
 * A process lists what it uses in a file it keeps locked; a pin file that can
 * be locked belongs to a process that died. Eviction runs under a lock on the
 * blocks directory so that two workers do not both clean up. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "worker/store_internal.h"

struct entry {
    uint8_t hash[HTH_HASH_BYTES];
    uint64_t bytes;
    int64_t used_s, used_ns;
    bool partial, packed;
    bool pinned;
};

struct listing {
    struct entry *v; /* [count], owned */
    uint32_t count, cap;
    uint64_t bytes;
};

/* ---- pins ---------------------------------------------------------------- */

void hth__store_unpin(struct hth_store *s)
{
    if (s->pin_fd < 0)
        return;
    (void)unlink(s->pin_path);
    close(s->pin_fd);
    s->pin_fd = -1;
}

static int write_pins(int fd, const struct hth_store_key *keys, uint32_t count)
{
    uint32_t i;

    for (i = 0; i < count; i++)
        if (write(fd, keys[i].hash, HTH_HASH_BYTES) != HTH_HASH_BYTES)
            return -1;
    return 0;
}

/* The new pins are complete and locked under a name that readers skip before
 * they get their own, and only then the old ones go. */
int hth_store_pin(struct hth_store *s, const struct hth_store_key *keys,
                  uint32_t count, struct hth_err *err)
{
    char path[STORE_PATH_MAX], temp[STORE_PATH_MAX];
    uint64_t name;
    int fd;

    HTH_ASSERT(count <= HTH_BLOCKS_MAX);
    if (getrandom(&name, sizeof name, 0) != sizeof name)
        return hth_fail(err, HTH_EIO, "no random numbers: %s", strerror(errno));
    snprintf(path, sizeof path, "%s/pins/%016llx", s->dir,
             (unsigned long long)name);
    snprintf(temp, sizeof temp, "%s/pins/.%016llx", s->dir,
             (unsigned long long)name);
    fd = open(temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return hth__store_fail(err, "cannot create", temp);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0 || write_pins(fd, keys, count) != 0 ||
        rename(temp, path) != 0) {
        (void)hth__store_fail(err, "cannot write", temp);
        (void)unlink(temp);
        close(fd);
        return HTH_EIO;
    }
    hth__store_unpin(s);
    s->pin_fd = fd;
    snprintf(s->pin_path, sizeof s->pin_path, "%s", path);
    return HTH_OK;
}

/* ---- what is there ------------------------------------------------------- */

static int add_entry(struct listing *l, const struct entry *e)
{
    struct entry *v;
    uint32_t cap;

    if (l->count == HTH_STORE_FILES_MAX)
        return -1;
    if (l->count == l->cap) {
        cap = l->cap == 0 ? 256 : l->cap * 2;
        v = realloc(l->v, sizeof *v * cap);
        if (v == NULL)
            return -1;
        l->v = v;
        l->cap = cap;
    }
    l->v[l->count++] = *e;
    l->bytes += e->bytes;
    return 0;
}

/* Add the files of a directory whose names are hashes; others are not ours
 * and are left alone. A partial file counts as used when last written. */
static void list_dir(struct listing *l, const char *path, struct entry kind)
{
    struct entry e = kind;
    bool partial = kind.partial;
    struct dirent *d;
    struct stat st;
    DIR *dir = opendir(path);

    if (dir == NULL)
        return;
    while ((d = readdir(dir)) != NULL) {
        if (hth_hash_parse_hex(d->d_name, e.hash) != HTH_OK ||
            fstatat(dirfd(dir), d->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
            !S_ISREG(st.st_mode))
            continue;
        e.bytes = (uint64_t)st.st_size;
        e.used_s = partial ? st.st_mtim.tv_sec : st.st_atim.tv_sec;
        e.used_ns = partial ? st.st_mtim.tv_nsec : st.st_atim.tv_nsec;
        if (add_entry(l, &e) != 0)
            break;
    }
    closedir(dir);
}

static void list_store(const struct hth_store *s, struct listing *l)
{
    char path[STORE_PATH_MAX];
    uint32_t i;

    for (i = 0; i < 256; i++) {
        snprintf(path, sizeof path, "%s/blocks/%02x", s->dir, i);
        list_dir(l, path, (struct entry){0});
    }
    snprintf(path, sizeof path, "%s/partial", s->dir);
    list_dir(l, path, (struct entry){.partial = true});
    snprintf(path, sizeof path, "%s/packed", s->dir);
    list_dir(l, path, (struct entry){.packed = true});
}

uint64_t hth_store_bytes(struct hth_store *s)
{
    struct listing l = {0};

    list_store(s, &l);
    free(l.v);
    return l.bytes;
}

/* ---- eviction ------------------------------------------------------------ */

static void mark_pinned(struct listing *l, const uint8_t *hash)
{
    uint32_t i;

    for (i = 0; i < l->count; i++)
        if (memcmp(l->v[i].hash, hash, HTH_HASH_BYTES) == 0)
            l->v[i].pinned = true;
}

/* One pin file: its owner lives when we cannot lock it. Our own never can be
 * locked by this second descriptor, so it counts as living. */
static void read_pins(struct listing *l, int fd, int dir_fd, const char *name)
{
    uint8_t hash[HTH_HASH_BYTES];

    if (flock(fd, LOCK_SH | LOCK_NB) == 0) {
        (void)unlinkat(dir_fd, name, 0);
        return;
    }
    while (read(fd, hash, sizeof hash) == (ssize_t)sizeof hash)
        mark_pinned(l, hash);
}

static void apply_pins(const struct hth_store *s, struct listing *l)
{
    char path[STORE_PATH_MAX];
    struct dirent *d;
    DIR *dir;
    int fd;

    snprintf(path, sizeof path, "%s/pins", s->dir);
    dir = opendir(path);
    if (dir == NULL)
        return;
    while ((d = readdir(dir)) != NULL) {
        if (d->d_name[0] == '.')
            continue;
        fd = openat(dirfd(dir), d->d_name, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        read_pins(l, fd, dirfd(dir), d->d_name);
        close(fd);
    }
    closedir(dir);
}

static int older_first(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;

    if (x->used_s != y->used_s)
        return x->used_s < y->used_s ? -1 : 1;
    if (x->used_ns != y->used_ns)
        return x->used_ns < y->used_ns ? -1 : 1;
    return memcmp(x->hash, y->hash, HTH_HASH_BYTES);
}

/* Unlink one file; a partial one only if nobody is writing to it. */
static bool evict(const struct hth_store *s, const struct entry *e)
{
    char hex[HTH_HASH_HEX_SIZE], path[STORE_PATH_MAX];
    bool gone;
    int fd;

    hth_hash_hex(e->hash, hex);
    if (e->packed) {
        snprintf(path, sizeof path, "%s/packed/%s", s->dir, hex);
        return unlink(path) == 0;
    }
    if (!e->partial) {
        snprintf(path, sizeof path, "%s/blocks/%.2s/%s", s->dir, hex, hex);
        return unlink(path) == 0;
    }
    snprintf(path, sizeof path, "%s/partial/%s", s->dir, hex);
    fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return false;
    gone = flock(fd, LOCK_EX | LOCK_NB) == 0 && unlink(path) == 0;
    close(fd);
    return gone;
}

static int evict_until(const struct hth_store *s, struct listing *l,
                       uint64_t need_bytes, struct hth_err *err)
{
    uint64_t evicted = 0;
    uint32_t i, files = 0;

    qsort(l->v, l->count, sizeof *l->v, older_first);
    for (i = 0;
         i < l->count && l->bytes - evicted + need_bytes > s->limit_bytes;
         i++) {
        if (l->v[i].pinned || !evict(s, &l->v[i]))
            continue;
        evicted += l->v[i].bytes;
        files++;
    }
    if (files > 0)
        hth_log(HTH_LOG_INFO, "STORE-EVICTED",
                "files=%u bytes=%llu: least recently used blocks made room",
                files, (unsigned long long)evicted);
    if (l->bytes - evicted + need_bytes <= s->limit_bytes)
        return HTH_OK;
    return hth_fail(err, HTH_ELIMIT,
                    "the store limit of %llu bytes is too small: %llu are in "
                    "use and %llu more are needed; raise --store-limit to at "
                    "least %llu",
                    (unsigned long long)s->limit_bytes,
                    (unsigned long long)(l->bytes - evicted),
                    (unsigned long long)need_bytes,
                    (unsigned long long)(l->bytes - evicted + need_bytes));
}

int hth_store_make_room(struct hth_store *s, uint64_t need_bytes,
                        struct hth_err *err)
{
    char path[STORE_PATH_MAX];
    struct listing l = {0};
    int fd, status = HTH_OK;

    if (s->limit_bytes == 0)
        return HTH_OK;
    snprintf(path, sizeof path, "%s/blocks", s->dir);
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || flock(fd, LOCK_EX) != 0) {
        status = hth__store_fail(err, "cannot lock", path);
        if (fd >= 0)
            close(fd);
        return status;
    }
    list_store(s, &l);
    if (l.bytes + need_bytes > s->limit_bytes) {
        apply_pins(s, &l);
        status = evict_until(s, &l, need_bytes, err);
    }
    free(l.v);
    close(fd);
    return status;
}
