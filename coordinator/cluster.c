/* cluster.c - the loop thread, its inbox, and the calls of cluster.h.
 * Opening and closing are in cluster_open.c. */
#include "coordinator/cluster.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/cluster_loop.h"

#define TICK_MS 100u

/* ---- the inbox ------------------------------------------------------------
 */

bool hth__cluster_post(struct hth_cluster *c, const struct note *n)
{
    struct inbox *b = &c->inbox;
    bool taken;

    pthread_mutex_lock(&b->lock);
    taken = !b->closed && b->used < NOTES_MAX;
    if (taken) {
        b->v[(b->head + b->used) % NOTES_MAX] = *n;
        b->used++;
        uv_async_send(&c->wake);
    }
    pthread_mutex_unlock(&b->lock);
    return taken;
}

static bool take_note(struct hth_cluster *c, struct note *out)
{
    struct inbox *b = &c->inbox;
    bool got;

    pthread_mutex_lock(&b->lock);
    got = b->used > 0;
    if (got) {
        *out = b->v[b->head];
        b->head = (b->head + 1) % NOTES_MAX;
        b->used--;
    }
    pthread_mutex_unlock(&b->lock);
    return got;
}

/* From here on notes that carry something are refused, so that their senders
 * release it themselves. */
static void close_inbox(struct hth_cluster *c)
{
    pthread_mutex_lock(&c->inbox.lock);
    c->inbox.closed = true;
    pthread_mutex_unlock(&c->inbox.lock);
}

/* ---- the loop's turn ------------------------------------------------------
 */

