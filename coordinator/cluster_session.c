/* cluster_session.c - forming, keeping and losing the session. Runs on the
 * loop thread, except hth__session_admit(). What blocks is a job; what fails
 * becomes a reason to wait, or the cluster's failure when no waiting helps. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/cluster_internal.h"
#include "coordinator/speeds.h"
#include "worker/memory.h"

#define RETRY_FORM_MS 2000u
#define KV_POSITIONS_MIN 8192u
#define RELINK_MS 1500u
#define ABSENT_MS 500u /* between two turns of the loop: we did not run */

static struct hth_member *member_of(struct hth_cluster *c, uint32_t rank)
{
    return &c->members.v[c->session.member[rank]];
}

int hth__session_rank(const struct hth_cluster *c, int member)
{
    uint32_t r;

    for (r = 1; r < c->session.ranks; r++)
        if (c->session.member[r] == member)
            return (int)r;
    return -1;
}

static bool unlinked_state(const struct session *s)
{
    return s->state == SESSION_LOADING || s->state == SESSION_DETACHING;
}

static void drop_links(struct session *s)
{
    uint32_t r;

    for (r = 0; r < HTH_RANKS_MAX; r++) {
        hth_link_close(s->link[r]);
        s->link[r] = NULL;
    }
}

void hth__session_close(struct hth_cluster *c)
{
    drop_links(&c->session);
}

/* ---- the gate ------------------------------------------------------------ */

static void close_gate(struct hth_cluster *c)
{
    pthread_mutex_lock(&c->gate.lock);
    c->gate.session = 0;
    pthread_mutex_unlock(&c->gate.lock);
}

static void open_gate(struct hth_cluster *c)
{
    uint32_t r;

    pthread_mutex_lock(&c->gate.lock);
    c->gate.session = c->session.setup.id;
    c->gate.ranks = c->session.ranks;
    for (r = 1; r < c->session.ranks; r++)
        memcpy(c->gate.device[r], member_of(c, r)->hello.device,
               sizeof c->gate.device[r]);
    pthread_mutex_unlock(&c->gate.lock);
}

/* Listener's thread: only the device that was given a rank may link as it. */
int hth__session_admit(void *ctx, const struct hth_link_peer *peer,
                       struct hth_err *err)
{
    struct hth_cluster *c = ctx;
    bool good;

    pthread_mutex_lock(&c->gate.lock);
    good = c->gate.session != 0 && peer->session == c->gate.session &&
           peer->rank > 0 && peer->rank < c->gate.ranks &&
           strcmp(peer->id, c->gate.device[peer->rank]) == 0;
    pthread_mutex_unlock(&c->gate.lock);
    return good ? HTH_OK
                : hth_fail(err, HTH_EBUSY,
                           "this device has no such rank in the session now");
}

/* ---- forming ------------------------------------------------------------- */

static void post_job(struct hth_cluster *c, enum hth_job_kind kind,
                     uint64_t number, const struct hth_err *why)
{
    struct hth_job job = {.kind = kind,
                          .number = number,
                          .session = c->session.setup.id,
                          .ranks = c->session.ranks};

    if (kind == HTH_JOB_HASH || kind == HTH_JOB_LOAD || kind == HTH_JOB_CUT) {
        job.setup = malloc(sizeof *job.setup);
        HTH_ASSERT(job.setup != NULL);
        *job.setup = c->session.setup;
    }
    if (kind == HTH_JOB_ATTACH) {
        memcpy(job.link, c->session.link, sizeof job.link);
        memset(c->session.link, 0, sizeof c->session.link);
    }
    if (why != NULL)
        job.why = *why;
    hth_jobs_post(c->jobs, &job);
}

void hth__session_job(struct hth_cluster *c, enum hth_job_kind kind,
                      uint64_t number)
{
    post_job(c, kind, number, NULL);
}

static int plan_explicit(struct hth_cluster *c, uint32_t ranks,
                         struct hth_err *err)
{
    memcpy(c->session.share, c->opts.shares, sizeof c->session.share);
    return hth_plan_make(&c->shape, c->opts.shares, ranks,
                         &c->session.setup.plan, err);
}

/* Shares by measured speed. What was measured once is kept (speeds.h): a plan
 * that wobbles with every start would move weights with every start. */
