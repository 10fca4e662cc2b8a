/* lend_test.c - weights that make room for a spread prompt: whole layers held
 * one after the other in a window, and a loader that lends its memory. */
#include <criterion/criterion.h>
#include <string.h>

#include "base/rng.h"
#include "loader_rig.h"

#define MIB (1ull << 20)

static struct hth_loader *open_loader(uint64_t budget, bool layers)
{
    struct hth_loader_opts o = made_opts(&g_made, g_folder.dir, budget);

    o.layers = layers;
    return open_loader_with(&o);
}

TestSuite(lend, .init = loader_rig_init, .fini = loader_rig_fini,
          .timeout = 120);
TestSuite(lend_experts, .init = loader_rig_init_moe, .fini = loader_rig_fini,
          .timeout = 120);

/* ---- layers that are held ------------------------------------------------ */

static uint64_t layer_bytes(uint32_t layer)
{
    uint64_t sum = 0;

    for (uint32_t i = hth_piece_attn(&g_made.spec, layer);
         i < hth_piece_attn(&g_made.spec, layer + 1); i++) {
        struct hth_block b;

        hth_piece(&g_made.spec, &g_made.plan, 0, i, &b);
        sum += hth_page_up(b.bytes);
    }
    return sum;
}

/* While a layer is held the next may be read, but not over this one. */
static void pass_by(struct hth_loader *l, uint32_t layers)
{
    const struct hth_blocks *b = hth_loader_blocks(l);
    const void *data[64];

    for (uint32_t layer = 0; layer < layers; layer++) {
        uint32_t first = hth_piece_attn(&g_made.spec, layer);
        uint32_t n = hth_piece_attn(&g_made.spec, 1);

        for (uint32_t i = 0; i < n; i++)
            data[i] = made_take(&g_made, l, first + i);
        for (uint32_t i = 0; i < n; i++)
            made_same(&g_made, first + i, data[i]);
        for (uint32_t i = 0; i < n; i++)
            b->release(b->ctx, first + i);
    }
}

/* Whole layers have no head. */
static void without_head(void)
{
    g_made.plan.share[0].vocab = 0;
    g_made.pieces = hth_pieces(&g_made.spec, &g_made.plan, 0);
}

static void check_layers(void)
{
    uint64_t one = layer_bytes(0) + 4 * MIB;

    without_head();
    for (uint64_t budget = one; budget < made_bytes(&g_made);
         budget += layer_bytes(0)) {
        struct hth_loader *l = open_loader(budget, true);

        for (uint32_t i = 0; i < 3; i++)
            pass_by(l, g_made.spec.layers);
        pass_by(l, g_made.spec.layers / 2); /* a prompt that was cancelled */
        pass_by(l, g_made.spec.layers);
        cr_assert_leq(stats_of(l).memory_peak_bytes, budget);
        hth_loader_close(l);
        atomic_store(&g_made.broken, true);
    }
}

Test(lend, layers_pass_by_in_little_memory)
{
    check_layers();
}

Test(lend_experts, layers_pass_by_with_all_experts)
{
    check_layers();
}

Test(lend, less_than_a_layer_says_how_much)
{
    struct hth_loader_opts o =
        made_opts(&g_made, g_folder.dir, layer_bytes(0) + 4 * MIB - 4096);
    struct hth_loader *l = NULL;
    struct hth_err err = {0};

    without_head();
    o.layers = true;
    cr_assert_eq(hth_loader_open(&l, &o, &err), HTH_EOVERFLOW);
    cr_assert_not_null(strstr(err.text, "at least"), "%s", err.text);
}

/* ---- lending ------------------------------------------------------------- */

/* Memory is there when lend returns, the bytes stay right, and all comes back.
 */
