/* daemon.c - `hearth worker`: pair if a code was given, then obey.
 *
 * Three threads: this one long-polls for commands, one reports every second
 * (and at once when something changed), one is the duty's. All ask over one
 * control connection. Ends only as daemon.h says. */
#include "worker/daemon.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/version.h"
#include "kernels/ops.h"
#include "net/pairing.h"
#include "worker/duty.h"
#include "worker/probe.h"

#define RETRY_MS 500u
#define RETRY_SLICE_MS 50u
#define FAREWELL_MS 300u
#define KNOCK_AFTER_MS 2000u  /* without the coordinator: find out why */
#define KNOCK_AGAIN_MS 30000u /* and say so again */

struct daemon {
    const struct hth_worker_opts *opts;
    const volatile sig_atomic_t *stop;
    struct hth_identity *identity;
    struct hth_store *store;
    struct hth_uplink *uplink;
    struct hth_duty *duty;
    char name[HTH_NAME_MAX];
    uint32_t threads;
    uint64_t memory_bytes;

    pthread_t reporter, watcher;
    bool reporting, watching;
    atomic_bool ending;
    pthread_mutex_t lock; /* guards changed */
    pthread_cond_t wake;
    bool changed;
};

/* Set by a signal handler, perhaps on another thread: an atomic read, which
 * volatile alone does not promise. */
static bool told_to_stop(const struct daemon *w)
{
    return __atomic_load_n(w->stop, __ATOMIC_RELAXED) != 0;
}

static bool stopping(const struct daemon *w)
{
    return told_to_stop(w) || atomic_load(&w->ending);
}

static void pause_ms(const struct daemon *w, uint32_t ms)
{
    uint64_t end = hth_now_ms() + ms;

    while (!stopping(w) && hth_now_ms() < end)
        hth_sleep_ms(RETRY_SLICE_MS);
}

/* ---- reporting ----------------------------------------------------------- */

static void on_change(void *ctx)
{
    struct daemon *w = ctx;

    pthread_mutex_lock(&w->lock);
    w->changed = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
}

static void wait_for_change(struct daemon *w, uint32_t ms)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += (long)ms * 1000000;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    pthread_mutex_lock(&w->lock);
    if (!w->changed)
        pthread_cond_timedwait(&w->wake, &w->lock, &t);
    w->changed = false;
    pthread_mutex_unlock(&w->lock);
}

/* Reports that fail are dropped: the next one says it all again. They come
 * faster while steps run, since then somebody waits who should hear soon that
 * this device hangs. */
static void *report_main(void *arg)
{
    struct daemon *w = arg;
    struct hth_uplink_slot slot = {0};
    struct hth_msg ask, answer;
    uint64_t round_trip_ns = 0, began_ns, steps = 0;
    bool busy;

    if (hth_uplink_slot_init(&slot, w->uplink, NULL) != HTH_OK)
        return NULL;
    while (!stopping(w)) {
        ask = (struct hth_msg){.type = HTH_MSG_REPORT};
        hth_duty_report(w->duty, &ask.u.report);
        ask.u.report.memory_bytes = hth_probe_memory();
        ask.u.report.round_trip_ns = round_trip_ns;
        began_ns = hth_now_ns();
        if (hth_uplink_ask(&slot, &ask, HTH_MSG_OK, &answer, NULL) == HTH_OK)
            round_trip_ns = hth_now_ns() - began_ns;
        busy = ask.u.report.phases.steps != steps;
        steps = ask.u.report.phases.steps;
        wait_for_change(w, busy ? HTH_BUSY_BEAT_MS : HTH_HEARTBEAT_MS);
    }
    hth_uplink_slot_fini(&slot);
    return NULL;
}

/* Say that we go, so that nobody waits for a heartbeat to stay away. Best
 * effort: a coordinator that is not there need not know. */
