/* kv_file.c - writing and reading contexts. The bytes pass through a hash on
 * their way; a file counts only when the hash at its end agrees. Files are not
 * synced: one that a power cut left incomplete fails its hash. */
#include "worker/kv_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cursor.h"
#include "base/hash.h"

#define MAGIC 0x564b48u /* "HKV" */
#define VERSION 1u
#define PATH_BYTES_MAX 4096u
#define ENTRIES_MAX 65536u /* of a folder, looked at */

void hth_kv_file_put(const struct hth_kv_file *f,
                     uint8_t out[HTH_KV_FILE_HEAD_BYTES])
{
    const uint32_t words[] = {f->rank,     f->layers, f->heads,
                              f->head_dim, f->type,   f->positions};

    hth_store_u32(out, MAGIC);
    hth_store_u32(out + 4, VERSION);
    hth_store_u64(out + 8, f->key);
    for (uint32_t i = 0; i < 6; i++)
        hth_store_u32(out + 16 + 4 * i, words[i]);
    hth_store_u32(out + 40, HTH_KV_BLOCK_POSITIONS);
}

int hth_kv_file_check(const struct hth_kv_file *want, const uint8_t *head,
                      size_t n, struct hth_err *err)
{
    uint8_t expected[HTH_KV_FILE_HEAD_BYTES];

    if (n < HTH_KV_FILE_HEAD_BYTES || hth_load_u32(head) != MAGIC)
        return hth_fail(err, HTH_EFORMAT, "it is no context of hearth's");
    if (hth_load_u32(head + 4) != VERSION)
        return hth_fail(err, HTH_EFORMAT, "it has version %u, this is %u",
                        hth_load_u32(head + 4), VERSION);
    hth_kv_file_put(want, expected);
    if (memcmp(head, expected, sizeof expected) != 0)
        return hth_fail(err, HTH_EFORMAT,
                        "it is of another model, plan or length");
    return HTH_OK;
}

/* ---- streams ------------------------------------------------------------- */

/* A file whose bytes are hashed as they pass. */
struct stream {
    FILE *file;
    struct hth_hash *hash;
    uint8_t *rows; /* of one layer and head: K, then V */
    size_t row_bytes, part_bytes;
};

static int open_stream(struct stream *s, const struct hth_kv *kv,
                       const struct hth_kv_file *f, struct hth_err *err)
{
    s->row_bytes = hth_kv_row_bytes(kv);
    s->part_bytes = s->row_bytes * f->positions;
    s->rows = malloc(2 * s->part_bytes + 1);
    if (s->rows == NULL || hth_hash_open(&s->hash) != HTH_OK)
        return hth_fail(err, HTH_ENOMEM, "no memory for a context's file");
    return HTH_OK;
}

static void close_stream(struct stream *s)
{
    if (s->file != NULL)
        fclose(s->file);
    hth_hash_close(s->hash);
    free(s->rows);
}

static int put(struct stream *s, const void *p, size_t n)
{
    hth_hash_update(s->hash, p, n);
    return fwrite(p, 1, n, s->file) == n ? HTH_OK : HTH_EIO;
}

static int get(struct stream *s, void *p, size_t n)
{
    if (fread(p, 1, n, s->file) != n)
        return HTH_EIO;
    hth_hash_update(s->hash, p, n);
    return HTH_OK;
}

static int name_file(char *out, const char *dir, const struct hth_kv_file *f,
                     const char *end)
{
    int n = snprintf(out, PATH_BYTES_MAX, "%s/%016llx-%u.kv%s", dir,
                     (unsigned long long)f->key, f->rank, end);

    return n > 0 && (size_t)n < PATH_BYTES_MAX ? HTH_OK : HTH_ELIMIT;
}

/* ---- saving -------------------------------------------------------------- */

static int put_rows(struct stream *s, const struct hth_kv *kv, uint32_t slot,
                    const struct hth_kv_file *f)
{
    struct hth_kv_rows rows = {f->positions, s->rows, s->rows + s->part_bytes};
    int rc = HTH_OK;

    for (uint32_t l = 0; rc == HTH_OK && l < f->layers; l++)
        for (uint32_t h = 0; rc == HTH_OK && h < f->heads; h++) {
            struct hth_kv_at at = {l, h, 0};

            hth_kv_export(kv, slot, &at, &rows);
            rc = put(s, s->rows, 2 * s->part_bytes);
        }
    return rc;
}

static int put_all(struct stream *s, const struct hth_kv *kv, uint32_t slot,
                   const struct hth_kv_file *f)
{
    uint8_t head[HTH_KV_FILE_HEAD_BYTES], hash[HTH_HASH_BYTES];
    int rc;

    hth_kv_file_put(f, head);
    rc = put(s, head, sizeof head);
    if (rc == HTH_OK)
        rc = put_rows(s, kv, slot, f);
    hth_hash_finish(s->hash, hash);
    if (rc == HTH_OK && fwrite(hash, 1, sizeof hash, s->file) != sizeof hash)
        rc = HTH_EIO;
    if (fclose(s->file) != 0)
        rc = HTH_EIO;
    s->file = NULL;
    return rc;
}

