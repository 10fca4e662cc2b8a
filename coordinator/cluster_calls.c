/* cluster_calls.c - one control request at a time, on the loop thread: who
 * asks, may they, and the answer. A request is answered, parked (NEXT, POLL)
 * or handed to libuv's pool (CHUNK), never forgotten. Anything malformed or
 * out of place gets an ERROR; no peer can make the coordinator stop. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/version.h"
#include "coordinator/cluster_internal.h"
#include "scheduler/spread.h"
#include "worker/whole.h"

#define OUT_GRACE_MS 3000u /* for a refused peer to hear why */

/* ---- answers ------------------------------------------------------------- */

static void reply(struct hth_control_call *call, const struct hth_msg *m)
{
    struct hth_buf b;

    hth_buf_init(&b, HTH_CONTROL_BYTES_MAX);
    hth_msg_encode(&b, m);
    hth_control_reply(call, &b);
    hth_buf_fini(&b);
}

static void reply_plain(struct hth_control_call *call, uint8_t type)
{
    struct hth_msg m = {.type = type};

    reply(call, &m);
}

static void reply_error(struct hth_control_call *call, int status,
                        const char *text)
{
    struct hth_msg m = {.type = HTH_MSG_ERROR, .u.error.status = status};

    snprintf(m.u.error.text, sizeof m.u.error.text, "%s", text);
    reply(call, &m);
}

/* OK with an empty body, or the error. */
static void reply_status(struct hth_control_call *call, int status,
                         const struct hth_err *err)
{
    if (status == HTH_OK)
        reply_plain(call, HTH_MSG_OK);
    else
        reply_error(call, status, err->text);
}

/* ---- connections --------------------------------------------------------- */

static struct pipe *find_pipe(struct hth_cluster *c, uint32_t id)
{
    uint32_t i;

    for (i = 0; i < HTH_CONTROL_PIPES_MAX; i++)
        if (c->pipe[i].id == id)
            return &c->pipe[i];
    return NULL;
}

/* The entry of a connection, made at its first request. NULL: none is free,
 * which the sockets' own bound makes a passing state. */
static struct pipe *pipe_of(struct hth_cluster *c, uint32_t id)
{
    struct pipe *p = find_pipe(c, id);

    if (p != NULL)
        return p;
    p = find_pipe(c, 0);
    if (p != NULL)
        *p = (struct pipe){
            .id = id, .since_ms = hth_now_ms(), .member = HTH_MEMBER_NONE};
    return p;
}

static void forget_pipe(struct pipe *p)
{
    free(p->admission);
    *p = (struct pipe){0};
}

static void turn_out(struct pipe *p, const struct hth_err *why)
{
    p->state = PIPE_OUT;
    p->since_ms = hth_now_ms();
    p->out = *why;
    free(p->admission);
    p->admission = NULL;
}

bool hth__cluster_idle(struct hth_cluster *c)
{
    uint32_t running, waiting;

    hth_engine_queue(c->engine, &running, &waiting);
    return running + waiting == 0 && atomic_load(&c->busy) == 0;
}

void hth__cluster_gone(struct hth_cluster *c, uint32_t id)
{
    struct pipe *p = find_pipe(c, id);
    int i = hth_members_by_pipe(&c->members, id);

    hth_requests_gone(c->requests, id);
    if (p != NULL && id != 0)
        forget_pipe(p);
    if (i == HTH_MEMBER_NONE)
        return;
    /* While nothing runs, a broken control connection is the only sign of a
     * process that died: better to link anew than to find out by a request.
     * While something runs, the data link tells. */
    if (hth__cluster_idle(c))
        c->members.v[i].linked = false;
    if (hth_members_gone(&c->members, i, hth_now_ms())) {
        hth_log(HTH_LOG_WARN, "DEVICE-LOST", "device=%s: its connection ended",
                c->members.v[i].hello.name);
        hth__session_member_lost(c, i, &c->members.v[i].why);
    }
}

void hth__cluster_know_devices(struct hth_cluster *c)
{
    struct hth_device *list = calloc(HTH_DEVICES_MAX, sizeof *list);
    size_t i, n;

    if (list == NULL || c->registry == NULL) {
        free(list);
        return;
    }
    n = hth_registry_list(c->registry, list, HTH_DEVICES_MAX);
    for (i = 0; i < n && i < HTH_DEVICES_MAX; i++) {
        int m = hth_members_know(&c->members, list[i].id, list[i].name,
                                 (uint32_t)i);

        if (m == HTH_MEMBER_NONE)
            continue;
        if (list[i].revoked)
            c->members.v[m].state = HTH_NODE_REVOKED;
        else if (c->members.v[m].state == HTH_NODE_REVOKED)
            hth_members_forgiven(&c->members, m);
    }
    free(list);
}

