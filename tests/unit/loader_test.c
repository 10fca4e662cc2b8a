/* loader_test.c - weights in less memory than they have: always the right
 * bytes, never more memory than given, whatever the disk does. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rng.h"
#include "loader_rig.h"

#define MIB (1ull << 20)

static struct hth_loader *open_loader(uint64_t budget)
{
    struct hth_loader_opts o = made_opts(&g_made, g_folder.dir, budget);

    return open_loader_with(&o);
}

TestSuite(loader, .init = loader_rig_init, .fini = loader_rig_fini,
          .timeout = 120);
TestSuite(experts, .init = loader_rig_init_moe, .fini = loader_rig_fini,
          .timeout = 120);

Test(loader, all_pinned_needs_no_files)
{
    struct hth_loader *l = open_loader(0);

    for (uint32_t i = 0; i < 3; i++)
        made_step(&g_made, l, true);
    cr_assert_eq(stats_of(l).memory_bytes, made_bytes(&g_made));
    cr_assert_eq(stats_of(l).loaded_bytes, made_bytes(&g_made));
    cr_assert_eq(atomic_load(&g_made.reads), g_made.pieces);
    hth_loader_close(l);
    cr_assert_eq(folder_count(&g_folder), 0u);
}

/* A quarter, a half, three quarters: the same bytes, within the budget, and
 * the second time from the files alone. */
Test(loader, streams_within_the_budget)
{
    for (uint64_t part = 5; part <= 9; part += 2) {
        uint64_t budget = made_bytes(&g_made) * part / 10;
        struct hth_loader *l = open_loader(budget);

        for (uint32_t i = 0; i < 3; i++)
            made_step(&g_made, l, true);
        cr_assert_leq(stats_of(l).memory_peak_bytes, budget);
        cr_assert_gt(stats_of(l).memory_bytes, budget - 3 * MIB);
        cr_assert_gt(stats_of(l).window.streamed_bytes, 0u);
        hth_loader_close(l);
        atomic_store(&g_made.broken, true);
    }
    cr_assert_eq(folder_count(&g_folder), hth_shard_blocks(&g_made.spec));
    cr_assert_eq(atomic_load(&g_made.reads), g_made.pieces);
}

/* What is read per token is what is not pinned, and nothing twice. */
Test(loader, reads_each_streamed_byte_once_per_token)
{
    struct hth_loader *l = open_loader(made_bytes(&g_made) / 2);
    struct hth_loader_stats a, b;

    made_step(&g_made, l, true);
    made_step(&g_made, l, true);
    a = stats_of(l);
    for (uint32_t i = 0; i < 5; i++)
        made_step(&g_made, l, true);
    b = stats_of(l);
    cr_assert_float_eq((double)(b.read_bytes - a.read_bytes),
                       5.0 * (double)a.window.streamed_bytes,
                       2.0 * (double)a.window.ring_bytes);
    cr_assert_eq(b.window.pinned_bytes + b.window.streamed_bytes,
                 made_bytes(&g_made));
    hth_loader_close(l);
}

Test(loader, too_little_memory_says_how_much)
{
    struct hth_loader_opts o = made_opts(&g_made, g_folder.dir, 4 * MIB);
    struct hth_loader *l = NULL;
    struct hth_err err = {0};

    cr_assert_eq(hth_loader_open(&l, &o, &err), HTH_EOVERFLOW);
    cr_assert_not_null(strstr(err.text, "at least"), "%s", err.text);
    o.budget_bytes = 20 * MIB;
    o.dir = NULL;
    cr_assert_eq(hth_loader_open(&l, &o, &err), HTH_EOVERFLOW);
    cr_assert_not_null(strstr(err.text, "directory"), "%s", err.text);
}

/* Steps without the head, and steps that end anywhere. */
Test(loader, steps_may_stop_anywhere)
{
    struct hth_loader *l = open_loader(made_bytes(&g_made) / 2);
    struct hth_rng rng;

    hth_rng_init(&rng, 9);
    for (uint32_t i = 0; i < 12; i++) {
        uint32_t n = (uint32_t)(hth_rng_u64(&rng) % g_made.pieces);

        made_step(&g_made, l, i % 3 == 0);
        for (uint32_t p = 0; p < n; p++)
            made_check(&g_made, l, p);
    }
    made_step(&g_made, l, true);
    cr_assert_leq(stats_of(l).memory_peak_bytes, made_bytes(&g_made) / 2);
    hth_loader_close(l);
}

