/* duty.c - the thread behind a LOAD command. Its state is guarded by one
 * lock, held for assignments only; the rank and the store belong to the
 * thread while it runs and to the controlling thread between runs. */
#include "worker/duty.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "worker/fetch.h"
#include "worker/keeper.h"
#include "worker/memory.h"
#include "worker/rank.h"
#include "scheduler/spread.h"
#include "worker/store_source.h"
#include "worker/whole.h"

#define LINK_RETRY_MIN_MS 100u
#define LINK_RETRY_MAX_MS 2000u
#define LINK_HANDSHAKE_MS 3000u
#define LINK_FRESH_MS 1000u
#define DAMAGE_TRIES 3u

struct hth_duty {
    struct hth_duty_opts opts;
    pthread_t thread;
    bool running; /* thread to be joined; controlling thread only */
    atomic_bool stop;
    struct hth_fetch fetch;
    struct hth_keeper *keeper;                     /* of the rank's adapters */
    struct hth_store_key keys[HTH_BLOCKS_MAX + 1]; /* one is never used */
    uint32_t key_count;
    struct hth_session session;
    struct hth_rank *rank;           /* may outlive the thread */
    struct hth_store_source *source; /* of the rank's weights */
    struct hth_store_source *whole;  /* of whole layers; NULL: none */
    struct hth_buf setup; /* of the open rank, session number zeroed */

    pthread_mutex_t lock; /* guards what follows */
    uint8_t state;        /* enum hth_node_state */
    struct hth_link *link;
    struct hth_err why; /* HTH_NODE_FAILED */
    struct hth_rank *stats_rank;
    uint64_t session_id;
    uint32_t attempt;
    uint64_t linked_ms; /* when link was opened */
};

static void set_state(struct hth_duty *d, uint8_t state,
                      const struct hth_err *why)
{
    pthread_mutex_lock(&d->lock);
    d->state = state;
    if (why != NULL)
        d->why = *why;
    else
        d->why = (struct hth_err){0};
    pthread_mutex_unlock(&d->lock);
    d->opts.changed(d->opts.ctx);
}

/* ---- the rank ------------------------------------------------------------ */

static void drop_rank(struct hth_duty *d)
{
    pthread_mutex_lock(&d->lock);
    d->stats_rank = NULL;
    pthread_mutex_unlock(&d->lock);
    hth_keeper_serve(d->keeper, NULL);
    hth_rank_close(d->rank);
    d->rank = NULL;
    hth_store_source_close(d->source);
    hth_store_source_close(d->whole);
    d->source = d->whole = NULL;
    hth_buf_reset(&d->setup);
}

/* What the open rank depends on, as bytes to compare: everything but the
 * session's number, and the blocks' hashes. */
static void describe_setup(const struct hth_duty *d, struct hth_buf *out)
{
    struct hth_session *s = malloc(sizeof *s);

    if (s == NULL) {
        out->failed = true;
        return;
    }
    *s = d->session;
    s->id = 0;
    hth_session_encode(s, out);
    hth_put_bytes(out, d->keys, sizeof d->keys[0] * d->key_count);
    free(s);
}

/* Room in the store for packed blocks, where weights will be streamed. */
static int make_room(struct hth_duty *d, struct hth_err *err)
{
    struct hth_memory_need need;

    hth_memory_need(&d->session, d->session.rank, &need);
    if (d->whole != NULL)
        need.weights_bytes += hth_whole_bytes(&d->session.spec);
    if (d->opts.memory_bytes == 0 || need.weights_bytes + need.kv_bytes +
                                             need.buffer_bytes +
                                             need.lora_bytes <=
                                         d->opts.memory_bytes)
        return HTH_OK;
    return hth_store_make_room(d->opts.store, need.weights_bytes, err);
}

/* Whole layers are behind the slices in the list of blocks. */
static int open_sources(struct hth_duty *d, struct hth_err *err)
{
    uint32_t own = hth_shard_blocks(&d->session.spec);
    struct hth_session *whole = malloc(sizeof *whole);
    int rc = whole != NULL ? HTH_OK
                           : hth_fail(err, HTH_ENOMEM, "worker: out of memory");

    if (rc == HTH_OK)
        rc = hth_store_source_open(&d->source, d->opts.store, &d->session,
                                   d->keys, err);
    if (rc == HTH_OK && d->key_count > own) {
        hth_whole_session(&d->session, whole);
        rc = hth_store_source_open(&d->whole, d->opts.store, whole,
                                   d->keys + own, err);
    }
    free(whole);
    return rc;
}