static void publish(struct hth_cluster *c)
{
    struct shown *s = &c->shown;

    pthread_mutex_lock(&s->lock);
    s->ready = c->session.state == SESSION_READY;
    s->problem = c->problem;
    snprintf(s->waiting, sizeof s->waiting, "%s", c->waiting);
    if (c->api != NULL)
        hth__cluster_http_publish(c);
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static void turn(struct hth_cluster *c)
{
    uint64_t now_ms = hth_now_ms();

    if (c->stopping)
        return;
    hth__session_tick(c, now_ms);
    hth__cluster_calls_tick(c, now_ms);
    hth_requests_tick(c->requests, c->session.state == SESSION_READY,
                      c->waiting, &c->problem);
    hth__cluster_show(c, now_ms);
    publish(c);
}

/* The clients hear why; then nothing is taken any more. Handles are closed,
 * so that the loop ends when the pool's last work has. */
static void stop(struct hth_cluster *c)
{
    struct hth_err why;

    c->stopping = true;
    hth_fail(&why, HTH_EUNREACHABLE, "the coordinator is stopping");
    hth_requests_stop(c->requests, &why);
    hth__cluster_calls_stop(c);
    close_inbox(c);
}

static void end(struct hth_cluster *c)
{
    hth__session_close(c);
    uv_close((uv_handle_t *)&c->wake, NULL);
    uv_close((uv_handle_t *)&c->timer, NULL);
}

/* What a note carries belongs to whoever takes it. */
static void discard(const struct note *n)
{
    if (n->kind == NOTE_CALL)
        hth_control_drop(n->call);
    if (n->kind == NOTE_LINK)
        hth_link_close(n->link);
}

static void handle(struct hth_cluster *c, const struct note *n)
{
    if (c->stopping) {
        discard(n);
        return;
    }
    switch (n->kind) {
    case NOTE_CALL:
        hth__cluster_call(c, n->call);
        break;
    case NOTE_GONE:
        hth__cluster_gone(c, n->pipe);
        break;
    case NOTE_LINK:
        hth__session_link(c, n->link);
        break;
    case NOTE_LOST:
        hth__session_engine_lost(c, n->rank, &n->err);
        break;
    case NOTE_PAIRED:
        hth__cluster_know_devices(c);
        break;
    case NOTE_JOB:
        hth__session_job_done(c, &n->job, &n->err);
        break;
    case NOTE_STOP:
        stop(c);
        break;
    }
}

static void on_wake(uv_async_t *wake)
{
    struct hth_cluster *c = wake->data;
    struct note n;
    bool any = false;

    if (atomic_load(&c->ending)) {
        if (!uv_is_closing((uv_handle_t *)wake))
            end(c);
        return;
    }
    while (take_note(c, &n)) {
        handle(c, &n);
        any = true;
    }
    if (any)
        turn(c);
    else if (!c->stopping)
        hth_requests_tick(c->requests, c->session.state == SESSION_READY,
                          c->waiting, &c->problem);
}

static void on_timer(uv_timer_t *timer)
{
    turn(timer->data);
}

static void *loop_main(void *arg)
{
    struct hth_cluster *c = arg;

    uv_run(&c->loop, UV_RUN_DEFAULT);
    return NULL;
}

int hth__loop_init(struct hth_cluster *c, struct hth_err *err)
{
    int rv;

    if ((rv = uv_loop_init(&c->loop)) != 0)
        return hth_fail(err, HTH_EIO, "event loop: %s", uv_strerror(rv));
    if ((rv = uv_async_init(&c->loop, &c->wake, on_wake)) != 0 ||
        (rv = uv_timer_init(&c->loop, &c->timer)) != 0 ||
        (rv = uv_timer_start(&c->timer, on_timer, TICK_MS, TICK_MS)) != 0)
        return hth_fail(err, HTH_EIO, "event loop: %s", uv_strerror(rv));
    c->loop_made = true;
    c->wake.data = c;
    c->timer.data = c;
    return HTH_OK;
}

int hth__loop_start(struct hth_cluster *c, struct hth_err *err)
{
    if (pthread_create(&c->thread, NULL, loop_main, c) != 0)
        return hth_fail(err, HTH_ENOMEM, "cannot start a thread");
    c->running = true;
    return HTH_OK;
}

void hth__loop_quiet(struct hth_cluster *c)
{
    struct note n = {.kind = NOTE_STOP};

    if (c->running && hth__cluster_post(c, &n))
        hth_sleep_ms(QUIET_MS);
    close_inbox(c);
}

void hth__loop_end(struct hth_cluster *c)
{
    struct note n;

    atomic_store(&c->ending, true);
    if (c->running) {
        uv_async_send(&c->wake);
        pthread_join(c->thread, NULL);
    } else if (c->loop_made) {
        end(c);
        uv_run(&c->loop, UV_RUN_DEFAULT);
    }
    while (take_note(c, &n))
        discard(&n);
    if (c->loop_made)
        uv_loop_close(&c->loop);
}

/* ---- calls of cluster.h ---------------------------------------------------
 */

static void deadline_in(struct timespec *t, uint32_t ms)
{
    clock_gettime(CLOCK_REALTIME, t);
    t->tv_sec += ms / 1000;
    t->tv_nsec += (long)(ms % 1000) * 1000000L;
    if (t->tv_nsec >= 1000000000L) {
        t->tv_sec++;
        t->tv_nsec -= 1000000000L;
    }
}

int hth_cluster_wait_ready(struct hth_cluster *c, uint32_t timeout_ms,
                           struct hth_err *err)
{
    struct shown *s = &c->shown;
    struct timespec end_at;
    int status = HTH_OK, rc = 0;

    deadline_in(&end_at, timeout_ms);
    pthread_mutex_lock(&s->lock);
    while (!s->ready && s->failed.status == HTH_OK &&
           s->problem.status == HTH_OK && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&s->changed, &s->lock, &end_at);
    if (s->failed.status != HTH_OK)
        status = hth_fail(err, s->failed.status, "%s", s->failed.text);
    else if (!s->ready && s->problem.status != HTH_OK)
        status = hth_fail(err, s->problem.status, "%s", s->problem.text);
    else if (!s->ready)
        status = hth_fail(err, HTH_ETIMEDOUT, "not ready: %s", s->waiting);
    pthread_mutex_unlock(&s->lock);
    return status;
}

int hth_cluster_failed(struct hth_cluster *c, struct hth_err *err)
{
    struct hth_err failed;

    pthread_mutex_lock(&c->shown.lock);
    failed = c->shown.failed;
    pthread_mutex_unlock(&c->shown.lock);
    return failed.status == HTH_OK
               ? HTH_OK
               : hth_fail(err, failed.status, "%s", failed.text);
}

uint16_t hth_cluster_port(const struct hth_cluster *c)
{
    return c->port;
}

const char *hth_cluster_url(const struct hth_cluster *c)
{
    return c->inproc_url;
}

int hth_cluster_pair_code(struct hth_cluster *c, struct hth_cluster_code *out,
                          struct hth_err *err)
{
    char code[HTH_CODE_SIZE];
    int status;

    if (c->pairing == NULL)
        return hth_fail(err, HTH_EUNSUPPORTED,
                        "this coordinator listens on no network");
    status = hth_pairing_issue(c->pairing, 0, code, err);
    if (status != HTH_OK)
        return status;
    snprintf(out->code, sizeof out->code, "%s", code);
    hth__cluster_host(c, out->host, sizeof out->host);
    out->port = c->port;
    out->expires_s = HTH_CODE_LIFE_S;
    return HTH_OK;
}

/* ---- logits ---------------------------------------------------------------
 */

struct logits_wait {
    const struct hth_logits_opts *o;
    struct hth_cluster *cluster;
    uint64_t id;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    bool ended;
    int status;
    int stopped; /* the sink's status */
    struct hth_err err;
};

static void on_logits(void *ctx, uint32_t index, const float *logits,
                      uint32_t vocab)
{
    struct logits_wait *w = ctx;

    if (index >= w->o->first && w->stopped == 0)
        w->stopped = w->o->sink(w->o->ctx, index, logits, vocab);
}

static void on_logits_end(void *ctx, int status, const struct hth_err *err,
                          const struct hth_request_stats *stats)
{
    struct logits_wait *w = ctx;

    (void)stats;
    pthread_mutex_lock(&w->lock);
    w->ended = true;
    w->status = status;
    if (err != NULL)
        w->err = *err;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

static int submit_logits(struct logits_wait *w, struct hth_err *err)
{
    struct hth_request *r = calloc(1, sizeof *r);
    int status;

    if (r == NULL)
        return hth_fail(err, HTH_ENOMEM, "logits: out of memory");
    hth_sampling_default(&r->sampling);
    r->tokens = w->o->tokens;
    r->count = w->o->count;
    r->on_logits = on_logits;
    r->on_end = on_logits_end;
    r->ctx = w;
    status = hth_engine_submit(w->cluster->engine, r, &w->id, err);
    free(r);
    return status;
}

static int check_tokens(const struct hth_cluster *c,
                        const struct hth_logits_opts *o, struct hth_err *err)
{
    uint32_t i;

    if (o->count == 0)
        return hth_fail(err, HTH_EINVAL, "no tokens");
    if (o->count > c->ctx)
        return hth_fail(err, HTH_ELIMIT, "%u tokens, the context holds %u",
                        o->count, c->ctx);
    for (i = 0; i < o->count; i++)
        if (o->tokens[i] >= c->spec.vocab)
            return hth_fail(err, HTH_EINVAL,
                            "token %u is outside of the model's vocabulary "
                            "of %u",
                            o->tokens[i], c->spec.vocab);
    return HTH_OK;
}

int hth_cluster_logits(struct hth_cluster *c, const struct hth_logits_opts *o,
                       struct hth_err *err)
{
    struct logits_wait w = {.o = o, .cluster = c};
    int status = check_tokens(c, o, err);

    if (status != HTH_OK)
        return status;
    pthread_mutex_init(&w.lock, NULL);
    pthread_cond_init(&w.changed, NULL);
    atomic_fetch_add(&c->busy, 1);
    status = submit_logits(&w, err);
    if (status == HTH_OK) {
        pthread_mutex_lock(&w.lock);
        while (!w.ended)
            pthread_cond_wait(&w.changed, &w.lock);
        pthread_mutex_unlock(&w.lock);
        status = w.stopped != 0 ? w.stopped : w.status;
        if (status != HTH_OK && w.stopped == 0)
            hth_fail(err, status, "%s",
                     w.err.text[0] != '\0' ? w.err.text
                                           : hth_status_text(status));
    }
    atomic_fetch_sub(&c->busy, 1);
    pthread_cond_destroy(&w.changed);
    pthread_mutex_destroy(&w.lock);
    return status;
}
