/* generation.c - the two halves of a generation: the engine's callbacks, which
 * only add under the lock, and the reader's take, which swaps two buffers. */
#include "coordinator/generation.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct pile {
    struct hth_buf text;
    struct hth_buf tokens; /* struct hth_generation_token, one after another */
    uint32_t count;
};

struct hth_generation {
    struct hth_generation_opts o;
    uint64_t id; /* of the engine */
    uint32_t generate_max, logprobs;
    bool told; /* the end, to the reader */

    pthread_mutex_t lock; /* guards what follows */
    struct pile adding;
    uint32_t prefill_done, prefill_total;
    bool news, ended, overflow;
    enum hth_generation_end end;
    struct hth_err err;
    struct hth_request_stats stats;
    struct hth_detok detok;
    struct hth_stops stops;
    struct hth_buf piece; /* scratch of one token */

    double *sum; /* [o.embed], the engine's until the end */
    float *embedding;
    uint32_t summed;

    struct pile taken; /* the reader's */
};

/* ---- the engine's side --------------------------------------------------- */

static void on_prefill(void *ctx, uint32_t done, uint32_t total)
{
    struct hth_generation *g = ctx;

    pthread_mutex_lock(&g->lock);
    g->prefill_done = done;
    g->prefill_total = total;
    g->news = true;
    pthread_mutex_unlock(&g->lock);
}

static void on_logprobs(void *ctx, const struct hth_logprob *v, uint32_t n)
{
    struct hth_generation *g = ctx;
    struct hth_generation_token t = {.count = n};

    memcpy(t.v, v, n * sizeof *v);
    pthread_mutex_lock(&g->lock);
    hth_put_bytes(&g->adding.tokens, &t, sizeof t);
    pthread_mutex_unlock(&g->lock);
}

static bool on_token(void *ctx, uint32_t id)
{
    struct hth_generation *g = ctx;
    bool go;

    pthread_mutex_lock(&g->lock);
    hth_detok_push(&g->detok, g->o.tokenizer, id, g->o.special, &g->piece);
    if (g->piece.len > 0)
        hth_stops_push(&g->stops, g->piece.data, g->piece.len, &g->adding.text);
    hth_buf_reset(&g->piece);
    g->adding.count++;
    g->news = true;
    g->overflow = g->adding.text.failed || g->adding.tokens.failed;
    go = g->stops.matched == HTH_STOPS_NONE && !g->overflow;
    pthread_mutex_unlock(&g->lock);
    return go;
}

static void on_hidden(void *ctx, uint32_t index, const float *x, uint32_t dim)
{
    struct hth_generation *g = ctx;
    uint32_t i;

    (void)index;
    for (i = 0; i < dim; i++)
        g->sum[i] += (double)x[i];
    g->summed++;
}

/* The mean over the prompt's positions, of length 1, as OpenAI's are. */
static void finish_embedding(struct hth_generation *g)
{
    double square = 0, length;
    uint32_t i;

    for (i = 0; i < g->o.embed; i++)
        square += g->sum[i] * g->sum[i];
    length = sqrt(square);
    for (i = 0; i < g->o.embed; i++)
        g->embedding[i] = length > 0 ? (float)(g->sum[i] / length) : 0;
}

static enum hth_generation_end end_of(const struct hth_generation *g,
                                      int status,
                                      const struct hth_request_stats *stats)
{
    if (status == HTH_ECANCELLED)
        return HTH_END_CANCELLED;
    if (status != HTH_OK)
        return HTH_END_FAILED;
    if (g->stops.matched != HTH_STOPS_NONE)
        return HTH_END_STOP;
    return stats->generated_tokens >= g->generate_max ? HTH_END_LENGTH
                                                      : HTH_END_STOP;
}

/* What was held back because it could have become a character or a stop
 * string comes out now. */
static void flush(struct hth_generation *g)
{
    hth_detok_finish(&g->detok, &g->piece);
    if (g->piece.len > 0)
        hth_stops_push(&g->stops, g->piece.data, g->piece.len, &g->adding.text);
    hth_stops_finish(&g->stops, &g->adding.text);
}

static void on_end(void *ctx, int status, const struct hth_err *err,
                   const struct hth_request_stats *stats)
{
    struct hth_generation *g = ctx;
    void (*wake)(void *arg) = g->o.wake;
    void *arg = g->o.arg;

    pthread_mutex_lock(&g->lock);
    if (g->overflow) {
        status = hth_fail(&g->err, HTH_ELIMIT,
                          "the client did not take its answer in time");
    } else {
        if (g->stops.matched == HTH_STOPS_NONE)
            flush(g);
        if (err != NULL)
            g->err = *err;
        if (g->err.text[0] == '\0')
            hth_fail(&g->err, status, "%s", hth_status_text(status));
    }
    if (g->o.embed > 0)
        finish_embedding(g);
    g->end = end_of(g, status, stats);
    g->stats = *stats;
    g->ended = g->news = true;
    pthread_mutex_unlock(&g->lock);
    wake(arg); /* g may be gone from here on */
}