static int plan_auto(struct hth_cluster *c, const struct hth_formation *f,
                     struct hth_err *err)
{
    struct hth_plan_device device[HTH_RANKS_MAX] = {{0}};
    struct hth_plan_request request = {
        .devices = device, .ranks = f->ranks, .may_stream = true};
    const struct hth_msg_hello *h;
    uint32_t r;

    request.ctx = c->session.setup.kv_positions_max;
    device[0].speed = c->opts.no_compute ? 0 : c->probe.read_bytes_per_s;
    device[0].memory_bytes = c->memory_bytes;
    if (!c->opts.no_compute)
        device[0].speed = hth_speed_kept(c->state_dir, "coordinator",
                                         c->threads, device[0].speed);
    for (r = 1; r < f->ranks; r++) {
        h = &c->members.v[f->member[r]].hello;
        device[r].speed = hth_speed_kept(c->state_dir, h->device, h->threads,
                                         h->read_bytes_per_s);
        device[r].memory_bytes = h->memory_bytes;
        if (device[r].speed <= 0)
            device[r].speed = 1e9;
    }
    if (device[0].speed <= 0 && !c->opts.no_compute)
        device[0].speed = 1e9;
    return hth_plan_auto(&c->shape, &request, &c->session.setup.plan,
                         c->session.share, err);
}

static int fill_setup(struct hth_cluster *c, const struct hth_formation *f,
                      struct hth_err *err)
{
    struct hth_session *s = &c->session.setup;
    uint64_t memory[HTH_RANKS_MAX] = {c->memory_bytes};
    ssize_t n = getrandom(&s->id, sizeof s->id, 0);
    int rc;

    if (n != (ssize_t)sizeof s->id || s->id == 0)
        return hth_fail(err, HTH_EIO, "no random numbers from the kernel");
    s->rank = 0;
    s->ctx_max = c->ctx;
    s->kv_positions_max = c->ctx > KV_POSITIONS_MIN ? c->ctx : KV_POSITIONS_MIN;
    s->rows_max = HTH_STEP_ROWS_MAX;
    s->kv_type = c->opts.kv_type;
    s->prefill = c->opts.prefill;
    s->lora_bytes = c->opts.lora_bytes;
    s->wire_type = c->opts.wire;
    s->spec = c->spec;
    rc = c->opts.share_count > 0 ? plan_explicit(c, f->ranks, err)
                                 : plan_auto(c, f, err);
    if (rc != HTH_OK)
        return rc;
    for (uint32_t r = 1; r < f->ranks; r++)
        memory[r] = c->members.v[f->member[r]].hello.memory_bytes;
    hth_memory_fit(s, memory);
    return HTH_OK;
}

/* Devices outside of the session are told to let go of what they hold. */
static void wish_others(struct hth_cluster *c)
{
    uint32_t i;

    for (i = 0; i < c->members.count; i++)
        if (hth__session_rank(c, (int)i) < 0 &&
            c->members.v[i].wish_kind == HTH_COMMAND_LOAD)
            hth_member_wish(&c->members.v[i], HTH_COMMAND_UNLOAD, 0);
}

/* A wish that is there already changes nothing; one that was overruled (a
 * device revoked and paired anew) is made again. */
static void wish_members(struct hth_cluster *c)
{
    uint32_t r;

    for (r = 1; r < c->session.ranks; r++)
        hth_member_wish(member_of(c, r), HTH_COMMAND_LOAD, c->session.setup.id);
}

static void start_loading(struct hth_cluster *c)
{
    c->session.state = SESSION_LOADING;
    c->session.loaded = false;
    wish_members(c);
    wish_others(c);
    open_gate(c);
    post_job(c, HTH_JOB_LOAD, 0, NULL);
}

