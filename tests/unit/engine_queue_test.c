/* engine_queue_test.c - who runs when: turns, priorities, deadlines, bounds,
 * and requests that are put back to make room, whose answers must not show
 * it. */
#include <criterion/criterion.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "engine_rig.h"

#define MANY 5u
#define PROMPT 12u
#define ANSWER 110u

static const double g_whole[] = {1}, g_two[] = {1, 1};

static void random_ids(uint64_t seed, uint32_t *ids, uint32_t n)
{
    struct hth_rng rng;

    hth_rng_init(&rng, seed);
    for (uint32_t i = 0; i < n; i++)
        ids[i] = 3 + (uint32_t)(hth_rng_u64(&rng) % 200);
}

/* Five requests that together outgrow the cache of 512 positions. */
static void outgrow(const double *shares, uint32_t ranks)
{
    struct answer alone[MANY], crowd[MANY];
    struct hth_request q;
    uint32_t ids[PROMPT], i, put_back = 0;
    struct rig r;

    rig_opts.room_ahead = 16;
    rig_open(&r, "llama-gqa-F16", shares, ranks);
    for (i = 0; i < MANY; i++) {
        random_ids(i, ids, PROMPT);
        answer_init(&alone[i]);
        q = answer_request(&alone[i], ids, PROMPT, ANSWER);
        rig_submit(&r, &q);
        answer_wait(&alone[i]);
        cr_assert_eq(alone[i].status, 0, "%s", alone[i].err.text);
    }
    for (i = 0; i < MANY; i++) {
        random_ids(i, ids, PROMPT);
        answer_init(&crowd[i]);
        q = answer_request(&crowd[i], ids, PROMPT, ANSWER);
        rig_submit(&r, &q);
    }
    for (i = 0; i < MANY; i++) {
        answer_wait(&crowd[i]);
        cr_assert_eq(crowd[i].status, 0, "%s", crowd[i].err.text);
        cr_assert_eq(crowd[i].n, ANSWER);
        cr_assert_arr_eq(crowd[i].ids, alone[i].ids,
                         ANSWER * sizeof *alone[i].ids);
        put_back += crowd[i].stats.put_back;
    }
    cr_assert_gt(put_back, 0, "they fit without making room");
    cr_assert_eq(crowd[0].stats.put_back, 0, "the first was put back");
    rig_close(&r);
}

Test(engine_queue, outgrown_cache_puts_back, .timeout = 120)
{
    outgrow(g_whole, 1);
}

Test(engine_queue, on_two_ranks, .timeout = 120)
{
    outgrow(g_two, 2);
}

/* One at a time, two may wait: the fourth is refused, and the important one
 * overtakes. */
Test(engine_queue, bound_and_priority, .timeout = 120)
{
    struct answer first, second, third, fourth;
    uint32_t ids[PROMPT];
    struct hth_request q;
    struct hth_err err;
    struct rig r;
    uint64_t id;

    rig_opts.parallel_max = 1;
    rig_opts.waiting_max = 2;
    rig_open(&r, "llama-gqa-F16", g_whole, 1);
    random_ids(9, ids, PROMPT);
    answer_init(&first);
    answer_init(&second);
    answer_init(&third);
    answer_init(&fourth);
    q = answer_request(&first, ids, PROMPT, ANSWER);
    rig_submit(&r, &q);
    answer_wait_tokens(&first, 1);
    q = answer_request(&second, ids, PROMPT, ANSWER);
    rig_submit(&r, &q);
    q = answer_request(&third, ids, PROMPT, 1);
    q.priority = 1;
    rig_submit(&r, &q);
    q = answer_request(&fourth, ids, PROMPT, 1);
    cr_assert_eq(hth_engine_submit(r.e, &q, &id, &err), HTH_EBUSY);
    answer_wait(&third);
    cr_assert_not(second.done, "the important one was last");
    answer_wait(&second);
    cr_assert_eq(second.n, ANSWER);
    rig_close(&r);
}

/* The crowd of one client does not keep another's request to the end. */
Test(engine_queue, turns_go_round_clients, .timeout = 120)
{
    struct answer crowd[6], single;
    uint32_t ids[PROMPT], i, before = 0;
    struct hth_request q;
    struct rig r;

    rig_opts.parallel_max = 1;
    rig_open(&r, "llama-gqa-F16", g_whole, 1);
    random_ids(10, ids, PROMPT);
    for (i = 0; i < 6; i++) {
        answer_init(&crowd[i]);
        q = answer_request(&crowd[i], ids, PROMPT, ANSWER);
        q.client = 1;
        rig_submit(&r, &q);
    }
    answer_init(&single);
    q = answer_request(&single, ids, PROMPT, 1);
    q.client = 2;
    rig_submit(&r, &q);
    answer_wait(&single);
    for (i = 0; i < 6; i++)
        before += crowd[i].done;
    cr_assert_leq(before, 2, "%u of the crowd went first", before);
    for (i = 0; i < 6; i++)
        answer_wait(&crowd[i]);
    rig_close(&r);
}

Test(engine_queue, deadline, .timeout = 120)
{
    struct answer first, late;
    uint32_t ids[PROMPT];
    struct hth_request q;
    struct rig r;

    rig_opts.parallel_max = 1;
    rig_open(&r, "llama-gqa-F16", g_whole, 1);
    random_ids(11, ids, PROMPT);
    answer_init(&first);
    answer_init(&late);
    q = answer_request(&first, ids, PROMPT, ANSWER);
    rig_submit(&r, &q);
    q = answer_request(&late, ids, PROMPT, ANSWER);
    q.deadline_ms = 1;
    rig_submit(&r, &q);
    answer_wait(&late);
    cr_assert_eq(late.status, HTH_ETIMEDOUT);
    answer_wait(&first);
    cr_assert_eq(first.status, 0, "it ended another one");
    rig_close(&r);
}
