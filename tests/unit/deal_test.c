/* Dealing tiles: every tile once, in proportion, and shares that follow the
 * measured speeds without being thrown over by one bad run. */
#include <criterion/criterion.h>

#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "base/status.h"
#include "kernels/deal.h"
#include "kernels/pool.h"
#include "kernels/slice.h"

enum { THREADS = 4, TILES = 1000 };

/* ---- taking ----------------------------------------------------------------
 */

Test(deal, each_tile_once_own_ones_first)
{
    struct hth_deal *d = hth_deal_open(THREADS);
    bool taken[TILES] = {false};
    uint32_t tile;

    cr_assert_neq(d, NULL);
    for (uint32_t round = 0; round < 3; round++) {
        memset(taken, 0, sizeof taken);
        hth_deal_begin(d, HTH_DEAL_DECODE, TILES, 1);
        for (uint32_t t = 0; t < THREADS; t++) {
            cr_assert(hth_deal_take(d, t, &tile));
            cr_assert_eq(tile, t * TILES / THREADS); /* where its run begins */
            taken[tile] = true;
        }
        while (hth_deal_take(d, round, &tile)) { /* one does all the rest */
            cr_assert(tile < TILES && !taken[tile]);
            taken[tile] = true;
        }
        for (uint32_t i = 0; i < TILES; i++)
            cr_assert(taken[i]);
        for (uint32_t t = 0; t < THREADS; t++)
            cr_assert_not(hth_deal_take(d, t, &tile));
    }
    hth_deal_begin(d, HTH_DEAL_DECODE, 0, 1);
    cr_assert_not(hth_deal_take(d, 1, &tile));
    hth_deal_close(d);
}

/* ---- learning
 * ---------------------------------------------------------------- */

/* One deal on cores of these speeds, each doing its share. */
static void step(float *share, const float *speed, struct hth_rng *r)
{
    struct hth_deal_work work[THREADS];

    for (uint32_t i = 0; i < THREADS; i++) {
        float noise = 1.0f + 0.03f * hth_rng_normal(r);

        work[i].tiles = (uint32_t)(share[i] * 10000.0f);
        work[i].ns =
            (uint64_t)((float)work[i].tiles / speed[i] * noise * 100.0f);
    }
    hth_deal_learn(share, work, THREADS);
}

/* The slowest thread's time over the mean, if shares are dealt exactly. */
static float unevenness(const float *share, const float *speed)
{
    float most = 0, sum = 0;

    for (uint32_t i = 0; i < THREADS; i++) {
        most = fmaxf(most, share[i] / speed[i]);
        sum += share[i] / speed[i];
    }
    return most / (sum / THREADS);
}

Test(deal, shares_follow_the_speeds)
{
    static const float hybrid[THREADS] = {3.4f, 3.4f, 1, 1};
    static const float even[THREADS] = {1, 1, 1, 1};
    float share[THREADS] = {0.25f, 0.25f, 0.25f, 0.25f}, sum = 0;
    struct hth_rng r;

    hth_rng_init(&r, 1);
    for (int i = 0; i < 10; i++)
        step(share, hybrid, &r);
    cr_assert_leq(unevenness(share, hybrid), 1.1f);
    for (int i = 0; i < 10; i++)
        step(share, even, &r);
    cr_assert_leq(unevenness(share, even), 1.1f);
    for (int i = 0; i < THREADS; i++)
        sum += share[i];
    cr_assert_leq(fabsf(sum - 1.0f), 1e-5f);
}

/* A thread that lost its CPU for a while, or that never came, keeps most of its
 * share. */
Test(deal, one_bad_run_is_not_believed)
{
    float share[THREADS] = {0.25f, 0.25f, 0.25f, 0.25f};
    struct hth_deal_work work[THREADS] = {
        {250, 1000}, {250, 1000}, {250, 1000}, {10, 100000}};
    struct hth_deal_work absent[THREADS] = {
        {300, 1000}, {300, 1000}, {300, 1000}, {0, 0}};
    struct hth_deal_work nobody[THREADS] = {{0, 0}};
    float before;

    hth_deal_learn(share, work, THREADS);
    cr_assert(share[3] > 0.19f && share[3] < 0.25f);
    hth_deal_learn(share, absent, THREADS);
    cr_assert(share[3] > 0.15f && share[3] < 0.22f);
    before = share[3];
    for (int i = 0; i < 1000; i++)
        hth_deal_learn(share, absent, THREADS);
    cr_assert_float_eq(share[3], before, 1e-3f);
    hth_deal_learn(share, nobody, THREADS);
    cr_assert_float_eq(share[3], before, 1e-3f);
}

/* ---- slices ----------------------------------------------------------------
 */

enum { US = 1000, MS = 1000 * US, TILE = 15 * US };

