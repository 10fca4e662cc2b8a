/* engine.c - the life of the engine: loading, attaching, the queue, the end of
 * requests. A device that fails ends its requests and detaches the engine; it
 * never ends the process. */
#include "coordinator/engine.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "coordinator/engine_internal.h"
#include "worker/packed_key.h"

/* ---- requests ------------------------------------------------------------ */

static void free_task(struct hth_task *t)
{
    hth_sampler_close(t->sampler);
    hth_constraint_close(t->constraint);
    free(t->tokens);
    free(t);
}

static void unlink_task(struct hth_engine *e, struct hth_task *t)
{
    pthread_mutex_lock(&e->lock);
    for (struct hth_task **p = &e->tasks; *p != NULL; p = &(*p)->next)
        if (*p == t) {
            *p = t->next;
            e->task_count--;
            break;
        }
    pthread_mutex_unlock(&e->lock);
}

/* What the weights did since the first token. The prediction takes what a
 * token cost beside waiting for them as measured. */
static void fill_weights(struct hth_engine *e, struct hth_task *t)
{
    struct hth_loader *l = hth_rank_loader(e->rank);
    struct hth_request_stats *out = &t->stats;
    struct hth_loader_stats s;

    hth_loader_stats(l, &s);
    if (t->first_ns != 0) {
        out->read_bytes = s.read_bytes - t->read0;
        out->stall_ns = s.stall_ns - t->stall0_ns;
    }
    if (out->generated_tokens > 1 && out->decode_ns > out->stall_ns) {
        hth_loader_measured(l, (double)(out->decode_ns - out->stall_ns) * 1e-9 /
                                   (out->generated_tokens - 1));
        hth_loader_stats(l, &s);
        out->predicted_token_s = s.window.token_s;
    }
    out->pinned_bytes = s.window.pinned_bytes;
    out->streamed_bytes = s.window.streamed_bytes;
    out->disk_bytes_per_s = s.read_bytes_per_s;
}

static void fill_stats(struct hth_engine *e, struct hth_task *t)
{
    const struct hth_forward_times *f;
    uint64_t now = hth_now_ns(), sent, received;

    t->stats.prompt_tokens = t->r.count;
    if (t->started_ns == 0) {
        t->stats.queue_ns = now - t->submitted_ns;
        return;
    }
    f = hth_forward_times(hth_rank_forward(e->rank));
    hth_engine__traffic(e, &sent, &received);
    t->stats.queue_ns = t->started_ns - t->submitted_ns;
    t->stats.prefill_ns =
        (t->first_ns != 0 ? t->first_ns : now) - t->started_ns;
    t->stats.decode_ns = t->first_ns != 0 ? now - t->first_ns : 0;
    t->stats.compute_ns = f->compute_ns - t->compute0_ns;
    t->stats.reduce_ns = f->reduce_ns - t->reduce0_ns;
    t->stats.sent_bytes = sent - t->sent0;
    t->stats.received_bytes = received - t->received0;
    fill_weights(e, t);
}

void hth_engine__end_task(struct hth_engine *e, struct hth_task *t, int status,
                          const struct hth_err *err)
{
    struct hth_err text = {.status = status};

    fill_stats(e, t);
    if (t->running) {
        hth_engine__leave(e, t);
        e->running--;
    }
    unlink_task(e, t);
    if (err != NULL)
        text = *err;
    t->r.on_end(t->r.ctx, status, &text, &t->stats);
    free_task(t);
}

/* Only the engine thread removes tasks, so the list may be walked by it
 * without the lock as long as new ones are only appended. */
static void end_all(struct hth_engine *e, int status, const struct hth_err *err)
{
    for (;;) {
        struct hth_task *t;

        pthread_mutex_lock(&e->lock);
        t = e->tasks;
        pthread_mutex_unlock(&e->lock);
        if (t == NULL)
            return;
        hth_engine__end_task(e, t, status, err);
    }
}

static int check_request(struct hth_engine *e, const struct hth_request *r,
                         struct hth_err *err)
{
    const struct hth_session *s = hth_rank_session(e->rank);

