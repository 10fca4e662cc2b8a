/* prefill_test.c - the cost model of long prompts: partitions against a search
 * of everything, interpolation, predictions that behave, the choice. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "scheduler/prefill.h"

struct rig {
    struct hth_prefill_net net;
    struct hth_prefill_load load;
};

/* Devices like one core of a small machine on the 1 B model; links of `rate`
 * bytes per second. */
static void open_rig(struct rig *g, uint32_t ranks, double rate)
{
    memset(g, 0, sizeof *g);
    g->load = (struct hth_prefill_load){.ranks = ranks,
                                        .layers = 16,
                                        .chunk_rows = 512,
                                        .piece_rows = 256,
                                        .kv_bytes = 2048,
                                        .reduce_bytes = 4096,
                                        .embed_bytes = 1152,
                                        .step_bytes = 8192,
                                        .layer_bytes = 34e6,
                                        .net = &g->net};
    for (uint32_t r = 0; r < ranks; r++) {
        g->load.whole[r] = true;
        g->load.device[r] = (struct hth_prefill_device){.row_s = 3e-4,
                                                        .pair_s = 3e-8,
                                                        .layer_s = 5e-5,
                                                        .share = 1.0 / ranks};
        for (uint32_t s = 0; s < ranks; s++) {
            g->net.alpha_s[r][s] = 2e-4;
            g->net.bytes_per_s[r][s] = rate;
        }
    }
}

static double kvr_time(const struct rig *g, uint32_t count, const double *w)
{
    struct hth_prompt p = {0, count};
    struct hth_prefill_time t;
    struct hth_spread s;

    cr_assert_eq(hth_spread_make(&s, HTH_PREFILL_KVR, w, g->load.ranks, count),
                 0);
    hth_prefill_time_split(&g->load, &p, &s, &t);
    return t.first_token_s;
}

/* The best of all partitions in steps of a fiftieth. */
static double brute(const struct rig *g, uint32_t count)
{
    double best = INFINITY, w[HTH_RANKS_MAX] = {0};

    for (int a = 1; a < 49; a++)
        for (int b = 1; a + b < 50; b++) {
            double t;

            if (g->load.ranks == 2 && b > 1)
                break;
            w[0] = a;
            w[1] = g->load.ranks == 2 ? 50 - a : b;
            w[2] = 50 - a - b;
            t = kvr_time(g, count, w);
            best = t < best ? t : best;
        }
    return best;
}

Test(prefill, searched_partition_is_near_the_best)
{
    static const double even[4] = {1, 1, 1, 1};

    for (uint32_t ranks = 2; ranks <= 3; ranks++)
        for (uint32_t n = 512; n <= 32768; n *= 4)
            for (double rate = 12e6; rate < 2e9; rate *= 10) {
                struct hth_prompt p = {0, n};
                double w[HTH_RANKS_MAX], got;
                struct rig g;

                open_rig(&g, ranks, rate);
                if (n > 4000)
                    g.load.device[0].row_s *= 2;
                got = hth_partition_search(&g.load, &p, w);
                cr_assert_float_eq(got, kvr_time(&g, n, w), got * 1e-9);
                cr_assert_leq(got, brute(&g, n) * 1.05, "%u ranks %u: %f %f",
                              ranks, n, got, brute(&g, n));
                cr_assert_leq(got, kvr_time(&g, n, even) * (1 + 1e-9));
            }
}

Test(prefill, seed_is_uneven_and_sums_to_one)
{
    struct hth_prompt p = {0, 32768};
    double w[HTH_RANKS_MAX], sum = 0;
    struct rig g;

    open_rig(&g, 4, 1e9);
    hth_partition_seed(&g.load, &p, w);
    for (uint32_t r = 0; r < 4; r++) {
        sum += w[r];
        cr_assert(r == 0 || w[r] < w[r - 1]);
    }
    cr_assert_float_eq(sum, 1, 1e-9);
    /* A cached prefix makes later rows cost less more. */
    p.prefix = 100000;
    hth_partition_seed(&g.load, &p, w);
    cr_assert_float_eq(w[0], 0.25, 0.03);
    /* A rate measured as nonsense does not idle a device. */
    g.load.device[1].row_s = 1e3;
    hth_partition_seed(&g.load, &p, w);
    cr_assert_geq(w[1], HTH_PREFILL_SHARE_MIN / 4 * 0.9);
}

