/* kept.c - the list of contexts on disk, and their files. */
#include "coordinator/kept.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cursor.h"
#include "base/log.h"

#define MAGIC 0x585443u    /* "CTX" */
#define VERSION 1u         /* of variant 0 */
#define VERSION_VARIANT 2u /* the variant after the head */
#define HEAD_BYTES (12u + HTH_HASH_BYTES)
#define FILE_BYTES_MAX (HEAD_BYTES + 8u + 4u * HTH_CTX_MAX + HTH_HASH_BYTES)
#define PATH_BYTES_MAX 4096u
#define ENTRIES_MAX 65536u /* of a folder, looked at */

struct context {
    uint64_t key;
    uint32_t *tokens; /* [count] */
    uint32_t count;
    uint64_t variant;
};

struct hth_kept {
    char dir[PATH_BYTES_MAX];
    uint8_t fingerprint[HTH_HASH_BYTES];
    struct context v[HTH_KEPT_MAX]; /* [n], the oldest first */
    uint32_t n;
};

static int hash_of(const void *a, size_t an, const void *b, size_t bn,
                   uint8_t out[HTH_HASH_BYTES])
{
    struct hth_hash *h;
    int rc = hth_hash_open(&h);

    if (rc != HTH_OK)
        return rc;
    hth_hash_update(h, a, an);
    if (bn > 0)
        hth_hash_update(h, b, bn);
    hth_hash_finish(h, out);
    hth_hash_close(h);
    return HTH_OK;
}

/* ---- files --------------------------------------------------------------- */

int hth_kept_decode(const uint8_t *p, size_t n,
                    const uint8_t fingerprint[HTH_HASH_BYTES],
                    struct hth_kept_text *out, struct hth_err *err)
{
    uint8_t hash[HTH_HASH_BYTES];
    uint32_t words, version;
    size_t head = HEAD_BYTES;

    if (n < HEAD_BYTES + HTH_HASH_BYTES || hth_load_u32(p) != MAGIC)
        return hth_fail(err, HTH_EFORMAT, "it is no context");
    version = hth_load_u32(p + 4);
    head += version == VERSION_VARIANT ? 8 : 0;
    if (version != VERSION && version != VERSION_VARIANT)
        return hth_fail(err, HTH_EFORMAT, "it is no context of this version");
    words = hth_load_u32(p + 8);
    if (words == 0 || words > HTH_CTX_MAX ||
        n != head + 4u * (size_t)words + HTH_HASH_BYTES)
        return hth_fail(err, HTH_EFORMAT, "its length does not fit");
    if (memcmp(p + 12, fingerprint, HTH_HASH_BYTES) != 0)
        return hth_fail(err, HTH_EUNSUPPORTED,
                        "it is of another model or plan");
    if (hash_of(p, n - HTH_HASH_BYTES, NULL, 0, hash) != HTH_OK ||
        memcmp(hash, p + n - HTH_HASH_BYTES, sizeof hash) != 0)
        return hth_fail(err, HTH_EHASH, "its checksum does not agree");
    out->tokens = malloc(words * sizeof *out->tokens);
    if (out->tokens == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for it");
    for (uint32_t i = 0; i < words; i++)
        out->tokens[i] = hth_load_u32(p + head + 4u * (size_t)i);
    out->count = words;
    out->variant = head > HEAD_BYTES ? hth_load_u64(p + HEAD_BYTES) : 0;
    return HTH_OK;
}

static void path_of(const struct hth_kept *k, uint64_t key, const char *end,
                    char *out)
{
    snprintf(out, PATH_BYTES_MAX, "%.4000s/%016llx.ctx%s", k->dir,
             (unsigned long long)key, end);
}

static int write_file(const struct hth_kept *k, const struct context *c)
{
    char path[PATH_BYTES_MAX], part[PATH_BYTES_MAX];
    uint8_t hash[HTH_HASH_BYTES];
    struct hth_buf b;
    FILE *f;
    bool ok;

    hth_buf_init(&b, FILE_BYTES_MAX);
    hth_put_u32(&b, MAGIC);
    hth_put_u32(&b, c->variant != 0 ? VERSION_VARIANT : VERSION);
    hth_put_u32(&b, c->count);
    hth_put_bytes(&b, k->fingerprint, sizeof k->fingerprint);
    if (c->variant != 0)
        hth_put_u64(&b, c->variant);
    for (uint32_t i = 0; i < c->count; i++)
        hth_put_u32(&b, c->tokens[i]);
    ok = !b.failed && hash_of(b.data, b.len, NULL, 0, hash) == HTH_OK;
    hth_put_bytes(&b, hash, sizeof hash);
    path_of(k, c->key, "", path);
    path_of(k, c->key, ".part", part);
    f = ok ? fopen(part, "wbe") : NULL;
    ok = f != NULL && fwrite(b.data, 1, b.len, f) == b.len;
    if (f != NULL && fclose(f) != 0)
        ok = false;
    ok = ok && rename(part, path) == 0;
    if (!ok)
        (void)unlink(part);
    hth_buf_fini(&b);
    return ok ? HTH_OK : HTH_EIO;
}

static int read_file(const char *path, uint8_t **out, size_t *n)
{
    FILE *f = fopen(path, "rbe");
    struct stat st;
    int rc = HTH_EIO;

    *out = NULL;
    if (f != NULL && fstat(fileno(f), &st) == 0 && st.st_size > 0 &&
        (uint64_t)st.st_size <= FILE_BYTES_MAX) {
        *n = (size_t)st.st_size;
        *out = malloc(*n);
        if (*out != NULL && fread(*out, 1, *n, f) == *n)
            rc = HTH_OK;
    }
    if (f != NULL)
        fclose(f);
    return rc;
}

/* ---- the list ------------------------------------------------------------ */

static void take_out(struct hth_kept *k, uint32_t i)
{
    free(k->v[i].tokens);
    k->n--;
    memmove(&k->v[i], &k->v[i + 1], (k->n - i) * sizeof k->v[0]);
}

static void forget_at(struct hth_kept *k, uint32_t i)
{
    char path[PATH_BYTES_MAX];

    path_of(k, k->v[i].key, "", path);
    (void)unlink(path);
    take_out(k, i);
}

/* Takes the tokens. */
static void take_in(struct hth_kept *k, const struct hth_kept_text *t)
{
    struct hth_context c = {t->tokens, t->count, t->variant};

    if (k->n == HTH_KEPT_MAX)
        forget_at(k, 0);
    k->v[k->n++] =
        (struct context){hth_kept_key(k, &c), t->tokens, t->count, t->variant};
}

static void load_one(struct hth_kept *k, const char *name)
{
    char path[PATH_BYTES_MAX];
    struct hth_err err = {0};
    struct hth_kept_text text;
    uint8_t *bytes;
    size_t n;
    int rc;

    snprintf(path, sizeof path, "%.3800s/%.255s", k->dir, name);
    rc = read_file(path, &bytes, &n);
    if (rc != HTH_OK)
        hth_fail(&err, rc, "it cannot be read");
    else
        rc = hth_kept_decode(bytes, n, k->fingerprint, &text, &err);
    free(bytes);
    if (rc == HTH_OK)
        take_in(k, &text);
    else if (rc != HTH_EUNSUPPORTED)
        hth_log(HTH_LOG_WARN, "CONTEXT-IGNORED", "%s: %s", path, err.text);
}

int hth_kept_open(struct hth_kept **out, const char *dir,
                  const uint8_t fingerprint[HTH_HASH_BYTES],
                  struct hth_err *err)
{
    struct hth_kept *k = calloc(1, sizeof *k);
    DIR *d;