static void say_farewell(struct daemon *w)
{
    struct hth_msg m = {.type = HTH_MSG_REPORT};
    struct hth_uplink_slot slot = {0};
    struct hth_blob answer;
    struct hth_buf b;

    if (hth_uplink_hellos(w->uplink) == 0 ||
        hth_uplink_slot_init(&slot, w->uplink, NULL) != HTH_OK)
        return;
    m.u.report.state = HTH_NODE_AWAY;
    hth_buf_init(&b, 4096);
    hth_msg_encode(&b, &m);
    if (hth_control_send(slot.control, &b, FAREWELL_MS, NULL) == HTH_OK)
        (void)!hth_control_wait(slot.control, &answer, NULL);
    hth_buf_fini(&b);
    hth_uplink_slot_fini(&slot);
}

/* A signal handler can only set a flag; this turns it into an interruption
 * of whatever the other threads wait for. */
static void *watch_main(void *arg)
{
    struct daemon *w = arg;

    while (!stopping(w))
        hth_sleep_ms(RETRY_SLICE_MS);
    if (told_to_stop(w))
        say_farewell(w);
    hth_uplink_interrupt(w->uplink);
    on_change(w);
    return NULL;
}

/* ---- obeying ------------------------------------------------------------- */

static int obey(struct daemon *w, const struct hth_msg_command *cmd,
                struct hth_err *err)
{
    struct hth_err why = {0};

    switch (cmd->kind) {
    case HTH_COMMAND_LOAD:
        if (hth_duty_load(w->duty, cmd, &why) != HTH_OK)
            hth_log(HTH_LOG_ERROR, "COMMAND-REFUSED", "%s", why.text);
        return HTH_OK;
    case HTH_COMMAND_UNLOAD:
        hth_duty_unload(w->duty);
        return HTH_OK;
    case HTH_COMMAND_LEAVE:
        return hth_fail(err, cmd->status < 0 ? cmd->status : HTH_EAUTH, "%s",
                        cmd->text);
    default:
        return HTH_OK;
    }
}

/* One long poll. The command numbers of a coordinator start anew with each
 * hello, so that a restarted coordinator's wish is not taken for an old one. */
static int poll_once(struct daemon *w, struct hth_uplink_slot *slot,
                     uint64_t *seen, uint32_t *hellos, struct hth_err *err)
{
    struct hth_msg ask = {.type = HTH_MSG_NEXT}, answer;
    int status;

    if (hth_uplink_hellos(w->uplink) != *hellos) {
        *hellos = hth_uplink_hellos(w->uplink);
        *seen = 0;
    }
    ask.u.next.seen = *seen;
    status = hth_uplink_ask(slot, &ask, HTH_MSG_COMMAND, &answer, err);
    if (status != HTH_OK)
        return status;
    if (hth_uplink_hellos(w->uplink) == *hellos && answer.u.command.number > 0)
        *seen = answer.u.command.number;
    return obey(w, &answer.u.command, err);
}

/* What is known about the control connection, for one line each time it turns
 * and one now and then while it is missing. */
struct contact {
    bool connected;
    uint64_t knock_ms; /* when to look next why it is missing */
};

/* The control library retries without ever saying why. The data port's
 * handshake does say: nobody listens, another cluster's coordinator, a
 * certificate that is refused. A link that does open is refused there for
 * having no session, which is as good as a welcome. */
static void knock(struct daemon *w)
{
    const struct hth_coordinator *c = hth_identity_coordinator(w->identity);
    struct hth_link_opts o = {
        .identity = w->identity, .name = w->name, .expect_id = c->id};
    struct hth_link *link = NULL;
    struct hth_err err = {0};

    if (hth_link_connect(&link, w->opts->host, w->opts->port, &o, &err) ==
            HTH_OK ||
        err.status == HTH_EBUSY)
        hth_fail(&err, HTH_ETIMEDOUT,
                 "%s answers on port %u but not on the control port %u; check "
                 "its firewall",
                 w->opts->host, w->opts->port, w->opts->port + 1u);
    hth_link_close(link);
    hth_log(HTH_LOG_WARN, "COORDINATOR-AWAY",
            "%s; trying again until it is "
            "there",
            err.text);
}

