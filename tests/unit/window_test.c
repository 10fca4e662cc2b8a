/* window_test.c - the window plan on models made of numbers: never over the
 * budget, as much pinned as goes, evenly, and predictions that are right where
 * one can say by hand what is right. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "scheduler/window.h"

#define MIB (1ull << 20)
#define PIECES_MAX 2048u

static struct hth_window_piece g_piece[PIECES_MAX];
static bool g_pinned[PIECES_MAX];

/* Layers of attention 11, gate and up 36, down 18 MiB, a head of 8 x 8. */
static struct hth_window_ask model(uint32_t layers, uint64_t budget)
{
    struct hth_window_ask a = {.piece = g_piece,
                               .budget_bytes = budget,
                               .ahead_bytes = 16 * MIB,
                               .disk_bytes_per_s = 1e9,
                               .compute_bytes_per_s = 10e9};

    for (uint32_t l = 0; l < layers; l++) {
        g_piece[a.count++] = (struct hth_window_piece){11 * MIB, 1};
        g_piece[a.count++] = (struct hth_window_piece){36 * MIB, 1};
        g_piece[a.count++] = (struct hth_window_piece){18 * MIB, 1};
    }
    for (uint32_t i = 0; i < 8; i++)
        g_piece[a.count++] = (struct hth_window_piece){8 * MIB, 1};
    return a;
}

static uint64_t total(const struct hth_window_ask *a)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < a->count; i++)
        sum += a->piece[i].bytes;
    return sum;
}

/* What must hold of every plan. */
static void check(const struct hth_window_ask *a, const struct hth_window *w)
{
    uint64_t pinned = 0, largest = 0;

    for (uint32_t i = 0; i < a->count; i++) {
        if (g_pinned[i])
            pinned += a->piece[i].bytes;
        else if (a->piece[i].use >= 1 && a->piece[i].bytes > largest)
            largest = a->piece[i].bytes;
    }
    cr_assert_eq(pinned, w->pinned_bytes);
    cr_assert(w->ring_bytes == 0 ? largest == 0
                                 : w->ring_bytes >= largest + a->ahead_bytes);
    cr_assert(a->unit_bytes == 0 || w->ring_bytes % a->unit_bytes == 0);
    cr_assert(a->budget_bytes == 0 ||
              w->pinned_bytes + w->ring_bytes + w->cache_bytes <=
                  a->budget_bytes);
}

Test(window, all_is_pinned_where_it_fits)
{
    struct hth_window_ask a = model(16, 0);
    struct hth_window w;

    cr_assert_eq(hth_window_plan(&a, g_pinned, &w, NULL), 0);
    check(&a, &w);
    cr_assert_eq(w.pinned_bytes, total(&a));
    a.budget_bytes = total(&a);
    cr_assert_eq(hth_window_plan(&a, g_pinned, &w, NULL), 0);
    check(&a, &w);
    cr_assert_eq(w.streamed_bytes, 0u);
    cr_assert_float_eq(w.token_s, (double)total(&a) / 10e9, 1e-9);
    cr_assert_eq(w.stall_s, 0.0);
    cr_assert_eq(w.bound, HTH_BOUND_COMPUTE);
}

/* A disk ten times slower than the processor: time is what is read, and what
 * is read is what the budget does not hold. */
Test(window, slow_disk_costs_what_it_reads)
{
    for (uint32_t percent = 15; percent < 100; percent += 5) {
        struct hth_window_ask a = model(16, 0);
        struct hth_window w;

        a.budget_bytes = total(&a) * percent / 100;
        cr_assert_eq(hth_window_plan(&a, g_pinned, &w, NULL), 0);
        check(&a, &w);
        cr_assert_eq(w.streamed_bytes + w.pinned_bytes, total(&a));
        /* Room lost: the ring, and less than the smallest piece. */
        cr_assert_leq(w.streamed_bytes,
                      total(&a) - a.budget_bytes + w.ring_bytes + 18 * MIB);
        if (percent > 90)
            continue;
        cr_assert_eq(w.bound, HTH_BOUND_DISK);
        cr_assert_float_eq(w.token_s / ((double)w.streamed_bytes / 1e9), 1,
                           0.05, "%u %%: %g", percent, w.token_s);
    }
}

