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
#include "kernels/type.h"
#include "net_cluster.h"
#include "support.h"

#define TOKENS_MAX 128u

struct member {
    struct hth_session session;
    struct hth_gguf *g;
    struct hth_link *link;
    pthread_t thread;
    int status;
};

struct rig {
    struct hth_gguf *g;
    struct hth_engine *e;
    struct member m[8];
    uint32_t ranks;
    uint32_t lost_rank;
    struct hth_err lost;
    uint64_t sent0;
};

struct answer {
    pthread_mutex_t lock;
    pthread_cond_t done_cond;
    uint32_t ids[TOKENS_MAX];
    uint32_t n;
    uint32_t stop_after; /* 0: never */
    bool done;
    int status;
    struct hth_err err;
    struct hth_request_stats stats;
};

static int source(void *ctx, uint32_t index, void *dst, uint64_t bytes,
                  struct hth_err *err)
{
    struct member *m = ctx;
    struct hth_block b;

    hth_shard_block(&m->session.spec, &m->session.plan, m->session.rank, index,
                    &b);
    return hth_block_read(m->g, &m->session.spec, &b,
                          (struct hth_read){0, dst, bytes}, err);
}

static void *member_main(void *arg)
{
    struct member *m = arg;
    struct hth_rank *rank;
    struct hth_err err;
    struct hth_rank_opts o = {.session = &m->session,
                              .threads = 1,
                              .source = source,
                              .source_ctx = m};

    cr_assert_eq(hth_rank_open(&rank, &o, &err), 0, "%s", err.text);
    m->status = hth_rank_serve(rank, m->link, &err);
    hth_rank_close(rank);
    hth_link_close(m->link);
    return NULL;
}

static void on_lost(void *ctx, uint32_t rank, const struct hth_err *err)
{
    struct rig *r = ctx;

    r->lost_rank = rank;
    r->lost = *err;
}

static void fill_session(struct rig *r, struct hth_session *s,
                         const double *shares)
{
    struct hth_shape shape;
    struct hth_err err;

    cr_assert_eq(hth_spec_read(&s->spec, r->g, &err), 0, "%s", err.text);
    s->id = 1;
    s->ctx_max = 256;
    s->kv_positions_max = 512;
    s->rows_max = 16;
    s->kv_type = HTH_F32;
    s->wire_type = HTH_WIRE_F32;
    hth_spec_shape(&s->spec, s->kv_type, &shape);
    cr_assert_eq(hth_plan_make(&shape, shares, r->ranks, &s->plan, &err), 0);
}

/* Bring the members up and attach: also used to bring them back. */
static void attach(struct rig *r, const struct hth_session *s)
{
    struct hth_link *links[8] = {NULL};
    struct hth_err err;

    for (uint32_t i = 1; i < r->ranks; i++) {
        struct hth_link *pair[2];

        tnet_raw_pair(HTH_CIPHER_AES128_GCM, pair);
        links[i] = pair[0];
        r->m[i] = (struct member){.session = *s, .g = r->g, .link = pair[1]};
        r->m[i].session.rank = i;
        pthread_create(&r->m[i].thread, NULL, member_main, &r->m[i]);
    }
    cr_assert_eq(hth_engine_attach(r->e, links, r->ranks, &err), 0, "%s",
                 err.text);
}

static void join_members(struct rig *r)
{
    for (uint32_t i = 1; i < r->ranks; i++)
        pthread_join(r->m[i].thread, NULL);
}

static void rig_open(struct rig *r, const char *model, const double *shares,
                     uint32_t ranks)
{
    struct hth_session *s = calloc(1, sizeof *s);
    struct hth_engine_opts o = {.threads = 2, .lost = on_lost, .ctx = r};
    char path[8192];
    struct hth_err err;

    if (golden_dir() == NULL)
        cr_skip_test("SKIPPED: no golden vectors (set HEARTH_GOLDEN)");
    memset(r, 0, sizeof *r);
    r->ranks = ranks;
    snprintf(path, sizeof path, "%s", golden_path(model, ".gguf"));
    cr_assert_eq(hth_gguf_open(&r->g, path, &err), 0, "%s", err.text);
    o.gguf = r->g;
    cr_assert_eq(hth_engine_open(&r->e, &o, &err), 0);
    fill_session(r, s, shares);
    cr_assert_eq(hth_engine_load(r->e, s, &err), 0, "%s", err.text);
    attach(r, s);
    free(s);
}

static void rig_close(struct rig *r)
{
    hth_engine_close(r->e);
    join_members(r);
    hth_gguf_close(r->g);
}

static bool on_token(void *ctx, uint32_t id)
{
    struct answer *a = ctx;
    bool more;

    pthread_mutex_lock(&a->lock);
    if (a->n < TOKENS_MAX)
        a->ids[a->n++] = id;
    more = a->stop_after == 0 || a->n < a->stop_after;
    pthread_cond_broadcast(&a->done_cond);
    pthread_mutex_unlock(&a->lock);
    return more;
}