static int open_rank(struct hth_duty *d, struct hth_err *err)
{
    struct hth_rank_opts o = {.session = &d->session,
                              .threads = d->opts.threads,
                              .memory_bytes = d->opts.memory_bytes,
                              .identity = d->opts.identity,
                              .name = d->opts.name,
                              .kv_dir = d->opts.kv_dir};
    struct hth_rank *rank;
    int status;

    drop_rank(d);
    status = open_sources(d, err);
    if (status != HTH_OK)
        return status;
    if (d->whole != NULL) {
        o.whole = hth_store_source(d->whole);
        o.whole_key = hth_store_source_keys(d->whole);
    }
    o.source = hth_store_source(d->source);
    o.dir = hth_store_source_dir(d->source);
    o.key = hth_store_source_keys(d->source);
    status = make_room(d, err);
    if (status == HTH_OK)
        status = hth_rank_open(&rank, &o, err);
    if (status != HTH_OK)
        return status;
    d->rank = rank;
    describe_setup(d, &d->setup);
    pthread_mutex_lock(&d->lock);
    d->stats_rank = rank;
    pthread_mutex_unlock(&d->lock);
    hth_keeper_serve(d->keeper, hth_rank_adapters(rank));
    return HTH_OK;
}

static bool rank_fits(const struct hth_duty *d)
{
    struct hth_buf now;
    bool same;

    if (d->rank == NULL || d->setup.failed)
        return false;
    hth_buf_init(&now, d->setup.max);
    describe_setup(d, &now);
    same = !now.failed && now.len == d->setup.len &&
           memcmp(now.data, d->setup.data, now.len) == 0;
    hth_buf_fini(&now);
    return same;
}

/* Fetch what is missing and open the rank. A block found damaged while it is
 * read has been deleted by the store: fetch it again. */
static int load(struct hth_duty *d, struct hth_err *err)
{
    uint32_t tries;
    int status;

    if (rank_fits(d))
        return HTH_OK;
    set_state(d, HTH_NODE_LOADING, NULL);
    for (tries = 0; tries < DAMAGE_TRIES; tries++) {
        status = hth_fetch_run(&d->fetch, err);
        if (status != HTH_OK)
            return status;
        status = open_rank(d, err);
        if (status != HTH_ENOTFOUND && status != HTH_EHASH)
            return status;
    }
    return status;
}

/* ---- the link ------------------------------------------------------------ */

static int dial(struct hth_duty *d, struct hth_link **out, struct hth_err *err)
{
    const struct hth_coordinator *c =
        hth_identity_coordinator(d->opts.identity);
    struct hth_link_opts o = {.identity = d->opts.identity,
                              .name = d->opts.name,
                              .expect_id = c->id,
                              .rank = d->session.rank,
                              .session = d->session.id,
                              .handshake_ms = LINK_HANDSHAKE_MS};
    struct hth_msg_welcome w;

    hth_uplink_welcome(d->opts.uplink, &w);
    return hth_link_connect(out, d->opts.host, w.data_port, &o, err);
}

/* Publish the link so that a stop can end it; false: stop came first. */
static bool hold_link(struct hth_duty *d, struct hth_link *link)
{
    bool go;

    pthread_mutex_lock(&d->lock);
    go = !atomic_load(&d->stop);
    d->link = go ? link : NULL;
    d->linked_ms = hth_now_ms();
    pthread_mutex_unlock(&d->lock);
    return go;
}

static void release_link(struct hth_duty *d, struct hth_link *link)
{
    pthread_mutex_lock(&d->lock);
    d->link = NULL;
    pthread_mutex_unlock(&d->lock);
    hth_link_close(link);
}

static void pause_ms(const struct hth_duty *d, uint32_t ms)
{
    uint64_t end = hth_now_ms() + ms;

    while (!atomic_load(&d->stop) && hth_now_ms() < end)
        hth_sleep_ms(20);
}

/* Serve over one link until it ends; returns its status. */
static int serve_once(struct hth_duty *d, struct hth_err *err)
{
    struct hth_link *link;
    int status;

    status = dial(d, &link, err);
    if (status != HTH_OK)
        return status;
    if (!hold_link(d, link)) {
        hth_link_close(link);
        return HTH_ECANCELLED;
    }
    set_state(d, HTH_NODE_READY, NULL);
    hth_log(HTH_LOG_NOTICE, "RANK-READY", "session=%016llx rank=%u: serving",
            (unsigned long long)d->session.id, d->session.rank);
    status = hth_rank_serve(d->rank, link, err);
    release_link(d, link);
    if (!atomic_load(&d->stop))
        hth_log(HTH_LOG_NOTICE, "RANK-IDLE", "rank=%u: %s", d->session.rank,
                status == HTH_OK
                    ? "the coordinator said goodbye"
                    : (err->text[0] ? err->text : hth_status_text(status)));
    return HTH_OK;
}

