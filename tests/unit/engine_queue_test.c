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
#define SHORT 3u /* MANY of them are one step's rows: they begin together */
#define ANSWER 110u

static const double g_whole[] = {1}, g_two[] = {1, 1};

static void random_ids(uint64_t seed, uint32_t *ids, uint32_t n)
{
    struct hth_rng rng;

    hth_rng_init(&rng, seed);
    for (uint32_t i = 0; i < n; i++)
        ids[i] = 3 + (uint32_t)(hth_rng_u64(&rng) % 200);
}

/* ---- a gate ---------------------------------------------------------------
 */

/* A request that holds the engine's thread in its first token until all
 * others of a test are submitted: what is in the queue then is certain. */
struct gate {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    bool held, open, ended;
};

static bool hold(void *ctx, uint32_t id)
{
    struct gate *g = ctx;

    (void)id;
    pthread_mutex_lock(&g->lock);
    g->held = true;
    pthread_cond_broadcast(&g->moved);
    while (!g->open)
        pthread_cond_wait(&g->moved, &g->lock);
    pthread_mutex_unlock(&g->lock);
    return false;
}

static void gate_ended(void *ctx, int status, const struct hth_err *err,
                       const struct hth_request_stats *stats)
{
    struct gate *g = ctx;

    (void)status;
    (void)err;
    (void)stats;
    pthread_mutex_lock(&g->lock);
    g->ended = true;
    pthread_cond_broadcast(&g->moved);
    pthread_mutex_unlock(&g->lock);
}

