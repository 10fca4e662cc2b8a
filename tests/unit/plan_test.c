/* plan_test.c - every unit dealt exactly once, to contiguous ranges, near the
 * due share, for many shapes and shares. */
#include <criterion/criterion.h>
#include <math.h>

#include "base/rng.h"
#include "scheduler/plan.h"

static struct hth_shape shape_of(uint32_t heads, uint32_t kv, uint32_t ff,
                                 uint32_t vocab)
{
    return (struct hth_shape){.layers = 4,
                              .dim = 256,
                              .heads = heads,
                              .kv_heads = kv,
                              .head_dim = 32,
                              .ff = ff,
                              .vocab = vocab,
                              .heads_unit = 1,
                              .ff_unit = 32,
                              .head_bytes = 1000,
                              .kv_bytes = 500,
                              .ff_bytes = 10,
                              .vocab_bytes = 2,
                              .kv_cache_bytes = 64};
}

static void check_cover(const struct hth_shape *m, const struct hth_plan *p)
{
    uint32_t head = 0, ff = 0, vocab = 0, group = m->heads / m->kv_heads;

    for (uint32_t r = 0; r < p->ranks; r++) {
        const struct hth_share *s = &p->share[r];

        cr_assert_eq(s->head_first, head);
        cr_assert_eq(s->ff_first, ff);
        cr_assert_eq(s->vocab_first, vocab);
        cr_assert_eq(s->heads % m->heads_unit, 0);
        cr_assert_eq(s->ff % m->ff_unit, 0);
        head += s->heads;
        ff += s->ff;
        vocab += s->vocab;
        for (uint32_t h = 0; h < s->heads; h++) {
            uint32_t kv = (s->head_first + h) / group;

            cr_assert(kv >= s->kv_first && kv < s->kv_first + s->kvs);
        }
        cr_assert_eq(s->heads == 0, s->kvs == 0);
    }
    cr_assert_eq(head, m->heads);
    cr_assert_eq(ff, m->ff);
    cr_assert_eq(vocab, m->vocab);
}

Test(plan, covers_everything_for_random_shares)
{
    struct hth_rng rng;

    hth_rng_init(&rng, 7);
    for (int i = 0; i < 2000; i++) {
        struct hth_shape m = shape_of(24, 8, 352, 2048 + i % 3);
        uint32_t ranks = 1 + (uint32_t)(hth_rng_u64(&rng) % HTH_RANKS_MAX);
        double w[HTH_RANKS_MAX], sum = 0;
        struct hth_plan p;

        m.heads_unit = i % 2 == 0 ? 1 : 4;
        for (uint32_t r = 0; r < ranks; r++)
            sum += w[r] = hth_rng_u64(&rng) % 4 == 0 ? 0 : hth_rng_unit(&rng);
        if (sum == 0)
            continue;
        cr_assert_eq(hth_plan_make(&m, w, ranks, &p, NULL), HTH_OK);
        check_cover(&m, &p);
        for (uint32_t r = 0; r < ranks; r++) {
            double due = w[r] / sum * m.ff;

            cr_assert(fabs(p.share[r].ff - due) <= m.ff_unit);
            if (w[r] == 0)
                cr_assert(hth_share_empty(&p.share[r]));
        }
    }
}

Test(plan, more_ranks_than_kv_heads_replicates)
{
    struct hth_shape m = shape_of(8, 2, 352, 2048);
    double w[6] = {1, 1, 1, 1, 1, 1};
    struct hth_plan p;

    cr_assert_eq(hth_plan_make(&m, w, 6, &p, NULL), HTH_OK);
    check_cover(&m, &p);
    for (uint32_t r = 0; r < 6; r++)
        cr_assert_geq(p.share[r].kvs, 1u);
}

Test(plan, equal_shares_keep_groups_whole)
{
    struct hth_shape m = shape_of(32, 8, 8192, 32000);
    double w[4] = {1, 1, 1, 1};
    struct hth_plan p;

    cr_assert_eq(hth_plan_make(&m, w, 4, &p, NULL), HTH_OK);
    for (uint32_t r = 0; r < 4; r++)
        cr_assert_eq(p.share[r].kvs, 2u);
}

Test(plan, refuses_what_is_no_share)
{
    struct hth_shape m = shape_of(8, 2, 352, 2048);
    double bad[][2] = {{0, 0}, {-1, 1}, {NAN, 1}, {INFINITY, 1}};
    struct hth_plan p;
    struct hth_err err;

    for (int i = 0; i < 4; i++)
        cr_assert_eq(hth_plan_make(&m, bad[i], 2, &p, &err), HTH_EINVAL);
    cr_assert_eq(hth_plan_make(&m, bad[0], 0, &p, &err), HTH_EINVAL);
    cr_assert_eq(hth_plan_make(&m, bad[0], HTH_RANKS_MAX + 1, &p, &err),
                 HTH_EINVAL);
}

Test(plan, memory_caps_move_the_load)
{
    struct hth_shape m = shape_of(32, 8, 8192, 32000);
    struct hth_plan_device d[2] = {{1, 60000}, {1, 0}};
    struct hth_plan_request q = {d, 2, 16, false};
    struct hth_plan p;
    double w[2];

    cr_assert_eq(hth_plan_auto(&m, &q, &p, w, NULL), HTH_OK);
    check_cover(&m, &p);
    cr_assert_leq(hth_share_weight_bytes(&m, &p.share[0]) +
                      16 * hth_share_kv_bytes(&m, &p.share[0]),
                  60000u);
    cr_assert_gt(p.share[0].ff, 0u);
    cr_assert_gt(p.share[1].ff, p.share[0].ff);
}

Test(plan, says_how_much_is_missing)
{
    struct hth_shape m = shape_of(32, 8, 8192, 32000);
    struct hth_plan_device d[2] = {{1, 1000}, {1, 1000}};
    struct hth_plan_request q = {d, 2, 16, false};
    struct hth_plan p;
    struct hth_err err;

    cr_assert_eq(hth_plan_auto(&m, &q, &p, NULL, &err), HTH_EOVERFLOW);
    cr_assert(strstr(err.text, "MiB of memory are missing") != NULL);
}

/* Where weights may stream, shares go by memory, and all of the model is
 * dealt. */
Test(plan, streams_what_is_missing)
{
    struct hth_shape m = shape_of(32, 8, 8192, 32000);
    struct hth_plan_device d[2] = {{1, 20000}, {1, 60000}};
    struct hth_plan_request q = {d, 2, 16, true};
    struct hth_plan p;
    struct hth_err err;
    double part;

    cr_assert_eq(hth_plan_auto(&m, &q, &p, NULL, &err), HTH_OK, "%s", err.text);
    check_cover(&m, &p);
    part = (double)hth_share_weight_bytes(&m, &p.share[0]) /
           (double)hth_share_weight_bytes(&m, &p.share[1]);
    cr_assert(part > 0.2 && part < 0.5, "%g", part);
}
