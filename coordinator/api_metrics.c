/* api_metrics.c - GET /metrics: Prometheus text format 0.0.4. Names: one
 * prefix, base units, counters end in _total (docs/metrics.md lists them).
 * Counts of requests and their times are the loop thread's; tokens come from
 * the engine, devices from the last NODES message. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/version.h"
#include "coordinator/api_serve.h"
#include "net/message.h"

#define METRICS_BYTES_MAX (2u << 20)

/* ---- counting -------------------------------------------------------------
 */

/* Upper bounds in seconds, as vLLM's, stretched to minutes. */
static const double bounds[API_BUCKETS] = {
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1,
    2.5,   5,      10,    20,   40,    60,   120, 300,  600, 1200};

static void observe(struct api_histogram *h, double seconds)
{
    uint32_t i = 0;

    while (i < API_BUCKETS && seconds > bounds[i])
        i++;
    h->count[i]++; /* [API_BUCKETS] is beyond all bounds */
    h->sum += seconds;
}

static enum api_finish finish_of(const struct api_call *c)
{
    if (c->gone)
        return FINISH_CANCELLED;
    if (c->fault.http != 0)
        return c->fault.http < 500 ? FINISH_REFUSED : FINISH_ERROR;
    if (c->choices == 0)
        return FINISH_STOP;
    if (c->choice[0].tool_calls > 0)
        return FINISH_TOOLS;
    return c->choice[0].end == HTH_END_LENGTH ? FINISH_LENGTH : FINISH_STOP;
}

void hth__metrics_note(struct api_call *c)
{
    struct api_metrics *m = &c->a->metrics;
    const struct hth_request_stats *s = &c->choice[0].stats;
    enum api_finish finish = finish_of(c);
    uint64_t now_ns = hth_now_ns();

    if (c->d->instant)
        return;
    m->requests[finish]++;
    if (finish >= FINISH_CANCELLED)
        return;
    observe(&m->whole, (double)(now_ns - c->begun_ns) / 1e9);
    if (c->choices == 0)
        return;
    observe(&m->queue, (double)s->queue_ns / 1e9);
    if (c->first_ns != 0)
        observe(&m->first, (double)(c->first_ns - c->begun_ns) / 1e9);
    if (s->generated_tokens > 1)
        observe(&m->token,
                (double)s->decode_ns / 1e9 / (double)(s->generated_tokens - 1));
}

/* ---- writing --------------------------------------------------------------
 */

static void head(struct hth_buf *b, const char *name, const char *type,
                 const char *help)
{
    hth_put_printf(b, "# HELP hearth_%s %s\n# TYPE hearth_%s %s\n", name, help,
                   name, type);
}

static void one(struct hth_buf *b, const char *name, double v)
{
    hth_put_printf(b, "hearth_%s %.17g\n", name, v);
}

static void histogram(struct hth_buf *b, const char *name, const char *help,
                      const struct api_histogram *h)
{
    uint64_t sum = 0;
    uint32_t i;

    head(b, name, "histogram", help);
    for (i = 0; i < API_BUCKETS; i++) {
        sum += h->count[i];
        hth_put_printf(b, "hearth_%s_bucket{le=\"%g\"} %llu\n", name, bounds[i],
                       (unsigned long long)sum);
    }
    sum += h->count[API_BUCKETS];
    hth_put_printf(b,
                   "hearth_%s_bucket{le=\"+Inf\"} %llu\nhearth_%s_sum %.9g\n"
                   "hearth_%s_count %llu\n",
                   name, (unsigned long long)sum, name, h->sum, name,
                   (unsigned long long)sum);
}

/* A label's value: quotes, backslashes and line breaks escaped. */
static void label(struct hth_buf *b, const char *key, const char *text)
{
    hth_put_printf(b, "%s=\"", key);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            hth_put_u8(b, '\\');
        hth_put_u8(b, *text == '\n' ? ' ' : (uint8_t)*text);
    }
    hth_put_u8(b, '"');
}

