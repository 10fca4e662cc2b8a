/* weights.c - hashing slices of a GGUF once and serving them by hash.
 *
 * A manifest file is hashes and sizes, with its own hash in front: a damaged
 * one is made again. Readers hold a read lock over the index for a lookup
 * only; file reads run outside of it. */
#include "coordinator/weights.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "worker/probe.h"

#define READ_BYTES (1u << 20)
#define HASH_THREADS_MAX 8u
#define PATH_BYTES_MAX 4096u
#define MANIFESTS_KEPT 64u

struct entry {
    uint8_t hash[HTH_HASH_BYTES];
    uint32_t rank, block;
};

struct hth_weights {
    struct hth_weights_opts o;
    pthread_rwlock_t lock; /* guards what follows */
    struct hth_plan plan;
    uint32_t blocks;            /* of a rank */
    struct hth_msg_block *made; /* [ranks][blocks], rank 0 unused */
    struct entry *index;        /* [index_count], by hash */
    uint32_t index_count;
};

int hth_weights_open(struct hth_weights **out,
                     const struct hth_weights_opts *opts, struct hth_err *err)
{
    struct hth_weights *w = calloc(1, sizeof *w);

    if (w == NULL)
        return hth_fail(err, HTH_ENOMEM, "weights: out of memory");
    w->o = *opts;
    w->blocks = hth_shard_blocks(opts->spec);
    pthread_rwlock_init(&w->lock, NULL);
    *out = w;
    return HTH_OK;
}

void hth_weights_close(struct hth_weights *w)
{
    if (w == NULL)
        return;
    pthread_rwlock_destroy(&w->lock);
    free(w->made);
    free(w->index);
    free(w);
}

/* ---- the cache ----------------------------------------------------------- */

/* Everything a rank's blocks depend on, hashed into a file name. */
static int manifest_path(const struct hth_weights *w,
                         const struct hth_plan *plan, uint32_t rank,
                         char path[PATH_BYTES_MAX])
{
    const char *model = hth_gguf_path(w->o.gguf);
    uint8_t digest[HTH_HASH_BYTES];
    char hex[HTH_HASH_HEX_SIZE];
    struct hth_hash *h;
    struct hth_buf b;
    struct stat st;

    if (w->o.state_dir == NULL || stat(model, &st) != 0 ||
        hth_hash_open(&h) != HTH_OK)
        return HTH_ENOTFOUND;
    hth_buf_init(&b, HTH_SETUP_BYTES_MAX);
    hth_put_cstr(&b, model);
    hth_put_u64(&b, hth_gguf_file_bytes(w->o.gguf));
    hth_put_u64(&b, (uint64_t)st.st_mtim.tv_sec);
    hth_put_u64(&b, (uint64_t)st.st_mtim.tv_nsec);
    hth_put_u64(&b, (uint64_t)st.st_ino);
    hth_put_u32(&b, rank);
    hth_spec_encode(w->o.spec, &b);
    hth_plan_encode(plan, &b);
    if (!b.failed)
        hth_hash_update(h, b.data, b.len);
    hth_hash_finish(h, digest);
    hth_hash_close(h);
    hth_hash_hex(digest, hex);
    snprintf(path, PATH_BYTES_MAX, "%.3900s/manifests/%s", w->o.state_dir, hex);
    hth_buf_fini(&b);
    return b.failed ? HTH_ENOMEM : HTH_OK;
}

static void digest_of(const void *p, size_t n, uint8_t out[HTH_HASH_BYTES])
{
    struct hth_hash *h;

    memset(out, 0, HTH_HASH_BYTES);
    if (hth_hash_open(&h) != HTH_OK)
        return;
    hth_hash_update(h, p, n);
    hth_hash_finish(h, out);
    hth_hash_close(h);
}

/* Does a cached list describe exactly the blocks this plan has? */
static bool sizes_match(const struct hth_weights *w,
                        const struct hth_plan *plan, uint32_t rank,
                        const struct hth_msg_block *list)
{
    struct hth_block b;
    uint32_t i;

    for (i = 0; i < w->blocks; i++) {
        hth_shard_block(w->o.spec, plan, rank, i, &b);
        if (list[i].bytes != b.bytes)
            return false;
    }
    return true;
}

