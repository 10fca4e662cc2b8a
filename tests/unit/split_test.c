/* split_test.c - prompts spread over ranks behind real sealed links, from the
 * request to its tokens. The ranks have links to rank 0 only, so what they say
 * to each other is passed on by it. */
#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine_rig.h"
#include "folder.h"
#include "scheduler/spread.h"

#define MODEL "llama-gqa-F16"
#define PROMPT 110u
#define LONG 240u

static const double three[] = {1, 2, 1}, four[] = {1, 1, 0, 2}, two[] = {1, 1};

static void fill(uint32_t *prompt, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        prompt[i] = (i * 37u + 5u) % 200u;
}

static void ask(struct rig *r, struct answer *a, uint32_t count,
                uint32_t generate, bool reuse)
{
    uint32_t prompt[LONG];
    struct hth_request q;

    fill(prompt, count);
    answer_init(a);
    q = answer_request(a, prompt, count, generate);
    q.reuse = reuse;
    rig_submit(r, &q);
    answer_wait(a);
    cr_assert_eq(a->status, 0, "%s", a->err.text);
}

static void same_answers(const double *shares, uint32_t ranks)
{
    struct answer want, got;
    struct rig r;

    rig_prefill = HTH_PREFILL_TP;
    rig_open(&r, MODEL, shares, ranks);
    ask(&r, &want, PROMPT, 20, false);
    rig_close(&r);
    for (rig_prefill = HTH_PREFILL_RING; rig_prefill < HTH_PREFILL_AUTO;
         rig_prefill++) {
        rig_open(&r, MODEL, shares, ranks);
        for (uint32_t again = 0; again < 2; again++) {
            ask(&r, &got, PROMPT, 20, false);
            cr_assert_eq(got.stats.prompt.mode, rig_prefill);
            cr_assert_gt(got.stats.prompt.predicted_ns, 0u);
            cr_assert_eq(memcmp(got.ids, want.ids, 20 * sizeof got.ids[0]), 0,
                         "%s over %u ranks", hth_prefill_mode_text(rig_prefill),
                         ranks);
        }
        rig_close(&r);
    }
}

Test(split, every_mode_answers_like_steps, .timeout = 120)
{
    same_answers(two, 2);
    same_answers(three, 3);
    same_answers(four, 4);
}

/* What a prompt by kvr over two ranks comes to. */
static void by_kvr(struct answer *a)
{
    struct hth_request q;
    uint32_t prompt[LONG];
    struct rig r;

    fill(prompt, LONG);
    rig_prefill = HTH_PREFILL_KVR;
    rig_open(&r, MODEL, two, 2);
    answer_init(a);
    q = answer_request(a, prompt, LONG, 4);
    rig_submit(&r, &q);
    answer_wait(a);
    rig_close(&r);
}

/* Rank 0 with less and less memory, until a prompt is too much for it beside
 * the weights: known before it begins, refused with a sentence where it was
 * asked for by name, and left out by auto, which answers all the same. */
Test(split, what_does_not_fit_memory_is_left_out, .timeout = 240)
{
    struct answer want, got;
    struct folder store;
    struct rig r;

    folder_init(&store);
    rig_opts.store_dir = store.dir;
    rig_opts.memory_bytes = 16u << 20;
    by_kvr(&want);
    cr_assert_eq(want.status, 0, "%s", want.err.text);
    do {
        rig_opts.memory_bytes -= 512u << 10;
        by_kvr(&got);
    } while (got.status == 0);
    cr_assert_eq(got.status, HTH_EOVERFLOW, "%s", got.err.text);
    cr_assert_not_null(strstr(got.err.text, "does not fit the memory of"), "%s",
                       got.err.text);
    rig_prefill = HTH_PREFILL_AUTO;
    rig_open(&r, MODEL, two, 2);
    for (uint32_t i = 0; i < 6; i++) {
        ask(&r, &got, LONG, 4, false);
        cr_assert_eq(memcmp(got.ids, want.ids, 4 * sizeof got.ids[0]), 0);
    }
    rig_close(&r);
    folder_fini(&store);
}