static void on_end(void *ctx, int status, const struct hth_err *err,
                   const struct hth_request_stats *stats)
{
    struct answer *a = ctx;

    pthread_mutex_lock(&a->lock);
    cr_assert_not(a->done);
    a->done = true;
    a->status = status;
    a->err = *err;
    a->stats = *stats;
    pthread_cond_broadcast(&a->done_cond);
    pthread_mutex_unlock(&a->lock);
}

static void answer_init(struct answer *a)
{
    memset(a, 0, sizeof *a);
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->done_cond, NULL);
}

static struct hth_request request(struct answer *a, const uint32_t *tokens,
                                  uint32_t count, uint32_t generate)
{
    struct hth_request q = {.tokens = tokens,
                            .count = count,
                            .generate_max = generate,
                            .ignore_end = true,
                            .on_token = on_token,
                            .on_end = on_end,
                            .ctx = a};

    hth_sampling_default(&q.sampling);
    q.sampling.temperature = 0;
    return q;
}

static uint64_t submit(struct rig *r, const struct hth_request *q)
{
    struct hth_err err;
    uint64_t id;

    cr_assert_eq(hth_engine_submit(r->e, q, &id, &err), 0, "%s", err.text);
    return id;
}

static void wait_done(struct answer *a)
{
    pthread_mutex_lock(&a->lock);
    while (!a->done)
        pthread_cond_wait(&a->done_cond, &a->lock);
    pthread_mutex_unlock(&a->lock);
}

static void wait_tokens(struct answer *a, uint32_t n)
{
    pthread_mutex_lock(&a->lock);
    while (!a->done && a->n < n)
        pthread_cond_wait(&a->done_cond, &a->lock);
    pthread_mutex_unlock(&a->lock);
}

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
    q = request(&a, prompt, n, ids_of(model, "greedy", want));
    submit(&r, &q);
    wait_done(&a);
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
        q = request(&alone[i], prompt + 3 * i, n - 3 * i, 20 + i);
        submit(&r, &q);
        wait_done(&alone[i]);
    }
    for (uint32_t i = 0; i < 3; i++) {
        struct hth_request q;

        answer_init(&together[i]);
        q = request(&together[i], prompt + 3 * i, n - 3 * i, 20 + i);
        submit(&r, &q);
    }
    for (uint32_t i = 0; i < 3; i++) {
        wait_done(&together[i]);
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
    q = request(&a, prompt, n, gen);
    submit(&r, &q);
    wait_done(&a);
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
    q = request(&before, prompt, n, 16);
    submit(&r, &q);
    wait_done(&before);
    answer_init(&during);
    q = request(&during, prompt, n, 200);
    submit(&r, &q);
    wait_tokens(&during, 5);
    hth_link_shutdown(r.m[2].link);
    wait_done(&during);
    cr_assert_eq(during.status, HTH_EPEER, "%s", during.err.text);
    join_members(&r);
    while (hth_engine_attached(r.e) || r.lost_rank == 0)
        hth_sleep_ms(1);
    cr_assert_eq(r.lost_rank, 2u);
    cr_assert_eq(hth_engine_submit(r.e, &q, &id, &err), HTH_EUNREACHABLE);
    fill_session(&r, s, g_three);
    s->id = 2;
    cr_assert_eq(hth_engine_load(r.e, s, &err), 0);
    attach(&r, s);
    answer_init(&after);
    q = request(&after, prompt, n, 16);
    submit(&r, &q);
    wait_done(&after);
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
    q = request(&a, prompt, n, 200);
    id = submit(&r, &q);
    wait_tokens(&a, 3);
    hth_engine_cancel(r.e, id);
    wait_done(&a);
    cr_assert_eq(a.status, HTH_ECANCELLED);
    answer_init(&b);
    b.stop_after = 4;
    q = request(&b, prompt, n, 200);
    submit(&r, &q);
    wait_done(&b);
    cr_assert(b.status == HTH_OK && b.n == 4);
    answer_init(&c);
    q = request(&c, prompt, n, 200);
    submit(&r, &q);
    wait_tokens(&c, 3);
    hth_fail(&why, HTH_EPEER, "box was lost");
    hth_engine_detach(r.e, &why);
    wait_done(&c);
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
    q = request(&a, prompt, 3, 254);
    cr_assert_eq(hth_engine_submit(r.e, &q, &id, &err), HTH_EOVERFLOW);
    cr_assert(strstr(err.text, "254") && strstr(err.text, "256"));
    q = request(&a, prompt, 0, 1);
    cr_assert_eq(hth_engine_submit(r.e, &q, &id, &err), HTH_EINVAL);
    prompt[1] = 1u << 20;
    q = request(&a, prompt, 3, 1);
    cr_assert_eq(hth_engine_submit(r.e, &q, &id, &err), HTH_EINVAL);
    rig_close(&r);
}