/* ---- hello --------------------------------------------------------------- */

static struct hth_admission_rule rule_of(struct hth_cluster *c)
{
    return (struct hth_admission_rule){c->identity, hth_registry_allowed,
                                       c->registry};
}

static void on_hello(struct hth_cluster *c, struct pipe *p,
                     const struct hth_msg_hello *hello,
                     struct hth_control_call *call)
{
    struct hth_admission_rule rule = rule_of(c);
    struct hth_msg m = {.type = HTH_MSG_CHALLENGE};
    struct hth_err err = {0};
    int status = HTH_OK;
    bool again;

    again = p->state == PIPE_GREETED &&
            memcmp(p->admission->hello.nonce, hello->nonce,
                   sizeof hello->nonce) == 0;
    if (p->admission == NULL &&
        (p->admission = malloc(sizeof *p->admission)) == NULL)
        status = hth_fail(&err, HTH_ENOMEM, "out of memory");
    if (status == HTH_OK && !again)
        status = hth_admission_begin(p->admission, &rule, hello, &err);
    if (status != HTH_OK) {
        hth_log(HTH_LOG_WARN, "HELLO-REFUSED", "%s", err.text);
        turn_out(p, &err);
        reply_error(call, status, err.text);
        return;
    }
    p->state = PIPE_GREETED;
    m.u.challenge = p->admission->challenge;
    reply(call, &m);
}

static void reply_welcome(struct hth_cluster *c, struct hth_control_call *call)
{
    struct hth_msg m = {.type = HTH_MSG_WELCOME};

    snprintf(m.u.welcome.name, sizeof m.u.welcome.name, "%s", c->name);
    snprintf(m.u.welcome.version, sizeof m.u.welcome.version, "%s",
             HTH_VERSION);
    m.u.welcome.data_port = c->port;
    m.u.welcome.heartbeat_ms = HTH_HEARTBEAT_MS;
    reply(call, &m);
}

/* A worker that proved itself takes its place. Another living process with
 * the same key must go: two would share one identity and one rank. */
static void seat(struct hth_cluster *c, struct pipe *p,
                 struct hth_control_call *call)
{
    const struct hth_msg_hello *h = &p->admission->hello;
    int i = hth_members_find(&c->members, h->device);
    bool fresh =
        i == HTH_MEMBER_NONE || c->members.v[i].hello.instance != h->instance;
    struct hth_err why;
    struct pipe *other;
    uint32_t replaced;

    if (fresh && i != HTH_MEMBER_NONE) {
        hth_fail(&why, HTH_EPEER, "it was started again");
        hth__session_member_lost(c, i, &why);
    }
    i = hth_members_join(&c->members, h, p->id, hth_now_ms(), &replaced);
    if (i == HTH_MEMBER_NONE) {
        hth_fail(&why, HTH_ELIMIT, "the cluster knows %u devices already",
                 HTH_DEVICES_MAX);
        turn_out(p, &why);
        return;
    }
    other = replaced != 0 ? find_pipe(c, replaced) : NULL;
    if (other != NULL && fresh) {
        hth_fail(&why, HTH_EEXIST,
                 "another hearth worker with this device's identity has taken "
                 "its place; give each its own --state-dir");
        turn_out(other, &why);
    }
    p->state = PIPE_MEMBER;
    p->member = i;
    hth_control_address(call, c->members.v[i].address);
    if (fresh)
        hth_log(HTH_LOG_NOTICE, "DEVICE-HERE",
                "device=%s address=%s threads=%u isa=%s", h->name,
                c->members.v[i].address, h->threads, h->isa);
}

static void on_prove(struct hth_cluster *c, struct pipe *p,
                     const struct hth_msg_prove *proof,
                     struct hth_control_call *call)
{
    struct hth_admission_rule rule = rule_of(c);
    struct hth_err err = {0};
    int status;

