/* packed.c - see packed.h. What a file says is compared with what its owner
 * expects of it, so no number in it is ever used to allocate or to seek. */
#include "worker/packed.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checksum.h"
#include "base/cursor.h"

#define MAGIC "HTHPACK1"
#define PATH_BYTES_MAX 1200u

struct hth_packed {
    struct hth_packed_opts opts;
    uint64_t *piece_bytes; /* [pieces] */
    uint64_t *at;          /* [pieces] in the file */
    uint32_t *first;       /* [pieces] its first chunk in sums */
    uint32_t *sums;        /* [chunks] */
    uint32_t chunks;
    uint64_t bytes;
    char path[PATH_BYTES_MAX];
    char temp[PATH_BYTES_MAX + 24];

    pthread_mutex_t lock; /* guards what follows; sums and the file's content
                             belong to whoever has the piece */
    int fd;
    bool direct; /* fd goes around the page cache */
    bool whole;
    bool *written; /* [pieces] */
    uint32_t missing;
};

static int fail_io(struct hth_err *err, const char *what, const char *path)
{
    return hth_fail(err, HTH_EIO, "%s %s: %s", what, path, strerror(errno));
}

/* ---- the header ---------------------------------------------------------- */

static uint32_t chunks_of(uint64_t bytes)
{
    return (uint32_t)((bytes + HTH_PACKED_CHUNK_BYTES - 1) /
                      HTH_PACKED_CHUNK_BYTES);
}

static uint32_t all_chunks(const struct hth_packed_opts *o)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < o->pieces; i++)
        n += chunks_of(o->piece_bytes[i]);
    return n;
}

uint64_t hth_packed_header_bytes(const struct hth_packed_opts *o)
{
    return hth_page_up(8 + 4 * 3 + HTH_HASH_BYTES + 8ull * o->pieces +
                       4ull * all_chunks(o) + 4);
}

/* Everything up to the checksum of the header itself, which is its last field;
 * what follows to the end of the page is zero. */
static void put_header(const struct hth_packed_opts *o, const uint32_t *sums,
                       struct hth_buf *b)
{
    uint32_t chunks = all_chunks(o);

    hth_put_bytes(b, MAGIC, 8);
    hth_put_u32(b, o->layout);
    hth_put_u32(b, o->pieces);
    hth_put_u32(b, chunks);
    hth_put_bytes(b, o->key, HTH_HASH_BYTES);
    for (uint32_t i = 0; i < o->pieces; i++)
        hth_put_u64(b, o->piece_bytes[i]);
    for (uint32_t i = 0; i < chunks; i++)
        hth_put_u32(b, sums[i]);
    hth_put_u32(b, b->failed ? 0 : hth_checksum(b->data, b->len));
}

bool hth_packed_parse(const struct hth_packed_opts *o, const uint8_t *head,
                      size_t n, uint32_t *sums)
{
    const uint8_t *magic, *key;
    uint32_t chunks = all_chunks(o);
    struct hth_cursor c;
    bool same;

    hth_cursor_init(&c, head, n);
    magic = hth_get_bytes(&c, 8);
    same = hth_get_u32(&c) == o->layout;
    same = hth_get_u32(&c) == o->pieces && same;
    same = hth_get_u32(&c) == chunks && same;
    key = hth_get_bytes(&c, HTH_HASH_BYTES);
    if (c.failed || !same || memcmp(magic, MAGIC, 8) != 0 ||
        memcmp(key, o->key, HTH_HASH_BYTES) != 0)
        return false;
    for (uint32_t i = 0; i < o->pieces && same; i++)
        same = hth_get_u64(&c) == o->piece_bytes[i];
    for (uint32_t i = 0; i < chunks && same && !c.failed; i++)
        sums[i] = hth_get_u32(&c);
    if (!same || c.failed)
        return false;
    n -= hth_cursor_left(&c);
    return hth_get_u32(&c) == hth_checksum(head, n) && !c.failed;
}

/* ---- files --------------------------------------------------------------- */

