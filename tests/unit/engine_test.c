/* engine_test.c - rank 0, ranks on threads behind real sealed links, requests:
 * golden greedy tokens, equal bytes, several requests at once, failures. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "coordinator/engine.h"
#include "engine_rig.h"
#include "kernels/type.h"
#include "net_cluster.h"
#include "support.h"

static uint32_t ids_of(const char *model, const char *key, uint32_t *out)
{
    json_t *root = json_load_file(golden_path(model, ".json"), 0, NULL);
    json_t *list = json_object_get(root, key);
    uint32_t n = (uint32_t)json_array_size(list);

    for (uint32_t i = 0; i < n && i < TOKENS_MAX; i++)
        out[i] = (uint32_t)json_integer_value(json_array_get(list, i));
    json_decref(root);
    return n;
}

static double gap_of(const char *model)
{
    json_t *root = json_load_file(golden_path(model, ".json"), 0, NULL);
    double gap = json_number_value(json_object_get(root, "min_top2_gap"));

    json_decref(root);
    return gap;
}

static const double g_whole[] = {1}, g_three[] = {1, 2, 1},
                    g_idle[] = {0, 1, 1};

static void greedy(const char *model, const double *shares, uint32_t ranks)
{
    uint32_t prompt[TOKENS_MAX], want[TOKENS_MAX];
    struct answer a;
    struct rig r;
    struct hth_request q;
    uint32_t n;

    rig_open(&r, model, shares, ranks);
    answer_init(&a);
    n = ids_of(model, "prompt", prompt);
    q = answer_request(&a, prompt, n, ids_of(model, "greedy", want));
    rig_submit(&r, &q);
    answer_wait(&a);
    cr_assert_eq(a.status, 0, "%s", a.err.text);
    cr_assert_eq(a.n, q.generate_max);
    /* Float weights are far more exact than the smallest gap. */
    cr_assert(gap_of(model) > 1e-4);
    for (uint32_t i = 0; i < a.n; i++)
        cr_assert_eq(a.ids[i], want[i], "%s token %u", model, i);
    rig_close(&r);
}

Test(engine, golden_greedy_tokens, .timeout = 60)
{
    greedy("llama-gqa-F16", g_whole, 1);
    greedy("llama-gqa-F16", g_three, 3);
    greedy("qwen3-F16", g_idle, 3);
}

Test(engine, requests_side_by_side_do_not_meet, .timeout = 60)
{
    uint32_t prompt[TOKENS_MAX];
    struct answer alone[3], together[3];
    struct rig r;
    uint32_t n;

    rig_open(&r, "llama-gqa-F16", g_three, 3);
    n = ids_of("llama-gqa-F16", "prompt", prompt);
    for (uint32_t i = 0; i < 3; i++) {
        struct hth_request q;

        answer_init(&alone[i]);
        q = answer_request(&alone[i], prompt + 3 * i, n - 3 * i, 20 + i);
        rig_submit(&r, &q);
        answer_wait(&alone[i]);
    }
    for (uint32_t i = 0; i < 3; i++) {
        struct hth_request q;

        answer_init(&together[i]);
        q = answer_request(&together[i], prompt + 3 * i, n - 3 * i, 20 + i);
        rig_submit(&r, &q);
    }
    for (uint32_t i = 0; i < 3; i++) {
        answer_wait(&together[i]);
        cr_assert_eq(together[i].n, 20 + i);
        cr_assert_eq(memcmp(together[i].ids, alone[i].ids,
                            alone[i].n * sizeof alone[i].ids[0]),
                     0, "request %u", i);
    }
    rig_close(&r);
}

Test(engine, bytes_on_the_wire_are_the_formula, .timeout = 60)
{
    uint32_t prompt[TOKENS_MAX];
    struct answer a;
    struct rig r;
    struct hth_request q;
    uint64_t rows, steps, reduce, step, results;
    uint32_t n, gen = 10, dim = 128, layers = 3;
    struct hth_spec *spec = calloc(1, sizeof *spec);

    rig_open(&r, "llama-gqa-F16", g_three, 3);
    cr_assert_eq(hth_spec_read(spec, r.g, NULL), 0);
    dim = spec->dim;
    layers = spec->layers;
    n = ids_of("llama-gqa-F16", "prompt", prompt);
    answer_init(&a);
    q = answer_request(&a, prompt, n, gen);
    rig_submit(&r, &q);
    answer_wait(&a);
    /* The prompt in chunks of 16 rows, then one row per token but the last. */
    rows = n + gen - 1;
    steps = (n + 15) / 16 + gen - 1;
    reduce = 2ull * layers * rows * dim * 4;
    step = steps * 20 + rows * (8 + 4ull * dim) + 4ull * gen;
    results = 8ull * gen; /* one candidate each */
    cr_assert_eq(a.stats.sent_bytes, 2 * (reduce + step), "%llu, %llu",
                 (unsigned long long)a.stats.sent_bytes,
                 (unsigned long long)(2 * (reduce + step)));
    cr_assert_eq(a.stats.received_bytes, 2 * (reduce + results));
    rig_close(&r);
    free(spec);
}

