/* store.c - blocks on disk: receive, verify, read. Eviction and pins are in
 * store_evict.c. Every system call's failure becomes a status and a sentence
 * with the path; nothing here trusts what the directory contains. */
#include "worker/store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

#define IO_BYTES (1u << 20)

struct hth_store_part {
    struct hth_store *store;
    struct hth_store_key key;
    struct hth_hash *hash; /* of everything in the file */
    uint64_t have_bytes;
    int fd; /* locked */
};

int hth__store_fail(struct hth_err *err, const char *what, const char *path)
{
    bool full = errno == ENOSPC || errno == EDQUOT;

    return hth_fail(err, HTH_EIO, "%s %s: %s%s", what, path, strerror(errno),
                    full ? "; make room there (it is tried again), or give "
                           "--store another place"
                         : "");
}

/* mkdir -p; what exists is left as it is. */
static int make_dirs(const char *path, struct hth_err *err)
{
    char part[STORE_PATH_MAX];
    size_t i, n = strlen(path);

    if (n >= sizeof part)
        return hth_fail(err, HTH_EINVAL, "path too long: %s", path);
    for (i = 1; i <= n; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0700) != 0 && errno != EEXIST)
            return hth__store_fail(err, "cannot make directory", part);
    }
    return HTH_OK;
}

int hth_store_open(struct hth_store **out, const struct hth_store_opts *opts,
                   struct hth_err *err)
{
    static const char *const sub[] = {"blocks", "partial", "pins", "packed"};
    char path[STORE_PATH_MAX];
    struct hth_store *s;
    size_t i;
    int status;

    if (strlen(opts->dir) >= STORE_DIR_MAX)
        return hth_fail(err, HTH_EINVAL, "store path too long: %s", opts->dir);
    for (i = 0; i < sizeof sub / sizeof sub[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", opts->dir, sub[i]);
        if ((status = make_dirs(path, err)) != HTH_OK)
            return status;
    }
    s = calloc(1, sizeof *s);
    if (s == NULL || (s->io = malloc(IO_BYTES)) == NULL) {
        free(s);
        return hth_fail(err, HTH_ENOMEM, "store: out of memory");
    }
    snprintf(s->dir, sizeof s->dir, "%s", opts->dir);
    s->limit_bytes = opts->limit_bytes;
    s->verify = opts->verify;
    s->pin_fd = -1;
    *out = s;
    return HTH_OK;
}

void hth_store_close(struct hth_store *s)
{
    if (s == NULL)
        return;
    hth__store_unpin(s);
    free(s->verified);
    free(s->io);
    free(s);
}

const char *hth_store_dir(const struct hth_store *s)
{
    return s->dir;
}

static void block_path(const struct hth_store *s, const uint8_t *hash,
                       char path[STORE_PATH_MAX])
{
    char hex[HTH_HASH_HEX_SIZE];

    hth_hash_hex(hash, hex);
    snprintf(path, STORE_PATH_MAX, "%s/blocks/%.2s/%s", s->dir, hex, hex);
}

static void partial_path(const struct hth_store *s, const uint8_t *hash,
                         char path[STORE_PATH_MAX])
{
    char hex[HTH_HASH_HEX_SIZE];

    hth_hash_hex(hash, hex);
    snprintf(path, STORE_PATH_MAX, "%s/partial/%s", s->dir, hex);
}

/* ---- the stamp of a verified block --------------------------------------- */

/* The modification time of a verified block: some time in 2001 to 2018 that
 * its hash picks. Any ordinary write replaces it by now. */
static struct timespec stamp_of(const uint8_t *hash)
{
    uint32_t bits = hth_load_u32(hash);

    return (struct timespec){.tv_sec = 1000000000 + (bits & 0x1fffffff)};
}

static bool stamped(const struct stat *st, const uint8_t *hash)
{
    struct timespec want = stamp_of(hash);

    return st->st_mtim.tv_sec == want.tv_sec && st->st_mtim.tv_nsec == 0;
}

/* Used now (access time, for eviction), verified (modification time). */
static void set_stamp(int fd, const uint8_t *hash)
{
    struct timespec t[2] = {{.tv_nsec = UTIME_NOW}, stamp_of(hash)};

    (void)futimens(fd, t);
}

/* ---- verification -------------------------------------------------------- */

static int read_full(int fd, void *dst, size_t n, uint64_t at)
{
    size_t done = 0;
    ssize_t r;

    while (done < n) {
        r = pread(fd, (char *)dst + done, n - done, (off_t)(at + done));
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0) {
            errno = r == 0 ? EIO : errno;
            return -1;
        }
        done += (size_t)r;
    }
    return 0;
}