/* The file of this rank that was used longest ago, and how many there are. */
static uint32_t oldest(const char *dir, uint32_t rank, char *out)
{
    DIR *d = opendir(dir);
    struct timespec least = {0};
    struct dirent *entry;
    char end[32], path[PATH_BYTES_MAX];
    uint32_t count = 0;

    snprintf(end, sizeof end, "-%u.kv", rank);
    for (uint32_t i = 0; d != NULL && i < ENTRIES_MAX; i++) {
        struct stat st;
        size_t n, m = strlen(end);

        entry = readdir(d);
        if (entry == NULL)
            break;
        n = strlen(entry->d_name);
        if (n != 16 + m || strcmp(entry->d_name + 16, end) != 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
        if (stat(path, &st) != 0)
            continue;
        if (count++ == 0 || st.st_mtim.tv_sec < least.tv_sec ||
            (st.st_mtim.tv_sec == least.tv_sec &&
             st.st_mtim.tv_nsec < least.tv_nsec)) {
            least = st.st_mtim;
            snprintf(out, PATH_BYTES_MAX, "%s", path);
        }
    }
    if (d != NULL)
        closedir(d);
    return count;
}

static void prune(const char *dir, uint32_t rank)
{
    char path[PATH_BYTES_MAX];

    for (uint32_t i = 0; i < HTH_KEPT_MAX; i++)
        if (oldest(dir, rank, path) <= HTH_KEPT_MAX || unlink(path) != 0)
            return;
}

int hth_kv_file_save(const struct hth_kv *kv, uint32_t slot,
                     const struct hth_kv_file *f, const char *dir,
                     struct hth_err *err)
{
    char path[PATH_BYTES_MAX], part[PATH_BYTES_MAX];
    struct stream s = {0};
    int rc = name_file(path, dir, f, "");

    if (rc == HTH_OK)
        rc = name_file(part, dir, f, ".part");
    if (rc != HTH_OK)
        return hth_fail(err, rc, "the path %.80s is too long", dir);
    (void)mkdir(dir, 0700);
    rc = open_stream(&s, kv, f, err);
    if (rc == HTH_OK) {
        s.file = fopen(part, "wbe");
        rc = s.file != NULL ? put_all(&s, kv, slot, f) : HTH_EIO;
        if (rc == HTH_OK && rename(part, path) != 0)
            rc = HTH_EIO;
        if (rc != HTH_OK) {
            hth_fail(err, rc, "cannot write %.160s: %s", path, strerror(errno));
            (void)unlink(part);
        }
    }
    close_stream(&s);
    prune(dir, f->rank);
    return rc;
}

/* ---- loading ------------------------------------------------------------- */

static int get_rows(struct stream *s, struct hth_kv *kv, uint32_t slot,
                    const struct hth_kv_file *f)
{
    struct hth_kv_rows rows = {f->positions, s->rows, s->rows + s->part_bytes};
    int rc = HTH_OK;

    for (uint32_t l = 0; rc == HTH_OK && l < f->layers; l++)
        for (uint32_t h = 0; rc == HTH_OK && h < f->heads; h++) {
            struct hth_kv_at at = {l, h, 0};

            rc = get(s, s->rows, 2 * s->part_bytes);
            if (rc == HTH_OK)
                hth_kv_import(kv, slot, &at, &rows);
        }
    return rc;
}

static int get_all(struct stream *s, struct hth_kv *kv, uint32_t slot,
                   const struct hth_kv_file *f, struct hth_err *err)
{
    uint8_t head[HTH_KV_FILE_HEAD_BYTES], own[HTH_HASH_BYTES];
    uint8_t hash[HTH_HASH_BYTES];
    int rc;

    if (get(s, head, sizeof head) != HTH_OK)
        return hth_fail(err, HTH_EFORMAT, "it is too short");
    rc = hth_kv_file_check(f, head, sizeof head, err);
    if (rc == HTH_OK)
        rc = hth_kv_own(kv, slot, 0, f->positions, err);
    if (rc != HTH_OK)
        return rc;
    if (get_rows(s, kv, slot, f) != HTH_OK)
        return hth_fail(err, HTH_EFORMAT, "it is too short");
    hth_hash_finish(s->hash, own);
    if (fread(hash, 1, sizeof hash, s->file) != sizeof hash ||
        fgetc(s->file) != EOF || memcmp(own, hash, sizeof hash) != 0)
        return hth_fail(err, HTH_EHASH, "its checksum does not agree");
    return HTH_OK;
}

int hth_kv_file_load(struct hth_kv *kv, uint32_t slot,
                     const struct hth_kv_file *f, const char *dir,
                     struct hth_err *err)
{
    char path[PATH_BYTES_MAX];
    struct hth_err why = {0};
    struct stream s = {0};
    int rc = name_file(path, dir, f, "");

    if (rc != HTH_OK)
        return hth_fail(err, rc, "the path %.80s is too long", dir);
    rc = open_stream(&s, kv, f, err);
    if (rc == HTH_OK) {
        s.file = fopen(path, "rbe");
        if (s.file == NULL)
            rc = hth_fail(err, HTH_ENOTFOUND, "there is no %.160s", path);
    }
    if (rc == HTH_OK) {
        rc = get_all(&s, kv, slot, f, &why);
        if (rc == HTH_OK)
            (void)futimens(fileno(s.file), NULL);
        else
            hth_fail(err, rc, "%.160s is not used: %s", path, why.text);
    }
    close_stream(&s);
    if (rc != HTH_OK)
        hth_kv_truncate(kv, slot, 0);
    return rc;
}