/* Compute covers the reads of every stretch: no stall. */
Test(window, fast_disk_does_not_stall)
{
    struct hth_window_ask a = model(16, 500 * MIB);
    struct hth_window w;

    a.disk_bytes_per_s = 30e9;
    cr_assert_eq(hth_window_plan(&a, g_pinned, &w, NULL), 0);
    check(&a, &w);
    cr_assert_eq(w.bound, HTH_BOUND_COMPUTE);
    cr_assert_float_eq(w.stall_s, 0, 1e-9);
    cr_assert_float_eq(w.token_s, (double)total(&a) / 10e9, 1e-6);
}

Test(window, pinned_pieces_are_spread)
{
    struct hth_window_ask a = model(64, 0);
    struct hth_window w;
    uint64_t quarter[4] = {0};

    a.budget_bytes = total(&a) / 2;
    cr_assert_eq(hth_window_plan(&a, g_pinned, &w, NULL), 0);
    check(&a, &w);
    for (uint32_t i = 0; i < 192; i++)
        quarter[i / 48] += g_pinned[i] ? a.piece[i].bytes : 0;
    for (uint32_t q = 0; q < 4; q++)
        cr_assert_float_eq((double)quarter[q] / (double)w.pinned_bytes, 0.25,
                           0.05, "quarter %u", q);
}

Test(window, too_little_says_how_much)
{
    struct hth_window_ask a = model(16, 10 * MIB);
    struct hth_window w;
    struct hth_err err;
    uint64_t need;

    cr_assert_eq(hth_window_plan(&a, g_pinned, &w, &err), HTH_EOVERFLOW);
    need = w.need_bytes;
    cr_assert_not_null(strstr(err.text, "53 MiB"), "%s", err.text);
    a.budget_bytes = need;
    cr_assert_eq(hth_window_plan(&a, g_pinned, &w, &err), 0, "%s", err.text);
    check(&a, &w);
    a.budget_bytes = need - 1;
    cr_assert_eq(hth_window_plan(&a, g_pinned, &w, &err), HTH_EOVERFLOW);
}

/* Experts are not read ahead: they get a cache, the rest is pinned first. */
Test(window, experts_get_what_is_left)
{
    struct hth_window_ask a = {.piece = g_piece,
                               .ahead_bytes = 4 * MIB,
                               .disk_bytes_per_s = 1e9,
                               .compute_bytes_per_s = 10e9};
    struct hth_window w;

    for (uint32_t l = 0; l < 8; l++) {
        g_piece[a.count++] = (struct hth_window_piece){10 * MIB, 1};
        for (uint32_t e = 0; e < 32; e++)
            g_piece[a.count++] = (struct hth_window_piece){4 * MIB, 0.125};
    }
    a.budget_bytes = 80 * MIB + 512 * MIB;
    cr_assert_eq(hth_window_plan(&a, g_pinned, &w, NULL), 0);
    check(&a, &w);
    cr_assert_eq(w.pinned_bytes, 80 * MIB);
    cr_assert_eq(w.cache_bytes, 512 * MIB);
    /* Half of the experts are there; 4 of 32 are asked for per layer. */
    cr_assert_float_eq((double)w.streamed_bytes, 8 * 4 * 4 * MIB * 0.5, 1.0);
    a.budget_bytes = 40 * MIB;
    cr_assert_eq(hth_window_plan(&a, g_pinned, &w, NULL), 0);
    check(&a, &w);
    cr_assert_eq(w.cache_bytes, 8 * MIB);
    a.budget_bytes = 6 * MIB;
    cr_assert_eq(hth_window_plan(&a, g_pinned, &w, NULL), HTH_EOVERFLOW);
    cr_assert_eq(w.need_bytes, 22 * MIB);
    a.unit_bytes = 5 * MIB; /* rings of 15 MiB */
    cr_assert_eq(hth_window_plan(&a, g_pinned, &w, NULL), HTH_EOVERFLOW);
    cr_assert_eq(w.need_bytes, 23 * MIB);
    a.budget_bytes = w.need_bytes;
    cr_assert_eq(hth_window_plan(&a, g_pinned, &w, NULL), 0);
    cr_assert_eq(w.ring_bytes, 15 * MIB);
}

