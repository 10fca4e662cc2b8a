/* prefills.c - see prefills.h. Fails only on files that are none of ours. */
#include "coordinator/prefills.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC 0x4c465048u /* "HPFL" */
#define VERSION 1u
#define PATH_BYTES_MAX 4200u
#define RATE_MAX 1e15
/* Of the logarithm of a factor; what is learnt is less. */
#define LOG_FACTOR_MAX 10.0f

/* ---- bytes ----------------------------------------------------------------
 */

static void put_table(const struct hth_partition_table *t, struct hth_buf *out)
{
    hth_put_u32(out, t->entries);
    for (uint32_t i = 0; i < t->entries; i++) {
        hth_put_u32(out, t->count[i]);
        for (uint32_t r = 0; r < t->ranks; r++)
            hth_put_f64(out, t->weight[i][r]);
    }
}

void hth_prefills_encode(const struct hth_prefills *m, struct hth_buf *out)
{
    hth_put_u32(out, MAGIC);
    hth_put_u32(out, VERSION);
    hth_put_bytes(out, m->key, sizeof m->key);
    hth_put_u32(out, m->ranks);
    hth_put_f64(out, m->alone);
    for (uint32_t r = 0; r < m->ranks; r++) {
        const struct hth_prefills_rank *k = &m->rank[r];

        hth_put_f64(out, k->row_s);
        hth_put_f64(out, k->pair_s);
        hth_put_f64(out, k->layer_s);
        hth_put_f64(out, k->alpha_s);
        hth_put_f64(out, k->bytes_per_s);
    }
    put_table(&m->memory.table, out);
    for (uint32_t mode = 0; mode < HTH_PREFILL_AUTO; mode++)
        for (uint32_t i = 0; i < HTH_PREFILL_LENGTHS; i++) {
            const struct hth_prefill_runs *of = &m->memory.past.of[mode][i];

            hth_put_u32(out, of->runs);
            for (uint32_t k = 0; k < HTH_PREFILL_KEPT; k++)
                hth_put_f32(out, of->log_factor[k]);
        }
}

static bool rate_ok(double v)
{
    return isfinite(v) && v >= 0 && v <= RATE_MAX;
}

static bool get_ranks(struct hth_prefills *m, struct hth_cursor *c)
{
    bool ok = true;

    for (uint32_t r = 0; r < m->ranks; r++) {
        struct hth_prefills_rank *k = &m->rank[r];

        k->row_s = hth_get_f64(c);
        k->pair_s = hth_get_f64(c);
        k->layer_s = hth_get_f64(c);
        k->alpha_s = hth_get_f64(c);
        k->bytes_per_s = hth_get_f64(c);
        ok = ok && rate_ok(k->row_s) && rate_ok(k->pair_s) &&
             rate_ok(k->layer_s) && rate_ok(k->alpha_s) &&
             rate_ok(k->bytes_per_s) && k->bytes_per_s > 0;
    }
    return ok;
}

/* Lengths ascend, shares are some part of a whole. */
static bool get_table(struct hth_partition_table *t, struct hth_cursor *c)
{
    bool ok;

    t->entries = hth_get_u32(c);
    ok = t->entries <= HTH_PARTITION_TABLE_MAX;
    for (uint32_t i = 0; ok && i < t->entries; i++) {
        t->count[i] = hth_get_u32(c);
        ok = t->count[i] > (i > 0 ? t->count[i - 1] : 0);
        for (uint32_t r = 0; r < t->ranks; r++) {
            t->weight[i][r] = hth_get_f64(c);
            ok = ok && t->weight[i][r] > 0 && t->weight[i][r] <= 1;
        }
    }
    return ok;
}

static bool get_past(struct hth_prefill_past *past, struct hth_cursor *c)
{
    bool ok = true;

    for (uint32_t mode = 0; mode < HTH_PREFILL_AUTO; mode++)
        for (uint32_t i = 0; i < HTH_PREFILL_LENGTHS; i++) {
            struct hth_prefill_runs *of = &past->of[mode][i];

            of->runs = hth_get_u32(c);
            for (uint32_t k = 0; k < HTH_PREFILL_KEPT; k++) {
                of->log_factor[k] = hth_get_f32(c);
                ok = ok && fabsf(of->log_factor[k]) <= LOG_FACTOR_MAX;
            }
        }
    return ok;
}

