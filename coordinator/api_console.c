/* api_console.c - the console and what it asks for: the page, the cluster now
 * and each second, what a plan would mean, a join line with its QR code. The
 * JSON is docs/console.md's. Loop thread. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/version.h"
#include "coordinator/api_serve.h"
#include "coordinator/console.h"
#include "model/json_write.h"
#include "net/message.h"
#include "net/star.h"
#include "scheduler/plan.h"

#define CLUSTER_BYTES_MAX (1u << 20)
#define VALUE_BYTES_MAX 512u /* of one query parameter */
#define WATCH_MS 1000u

/* ---- the page ------------------------------------------------------------ */

void hth__serve_console(struct hth_api *a, struct hth_http_exchange *x)
{
    const struct hth_console *c = hth_console();
    const char *known = hth_http_header(x, "if-none-match");

    (void)a;
    hth_http_add(x, "ETag", c->tag);
    hth_http_add(x, "Cache-Control", "no-cache");
    if (known != NULL && strcmp(known, c->tag) == 0) {
        hth_http_reply(x, 304, NULL, NULL, 0);
        return;
    }
    hth_http_add(x, "Content-Security-Policy", c->policy);
    hth_http_add(x, "X-Content-Type-Options", "nosniff");
    hth_http_add(x, "Referrer-Policy", "no-referrer");
    hth_http_reply(x, 200, "text/html; charset=utf-8", c->page, c->bytes);
}

/* ---- the cluster --------------------------------------------------------- */

/* The nodes as last told; b keeps the bytes that *out points into. */
static bool read_nodes(struct hth_api *a, struct hth_buf *b,
                       struct hth_msg *out)
{
    hth_buf_init(b, HTH_NODES_BYTES_MAX + 4096);
    if (a->o.cluster.nodes == NULL)
        return false;
    a->o.cluster.nodes(a->o.cluster.ctx, b);
    return b->len > 0 && hth_msg_decode(out, b->data, b->len, NULL) == HTH_OK &&
           out->type == HTH_MSG_NODES;
}

static void put_bool(struct hth_buf *b, const char *key, bool v)
{
    hth_json_key(b, key);
    hth_put_printf(b, v ? "true" : "false");
}

static void put_time(struct hth_buf *b, const struct hth_phases *p)
{
    hth_json_key(b, "time");
    hth_put_u8(b, '{');
    hth_json_field_number(b, "steps", (double)p->steps);
    hth_json_field_number(b, "compute_s", (double)p->compute_ns / 1e9);
    hth_json_field_number(b, "send_s", (double)p->send_ns / 1e9);
    hth_json_field_number(b, "receive_s", (double)p->receive_ns / 1e9);
    hth_json_field_number(b, "wait_s", (double)p->wait_ns / 1e9);
    hth_json_field_number(b, "disk_s", (double)p->disk_ns / 1e9);
    hth_put_u8(b, '}');
}

static void put_device(struct hth_buf *b, const struct hth_msg_node *n)
{
    hth_put_u8(b, '{');
    hth_json_field(b, "name", n->name);
    hth_json_field(b, "id", n->device);
    hth_json_field_number(b, "rank", n->rank);
    put_bool(b, "coordinator", n->coordinator);
    hth_json_field(b, "state", hth_node_state_text(n->state));
    hth_json_field(b, "reason", n->text);
    hth_json_field_number(b, "share", n->share);
    hth_json_field_number(b, "cores", n->cores);
    hth_json_field_number(b, "threads", n->threads);
    hth_json_field(b, "arch", n->arch);
    hth_json_field(b, "isa", n->isa);
    hth_json_field_number(b, "memory_bytes", (double)n->memory_bytes);
    hth_json_field_number(b, "read_bytes_per_s", n->read_bytes_per_s);
    hth_json_field_number(b, "shard_bytes", (double)n->shard_bytes);
    hth_json_field_number(b, "done_bytes", (double)n->done_bytes);
    hth_json_field(b, "address", n->address);
    hth_json_field(b, "version", n->version);
    hth_json_field_number(b, "seen_ms_ago", (double)n->seen_ms_ago);
    hth_json_field_number(b, "sent_bytes", (double)n->sent_bytes);
    hth_json_field_number(b, "round_trip_s", (double)n->round_trip_ns / 1e9);
    put_time(b, &n->phases);
    hth_put_u8(b, '}');
}