static void check_lending(struct hth_loader *l, uint64_t given)
{
    uint64_t least = hth_loader_least(l);
    struct hth_err err = {0};
    struct hth_rng rng;

    hth_rng_init(&rng, 4);
    made_step(&g_made, l, true);
    for (uint32_t i = 0; i < 6; i++) {
        uint64_t lent = hth_rng_u64(&rng) % (given - least + 1);

        lent = i == 3 ? given - least : lent;
        cr_assert_eq(hth_loader_lend(l, lent, &err), 0, "%s", err.text);
        cr_assert_leq(stats_of(l).memory_bytes, given - lent, "round %u", i);
        made_step(&g_made, l, true);
        cr_assert_leq(stats_of(l).memory_bytes, given - lent, "round %u", i);
    }
    cr_assert_eq(hth_loader_lend(l, 0, &err), 0);
    for (uint32_t i = 0; i < 3; i++)
        made_step(&g_made, l, true);
    cr_assert_leq(stats_of(l).memory_peak_bytes, given);
}

Test(lend, all_pinned_gives_and_takes)
{
    uint64_t all = made_bytes(&g_made);
    struct hth_loader *l = open_loader(all, false);

    check_lending(l, all);
    cr_assert_eq(stats_of(l).memory_bytes, all);
    hth_loader_close(l);
}

Test(lend, streaming_gives_and_takes)
{
    for (uint64_t part = 4; part < 10; part += 2) {
        uint64_t given = made_bytes(&g_made) * part / 10;
        struct hth_loader *l = open_loader(given, false);

        check_lending(l, given);
        hth_loader_close(l);
    }
}

/* Before anything was used: reads are under way. */
Test(lend, right_after_open)
{
    uint64_t all = made_bytes(&g_made);

    for (uint32_t i = 0; i < 4; i++) {
        struct hth_loader *l = open_loader(all, false);
        struct hth_err err = {0};

        cr_assert_eq(hth_loader_lend(l, all / 2, &err), 0, "%s", err.text);
        cr_assert_leq(stats_of(l).memory_bytes, all / 2);
        made_step(&g_made, l, true);
        hth_loader_close(l);
    }
}

Test(lend, too_much_is_refused_with_numbers)
{
    uint64_t given = made_bytes(&g_made) / 2;
    struct hth_loader *l = open_loader(given, false);
    struct hth_err err = {0};

    cr_assert_eq(hth_loader_lend(l, given - hth_loader_least(l) + 1, &err),
                 HTH_EOVERFLOW);
    cr_assert_not_null(strstr(err.text, "MiB"), "%s", err.text);
    cr_assert_eq(stats_of(l).budget_bytes, given, "nothing has changed");
    made_step(&g_made, l, true);
    hth_loader_close(l);
    l = open_loader(0, false);
    cr_assert_eq(hth_loader_lend(l, 1ull << 50, &err), 0, "no bound");
    hth_loader_close(l);
}

/* Memory that is short takes its part while some is lent. */
Test(lend, pressure_beside_lending)
{
    uint64_t all = made_bytes(&g_made);
    struct hth_loader *l = open_loader(all, false);
    struct hth_err err = {0};

    made_step(&g_made, l, true);
    cr_assert_eq(hth_loader_lend(l, all / 4, &err), 0, "%s", err.text);
    cr_assert_leq(hth_loader_budget(l, all * 3 / 4), all / 2 + 1);
    made_step(&g_made, l, true);
    cr_assert_leq(stats_of(l).memory_bytes, all / 2 + 1);
    cr_assert_eq(hth_loader_lend(l, 0, &err), 0);
    made_step(&g_made, l, true);
    cr_assert_leq(stats_of(l).memory_bytes, all * 3 / 4);
    cr_assert_eq(hth_loader_budget(l, all), all);
    hth_loader_close(l);
}

/* The cache of experts is memory as well. */
Test(lend_experts, slots_are_lent)
{
    uint64_t given = made_bytes(&g_made) * 8 / 10;
    struct hth_loader *l = open_loader(given, false);

    check_lending(l, given);
    hth_loader_close(l);
}
