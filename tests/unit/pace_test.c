/* pace_test.c - the credit for prompts and the fair queue, against a simulated
 * engine: no clock, no thread. */
#include <criterion/criterion.h>

#include "coordinator/fair.h"
#include "coordinator/pace.h"

#define MS 1000000.0

/* A machine whose decode step takes 16 ms plus 1 ms per row beyond the first,
 * and a prompt row 3 ms, less in large chunks. */
static uint64_t step_ns(uint32_t decodes, uint32_t prompts)
{
    double row = prompts >= 64 ? 2.0 : prompts >= 16 ? 2.5 : 3.0;

    return (uint64_t)(MS * (16.0 + (decodes > 0 ? decodes - 1.0 : 0.0) +
                            row * prompts));
}

struct run {
    double total_ns, longest_ns;
    uint32_t steps, left;
};

static struct run read_prompt(struct hth_pace *p, uint32_t decodes,
                              uint32_t rows)
{
    struct run r = {.left = rows};

    while (r.left > 0 && r.steps < 100000) {
        uint32_t n = hth_pace_rows(p, decodes, r.left < 512 ? r.left : 512);
        uint64_t ns = step_ns(decodes, n);

        cr_assert(n <= r.left);
        hth_pace_note(p, decodes, n, ns);
        r.left -= n;
        r.steps++;
        r.total_ns += (double)ns;
        if ((double)ns > r.longest_ns)
            r.longest_ns = (double)ns;
    }
    return r;
}

/* The promise: a 2048-token prompt costs those who are being answered at most
 * a quarter of their speed, and no single token waits for long. */
Test(pace, growth_of_time_per_token)
{
    static const uint32_t decodes[] = {1, 4, 8, 64};

    for (uint32_t i = 0; i < 4; i++) {
        struct hth_pace p;
        struct run r;
        double alone = (double)step_ns(decodes[i], 0);

        hth_pace_init(&p);
        r = read_prompt(&p, decodes[i], 2048);
        cr_assert_eq(r.left, 0);
        cr_assert_leq(r.total_ns / r.steps, 1.25 * alone, "%u rows: %.2f",
                      decodes[i], r.total_ns / r.steps / alone);
        cr_assert_leq(r.longest_ns, (1.2 + HTH_PACE_STALL_STEPS) * alone);
        /* and the credit is used: a prompt is not starved */
        cr_assert_geq(r.total_ns / r.steps, 1.10 * alone);
    }
}

Test(pace, nobody_waits_all_rows)
{
    struct hth_pace p;

    hth_pace_init(&p);
    cr_assert_eq(hth_pace_rows(&p, 0, 512), 512);
    cr_assert_eq(hth_pace_rows(&p, 3, 0), 0);
    cr_assert_eq(hth_pace_rows(&p, 3, 512), 0, "a step to measure first");
}

/* Credit that was not used does not pile up while no prompt waits. */
Test(pace, credit_is_bounded)
{
    struct hth_pace p;

    hth_pace_init(&p);
    for (int i = 0; i < 10000; i++)
        hth_pace_note(&p, 2, 0, step_ns(2, 0));
    cr_assert_leq(p.credit_ns,
                  HTH_PACE_STALL_STEPS * (double)step_ns(2, 0) + 1);
}

/* Measurements disturbed by something else make a prompt slower, never stop
 * it: neither one row that took very long, nor all sizes at once. */
Test(pace, disturbed_measurements)
{
    struct hth_pace p;

    hth_pace_init(&p);
    hth_pace_note(&p, 4, 0, step_ns(4, 0));
    for (uint32_t i = 0; i < HTH_PACE_SIZES; i++)
        hth_pace_note(&p, 4, 1u << i, 500 * step_ns(4, 0));
    p.credit_ns = 0; /* the debt would be paid first */
    cr_assert_eq(read_prompt(&p, 4, 2048).left, 0);
    cr_assert_lt(p.row_ns[3], 10 * MS, "8 rows were not tried again");
}

/* Beside a long prompt short ones come every 40 steps, as hth_engine__allot
 * deals: asked for alone, before the long one, three times out of four. Each is
 * read within 25 steps, the long one in less than twice its time, and the
 * promise holds all the while. */
Test(pace, short_ones_beside_a_long_one)
{
    uint32_t quick = 0, rest = 2048, left = 0, steps = 0, since = 0, worst = 0;
    uint32_t decodes = 4, deals = 0;
    double total = 0;
    struct hth_pace p;

    hth_pace_init(&p);
    quick = read_prompt(&p, decodes, 2048).steps;
    hth_pace_init(&p);
    for (; rest > 0; steps++) {
        bool long_first = (deals + 1) % 4 == 0;
        uint32_t n, s;

        if (left == 0 && steps % 40 == 0)
            left = 16, since = steps;
        n = left > 0 && !long_first ? left : left + rest;
        n = hth_pace_rows(&p, decodes, n < 128 ? n : 128);
        total += (double)step_ns(decodes, n);
        hth_pace_note(&p, decodes, n, step_ns(decodes, n));
        deals += n > 0;
        s = long_first ? (n > rest ? n - rest : 0) : (n < left ? n : left);
        if (left > 0 && s == left && steps - since > worst)
            worst = steps - since;
        left -= s;
        rest -= n - s;
    }
    cr_assert_leq(worst, 25, "a short one waited %u steps", worst);
    cr_assert_lt(steps, 2 * quick, "%u steps, alone %u", steps, quick);
    cr_assert_leq(total / steps, 1.25 * (double)step_ns(decodes, 0));
}

