/* prefix_engine_test.c - the prefix cache in the engine: answers are those of
 * a cold engine whatever is found, kept, evicted or cancelled, on one rank and
 * on several, one of them without heads. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "engine_rig.h"

#define UNIT HTH_PREFIX_TOKENS

static const double g_whole[] = {1}, g_three[] = {1, 2, 1},
                    g_idle[] = {0, 1, 1};

static void random_ids(struct hth_rng *rng, uint32_t *ids, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        ids[i] = 3 + (uint32_t)(hth_rng_u64(rng) % 200);
}

static void ask(struct rig *r, struct answer *a, const struct hth_request *q)
{
    rig_submit(r, q);
    answer_wait(a);
    cr_assert_eq(a->status, 0, "%s", a->err.text);
}

/* The same request cold and then with reuse: equal tokens. Returns how many
 * of the prompt's tokens were found. */
static uint32_t both(struct rig *r, const uint32_t *ids, uint32_t n,
                     uint32_t generate, uint32_t *out)
{
    struct answer cold, warm;
    struct hth_request q;

    answer_init(&cold);
    answer_init(&warm);
    q = answer_request(&cold, ids, n, generate);
    ask(r, &cold, &q);
    cr_assert_eq(cold.stats.cached_tokens, 0);
    q = answer_request(&warm, ids, n, generate);
    q.reuse = true;
    ask(r, &warm, &q);
    cr_assert_eq(cold.n, generate);
    cr_assert_eq(warm.n, generate);
    for (uint32_t i = 0; i < generate; i++)
        cr_assert_eq(cold.ids[i], warm.ids[i],
                     "token %u with %u of %u from the cache", i,
                     warm.stats.cached_tokens, n);
    if (out != NULL)
        memcpy(out, warm.ids, generate * sizeof *out);
    return warm.stats.cached_tokens;
}

static void turns(const char *model, const double *shares, uint32_t ranks)
{
    uint32_t ids[220], n = 100;
    struct hth_cache_stats c;
    struct hth_rng rng;
    struct rig r;

    rig_open(&r, model, shares, ranks);
    hth_rng_init(&rng, 1);
    random_ids(&rng, ids, 220);
    cr_assert_eq(both(&r, ids, n, 20, ids + n), 0, "nothing is known yet");
    cr_assert_eq(both(&r, ids, n, 20, NULL), 96, "all but the last token's");
    cr_assert_eq(both(&r, ids, 97, 5, NULL), 96);
    cr_assert_eq(both(&r, ids, 96, 5, NULL), 80, "one token is computed");
    /* The next turn: prompt, answer, more. The last token of an answer is
     * never in the cache: 119 positions were. */
    cr_assert_eq(both(&r, ids, 150, 20, NULL), 112);
    ids[70]++;
    cr_assert_eq(both(&r, ids, 150, 20, NULL), 64, "they part at 70");
    hth_engine_cache_stats(r.e, &c);
    cr_assert_eq(c.kept, 2);
    cr_assert_eq(c.kept_positions, 160 + 160 - 64, "%llu positions",
                 (unsigned long long)c.kept_positions);
    cr_assert_leq(c.blocks_used, c.blocks);
    rig_close(&r);
}

Test(prefix_engine, a_conversation_goes_on, .timeout = 120)
{
    turns("llama-gqa-F16", g_whole, 1);
    turns("llama-gqa-F16", g_three, 3);
    turns("qwen3-F16", g_idle, 3);
}

/* A second request finds the first one's prompt while that still runs. */
Test(prefix_engine, of_a_request_that_still_runs, .timeout = 120)
{
    uint32_t ids[100];
    struct answer a, b;
    struct hth_request q;
    struct hth_rng rng;
    struct rig r;

    rig_open(&r, "llama-gqa-F16", g_three, 3);
    hth_rng_init(&rng, 2);
    random_ids(&rng, ids, 100);
    answer_init(&a);
    answer_init(&b);
    q = answer_request(&a, ids, 100, 100);
    q.reuse = true;
    rig_submit(&r, &q);
    answer_wait_tokens(&a, 2);
    q = answer_request(&b, ids, 100, 100);
    q.reuse = true;
    ask(&r, &b, &q);
    answer_wait(&a);
    cr_assert_eq(b.stats.cached_tokens, 96);
    cr_assert_eq(memcmp(a.ids, b.ids, 100 * sizeof a.ids[0]), 0);
    rig_close(&r);
}

/* Memory is short on some rank: what is only kept goes, one sequence before
 * each step, and answers stay the same; what runs is not touched. */
Test(prefix_engine, kept_sequences_go_while_memory_is_short, .timeout = 120)
{
    uint32_t ids[3][60];
    struct hth_cache_stats c;
    struct hth_rng rng;
    struct rig r;

    rig_open(&r, "llama-gqa-F16", g_three, 3);
    hth_rng_init(&rng, 4);
    for (uint32_t i = 0; i < 3; i++) {
        random_ids(&rng, ids[i], 60);
        (void)both(&r, ids[i], 60, 4, NULL);
    }
    hth_engine_cache_stats(r.e, &c);
    cr_assert_eq(c.kept, 3u);
    hth_engine_peers_short(r.e, true);
    cr_assert_eq(both(&r, ids[0], 60, 8, NULL), 0, "nothing is kept");
    hth_engine_cache_stats(r.e, &c);
    cr_assert_leq(c.kept, 1u, "%u are kept", c.kept);
    cr_assert_leq(c.kept_positions, 80u);
    hth_engine_peers_short(r.e, false);
    (void)both(&r, ids[1], 60, 4, NULL);
    cr_assert_eq(both(&r, ids[1], 60, 4, NULL), 48);
    rig_close(&r);
}