static void put_devices(struct hth_buf *b, const struct hth_msg_nodes *m)
{
    struct hth_msg_node n;
    struct hth_cursor at;
    bool first = true;

    hth_json_key(b, "devices");
    hth_put_u8(b, '[');
    hth_cursor_init(&at, m->list.p, m->list.n);
    while (hth_msg_node_next(&at, &n)) {
        if (!first)
            hth_put_u8(b, ',');
        first = false;
        put_device(b, &n);
    }
    hth_put_u8(b, ']');
}

static void put_state(struct hth_api *a, struct hth_buf *b)
{
    char waiting[HTH_ERR_TEXT_MAX];
    uint64_t plan;
    bool ready =
        a->o.cluster.ready(a->o.cluster.ctx, &plan, waiting, sizeof waiting);

    hth_json_field(b, "state", ready ? "ready" : "waiting");
    hth_json_field(b, "reason", ready ? "" : waiting);
}

static void put_load(struct hth_api *a, const struct hth_msg_nodes *m,
                     struct hth_buf *b)
{
    struct hth_engine_totals t;
    struct hth_cache_stats c;

    hth_engine_totals(a->o.engine, &t);
    hth_engine_cache_stats(a->o.engine, &c);
    hth_json_key(b, "requests");
    hth_put_printf(b, "{\"running\":%u,\"queued\":%u}", m->running, m->queued);
    hth_json_key(b, "tokens_per_s");
    hth_put_printf(b, "{\"decode\":%.2f,\"prefill\":%.2f}", a->rate.decode,
                   a->rate.prefill);
    hth_json_key(b, "totals");
    hth_put_printf(b,
                   "{\"prompt_tokens\":%llu,\"generated_tokens\":%llu,"
                   "\"cached_tokens\":%llu}",
                   (unsigned long long)t.prompt_tokens,
                   (unsigned long long)t.generated_tokens,
                   (unsigned long long)t.cached_tokens);
    hth_json_key(b, "kv");
    hth_put_printf(b,
                   "{\"positions\":%llu,\"positions_used\":%llu,"
                   "\"positions_kept\":%llu}",
                   (unsigned long long)c.blocks * HTH_KV_BLOCK_POSITIONS,
                   (unsigned long long)c.blocks_used * HTH_KV_BLOCK_POSITIONS,
                   (unsigned long long)c.kept_positions);
}

static void put_cluster(struct hth_api *a, struct hth_buf *b)
{
    struct hth_msg *m = calloc(1, sizeof *m);
    struct hth_buf nodes = {0};

    if (m == NULL)
        return;
    (void)read_nodes(a, &nodes, m);
    hth_put_u8(b, '{');
    hth_json_field(b, "object", "cluster");
    hth_json_field(b, "version", HTH_VERSION);
    hth_json_field(b, "id", a->o.model);
    hth_json_field(b, "model", m->u.nodes.model);
    put_state(a, b);
    hth_json_field_number(b, "ctx", a->o.ctx);
    put_load(a, &m->u.nodes, b);
    put_devices(b, &m->u.nodes);
    hth_put_u8(b, '}');
    hth_buf_fini(&nodes);
    free(m);
}

void hth__serve_cluster(struct hth_api *a, struct hth_http_exchange *x)
{
    struct hth_buf b;

    hth_buf_init(&b, CLUSTER_BYTES_MAX);
    put_cluster(a, &b);
    hth__api_reply_json(x, &b);
}

/* ---- each second --------------------------------------------------------- */

static void watch_gone(void *ctx)
{
    struct api_watch *w = ctx;

    hth_http_end(w->x, true);
    w->x = NULL;
}