    if (r->count == 0)
        return hth_fail(err, HTH_EINVAL, "the prompt has no tokens");
    if (r->generate_max > s->ctx_max || r->count > s->ctx_max ||
        r->count + r->generate_max > s->ctx_max)
        return hth_fail(err, HTH_EOVERFLOW,
                        "%u prompt tokens plus %u to generate do not fit the "
                        "context of %u; shorten the prompt, ask for fewer "
                        "tokens or start the coordinator with a larger --ctx",
                        r->count, r->generate_max, s->ctx_max);
    for (uint32_t i = 0; i < r->count; i++)
        if (r->tokens[i] >= s->spec.vocab)
            return hth_fail(err, HTH_EINVAL,
                            "token %u is not in the vocabulary of %u",
                            r->tokens[i], s->spec.vocab);
    if (r->logprobs > HTH_LOGPROBS_MAX || r->logprobs > s->spec.vocab)
        return hth_fail(err, HTH_EINVAL,
                        "logprobs of %u tokens; %u at most are possible",
                        r->logprobs - 1, HTH_LOGPROBS_MAX - 1);
    for (uint32_t i = 0; i < r->loras; i++)
        if (!hth_adapters_has(hth_rank_adapters(e->rank), r->lora[i].id))
            return hth_fail(err, HTH_ENOTFOUND,
                            "adapter %u is not loaded on the devices yet",
                            r->lora[i].id);
    return hth_sampling_check(&r->sampling, s->spec.vocab, err);
}

static struct hth_task *new_task(const struct hth_engine *e,
                                 const struct hth_request *r)
{
    const struct hth_session *s = hth_rank_session(e->rank);
    struct hth_task *t = calloc(1, sizeof *t);

    if (t == NULL)
        return NULL;
    t->r = *r;
    t->tokens =
        malloc(((size_t)r->count + r->generate_max) * sizeof *t->tokens);
    if (t->tokens == NULL ||
        hth_sampler_open(&t->sampler, &r->sampling, s->spec.vocab) != HTH_OK) {
        free_task(t);
        return NULL;
    }
    memcpy(t->tokens, r->tokens, r->count * sizeof *t->tokens);
    t->r.tokens = t->tokens;
    for (uint32_t i = 0; i < r->count; i++)
        hth_sampler_accept(t->sampler, r->tokens[i]);
    t->feed = r->count;
    t->need = hth_engine__need(e, t);
    t->submitted_ns = hth_now_ns();
    return t;
}

/* In tokens, beside the prompt's: how much of an answer a turn of the fair
 * queue pays for. */
#define COST_OF_ANSWER 256u

static void append(struct hth_engine *e, struct hth_task *t)
{
    struct hth_task **p = &e->tasks;

    while (*p != NULL)
        p = &(*p)->next;
    *p = t;
    t->id = ++e->next_id;
    e->task_count++;
}

/* The tokens, sorted: made once. Whoever finds that another was faster takes
 * the other's. */
static int token_index(struct hth_engine *e, struct hth_token_index **out,
                       struct hth_err *err)
{
    struct hth_token_index *none = NULL;
    int rc;

    *out = atomic_load(&e->index);
    if (*out != NULL)
        return HTH_OK;
    if (e->o.tokenizer == NULL)
        return hth_fail(err, HTH_EUNSUPPORTED,
                        "the model has no tokens' texts to hold to a grammar");
    rc = hth_token_index_open(out, e->o.tokenizer, err);
    if (rc == HTH_OK &&
        !atomic_compare_exchange_strong(&e->index, &none, *out)) {
        hth_token_index_close(*out);
        *out = none;
    }
    return rc;
}

/* Before the lock is taken: this may take a while. */
static int open_constraint(struct hth_engine *e, const struct hth_request *r,
                           struct hth_constraint **out, struct hth_err *err)
{
    struct hth_token_index *x;
    int rc;

    if (r->grammar == NULL)
        return HTH_OK;
    rc = token_index(e, &x, err);
    return rc == HTH_OK ? hth_constraint_open(out, r->grammar, x, err) : rc;
}

int hth_engine_submit(struct hth_engine *e, const struct hth_request *r,
                      uint64_t *id, struct hth_err *err)
{
    struct hth_constraint *constraint = NULL;
    struct hth_task *t = NULL;
    int rc = open_constraint(e, r, &constraint, err);

    if (rc != HTH_OK)
        return rc;
    pthread_mutex_lock(&e->lock);
    if (e->state != HTH_ENGINE_ATTACHED || e->detaching || e->ending)
        rc = hth_fail(err, HTH_EUNREACHABLE,
                      "the cluster is not ready: devices are missing");
    else if (e->task_count >= e->o.parallel_max + e->o.waiting_max)
        rc = hth_fail(err, HTH_EBUSY,
                      "%u requests are running or waiting already; try again "
                      "later",
                      e->task_count);
    else
        rc = check_request(e, r, err);
    if (rc == HTH_OK) {
        t = new_task(e, r);
        if (t == NULL)
            rc = hth_fail(err, HTH_ENOMEM, "no memory for the request");
    }
    if (rc == HTH_OK) {
        t->tag = hth_fair_tag(&e->fair, r->client, r->count + COST_OF_ANSWER);
        t->constraint = constraint;
        hth_sampler_constrain(t->sampler, constraint);
        constraint = NULL;
        append(e, t);
        *id = t->id;
        pthread_cond_broadcast(&e->wake);
    }
    pthread_mutex_unlock(&e->lock);
    hth_constraint_close(constraint);
    return rc;
}