static void form(struct hth_cluster *c, const struct hth_formation *f,
                 uint64_t now_ms)
{
    struct hth_err err = {0};
    int status;

    close_gate(c);
    drop_links(&c->session);
    c->session.ranks = 0;
    memset(c->decile, 0, sizeof c->decile);
    memset(c->session.stale_since_ms, 0, sizeof c->session.stale_since_ms);
    status = fill_setup(c, f, &err);
    if (status != HTH_OK) {
        c->session.state = SESSION_NONE;
        c->problem = err;
        snprintf(c->waiting, sizeof c->waiting, "%s", err.text);
        c->retry_ms = now_ms + RETRY_FORM_MS;
        return;
    }
    c->problem = (struct hth_err){0};
    c->session.ranks = f->ranks;
    memcpy(c->session.member, f->member, sizeof f->member);
    c->session.formed_ms = now_ms;
    hth_log(HTH_LOG_NOTICE, "SESSION-FORMING", "session=%016llx ranks=%u",
            (unsigned long long)c->session.setup.id, f->ranks);
    snprintf(c->waiting, sizeof c->waiting, "waiting for weights");
    if (f->ranks == 1) {
        start_loading(c);
        return;
    }
    c->session.state = SESSION_HASHING;
    post_job(c, HTH_JOB_HASH, 0, NULL);
}

/* ---- losing -------------------------------------------------------------- */

static void unlink_members(struct hth_cluster *c)
{
    uint32_t r;

    memset(c->session.stale_since_ms, 0, sizeof c->session.stale_since_ms);
    for (r = 1; r < c->session.ranks; r++)
        member_of(c, r)->linked = false;
}

static void detach(struct hth_cluster *c, const struct hth_err *why,
                   bool dissolve)
{
    c->session.state = SESSION_DETACHING;
    c->session.dissolve = dissolve;
    unlink_members(c);
    post_job(c, HTH_JOB_DETACH, 0, why);
}

void hth__session_member_lost(struct hth_cluster *c, int member,
                              const struct hth_err *why)
{
    const char *name = c->members.v[member].hello.name;
    int rank = hth__session_rank(c, member);
    struct hth_err err;

    if (rank < 0)
        return;
    hth_link_close(c->session.link[rank]);
    c->session.link[rank] = NULL;
    if (c->session.state == SESSION_ATTACHING)
        c->session.stale = true;
    if (c->session.state != SESSION_READY)
        return;
    hth_fail(&err, HTH_EPEER,
             "device %s (rank %d) was lost while serving requests (%.200s); "
             "start `hearth worker` on it again: the next request is served "
             "once it is back",
             name, rank, why->text);
    detach(c, &err, false);
}

/* The engine stopped by itself; requests in flight have been ended with its
 * sentence already. */
void hth__session_engine_lost(struct hth_cluster *c, uint32_t rank,
                              const struct hth_err *why)
{
    if (rank > 0 && rank < c->session.ranks) {
        hth_log(HTH_LOG_WARN, "DEVICE-LOST", "device=%s rank=%u: %s",
                member_of(c, rank)->hello.name, rank, why->text);
        hth_members_lost(&c->members, c->session.member[rank], why,
                         hth_now_ms());
    }
    if (c->session.state == SESSION_ATTACHING)
        c->session.stale = true;
    if (c->session.state != SESSION_READY)
        return;
    unlink_members(c);
    c->session.state = SESSION_LOADING;
}

/* ---- links and jobs ------------------------------------------------------ */

void hth__session_link(struct hth_cluster *c, struct hth_link *link)
{
    const struct hth_link_peer *p = hth_link_peer(link);
    struct hth_err why;
    uint32_t rank = p->rank;

    if (p->session != c->session.setup.id || rank == 0 ||
        rank >= c->session.ranks ||
        strcmp(p->id, member_of(c, rank)->hello.device) != 0 ||
        c->session.state == SESSION_HASHING) {
        hth_link_close(link);
        return;
    }
    /* A second link for a rank means that its first one is dead, though
     * nobody has noticed yet. */
    if (!unlinked_state(&c->session)) {
        hth_fail(&why, HTH_EPEER, "it linked anew");
        hth__session_member_lost(c, c->session.member[rank], &why);
    }
    hth_link_close(c->session.link[rank]);
    c->session.link[rank] = link;
    c->session.stale_since_ms[rank] = 0;
    hth_log(HTH_LOG_INFO, "LINK-OPEN",
            "device=%s rank=%u cipher=%s sent_bytes=%llu", p->name, rank,
            hth_link_cipher(link),
            (unsigned long long)member_of(c, rank)->sent_bytes);
}