static void files_are_made(uint64_t budget)
{
    struct hth_loader *l = open_loader(budget);

    made_step(&g_made, l, true);
    hth_loader_close(l);
    cr_assert_eq(folder_count(&g_folder), hth_shard_blocks(&g_made.spec));
}

/* A disk that fails is no wrong byte: the source has them, and the file is
 * good again afterwards. */
static void check_fault(int fault)
{
    uint64_t budget = made_bytes(&g_made) / 2;
    struct hth_loader *l;

    files_are_made(budget);
    l = open_loader(budget);
    made_step(&g_made, l, true);
    atomic_store(&g_made.fault_for, 3);
    atomic_store(&g_made.fault, fault);
    made_step(&g_made, l, true);
    made_step(&g_made, l, true);
    cr_assert_eq(atomic_load(&g_made.fault_for), 0);
    cr_expect_eq(stats_of(l).repaired > 0, fault != MADE_FAULT_SHORT);
    hth_loader_close(l);
    atomic_store(&g_made.broken, true);
    l = open_loader(budget);
    made_step(&g_made, l, true);
    hth_loader_close(l);
}

Test(loader, survives_read_errors)
{
    check_fault(MADE_FAULT_EIO);
}

Test(loader, survives_short_reads)
{
    check_fault(MADE_FAULT_SHORT);
}

Test(loader, survives_files_that_end_early)
{
    check_fault(MADE_FAULT_END);
}

Test(loader, survives_flipped_bits)
{
    check_fault(MADE_FAULT_FLIP);
}

/* A step up to the first piece that cannot be had. */
static int take_all(struct hth_loader *l, struct hth_err *err)
{
    const struct hth_blocks *b = hth_loader_blocks(l);
    const void *data;
    int rc = 0;

    for (uint32_t i = 0; i < g_made.pieces && rc == 0; i++) {
        rc = b->acquire(b->ctx, i, &data, err);
        if (rc == 0)
            b->release(b->ctx, i);
    }
    return rc;
}

/* With the source gone as well the step fails, naming the file; once either is
 * back the next step goes on. */
Test(loader, fails_by_name_and_recovers)
{
    struct hth_loader *l;
    struct hth_err err = {0};
    int rc = 0;

    files_are_made(made_bytes(&g_made) / 2);
    l = open_loader(made_bytes(&g_made) / 2);
    made_step(&g_made, l, true);
    atomic_store(&g_made.broken, true);
    atomic_store(&g_made.fault_for, -1);
    atomic_store(&g_made.fault, MADE_FAULT_FLIP);
    for (uint32_t round = 0; round < 3 && rc == 0; round++)
        rc = take_all(l, &err);
    cr_assert_eq(rc, HTH_EIO, "%d", rc);
    cr_assert_not_null(strstr(err.text, g_folder.dir), "%s", err.text);
    cr_assert_not_null(strstr(err.text, "damaged"), "%s", err.text);
    atomic_store(&g_made.fault, MADE_FAULT_NONE);
    /* Reads that were under way then are still damaged: a step may meet them,
     * and no later one. */
    (void)take_all(l, &err);
    made_step(&g_made, l, true);
    made_step(&g_made, l, true);
    hth_loader_close(l);
}

/* A file cut off underneath, and one that another program wrote into. */
Test(loader, survives_changed_files)
{
    uint64_t budget = made_bytes(&g_made) / 2;
    char hex[HTH_HASH_HEX_SIZE];
    struct hth_loader *l;
    FILE *f;

    files_are_made(budget);
    l = open_loader(budget);
    for (uint32_t i = 0; i < hth_shard_blocks(&g_made.spec); i++) {
        hth_hash_hex(g_made.key[i], hex);
        if (i % 2 == 0) {
            cr_assert_eq(truncate(folder_path(&g_folder, hex), 70000), 0);
            continue;
        }
        f = fopen(folder_path(&g_folder, hex), "r+");
        cr_assert_eq(fseek(f, 100000, SEEK_SET), 0);
        fputs("not these", f);
        fclose(f);
    }
    for (uint32_t i = 0; i < 3; i++)
        made_step(&g_made, l, true);
    cr_assert_gt(stats_of(l).repaired, 0u);
    hth_loader_close(l);
}