/* Feed bytes [0, bytes) of a file to a hash. */
static int hash_file(struct hth_store *s, int fd, uint64_t bytes,
                     struct hth_hash *hash)
{
    uint64_t at;
    size_t n;

    for (at = 0; at < bytes; at += n) {
        n = bytes - at < IO_BYTES ? (size_t)(bytes - at) : IO_BYTES;
        if (read_full(fd, s->io, n, at) != 0)
            return -1;
        hth_hash_update(hash, s->io, n);
    }
    return 0;
}

static bool file_matches(struct hth_store *s, int fd,
                         const struct hth_store_key *key)
{
    uint8_t got[HTH_HASH_BYTES];
    struct hth_hash *hash;
    bool same = false;

    if (hth_hash_open(&hash) != HTH_OK)
        return false;
    if (hash_file(s, fd, key->bytes, hash) == 0) {
        hth_hash_finish(hash, got);
        same = memcmp(got, key->hash, sizeof got) == 0;
    }
    hth_hash_close(hash);
    return same;
}

/* With the verify option each block is hashed once per opening of the store,
 * whatever its stamp says. */
static bool verified_before(const struct hth_store *s, const uint8_t *hash)
{
    uint32_t i;

    for (i = 0; i < s->verified_count; i++)
        if (memcmp(s->verified[i], hash, HTH_HASH_BYTES) == 0)
            return true;
    return false;
}

static void remember_verified(struct hth_store *s, const uint8_t *hash)
{
    if (s->verified == NULL)
        s->verified = malloc(sizeof *s->verified * HTH_BLOCKS_MAX);
    if (s->verified == NULL || s->verified_count == HTH_BLOCKS_MAX)
        return; /* it will be hashed again: slower, never wrong */
    memcpy(s->verified[s->verified_count++], hash, HTH_HASH_BYTES);
}

static void discard(const char *path)
{
    hth_log(HTH_LOG_WARN, "STORE-DAMAGED",
            "%s: content does not match its hash; deleted, will be fetched "
            "again",
            path);
    (void)unlink(path);
}

/* An open descriptor of a good block, or -1 (missing, or deleted now). */
static int open_good(struct hth_store *s, const struct hth_store_key *key)
{
    char path[STORE_PATH_MAX];
    struct stat st;
    bool trust;
    int fd;

    block_path(s, key->hash, path);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -1;
    if (fstat(fd, &st) != 0) {
        close(fd);
        return -1;
    }
    trust = stamped(&st, key->hash) &&
            (!s->verify || verified_before(s, key->hash));
    if ((uint64_t)st.st_size != key->bytes ||
        (!trust && !file_matches(s, fd, key))) {
        close(fd);
        discard(path);
        return -1;
    }
    if (!trust && s->verify)
        remember_verified(s, key->hash);
    set_stamp(fd, key->hash);
    return fd;
}

bool hth_store_has(struct hth_store *s, const struct hth_store_key *key)
{
    int fd = open_good(s, key);

    if (fd < 0)
        return false;
    close(fd);
    return true;
}

int hth_store_read(struct hth_store *s, const struct hth_store_key *key,
                   void *dst, struct hth_err *err)
{
    return hth_store_read_at(
        s, &(struct hth_store_read){key, 0, dst, key->bytes}, err);
}

int hth_store_read_at(struct hth_store *s, const struct hth_store_read *what,
                      struct hth_err *err)
{
    char path[STORE_PATH_MAX];
    int fd, status = HTH_OK;

    HTH_ASSERT(what->at + what->n <= what->key->bytes);
    block_path(s, what->key->hash, path);
    fd = open_good(s, what->key);
    if (fd < 0)
        return hth_fail(err, HTH_ENOTFOUND, "block %s is not in the store",
                        path);
    if (read_full(fd, what->dst, (size_t)what->n, what->at) != 0)
        status = hth__store_fail(err, "cannot read", path);
    close(fd);
    return status;
}

/* ---- receiving ----------------------------------------------------------- */

/* Hash what an interrupted transfer left. Anything odd (too long, unreadable)
 * starts from nothing: resuming is a saving, not a duty. */
static int resume(struct hth_store_part *p, const char *path,
                  struct hth_err *err)
{
    struct stat st;
    int status;

    if ((status = hth_hash_open(&p->hash)) != HTH_OK)
        return hth_fail(err, status, "store: out of memory");
    if (fstat(p->fd, &st) == 0 && st.st_size > 0 &&
        (uint64_t)st.st_size <= p->key.bytes &&
        hash_file(p->store, p->fd, (uint64_t)st.st_size, p->hash) == 0) {
        p->have_bytes = (uint64_t)st.st_size;
        return HTH_OK;
    }
    hth_hash_close(p->hash);
    p->hash = NULL;
    if (ftruncate(p->fd, 0) != 0)
        return hth__store_fail(err, "cannot empty", path);
    if ((status = hth_hash_open(&p->hash)) != HTH_OK)
        return hth_fail(err, status, "store: out of memory");
    return HTH_OK;
}