static void attached(struct hth_cluster *c, const struct hth_err *err)
{
    struct hth_err why;
    uint32_t r;

    if (err->status != HTH_OK) {
        hth_log(HTH_LOG_WARN, "ATTACH-FAILED", "%s", err->text);
        c->session.state = SESSION_LOADING;
        return;
    }
    if (c->session.stale) {
        hth_fail(&why, HTH_EPEER,
                 "a device was lost while the session was being set up");
        detach(c, &why, false);
        return;
    }
    c->session.state = SESSION_READY;
    c->waiting[0] = '\0';
    for (r = 1; r < c->session.ranks; r++)
        member_of(c, r)->linked = true;
    hth_log(HTH_LOG_NOTICE, "SESSION-READY",
            "session=%016llx ranks=%u after_ms=%llu: serving requests",
            (unsigned long long)c->session.setup.id, c->session.ranks,
            (unsigned long long)(hth_now_ms() - c->session.formed_ms));
}

static void hashed(struct hth_cluster *c, const struct hth_err *err)
{
    if (err->status == HTH_OK) {
        start_loading(c);
        return;
    }
    hth_log(HTH_LOG_ERROR, "HASH-FAILED", "%s", err->text);
    c->problem = *err;
    c->session.state = SESSION_NONE;
    c->session.ranks = 0;
    c->retry_ms = hth_now_ms() + RETRY_FORM_MS;
    snprintf(c->waiting, sizeof c->waiting, "%s", err->text);
}

/* Rank 0 cannot have its share: no device coming or going changes that. */
static void loaded(struct hth_cluster *c, const struct hth_err *err)
{
    c->session.loaded = err->status == HTH_OK;
    if (c->session.loaded || err->status == HTH_ECANCELLED)
        return;
    hth_log(HTH_LOG_ERROR, "LOAD-FAILED", "rank=0: %s", err->text);
    pthread_mutex_lock(&c->shown.lock);
    c->shown.failed = *err;
    pthread_cond_broadcast(&c->shown.changed);
    pthread_mutex_unlock(&c->shown.lock);
}

void hth__session_job_done(struct hth_cluster *c, const struct hth_job *job,
                           const struct hth_err *err)
{
    if (job->kind == HTH_JOB_CUT || job->kind == HTH_JOB_ADAPT) {
        hth__lora_job_done(c, job);
        return;
    }
    if (job->session != c->session.setup.id)
        return;
    switch (job->kind) {
    case HTH_JOB_HASH:
        hashed(c, err);
        break;
    case HTH_JOB_LOAD:
        loaded(c, err);
        break;
    case HTH_JOB_ATTACH:
        attached(c, err);
        break;
    case HTH_JOB_DETACH:
        c->session.state = c->session.dissolve ? SESSION_NONE : SESSION_LOADING;
        if (c->session.dissolve)
            c->session.ranks = 0;
        break;
    default:
        break;
    }
}

/* ---- each turn ----------------------------------------------------------- */

/* A machine that was suspended, or a loop that had no CPU, finds the devices'
 * messages after their time: what they said is still in the inbox. */
static void expire(struct hth_cluster *c, uint64_t now_ms)
{
    uint64_t step_ms = hth_engine_step_ms(c->engine);
    int i;

    if (c->turned_ms > 0 && now_ms - c->turned_ms > ABSENT_MS)
        hth_members_missed(&c->members, now_ms - c->turned_ms, now_ms);
    c->turned_ms = now_ms;
    while ((i = hth_members_expire(&c->members, step_ms, now_ms)) !=
           HTH_MEMBER_NONE) {
        hth_log(HTH_LOG_WARN, "DEVICE-LOST", "device=%s: %s",
                c->members.v[i].hello.name, c->members.v[i].why.text);
        hth__session_member_lost(c, i, &c->members.v[i].why);
    }
}

/* A device that could not load is asked again after a while: someone may
 * have made room. Bytes that did not match their hashes mean that what we
 * hashed is not what the file holds now. */
static void retry_failed(struct hth_cluster *c, uint64_t now_ms)
{
    struct hth_member *m;
    uint32_t r;

    for (r = 1; r < c->session.ranks; r++) {
        m = member_of(c, r);
        if (m->state != HTH_NODE_FAILED ||
            now_ms - m->failed_ms < c->rule.retry_ms)
            continue;
        m->failed_ms = now_ms;
        m->wish++;
        if (m->why.status == HTH_EHASH)
            hth_weights_forget(c->weights);
    }
}