/* Around the page cache where the file system can. */
static int open_file(const char *path, int flags, bool *direct)
{
    int fd = open(path, flags | O_DIRECT | O_CLOEXEC | O_NOFOLLOW, 0600);

    *direct = fd >= 0;
    if (fd < 0 && errno == EINVAL)
        fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    return fd;
}

static ssize_t plain_pread(void *ctx, int fd, void *dst, size_t n, off_t at)
{
    (void)ctx;
    return pread(fd, dst, n, at);
}

static const struct hth_packed_io g_plain = {.pread = plain_pread};

/* 0, or -1 with errno; a file that ends early is EIO. */
static int read_full(const struct hth_packed *p, void *dst, size_t n,
                     uint64_t at)
{
    size_t done = 0;

    while (done < n) {
        ssize_t r =
            p->opts.io->pread(p->opts.io->ctx, p->fd, (char *)dst + done,
                              n - done, (off_t)(at + done));

        if (r < 0 && errno == EINTR)
            continue;
        if (r > 0 && (size_t)r < n - done)
            r -= r % HTH_PAGE_BYTES; /* direct reads begin at pages */
        if (r <= 0) {
            errno = r == 0 ? EIO : errno;
            return -1;
        }
        done += (size_t)r;
    }
    if (!p->direct)
        (void)posix_fadvise(p->fd, (off_t)at, (off_t)n, POSIX_FADV_DONTNEED);
    return 0;
}