/* A link that ended is dialled again, the weights being in memory; a refusal
 * (the coordinator is forming another session, or is away) is retried until
 * a new command comes. Weights that could not be read are loaded anew, and
 * fetched where the store has lost them. Returns when that fails, or stopped.
 */
static int serve(struct hth_duty *d, struct hth_err *why)
{
    struct hth_err err = {0};
    uint32_t delay_ms = LINK_RETRY_MIN_MS;
    int status;

    while (!atomic_load(&d->stop)) {
        set_state(d, HTH_NODE_LINKING, NULL);
        err = (struct hth_err){0};
        while (!atomic_load(&d->stop) && !hth_keeper_tried(d->keeper))
            pause_ms(d, 20);
        status = serve_once(d, &err);
        if (hth_rank_broken(d->rank) && !atomic_load(&d->stop)) {
            drop_rank(d);
            status = load(d, why);
            if (status != HTH_OK)
                return status;
        }
        if (status == HTH_OK)
            delay_ms = LINK_RETRY_MIN_MS;
        else
            hth_log(HTH_LOG_INFO, "LINK-RETRY", "in_ms=%u: %s", delay_ms,
                    err.text);
        pause_ms(d, delay_ms);
        delay_ms =
            delay_ms * 2 < LINK_RETRY_MAX_MS ? delay_ms * 2 : LINK_RETRY_MAX_MS;
    }
    return HTH_ECANCELLED;
}

static void *duty_main(void *arg)
{
    struct hth_duty *d = arg;
    struct hth_err err = {0};
    int status = load(d, &err);

    if (status == HTH_OK)
        status = serve(d, &err);
    if (status != HTH_OK && status != HTH_ECANCELLED) {
        err.status = status;
        hth_log(HTH_LOG_ERROR, "LOAD-FAILED", "rank=%u: %s", d->session.rank,
                err.text);
        set_state(d, HTH_NODE_FAILED, &err);
    }
    return NULL;
}

/* ---- control ------------------------------------------------------------- */