static bool load_manifest(const struct hth_weights *w,
                          const struct hth_plan *plan, uint32_t rank,
                          struct hth_msg_block *out)
{
    size_t want = HTH_HASH_BYTES + (size_t)w->blocks * HTH_MSG_BLOCK_BYTES;
    uint8_t *raw = malloc(want + 1), digest[HTH_HASH_BYTES];
    struct hth_msg_command list = {0};
    char path[PATH_BYTES_MAX];
    FILE *f = NULL;
    size_t n = 0;
    uint32_t i;

    if (raw != NULL && manifest_path(w, plan, rank, path) == HTH_OK)
        f = fopen(path, "rbe");
    if (f != NULL) {
        n = fread(raw, 1, want + 1, f);
        fclose(f);
    }
    if (n == want)
        digest_of(raw + HTH_HASH_BYTES, want - HTH_HASH_BYTES, digest);
    if (n != want || memcmp(digest, raw, HTH_HASH_BYTES) != 0) {
        free(raw);
        return false;
    }
    list.blocks =
        (struct hth_blob){raw + HTH_HASH_BYTES, want - HTH_HASH_BYTES};
    for (i = 0; i < w->blocks; i++)
        hth_msg_block_at(&list, i, &out[i]);
    free(raw);
    return sizes_match(w, plan, rank, out);
}

/* A failure to write costs the next start some hashing and nothing else. */
static void save_manifest(const struct hth_weights *w,
                          const struct hth_plan *plan, uint32_t rank,
                          const struct hth_msg_block *list)
{
    char path[PATH_BYTES_MAX], temp[PATH_BYTES_MAX + 8], *slash;
    uint8_t digest[HTH_HASH_BYTES];
    struct hth_buf b;
    uint32_t i;
    FILE *f;
    bool good;

    if (manifest_path(w, plan, rank, path) != HTH_OK)
        return;
    slash = strrchr(path, '/');
    *slash = '\0';
    (void)mkdir(path, 0700);
    *slash = '/';
    hth_buf_init(&b, HTH_BLOCKS_MAX * HTH_MSG_BLOCK_BYTES);
    for (i = 0; i < w->blocks; i++)
        hth_msg_put_block(&b, &list[i]);
    snprintf(temp, sizeof temp, "%s.part", path);
    f = b.failed ? NULL : fopen(temp, "wbe");
    if (f != NULL) {
        digest_of(b.data, b.len, digest);
        good = fwrite(digest, 1, sizeof digest, f) == sizeof digest &&
               fwrite(b.data, 1, b.len, f) == b.len;
        if (fclose(f) != 0 || !good || rename(temp, path) != 0)
            (void)unlink(temp);
    }
    hth_buf_fini(&b);
}

/* Plans come and go; the cache of what they hashed must not grow for ever. */
static void trim_cache(const struct hth_weights *w)
{
    char path[PATH_BYTES_MAX];
    struct dirent *d;
    uint32_t n = 0;
    DIR *dir;

    if (w->o.state_dir == NULL)
        return;
    snprintf(path, sizeof path, "%.3900s/manifests", w->o.state_dir);
    dir = opendir(path);
    if (dir == NULL)
        return;
    while (readdir(dir) != NULL)
        n++;
    rewinddir(dir);
    while (n > MANIFESTS_KEPT + 2 && (d = readdir(dir)) != NULL)
        if (d->d_name[0] != '.')
            (void)unlinkat(dirfd(dir), d->d_name, 0);
    closedir(dir);
}

/* ---- hashing ------------------------------------------------------------- */

/* Blocks are dealt to threads by a counter, so that one slow read holds up
 * only itself. */
struct job {
    struct hth_weights *w;
    const struct hth_plan *plan;
    struct hth_msg_block *made; /* [ranks][blocks] */
    const bool *todo;           /* [ranks] */
    atomic_uint next;
    atomic_int status;
    pthread_mutex_t lock; /* guards err */
    struct hth_err err;
};

