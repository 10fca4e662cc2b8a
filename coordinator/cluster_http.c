/* cluster_http.c - the HTTP service of a cluster: opening it, and what it may
 * know of the devices, which the loop publishes and HTTP's thread reads. */
#include <stdio.h>
#include <string.h>

#include "coordinator/cluster_loop.h"

#define LINE_BYTES_MAX 256u

/* The file's name without folder, end and part number: what clients type. */
static void name_model(struct hth_cluster *c)
{
    const char *base = strrchr(c->model_path, '/');
    size_t n;
    char *part;

    base = base != NULL ? base + 1 : c->model_path;
    snprintf(c->model_name, sizeof c->model_name, "%s",
             c->http.alias != NULL ? c->http.alias : base);
    n = strlen(c->model_name);
    if (c->http.alias != NULL || n < 6)
        return;
    if (strcmp(c->model_name + n - 5, ".gguf") == 0)
        c->model_name[n - 5] = '\0';
    part = strstr(c->model_name, "-00001-of-");
    if (part != NULL)
        *part = '\0';
}

/* ---- what it may ask ------------------------------------------------------
 */

static bool is_ready(void *ctx, uint64_t *plan, char *waiting, size_t size)
{
    struct hth_cluster *c = ctx;
    struct shown *s = &c->shown;
    bool ready;

    pthread_mutex_lock(&s->lock);
    ready = s->ready;
    *plan = s->plan;
    snprintf(waiting, size, "%s",
             s->failed.status != HTH_OK    ? s->failed.text
             : s->problem.status != HTH_OK ? s->problem.text
             : s->waiting[0] != '\0'       ? s->waiting
                                           : "loading the model");
    pthread_mutex_unlock(&s->lock);
    return ready;
}

static void copy_nodes(void *ctx, struct hth_buf *out)
{
    struct hth_cluster *c = ctx;

    pthread_mutex_lock(&c->shown.lock);
    hth_put_bytes(out, c->shown.nodes.data, c->shown.nodes.len);
    pthread_mutex_unlock(&c->shown.lock);
}

static int pair_line(void *ctx, struct hth_buf *line, struct hth_err *err)
{
    struct hth_cluster_code code;
    int status = hth_cluster_pair_code(ctx, &code, err);

    if (status == HTH_OK)
        hth_put_printf(line, "hearth worker --join %s:%u --code %s", code.host,
                       code.port, code.code);
    return status;
}

static uint64_t lost_count(void *ctx)
{
    struct hth_cluster *c = ctx;
    uint64_t n;

    pthread_mutex_lock(&c->shown.lock);
    n = c->shown.lost;
    pthread_mutex_unlock(&c->shown.lock);
    return n;
}

void hth__cluster_delivered(void *ctx)
{
    struct hth_cluster *c = ctx;

    if (c->api != NULL)
        hth_api_delivered(c->api);
}

/* ---- publishing -----------------------------------------------------------
 */

/* FNV-1a over the plan as ranks are told it: the same plan, the same sums in
 * the same order, the same text for a seed. */
static uint64_t plan_number(const struct hth_cluster *c)
{
    uint64_t h = 0xcbf29ce484222325u;
    struct hth_buf b;
    size_t i;

    hth_buf_init(&b, HTH_SESSION_BYTES_MAX);
    hth_plan_encode(&c->session.setup.plan, &b);
    hth_put_u32(&b, c->session.setup.wire_type);
    hth_put_u32(&b, c->session.setup.kv_type);
    for (i = 0; i < b.len; i++)
        h = (h ^ b.data[i]) * 0x100000001b3u;
    hth_buf_fini(&b);
    return h;
}

void hth__cluster_http_publish(struct hth_cluster *c)
{
    struct hth_msg m = {.type = HTH_MSG_NODES};
    struct hth_buf list;
    uint32_t i;

    hth_buf_init(&list, HTH_NODES_BYTES_MAX);
    hth__cluster_nodes(c, &m.u.nodes, &list);
    hth_buf_reset(&c->shown.nodes);
    hth_msg_encode(&c->shown.nodes, &m);
    hth_buf_fini(&list);
    c->shown.plan = plan_number(c);
    for (i = 0; i < c->members.count; i++) {
        bool is_lost = c->members.v[i].state == HTH_NODE_LOST;

        c->shown.lost += is_lost && !c->was_lost[i];
        c->was_lost[i] = is_lost;
    }
}

int hth__cluster_http_open(struct hth_cluster *c, struct hth_err *err)
{
    struct hth_api_opts o = {.gguf = c->gguf,
                             .spec = &c->spec,
                             .tokenizer = c->tokenizer,
                             .engine = c->engine,
                             .loras = c->loras,
                             .ctx = c->ctx,
                             .parallel = c->opts.parallel_max > 0
                                             ? c->opts.parallel_max
                                             : HTH_SEQS_MAX,
                             .kv_type = c->opts.kv_type,
                             .wire = c->opts.wire,
                             .model = c->model_name};

    c->http = *c->opts.http;
    name_model(c);
    hth_buf_init(&c->shown.nodes, HTH_NODES_BYTES_MAX + 4096);
    o.bind = c->http.bind;
    o.port = c->http.port;
    o.tls_cert_path = c->http.tls_cert_path;
    o.tls_key_path = c->http.tls_key_path;
    o.keys = c->http.keys;
    o.key_count = c->http.key_count;
    o.origins = c->http.origins;
    o.origin_count = c->http.origin_count;
    o.timeout_ms = c->http.timeout_ms;
    o.any_model = c->http.any_model;
    o.cluster.ready = is_ready;
    o.cluster.nodes = copy_nodes;
    o.cluster.pair = c->pairing != NULL ? pair_line : NULL;
    o.cluster.lost = lost_count;
    o.cluster.ctx = c;
    return hth_api_open(&c->api, &o, err);
}

uint16_t hth_cluster_http_port(const struct hth_cluster *c)
{
    return c->api != NULL ? hth_api_port(c->api) : 0;
}