Test(engine, a_lost_rank_ends_requests_and_may_come_back, .timeout = 60)
{
    uint32_t prompt[TOKENS_MAX];
    struct answer before, during, after;
    struct hth_session *s = calloc(1, sizeof *s);
    struct hth_request q;
    struct rig r;
    struct hth_err err;
    uint64_t id;
    uint32_t n;

    rig_open(&r, "llama-gqa-F16", g_three, 3);
    n = ids_of("llama-gqa-F16", "prompt", prompt);
    answer_init(&before);
    q = answer_request(&before, prompt, n, 16);
    rig_submit(&r, &q);
    answer_wait(&before);
    answer_init(&during);
    q = answer_request(&during, prompt, n, 200);
    rig_submit(&r, &q);
    answer_wait_tokens(&during, 5);
    hth_link_shutdown(r.m[2].link);
    answer_wait(&during);
    cr_assert_eq(during.status, HTH_EPEER, "%s", during.err.text);
    rig_join(&r);
    while (hth_engine_attached(r.e) || r.lost_rank == 0)
        hth_sleep_ms(1);
    cr_assert_eq(r.lost_rank, 2u);
    cr_assert_eq(hth_engine_submit(r.e, &q, &id, &err), HTH_EUNREACHABLE);
    rig_session(&r, s, g_three);
    s->id = 2;
    cr_assert_eq(hth_engine_load(r.e, s, &err), 0);
    rig_attach(&r, s);
    answer_init(&after);
    q = answer_request(&after, prompt, n, 16);
    rig_submit(&r, &q);
    answer_wait(&after);
    cr_assert_eq(after.status, 0);
    cr_assert_eq(memcmp(after.ids, before.ids, 16 * sizeof after.ids[0]), 0);
    rig_close(&r);
    free(s);
}

Test(engine, cancel_stop_and_detach, .timeout = 60)
{
    uint32_t prompt[TOKENS_MAX];
    struct answer a, b, c;
    struct hth_request q;
    struct hth_err why;
    struct rig r;
    uint64_t id;
    uint32_t n;

    rig_open(&r, "llama-gqa-F16", g_three, 3);
    n = ids_of("llama-gqa-F16", "prompt", prompt);
    answer_init(&a);
    q = answer_request(&a, prompt, n, 200);
    id = rig_submit(&r, &q);
    answer_wait_tokens(&a, 3);
    hth_engine_cancel(r.e, id);
    answer_wait(&a);
    cr_assert_eq(a.status, HTH_ECANCELLED);
    answer_init(&b);
    b.stop_after = 4;
    q = answer_request(&b, prompt, n, 200);
    rig_submit(&r, &q);
    answer_wait(&b);
    cr_assert(b.status == HTH_OK && b.n == 4);
    answer_init(&c);
    q = answer_request(&c, prompt, n, 200);
    rig_submit(&r, &q);
    answer_wait_tokens(&c, 3);
    hth_fail(&why, HTH_EPEER, "box was lost");
    hth_engine_detach(r.e, &why);
    answer_wait(&c);
    cr_assert_eq(c.status, HTH_EPEER);
    cr_assert(strstr(c.err.text, "box was lost") != NULL);
    rig_close(&r);
}

Test(engine, refuses_what_cannot_be_served, .timeout = 60)
{
    uint32_t prompt[TOKENS_MAX] = {1, 2, 3};
    struct answer a;
    struct hth_request q;
    struct hth_err err;
    struct rig r;
    uint64_t id;

    rig_open(&r, "llama-gqa-F16", g_whole, 1);
    answer_init(&a);
    q = answer_request(&a, prompt, 3, 254);
    cr_assert_eq(hth_engine_submit(r.e, &q, &id, &err), HTH_EOVERFLOW);
    cr_assert(strstr(err.text, "254") && strstr(err.text, "256"));
    q = answer_request(&a, prompt, 0, 1);
    cr_assert_eq(hth_engine_submit(r.e, &q, &id, &err), HTH_EINVAL);
    prompt[1] = 1u << 20;
    q = answer_request(&a, prompt, 3, 1);
    cr_assert_eq(hth_engine_submit(r.e, &q, &id, &err), HTH_EINVAL);
    rig_close(&r);
}