static bool links_complete(const struct session *s)
{
    uint32_t r;

    for (r = 1; r < s->ranks; r++)
        if (s->link[r] == NULL)
            return false;
    return true;
}

/* What a loading session waits for, device by device. */
static void say_loading(struct hth_cluster *c)
{
    const struct hth_member *m;
    size_t n = 0;
    uint32_t r;

    for (r = 1; r < c->session.ranks && n < sizeof c->waiting - 1; r++) {
        m = member_of(c, r);
        if (c->session.link[r] != NULL)
            continue;
        n += (size_t)snprintf(
            c->waiting + n, sizeof c->waiting - n, "%s%s (%s %u %%)",
            n == 0 ? "waiting for " : ", ", m->hello.name,
            hth_node_state_text(m->state),
            m->report.total_bytes > 0
                ? (unsigned)(m->report.done_bytes * 100 / m->report.total_bytes)
                : 0);
    }
    if (n == 0)
        snprintf(c->waiting, sizeof c->waiting, "%s",
                 !c->session.loaded ? "loading the coordinator's own weights"
                 : links_complete(&c->session) ? "waiting for adapters"
                                               : "waiting for links");
}

/* A device that was out of reach for a while may hold a link that is dead on
 * this side only, and so not dial: tell it to. */
static void relink_stale(struct hth_cluster *c, uint64_t now_ms)
{
    struct hth_member *m;
    uint32_t r;

    for (r = 1; r < c->session.ranks; r++) {
        m = member_of(c, r);
        if (c->session.link[r] != NULL || m->state != HTH_NODE_READY) {
            c->session.stale_since_ms[r] = 0;
        } else if (c->session.stale_since_ms[r] == 0) {
            c->session.stale_since_ms[r] = now_ms;
        } else if (now_ms - c->session.stale_since_ms[r] >= RELINK_MS) {
            c->session.stale_since_ms[r] = 0;
            m->attempt++;
            m->wish++;
            hth_log(HTH_LOG_INFO, "RELINK", "device=%s: its link is stale",
                    m->hello.name);
        }
    }
}

static void keep(struct hth_cluster *c, uint64_t now_ms)
{
    if (c->session.state != SESSION_LOADING)
        return;
    if (c->session.loaded && links_complete(&c->session) &&
        hth__lora_settled(c)) {
        c->session.state = SESSION_ATTACHING;
        c->session.stale = false;
        post_job(c, HTH_JOB_ATTACH, 0, NULL);
        return;
    }
    relink_stale(c, now_ms);
    wish_members(c);
    say_loading(c);
}

/* The first device of the session that failed, as the callers' problem. */
static void find_problem(struct hth_cluster *c)
{
    uint32_t r;

    if (c->session.ranks > 0)
        c->problem = (struct hth_err){0};
    for (r = 1; r < c->session.ranks; r++)
        if (member_of(c, r)->state == HTH_NODE_FAILED &&
            c->problem.status == HTH_OK)
            hth_fail(&c->problem, member_of(c, r)->why.status, "%s: %.400s",
                     member_of(c, r)->hello.name, member_of(c, r)->why.text);
}

void hth__session_tick(struct hth_cluster *c, uint64_t now_ms)
{
    struct hth_formation_view view = {.members = &c->members,
                                      .current = c->session.member,
                                      .current_ranks = c->session.ranks,
                                      .idle = hth__cluster_idle(c),
                                      .started_ms = c->started_ms,
                                      .now_ms = now_ms};
    struct hth_formation f;
    struct hth_err why;

    expire(c, now_ms);
    retry_failed(c, now_ms);
    find_problem(c);
    hth__lora_tick(c, now_ms);
    if ((c->session.state != SESSION_NONE &&
         c->session.state != SESSION_LOADING &&
         c->session.state != SESSION_READY) ||
        now_ms < c->retry_ms)
        return;
    hth_formation_decide(&c->rule, &view, &f);
    if (f.act == HTH_FORM_WAIT) {
        snprintf(c->waiting, sizeof c->waiting, "%s", f.reason);
    } else if (f.act == HTH_FORM_KEEP) {
        keep(c, now_ms);
    } else if (c->session.state == SESSION_READY) {
        hth_fail(&why, HTH_EBUSY, "the devices of the session change");
        detach(c, &why, true);
    } else {
        form(c, &f, now_ms);
    }
}