Test(prefill, interpolated_partition_is_near_its_own_search)
{
    static const uint32_t known[] = {1024, 2048, 4096, 8192, 16384};
    struct hth_partition_table t = {.ranks = 4};
    double w[HTH_RANKS_MAX];
    struct rig g;

    open_rig(&g, 4, 120e6);
    for (uint32_t i = 0; i < 5; i++) {
        struct hth_prompt p = {0, known[i]};

        hth_partition_search(&g.load, &p, w);
        hth_partition_learn(&t, known[i], w);
    }
    for (uint32_t n = 1100; n < 16000; n += 731) {
        struct hth_prompt p = {0, n};
        double own[HTH_RANKS_MAX], best;

        best = hth_partition_search(&g.load, &p, own);
        cr_assert(hth_partition_lookup(&t, n, w));
        cr_assert_leq(kvr_time(&g, n, w), best * 1.03, "%u", n);
    }
    cr_assert(!hth_partition_lookup(&t, 512, w));
    cr_assert(!hth_partition_lookup(&t, 20000, w));
}

Test(prefill, table_stays_bounded_and_sorted)
{
    struct hth_partition_table t = {.ranks = 2};
    double w[2] = {0.5, 0.5};

    for (uint32_t i = 1; i < 200; i++) {
        w[0] = i / 200.0;
        w[1] = 1 - w[0];
        hth_partition_learn(&t, (i * 7919u) % 4001u + 1, w);
    }
    cr_assert_leq(t.entries, HTH_PARTITION_TABLE_MAX);
    for (uint32_t i = 1; i < t.entries; i++)
        cr_assert_lt(t.count[i - 1], t.count[i]);
    w[0] = 0.9;
    hth_partition_learn(&t, t.count[3], w);
    cr_assert_float_eq(t.weight[3][0], 0.9, 1e-12);
}

/* What must hold of any model: nothing is faster than its compute shared out,
 * a slower link never makes a prompt faster. */
Test(prefill, times_behave)
{
    static const double even[4] = {1, 1, 1, 1};

    for (uint32_t mode = HTH_PREFILL_RING; mode <= HTH_PREFILL_KVR; mode++) {
        double before = 0;

        for (double rate = 1e9; rate > 1e5; rate /= 3) {
            struct hth_prompt p = {0, 4096};
            struct hth_prefill_time t;
            struct hth_spread s;
            struct rig g;
            double work;

            open_rig(&g, 4, rate);
            cr_assert_eq(hth_spread_make(&s, mode, even, 4, 4096), 0);
            hth_prefill_time_split(&g.load, &p, &s, &t);
            work = 16.0 * (1024 * 3e-4);
            cr_assert_geq(t.first_token_s, work);
            cr_assert_geq(t.first_token_s, before * 0.999);
            cr_assert_geq(t.all_s * 1.001, t.first_token_s);
            before = t.first_token_s;
        }
        /* At a crawl the link is all there is: its bytes at its rate. */
        cr_assert_geq(before, 16.0 * 1024 * 2048 / 3e5);
    }
}