/* ---- the reader's side --------------------------------------------------- */

static void pile_init(struct pile *p)
{
    hth_buf_init(&p->text, HTH_REQUEST_EVENTS_BYTES_MAX);
    hth_buf_init(&p->tokens, HTH_REQUEST_EVENTS_BYTES_MAX);
}

static void pile_fini(struct pile *p)
{
    hth_buf_fini(&p->text);
    hth_buf_fini(&p->tokens);
}

static int submit(struct hth_generation *g, const struct hth_request *from,
                  struct hth_err *err)
{
    struct hth_request *r = malloc(sizeof *r);
    int status;

    if (r == NULL)
        return hth_fail(err, HTH_ENOMEM, "out of memory");
    *r = *from;
    r->on_prefill = on_prefill;
    r->on_token = on_token;
    r->on_hidden = g->o.embed > 0 ? on_hidden : NULL;
    r->on_logprobs = r->logprobs > 0 ? on_logprobs : NULL;
    r->on_end = on_end;
    r->ctx = g;
    status = hth_engine_submit(g->o.engine, r, &g->id, err);
    free(r);
    return status;
}

static int alloc_embedding(struct hth_generation *g, struct hth_err *err)
{
    if (g->o.embed == 0)
        return HTH_OK;
    g->sum = calloc(g->o.embed, sizeof *g->sum);
    g->embedding = calloc(g->o.embed, sizeof *g->embedding);
    return g->sum != NULL && g->embedding != NULL
               ? HTH_OK
               : hth_fail(err, HTH_ENOMEM, "out of memory");
}

int hth_generation_start(struct hth_generation **out,
                         const struct hth_generation_opts *o,
                         struct hth_err *err)
{
    struct hth_generation *g = calloc(1, sizeof *g);
    int status;

    if (g == NULL)
        return hth_fail(err, HTH_ENOMEM, "out of memory");
    g->o = *o;
    g->generate_max = o->request->generate_max;
    g->o.request = NULL;
    g->o.stops = NULL;
    pthread_mutex_init(&g->lock, NULL);
    pile_init(&g->adding);
    pile_init(&g->taken);
    hth_buf_init(&g->piece, HTH_EVENT_TEXT_MAX);
    hth_detok_init(&g->detok, o->at_start);
    status = alloc_embedding(g, err);
    if (status == HTH_OK)
        status = hth_stops_init(&g->stops, o->stops, o->stop_count, err);
    if (status == HTH_OK)
        status = submit(g, o->request, err);
    if (status != HTH_OK) {
        hth_generation_close(g);
        return status;
    }
    *out = g;
    return HTH_OK;
}

void hth_generation_cancel(struct hth_generation *g)
{
    hth_engine_cancel(g->o.engine, g->id);
}

bool hth_generation_take(struct hth_generation *g,
                         struct hth_generation_news *out)
{
    struct pile swap;
    bool news;

    pthread_mutex_lock(&g->lock);
    news = g->news && !g->told;
    if (news) {
        swap = g->taken;
        g->taken = g->adding;
        g->adding = swap;
        g->news = false;
        out->prefill_done = g->prefill_done;
        out->prefill_total = g->prefill_total;
        out->end = g->ended ? g->end : HTH_END_NONE;
        out->stop = g->ended ? g->stops.matched : HTH_STOPS_NONE;
        out->embedding = g->ended ? g->embedding : NULL;
        out->err = g->err;
        out->stats = g->stats;
        g->told = g->ended;
        hth_buf_reset(&g->adding.text);
        hth_buf_reset(&g->adding.tokens);
        g->adding.count = 0;
    }
    pthread_mutex_unlock(&g->lock);
    if (!news)
        return false;
    out->text = g->taken.text.len > 0 ? (const char *)g->taken.text.data : "";
    out->text_bytes = g->taken.text.len;
    out->tokens = g->taken.count;
    out->token =
        (const struct hth_generation_token *)(const void *)g->taken.tokens.data;
    out->token_count = (uint32_t)(g->taken.tokens.len / sizeof *out->token);
    return true;
}

void hth_generation_close(struct hth_generation *g)
{
    if (g == NULL)
        return;
    pile_fini(&g->adding);
    pile_fini(&g->taken);
    hth_buf_fini(&g->piece);
    free(g->sum);
    free(g->embedding);
    pthread_mutex_destroy(&g->lock);
    free(g);
}