    if (p->state == PIPE_MEMBER || p->state == PIPE_CLIENT) {
        reply_welcome(c, call); /* the proof was sent twice */
        return;
    }
    if (p->state != PIPE_GREETED) {
        reply_plain(call, HTH_MSG_WHO);
        return;
    }
    status = hth_admission_check(p->admission, &rule, proof, &err);
    if (status != HTH_OK) {
        hth_log(HTH_LOG_WARN, "HELLO-REFUSED", "%s", err.text);
        turn_out(p, &err);
        reply_error(call, status, err.text);
        return;
    }
    if (p->admission->hello.role == HTH_PEER_WORKER)
        seat(c, p, call);
    else
        p->state = PIPE_CLIENT;
    free(p->admission);
    p->admission = NULL;
    reply_welcome(c, call);
}

/* ---- workers ------------------------------------------------------------- */

/* Whole layers behind a rank's slices; the head is not among them. */
static void put_whole(struct hth_cluster *c, struct hth_buf *blocks)
{
    size_t head = hth_shard_blocks(&c->spec) - hth_whole_blocks(&c->spec);

    hth_weights_manifest(c->whole, 1, blocks);
    if (!blocks->failed)
        blocks->len -= head * HTH_MSG_BLOCK_BYTES;
}

struct load_lists {
    struct hth_buf setup, blocks, loras;
};

static void fill_load(struct hth_cluster *c, int i, struct load_lists *lists,
                      struct hth_msg_command *cmd)
{
    struct hth_buf *setup = &lists->setup, *blocks = &lists->blocks;
    struct hth_buf *loras = &lists->loras;
    const struct hth_member *v = &c->members.v[i];
    int rank = hth__session_rank(c, i);
    struct hth_session *s = malloc(sizeof *s);

    if (s == NULL) {
        setup->failed = true;
        return;
    }
    *s = c->session.setup;
    s->rank = (uint32_t)rank;
    hth_session_encode(s, setup);
    free(s);
    hth_weights_manifest(c->weights, (uint32_t)rank, blocks);
    if (c->session.setup.prefill != HTH_PREFILL_TP)
        put_whole(c, blocks);
    cmd->session = c->session.setup.id;
    cmd->rank = (uint32_t)rank;
    cmd->attempt = v->attempt;
    cmd->setup = (struct hth_blob){setup->data, setup->len};
    cmd->blocks = (struct hth_blob){blocks->data, blocks->len};
    if (c->loras == NULL)
        return;
    cmd->loras_number = hth_loras_list(c->loras, (uint32_t)rank, loras);
    cmd->loras = (struct hth_blob){loras->data, loras->len};
}

/* What is wanted of this member now. A LOAD whose session is being changed
 * this moment is held back: number 0 asks the worker to ask again. */
static void reply_command(struct hth_cluster *c, int i,
                          struct hth_control_call *call)
{
    const struct hth_member *v = &c->members.v[i];
    struct hth_msg m = {.type = HTH_MSG_COMMAND};
    int rank = hth__session_rank(c, i);
    struct load_lists lists;

    hth_buf_init(&lists.setup, HTH_SETUP_BYTES_MAX);
    hth_buf_init(&lists.blocks, HTH_BLOCKS_MAX * HTH_MSG_BLOCK_BYTES);
    hth_buf_init(&lists.loras, HTH_LORAS_MAX * HTH_MSG_LORA_BYTES);
    m.u.command.number = v->wish;
    m.u.command.kind = v->wish_kind;
    if (v->wish_kind == HTH_COMMAND_LOAD) {
        if (rank > 0 && v->wish_session == c->session.setup.id &&
            c->session.state >= SESSION_LOADING)
            fill_load(c, i, &lists, &m.u.command);
        else
            m.u.command = (struct hth_msg_command){0};
    }
    reply(call, &m);
    hth_buf_fini(&lists.setup);
    hth_buf_fini(&lists.blocks);
    hth_buf_fini(&lists.loras);
}

static void reply_leave(struct hth_control_call *call,
                        const struct hth_err *why)
{
    struct hth_msg m = {.type = HTH_MSG_COMMAND};

    m.u.command.number = 1;
    m.u.command.kind = HTH_COMMAND_LEAVE;
    m.u.command.status = why->status;
    snprintf(m.u.command.text, sizeof m.u.command.text, "%s", why->text);
    reply(call, &m);
}

static void on_next(struct hth_cluster *c, int i, const struct hth_msg_next *m,
                    struct hth_control_call *call)
{
    struct parked *p = &c->next[i];