    if (k == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for the list of contexts");
    snprintf(k->dir, sizeof k->dir, "%s", dir);
    memcpy(k->fingerprint, fingerprint, sizeof k->fingerprint);
    (void)mkdir(dir, 0700);
    d = opendir(dir);
    if (d == NULL) {
        free(k);
        return hth_fail(err, HTH_EIO, "cannot open --kv-dir %.200s: %s", dir,
                        strerror(errno));
    }
    for (uint32_t i = 0; i < ENTRIES_MAX && k->n < HTH_KEPT_MAX; i++) {
        const struct dirent *entry = readdir(d);

        if (entry == NULL)
            break;
        if (strlen(entry->d_name) == 20 &&
            strcmp(entry->d_name + 16, ".ctx") == 0)
            load_one(k, entry->d_name);
    }
    closedir(d);
    *out = k;
    return HTH_OK;
}

void hth_kept_close(struct hth_kept *k)
{
    if (k == NULL)
        return;
    while (k->n > 0)
        take_out(k, k->n - 1);
    free(k);
}

static uint32_t common(const struct context *c, const struct hth_context *t)
{
    uint32_t same = 0;

    if (c->variant != t->variant)
        return 0;
    while (same < t->n && same < c->count && c->tokens[same] == t->tokens[same])
        same++;
    return same;
}

uint32_t hth_kept_match(const struct hth_kept *k, const struct hth_context *c,
                        uint64_t *key, uint32_t *count)
{
    uint32_t best = 0;

    for (uint32_t i = 0; i < k->n; i++) {
        uint32_t same = common(&k->v[i], c);

        if (same <= best)
            continue;
        best = same;
        *key = k->v[i].key;
        *count = k->v[i].count;
    }
    return best;
}

const uint32_t *hth_kept_tokens(const struct hth_kept *k, uint64_t key)
{
    for (uint32_t i = 0; i < k->n; i++)
        if (k->v[i].key == key)
            return k->v[i].tokens;
    return NULL;
}

uint64_t hth_kept_key(const struct hth_kept *k, const struct hth_context *c)
{
    uint8_t hash[HTH_HASH_BYTES] = {0}, of[HTH_HASH_BYTES + 8];

    memcpy(of, k->fingerprint, HTH_HASH_BYTES);
    hth_store_u64(of + HTH_HASH_BYTES, c->variant);
    if (hash_of(of, c->variant != 0 ? sizeof of : HTH_HASH_BYTES, c->tokens,
                (size_t)c->n * sizeof *c->tokens, hash) != HTH_OK)
        return 0;
    return hth_load_u64(hash);
}

int hth_kept_add(struct hth_kept *k, const struct hth_context *c,
                 struct hth_err *err)
{
    size_t bytes = (size_t)c->n * sizeof *c->tokens;
    struct hth_kept_text copy = {malloc(bytes), c->n, c->variant};

    if (copy.tokens == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for a context");
    memcpy(copy.tokens, c->tokens, bytes);
    for (uint32_t i = k->n; i-- > 0;)
        if (common(&k->v[i], c) == k->v[i].count)
            forget_at(k, i);
    take_in(k, &copy);
    if (write_file(k, &k->v[k->n - 1]) == HTH_OK)
        return HTH_OK;
    take_out(k, k->n - 1);
    return hth_fail(err, HTH_EIO, "cannot write to %.200s: %s", k->dir,
                    strerror(errno));
}

void hth_kept_forget(struct hth_kept *k, uint64_t key)
{
    for (uint32_t i = 0; i < k->n; i++)
        if (k->v[i].key == key) {
            forget_at(k, i);
            return;
        }
}