void hth_engine_cancel(struct hth_engine *e, uint64_t id)
{
    pthread_mutex_lock(&e->lock);
    for (struct hth_task *t = e->tasks; t != NULL; t = t->next)
        if (t->id == id)
            atomic_store(&t->cancelled, true);
    if (e->split_task != NULL && e->split_task->id == id)
        hth_split_cancel(e->split);
    pthread_cond_broadcast(&e->wake);
    pthread_mutex_unlock(&e->lock);
}

void hth_engine_times(const struct hth_engine *e, struct hth_forward_times *out)
{
    *out = *hth_forward_times(hth_rank_forward(e->rank));
}

void hth_engine_weights(const struct hth_engine *e,
                        struct hth_loader_stats *out)
{
    hth_loader_stats(hth_rank_loader(e->rank), out);
}

void hth_engine_plan(const struct hth_engine *e, struct hth_plan *out)
{
    *out = hth_rank_session(e->rank)->plan;
}

/* ---- detaching ----------------------------------------------------------- */

/* A polite goodbye where the links still work; a worker then waits for the
 * next session without complaint. */
static void say_goodbye(struct hth_engine *e)
{
    struct hth_step bye = {.kind = HTH_STEP_GOODBYE};
    size_t n = hth_step_encode(&bye, NULL, 0, e->message);

    for (uint32_t i = 0; i + 1 < e->ranks; i++)
        if (hth_link_error(e->link[i])->status == HTH_OK)
            (void)!hth_link_send(e->link[i], HTH_TAG_STEP, e->message, n, 100);
}

static void drop_links(struct hth_engine *e)
{
    if (e->split != NULL)
        hth_split_detach(e->split);
    hth_forward_join(hth_rank_forward(e->rank), NULL);
    hth_group_close(&e->group);
    hth_star_close(e->star);
    e->star = NULL;
    for (uint32_t i = 0; i + 1 < e->ranks; i++) {
        hth_link_close(e->link[i]);
        e->link[i] = NULL;
    }
}

/* Engine thread: end requests, let go of the links, be idle. */
static void become_idle(struct hth_engine *e, int status,
                        const struct hth_err *why, bool polite)
{
    /* From here on nothing is admitted, so that all that was has ended when the
     * engine is idle and may be attached anew at once. */
    pthread_mutex_lock(&e->lock);
    e->ending = true;
    pthread_mutex_unlock(&e->lock);
    if (polite)
        say_goodbye(e);
    end_all(e, status, why);
    hth_engine__past_save(e, true);
    pthread_mutex_lock(&e->lock);
    drop_links(e);
    hth_engine__cache_clear(e);
    e->state = HTH_ENGINE_IDLE;
    e->detaching = e->ending = false;
    pthread_cond_broadcast(&e->wake);
    pthread_mutex_unlock(&e->lock);
}

static uint32_t failed_rank(const struct hth_engine *e)
{
    for (uint32_t i = 0; i + 1 < e->ranks; i++) {
        int status = hth_link_error(e->link[i])->status;

        if (status != HTH_OK && status != HTH_ECANCELLED)
            return i + 1;
    }
    return 0;
}

/* The group broke. When that was our own doing (detach woke the step), the
 * reason is known; else the sentence says which device, doing what, and what
 * to do about it. */
static void group_failed(struct hth_engine *e, const struct hth_err *cause)
{
    uint32_t rank = failed_rank(e);
    struct hth_err err = *cause;
    bool ours, busy;

    pthread_mutex_lock(&e->lock);
    busy = e->tasks != NULL;
    ours = e->detaching;
    if (ours)
        err = e->why;
    pthread_mutex_unlock(&e->lock);
    if (!ours && rank > 0)
        hth_fail(&err, cause->status,
                 "device %s (rank %u) was lost %s (%.200s); start it again: "
                 "the next request is served once "
                 "it is back",
                 hth_link_peer(e->link[rank - 1])->name, rank,
                 busy ? "while computing an answer" : "while idle",
                 cause->text);
    become_idle(e, err.status, &err, false);
    if (!ours && e->o.lost != NULL)
        e->o.lost(e->o.ctx, rank, &err);
}