/* Time of one CPU that a thread shares with an endless loop: both get 4 ms in
 * turn, ended by a tick; or the thread's own. A tile that meets the end of a
 * slice ends 4 ms later. */
struct cpu {
    uint64_t now, slice_end;
    bool shared;
    uint32_t cuts, yields;
};

static void run_for(struct cpu *c, uint64_t ns)
{
    c->now += ns;
    if (!c->shared || c->now < c->slice_end)
        return;
    c->now += 4 * MS;
    c->slice_end += 8 * MS;
    c->cuts++;
}

static void yield_cpu(struct cpu *c)
{
    c->yields++;
    c->now += 2 * US;
    if (!c->shared)
        return;
    c->now = c->slice_end + 4 * MS;
    c->slice_end += 8 * MS;
}

static void work(struct hth_slice *s, struct cpu *c, uint64_t ns)
{
    uint64_t until = c->now + ns;

    while (c->now < until) {
        run_for(c, TILE);
        if (!hth_slice_due(s, c->now))
            continue;
        yield_cpu(c);
        hth_slice_back(s, c->now);
    }
}

Test(slice, gives_the_cpu_away_before_it_is_taken)
{
    struct hth_slice s = {0};
    struct cpu c = {.now = 1000 * (uint64_t)MS};

    hth_slice_wake(&s, c.now, 1);
    work(&s, &c, 1000 * (uint64_t)MS);
    cr_assert_eq(c.yields, 0u); /* a CPU of its own: never */

    c.shared = true;
    c.slice_end = c.now + 4 * MS;
    work(&s, &c, 80 * (uint64_t)MS);
    c.cuts = c.yields = 0;
    work(&s, &c, 8000 * (uint64_t)MS); /* a thousand slices */
    cr_assert_lt(c.cuts, 100u);
    cr_assert_gt(c.yields, 900u);

    c.shared = false; /* the neighbour is gone: forgotten after a few looks */
    c.yields = 0;
    work(&s, &c, 1000 * (uint64_t)MS);
    cr_assert_lt(c.yields, 10u);
    cr_assert_eq(s.length_ns, 0u);
}

/* Neither long tiles nor a long wait for work look like a neighbour. */
Test(slice, knows_long_tiles_and_waits_from_lost_time)
{
    struct hth_slice s = {0};
    uint64_t now = 1000 * (uint64_t)MS;

    hth_slice_wake(&s, now, 1);
    for (int i = 0; i < 100; i++)
        cr_assert_not(hth_slice_due(&s, now += (i % 3 + 2) * (uint64_t)MS));
    for (int i = 0; i < 100; i++) {
        hth_slice_wake(&s, now += 30 * (uint64_t)MS, 1);
        cr_assert_not(hth_slice_due(&s, now += 4 * (uint64_t)MS));
    }
    cr_assert_eq(s.length_ns, 0u);
}

/* A layer's products differ in the length of their rows: a tile of one is many
 * times a tile of the next, and nobody took the CPU meanwhile. */
Test(slice, knows_long_products_from_lost_time)
{
    struct hth_slice s = {0};
    uint64_t now = 1000 * (uint64_t)MS;

    for (int layer = 0; layer < 50; layer++)
        for (uint64_t work = 1; work <= 8; work += 7) {
            hth_slice_wake(&s, now, work);
            for (int i = 0; i < 16; i++)
                cr_assert_not(hth_slice_due(&s, now += work * MS / 2));
        }
    cr_assert_eq(s.length_ns, 0u);
}

/* ---- runs that do not wait --------------------------------------------------
 */

struct run {
    struct hth_deal *deal;
    uint32_t by[TILES]; /* plain: the pool orders what is written */
};

static void take_all(void *ctx, uint32_t thread, uint32_t threads)
{
    struct run *r = ctx;
    uint32_t tile;

    (void)threads;
    while (hth_deal_take(r->deal, thread, &tile))
        r->by[tile]++;
}

Test(deal, runs_that_do_not_wait_lose_nothing)
{
    static struct run r;
    struct hth_pool *pool;
    struct hth_err err;

    cr_assert_eq(hth_pool_start(&pool, THREADS, false, &err), HTH_OK);
    r.deal = hth_pool_deal(pool);
    for (uint32_t round = 1; round <= 2000; round++) {
        uint32_t tiles = round % TILES;

        hth_deal_begin(r.deal, HTH_DEAL_PROMPT, tiles, 1);
        if (round % 7 == 0)
            hth_pool_run(pool, take_all, &r);
        else
            hth_pool_run_any(pool, take_all, &r);
        hth_deal_end(r.deal);
        for (uint32_t i = 0; i < tiles; i++) {
            cr_assert_eq(r.by[i], 1u, "round %u tile %u", round, i);
            r.by[i] = 0;
        }
    }
    hth_pool_stop(pool);
}