/* TPI-LLM's loose steady-state condition (arXiv 2410.00531), from measured
 * times: of every stretch of blocks from the beginning of a token on, and of
 * every token, the compute is at least the reads'. */
static bool is_steady(const struct hth_window_ask *a)
{
    double ahead_s = 0;

    for (uint32_t turn = 0; turn < 2; turn++)
        for (uint32_t i = 0; i < a->count; i++) {
            double b = (double)a->piece[i].bytes;

            /* Read while the one before is computed, and so on. */
            ahead_s -= g_pinned[i] ? 0 : b / a->disk_bytes_per_s;
            if (turn > 0 && ahead_s < 0)
                return false;
            ahead_s += b / a->compute_bytes_per_s;
            if (turn == 0 && i == 0)
                ahead_s = b / a->compute_bytes_per_s;
        }
    return true;
}

/* With a ring that never binds, no stall is predicted exactly where it holds:
 * half of the blocks pinned, on disks of all speeds. */
Test(window, stall_is_zero_when_the_steady_state_says_so)
{
    uint32_t steady = 0, rounds = 0;

    for (double disk = 0.5e9; disk < 40e9; disk *= 1.13, rounds++) {
        struct hth_window_ask a = model(16, 0);
        struct hth_window w;

        a.budget_bytes = total(&a) / 2;
        a.disk_bytes_per_s = disk;
        cr_assert_eq(hth_window_plan(&a, g_pinned, &w, NULL), 0);
        w.ring_bytes = 4 * total(&a);
        hth_window_predict(&a, g_pinned, &w);
        if (is_steady(&a))
            cr_assert_float_eq(w.stall_s, 0, 1e-9, "disk %g", disk);
        else if (w.disk_s > w.compute_s)
            cr_assert_gt(w.stall_s, 0, "disk %g", disk);
        steady += is_steady(&a);
    }
    cr_assert(steady > 3 && steady < rounds - 3, "%u of %u", steady, rounds);
}

/* Any model and budget: bounds hold, and the time is neither less than the
 * slower of disk and processor nor more than both one after the other. */
Test(window, random_models)
{
    struct hth_rng rng;

    hth_rng_init(&rng, 5);
    for (uint32_t round = 0; round < 300; round++) {
        struct hth_window_ask a = {.piece = g_piece,
                                   .ahead_bytes = hth_rng_u64(&rng) % 5000,
                                   .unit_bytes = hth_rng_u64(&rng) % 3 * 700,
                                   .disk_bytes_per_s =
                                       1 + (double)(hth_rng_u64(&rng) % 9000),
                                   .compute_bytes_per_s = 4000};
        struct hth_window w;

        a.count = 1 + (uint32_t)(hth_rng_u64(&rng) % 60);
        for (uint32_t i = 0; i < a.count; i++)
            g_piece[i] = (struct hth_window_piece){
                hth_rng_u64(&rng) % 4 * (1 + hth_rng_u64(&rng) % 4000), 1};
        a.budget_bytes = 1 + hth_rng_u64(&rng) % (total(&a) + 2);
        if (hth_window_plan(&a, g_pinned, &w, NULL) != 0) {
            cr_assert_gt(w.need_bytes, a.budget_bytes);
            continue;
        }
        check(&a, &w);
        cr_assert_geq(w.token_s * 1.0001, w.compute_s);
        cr_assert_geq(w.token_s * 1.0001, w.disk_s);
        cr_assert_leq(w.token_s * 0.9999, w.compute_s + w.disk_s);
    }
}