/* ---- the thread ---------------------------------------------------------- */

enum duty { DUTY_STOP, DUTY_DETACH, DUTY_STEP, DUTY_LOOK };

/* How often an idle engine looks whether its links still stand: a device that
 * died while nobody asked anything is known before the next request. */
#define LOOK_MS 200u

static bool has_work(const struct hth_engine *e)
{
    return e->state == HTH_ENGINE_ATTACHED && e->tasks != NULL;
}

static enum duty wait_for_duty(struct hth_engine *e)
{
    enum duty d = DUTY_STEP;
    struct timespec until;
    int timed_out = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += LOOK_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    pthread_mutex_lock(&e->lock);
    while (!e->stop && !e->detaching && !has_work(e) && timed_out == 0)
        timed_out = pthread_cond_timedwait(&e->wake, &e->lock, &until);
    if (e->detaching)
        d = DUTY_DETACH;
    else if (e->stop)
        d = DUTY_STOP;
    else if (!has_work(e))
        d = DUTY_LOOK;
    pthread_mutex_unlock(&e->lock);
    return d;
}

/* Between steps no peer has anything to say: what can be found out is that it
 * is gone. */
static int look_at_links(struct hth_engine *e, struct hth_err *err)
{
    uint32_t links = hth_engine_attached(e) ? e->ranks - 1 : 0;

    if (hth_engine_attached(e)) {
        hth_engine__cache_ease(e);
        hth_engine__kept_save(e);
    }
    for (uint32_t i = 0; i < links; i++)
        if (hth_link_progress(e->link[i]) < 0) {
            *err = *hth_link_error(e->link[i]);
            return err->status;
        }
    return HTH_OK;
}

uint64_t hth_engine_step_ms(const struct hth_engine *e)
{
    uint64_t since =
        atomic_load_explicit(&e->step_since_ms, memory_order_relaxed);
    uint64_t now = hth_now_ms();

    return since > 0 && now > since ? now - since : 0;
}

static int timed_step(struct hth_engine *e, struct hth_err *err)
{
    int rc;

    atomic_store_explicit(&e->step_since_ms, hth_now_ms(),
                          memory_order_relaxed);
    rc = hth_engine__step(e, err);
    atomic_store_explicit(&e->step_since_ms, 0, memory_order_relaxed);
    return rc;
}

static void *engine_main(void *arg)
{
    struct hth_engine *e = arg;

    for (;;) {
        struct hth_err err = {0};
        enum duty d = wait_for_duty(e);
        int rc;

        if (d == DUTY_STOP)
            return NULL;
        if (d == DUTY_DETACH) {
            become_idle(e, e->why.status, &e->why, true);
            continue;
        }
        rc = d == DUTY_LOOK ? look_at_links(e, &err) : timed_step(e, &err);
        if (rc != HTH_OK)
            group_failed(e, &err);
    }
}

static void unload(struct hth_engine *e)
{
    hth_engine__free_step(e);
    hth_engine__cache_close(e);
    hth_embed_close(e->embed);
    hth_rank_close(e->rank);
    free(e->setup);
    e->setup = NULL;
    e->embed = NULL;
    e->rank = NULL;
    e->split = NULL;
}

int hth_engine_open(struct hth_engine **out, const struct hth_engine_opts *o,
                    struct hth_err *err)
{
    struct hth_engine *e = calloc(1, sizeof *e);
    pthread_condattr_t monotonic;