static void tell(struct hth_api *a, struct hth_http_exchange *only)
{
    struct hth_buf json, event;

    hth_buf_init(&json, CLUSTER_BYTES_MAX);
    hth_buf_init(&event, CLUSTER_BYTES_MAX + 64);
    put_cluster(a, &json);
    hth_put_bytes(&event, "data: ", 6);
    hth_put_bytes(&event, json.data, json.len);
    hth_put_bytes(&event, "\n\n", 2);
    for (uint32_t i = 0; !event.failed && i < HTH_WATCHES_MAX; i++)
        if (a->watch[i].x != NULL && (only == NULL || only == a->watch[i].x))
            hth_http_write(a->watch[i].x, event.data, event.len);
    hth_buf_fini(&json);
    hth_buf_fini(&event);
}

void hth__serve_watch(struct hth_api *a, struct hth_http_exchange *x)
{
    struct api_watch *w = a->watch;
    struct api_fault f;

    while (w < a->watch + HTH_WATCHES_MAX && w->x != NULL)
        w++;
    if (w == a->watch + HTH_WATCHES_MAX) {
        hth__api_fault(&f, "queue_full", NULL,
                       "%u pages watch the cluster already", HTH_WATCHES_MAX);
        hth__api_reply_fault(x, SHAPE_OPENAI, &f);
        return;
    }
    w->x = x;
    hth_http_add(x, "Cache-Control", "no-cache");
    hth_http_add(x, "X-Accel-Buffering", "no");
    hth_http_on_gone(x, watch_gone, w);
    hth_http_start(x, 200, "text/event-stream");
    tell(a, x);
}

static double per_s(uint64_t now, uint64_t before, uint64_t ms)
{
    return now > before && ms > 0 ? (double)(now - before) * 1e3 / (double)ms
                                  : 0.0;
}

void hth__api_watches_tick(struct hth_api *a, uint64_t now_ms)
{
    struct hth_engine_totals t;
    uint64_t ms = now_ms - a->rate.told_ms;
    bool watched = false;

    if (ms < WATCH_MS)
        return;
    hth_engine_totals(a->o.engine, &t);
    a->rate.decode =
        per_s(t.generated_tokens, a->rate.told.generated_tokens, ms);
    a->rate.prefill = per_s(t.prompt_tokens, a->rate.told.prompt_tokens, ms);
    a->rate.told = t;
    a->rate.told_ms = now_ms;
    for (uint32_t i = 0; i < HTH_WATCHES_MAX; i++)
        watched |= a->watch[i].x != NULL;
    if (watched)
        tell(a, NULL);
}

/* ---- a plan -------------------------------------------------------------- */

static int hex(char c)
{
    return isdigit((unsigned char)c)    ? c - '0'
           : isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10
                                        : -1;
}

/* A parameter of the query, percent-decoded; false without it, or when it is
 * too long. */
static bool query_value(const char *query, const char *name, char *out,
                        size_t size)
{
    size_t n = strlen(name), used = 0;

    while (strncmp(query, name, n) != 0 || query[n] != '=') {
        query = strchr(query, '&');
        if (query == NULL)
            return false;
        query++;
    }
    for (query += n + 1; *query != '\0' && *query != '&'; query++) {
        char c = *query == '+' ? ' ' : *query;

        if (*query == '%' && hex(query[1]) >= 0 && hex(query[2]) >= 0) {
            c = (char)(hex(query[1]) * 16 + hex(query[2]));
            query += 2;
        }
        if (used + 1 >= size)
            return false;
        out[used++] = c;
    }
    out[used] = '\0';
    return true;
}

struct preview {
    struct hth_shape shape;
    struct hth_plan plan;
    struct hth_msg_node device[HTH_RANKS_MAX];
    uint32_t devices; /* known; ranks beyond have none */
    uint32_t ranks, ctx;
    double share[HTH_RANKS_MAX];
};

/* "2,1,1"; false when it is not that. */
static bool read_shares(struct preview *p, const char *text)
{
    for (p->ranks = 0; p->ranks < HTH_RANKS_MAX; text++) {
        char *end;
        double v = strtod(text, &end);

        if (end == text || !(v >= 0.0) || v > 1e9)
            return false;
        p->share[p->ranks++] = v;
        text = end;
        if (*text != ',')
            return *text == '\0';
    }
    return false;
}