    if (p->call != NULL)
        hth_control_drop(p->call);
    p->call = NULL;
    hth_members_seen(&c->members, i, hth_now_ms());
    if (c->members.v[i].wish > m->seen && c->members.v[i].wish_kind != 0) {
        reply_command(c, i, call);
        return;
    }
    p->call = call;
    p->seen = m->seen;
    p->until_ms = hth_now_ms() + HTH_POLL_MS_MAX;
}

static void answer_next(struct hth_cluster *c, int i, uint64_t now_ms)
{
    struct parked *p = &c->next[i];
    struct hth_control_call *call = p->call;
    bool news = c->members.v[i].wish > p->seen && c->members.v[i].wish_kind;

    if (call == NULL || (!news && now_ms < p->until_ms))
        return;
    p->call = NULL;
    if (news)
        reply_command(c, i, call);
    else
        reply_plain(call, HTH_MSG_COMMAND);
}

static void on_farewell(struct hth_cluster *c, int i)
{
    struct hth_err why;

    hth_log(HTH_LOG_NOTICE, "DEVICE-LEFT", "device=%s: it was stopped",
            c->members.v[i].hello.name);
    hth_fail(&why, HTH_EPEER, "it was stopped");
    hth_members_left(&c->members, i, hth_now_ms());
    hth__session_member_lost(c, i, &why);
}

/* Its last report may be one of a session that is over. */
static bool any_is_short(const struct hth_cluster *c)
{
    for (uint32_t r = 1; r < c->session.ranks; r++) {
        const struct hth_member *m = &c->members.v[c->session.member[r]];

        if (m->state == HTH_NODE_READY && m->report.memory_short != 0)
            return true;
    }
    return false;
}

static void on_report(struct hth_cluster *c, int i,
                      const struct hth_msg_report *r,
                      struct hth_control_call *call)
{
    uint8_t before = c->members.v[i].state;

    if (r->state == HTH_NODE_AWAY) {
        on_farewell(c, i);
        reply_plain(call, HTH_MSG_OK);
        return;
    }
    hth_members_report(&c->members, i, r, c->session.setup.id, hth_now_ms());
    hth_engine_peers_short(c->engine, any_is_short(c));
    if (c->members.v[i].state == HTH_NODE_FAILED && before != HTH_NODE_FAILED)
        hth_log(HTH_LOG_ERROR, "DEVICE-FAILED", "device=%s: %s",
                c->members.v[i].hello.name, c->members.v[i].why.text);
    reply_plain(call, HTH_MSG_OK);
}

/* ---- chunks: on libuv's pool --------------------------------------------- */

struct chunk_work {
    uv_work_t work;
    struct hth_cluster *cluster;
    struct hth_control_call *call;
    struct hth_msg_chunk chunk;
    int member, rank;
    bool sent;
};

static int read_chunk(const struct chunk_work *w, uint8_t *dst,
                      struct hth_err *err)
{
    int rc = hth_weights_read(w->cluster->weights, (uint32_t)w->rank, &w->chunk,
                              dst, err);

    if (rc == HTH_ENOTFOUND && w->cluster->opts.prefill != HTH_PREFILL_TP)
        rc = hth_weights_read(w->cluster->whole, 1, &w->chunk, dst, err);
    if (rc == HTH_ENOTFOUND)
        rc = hth_loras_read(w->cluster->loras, (uint32_t)w->rank, &w->chunk,
                            dst, err);
    return rc;
}

static void chunk_read(uv_work_t *work)
{
    struct chunk_work *w = work->data;
    struct hth_msg m = {.type = HTH_MSG_DATA};
    struct hth_err err = {0};
    uint8_t *bytes = malloc(w->chunk.length);
    int status;

    if (bytes == NULL)
        status = hth_fail(&err, HTH_ENOMEM, "out of memory");
    else
        status = read_chunk(w, bytes, &err);
    if (status == HTH_OK) {
        m.u.data.bytes = (struct hth_blob){bytes, w->chunk.length};
        reply(w->call, &m);
    } else {
        reply_error(w->call, status, err.text);
    }
    w->sent = status == HTH_OK;
    free(bytes);
}

static void chunk_done(uv_work_t *work, int uv_status)
{
    struct chunk_work *w = work->data;

    if (uv_status == UV_ECANCELED)
        hth_control_drop(w->call);
    if (w->sent)
        w->cluster->members.v[w->member].sent_bytes += w->chunk.length;
    free(w);
}