Test(prefill, slow_networks_split_and_short_prompts_too)
{
    struct hth_prefill_choice c;
    struct rig g;

    open_rig(&g, 4, 12.5e6);
    cr_assert_eq(hth_prefill_choose(&g.load, &(struct hth_prompt){0, 4096},
                                    HTH_PREFILL_AUTO, NULL, &c),
                 0);
    cr_assert(hth_prefill_splits(c.mode));
    cr_assert_leq(c.predicted_s * 2, c.by_mode_s[HTH_PREFILL_TP]);
    for (uint32_t m = HTH_PREFILL_TP; m < HTH_PREFILL_AUTO; m++)
        cr_assert_leq(c.predicted_s, c.by_mode_s[m]);
    cr_assert_eq(c.spread.count, 4096u);
    /* What was asked for is done, whatever it costs. */
    cr_assert_eq(hth_prefill_choose(&g.load, &(struct hth_prompt){0, 4096},
                                    HTH_PREFILL_TP, NULL, &c),
                 0);
    cr_assert_eq(c.mode, HTH_PREFILL_TP);
    /* Without whole layers there is nothing to split. */
    g.load.whole[2] = false;
    cr_assert_eq(hth_prefill_choose(&g.load, &(struct hth_prompt){0, 4096},
                                    HTH_PREFILL_KVR, NULL, &c),
                 HTH_EUNSUPPORTED);
    cr_assert_eq(hth_prefill_choose(&g.load, &(struct hth_prompt){0, 4096},
                                    HTH_PREFILL_AUTO, NULL, &c),
                 0);
    cr_assert(c.mode == HTH_PREFILL_TP || c.mode == HTH_PREFILL_SINGLE);
}

Test(prefill, streamed_layers_bound_short_prompts)
{
    struct hth_prefill_time fast, slow;
    struct hth_prompt p = {0, 64};
    static const double even[2] = {1, 1};
    struct hth_spread s;
    struct rig g;

    open_rig(&g, 2, 1e9);
    cr_assert_eq(hth_spread_make(&s, HTH_PREFILL_KVR, even, 2, 64), 0);
    hth_prefill_time_split(&g.load, &p, &s, &fast);
    g.load.device[0].stream_bytes_per_s = 500e6;
    g.load.device[1].stream_bytes_per_s = 500e6;
    hth_prefill_time_split(&g.load, &p, &s, &slow);
    cr_assert_geq(slow.first_token_s, 16 * 34e6 / 500e6);
    cr_assert_lt(fast.first_token_s, slow.first_token_s);
}

/* Of what was measured the next prediction is made: the same length exactly,
 * others by what lies around them, unknown modes that split like those that
 * are known, and nothing else. */
Test(prefill, the_past_corrects_predictions)
{
    static struct hth_prefill_past past;

    cr_assert_eq(hth_prefill_factor(&past, HTH_PREFILL_KVR, 512), 1);
    hth_prefill_learn(&past, HTH_PREFILL_KVR, 512, 2);
    hth_prefill_learn(&past, HTH_PREFILL_KVR, 2048, 8);
    cr_assert_float_eq(hth_prefill_factor(&past, HTH_PREFILL_KVR, 512), 2,
                       1e-6);
    cr_assert_float_eq(hth_prefill_factor(&past, HTH_PREFILL_KVR, 1024), 4,
                       1e-6);
    /* Beyond what is known its word counts less and less. */
    cr_assert_float_eq(hth_prefill_factor(&past, HTH_PREFILL_KVR, 2500), 8,
                       1e-6);
    cr_assert_float_eq(hth_prefill_factor(&past, HTH_PREFILL_KVR, 8192),
                       exp(log(8) / 2.5), 1e-6);
    cr_assert_leq(hth_prefill_factor(&past, HTH_PREFILL_KVR, 32), 1.2);
    cr_assert_float_eq(hth_prefill_factor(&past, HTH_PREFILL_ZIGZAG, 512), 2,
                       1e-6);
    cr_assert_eq(hth_prefill_factor(&past, HTH_PREFILL_TP, 512), 1);
    cr_assert_eq(hth_prefill_factor(&past, HTH_PREFILL_SINGLE, 512), 1);
    /* The median of the last ones: what happens once does not count, what
     * lasts does. */
    for (int i = 0; i < 5; i++)
        hth_prefill_learn(&past, HTH_PREFILL_KVR, 512, i == 3 ? 9 : 0.5);
    cr_assert_float_eq(hth_prefill_factor(&past, HTH_PREFILL_KVR, 512), 0.5,
                       1e-6);
    for (int i = 0; i < 3; i++)
        hth_prefill_learn(&past, HTH_PREFILL_KVR, 512, 3);
    cr_assert_float_eq(hth_prefill_factor(&past, HTH_PREFILL_KVR, 512), 3,
                       1e-6);
    /* Nonsense is not learnt, and no one prompt says all. */
    hth_prefill_learn(&past, HTH_PREFILL_TP, 512, -1);
    hth_prefill_learn(&past, HTH_PREFILL_TP, 512, NAN);
    hth_prefill_learn(&past, HTH_PREFILL_MODES, 512, 3);
    cr_assert_eq(hth_prefill_factor(&past, HTH_PREFILL_TP, 512), 1);
    hth_prefill_learn(&past, HTH_PREFILL_TP, UINT32_MAX, 1e9);
    cr_assert_leq(hth_prefill_factor(&past, HTH_PREFILL_TP, 512), 16 + 1e-6);
}

