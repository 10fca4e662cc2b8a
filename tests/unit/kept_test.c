/* kept_test.c - contexts on disk: a restart finds them on every rank, and what
 * was changed on disk is never computed with. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rng.h"
#include "coordinator/kept.h"
#include "engine_rig.h"
#include "folder.h"
#include "kernels/type.h"
#include "worker/kv_file.h"

#define PATIENCE_MS 30000u

/* ---- one rank's file ------------------------------------------------------
 */

#define POSITIONS 70u

struct sample {
    struct folder f;
    struct hth_kv *kv;
    struct hth_kv_file file;
    char path[192];
};

static void store_all(struct sample *s)
{
    struct hth_rng rng;
    struct hth_err err;
    float k[32], v[32];

    hth_rng_init(&rng, 1);
    cr_assert_eq(hth_kv_own(s->kv, 3, 0, POSITIONS, &err), 0);
    for (uint32_t i = 0; i < 2 * 3 * POSITIONS; i++) {
        struct hth_kv_at at = {i / (3 * POSITIONS), i / POSITIONS % 3,
                               i % POSITIONS};

        for (uint32_t d = 0; d < 32; d++) {
            k[d] = hth_rng_normal(&rng);
            v[d] = hth_rng_normal(&rng);
        }
        hth_kv_store(s->kv, 3, &at, k, v);
    }
}

static void sample_open(struct sample *s, uint32_t type)
{
    struct hth_kv_opts o = {
        .layers = 2, .heads = 3, .head_dim = 32, .type = type, .ctx_max = 100};
    struct hth_err err;

    folder_init(&s->f);
    cr_assert_eq(hth_kv_open(&s->kv, &o, &err), 0, "%s", err.text);
    store_all(s);
    s->file = (struct hth_kv_file){.key = 0x1234,
                                   .rank = 2,
                                   .layers = 2,
                                   .heads = 3,
                                   .head_dim = 32,
                                   .type = type,
                                   .positions = POSITIONS};
    cr_assert_eq(hth_kv_file_save(s->kv, 3, &s->file, s->f.dir, &err), 0, "%s",
                 err.text);
    snprintf(s->path, sizeof s->path, "%s",
             folder_path(&s->f, "0000000000001234-2.kv"));
}

static void sample_close(struct sample *s)
{
    hth_kv_close(s->kv);
    folder_fini(&s->f);
}

static void *rows_of(const struct sample *s, uint32_t slot, size_t *n)
{
    size_t part = hth_kv_row_bytes(s->kv) * POSITIONS;
    uint8_t *all = calloc(6, 2 * part);

    for (uint32_t i = 0; i < 6; i++) {
        struct hth_kv_at at = {i / 3, i % 3, 0};
        struct hth_kv_rows rows = {POSITIONS, all + 2 * part * i,
                                   all + 2 * part * i + part};

        hth_kv_export(s->kv, slot, &at, &rows);
    }
    *n = 12 * part;
    return all;
}

static void comes_back(uint32_t type)
{
    struct sample s;
    struct hth_err err;
    uint8_t *a, *b;
    size_t n;

    sample_open(&s, type);
    cr_assert_eq(hth_kv_file_load(s.kv, 7, &s.file, s.f.dir, &err), 0, "%s",
                 err.text);
    cr_assert_eq(hth_kv_positions(s.kv, 7), POSITIONS);
    a = rows_of(&s, 3, &n);
    b = rows_of(&s, 7, &n);
    cr_assert_eq(memcmp(a, b, n), 0);
    free(a);
    free(b);
    sample_close(&s);
}

Test(kv_file, comes_back_bit_by_bit)
{
    comes_back(HTH_F32);
    comes_back(HTH_F16);
    comes_back(HTH_Q8_0);
}

static void flip(const char *path, long at)
{
    FILE *f = fopen(path, "r+b");
    int c;

    cr_assert_not_null(f);
    fseek(f, at, SEEK_SET);
    c = fgetc(f);
    fseek(f, at, SEEK_SET);
    fputc(c ^ 0x10, f);
    fclose(f);
}

static long size_of(const char *path)
{
    struct stat st;

    cr_assert_eq(stat(path, &st), 0);
    return (long)st.st_size;
}

static void refused(struct sample *s, const char *what)
{
    struct hth_err err;
    int rc = hth_kv_file_load(s->kv, 7, &s->file, s->f.dir, &err);

    cr_assert(rc == HTH_EHASH || rc == HTH_EFORMAT, "%s: %d", what, rc);
    cr_assert_eq(hth_kv_positions(s->kv, 7), 0, "%s", what);
    cr_assert_not_null(strstr(err.text, "not used"), "%s", err.text);
}