int hth_prefills_decode(struct hth_prefills *m, const uint8_t *src, size_t n)
{
    struct hth_prefills got = *m;
    struct hth_cursor c;
    const uint8_t *key;
    bool ok;

    got.memory = (struct hth_prefill_memory){.table = {.ranks = m->ranks}};
    hth_cursor_init(&c, src, n);
    ok = hth_get_u32(&c) == MAGIC && hth_get_u32(&c) == VERSION;
    key = hth_get_bytes(&c, sizeof got.key);
    if (!ok || key == NULL || memcmp(key, m->key, sizeof m->key) != 0 ||
        hth_get_u32(&c) != m->ranks)
        return HTH_EFORMAT;
    got.alone = hth_get_f64(&c);
    ok = got.alone >= 0 && got.alone <= 1 && get_ranks(&got, &c) &&
         get_table(&got.memory.table, &c) && get_past(&got.memory.past, &c);
    if (!ok || !hth_cursor_done(&c))
        return HTH_EFORMAT;
    *m = got;
    return HTH_OK;
}

/* ---- files ----------------------------------------------------------------
 */

static void path_of(const struct hth_prefills *m, const char *dir,
                    const char *end, char *out)
{
    snprintf(out, PATH_BYTES_MAX, "%.4000s/%02x%s", dir, m->key[0], end);
}

int hth_prefills_load(struct hth_prefills *m, const char *dir)
{
    uint8_t *bytes = malloc(HTH_PREFILLS_BYTES_MAX);
    char path[PATH_BYTES_MAX];
    int rc = HTH_ENOTFOUND;
    size_t n = 0;
    FILE *f;

    path_of(m, dir, "", path);
    f = bytes != NULL ? fopen(path, "rbe") : NULL;
    if (f != NULL) {
        n = fread(bytes, 1, HTH_PREFILLS_BYTES_MAX, f);
        fclose(f);
    }
    if (n > 0 && hth_prefills_decode(m, bytes, n) == HTH_OK)
        rc = HTH_OK;
    free(bytes);
    return rc;
}

bool hth_prefills_save(const struct hth_prefills *m, const char *dir)
{
    char path[PATH_BYTES_MAX], part[PATH_BYTES_MAX];
    struct hth_buf b;
    bool ok = mkdir(dir, 0700) == 0 || errno == EEXIST;
    FILE *f;

    hth_buf_init(&b, HTH_PREFILLS_BYTES_MAX);
    hth_prefills_encode(m, &b);
    path_of(m, dir, "", path);
    path_of(m, dir, ".part", part);
    f = ok && !b.failed ? fopen(part, "wbe") : NULL;
    ok = f != NULL && fwrite(b.data, 1, b.len, f) == b.len;
    if (f != NULL && fclose(f) != 0)
        ok = false;
    ok = ok && rename(part, path) == 0;
    if (f != NULL && !ok)
        (void)unlink(part);
    hth_buf_fini(&b);
    return ok;
}

/* ---- the present ------------------------------------------------------------
 */

static bool near(double a, double b, double factor)
{
    return a <= b * factor && b <= a * factor;
}

static bool same_device(const struct hth_prefills_rank *a,
                        const struct hth_prefills_rank *b)
{
    return near(a->row_s, b->row_s, HTH_PREFILLS_RATE_ALIKE) &&
           near(a->pair_s, b->pair_s, HTH_PREFILLS_RATE_ALIKE);
}

/* A latency matters beside what a layer takes, and below it little. */
static bool same_link(const struct hth_prefills_rank *a,
                      const struct hth_prefills_rank *b)
{
    return near(a->bytes_per_s, b->bytes_per_s, HTH_PREFILLS_LINK_ALIKE) &&
           near(a->alpha_s + a->layer_s, b->alpha_s + a->layer_s,
                HTH_PREFILLS_LINK_ALIKE);
}

bool hth_prefills_alike(const struct hth_prefills *then,
                        const struct hth_prefills *now)
{
    if (then->ranks != now->ranks)
        return false;
    for (uint32_t r = 0; r < now->ranks; r++) {
        const struct hth_prefills_rank *a = &then->rank[r], *b = &now->rank[r];

        /* 0: it was not measured, in steps only */
        if ((b->row_s > 0 && !same_device(a, b)) || !same_link(a, b))
            return false;
    }
    return true;
}