static void put_requests(struct hth_buf *b, const struct hth_api *a)
{
    static const char *const names[] = {"stop",      "length",  "tool_calls",
                                        "cancelled", "refused", "error"};
    const struct api_metrics *m = &a->metrics;
    uint32_t i;

    head(b, "requests_total", "counter", "Requests by how they ended.");
    for (i = 0; i < FINISH_COUNT; i++)
        hth_put_printf(b, "hearth_requests_total{finish=\"%s\"} %llu\n",
                       names[i], (unsigned long long)m->requests[i]);
    histogram(b, "time_to_first_token_seconds",
              "From the request's arrival to its first token.", &m->first);
    histogram(b, "time_per_output_token_seconds",
              "Mean time between tokens of a request, after its first.",
              &m->token);
    histogram(b, "e2e_request_seconds",
              "From the request's arrival to the end of its answer.",
              &m->whole);
    histogram(b, "queue_seconds", "Time a request waited for its turn.",
              &m->queue);
}

static void put_engine(struct hth_buf *b, struct hth_api *a)
{
    struct hth_engine_totals t;
    struct hth_cache_stats c;
    uint32_t running, waiting;

    hth_engine_totals(a->o.engine, &t);
    hth_engine_cache_stats(a->o.engine, &c);
    hth_engine_queue(a->o.engine, &running, &waiting);
    head(b, "prompt_tokens_total", "counter", "Prompt tokens computed.");
    one(b, "prompt_tokens_total", (double)t.prompt_tokens);
    head(b, "cached_tokens_total", "counter",
         "Prompt tokens found in the prefix cache.");
    one(b, "cached_tokens_total", (double)t.cached_tokens);
    head(b, "generated_tokens_total", "counter", "Tokens generated.");
    one(b, "generated_tokens_total", (double)t.generated_tokens);
    head(b, "requests_running", "gauge", "Requests being computed.");
    one(b, "requests_running", running);
    head(b, "requests_waiting", "gauge", "Requests waiting for their turn.");
    one(b, "requests_waiting", waiting);
    head(b, "kv_cache_usage_ratio", "gauge",
         "Blocks of the KV cache in use, kept prompts included.");
    one(b, "kv_cache_usage_ratio",
        c.blocks > 0 ? (double)c.blocks_used / c.blocks : 0);
    head(b, "http_connections", "gauge", "Open HTTP connections.");
    one(b, "http_connections", hth_http_connections(a->http));
}

/* One metric over all devices. */
struct row {
    const char *name, *type, *help;
    double (*value)(const struct hth_msg_node *n);
};

static double is_up(const struct hth_msg_node *n)
{
    return n->state == HTH_NODE_READY;
}

static double memory_bytes(const struct hth_msg_node *n)
{
    return (double)n->memory_bytes;
}

static double shard_bytes(const struct hth_msg_node *n)
{
    return (double)n->shard_bytes;
}

static double share(const struct hth_msg_node *n)
{
    return n->share;
}

static double seen(const struct hth_msg_node *n)
{
    return (double)n->seen_ms_ago / 1e3;
}

static double round_trip(const struct hth_msg_node *n)
{
    return (double)n->round_trip_ns / 1e9;
}

static const struct row rows[] = {
    {"node_up", "gauge", "1 while the device serves its share.", is_up},
    {"node_memory_bytes", "gauge", "Memory the device offers.", memory_bytes},
    {"node_shard_bytes", "gauge", "Weights the device holds.", shard_bytes},
    {"node_share_ratio", "gauge", "The device's share of the model.", share},
    {"node_last_seen_seconds", "gauge", "Since its last message.", seen},
    {"node_rtt_seconds", "gauge",
     "A heartbeat to the coordinator and back; 0 where there is none.",
     round_trip}};

static void put_row(struct hth_buf *b, const struct hth_msg_nodes *m,
                    const struct row *r)
{
    struct hth_msg_node n;
    struct hth_cursor at;

    head(b, r->name, r->type, r->help);
    hth_cursor_init(&at, m->list.p, m->list.n);
    while (hth_msg_node_next(&at, &n)) {
        hth_put_printf(b, "hearth_%s{", r->name);
        label(b, "node", n.name);
        hth_put_printf(b, ",");
        label(b, "id", n.device);
        hth_put_printf(b, "} %.17g\n", r->value(&n));
    }
}

/* A device's own counts begin again with every session. Here what was last
 * seen of a session that is over is kept, so that a counter only grows. */