/* Another program takes the processor for 3 s every 50 steps. That is not
 * charged to the prompt: it is read in little more than its undisturbed time.
 */
Test(pace, disturbed_now_and_then)
{
    uint32_t left = 2048, steps = 0, quick;
    double total = 0;
    struct hth_pace p;

    hth_pace_init(&p);
    quick = read_prompt(&p, 4, left).steps;
    for (hth_pace_init(&p); left > 0; steps++) {
        uint32_t n = hth_pace_rows(&p, 4, left < 512 ? left : 512);

        left -= n;
        total += (double)step_ns(4, n);
        hth_pace_note(&p, 4, n,
                      step_ns(4, n) + (steps % 50 == 9 ? 3000000000u : 0));
    }
    cr_assert_lt(steps, 2 * quick, "%u steps, undisturbed %u", steps, quick);
    cr_assert_leq(total / steps, 1.4 * (double)step_ns(4, 0));
}

/* A prompt alone takes whole steps, in a busy service short ones at first. */
Test(pace, bursts_after_decoding)
{
    struct hth_pace p;

    hth_pace_init(&p);
    hth_pace_note(&p, 4, 0, step_ns(4, 0));
    for (uint32_t i = 0; i < HTH_PACE_BURSTS; i++) {
        cr_assert_eq(hth_pace_rows(&p, 0, 512), HTH_PACE_BURST_ROWS);
        cr_assert_eq(hth_pace_rows(&p, 0, 20), 20);
        hth_pace_note(&p, 0, HTH_PACE_BURST_ROWS, 1000);
    }
    cr_assert_eq(hth_pace_rows(&p, 0, 512), 512);
}

/* A machine that got slower is noticed. */
Test(pace, follows_changes)
{
    struct hth_pace p;

    hth_pace_init(&p);
    (void)read_prompt(&p, 1, 256);
    for (int i = 0; i < 60; i++)
        hth_pace_note(&p, 1, 0, 10 * step_ns(1, 0));
    cr_assert_gt(p.decode_ns[1], 9.0 * (double)step_ns(1, 0));
}

/* ---- fairness -------------------------------------------------------------
 */

Test(fair, one_client_in_order)
{
    struct hth_fair f;
    double last = -1;

    hth_fair_init(&f);
    for (int i = 0; i < 10; i++) {
        double tag = hth_fair_tag(&f, 7, 5);

        cr_assert_gt(tag, last);
        last = tag;
    }
}

/* A hundred requests of one client, then one of another: it is next but one. */
Test(fair, a_crowd_delays_others_by_one)
{
    struct hth_fair f;
    double crowd[100], single;
    int before = 0;

    hth_fair_init(&f);
    for (int i = 0; i < 100; i++)
        crowd[i] = hth_fair_tag(&f, 1, 10);
    hth_fair_begun(&f, crowd[0]);
    single = hth_fair_tag(&f, 2, 10);
    for (int i = 1; i < 100; i++)
        before += crowd[i] < single;
    cr_assert_eq(before, 0);
    cr_assert_leq(single, crowd[1]);
}

/* Saving up does not help: who was away does not go ahead of everybody for
 * long. */
Test(fair, no_credit_for_absence)
{
    struct hth_fair f;
    double tag = 0;

    hth_fair_init(&f);
    for (int i = 0; i < 50; i++) {
        tag = hth_fair_tag(&f, 1, 10);
        hth_fair_begun(&f, tag);
    }
    cr_assert_geq(hth_fair_tag(&f, 2, 10), tag);
}

Test(fair, table_is_bounded)
{
    struct hth_fair f;

    hth_fair_init(&f);
    for (uint64_t i = 0; i < 10 * HTH_FAIR_CLIENTS_MAX; i++)
        cr_assert_geq(hth_fair_tag(&f, i, 1), 0);
    cr_assert_leq(f.count, HTH_FAIR_CLIENTS_MAX);
}

/* While weights stream a step takes what its reads take, however many rows it
 * has: rows of a prompt cost nothing beside that, and chunks become as large as
 * they get, so that each pass over the weights reads more of the prompt. */
static uint32_t largest_chunk(double reads_ms)
{
    struct hth_pace p;
    uint32_t most = 0;

    hth_pace_init(&p);
    for (uint32_t i = 0; i < 60; i++) {
        uint32_t n = hth_pace_rows(&p, 1, 512);
        uint64_t compute = step_ns(1, n);
        uint64_t ns = (uint64_t)(MS * reads_ms);

        hth_pace_note(&p, 1, n, compute > ns ? compute : ns);
        most = n > most ? n : most;
    }
    return most;
}

Test(pace, chunks_grow_while_weights_stream)
{
    uint32_t pinned = largest_chunk(0), streaming = largest_chunk(1500);

    cr_assert_leq(pinned, 64u);
    cr_assert_eq(streaming, 512u);
}
