/* cluster_show.c - what people see: the list of nodes, and lines about
 * transfers on standard error (a line per device that is rewritten where that
 * is a terminal, a line per tenth where it is not). Loop thread. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/version.h"
#include "coordinator/cluster_internal.h"

#define SHOW_EVERY_MS 100u
#define BAR_CELLS 24u

/* ---- nodes ----------------------------------------------------------------
 */

static double part_of_model(const struct hth_cluster *c, int rank)
{
    uint64_t all = 0, own = 0, n;
    uint32_t r;

    if (rank < 0 || c->session.ranks == 0)
        return 0;
    for (r = 0; r < c->session.ranks; r++) {
        n = hth_shard_bytes(&c->spec, &c->session.setup.plan, r);
        all += n;
        own += r == (uint32_t)rank ? n : 0;
    }
    return all > 0 ? (double)own / (double)all : 0;
}

static uint64_t shard_bytes(const struct hth_cluster *c, int rank)
{
    if (rank < 0 || c->session.ranks == 0)
        return 0;
    return hth_shard_bytes(&c->spec, &c->session.setup.plan, (uint32_t)rank);
}

static void put_self(struct hth_cluster *c, struct hth_buf *list)
{
    struct hth_msg_node n = {.coordinator = true};

    n.rank = c->session.ranks > 0 ? 0 : -1;
    n.state =
        c->session.state == SESSION_READY
            ? HTH_NODE_READY
            : (c->session.ranks > 0 && !c->session.loaded ? HTH_NODE_LOADING
                                                          : HTH_NODE_IDLE);
    if (c->identity != NULL)
        snprintf(n.device, sizeof n.device, "%s", hth_identity_id(c->identity));
    snprintf(n.name, sizeof n.name, "%s", c->name);
    snprintf(n.address, sizeof n.address, "local");
    snprintf(n.version, sizeof n.version, "%s", HTH_VERSION);
    snprintf(n.arch, sizeof n.arch, "%s", c->probe.arch);
    snprintf(n.isa, sizeof n.isa, "%s", c->probe.isa);
    n.share = part_of_model(c, n.rank);
    n.cores = c->probe.cores;
    n.threads = c->threads;
    n.memory_bytes = c->memory_bytes;
    n.read_bytes_per_s = c->probe.read_bytes_per_s;
    n.shard_bytes = shard_bytes(c, n.rank);
    n.done_bytes = c->session.loaded ? n.shard_bytes : 0;
    hth_engine_phases(c->engine, &n.phases);
    hth_msg_put_node(list, &n);
}

static void put_member(struct hth_cluster *c, int i, uint64_t now_ms,
                       struct hth_buf *list)
{
    const struct hth_member *v = &c->members.v[i];
    struct hth_msg_node n = {.state = v->state, .coordinator = false};

    n.rank = hth__session_rank(c, i);
    snprintf(n.device, sizeof n.device, "%s", v->hello.device);
    snprintf(n.name, sizeof n.name, "%s", v->hello.name);
    snprintf(n.address, sizeof n.address, "%s", v->address);
    snprintf(n.version, sizeof n.version, "%s", v->hello.version);
    snprintf(n.arch, sizeof n.arch, "%s", v->hello.arch);
    snprintf(n.isa, sizeof n.isa, "%s", v->hello.isa);
    n.share = part_of_model(c, n.rank);
    n.cores = v->hello.cores;
    n.threads = v->hello.threads;
    n.memory_bytes = v->hello.memory_bytes;
    n.read_bytes_per_s = v->hello.read_bytes_per_s;
    n.shard_bytes = shard_bytes(c, n.rank);
    n.done_bytes = n.rank > 0 ? v->report.done_bytes : 0;
    n.sent_bytes = v->sent_bytes;
    n.seen_ms_ago = v->seen_ms > 0 ? now_ms - v->seen_ms : 0;
    n.round_trip_ns = v->report.round_trip_ns;
    n.phases = v->report.phases;
    snprintf(n.text, sizeof n.text, "%s", v->why.text);
    hth_msg_put_node(list, &n);
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

void hth__cluster_nodes(struct hth_cluster *c, struct hth_msg_nodes *out,
                        struct hth_buf *list)
{
    uint64_t now_ms = hth_now_ms();
    uint32_t i;

    memset(out, 0, sizeof *out);
    snprintf(out->version, sizeof out->version, "%s", HTH_VERSION);
    snprintf(out->model, sizeof out->model, "%s", base_name(c->model_path));
    out->ready = c->session.state == SESSION_READY;
    snprintf(out->waiting, sizeof out->waiting, "%s", c->waiting);
    out->session = c->session.setup.id;
    out->ctx = c->ctx;
    hth_engine_queue(c->engine, &out->running, &out->queued);
    out->queued += hth_requests_queued(c->requests);
    put_self(c, list);
    for (i = 0; i < c->members.count && i + 1 < HTH_DEVICES_MAX; i++)
        put_member(c, (int)i, now_ms, list);
    out->count = 1 + i;
    out->list = (struct hth_blob){list->data, list->len};
}

/* ---- transfers ------------------------------------------------------------
 */

static unsigned percent(const struct hth_member *m)
{
    uint64_t total = m->report.total_bytes;

    return total > 0 ? (unsigned)(m->report.done_bytes * 100 / total) : 0;
}

static void draw_bar(const struct hth_member *m)
{
    unsigned cells = percent(m) * BAR_CELLS / 100, i;

    fprintf(stderr, "\r\033[K  %-16.16s [", m->hello.name);
    for (i = 0; i < BAR_CELLS; i++)
        fputc(i < cells ? '#' : ' ', stderr);
    fprintf(stderr, "] %3u %% of %.1f MB, %.1f MB sent\n", percent(m),
            (double)m->report.total_bytes / 1e6, (double)m->sent_bytes / 1e6);
}

/* Redraw the block in place: as many lines up as were drawn last time. */
static void draw_terminal(struct hth_cluster *c)
{
    uint32_t r;

    if (c->drawn > 0)
        fprintf(stderr, "\033[%uA", c->drawn);
    for (r = 1; r < c->session.ranks; r++)
        draw_bar(&c->members.v[c->session.member[r]]);
    c->drawn = c->session.ranks - 1;
    fflush(stderr);
}

static void print_steps(struct hth_cluster *c)
{
    const struct hth_member *m;
    uint32_t r, now;

    for (r = 1; r < c->session.ranks; r++) {
        m = &c->members.v[c->session.member[r]];
        now = percent(m) / 10;
        if (m->sent_bytes == 0 || now <= c->decile[r])
            continue;
        c->decile[r] = now;
        fprintf(stderr, "%s: %u %% of %.1f MB\n", m->hello.name, now * 10,
                (double)m->report.total_bytes / 1e6);
    }
}

/* A session whose blocks are all in the stores has nothing to draw. */
static bool transferring(const struct hth_cluster *c)
{
    uint32_t r;

    for (r = 1; r < c->session.ranks; r++)
        if (c->members.v[c->session.member[r]].report.fetched_bytes > 0)
            return true;
    return false;
}

void hth__cluster_show(struct hth_cluster *c, uint64_t now_ms)
{
    if (!c->opts.progress || c->session.state != SESSION_LOADING ||
        !transferring(c)) {
        c->drawn = 0;
        return;
    }
    if (now_ms - c->shown_ms < SHOW_EVERY_MS)
        return;
    c->shown_ms = now_ms;
    if (isatty(STDERR_FILENO))
        draw_terminal(c);
    else
        print_steps(c);
}