/* Devices that are k times slower than they said, each mode in its own way:
 * auto comes to the best mode, and predicts it. */
Test(prefill, auto_learns_what_the_model_does_not_see)
{
    static const double truth[HTH_PREFILL_AUTO] = {1.1, 2.4, 2.9, 2.1, 3.5, 1};
    struct hth_prefill_memory memory = {.table = {.ranks = 4}};
    struct hth_prefill_choice c = {0}, model;
    struct hth_prompt p = {0, 2048};
    double best = INFINITY, took = 0;
    struct rig g;

    open_rig(&g, 4, 1e9);
    cr_assert_eq(
        hth_prefill_choose(&g.load, &p, HTH_PREFILL_AUTO, NULL, &model), 0);
    for (uint32_t m = 0; m < HTH_PREFILL_AUTO; m++)
        best = fmin(best, model.by_mode_s[m] * truth[m]);
    for (int i = 0; i < 12; i++) {
        cr_assert_eq(
            hth_prefill_choose(&g.load, &p, HTH_PREFILL_AUTO, &memory, &c), 0);
        took = c.model_s * truth[c.mode];
        hth_prefill_learn(&memory.past, c.mode, p.count, took / c.model_s);
    }
    cr_assert_leq(took, best * 1.1, "%s %f %f", hth_prefill_mode_text(c.mode),
                  took, best);
    cr_assert_float_eq(c.predicted_s, took, took * 0.05);
}

/* A mode that had bad luck once, or that the model is wrong about by little, is
 * tried again; one that is far from the best never. */
Test(prefill, what_may_be_better_is_tried)
{
    struct hth_prefill_memory memory = {.table = {.ranks = 4}};
    struct hth_prompt p = {0, 2048};
    uint32_t runs[HTH_PREFILL_AUTO] = {0};
    struct hth_prefill_choice c, model;
    uint32_t best;
    struct rig g;

    open_rig(&g, 4, 12.5e6);
    cr_assert_eq(
        hth_prefill_choose(&g.load, &p, HTH_PREFILL_AUTO, NULL, &model), 0);
    best = model.mode;
    /* The best one's first prompt met something else, and took long. */
    hth_prefill_learn(&memory.past, best, p.count, 1.08);
    for (int i = 0; i < 60; i++) {
        cr_assert_eq(
            hth_prefill_choose(&g.load, &p, HTH_PREFILL_AUTO, &memory, &c), 0);
        runs[c.mode]++;
        hth_prefill_learn(&memory.past, c.mode, p.count, 1);
    }
    cr_assert_geq(runs[best], 40u);
    for (uint32_t m = 0; m < HTH_PREFILL_AUTO; m++) {
        double times = model.by_mode_s[m] / model.predicted_s;

        cr_assert(times < 1.6 || runs[m] == 0, "%s %f %u",
                  hth_prefill_mode_text(m), times, runs[m]);
        cr_assert(times > 1.4 || runs[m] > 0, "%s %f %u",
                  hth_prefill_mode_text(m), times, runs[m]);
    }
}

/* What does not fit a device's memory is not chosen, nor done when asked for.
 */