static void note_connection(struct daemon *w, struct contact *c, int status,
                            const struct hth_err *err)
{
    bool now = status == HTH_OK;

    if (!now && !c->connected && hth_now_ms() >= c->knock_ms) {
        knock(w);
        c->knock_ms = hth_now_ms() + KNOCK_AGAIN_MS;
    }
    if (now == c->connected)
        return;
    c->connected = now;
    c->knock_ms = hth_now_ms() + KNOCK_AGAIN_MS;
    if (now)
        hth_log(HTH_LOG_NOTICE, "COORDINATOR-FOUND",
                "connected, waiting for work");
    else
        hth_log(HTH_LOG_WARN, "COORDINATOR-LOST",
                "%s; trying again until it is back", err->text);
}

static int obey_until_stopped(struct daemon *w, struct hth_err *err)
{
    struct hth_uplink_slot slot = {0};
    struct contact contact = {.knock_ms = hth_now_ms() + KNOCK_AFTER_MS};
    uint64_t seen = 0;
    uint32_t hellos = 0;
    int status;

    status = hth_uplink_slot_init(&slot, w->uplink, err);
    while (status == HTH_OK && !stopping(w)) {
        status = poll_once(w, &slot, &seen, &hellos, err);
        if (status == HTH_EAUTH || status == HTH_EVERSION ||
            status == HTH_EEXIST)
            break;
        if (status != HTH_ECANCELLED)
            note_connection(w, &contact, status, err);
        if (status != HTH_OK)
            pause_ms(w, RETRY_MS);
        status = HTH_OK;
    }
    hth_uplink_slot_fini(&slot);
    return stopping(w) ? HTH_OK : status;
}

/* ---- starting ------------------------------------------------------------ */

static bool worth_retrying(int status)
{
    return status == HTH_EUNREACHABLE || status == HTH_ETIMEDOUT ||
           status == HTH_EPEER;
}

/* Pair, patiently: the coordinator may be started after us. A device that is
 * paired already may be started again with its used code: its certificate
 * decides then. */
static int pair(struct daemon *w, struct hth_err *err)
{
    const struct hth_worker_opts *o = w->opts;
    struct hth_join_opts join = {.identity = w->identity,
                                 .host = o->host,
                                 .port = o->port,
                                 .code = o->code,
                                 .name = w->name};
    uint64_t end = hth_now_ms() + HTH_JOIN_PATIENCE_MS;
    int status;

    for (;;) {
        status = hth_pairing_join(&join, err);
        if (!worth_retrying(status) || hth_now_ms() >= end || stopping(w))
            break;
        pause_ms(w, RETRY_MS);
    }
    if (status == HTH_OK)
        hth_log(HTH_LOG_NOTICE, "PAIRED",
                "with %s as %s; later starts need "
                "no code",
                hth_identity_coordinator(w->identity)->name, w->name);
    if (status == HTH_EAUTH && hth_identity_paired(w->identity)) {
        hth_log(HTH_LOG_WARN, "CODE-REFUSED",
                "%s; trying the certificate of an earlier pairing", err->text);
        return HTH_OK;
    }
    return worth_retrying(status) && !stopping(w) ? HTH_EUNREACHABLE : status;
}

static void fill_name(struct daemon *w)
{
    char host[HTH_NAME_MAX] = "";

    if (gethostname(host, sizeof host - 1) != 0)
        host[0] = '\0';
    hth_name_clean(w->name, w->opts->name != NULL ? w->opts->name : host);
}