/* Open and lock the partial file. Its holder may rename it away between our
 * open and our lock, so the name is compared after locking. */
static int open_partial(const char *path, struct hth_err *err)
{
    struct stat a, b;
    int fd, tries;

    for (tries = 0; tries < 10; tries++) {
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
            return hth__store_fail(err, "cannot create", path);
        if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
            close(fd);
            return hth_fail(err, HTH_EBUSY, "another process is receiving %s",
                            path);
        }
        if (fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_ino == b.st_ino &&
            a.st_dev == b.st_dev)
            return fd;
        close(fd);
    }
    return hth_fail(err, HTH_EBUSY, "%s keeps changing", path);
}

int hth_store_begin(struct hth_store *s, const struct hth_store_key *key,
                    struct hth_store_part **out, uint64_t *have_bytes_out,
                    struct hth_err *err)
{
    struct hth_store_part *p = calloc(1, sizeof *p);
    char path[STORE_PATH_MAX];
    int status;

    if (p == NULL)
        return hth_fail(err, HTH_ENOMEM, "store: out of memory");
    p->store = s;
    p->key = *key;
    partial_path(s, key->hash, path);
    p->fd = open_partial(path, err);
    if (p->fd < 0) {
        status = p->fd;
        free(p);
        return status;
    }
    if ((status = resume(p, path, err)) != HTH_OK) {
        hth_store_suspend(p);
        return status;
    }
    *have_bytes_out = p->have_bytes;
    *out = p;
    return HTH_OK;
}

int hth_store_append(struct hth_store_part *p, const void *data, size_t n,
                     struct hth_err *err)
{
    char path[STORE_PATH_MAX];
    size_t done = 0;
    ssize_t r;

    if (n > p->key.bytes - p->have_bytes)
        return hth_fail(err, HTH_EOVERFLOW, "more bytes than the block has");
    partial_path(p->store, p->key.hash, path);
    while (done < n) {
        r = pwrite(p->fd, (const char *)data + done, n - done,
                   (off_t)(p->have_bytes + done));
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0) {
            int status = hth__store_fail(err, "cannot write", path);

            (void)!ftruncate(p->fd, (off_t)p->have_bytes);
            return status;
        }
        done += (size_t)r;
    }
    hth_hash_update(p->hash, data, n);
    p->have_bytes += n;
    return HTH_OK;
}

static void part_free(struct hth_store_part *p)
{
    close(p->fd);
    hth_hash_close(p->hash);
    free(p);
}

void hth_store_suspend(struct hth_store_part *p)
{
    if (p != NULL)
        part_free(p);
}

static int sync_dir(const char *path, struct hth_err *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc;

    if (fd < 0)
        return hth__store_fail(err, "cannot open", path);
    rc = fsync(fd);
    close(fd);
    return rc == 0 ? HTH_OK : hth__store_fail(err, "cannot sync", path);
}

/* The block is on disk before its name is: a crash leaves either nothing or
 * a whole block. */
static int move_in(struct hth_store_part *p, const char *from,
                   struct hth_err *err)
{
    char to[STORE_PATH_MAX], dir[STORE_PATH_MAX];
    char *slash;
    int status;

    block_path(p->store, p->key.hash, to);
    snprintf(dir, sizeof dir, "%s", to);
    slash = strrchr(dir, '/');
    *slash = '\0';
    if ((status = make_dirs(dir, err)) != HTH_OK)
        return status;
    if (fsync(p->fd) != 0)
        return hth__store_fail(err, "cannot sync", from);
    set_stamp(p->fd, p->key.hash);
    if (rename(from, to) != 0)
        return hth__store_fail(err, "cannot rename to", to);
    return sync_dir(dir, err);
}

int hth_store_commit(struct hth_store_part *p, struct hth_err *err)
{
    uint8_t got[HTH_HASH_BYTES];
    char path[STORE_PATH_MAX];
    int status;

    partial_path(p->store, p->key.hash, path);
    hth_hash_finish(p->hash, got);
    if (p->have_bytes != p->key.bytes ||
        memcmp(got, p->key.hash, sizeof got) != 0) {
        (void)unlink(path);
        status = hth_fail(err, HTH_EHASH,
                          "received block does not match its hash (%llu of "
                          "%llu bytes); it is thrown away",
                          (unsigned long long)p->have_bytes,
                          (unsigned long long)p->key.bytes);
    } else {
        status = move_in(p, path, err);
    }
    part_free(p);
    return status;
}