static void free_duty(struct hth_duty *d)
{
    hth_buf_fini(&d->setup);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

int hth_duty_open(struct hth_duty **out, const struct hth_duty_opts *opts,
                  struct hth_err *err)
{
    struct hth_duty *d = calloc(1, sizeof *d);
    struct hth_keeper_opts keeper = {
        .uplink = opts->uplink, .changed = opts->changed, .ctx = opts->ctx};
    int rc;

    if (d == NULL)
        return hth_fail(err, HTH_ENOMEM, "worker: out of memory");
    d->opts = *opts;
    d->state = HTH_NODE_IDLE;
    pthread_mutex_init(&d->lock, NULL);
    hth_buf_init(&d->setup, HTH_SETUP_BYTES_MAX + sizeof d->keys);
    keeper.store.dir = hth_store_dir(opts->store);
    keeper.store.limit_bytes = opts->store_limit_bytes;
    rc = hth_keeper_start(&d->keeper, &keeper, err);
    if (rc == HTH_OK)
        *out = d;
    else
        free_duty(d);
    return rc;
}

static void halt(struct hth_duty *d)
{
    if (!d->running)
        return;
    atomic_store(&d->stop, true);
    pthread_mutex_lock(&d->lock);
    if (d->link != NULL) {
        hth_link_shutdown(d->link);
        hth_rank_shutdown(d->rank);
    }
    pthread_mutex_unlock(&d->lock);
    pthread_join(d->thread, NULL);
    d->running = false;
    atomic_store(&d->stop, false);
}

void hth_duty_unload(struct hth_duty *d)
{
    halt(d);
    drop_rank(d);
    (void)!hth_store_pin(d->opts.store, NULL, 0, NULL);
    set_state(d, HTH_NODE_IDLE, NULL);
}

void hth_duty_close(struct hth_duty *d)
{
    if (d == NULL)
        return;
    halt(d);
    drop_rank(d);
    hth_keeper_stop(d->keeper);
    free_duty(d);
}

/* The blocks offered must be exactly those that spec and plan imply, so that
 * nobody makes this device store anything else. */
static bool blocks_match(const struct hth_msg_command *cmd,
                         const struct hth_session *s)
{
    struct hth_block want;
    struct hth_msg_block b;
    uint32_t i, own = hth_shard_blocks(&s->spec);

    if (hth_msg_blocks(cmd) !=
        own + (s->prefill != HTH_PREFILL_TP ? hth_whole_blocks(&s->spec) : 0))
        return false;
    for (i = 0; i < hth_msg_blocks(cmd); i++) {
        if (i < own)
            hth_shard_block(&s->spec, &s->plan, s->rank, i, &want);
        else
            hth_whole_block(&s->spec, i - own, &want);
        hth_msg_block_at(cmd, i, &b);
        if (b.bytes != want.bytes)
            return false;
    }
    return true;
}

static bool failed_before(struct hth_duty *d)
{
    bool failed;

    pthread_mutex_lock(&d->lock);
    failed = d->state == HTH_NODE_FAILED;
    pthread_mutex_unlock(&d->lock);
    return failed;
}

/* Check the whole command before the running duty is touched. */
static int read_command(const struct hth_msg_command *cmd,
                        struct hth_session *session, struct hth_err *err)
{
    struct hth_cursor c;
    int status;

    hth_cursor_init(&c, cmd->setup.p, cmd->setup.n);
    status = hth_session_decode(session, &c, err);
    if (status != HTH_OK)
        return status;
    if (!hth_cursor_done(&c) || session->id != cmd->session ||
        session->rank != cmd->rank || session->rank == 0 ||
        !blocks_match(cmd, session))
        return hth_fail(err, HTH_EFORMAT,
                        "the coordinator's load command contradicts itself; "
                        "upgrade the older side");
    return HTH_OK;
}

static void adopt(struct hth_duty *d, const struct hth_msg_command *cmd,
                  const struct hth_session *session)
{
    struct hth_msg_block b;
    uint32_t i;

    pthread_mutex_lock(&d->lock);
    d->session_id = session->id;
    d->attempt = cmd->attempt;
    d->state = HTH_NODE_LOADING;
    pthread_mutex_unlock(&d->lock);
    d->session = *session;
    hth_keeper_wish(d->keeper, cmd);
    d->key_count = hth_msg_blocks(cmd);
    memset(d->keys, 0, sizeof d->keys);
    for (i = 0; i < d->key_count; i++) {
        hth_msg_block_at(cmd, i, &b);
        memcpy(d->keys[i].hash, b.hash, sizeof b.hash);
        d->keys[i].bytes = b.bytes;
    }
    d->fetch.uplink = d->opts.uplink;
    d->fetch.store = d->opts.store;
    d->fetch.keys = d->keys;
    d->fetch.count = d->key_count;
    d->fetch.stop = &d->stop;
    atomic_store(&d->fetch.fetched_bytes, 0);
}

/* The coordinator has had no link to us for more than a second, though we
 * hold one: give it up and dial. One that is younger is not the one meant. */
static void link_anew(struct hth_duty *d, uint32_t attempt)
{
    pthread_mutex_lock(&d->lock);
    if (d->attempt != attempt && d->link != NULL &&
        hth_now_ms() - d->linked_ms >= LINK_FRESH_MS)
        hth_link_shutdown(d->link);
    d->attempt = attempt;
    pthread_mutex_unlock(&d->lock);
}

int hth_duty_load(struct hth_duty *d, const struct hth_msg_command *cmd,
                  struct hth_err *err)
{
    struct hth_session *session = malloc(sizeof *session);
    int status;

    if (session == NULL)
        return hth_fail(err, HTH_ENOMEM, "worker: out of memory");
    status = read_command(cmd, session, err);
    if (status == HTH_OK && d->running && d->session.id == session->id &&
        !failed_before(d)) {
        link_anew(d, cmd->attempt);
        hth_keeper_wish(d->keeper, cmd);
        free(session);
        return HTH_OK;
    }
    if (status == HTH_OK) {
        halt(d);
        adopt(d, cmd, session);
        d->running = pthread_create(&d->thread, NULL, duty_main, d) == 0;
        if (!d->running)
            status = hth_fail(err, HTH_ENOMEM, "cannot start a thread");
    }
    free(session);
    return status;
}

void hth_duty_report(struct hth_duty *d, struct hth_msg_report *out)
{
    struct hth_rank_stats stats = {0};

    memset(out, 0, sizeof *out);
    pthread_mutex_lock(&d->lock);
    out->state = d->state;
    out->session = d->state == HTH_NODE_IDLE ? 0 : d->session_id;
    out->status = d->why.status;
    snprintf(out->text, sizeof out->text, "%s", d->why.text);
    if (d->stats_rank != NULL)
        hth_rank_stats(d->stats_rank, &stats);
    pthread_mutex_unlock(&d->lock);
    out->loras_number = hth_keeper_has(d->keeper);
    out->done_bytes = atomic_load(&d->fetch.done_bytes);
    out->total_bytes = atomic_load(&d->fetch.total_bytes);
    out->fetched_bytes = atomic_load(&d->fetch.fetched_bytes);
    out->phases = stats.phases;
    out->memory_short = stats.memory_short;
}
