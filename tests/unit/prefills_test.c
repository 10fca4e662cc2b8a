/* prefills_test.c - what is remembered of long prompts: there and back, by key,
 * through damage, and when it is no longer true. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/prefills.h"

static struct hth_prefills *make(uint8_t key, uint32_t ranks)
{
    struct hth_prefills *m = calloc(1, sizeof *m);
    double w[HTH_RANKS_MAX];

    cr_assert_not_null(m);
    memset(m->key, key, sizeof m->key);
    m->ranks = ranks;
    m->alone = 0.5;
    m->memory.table.ranks = ranks;
    for (uint32_t r = 0; r < ranks; r++) {
        m->rank[r] = (struct hth_prefills_rank){1e-5 * (r + 1), 2e-8, 1e-4,
                                                3e-4, 1e8 / (r + 1)};
        w[r] = 1.0 / ranks;
    }
    for (uint32_t n = 64; n < 5000; n *= 3)
        hth_partition_learn(&m->memory.table, n, w);
    for (uint32_t i = 0; i < 7; i++)
        hth_prefill_learn(&m->memory.past, HTH_PREFILL_KVR, 512, 1 + i);
    hth_prefill_learn(&m->memory.past, HTH_PREFILL_TP, 1u << 20, 0.5);
    return m;
}

/* What a session begins with: its key, and nothing of the past. */
static struct hth_prefills *begin(uint8_t key, uint32_t ranks)
{
    struct hth_prefills *m = make(key, ranks);

    m->memory = (struct hth_prefill_memory){.table = {.ranks = ranks}};
    return m;
}

static void same(const struct hth_prefills *a, const struct hth_prefills *b)
{
    cr_assert_eq(memcmp(a->rank, b->rank, a->ranks * sizeof a->rank[0]), 0);
    cr_assert_eq(
        memcmp(&a->memory.past, &b->memory.past, sizeof a->memory.past), 0);
    cr_assert_eq(a->memory.table.entries, b->memory.table.entries);
    for (uint32_t i = 0; i < a->memory.table.entries; i++) {
        cr_assert_eq(a->memory.table.count[i], b->memory.table.count[i]);
        cr_assert_eq(memcmp(a->memory.table.weight[i],
                            b->memory.table.weight[i],
                            a->ranks * sizeof(double)),
                     0);
    }
    cr_assert_float_eq(a->alone, b->alone, 0);
}

Test(prefills, there_and_back)
{
    char base[] = "/tmp/hearth-prefills.XXXXXX", dir[64], path[80];
    struct hth_prefills *m = make(0xab, 4), *got = begin(0xab, 4);
    struct hth_prefills *other = begin(0xab, 3), *third = begin(0xcd, 4);

    cr_assert_not_null(mkdtemp(base));
    snprintf(dir, sizeof dir, "%s/prefill", base);
    cr_assert_eq(hth_prefills_load(got, dir), HTH_ENOTFOUND);
    cr_assert(hth_prefills_save(m, dir));
    cr_assert(hth_prefills_save(m, dir));
    cr_assert_eq(hth_prefills_load(got, dir), HTH_OK);
    same(m, got);
    /* Other ranks, another key: nothing is known of them. */
    cr_assert_eq(hth_prefills_load(other, dir), HTH_ENOTFOUND);
    cr_assert_eq(hth_prefills_load(third, dir), HTH_ENOTFOUND);
    cr_assert_eq(other->memory.table.entries, 0u);
    /* The same first digits: the later one stays. */
    third->key[0] = 0xab;
    cr_assert(hth_prefills_save(third, dir));
    cr_assert_eq(hth_prefills_load(got, dir), HTH_ENOTFOUND);
    snprintf(path, sizeof path, "%s/ab", dir);
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(rmdir(dir), 0); /* nothing else is there */
    cr_assert_eq(rmdir(base), 0);
    cr_assert(!hth_prefills_save(m, "/proc/nowhere"));
    free(m);
    free(got);
    free(other);
    free(third);
}

/* Every byte changed, every length: refused, or numbers within bounds. */
Test(prefills, damage_is_none_or_harmless)
{
    struct hth_prefills *m = make(1, 3), *got = begin(1, 3);
    struct hth_buf b;

    hth_buf_init(&b, HTH_PREFILLS_BYTES_MAX);
    hth_prefills_encode(m, &b);
    cr_assert(!b.failed);
    for (size_t n = 0; n < b.len; n++)
        cr_assert_eq(hth_prefills_decode(got, b.data, n), HTH_EFORMAT);
    cr_assert_eq(got->memory.table.entries, 0u);
    for (size_t i = 0; i < b.len; i++) {
        b.data[i] ^= 0xff;
        if (hth_prefills_decode(got, b.data, b.len) == HTH_OK)
            for (uint32_t mode = 0; mode < HTH_PREFILL_AUTO; mode++) {
                double f = hth_prefill_factor(&got->memory.past, mode, 512);

                cr_assert(f > 0 && f < 1e5);
            }
        b.data[i] ^= 0xff;
    }
    cr_assert_eq(hth_prefills_decode(got, b.data, b.len), HTH_OK);
    same(m, got);
    /* The most there can be fits a file. */
    free(m);
    m = make(1, HTH_RANKS_MAX);
    for (uint32_t n = 1; n < 200; n++)
        hth_partition_learn(&m->memory.table, n, m->memory.table.weight[0]);
    cr_assert_eq(m->memory.table.entries, HTH_PARTITION_TABLE_MAX);
    hth_buf_reset(&b);
    hth_prefills_encode(m, &b);
    cr_assert(!b.failed && b.len < HTH_PREFILLS_BYTES_MAX);
    hth_buf_fini(&b);
    free(m);
    free(got);
}

Test(prefills, another_present_has_another_past)
{
    struct hth_prefills *then = make(2, 3), *now = make(2, 3);

    cr_assert(hth_prefills_alike(then, now));
    now->rank[1].row_s *= 2;
    now->rank[2].bytes_per_s /= 2;
    now->rank[2].alpha_s *= 2;
    cr_assert(hth_prefills_alike(then, now));
    now->rank[1].row_s *= 3;
    cr_assert(!hth_prefills_alike(then, now));
    now->rank[1].row_s = 0; /* not measured: steps only */
    cr_assert(hth_prefills_alike(then, now));
    now->rank[2].bytes_per_s /= 2;
    cr_assert(!hth_prefills_alike(then, now));
    now->rank[2] = then->rank[2];
    now->rank[2].alpha_s = 20e-3;
    cr_assert(!hth_prefills_alike(then, now));
    now->ranks = 2;
    cr_assert(!hth_prefills_alike(then, now));
    free(then);
    free(now);
}