/* Files of another version or another model are made anew. */
Test(loader, refuses_foreign_files)
{
    char hex[HTH_HASH_HEX_SIZE];
    struct hth_loader *l;
    FILE *f;

    hth_hash_hex(g_made.key[3], hex);
    f = fopen(folder_path(&g_folder, hex), "w");
    fputs("HTHPACK1 but nothing more", f);
    fclose(f);
    l = open_loader(made_bytes(&g_made) / 2);
    made_step(&g_made, l, true);
    made_step(&g_made, l, true);
    hth_loader_close(l);
    atomic_store(&g_made.broken, true);
    l = open_loader(made_bytes(&g_made) / 2);
    made_step(&g_made, l, true);
    hth_loader_close(l);
}

/* Memory given and taken while steps run: right bytes throughout, and within
 * a step of less no more than that. */
Test(loader, budget_may_change_any_time)
{
    uint64_t all = made_bytes(&g_made), given = all;
    struct hth_loader *l = open_loader(all);
    struct hth_rng rng;

    hth_rng_init(&rng, 21);
    for (uint32_t i = 0; i < 16; i++) {
        for (uint32_t p = 0; p < g_made.pieces; p++) {
            if (hth_rng_u64(&rng) % 20 == 0)
                given = hth_loader_budget(l, all / 10 + hth_rng_u64(&rng) %
                                                            (all + all / 10));
            made_check(&g_made, l, p);
        }
        given = hth_loader_budget(l, given);
        made_step(&g_made, l, true);
        made_step(&g_made, l, true);
        /* What is on no disk yet is written before it goes. */
        for (uint32_t n = 0; n < 100 && stats_of(l).memory_bytes > given; n++)
            made_step(&g_made, l, true);
        cr_assert_leq(stats_of(l).memory_bytes, given, "round %u", i);
    }
    given = hth_loader_budget(l, all);
    for (uint32_t i = 0; i < 3; i++)
        made_step(&g_made, l, true);
    cr_assert_eq(stats_of(l).memory_bytes, all);
    hth_loader_close(l);
}

struct changes {
    struct hth_loader *loader;
    uint64_t all;
    _Atomic bool over;
};

static void *change_budgets(void *arg)
{
    struct changes *c = arg;
    struct hth_rng rng;

    hth_rng_init(&rng, 5);
    for (uint32_t i = 0; i < 400; i++) {
        (void)hth_loader_budget(c->loader,
                                c->all / 10 + hth_rng_u64(&rng) % c->all);
        hth_sleep_ms((uint32_t)(hth_rng_u64(&rng) % 3));
    }
    atomic_store(&c->over, true);
    return NULL;
}

/* As pressure does it, from another thread, while the step takes pieces, waits
 * for them and gives them back. */
Test(loader, budget_changes_inside_steps, .timeout = 120)
{
    struct changes c = {.all = made_bytes(&g_made)};
    pthread_t thread;

    c.loader = open_loader(c.all);
    cr_assert_eq(pthread_create(&thread, NULL, change_budgets, &c), 0);
    while (!atomic_load(&c.over))
        made_step(&g_made, c.loader, true);
    pthread_join(thread, NULL);
    made_step(&g_made, c.loader, true);
    hth_loader_close(c.loader);
}

/* While nobody asks for anything, memory is given back at once. */
Test(loader, idle_loader_shrinks)
{
    uint64_t all = made_bytes(&g_made), given;
    struct hth_loader *l = open_loader(all);
    uint64_t until;

    made_step(&g_made, l, true);
    given = hth_loader_budget(l, all / 2);
    cr_assert_eq(given, all / 2);
    until = hth_now_ms() + 60000;
    while (stats_of(l).memory_bytes > given && hth_now_ms() < until)
        hth_sleep_ms(5);
    cr_assert_leq(stats_of(l).memory_bytes, given);
    made_step(&g_made, l, true);
    cr_assert_leq(hth_loader_budget(l, 1), all / 2);
    made_step(&g_made, l, true);
    hth_loader_close(l);
}