Test(kv_file, what_was_changed_is_refused)
{
    struct sample s;
    struct hth_err err;
    long size;

    sample_open(&s, HTH_F16);
    size = size_of(s.path);
    for (long at = 0; at < size; at += at < 100 || at > size - 40 ? 1 : 997) {
        flip(s.path, at);
        refused(&s, "a flipped bit");
        flip(s.path, at);
    }
    cr_assert_eq(hth_kv_file_load(s.kv, 7, &s.file, s.f.dir, &err), 0);
    hth_kv_truncate(s.kv, 7, 0);
    cr_assert_eq(truncate(s.path, size + 1), 0);
    refused(&s, "a byte too many");
    for (long n = size - 1; n > 0; n = n * 2 / 3) {
        cr_assert_eq(truncate(s.path, n), 0);
        refused(&s, "cut");
    }
    unlink(s.path);
    cr_assert_eq(hth_kv_file_load(s.kv, 7, &s.file, s.f.dir, &err),
                 HTH_ENOTFOUND);
    sample_close(&s);
}

Test(kv_file, of_something_else_is_refused)
{
    struct sample s;
    struct hth_kv_file right;

    sample_open(&s, HTH_F16);
    right = s.file;
    s.file.positions--;
    refused(&s, "positions");
    s.file = right;
    s.file.head_dim = 16;
    refused(&s, "head_dim");
    s.file = right;
    s.file.layers = 1;
    refused(&s, "layers");
    sample_close(&s);
}

Test(kv_file, keeps_a_bounded_number)
{
    struct sample s;
    struct hth_err err;

    sample_open(&s, HTH_F16);
    for (uint64_t i = 0; i < HTH_KEPT_MAX + 5; i++) {
        s.file.key = 0x1000000 + i;
        cr_assert_eq(hth_kv_file_save(s.kv, 3, &s.file, s.f.dir, &err), 0);
    }
    cr_assert_eq(folder_count(&s.f), HTH_KEPT_MAX);
    s.file.key = 0x1234;
    cr_assert_eq(hth_kv_file_load(s.kv, 7, &s.file, s.f.dir, &err),
                 HTH_ENOTFOUND, "the oldest went");
    sample_close(&s);
}

/* ---- the list -------------------------------------------------------------
 */

Test(kept, is_read_again)
{
    uint32_t tokens[300], count = 0;
    uint8_t print[HTH_HASH_BYTES] = {1}, other[HTH_HASH_BYTES] = {2};
    struct folder f;
    struct hth_kept *k;
    struct hth_err err;
    uint64_t key = 0;

    folder_init(&f);
    for (uint32_t i = 0; i < 300; i++)
        tokens[i] = i * 7;
    cr_assert_eq(hth_kept_open(&k, f.dir, print, &err), 0);
    cr_assert_eq(hth_kept_add(k, &(struct hth_context){tokens, 100, 0}, &err),
                 0);
    cr_assert_eq(hth_kept_add(k, &(struct hth_context){tokens, 200, 0}, &err),
                 0);
    cr_assert_eq(folder_count(&f), 1, "the beginning of another is forgotten");
    hth_kept_close(k);
    cr_assert_eq(hth_kept_open(&k, f.dir, print, &err), 0);
    cr_assert_eq(
        hth_kept_match(k, &(struct hth_context){tokens, 300, 0}, &key, &count),
        200);
    cr_assert_eq(count, 200);
    cr_assert_eq(key, hth_kept_key(k, &(struct hth_context){tokens, 200, 0}));
    cr_assert_eq(
        hth_kept_match(k, &(struct hth_context){tokens, 150, 0}, &key, &count),
        150);
    cr_assert_eq(hth_kept_match(k, &(struct hth_context){tokens + 1, 150, 0},
                                &key, &count),
                 0);
    hth_kept_close(k);
    cr_assert_eq(hth_kept_open(&k, f.dir, other, &err), 0);
    cr_assert_eq(
        hth_kept_match(k, &(struct hth_context){tokens, 300, 0}, &key, &count),
        0, "of another model");
    hth_kept_close(k);
    folder_fini(&f);
}