Test(prefill, barred_modes_are_left_out)
{
    struct hth_prompt p = {0, 4096};
    struct hth_prefill_choice c;
    uint32_t tried = 0;
    struct rig g;

    open_rig(&g, 4, 12.5e6);
    while (hth_prefill_choose(&g.load, &p, HTH_PREFILL_AUTO, NULL, &c) == 0) {
        cr_assert(!(g.load.barred >> c.mode & 1));
        cr_assert_eq(c.spread.mode, c.mode);
        g.load.barred |= 1u << c.mode;
        tried++;
    }
    cr_assert_eq(tried, HTH_PREFILL_AUTO);
    cr_assert_eq(hth_prefill_choose(&g.load, &p, HTH_PREFILL_KVR, NULL, &c),
                 HTH_EUNSUPPORTED);
}

/* Ranks that share cores: who computes alone is as fast as it is alone. */
Test(prefill, alone_is_faster_on_shared_cores)
{
    struct hth_prompt p = {0, 256};
    struct hth_prefill_choice c, alone;
    struct rig g;

    open_rig(&g, 4, 125e6);
    cr_assert_eq(hth_prefill_choose(&g.load, &p, HTH_PREFILL_SINGLE, NULL, &c),
                 0);
    g.load.alone = 0.5;
    cr_assert_eq(
        hth_prefill_choose(&g.load, &p, HTH_PREFILL_SINGLE, NULL, &alone), 0);
    cr_assert_eq(alone.spread.rows[0], 256u);
    cr_assert_lt(alone.predicted_s, 0.55 * c.predicted_s);
    cr_assert_float_eq(alone.by_mode_s[HTH_PREFILL_KVR],
                       c.by_mode_s[HTH_PREFILL_KVR], 1e-12);
}

/* By hand, three links into one interface: 60 rows at 12.5 MB/s all at once,
 * their sums going back behind the last piece; 512 rows at 125 MB/s in halves
 * whose computing is hidden behind the sums but for both ends. */
Test(prefill, steps_cost_what_their_bytes_cost)
{
    struct hth_prefill_time t;
    double sum, out, rows;
    struct rig g;

    open_rig(&g, 4, 12.5e6);
    hth_prefill_time_tp(&g.load, &(struct hth_prompt){0, 60}, &t);
    sum = 3 * 60 * 4096 / 12.5e6 * (1 + 65536.0 / (60 * 4096)) + 4e-4;
    out = 3 * 60 * 8192 / 12.5e6 + 2e-4;
    rows = (60 * 3e-4 + 60 * 61 / 2 * 3e-8 + 5e-5) / 4;
    cr_assert_float_eq(t.first_token_s, 32 * sum + out + 16 * rows, 1e-6);
    open_rig(&g, 4, 125e6);
    hth_prefill_time_tp(&g.load, &(struct hth_prompt){0, 512}, &t);
    sum = 3 * 256 * 4096 / 125e6 * (1 + 1.0 / 16) + 4e-4;
    out = 3 * 512 * 8192 / 125e6 + 2e-4;
    rows = (512 * 3e-4 + 512 * 513 / 2 * 3e-8 + 5e-5) / 4;
    cr_assert_float_eq(t.first_token_s,
                       64 * sum + out + (64 * sum + 16 * rows) / 64, 1e-6);
    /* Where computing is longer, it hides the sums. */
    open_rig(&g, 4, 1e9);
    hth_prefill_time_tp(&g.load, &(struct hth_prompt){0, 512}, &t);
    cr_assert_leq(t.first_token_s, 16 * rows * 1.2);
}

Test(prefill, equal_devices_are_dealt_equally)
{
    double rate[5] = {100, 106, 250, 103, 0};

    hth_prefill_level(rate, 5);
    cr_assert_float_eq(rate[0], 103, 1e-9);
    cr_assert_float_eq(rate[1], 103, 1e-9);
    cr_assert_eq(rate[2], 250);
    cr_assert_float_eq(rate[3], 103, 1e-9);
    cr_assert_eq(rate[4], 0);
}