/* Devices in the order of ranks: this machine, those of the session, others
 * that are here. */
static void take_devices(struct preview *p, const struct hth_msg_nodes *m)
{
    struct hth_msg_node n;
    struct hth_cursor at;

    for (int pass = 0; pass < 2; pass++) {
        hth_cursor_init(&at, m->list.p, m->list.n);
        while (p->devices < HTH_RANKS_MAX && hth_msg_node_next(&at, &n)) {
            bool first = n.coordinator || n.rank > 0;
            bool here = n.state >= HTH_NODE_IDLE && n.state <= HTH_NODE_READY;

            if (pass == 0 ? first : !first && here)
                p->device[p->devices++] = n;
        }
    }
}

static int plan_auto(struct preview *p, struct hth_err *err)
{
    struct hth_plan_device device[HTH_RANKS_MAX] = {{0}};
    struct hth_plan_request r = {.devices = device,
                                 .ranks = p->devices > 0 ? p->devices : 1,
                                 .ctx = p->ctx};

    for (uint32_t i = 0; i < r.ranks; i++) {
        const struct hth_msg_node *n = &p->device[i];

        device[i].speed = n->read_bytes_per_s > 0 ? n->read_bytes_per_s : 1e9;
        device[i].memory_bytes = n->memory_bytes;
    }
    p->ranks = r.ranks;
    return hth_plan_auto(&p->shape, &r, &p->plan, NULL, err);
}

static void put_rank(const struct preview *p, uint32_t r, uint64_t all,
                     struct hth_buf *b)
{
    const struct hth_share *s = &p->plan.share[r];
    const struct hth_msg_node *n = r < p->devices ? &p->device[r] : NULL;
    uint64_t weights = hth_share_weight_bytes(&p->shape, s);
    uint64_t kv = hth_share_kv_bytes(&p->shape, s) * p->ctx;
    uint64_t memory = n != NULL ? n->memory_bytes : 0;

    hth_put_printf(b, "%s{", r > 0 ? "," : "");
    hth_json_field_number(b, "rank", r);
    hth_json_field(b, "name", n != NULL ? n->name : "");
    hth_json_field_number(b, "share",
                          all > 0 ? (double)weights / (double)all : 0);
    hth_json_field_number(b, "weights_bytes", (double)weights);
    hth_json_field_number(b, "kv_bytes", (double)kv);
    hth_json_field_number(b, "memory_bytes", (double)memory);
    put_bool(b, "fits", weights + kv <= memory);
    hth_put_u8(b, '}');
}

static void put_plan(const struct hth_api *a, const struct preview *p,
                     struct hth_buf *b)
{
    uint64_t all = 0;

    for (uint32_t r = 0; r < p->ranks; r++)
        all += hth_share_weight_bytes(&p->shape, &p->plan.share[r]);
    hth_put_u8(b, '{');
    hth_json_field(b, "object", "plan");
    hth_json_field_number(b, "ctx", p->ctx);
    hth_json_field_number(
        b, "bytes_per_token",
        p->ranks > 1 ? (double)hth_plan_reduce_bytes(
                           &p->shape, hth_wire_bytes((enum hth_wire)a->o.wire,
                                                     p->shape.dim))
                     : 0.0);
    hth_json_key(b, "ranks");
    hth_put_u8(b, '[');
    for (uint32_t r = 0; r < p->ranks; r++)
        put_rank(p, r, all, b);
    hth_put_printf(b, "]}");
}

static int make_plan(struct hth_api *a, struct preview *p, const char *query,
                     struct hth_err *err)
{
    char text[VALUE_BYTES_MAX];