static int open_uplink(struct daemon *w, struct hth_err *err)
{
    const struct hth_worker_opts *o = w->opts;
    struct hth_uplink_opts u = {.identity = w->identity, .host = o->host};
    struct hth_probe probe;
    ssize_t n;

    hth_probe_machine(&probe, w->threads, o->profile_path);
    w->memory_bytes =
        o->memory_bytes > 0 ? o->memory_bytes : probe.memory_bytes;
    u.control_port = (uint16_t)(o->port + 1);
    u.hello.role = HTH_PEER_WORKER;
    u.hello.cores = probe.cores;
    u.hello.threads = w->threads;
    u.hello.memory_bytes = w->memory_bytes;
    u.hello.read_bytes_per_s = probe.read_bytes_per_s;
    snprintf(u.hello.version, sizeof u.hello.version, "%s", HTH_VERSION);
    snprintf(u.hello.name, sizeof u.hello.name, "%s", w->name);
    snprintf(u.hello.arch, sizeof u.hello.arch, "%s", probe.arch);
    snprintf(u.hello.isa, sizeof u.hello.isa, "%s", probe.isa);
    n = getrandom(&u.hello.instance, sizeof u.hello.instance, 0);
    if (n != sizeof u.hello.instance)
        return hth_fail(err, HTH_EIO, "no random numbers from the kernel");
    return hth_uplink_open(&w->uplink, &u, err);
}

static int open_all(struct daemon *w, struct hth_err *err)
{
    const struct hth_worker_opts *o = w->opts;
    struct hth_store_opts store = {o->store_dir, o->store_limit_bytes,
                                   o->verify_store};
    struct hth_duty_opts duty = {.host = o->host,
                                 .name = w->name,
                                 .kv_dir = o->kv_dir,
                                 .changed = on_change,
                                 .ctx = w};
    int status;

    if ((status = hth_isa_init(err)) != HTH_OK ||
        (status = hth_identity_open(&w->identity, o->state_dir, err)) ||
        (status = hth_store_open(&w->store, &store, err)))
        return status;
    if (o->code != NULL && (status = pair(w, err)) != HTH_OK)
        return status;
    if (!hth_identity_paired(w->identity))
        return hth_fail(err, HTH_EAUTH,
                        "this device is not paired yet: start it once with "
                        "--code, which `hearth pair` shows on the coordinator");
    if ((status = open_uplink(w, err)) != HTH_OK)
        return status;
    duty.uplink = w->uplink;
    duty.store = w->store;
    duty.store_limit_bytes = o->store_limit_bytes;
    duty.identity = w->identity;
    duty.threads = w->threads;
    duty.memory_bytes = w->memory_bytes;
    return hth_duty_open(&w->duty, &duty, err);
}

static int start_threads(struct daemon *w, struct hth_err *err)
{
    w->reporting = pthread_create(&w->reporter, NULL, report_main, w) == 0;
    w->watching = pthread_create(&w->watcher, NULL, watch_main, w) == 0;
    if (!w->reporting || !w->watching)
        return hth_fail(err, HTH_ENOMEM, "cannot start a thread");
    return HTH_OK;
}

static void close_all(struct daemon *w)
{
    atomic_store(&w->ending, true);
    if (w->uplink != NULL)
        hth_uplink_interrupt(w->uplink);
    on_change(w);
    if (w->reporting)
        pthread_join(w->reporter, NULL);
    if (w->watching)
        pthread_join(w->watcher, NULL);
    hth_duty_close(w->duty);
    hth_uplink_close(w->uplink);
    hth_store_close(w->store);
    hth_identity_close(w->identity);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->lock);
}

int hth_worker_run(const struct hth_worker_opts *opts,
                   const volatile sig_atomic_t *stop, struct hth_err *err)
{
    struct daemon w = {.opts = opts, .stop = stop};
    struct hth_err local = {0};
    int status;

    pthread_mutex_init(&w.lock, NULL);
    pthread_cond_init(&w.wake, NULL);
    w.threads = opts->threads > 0 ? opts->threads : hth_probe_cores();
    fill_name(&w);
    status = open_all(&w, &local);
    if (status == HTH_OK)
        status = start_threads(&w, &local);
    if (status == HTH_OK)
        status = obey_until_stopped(&w, &local);
    close_all(&w);
    if (told_to_stop(&w))
        return HTH_OK;
    return status == HTH_OK ? HTH_OK : hth_fail(err, status, "%s", local.text);
}