/* The same tokens, computed with other adapters, are another context. */
Test(kept, tells_variants_apart)
{
    uint32_t tokens[200], count = 0;
    uint8_t print[HTH_HASH_BYTES] = {1};
    struct hth_context plain = {tokens, 200, 0}, adapted = {tokens, 150, 77},
                       other = {tokens, 150, 78};
    struct folder f;
    struct hth_kept *k;
    struct hth_err err;
    uint64_t key = 0;

    folder_init(&f);
    for (uint32_t i = 0; i < 200; i++)
        tokens[i] = i * 3;
    cr_assert_eq(hth_kept_open(&k, f.dir, print, &err), 0);
    cr_assert_eq(hth_kept_add(k, &adapted, &err), 0);
    cr_assert_eq(hth_kept_add(k, &plain, &err), 0);
    cr_assert_eq(folder_count(&f), 2, "neither is a beginning of the other");
    hth_kept_close(k);
    cr_assert_eq(hth_kept_open(&k, f.dir, print, &err), 0);
    cr_assert_eq(hth_kept_match(k, &adapted, &key, &count), 150);
    cr_assert_eq(count, 150);
    cr_assert_eq(key, hth_kept_key(k, &adapted));
    cr_assert_eq(hth_kept_match(k, &other, &key, &count), 0);
    cr_assert_eq(hth_kept_match(k, &plain, &key, &count), 200);
    cr_assert_neq(hth_kept_key(k, &other), hth_kept_key(k, &adapted));
    hth_kept_close(k);
    folder_fini(&f);
}

/* ---- engines --------------------------------------------------------------
 */

static const double g_shares[] = {1, 2, 0};

static uint32_t ask(struct rig *r, const uint32_t *ids, uint32_t n,
                    uint32_t *out)
{
    struct answer a;
    struct hth_request q;

    answer_init(&a);
    q = answer_request(&a, ids, n, 20);
    q.reuse = true;
    rig_submit(r, &q);
    answer_wait(&a);
    cr_assert_eq(a.status, 0, "%s", a.err.text);
    memcpy(out, a.ids, 20 * sizeof *out);
    return a.stats.cached_tokens;
}

static void damage(const struct folder *f, const char *end)
{
    DIR *d = opendir(f->dir);
    struct dirent *e;

    cr_assert_not_null(d);
    while ((e = readdir(d)) != NULL) {
        char path[400];

        snprintf(path, sizeof path, "%s/%s", f->dir, e->d_name);
        if (strstr(e->d_name, end) != NULL)
            flip(path, size_of(path) / 2);
    }
    closedir(d);
}

/* Ranks write while nothing runs: three parts and the list. */
static void wait_kept(const struct folder *f, size_t files)
{
    uint64_t until = hth_now_ms() + PATIENCE_MS;

    while (folder_count(f) != files && hth_now_ms() < until)
        hth_sleep_ms(10);
    cr_assert_eq(folder_count(f), files);
    hth_sleep_ms(300); /* no .part among them, nothing more to come */
    cr_assert_eq(folder_count(f), files);
}

Test(kept, survives_a_restart_on_every_rank, .timeout = 120)
{
    uint32_t ids[220], want[20], got[20];
    struct hth_rng rng;
    struct folder f;
    struct rig r;

    folder_init(&f);
    rig_opts.kv_dir = f.dir;
    hth_rng_init(&rng, 5);
    for (uint32_t i = 0; i < 220; i++)
        ids[i] = 3 + (uint32_t)(hth_rng_u64(&rng) % 200);
    rig_open(&r, "llama-gqa-F16", g_shares, 3);
    cr_assert_eq(ask(&r, ids, 200, want), 0);
    wait_kept(&f, 4);
    rig_close(&r);

    rig_open(&r, "llama-gqa-F16", g_shares, 3);
    cr_assert_eq(ask(&r, ids, 200, got), 192, "read from disk");
    cr_assert_eq(memcmp(want, got, sizeof want), 0);
    rig_close(&r);

    damage(&f, "-1.kv"); /* one rank's part */
    rig_open(&r, "llama-gqa-F16", g_shares, 3);
    cr_assert_eq(ask(&r, ids, 200, got), 0, "used by none");
    cr_assert_eq(memcmp(want, got, sizeof want), 0);
    wait_kept(&f, 4);
    rig_close(&r);

    damage(&f, ".ctx");
    rig_open(&r, "llama-gqa-F16", g_shares, 3);
    cr_assert_eq(ask(&r, ids, 200, got), 0);
    cr_assert_eq(memcmp(want, got, sizeof want), 0);
    rig_close(&r);
    folder_fini(&f);
}