static void job_fail(struct job *j, int status, const struct hth_err *err)
{
    pthread_mutex_lock(&j->lock);
    if (atomic_load(&j->status) == HTH_OK) {
        j->err = *err;
        atomic_store(&j->status, status);
    }
    pthread_mutex_unlock(&j->lock);
}

static int hash_block(struct job *j, struct hth_hash *h, uint8_t *io,
                      uint32_t item, struct hth_err *err)
{
    struct hth_weights *w = j->w;
    struct hth_msg_block *out = &j->made[item];
    struct hth_block b;
    uint64_t at;
    size_t n;
    int status;

    hth_shard_block(w->o.spec, j->plan, item / w->blocks, item % w->blocks, &b);
    out->bytes = b.bytes;
    memset(out->hash, 0, sizeof out->hash);
    if (b.bytes == 0)
        return HTH_OK;
    for (at = 0; at < b.bytes; at += n) {
        if (atomic_load(w->o.stop))
            return hth_fail(err, HTH_ECANCELLED, "stopped");
        n = b.bytes - at < READ_BYTES ? (size_t)(b.bytes - at) : READ_BYTES;
        status = hth_block_read(w->o.gguf, w->o.spec, &b,
                                (struct hth_read){at, io, n}, err);
        if (status != HTH_OK)
            return status;
        hth_hash_update(h, io, n);
    }
    hth_hash_finish(h, out->hash);
    return HTH_OK;
}

static void *hash_main(void *arg)
{
    struct job *j = arg;
    uint32_t items = j->plan->ranks * j->w->blocks, item;
    uint8_t *io = malloc(READ_BYTES);
    struct hth_hash *h = NULL;
    struct hth_err err = {0};
    int status = HTH_OK;

    if (io == NULL || hth_hash_open(&h) != HTH_OK)
        status = hth_fail(&err, HTH_ENOMEM, "hashing: out of memory");
    while (status == HTH_OK && atomic_load(&j->status) == HTH_OK) {
        item = atomic_fetch_add(&j->next, 1);
        if (item >= items)
            break;
        if (j->todo[item / j->w->blocks])
            status = hash_block(j, h, io, item, &err);
    }
    if (status != HTH_OK)
        job_fail(j, status, &err);
    hth_hash_close(h);
    free(io);
    return NULL;
}

static int hash_all(struct job *j, struct hth_err *err)
{
    pthread_t thread[HASH_THREADS_MAX];
    uint32_t want = hth_probe_cores(), n = 0;

    want = want < HASH_THREADS_MAX ? want : HASH_THREADS_MAX;
    while (n + 1 < want && pthread_create(&thread[n], NULL, hash_main, j) == 0)
        n++;
    hash_main(j);
    while (n > 0)
        pthread_join(thread[--n], NULL);
    if (atomic_load(&j->status) != HTH_OK)
        return hth_fail(err, atomic_load(&j->status), "%s", j->err.text);
    return HTH_OK;
}

/* ---- the session's manifests --------------------------------------------- */

/* By hash, then rank: ranks may own equal blocks, each asks for its own. */
static int by_hash(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    int order = memcmp(x->hash, y->hash, HTH_HASH_BYTES);

    if (order != 0)
        return order;
    return x->rank < y->rank ? -1 : x->rank > y->rank;
}

static struct entry *make_index(const struct hth_weights *w, uint32_t ranks,
                                const struct hth_msg_block *made, uint32_t *n)
{
    struct entry *e = calloc((size_t)ranks * w->blocks, sizeof *e);
    uint32_t i;

    *n = 0;
    if (e == NULL)
        return NULL;
    for (i = w->blocks; i < ranks * w->blocks; i++) {
        if (made[i].bytes == 0)
            continue;
        memcpy(e[*n].hash, made[i].hash, HTH_HASH_BYTES);
        e[*n].rank = i / w->blocks;
        e[*n].block = i % w->blocks;
        (*n)++;
    }
    qsort(e, *n, sizeof *e, by_hash);
    return e;
}