    if (e == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for the engine");
    e->o = *o;
    if (o->parallel_max == 0 || o->parallel_max > HTH_SEQS_MAX)
        e->o.parallel_max = HTH_SEQS_MAX;
    if (o->waiting_max == 0)
        e->o.waiting_max = HTH_REQUESTS_MAX;
    if (o->room_ahead == 0)
        e->o.room_ahead = HTH_ROOM_AHEAD;
    hth_pace_init(&e->pace);
    hth_fair_init(&e->fair);
    pthread_mutex_init(&e->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&e->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (pthread_create(&e->thread, NULL, engine_main, e) != 0) {
        pthread_cond_destroy(&e->wake);
        pthread_mutex_destroy(&e->lock);
        free(e);
        return hth_fail(err, HTH_ENOMEM, "cannot start the engine's thread");
    }
    *out = e;
    return HTH_OK;
}

void hth_engine_close(struct hth_engine *e)
{
    struct hth_err why;

    if (e == NULL)
        return;
    hth_fail(&why, HTH_ECANCELLED, "the coordinator is stopping");
    hth_engine_detach(e, &why);
    pthread_mutex_lock(&e->lock);
    e->stop = true;
    pthread_cond_broadcast(&e->wake);
    pthread_mutex_unlock(&e->lock);
    pthread_join(e->thread, NULL);
    unload(e);
    hth_token_index_close(atomic_load(&e->index));
    pthread_cond_destroy(&e->wake);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

/* ---- loading and attaching ----------------------------------------------- */

static int read_piece(void *ctx, uint32_t index, const struct hth_block *piece,
                      void *dst, struct hth_err *err)
{
    const struct hth_engine *e = ctx;

    (void)index;
    return hth_block_read(e->o.gguf, &e->setup->spec, piece,
                          (struct hth_read){0, dst, piece->bytes}, err);
}

/* The same weights and buffers can serve another session when all but its id
 * and the other ranks' business are equal. */
static bool same_session(const struct hth_session *a,
                         const struct hth_session *b)
{
    struct hth_session *x = malloc(sizeof *x);
    struct hth_buf ba, bb;
    bool same = false;

    hth_buf_init(&ba, HTH_SESSION_BYTES_MAX);
    hth_buf_init(&bb, HTH_SESSION_BYTES_MAX);
    if (x != NULL) {
        *x = *a;
        x->id = b->id;
        hth_session_encode(x, &ba);
        hth_session_encode(b, &bb);
        same = !ba.failed && !bb.failed && ba.len == bb.len &&
               memcmp(ba.data, bb.data, ba.len) == 0;
    }
    hth_buf_fini(&ba);
    hth_buf_fini(&bb);
    free(x);
    return same;
}

/* Open the rank; the names of its packed blocks say which file they were cut
 * from, and how. */
static int open_rank(struct hth_engine *e, struct hth_rank_opts *o,
                     struct hth_err *err)
{
    uint32_t blocks = hth_shard_blocks(&e->setup->spec);
    uint8_t *key = malloc(2ul * blocks * HTH_HASH_BYTES);
    uint8_t *whole_key = key + (size_t)blocks * HTH_HASH_BYTES;
    struct hth_session *whole = malloc(sizeof *whole);
    int rc = HTH_OK;

    if (key == NULL || whole == NULL)
        rc = hth_fail(err, HTH_ENOMEM, "no memory for the list of blocks");
    if (rc == HTH_OK && e->o.store_dir != NULL) {
        hth_whole_session(e->setup, whole);
        rc = hth_packed_keys(e->o.gguf, e->setup, key, err);
        if (rc == HTH_OK)
            rc = hth_packed_keys(e->o.gguf, whole, whole_key, err);
    }
    o->dir = e->o.store_dir;
    o->key = key;
    o->whole_key = whole_key;
    o->kv_dir = e->o.kv_dir;
    if (rc == HTH_OK)
        rc = hth_rank_open(&e->rank, o, err);
    free(key);
    free(whole);
    return rc;
}

static int load_rank(struct hth_engine *e, const struct hth_session *s,
                     struct hth_err *err)
{
    struct hth_rank_opts o = {.threads = e->o.threads,
                              .memory_bytes = e->o.memory_bytes,
                              .source = {e, read_piece},
                              .whole = {e, read_piece}};
    int rc;

    e->setup = malloc(sizeof *e->setup);
    if (e->setup == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for a session");
    *e->setup = *s;
    o.session = e->setup;
    rc = open_rank(e, &o, err);
    if (rc != HTH_OK)
        return rc;
    e->split = hth_rank_split(e->rank);
    rc = hth_embed_open(&e->embed, e->o.gguf, &hth_rank_session(e->rank)->spec,
                        err);
    if (rc == HTH_OK)
        rc = hth_engine__cache_open(e, err);
    return rc == HTH_OK ? hth_engine__alloc_step(e, err) : rc;
}

int hth_engine_load(struct hth_engine *e, const struct hth_session *s,
                    struct hth_err *err)
{
    struct hth_err why;
    int rc;

    hth_fail(&why, HTH_ECANCELLED,
             "the cluster is being arranged anew; send the request again");
    hth_engine_detach(e, &why);
    if (e->rank != NULL && same_session(hth_rank_session(e->rank), s))
        return HTH_OK;
    unload(e);
    rc = load_rank(e, s, err);
    if (rc != HTH_OK)
        unload(e);
    return rc;
}

static int open_star(struct hth_engine *e, struct hth_err *err)
{
    struct hth_star_opts o = {.rank = 0,
                              .ranks = e->ranks,
                              .links = e->link,
                              .pool = hth_rank_pool(e->rank),
                              .timeout_ms = HTH_STEP_DEADLINE_MS};
    int rc = hth_star_open(&e->star, &o, err);

    if (rc != HTH_OK)
        return rc;
    rc = hth_group_open(&e->group, e->star, &o,
                        (enum hth_wire)hth_rank_session(e->rank)->wire_type,
                        err);
    if (rc != HTH_OK)
        return rc;
    e->step_turns = (struct hth_turns){0};
    hth_forward_join(hth_rank_forward(e->rank), &e->group.collective);
    return HTH_OK;
}

int hth_engine_attach(struct hth_engine *e, struct hth_link **links,
                      uint32_t ranks, struct hth_err *err)
{
    int rc;

    HTH_ASSERT(e->rank != NULL && e->state == HTH_ENGINE_IDLE);
    HTH_ASSERT(ranks == hth_rank_session(e->rank)->plan.ranks);
    e->ranks = ranks;
    for (uint32_t i = 0; i + 1 < ranks; i++)
        e->link[i] = links[i + 1];
    rc = open_star(e, err);
    if (rc == HTH_OK && e->split != NULL && ranks > 1)
        rc = hth_engine__split_meet(e, err);
    else if (rc == HTH_OK)
        hth_engine__split_none(e);
    pthread_mutex_lock(&e->lock);
    if (rc != HTH_OK)
        drop_links(e);
    else
        e->state = HTH_ENGINE_ATTACHED;
    pthread_cond_broadcast(&e->wake);
    pthread_mutex_unlock(&e->lock);
    return rc;
}

bool hth_engine_lora_has(struct hth_engine *e, uint32_t id)
{
    return e->rank != NULL && hth_adapters_has(hth_rank_adapters(e->rank), id);
}

int hth_engine_lora_put(struct hth_engine *e, uint32_t id,
                        struct hth_adapter_slice slice, struct hth_err *err)
{
    struct hth_adapters *a =
        e->rank != NULL ? hth_rank_adapters(e->rank) : NULL;

    return hth_adapters_put(a, id, slice, err);
}

static bool uses(const struct hth_task *t, uint32_t id)
{
    for (uint32_t i = 0; i < t->r.loras; i++)
        if (t->r.lora[i].id == id)
            return true;
    return false;
}

/* Requests are checked and appended under the same lock: whoever comes later
 * finds that it is gone. */
int hth_engine_lora_drop(struct hth_engine *e, uint32_t id)
{
    int rc = HTH_OK;

    pthread_mutex_lock(&e->lock);
    for (const struct hth_task *t = e->tasks; t != NULL; t = t->next)
        if (uses(t, id))
            rc = HTH_EBUSY;
    if (rc == HTH_OK && e->rank != NULL)
        rc = hth_adapters_drop(hth_rank_adapters(e->rank), id);
    pthread_mutex_unlock(&e->lock);
    return rc;
}

void hth_engine_detach(struct hth_engine *e, const struct hth_err *why)
{
    pthread_mutex_lock(&e->lock);
    if (e->state == HTH_ENGINE_ATTACHED) {
        e->why = *why;
        e->detaching = true;
        /* Wake a step that waits for a device that may never answer. A step
         * that only computes ends by itself and leaves polite links alone. */
        if (e->tasks != NULL)
            hth_star_shutdown(e->star);
        pthread_cond_broadcast(&e->wake);
        while (e->detaching)
            pthread_cond_wait(&e->wake, &e->lock);
    }
    pthread_mutex_unlock(&e->lock);
}

bool hth_engine_attached(const struct hth_engine *e)
{
    struct hth_engine *m = (struct hth_engine *)(uintptr_t)e;
    bool attached;

    pthread_mutex_lock(&m->lock);
    attached = m->state == HTH_ENGINE_ATTACHED && !m->detaching && !m->ending;
    pthread_mutex_unlock(&m->lock);
    return attached;
}