static void gate_close(struct rig *r, struct gate *g)
{
    uint32_t id = 5;
    struct hth_request q = {.tokens = &id,
                            .count = 1,
                            .generate_max = 2,
                            .ignore_end = true,
                            .on_token = hold,
                            .on_end = gate_ended,
                            .ctx = g};

    memset(g, 0, sizeof *g);
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->moved, NULL);
    hth_sampling_default(&q.sampling);
    rig_submit(r, &q);
    pthread_mutex_lock(&g->lock);
    while (!g->held)
        pthread_cond_wait(&g->moved, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

static void gate_open(struct gate *g)
{
    pthread_mutex_lock(&g->lock);
    g->open = true;
    pthread_cond_broadcast(&g->moved);
    while (!g->ended)
        pthread_cond_wait(&g->moved, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

/* ---- room -----------------------------------------------------------------
 */

/* Five requests that together outgrow the cache of 512 positions. Longer
 * prompts would be read at a pace that depends on the machine's; then the first
 * answers might be over before the last begin, and all would fit. */
static void outgrow(const double *shares, uint32_t ranks)
{
    struct answer alone[MANY], crowd[MANY];
    struct hth_request q;
    uint32_t ids[SHORT], i, put_back = 0;
    struct gate gate;
    struct rig r;

    rig_opts.room_ahead = 16;
    rig_open(&r, "llama-gqa-F16", shares, ranks);
    for (i = 0; i < MANY; i++) {
        random_ids(i, ids, SHORT);
        answer_init(&alone[i]);
        q = answer_request(&alone[i], ids, SHORT, ANSWER);
        rig_submit(&r, &q);
        answer_wait(&alone[i]);
        cr_assert_eq(alone[i].status, 0, "%s", alone[i].err.text);
    }
    gate_close(&r, &gate);
    for (i = 0; i < MANY; i++) {
        random_ids(i, ids, SHORT);
        answer_init(&crowd[i]);
        q = answer_request(&crowd[i], ids, SHORT, ANSWER);
        rig_submit(&r, &q);
    }
    gate_open(&gate);
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

/* ---- turns ----------------------------------------------------------------
 */

/* One at a time, two may wait: the fourth is refused, and the important one
 * overtakes. */
Test(engine_queue, bound_and_priority, .timeout = 120)
{
    struct answer second, third, fourth;
    uint32_t ids[PROMPT];
    struct hth_request q;
    struct hth_err err;
    struct gate gate;
    struct rig r;
    uint64_t id;

    rig_opts.parallel_max = 1;
    rig_opts.waiting_max = 2;
    rig_open(&r, "llama-gqa-F16", g_whole, 1);
    random_ids(9, ids, PROMPT);
    answer_init(&second);
    answer_init(&third);
    answer_init(&fourth);
    gate_close(&r, &gate);
    q = answer_request(&second, ids, PROMPT, ANSWER);
    rig_submit(&r, &q);
    q = answer_request(&third, ids, PROMPT, ANSWER);
    q.priority = 1;
    rig_submit(&r, &q);
    q = answer_request(&fourth, ids, PROMPT, 1);
    cr_assert_eq(hth_engine_submit(r.e, &q, &id, &err), HTH_EBUSY);
    gate_open(&gate);
    answer_wait(&third);
    answer_wait(&second);
    cr_assert_eq(second.n, ANSWER);
    cr_assert_lt(third.stats.queue_ns, second.stats.queue_ns,
                 "the important one was last");
    rig_close(&r);
}

/* The crowd of one client does not keep another's request to the end. */
Test(engine_queue, turns_go_round_clients, .timeout = 120)
{
    struct answer crowd[6], single;
    uint32_t ids[PROMPT], i, before = 0;
    struct hth_request q;
    struct gate gate;
    struct rig r;

    rig_opts.parallel_max = 1;
    rig_open(&r, "llama-gqa-F16", g_whole, 1);
    random_ids(10, ids, PROMPT);
    gate_close(&r, &gate);
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
    gate_open(&gate);
    answer_wait(&single);
    for (i = 0; i < 6; i++)
        answer_wait(&crowd[i]);
    for (i = 0; i < 6; i++) /* who begins later has waited longer */
        before += crowd[i].stats.queue_ns < single.stats.queue_ns;
    cr_assert_leq(before, 1, "%u of the crowd went first", before);
    rig_close(&r);
}

/* ---- prompts beside each other ---------------------------------------------
 */

#define LONG 200u
#define SHORTS 8u

/* The engine thread's, read when all has ended: rows of the long prompt that
 * were read, and how many were when each short one had its token. */
static uint32_t long_read, read_before[SHORTS], shorts_done;

static void on_long(void *ctx, uint32_t done, uint32_t total)
{
    (void)ctx;
    (void)total;
    long_read = done;
}

static bool on_short(void *ctx, uint32_t id)
{
    (void)ctx;
    (void)id;
    read_before[shorts_done++] = long_read;
    return true;
}

static void shorts_behind_long(uint32_t shorts)
{
    struct answer first, later[SHORTS];
    uint32_t ids[LONG], i;
    struct hth_request q;
    struct gate gate;
    struct rig r;

    rig_open(&r, "llama-gqa-F16", g_whole, 1);
    gate_close(&r, &gate);
    random_ids(20, ids, LONG);
    answer_init(&first);
    q = answer_request(&first, ids, LONG, 1);
    q.on_prefill = on_long;
    rig_submit(&r, &q);
    for (i = 0; i < shorts; i++) {
        random_ids(21 + i, ids, PROMPT);
        answer_init(&later[i]);
        q = answer_request(&later[i], ids, PROMPT, 1);
        q.on_token = on_short;
        rig_submit(&r, &q);
    }
    gate_open(&gate);
    answer_wait(&first);
    cr_assert_eq(first.status, 0, "%s", first.err.text);
    for (i = 0; i < shorts; i++)
        answer_wait(&later[i]);
    cr_assert_eq(shorts_done, shorts);
    rig_close(&r);
}

/* Steps have 16 rows: all of the short prompt, and 4 of the long one. */
Test(engine_queue, short_prompt_before_long, .timeout = 120)
{
    shorts_behind_long(1);
    cr_assert_leq(read_before[0], 16 - PROMPT);
}

/* Many short ones go before it, yet it moves on. */
Test(engine_queue, long_prompt_is_not_starved, .timeout = 120)
{
    shorts_behind_long(SHORTS);
    cr_assert_leq(read_before[0], 16);
    cr_assert_geq(read_before[SHORTS - 1], 16);
    cr_assert_lt(read_before[SHORTS - 1], LONG / 2);
}

/* Requests that come while the engine looks at its queue are younger than the
 * time it looks by; that is no age of centuries. Bursts onto an engine that
 * has just gone idle meet it in that moment. */
Test(engine_queue, nobody_is_late_who_has_just_come, .timeout = 120)
{
    struct answer a[8];
    struct hth_request q;
    uint32_t id = 9;
    struct rig r;

    rig_open(&r, "llama-gqa-F16", g_whole, 1);
    for (uint32_t round = 0; round < 200; round++) {
        for (uint32_t i = 0; i < 8; i++)
            answer_init(&a[i]);
        for (uint32_t i = 0; i < 8; i++) {
            q = answer_request(&a[i], &id, 1, 1);
            q.deadline_ms = 600000;
            rig_submit(&r, &q);
        }
        for (uint32_t i = 0; i < 8; i++) {
            answer_wait(&a[i]);
            cr_assert_eq(a[i].status, 0, "%s", a[i].err.text);
        }
    }
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