static void on_chunk(struct hth_cluster *c, int i,
                     const struct hth_msg_chunk *chunk,
                     struct hth_control_call *call)
{
    int rank = hth__session_rank(c, i);
    struct chunk_work *w;

    hth_members_seen(&c->members, i, hth_now_ms());
    if (rank < 0) {
        reply_error(call, HTH_ENOTFOUND, "this device has no rank now");
        return;
    }
    w = calloc(1, sizeof *w);
    if (w == NULL) {
        hth_control_drop(call);
        return;
    }
    w->work.data = w;
    w->cluster = c;
    w->call = call;
    w->chunk = *chunk;
    w->member = i;
    w->rank = rank;
    if (uv_queue_work(&c->loop, &w->work, chunk_read, chunk_done) != 0) {
        hth_control_drop(call);
        free(w);
    }
}

/* ---- clients ------------------------------------------------------------- */

static void on_submit(struct hth_cluster *c, const struct hth_msg_submit *s,
                      struct hth_control_call *call)
{
    struct hth_msg m = {.type = HTH_MSG_ACCEPTED};
    struct hth_err err = {0};
    int status;

    status = hth_requests_submit(c->requests, s, hth_control_pipe(call),
                                 &m.u.id.id, &err);
    if (status == HTH_OK)
        reply(call, &m);
    else
        reply_error(call, status, err.text);
}

static void on_list(struct hth_cluster *c, struct hth_control_call *call)
{
    struct hth_msg m = {.type = HTH_MSG_NODES};
    struct hth_buf list;

    hth_buf_init(&list, HTH_NODES_BYTES_MAX);
    hth__cluster_nodes(c, &m.u.nodes, &list);
    reply(call, &m);
    hth_buf_fini(&list);
}

static void on_pair(struct hth_cluster *c, struct hth_control_call *call)
{
    struct hth_msg m = {.type = HTH_MSG_CODE};
    struct hth_cluster_code code;
    struct hth_err err = {0};
    int status = hth_cluster_pair_code(c, &code, &err);

    if (status != HTH_OK) {
        reply_error(call, status, err.text);
        return;
    }
    snprintf(m.u.code.code, sizeof m.u.code.code, "%s", code.code);
    snprintf(m.u.code.host, sizeof m.u.code.host, "%s", code.host);
    m.u.code.port = code.port;
    m.u.code.expires_s = code.expires_s;
    reply(call, &m);
}

static void cut_off(struct hth_cluster *c, int i)
{
    struct hth_member *v = &c->members.v[i];
    struct pipe *p = v->pipe != 0 ? find_pipe(c, v->pipe) : NULL;
    struct hth_err why;

    hth_fail(&why, HTH_EAUTH,
             "this device was revoked on the coordinator; pair it again with "
             "a new code (hearth pair) if that was a mistake");
    if (c->next[i].call != NULL)
        reply_leave(c->next[i].call, &why);
    c->next[i].call = NULL;
    hth_members_revoked(&c->members, i, hth_now_ms());
    if (p != NULL)
        turn_out(p, &why);
    v->pipe = 0;
    hth__session_member_lost(c, i, &why);
}

static void on_revoke(struct hth_cluster *c, const struct hth_msg_revoke *m,
                      struct hth_control_call *call)
{
    struct hth_device d;
    struct hth_err err = {0};
    int i, status;

    if (c->registry == NULL) {
        reply_error(call, HTH_EUNSUPPORTED, "this coordinator has no devices");
        return;
    }
    status = hth_registry_revoke(c->registry, m->device, &d, &err);
    if (status == HTH_OK) {
        hth_log(HTH_LOG_NOTICE, "DEVICE-REVOKED", "device=%s id=%s", d.name,
                d.id);
        i = hth_members_find(&c->members, d.id);
        if (i != HTH_MEMBER_NONE)
            cut_off(c, i);
    }
    reply_status(call, status, &err);
}

/* ---- dispatch ------------------------------------------------------------ */

/* What any client may ask. False: not one of these. */
static bool client_call(struct hth_cluster *c, const struct hth_msg *m,
                        struct hth_control_call *call)
{
    switch (m->type) {
    case HTH_MSG_SUBMIT:
        on_submit(c, &m->u.submit, call);
        return true;
    case HTH_MSG_POLL:
        hth_requests_poll(c->requests, &m->u.poll, call);
        return true;
    case HTH_MSG_CANCEL:
        hth_requests_cancel(c->requests, m->u.id.id);
        reply_plain(call, HTH_MSG_OK);
        return true;
    case HTH_MSG_LIST:
        on_list(c, call);
        return true;
    default:
        return false;
    }
}

