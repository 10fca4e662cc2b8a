/* engine_tsan.c - an engine under ThreadSanitizer: several threads submit
 * requests that share prompts (so that the prefix cache keeps, forks and drops
 * sequences all the time), cancel some of them at any moment, and read the
 * counters; at the end the engine is closed with requests still in flight. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/rng.h"
#include "coordinator/engine.h"
#include "kernels/type.h"
#include "tests/tsan/check.h"

#define CLIENTS 3u
#define ROUNDS 9u
#define PROMPTS 4u
#define PROMPT 70u
#define ANSWER 6u

static struct hth_engine *engine;

/* One request, and whoever waits for its end. */
struct waiting {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    bool began, ended;
    int status;
    uint32_t tokens;
    struct hth_request_stats stats;
};

static bool on_token(void *ctx, uint32_t id)
{
    struct waiting *w = ctx;

    (void)id;
    pthread_mutex_lock(&w->lock);
    w->began = true;
    w->tokens++;
    pthread_cond_signal(&w->moved);
    pthread_mutex_unlock(&w->lock);
    return true;
}

static void on_end(void *ctx, int status, const struct hth_err *err,
                   const struct hth_request_stats *stats)
{
    struct waiting *w = ctx;

    (void)err;
    pthread_mutex_lock(&w->lock);
    if (w->ended) {
        fprintf(stderr, "a request ended twice\n");
        exit(1);
    }
    w->ended = true;
    w->status = status;
    w->stats = *stats;
    pthread_cond_signal(&w->moved);
    pthread_mutex_unlock(&w->lock);
}

static void waiting_init(struct waiting *w)
{
    memset(w, 0, sizeof *w);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->moved, NULL);
}

static void wait_for(struct waiting *w, const bool *what)
{
    pthread_mutex_lock(&w->lock);
    while (!*what && !w->ended)
        pthread_cond_wait(&w->moved, &w->lock);
    pthread_mutex_unlock(&w->lock);
}

/* Prompts with a common first half: the tree of prefixes parts in it. */
static uint64_t submit(struct waiting *w, uint32_t prompt, uint32_t generate)
{
    uint32_t ids[PROMPT];
    struct hth_err err;
    struct hth_rng rng;
    uint64_t id;
    struct hth_request q = {.tokens = ids,
                            .count = PROMPT,
                            .generate_max = generate,
                            .ignore_end = true,
                            .reuse = true,
                            .client = prompt,
                            .on_token = on_token,
                            .on_end = on_end,
                            .ctx = w};

    hth_sampling_default(&q.sampling);
    q.sampling.temperature = 0;
    hth_rng_init(&rng, prompt + 1);
    for (uint32_t i = 0; i < PROMPT; i++)
        ids[i] = 3 + (i < PROMPT / 2 ? i : (uint32_t)(hth_rng_u64(&rng) % 200));
    waiting_init(w);
    CHECK(hth_engine_submit(engine, &q, &id, &err) == HTH_OK);
    return id;
}

struct client {
    pthread_t thread;
    uint32_t number;
    uint32_t whole, cancelled, cached;
    struct waiting w[ROUNDS]; /* one each: nobody reuses a lock in use */
};

/* Every third request is given up before its first token, every third after
 * it; the others run to their end. */
static void *client_main(void *arg)
{
    struct client *c = arg;
    struct hth_cache_stats cache;
    struct hth_engine_totals totals;
    uint32_t running, queued;

    for (uint32_t i = 0; i < ROUNDS; i++) {
        uint32_t kind = (i + c->number) % 3;
        struct waiting *w = &c->w[i];
        uint64_t id = submit(w, (i + c->number) % PROMPTS, ANSWER);

        if (kind == 1)
            wait_for(w, &w->began);
        if (kind != 2)
            hth_engine_cancel(engine, id);
        hth_engine_cache_stats(engine, &cache);
        hth_engine_queue(engine, &running, &queued);
        hth_engine_totals(engine, &totals);
        wait_for(w, &w->ended);
        c->cached += w->stats.cached_tokens;
        c->cancelled += w->status == HTH_ECANCELLED;
        c->whole += w->status == HTH_OK && w->tokens == ANSWER;
        if (kind == 2 && w->tokens != ANSWER) {
            fprintf(stderr, "an answer of %u tokens\n", w->tokens);
            exit(1);
        }
    }
    return NULL;
}

/* One rank, and a cache so small that kept sequences have to go. */
static void engine_open(struct hth_gguf *g)
{
    struct hth_session *s = calloc(1, sizeof *s);
    struct hth_engine_opts o = {.gguf = g, .threads = 1};
    const double whole[] = {1};
    struct hth_shape shape;
    struct hth_err err = {0};

    CHECK(s != NULL);
    CHECK(hth_engine_open(&engine, &o, &err) == HTH_OK);
    CHECK(hth_spec_read(&s->spec, g, &err) == HTH_OK);
    s->id = 1;
    s->ctx_max = 128;
    s->kv_positions_max = 512;
    s->rows_max = 128;
    s->kv_type = HTH_F32;
    s->wire_type = HTH_WIRE_F32;
    hth_spec_shape(&s->spec, s->kv_type, &shape);
    CHECK(hth_plan_make(&shape, whole, 1, &s->plan, &err) == HTH_OK);
    CHECK(hth_engine_load(engine, s, &err) == HTH_OK);
    CHECK(hth_engine_attach(engine, NULL, 1, &err) == HTH_OK);
    free(s);
}

int main(void)
{
    static struct client c[CLIENTS];
    uint32_t whole = 0, cancelled = 0, cached = 0;
    struct waiting left[CLIENTS];
    struct hth_gguf *g;
    struct hth_err err = {0};

    hth_log_set_level(HTH_LOG_ERROR);
    CHECK(hth_gguf_open(&g, "models/tale-q8_0.gguf", &err) == HTH_OK);
    engine_open(g);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        c[i].number = i;
        CHECK(pthread_create(&c[i].thread, NULL, client_main, &c[i]) == 0);
    }
    for (uint32_t i = 0; i < CLIENTS; i++) {
        pthread_join(c[i].thread, NULL);
        whole += c[i].whole;
        cancelled += c[i].cancelled;
        cached += c[i].cached;
    }
    CHECK(whole > 0 && cancelled > 0 && cached > 0);
    for (uint32_t i = 0; i < CLIENTS; i++)
        submit(&left[i], i, ANSWER);
    hth_engine_close(engine);
    for (uint32_t i = 0; i < CLIENTS; i++)
        CHECK(left[i].ended);
    hth_gguf_close(g);
    printf("engine: ok, %u whole, %u cancelled, %u tokens cached\n", whole,
           cancelled, cached);
    return 0;
}