Test(loader, predicts_and_counts)
{
    struct hth_loader *l = open_loader(made_bytes(&g_made) / 2);
    struct hth_loader_stats s;

    for (uint32_t i = 0; i < 6; i++)
        made_step(&g_made, l, true);
    hth_loader_measured(l, 0.001);
    s = stats_of(l);
    cr_assert_gt(s.read_bytes_per_s, 0);
    cr_assert_gt(s.window.token_s, 0);
    cr_assert_geq(s.window.token_s, s.window.compute_s);
    cr_assert_gt(s.read_ns, 0u);
    hth_loader_close(l);
}

/* ---- experts -------------------------------------------------------------
 */

/* A step of `rows` rows that choose at random. */
static void expert_step(struct hth_loader *l, struct hth_rng *rng,
                        uint32_t rows)
{
    const struct hth_spec *s = &g_made.spec;
    const struct hth_blocks *b = hth_loader_blocks(l);

    for (uint32_t layer = 0; layer < s->layers; layer++) {
        uint32_t n[256], first = hth_piece_ffn_rest(s, layer);
        bool chosen[32] = {false};

        made_check(&g_made, l, hth_piece_attn(s, layer));
        made_check(&g_made, l, hth_piece_ffn(s, layer));
        for (uint32_t i = 0; i < rows * s->experts_used; i++) {
            n[i] = (uint32_t)(hth_rng_u64(rng) % s->experts);
            chosen[n[i]] = true;
        }
        b->expect(b->ctx, first, n, rows * s->experts_used);
        for (uint32_t e = 0; e < s->experts; e++)
            if (chosen[e])
                made_check(&g_made, l, first + e);
    }
    made_check(&g_made, l, hth_piece_head(s));
}

Test(experts, come_when_they_are_needed)
{
    for (uint64_t part = 2; part <= 10; part += 2) {
        uint64_t budget = made_bytes(&g_made) * part / 10;
        struct hth_loader *l = open_loader(budget);
        struct hth_rng rng;

        hth_rng_init(&rng, part);
        for (uint32_t i = 0; i < 10; i++)
            expert_step(l, &rng, i % 4 == 0 ? 40 : 1);
        cr_assert_leq(stats_of(l).memory_peak_bytes, budget);
        hth_loader_close(l);
    }
}

/* Experts that are there are not read again. */
Test(experts, stay_as_long_as_there_is_room)
{
    struct hth_loader *l = open_loader(made_bytes(&g_made) * 9 / 10);
    struct hth_loader_stats a, b;
    struct hth_rng rng;

    hth_rng_init(&rng, 2);
    for (uint32_t i = 0; i < 30; i++)
        expert_step(l, &rng, 1);
    a = stats_of(l);
    for (uint32_t i = 0; i < 30; i++)
        expert_step(l, &rng, 1);
    b = stats_of(l);
    /* 16 of 128 are asked for per step; a tenth of them is missing. */
    cr_assert_lt(b.read_bytes + b.built_bytes - a.read_bytes - a.built_bytes,
                 30u * 16 * 220 * 1024 * 3 / 10);
    hth_loader_close(l);
}

Test(experts, failing_reads_are_made_good)
{
    struct hth_loader *l = open_loader(made_bytes(&g_made) / 2);
    struct hth_rng rng;

    hth_rng_init(&rng, 6);
    for (uint32_t i = 0; i < 20; i++)
        expert_step(l, &rng, 8);
    atomic_store(&g_made.fault_for, 20);
    atomic_store(&g_made.fault, MADE_FAULT_FLIP);
    for (uint32_t i = 0; i < 10; i++)
        expert_step(l, &rng, 8);
    cr_assert_gt(stats_of(l).repaired, 0u);
    hth_loader_close(l);
}