static int write_full(const struct hth_packed *p, const void *src, size_t n,
                      uint64_t at)
{
    size_t done = 0;

    while (done < n) {
        ssize_t r = pwrite(p->fd, (const char *)src + done, n - done,
                           (off_t)(at + done));

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

/* Is the file under our name the one we want? Fills sums. */
static bool good_file(struct hth_packed *p)
{
    uint64_t n = hth_packed_header_bytes(&p->opts);
    struct stat st;
    uint8_t *head;
    bool good;

    if (fstat(p->fd, &st) != 0 || !S_ISREG(st.st_mode) ||
        (uint64_t)st.st_size != p->bytes)
        return false;
    head = aligned_alloc(HTH_PAGE_BYTES, n);
    good = head != NULL && read_full(p, head, n, 0) == 0 &&
           hth_packed_parse(&p->opts, head, n, p->sums);
    free(head);
    return good;
}

/* The lock tells whoever cleans up that the file is in use; the time of use
 * decides which goes first. */
static void open_whole(struct hth_packed *p)
{
    struct timespec t[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}};

    p->fd = open_file(p->path, O_RDWR, &p->direct);
    if (p->fd < 0)
        return;
    if (flock(p->fd, LOCK_SH | LOCK_NB) != 0 || !good_file(p)) {
        close(p->fd);
        p->fd = -1;
        return;
    }
    (void)futimens(p->fd, t);
    p->whole = true;
    p->missing = 0;
}

/* ---- opening ------------------------------------------------------------- */

/* Where each piece begins, and each piece's checksums. */
static int lay_out(struct hth_packed *p, const struct hth_packed_opts *o)
{
    uint32_t n = o->pieces;

    p->piece_bytes = calloc(n, sizeof *p->piece_bytes);
    p->at = calloc(n, sizeof *p->at);
    p->first = calloc(n, sizeof *p->first);
    p->written = calloc(n, sizeof *p->written);
    p->sums = calloc(all_chunks(o) + 1u, sizeof *p->sums);
    if (p->piece_bytes == NULL || p->at == NULL || p->first == NULL ||
        p->written == NULL || p->sums == NULL)
        return HTH_ENOMEM;
    memcpy(p->piece_bytes, o->piece_bytes, n * sizeof *p->piece_bytes);
    p->opts.piece_bytes = p->piece_bytes;
    p->bytes = hth_packed_header_bytes(o);
    for (uint32_t i = 0; i < n; i++) {
        p->at[i] = p->bytes;
        p->first[i] = p->chunks;
        p->bytes += o->piece_bytes[i];
        p->chunks += chunks_of(o->piece_bytes[i]);
        p->written[i] = o->piece_bytes[i] == 0;
        p->missing += !p->written[i];
    }
    return HTH_OK;
}

int hth_packed_open(struct hth_packed **out, const struct hth_packed_opts *o,
                    struct hth_err *err)
{
    struct hth_packed *p = calloc(1, sizeof *p);
    char hex[HTH_HASH_HEX_SIZE];

    if (p == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for a packed block");
    p->opts = *o;
    if (o->io == NULL)
        p->opts.io = &g_plain;
    p->fd = -1;
    pthread_mutex_init(&p->lock, NULL);
    hth_hash_hex(o->key, hex);
    if (snprintf(p->path, sizeof p->path, "%s/%s", o->dir, hex) >=
        (int)sizeof p->path) {
        hth_packed_close(p);
        return hth_fail(err, HTH_EINVAL, "path too long: %s", o->dir);
    }
    if (lay_out(p, o) != HTH_OK) {
        hth_packed_close(p);
        return hth_fail(err, HTH_ENOMEM, "no memory for a packed block");
    }
    open_whole(p);
    *out = p;
    return HTH_OK;
}

void hth_packed_close(struct hth_packed *p)
{
    if (p == NULL)
        return;
    if (p->fd >= 0) {
        if (!p->whole)
            (void)unlink(p->temp);
        close(p->fd);
    }
    pthread_mutex_destroy(&p->lock);
    free(p->piece_bytes);
    free(p->at);
    free(p->first);
    free(p->written);
    free(p->sums);
    free(p);
}

bool hth_packed_has(struct hth_packed *p, uint32_t piece)
{
    bool has;

    pthread_mutex_lock(&p->lock);
    has = p->whole || (p->fd >= 0 && p->written[piece]);
    pthread_mutex_unlock(&p->lock);
    return has;
}

bool hth_packed_whole(struct hth_packed *p)
{
    bool whole;

    pthread_mutex_lock(&p->lock);
    whole = p->whole;
    pthread_mutex_unlock(&p->lock);
    return whole;
}

const char *hth_packed_path(const struct hth_packed *p)
{
    return p->path;
}

uint64_t hth_packed_bytes(const struct hth_packed *p)
{
    return p->bytes;
}

uint32_t hth_packed_chunks(const struct hth_packed *p, uint32_t piece)
{
    return chunks_of(p->piece_bytes[piece]);
}

uint32_t hth_packed_chunk_bytes(const struct hth_packed *p, uint32_t piece,
                                uint32_t chunk)
{
    uint64_t left =
        p->piece_bytes[piece] - (uint64_t)chunk * HTH_PACKED_CHUNK_BYTES;

    return left < HTH_PACKED_CHUNK_BYTES ? (uint32_t)left
                                         : HTH_PACKED_CHUNK_BYTES;
}

/* ---- writing ------------------------------------------------------------- */

/* A file of the full size under a name of its own: a full disk shows now. */
static int begin(struct hth_packed *p, struct hth_err *err)
{
    char hex[HTH_HASH_HEX_SIZE];
    uint64_t salt;
    int rc;

    if (getrandom(&salt, sizeof salt, 0) != sizeof salt)
        return fail_io(err, "no random numbers for", p->path);
    hth_hash_hex(p->opts.key, hex);
    snprintf(p->temp, sizeof p->temp, "%s/.%s.%08llx", p->opts.dir, hex,
             (unsigned long long)salt & 0xffffffffu);
    p->fd = open_file(p->temp, O_RDWR | O_CREAT | O_EXCL, &p->direct);
    if (p->fd < 0)
        return fail_io(err, "cannot create", p->temp);
    (void)flock(p->fd, LOCK_SH | LOCK_NB);
    rc = posix_fallocate(p->fd, 0, (off_t)p->bytes);
    if (rc == EOPNOTSUPP || rc == EINVAL)
        rc = ftruncate(p->fd, (off_t)p->bytes) == 0 ? 0 : errno;
    if (rc == 0)
        return HTH_OK;
    (void)unlink(p->temp);
    close(p->fd);
    p->fd = -1;
    return hth_fail(err, HTH_EIO,
                    "cannot keep %llu MiB of weights in %s: %s; free some "
                    "space there",
                    (unsigned long long)(p->bytes >> 20) + 1, p->opts.dir,
                    strerror(rc));
}

/* The bytes are on disk before the name is. */
static int commit(struct hth_packed *p, struct hth_err *err)
{
    uint64_t n = hth_packed_header_bytes(&p->opts);
    uint8_t *head = aligned_alloc(HTH_PAGE_BYTES, n);
    struct hth_buf b;
    int rc = HTH_OK;

    hth_buf_init(&b, n);
    put_header(&p->opts, p->sums, &b);
    if (head == NULL || b.failed) {
        rc = hth_fail(err, HTH_ENOMEM, "no memory for a packed block");
    } else {
        memset(head, 0, n);
        memcpy(head, b.data, b.len);
        if (write_full(p, head, n, 0) != 0 || fdatasync(p->fd) != 0)
            rc = fail_io(err, "cannot write", p->temp);
        else if (rename(p->temp, p->path) != 0)
            rc = fail_io(err, "cannot rename to", p->path);
    }
    if (rc == HTH_OK && !p->direct)
        (void)posix_fadvise(p->fd, 0, 0, POSIX_FADV_DONTNEED);
    p->whole = rc == HTH_OK;
    hth_buf_fini(&b);
    free(head);
    return rc;
}

static int ready_to_write(struct hth_packed *p, struct hth_err *err)
{
    int rc = HTH_OK;

    pthread_mutex_lock(&p->lock);
    if (p->fd < 0)
        rc = begin(p, err);
    pthread_mutex_unlock(&p->lock);
    return rc;
}

static int piece_done(struct hth_packed *p, uint32_t piece, struct hth_err *err)
{
    int rc = HTH_OK;

    pthread_mutex_lock(&p->lock);
    if (!p->written[piece]) {
        p->written[piece] = true;
        p->missing--;
        if (p->missing == 0 && !p->whole)
            rc = commit(p, err);
    }
    pthread_mutex_unlock(&p->lock);
    return rc;
}

int hth_packed_write(struct hth_packed *p, uint32_t piece, const void *data,
                     struct hth_err *err)
{
    bool again = hth_packed_has(p, piece);
    int rc = ready_to_write(p, err);

    for (uint32_t c = 0; rc == HTH_OK && c < hth_packed_chunks(p, piece); c++) {
        uint64_t from = (uint64_t)c * HTH_PACKED_CHUNK_BYTES;
        uint32_t n = hth_packed_chunk_bytes(p, piece, c);
        const uint8_t *src = (const uint8_t *)data + from;
        uint32_t sum = hth_checksum(src, n);

        if (again && sum != p->sums[p->first[piece] + c])
            return hth_fail(err, HTH_EHASH,
                            "%s was made from other weights than these; "
                            "delete it",
                            p->path);
        p->sums[p->first[piece] + c] = sum;
        if (write_full(p, src, n, p->at[piece] + from) != 0)
            rc = fail_io(err, "cannot write", p->whole ? p->path : p->temp);
    }
    return rc == HTH_OK && !again ? piece_done(p, piece, err) : rc;
}

/* ---- reading ------------------------------------------------------------- */

int hth_packed_read(struct hth_packed *p, uint32_t piece, uint32_t chunk,
                    void *data, struct hth_err *err)
{
    uint64_t from = (uint64_t)chunk * HTH_PACKED_CHUNK_BYTES;
    uint32_t n = hth_packed_chunk_bytes(p, piece, chunk);
    uint8_t *dst = (uint8_t *)data + from;

    if (read_full(p, dst, n, p->at[piece] + from) != 0)
        return fail_io(err, "cannot read", p->path);
    if (hth_checksum(dst, n) != p->sums[p->first[piece] + chunk])
        return hth_fail(err, HTH_EHASH,
                        "%s is damaged (%u bytes at %llu do not match their "
                        "checksum)",
                        p->path, n, (unsigned long long)(p->at[piece] + from));
    return HTH_OK;
}