    p->ctx = a->o.ctx;
    if (query_value(query, "ctx", text, sizeof text)) {
        char *end;
        unsigned long v = strtoul(text, &end, 10);

        if (end == text || *end != '\0' || v < 1 || v > HTH_CTX_MAX)
            return hth_fail(err, HTH_EINVAL, "ctx is a number from 1 to %u",
                            HTH_CTX_MAX);
        p->ctx = (uint32_t)v;
    }
    hth_spec_shape(a->o.spec, a->o.kv_type, &p->shape);
    if (!query_value(query, "shares", text, sizeof text) ||
        strcmp(text, "auto") == 0)
        return plan_auto(p, err);
    if (!read_shares(p, text))
        return hth_fail(err, HTH_EINVAL,
                        "shares are numbers like 2,1,1 (at most %u), or auto",
                        HTH_RANKS_MAX);
    return hth_plan_make(&p->shape, p->share, p->ranks, &p->plan, err);
}

void hth__serve_plan(struct hth_api *a, struct hth_http_exchange *x)
{
    struct preview *p = calloc(1, sizeof *p);
    struct hth_msg *m = calloc(1, sizeof *m);
    struct hth_err err = {.status = HTH_ENOMEM, .text = "out of memory"};
    struct hth_buf nodes = {0}, b;
    struct api_fault f;
    int rc = HTH_ENOMEM;

    hth_buf_init(&b, CLUSTER_BYTES_MAX);
    if (p != NULL && m != NULL) {
        if (read_nodes(a, &nodes, m))
            take_devices(p, &m->u.nodes);
        rc = make_plan(a, p, hth_http_query(x), &err);
    }
    if (rc == HTH_OK) {
        put_plan(a, p, &b);
        hth__api_reply_json(x, &b);
    } else {
        hth__api_fault(&f,
                       rc == HTH_ENOMEM ? "internal_error" : "invalid_value",
                       "shares", "%s", err.text);
        hth__api_reply_fault(x, SHAPE_OPENAI, &f);
        hth_buf_fini(&b);
    }
    hth_buf_fini(&nodes);
    free(p);
    free(m);
}

/* ---- a join line --------------------------------------------------------- */

/* What a page of another origin may not have, even where it may chat: with a
 * code a device becomes part of the cluster. */
static bool same_origin(struct hth_http_exchange *x)
{
    const char *origin = hth_http_header(x, "origin");
    const char *host = hth_http_header(x, "host");
    const char *rest = origin != NULL ? strstr(origin, "://") : NULL;

    return origin == NULL ||
           (rest != NULL && host != NULL && strcmp(rest + 3, host) == 0);
}

static void put_pair(const char *line, struct hth_buf *b, struct hth_err *err)
{
    struct hth_buf path;
    uint32_t size;

    hth_buf_init(&path, CLUSTER_BYTES_MAX);
    hth_put_u8(b, '{');
    hth_json_field(b, "object", "pair");
    hth_json_field(b, "command", line);
    hth_json_field_number(b, "expires_s", HTH_CODE_LIFE_S);
    if (hth_qr_path(line, &path, &size, err) == HTH_OK) {
        hth_json_key(b, "qr");
        hth_put_printf(b, "{\"size\":%u", size);
        hth_json_field(b, "path", hth_buf_cstr(&path));
        hth_put_u8(b, '}');
    }
    hth_put_u8(b, '}');
    hth_buf_fini(&path);
}

void hth__serve_pair(struct hth_api *a, struct hth_http_exchange *x)
{
    struct hth_err err = {0};
    struct hth_buf line, b;
    struct api_fault f;
    int rc;

    if (!same_origin(x)) {
        hth__api_fault(&f, "origin_not_allowed", NULL,
                       "only the console's own page may make join lines");
        hth__api_reply_fault(x, SHAPE_OPENAI, &f);
        return;
    }
    hth_buf_init(&line, VALUE_BYTES_MAX);
    rc = a->o.cluster.pair != NULL
             ? a->o.cluster.pair(a->o.cluster.ctx, &line, &err)
             : hth_fail(&err, HTH_EUNSUPPORTED,
                        "this coordinator takes no devices");
    if (rc == HTH_OK) {
        hth_buf_init(&b, CLUSTER_BYTES_MAX);
        put_pair(hth_buf_cstr(&line), &b, &err);
        hth__api_reply_json(x, &b);
    } else {
        hth__api_fault_from(&f, rc, err.text);
        hth__api_reply_fault(x, SHAPE_OPENAI, &f);
    }
    hth_buf_fini(&line);
}