static const struct api_node_counts *count_node(struct api_metrics *m,
                                                const struct hth_msg_node *n)
{
    const struct hth_phases *p = &n->phases;
    const uint64_t now[API_NODE_COUNTS] = {
        p->compute_ns, p->send_ns,    p->receive_ns,    p->wait_ns,
        p->disk_ns,    p->sent_bytes, p->received_bytes};
    struct api_node_counts *c;
    uint32_t i = 0;

    while (i < m->nodes && strcmp(m->node[i].device, n->device) != 0)
        i++;
    if (i == HTH_DEVICES_MAX)
        return NULL;
    c = &m->node[i];
    if (i == m->nodes) {
        memcpy(c->device, n->device, sizeof c->device);
        m->nodes++;
    }
    for (i = 0; i < API_NODE_COUNTS; i++) {
        if (now[i] < c->last[i])
            c->before[i] += c->last[i];
        c->last[i] = now[i];
    }
    return c;
}

/* One counter of all devices, with values first to first + n - 1 of theirs. */
struct count_row {
    const char *name, *help, *key, *value[5];
    uint32_t first, n;
    double unit;
};

static const struct count_row count_rows[] = {
    {"node_phase_seconds_total",
     "Time in steps, by what it was for.",
     "phase",
     {"compute", "send", "receive", "wait", "disk"},
     0,
     5,
     1e-9},
    {"comm_bytes_total",
     "Payload over data links with the coordinator.",
     "dir",
     {"sent", "received"},
     5,
     2,
     1}};

static void put_count(struct hth_buf *b, const struct hth_msg_nodes *m,
                      struct api_metrics *counts, const struct count_row *r)
{
    const struct api_node_counts *c;
    struct hth_msg_node n;
    struct hth_cursor at;

    head(b, r->name, "counter", r->help);
    hth_cursor_init(&at, m->list.p, m->list.n);
    while (hth_msg_node_next(&at, &n)) {
        c = count_node(counts, &n);
        for (uint32_t i = 0; c != NULL && i < r->n; i++) {
            hth_put_printf(b, "hearth_%s{", r->name);
            label(b, "node", n.name);
            hth_put_printf(b, ",");
            label(b, "id", n.device);
            hth_put_printf(
                b, ",%s=\"%s\"} %.17g\n", r->key, r->value[i],
                (double)(c->before[r->first + i] + c->last[r->first + i]) *
                    r->unit);
        }
    }
}

static void put_nodes(struct hth_buf *b, struct hth_api *a)
{
    struct hth_msg *m = calloc(1, sizeof *m);
    struct hth_buf bytes;
    size_t i;

    hth_buf_init(&bytes, HTH_NODES_BYTES_MAX + 4096);
    if (m != NULL && a->o.cluster.nodes != NULL)
        a->o.cluster.nodes(a->o.cluster.ctx, &bytes);
    if (bytes.len > 0 &&
        hth_msg_decode(m, bytes.data, bytes.len, NULL) == HTH_OK) {
        for (i = 0; i < sizeof rows / sizeof rows[0]; i++)
            put_row(b, &m->u.nodes, &rows[i]);
        for (i = 0; i < sizeof count_rows / sizeof count_rows[0]; i++)
            put_count(b, &m->u.nodes, &a->metrics, &count_rows[i]);
    }
    hth_buf_fini(&bytes);
    free(m);
}

void hth__serve_metrics(struct hth_api *a, struct hth_http_exchange *x)
{
    struct hth_buf b;

    hth_buf_init(&b, METRICS_BYTES_MAX);
    head(&b, "build_info", "gauge", "1; the labels say what runs.");
    hth_put_printf(&b, "hearth_build_info{");
    label(&b, "version", HTH_VERSION);
    hth_put_printf(&b, ",");
    label(&b, "model", a->o.model);
    hth_put_printf(&b, "} 1\n");
    put_requests(&b, a);
    put_engine(&b, a);
    head(&b, "worker_disconnects_total", "counter",
         "Times a device of the session was lost.");
    one(&b, "worker_disconnects_total",
        a->o.cluster.lost != NULL ? (double)a->o.cluster.lost(a->o.cluster.ctx)
                                  : 0);
    put_nodes(&b, a);
    hth_http_reply(x, 200, "text/plain; version=0.0.4; charset=utf-8", b.data,
                   b.len);
    hth_buf_fini(&b);
}