/* ---- everything at once ---------------------------------------------------
 */

#define TEXTS 6u
#define WAVES 12u
#define AT_ONCE 6u

struct load {
    uint32_t text[TEXTS][120];
    uint32_t want[TEXTS][5][16]; /* by text, by length */
    struct rig r;
    struct hth_rng rng;
};

/* Lengths that end inside and at the ends of units and of KV blocks. */
static const uint32_t g_length[5] = {33, 64, 65, 112, 119};

/* Texts with common beginnings of different lengths. */
static void make_texts(struct load *l)
{
    random_ids(&l->rng, l->text[0], 120);
    for (uint32_t t = 1; t < TEXTS; t++) {
        memcpy(l->text[t], l->text[t - 1], sizeof l->text[t]);
        random_ids(&l->rng, l->text[t] + 17 * t, 120 - 17 * t);
    }
    for (uint32_t t = 0; t < TEXTS; t++)
        for (uint32_t i = 0; i < 5; i++) {
            struct answer a;
            struct hth_request q;

            answer_init(&a);
            q = answer_request(&a, l->text[t], g_length[i], 16);
            ask(&l->r, &a, &q);
            memcpy(l->want[t][i], a.ids, sizeof l->want[t][i]);
        }
}

/* Several requests at once, some cancelled somewhere on the way. */
static uint32_t wave(struct load *l)
{
    struct answer a[AT_ONCE];
    uint32_t text[AT_ONCE], length[AT_ONCE], cached = 0;

    for (uint32_t i = 0; i < AT_ONCE; i++) {
        struct hth_request q;
        uint64_t id;

        answer_init(&a[i]);
        text[i] = (uint32_t)(hth_rng_u64(&l->rng) % TEXTS);
        length[i] = (uint32_t)(hth_rng_u64(&l->rng) % 5);
        q = answer_request(&a[i], l->text[text[i]], g_length[length[i]], 16);
        q.reuse = hth_rng_u64(&l->rng) % 8 != 0;
        id = rig_submit(&l->r, &q);
        if (hth_rng_u64(&l->rng) % 4 != 0)
            continue;
        answer_wait_tokens(&a[i], (uint32_t)(hth_rng_u64(&l->rng) % 8));
        hth_engine_cancel(l->r.e, id);
    }
    for (uint32_t i = 0; i < AT_ONCE; i++) {
        answer_wait(&a[i]);
        cr_assert(a[i].status == 0 || a[i].status == HTH_ECANCELLED, "%s",
                  a[i].err.text);
        cached += a[i].stats.cached_tokens;
        cr_assert_eq(memcmp(a[i].ids, l->want[text[i]][length[i]],
                            a[i].n * sizeof a[i].ids[0]),
                     0, "text %u of %u tokens, %u from the cache", text[i],
                     g_length[length[i]], a[i].stats.cached_tokens);
    }
    return cached;
}

/* 512 positions hold half of what is asked for, so kept ones are evicted. */
static void load_of(const char *model, const double *shares, uint32_t ranks)
{
    struct load *l = calloc(1, sizeof *l);
    struct hth_cache_stats c;
    uint32_t cached = 0;

    cr_assert_not_null(l);
    rig_open(&l->r, model, shares, ranks);
    hth_rng_init(&l->rng, 11);
    make_texts(l);
    for (uint32_t i = 0; i < WAVES; i++) {
        cached += wave(l);
        hth_engine_cache_stats(l->r.e, &c);
        cr_assert_leq(c.blocks_used, c.blocks);
    }
    cr_assert_gt(cached, 100 * UNIT, "the cache was hardly used");
    rig_close(&l->r);
    free(l);
}

Test(prefix_engine, many_at_once_on_one_rank, .timeout = 180)
{
    load_of("llama-gqa-F16", g_whole, 1);
}

Test(prefix_engine, many_at_once_on_three_ranks, .timeout = 180)
{
    load_of("llama-gqa-F16", g_three, 3);
}

/* ---- when the ranks' caches are gone --------------------------------------
 */

Test(prefix_engine, forgets_when_detached, .timeout = 60)
{
    struct hth_session *s = calloc(1, sizeof *s);
    struct hth_cache_stats c;
    struct hth_err why;
    uint32_t ids[60];
    struct hth_rng rng;
    struct rig r;

    rig_open(&r, "llama-gqa-F16", g_three, 3);
    hth_rng_init(&rng, 4);
    random_ids(&rng, ids, 60);
    cr_assert_eq(both(&r, ids, 60, 4, NULL), 0);
    cr_assert_eq(both(&r, ids, 60, 4, NULL), 48);
    hth_fail(&why, HTH_ECANCELLED, "a test");
    hth_engine_detach(r.e, &why);
    rig_join(&r);
    hth_engine_cache_stats(r.e, &c);
    cr_assert_eq(c.kept, 0);
    cr_assert_eq(c.blocks_used, 0);
    rig_session(&r, s, g_three);
    rig_attach(&r, s);
    cr_assert_eq(both(&r, ids, 60, 4, NULL), 0);
    cr_assert_eq(both(&r, ids, 60, 4, NULL), 48);
    rig_close(&r);
    free(s);
}