static bool worker_call(struct hth_cluster *c, int i, const struct hth_msg *m,
                        struct hth_control_call *call)
{
    switch (m->type) {
    case HTH_MSG_NEXT:
        on_next(c, i, &m->u.next, call);
        return true;
    case HTH_MSG_REPORT:
        on_report(c, i, &m->u.report, call);
        return true;
    case HTH_MSG_CHUNK:
        on_chunk(c, i, &m->u.chunk, call);
        return true;
    default:
        return false;
    }
}

static void local_call(struct hth_cluster *c, const struct hth_msg *m,
                       struct hth_control_call *call)
{
    if (m->type == HTH_MSG_PAIR)
        on_pair(c, call);
    else if (m->type == HTH_MSG_REVOKE)
        on_revoke(c, &m->u.revoke, call);
    else if (!client_call(c, m, call))
        reply_error(call, HTH_EPROTO, "not a request for this socket");
}

static void remote_call(struct hth_cluster *c, const struct hth_msg *m,
                        struct hth_control_call *call)
{
    struct pipe *p = pipe_of(c, hth_control_pipe(call));

    if (p == NULL) {
        hth_control_drop(call);
    } else if (p->state == PIPE_OUT) {
        if (m->type == HTH_MSG_NEXT)
            reply_leave(call, &p->out);
        else
            reply_error(call, p->out.status, p->out.text);
    } else if (m->type == HTH_MSG_HELLO) {
        on_hello(c, p, &m->u.hello, call);
    } else if (m->type == HTH_MSG_PROVE) {
        on_prove(c, p, &m->u.prove, call);
    } else if (p->state != PIPE_MEMBER && p->state != PIPE_CLIENT) {
        reply_plain(call, HTH_MSG_WHO);
    } else if (!(p->state == PIPE_MEMBER &&
                 worker_call(c, p->member, m, call)) &&
               !client_call(c, m, call)) {
        reply_error(call, HTH_EAUTH,
                    "only a client on the coordinator's own machine may ask "
                    "for that");
    }
}

void hth__cluster_call(struct hth_cluster *c, struct hth_control_call *call)
{
    struct hth_blob body = hth_control_body(call);
    struct hth_msg *m = malloc(sizeof *m);
    struct hth_err err = {0};
    int status;

    if (m == NULL) {
        hth_control_drop(call);
        return;
    }
    status = hth_msg_decode(m, body.p, body.n, &err);
    if (status != HTH_OK) {
        hth_log(HTH_LOG_INFO, "BAD-MESSAGE", "%s", err.text);
        reply_error(call, status, err.text);
    } else if (hth_control_local(call)) {
        local_call(c, m, call);
    } else {
        remote_call(c, m, call);
    }
    free(m);
}

void hth__cluster_calls_tick(struct hth_cluster *c, uint64_t now_ms)
{
    struct pipe *p;
    uint32_t i;

    for (i = 0; i < c->members.count; i++)
        answer_next(c, (int)i, now_ms);
    for (i = 0; i < HTH_CONTROL_PIPES_MAX; i++) {
        p = &c->pipe[i];
        if (p->id == 0 || p->state == PIPE_MEMBER || p->state == PIPE_CLIENT)
            continue;
        if (now_ms - p->since_ms <
            (p->state == PIPE_OUT ? OUT_GRACE_MS : HTH_HELLO_DEADLINE_MS))
            continue;
        hth_control_hang_up(p->id);
        forget_pipe(p);
    }
}

/* The workers are told to stand down; they come back by themselves when a
 * coordinator is there again. */
void hth__cluster_calls_stop(struct hth_cluster *c)
{
    struct hth_msg m = {.type = HTH_MSG_COMMAND};
    uint32_t i;

    m.u.command.kind = HTH_COMMAND_UNLOAD;
    for (i = 0; i < c->members.count; i++) {
        if (c->next[i].call == NULL)
            continue;
        m.u.command.number = c->members.v[i].wish + 1;
        reply(c->next[i].call, &m);
        c->next[i].call = NULL;
    }
    for (i = 0; i < HTH_CONTROL_PIPES_MAX; i++)
        if (c->pipe[i].id != 0)
            forget_pipe(&c->pipe[i]);
}