/* A session of the same devices begins with what the one before had learnt. */
Test(split, what_prompts_took_is_remembered, .timeout = 120)
{
    struct folder past;
    bool believed = false;
    uint64_t model;
    struct answer a;
    struct rig r;

    folder_init(&past);
    rig_opts.past_dir = past.dir;
    rig_prefill = HTH_PREFILL_TP;
    rig_open(&r, MODEL, three, 3);
    ask(&r, &a, PROMPT, 2, false);
    cr_assert_eq(a.stats.prompt.predicted_ns, 0u); /* nothing is known */
    rig_close(&r);
    rig_prefill = HTH_PREFILL_KVR;
    rig_open(&r, MODEL, three, 3);
    ask(&r, &a, PROMPT, 2, false);
    model = a.stats.prompt.predicted_ns;
    cr_assert_gt(model, 0u);
    rig_close(&r);
    rig_prefill = HTH_PREFILL_TP;
    for (uint32_t i = 0; i < 2; i++) {
        rig_open(&r, MODEL, three, 3);
        ask(&r, &a, PROMPT, 2, false);
        cr_assert_gt(a.stats.prompt.predicted_ns, 0u);
        /* That of the second is what the first one took, unless that was so
         * much longer than thought that it is not believed. */
        if (i == 1 && believed)
            cr_assert_float_eq((double)a.stats.prompt.predicted_ns,
                               (double)model, (double)model * 0.02);
        believed = a.stats.prompt.took_ns < 15 * a.stats.prompt.predicted_ns &&
                   a.stats.prompt.predicted_ns < 15 * a.stats.prompt.took_ns;
        model = a.stats.prompt.took_ns;
        rig_close(&r);
    }
    rig_opts.past_dir = NULL;
    cr_assert_eq(folder_count(&past), 1u);
    folder_fini(&past);
}

/* What an earlier request left in the cache is the prefix of this one. */
Test(split, a_cached_beginning_is_used, .timeout = 120)
{
    struct answer want, first, got;
    struct rig r;

    rig_prefill = HTH_PREFILL_TP;
    rig_open(&r, MODEL, three, 3);
    ask(&r, &want, PROMPT, 12, false);
    rig_close(&r);
    for (rig_prefill = HTH_PREFILL_RING; rig_prefill <= HTH_PREFILL_KVR;
         rig_prefill++) {
        rig_open(&r, MODEL, three, 3);
        ask(&r, &first, 70, 2, true);
        ask(&r, &got, PROMPT, 12, true);
        cr_assert_gt(got.stats.cached_tokens, 31u);
        cr_assert_eq(memcmp(got.ids, want.ids, 12 * sizeof got.ids[0]), 0, "%s",
                     hth_prefill_mode_text(rig_prefill));
        rig_close(&r);
    }
}

static uint32_t tokens_of(struct answer *a)
{
    uint32_t n;

    pthread_mutex_lock(&a->lock);
    n = a->n;
    pthread_mutex_unlock(&a->lock);
    return n;
}

/* At whatever moment it comes, a cancel ends its request and nothing else. Once
 * it is said, the step under way is the last: one more token at most. Should
 * the system delay it until the answer is complete, it is too late. */
Test(split, cancelled_at_any_moment, .timeout = 120)
{
    uint32_t prompt[PROMPT], cancelled = 0;
    struct answer want, after;
    struct rig r;

    fill(prompt, PROMPT);
    rig_prefill = HTH_PREFILL_KVR;
    rig_open(&r, MODEL, three, 3);
    ask(&r, &want, PROMPT, 8, false);
    for (uint32_t i = 0; i < 24; i++) {
        struct answer a;
        struct hth_request q;
        uint32_t said;
        uint64_t id;

        answer_init(&a);
        q = answer_request(&a, prompt, PROMPT, 100);
        id = rig_submit(&r, &q);
        usleep(i * i * 60);
        hth_engine_cancel(r.e, id);
        said = tokens_of(&a);
        answer_wait(&a);
        cr_assert_leq(a.n, said + 1);
        if (a.n < 100)
            cr_assert_eq(a.status, HTH_ECANCELLED, "%s", a.err.text);
        cancelled += a.n == 0;
    }
    cr_assert_gt(cancelled, 0u);
    ask(&r, &after, PROMPT, 8, false);
    cr_assert_eq(memcmp(after.ids, want.ids, 8 * sizeof after.ids[0]), 0);
    cr_assert(hth_engine_attached(r.e));
    rig_close(&r);
}

/* A rank that goes away in the middle ends the request with its name; nobody
 * waits for ever. */
Test(split, a_rank_lost_in_the_middle, .timeout = 120)
{
    for (uint32_t i = 0; i < 6; i++) {
        uint32_t prompt[PROMPT];
        struct hth_request q;
        struct answer a;
        struct rig r;

        fill(prompt, PROMPT);
        rig_prefill = i % 2 == 0 ? HTH_PREFILL_ZIGZAG : HTH_PREFILL_KVR;
        rig_open(&r, MODEL, three, 3);
        answer_init(&a);
        q = answer_request(&a, prompt, PROMPT, 100);
        rig_submit(&r, &q);
        usleep(i * 800);
        hth_link_shutdown(r.m[1 + i % 2].link);
        answer_wait(&a);
        cr_assert_neq(a.status, 0);
        while (hth_engine_attached(r.e))
            hth_sleep_ms(1);
        rig_close(&r);
    }
}
