/* bench.c - see bench.h. A request like any other, whose callbacks read the
 * clock. Fails as the request does. */
#include "coordinator/bench.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "coordinator/cluster_internal.h"
#include "worker/loader.h"

/* A moment between two steps. */
struct mark {
    uint64_t at_ns;
    struct hth_forward_times times;
    uint64_t read_bytes, stall_ns; /* of weights */
};

struct timed {
    const struct hth_bench_run *run;
    struct hth_engine *engine;
    struct mark start, prompt, last; /* the engine's thread, then the caller */
    uint32_t generated;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    bool ended;
    struct hth_err err; /* status 0: it went well */
    struct hth_request_stats stats;
};

static void take_mark(const struct timed *t, struct mark *m)
{
    struct hth_loader_stats w;

    m->at_ns = hth_now_ns();
    hth_engine_times(t->engine, &m->times);
    hth_engine_weights(t->engine, &w);
    m->read_bytes = w.read_bytes;
    m->stall_ns = w.stall_ns;
}

/* The engine ends a step at `depth` (struct hth_request.split), so what is
 * timed begins with a step. */
static void on_prefill(void *ctx, uint32_t done, uint32_t total)
{
    struct timed *t = ctx;

    (void)total;
    if (done == t->run->depth)
        take_mark(t, &t->start);
}

static bool on_token(void *ctx, uint32_t id)
{
    struct timed *t = ctx;

    (void)id;
    take_mark(t, t->generated == 0 ? &t->prompt : &t->last);
    t->generated++;
    return true;
}

static void on_end(void *ctx, int status, const struct hth_err *err,
                   const struct hth_request_stats *stats)
{
    struct timed *t = ctx;

    pthread_mutex_lock(&t->lock);
    t->ended = true;
    t->stats = *stats;
    if (status != HTH_OK)
        hth_fail(&t->err, status, "%s",
                 err != NULL && err->text[0] != '\0' ? err->text
                                                     : hth_status_text(status));
    pthread_cond_signal(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

/* The adapters that every request has. */
static int choose(struct hth_loras *l, struct hth_request *r,
                  struct hth_err *err)
{
    struct hth_lora_choice c = {0};
    int rc = l != NULL ? hth_loras_default(l, &c, err) : HTH_OK;

    r->loras = c.n;
    memcpy(r->lora, c.ask, sizeof r->lora);
    r->variant = c.variant;
    return rc;
}

static int run_request(struct timed *t, struct hth_loras *loras,
                       struct hth_err *err)
{
    struct hth_request *r = calloc(1, sizeof *r);
    uint64_t id;
    int rc;

    if (r == NULL)
        return hth_fail(err, HTH_ENOMEM, "bench: out of memory");
    hth_sampling_default(&r->sampling);
    r->sampling.temperature = 0;
    r->tokens = t->run->tokens;
    r->count = t->run->depth + t->run->prompt;
    r->split = t->run->depth;
    r->generate_max = t->run->generate + 1;
    r->ignore_end = true;
    r->on_prefill = on_prefill;
    r->on_token = on_token;
    r->on_end = on_end;
    r->ctx = t;
    take_mark(t, &t->start);
    rc = choose(loras, r, err);
    if (rc == HTH_OK)
        rc = hth_engine_submit(t->engine, r, &id, err);
    free(r);
    if (rc != HTH_OK)
        return rc;
    pthread_mutex_lock(&t->lock);
    while (!t->ended)
        pthread_cond_wait(&t->changed, &t->lock);
    pthread_mutex_unlock(&t->lock);
    if (t->err.status != HTH_OK && err != NULL)
        *err = t->err;
    return t->err.status;
}

static void between(const struct mark *a, const struct mark *b, uint64_t *ns,
                    struct hth_forward_times *times)
{
    *ns = b->at_ns - a->at_ns;
    times->compute_ns = b->times.compute_ns - a->times.compute_ns;
    times->reduce_ns = b->times.reduce_ns - a->times.reduce_ns;
    times->steps = b->times.steps - a->times.steps;
    for (uint32_t i = 0; i < HTH_OP_COUNT; i++)
        times->op_ns[i] = b->times.op_ns[i] - a->times.op_ns[i];
}

static void weights_between(const struct mark *a, const struct mark *b,
                            const struct hth_request_stats *s,
                            struct hth_bench_weights *out)
{
    *out =
        (struct hth_bench_weights){.pinned_bytes = s->pinned_bytes,
                                   .streamed_bytes = s->streamed_bytes,
                                   .read_bytes = b->read_bytes - a->read_bytes,
                                   .stall_ns = b->stall_ns - a->stall_ns,
                                   .disk_bytes_per_s = s->disk_bytes_per_s,
                                   .predicted_token_s = s->predicted_token_s};
}

int hth_cluster_bench(struct hth_cluster *c, const struct hth_bench_run *run,
                      struct hth_bench_times *out, struct hth_err *err)
{
    struct timed t = {.run = run, .engine = c->engine};
    int rc;

    pthread_mutex_init(&t.lock, NULL);
    pthread_cond_init(&t.changed, NULL);
    atomic_fetch_add(&c->busy, 1);
    rc = run_request(&t, c->loras, err);
    atomic_fetch_sub(&c->busy, 1);
    pthread_cond_destroy(&t.changed);
    pthread_mutex_destroy(&t.lock);
    *out = (struct hth_bench_times){0};
    if (rc != HTH_OK)
        return rc;
    between(&t.start, &t.prompt, &out->prompt_ns, &out->in_prompt);
    weights_between(&t.start, &t.prompt, &t.stats, &out->weights_in_prompt);
    if (run->generate == 0)
        return HTH_OK;
    between(&t.prompt, &t.last, &out->generate_ns, &out->in_generate);
    weights_between(&t.prompt, &t.last, &t.stats, &out->weights_in_generate);
    return HTH_OK;
}

int hth_cluster_bench_subject(struct hth_cluster *c,
                              struct hth_bench_subject *out,
                              struct hth_err *err)
{
    if (!hth_engine_attached(c->engine))
        return hth_fail(err, HTH_EUNREACHABLE,
                        "the cluster is not ready: devices are missing");
    out->spec = &c->spec;
    hth_engine_plan(c->engine, &out->plan);
    out->threads = c->threads;
    out->kv_type = c->opts.kv_type;
    return HTH_OK;
}