static int make_manifests(struct hth_weights *w, const struct hth_plan *plan,
                          struct hth_msg_block *made, struct hth_err *err)
{
    bool todo[HTH_RANKS_MAX] = {false};
    struct job j = {.w = w, .plan = plan, .made = made, .todo = todo};
    uint32_t r, hashed = 0;
    int status;

    for (r = 1; r < plan->ranks; r++) {
        todo[r] = !load_manifest(w, plan, r, made + (size_t)r * w->blocks);
        hashed += todo[r];
    }
    if (hashed == 0)
        return HTH_OK;
    hth_log(HTH_LOG_INFO, "HASHING", "ranks=%u: reading the model's slices",
            hashed);
    pthread_mutex_init(&j.lock, NULL);
    status = hash_all(&j, err);
    pthread_mutex_destroy(&j.lock);
    for (r = 1; status == HTH_OK && r < plan->ranks; r++)
        if (todo[r])
            save_manifest(w, plan, r, made + (size_t)r * w->blocks);
    trim_cache(w);
    return status;
}

int hth_weights_prepare(struct hth_weights *w, const struct hth_plan *plan,
                        struct hth_err *err)
{
    struct hth_msg_block *made, *old_made;
    struct entry *index, *old_index;
    uint32_t n = 0;
    int status;

    made = calloc((size_t)plan->ranks * w->blocks, sizeof *made);
    if (made == NULL)
        return hth_fail(err, HTH_ENOMEM, "weights: out of memory");
    status = make_manifests(w, plan, made, err);
    index = status == HTH_OK ? make_index(w, plan->ranks, made, &n) : NULL;
    if (index == NULL) {
        free(made);
        return status != HTH_OK
                   ? status
                   : hth_fail(err, HTH_ENOMEM, "weights: out of memory");
    }
    pthread_rwlock_wrlock(&w->lock);
    old_made = w->made;
    old_index = w->index;
    w->made = made;
    w->index = index;
    w->index_count = n;
    w->plan = *plan;
    pthread_rwlock_unlock(&w->lock);
    free(old_made);
    free(old_index);
    return HTH_OK;
}

void hth_weights_manifest(struct hth_weights *w, uint32_t rank,
                          struct hth_buf *out)
{
    uint32_t i;

    pthread_rwlock_rdlock(&w->lock);
    HTH_ASSERT(w->made != NULL && rank > 0 && rank < w->plan.ranks);
    for (i = 0; i < w->blocks; i++)
        hth_msg_put_block(out, &w->made[(size_t)rank * w->blocks + i]);
    pthread_rwlock_unlock(&w->lock);
}

void hth_weights_forget(struct hth_weights *w)
{
    char path[PATH_BYTES_MAX];
    uint32_t r;

    pthread_rwlock_rdlock(&w->lock);
    for (r = 1; r < w->plan.ranks; r++)
        if (manifest_path(w, &w->plan, r, path) == HTH_OK)
            (void)unlink(path);
    pthread_rwlock_unlock(&w->lock);
}

int hth_weights_read(struct hth_weights *w, uint32_t rank,
                     const struct hth_msg_chunk *chunk, void *dst,
                     struct hth_err *err)
{
    struct entry key = {.rank = rank}, *e = NULL;
    struct hth_block b;

    memcpy(key.hash, chunk->hash, sizeof key.hash);
    pthread_rwlock_rdlock(&w->lock);
    if (w->index_count > 0)
        e = bsearch(&key, w->index, w->index_count, sizeof *e, by_hash);
    if (e != NULL)
        hth_shard_block(w->o.spec, &w->plan, e->rank, e->block, &b);
    pthread_rwlock_unlock(&w->lock);
    if (e == NULL)
        return hth_fail(err, HTH_ENOTFOUND,
                        "that block is not part of the current session");
    if (chunk->length > b.bytes || chunk->offset > b.bytes - chunk->length)
        return hth_fail(err, HTH_EINVAL, "beyond the end of the block");
    return hth_block_read(w->o.gguf, w->o.spec, &b,
                          (struct hth_read){chunk->offset, dst, chunk->length},
                          err);
}
