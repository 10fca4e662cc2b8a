/* cluster_open.c - putting a coordinator together and taking it apart.
 *
 * Order of opening: model, identity, loop, engine and helpers, listeners,
 * loop thread. Closing runs backwards; every step is fine with what was not
 * opened, so a failure anywhere closes what there is. */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "worker/packed_key.h"
#include "base/version.h"
#include "coordinator/cluster_loop.h"
#include "kernels/ops.h"

#define CTX_DEFAULT_MAX 8192u
#define CTX_LEAST 512u     /* of a context made shorter by itself */
#define CTX_MEMORY_PART 4u /* of the memory, for the cache of one */
#define WAIT_DEFAULT_MS 60000u
#define GRACE_DEFAULT_MS 10000u
#define SETTLE_MS 1500u
#define START_MS 3000u
#define RETRY_SHARES_MS 5000u
#define RETRY_AUTO_MS 3600000u
#define PORT_TRIES 16u

/* ---- the model ------------------------------------------------------------
 */

static int open_model(struct hth_cluster *c, struct hth_err *err)
{
    struct hth_chat_opts chat = {.quiet = true};
    struct hth_err why;
    int status;

    if ((status = hth_isa_init(err)) != HTH_OK ||
        (status = hth_gguf_open(&c->gguf, c->model_path, err)) != HTH_OK)
        return status;
    if ((status = hth_spec_read(&c->spec, c->gguf, err)) != HTH_OK)
        return hth_fail_prefix(err, status, "%s", c->model_path);
    status = hth_kv_check(c->opts.kv_type, c->spec.head_dim, err);
    if (status != HTH_OK)
        return status;
    hth_spec_shape(&c->spec, c->opts.kv_type, &c->shape);
    if (hth_tokenizer_open(&c->tokenizer, c->gguf, &why) != HTH_OK) {
        hth_log(HTH_LOG_WARN, "NO-TOKENIZER", "%s: prompts are refused",
                why.text);
        c->tokenizer = NULL;
    }
    chat.gguf = c->gguf;
    chat.tokenizer = c->tokenizer;
    if (c->tokenizer != NULL &&
        (status = hth_chat_open(&c->chat, &chat, err)) != HTH_OK)
        return status;
    c->ctx = c->opts.ctx;
    if (c->ctx == 0)
        c->ctx = c->spec.ctx_train < CTX_DEFAULT_MAX ? c->spec.ctx_train
                                                     : CTX_DEFAULT_MAX;
    if (c->ctx > HTH_CTX_MAX || c->ctx == 0)
        return hth_fail(err, HTH_EUSAGE,
                        "a context of %u is outside of 1 to %u", c->ctx,
                        HTH_CTX_MAX);
    return HTH_OK;
}

/* ---- who we are -----------------------------------------------------------
 */

static void on_paired(void *ctx, const struct hth_device *device)
{
    struct note n = {.kind = NOTE_PAIRED};

    (void)device;
    (void)hth__cluster_post(ctx, &n);
}

static int open_identity(struct hth_cluster *c, struct hth_err *err)
{
    char path[4096];
    int status;

    snprintf(path, sizeof path, "%.4000s/ca", c->state_dir);
    if ((status = hth_identity_open(&c->identity, c->state_dir, err)) ||
        (status = hth_local_make(c->state_dir, c->url, &c->lock_fd, err)) ||
        (status = hth_ca_open(&c->ca, path, err)) ||
        (status = hth_ca_enroll(c->ca, c->identity, err)))
        return status;
    snprintf(path, sizeof path, "%.4000s/devices.json", c->state_dir);
    return hth_registry_open(&c->registry, path, err);
}

/* ---- callbacks from other threads -----------------------------------------
 */

static void on_request(void *ctx, struct hth_control_call *call)
{
    struct note n = {.kind = NOTE_CALL, .call = call};

    if (!hth__cluster_post(ctx, &n))
        hth_control_drop(call);
}

static void on_gone(void *ctx, uint32_t pipe)
{
    struct note n = {.kind = NOTE_GONE, .pipe = pipe};

    (void)hth__cluster_post(ctx, &n);
}

static void on_link(void *ctx, struct hth_link *link)
{
    struct note n = {.kind = NOTE_LINK, .link = link};

    if (!hth__cluster_post(ctx, &n))
        hth_link_close(link);
}

static void on_lost(void *ctx, uint32_t rank, const struct hth_err *err)
{
    struct note n = {.kind = NOTE_LOST, .rank = rank, .err = *err};

    (void)hth__cluster_post(ctx, &n);
}

static void on_job(void *ctx, const struct hth_job *job,
                   const struct hth_err *err)
{
    struct note n = {.kind = NOTE_JOB, .job = *job, .err = *err};

    (void)hth__cluster_post(ctx, &n);
}

void hth__cluster_wake(void *arg)
{
    struct hth_cluster *c = arg;

    uv_async_send(&c->wake);
}

/* ---- what does the work ---------------------------------------------------
 */

static int open_workings(struct hth_cluster *c, struct hth_err *err)
{
    struct hth_engine_opts engine = {
        .gguf = c->gguf,
        .tokenizer = c->tokenizer,
        .threads = c->threads,
        .memory_bytes = c->memory_bytes,
        .store_dir = c->packed_dir[0] != '\0' ? c->packed_dir : NULL,
        .kv_dir = c->opts.kv_dir,
        .past_dir = c->state_dir != NULL ? c->past_dir : NULL,
        .parallel_max = c->opts.parallel_max,
        .waiting_max = c->opts.waiting_max,
        .lost = on_lost,
        .delivered = hth__cluster_delivered,
        .ctx = c};
    struct hth_weights_opts weights = {c->gguf, &c->spec, c->state_dir,
                                       &c->stop};
    struct hth_requests_opts requests = {.loop = &c->loop,
                                         .tokenizer = c->tokenizer,
                                         .chat = c->chat,
                                         .ctx = c->ctx,
                                         .ranks = &c->session.ranks,
                                         .wait_ms = c->opts.wait_ms,
                                         .wake = hth__cluster_wake,
                                         .arg = c};
    struct hth_jobs_opts jobs = {.done = on_job, .ctx = c};
    int status;

    if (c->state_dir != NULL)
        snprintf(c->past_dir, sizeof c->past_dir, "%.4000s/prefill",
                 c->state_dir);
    if ((status = hth__loop_init(c, err)) != HTH_OK ||
        (status = hth__lora_open(c, err)) != HTH_OK ||
        (status = hth_engine_open(&c->engine, &engine, err)) ||
        (status = hth_weights_open(&c->weights, &weights, err)) ||
        (status = hth_weights_open(&c->whole, &weights, err)))
        return status;
    requests.engine = c->engine;
    jobs.engine = c->engine;
    jobs.weights = c->weights;
    jobs.whole = c->whole;
    jobs.loras = c->loras;
    requests.loras = c->loras;
    if ((status = hth_requests_open(&c->requests, &requests, err)) != HTH_OK)
        return status;
    return hth_jobs_start(&c->jobs, &jobs, err);
}

/* ---- listening ------------------------------------------------------------
 */

static int listen_control(struct hth_cluster *c, uint16_t port,
                          struct hth_err *err)
{
    char url[HTH_HOST_MAX + 32];
    struct hth_control_point point = {url, c->identity, NULL};

    if (hth_control_tls_url(url, sizeof url,
                            c->bind != NULL ? c->bind : "0.0.0.0",
                            port) != HTH_OK)
        return hth_fail(err, HTH_EUSAGE, "not an address: %s", c->bind);
    return hth_control_listen(c->control, &point, NULL, err);
}

static int listen_data(struct hth_cluster *c, uint16_t port,
                       struct hth_err *err)
{
    struct hth_listen_opts o = {.host = c->bind,
                                .port = port,
                                .pairing = c->pairing,
                                .on_link = on_link,
                                .on_link_ctx = c};

    o.link.identity = c->identity;
    o.link.name = c->name;
    o.link.allowed = hth_registry_allowed;
    o.link.allowed_ctx = c->registry;
    o.link.admit = hth__session_admit;
    o.link.admit_ctx = c;
    return hth_listen_start(&c->listener, &o, err);
}

static int open_pairing(struct hth_cluster *c, uint16_t port,
                        struct hth_err *err)
{
    struct hth_pairing_opts o = {.ca = c->ca,
                                 .identity = c->identity,
                                 .registry = c->registry,
                                 .name = c->name,
                                 .control_port = (uint16_t)(port + 1),
                                 .data_port = port,
                                 .on_paired = on_paired,
                                 .on_paired_ctx = c};

    return hth_pairing_open(&c->pairing, &o, err);
}

static void close_ports(struct hth_cluster *c)
{
    hth_listen_stop(c->listener);
    c->listener = NULL;
    hth_pairing_close(c->pairing);
    c->pairing = NULL;
}

/* The data port first: a port in use shows there. NNG listeners of a socket
 * cannot be taken back, so control comes last. */
static int listen_on(struct hth_cluster *c, uint16_t port, struct hth_err *err)
{
    int status;

    if ((status = open_pairing(c, port, err)) == HTH_OK &&
        (status = listen_data(c, port, err)) == HTH_OK &&
        (status = listen_control(c, (uint16_t)(port + 1), err)) == HTH_OK) {
        c->port = port;
        return HTH_OK;
    }
    close_ports(c);
    return status;
}

/* An even port that was free a moment ago. */
static uint16_t some_port(void)
{
    uint16_t bits = 0;

    (void)!getrandom(&bits, sizeof bits, 0);
    return (uint16_t)(32768 + bits % 12000 * 2);
}

static int listen_somewhere(struct hth_cluster *c, struct hth_err *err)
{
    uint32_t tries;
    int status = HTH_EBUSY;

    if (c->opts.port == UINT16_MAX)
        return hth_fail(err, HTH_EUSAGE,
                        "port 65535 leaves no port for control (port + 1)");
    if (c->opts.port != 0)
        return listen_on(c, c->opts.port, err);
    for (tries = 0; tries < PORT_TRIES && status != HTH_OK; tries++)
        status = listen_on(c, some_port(), err);
    return status;
}

static int listen_local(struct hth_cluster *c, struct hth_err *err)
{
    struct hth_control_point inproc = {.url = c->inproc_url};
    struct hth_control_point ipc = {.url = c->url};
    int status;

    snprintf(c->inproc_url, sizeof c->inproc_url, "inproc://hearth-%p",
             (void *)c);
    status = hth_control_listen(c->control, &inproc, NULL, err);
    if (status != HTH_OK || c->opts.offline)
        return status;
    return hth_control_listen(c->control, &ipc, NULL, err);
}

static int open_sockets(struct hth_cluster *c, struct hth_err *err)
{
    struct hth_control_handler handler = {on_request, on_gone, c};
    int status;

    status = hth_control_server_open(&c->control, &handler, err);
    if (status == HTH_OK)
        status = listen_local(c, err);
    if (status == HTH_OK && !c->opts.offline)
        status = listen_somewhere(c, err);
    return status;
}

/* ---- options --------------------------------------------------------------
 */

static int copy_texts(struct hth_cluster *c, const struct hth_cluster_opts *o,
                      struct hth_err *err)
{
    char host[HTH_NAME_MAX] = "";

    c->model_path = strdup(o->model_path);
    c->bind = o->bind != NULL ? strdup(o->bind) : NULL;
    c->state_dir = o->state_dir != NULL ? strdup(o->state_dir) : NULL;
    if (c->model_path == NULL || (o->bind != NULL && c->bind == NULL) ||
        (o->state_dir != NULL && c->state_dir == NULL))
        return hth_fail(err, HTH_ENOMEM, "out of memory");
    if (gethostname(host, sizeof host - 1) != 0)
        host[0] = '\0';
    hth_name_clean(c->name, o->name != NULL ? o->name : host);
    return HTH_OK;
}

static int check_opts(const struct hth_cluster_opts *o, struct hth_err *err)
{
    if (o->share_count > HTH_RANKS_MAX)
        return hth_fail(err, HTH_EUSAGE, "%u shares, %u at most",
                        o->share_count, HTH_RANKS_MAX);
    if (o->offline && o->share_count > 1)
        return hth_fail(err, HTH_EUSAGE,
                        "one process cannot hold %u shares without a network",
                        o->share_count);
    if (!o->offline && o->state_dir == NULL)
        return hth_fail(err, HTH_EUSAGE,
                        "a coordinator needs a state "
                        "directory");
    return HTH_OK;
}

static void fill_rule(struct hth_cluster *c)
{
    const struct hth_cluster_opts *o = &c->opts;

    c->rule.share_count = o->offline ? 1 : o->share_count;
    c->rule.no_compute = o->no_compute;
    c->rule.settle_ms = SETTLE_MS;
    c->rule.start_ms = START_MS;
    c->rule.grace_ms = o->grace_ms > 0 ? o->grace_ms : GRACE_DEFAULT_MS;
    c->rule.retry_ms = o->share_count > 0 ? RETRY_SHARES_MS : RETRY_AUTO_MS;
    if (c->opts.wait_ms == 0)
        c->opts.wait_ms = WAIT_DEFAULT_MS;
    if (o->offline) {
        c->opts.share_count = 1;
        c->opts.shares[0] = 1;
    }
}

static int init_state(struct hth_cluster *c, const struct hth_cluster_opts *o,
                      struct hth_err *err)
{
    c->opts = *o;
    c->lock_fd = -1;
    pthread_mutex_init(&c->inbox.lock, NULL);
    pthread_mutex_init(&c->gate.lock, NULL);
    pthread_mutex_init(&c->shown.lock, NULL);
    pthread_cond_init(&c->shown.changed, NULL);
    c->started_ms = hth_now_ms();
    c->inbox.v = calloc(NOTES_MAX, sizeof *c->inbox.v);
    if (c->inbox.v == NULL)
        return hth_fail(err, HTH_ENOMEM, "out of memory");
    fill_rule(c);
    return copy_texts(c, o, err);
}

static void fill_machine(struct hth_cluster *c)
{
    c->threads = c->opts.threads > 0 ? c->opts.threads : hth_probe_cores();
    hth_probe_machine(&c->probe, c->threads, c->opts.profile_path);
    c->opts.profile_path = NULL;
    c->memory_bytes =
        c->opts.memory_bytes > 0 ? c->opts.memory_bytes : c->probe.memory_bytes;
}

/* Nobody said how long contexts must be: their cache leaves most of a small
 * memory to the weights. */
static void fit_ctx(struct hth_cluster *c)
{
    uint64_t each = c->shape.kv_cache_bytes * c->shape.kv_heads;
    uint64_t room = c->memory_bytes / CTX_MEMORY_PART;
    uint32_t before = c->ctx;

    if (c->opts.ctx != 0 || c->memory_bytes == 0 || each == 0)
        return;
    while (c->ctx > CTX_LEAST && each * c->ctx > room)
        c->ctx /= 2;
    if (c->ctx != before)
        hth_log(HTH_LOG_NOTICE, "SHORT-CONTEXT",
                "%u positions instead of %u, for lack of memory; --ctx says "
                "otherwise",
                c->ctx, before);
}

static int open_packed_dir(struct hth_cluster *c, struct hth_err *err)
{
    if (c->opts.store_dir == NULL)
        return HTH_OK;
    return hth_packed_dir(c->opts.store_dir, c->packed_dir,
                          sizeof c->packed_dir, err);
}

int hth_cluster_open(struct hth_cluster **out,
                     const struct hth_cluster_opts *opts, struct hth_err *err)
{
    struct hth_cluster *c;
    int status = check_opts(opts, err);

    if (status != HTH_OK)
        return status;
    c = calloc(1, sizeof *c);
    if (c == NULL)
        return hth_fail(err, HTH_ENOMEM, "out of memory");
    if ((status = init_state(c, opts, err)) == HTH_OK)
        status = open_model(c, err);
    if (status == HTH_OK && !opts->offline)
        status = open_identity(c, err);
    if (status == HTH_OK) {
        fill_machine(c);
        fit_ctx(c);
        status = open_packed_dir(c, err);
    }
    if (status == HTH_OK)
        status = open_workings(c, err);
    hth__cluster_know_devices(c);
    if (status == HTH_OK)
        status = open_sockets(c, err);
    if (status == HTH_OK && c->opts.http != NULL)
        status = hth__cluster_http_open(c, err);
    if (status == HTH_OK)
        status = hth__loop_start(c, err);
    if (status != HTH_OK) {
        hth_cluster_close(c);
        return status;
    }
    *out = c;
    return HTH_OK;
}

/* Nothing may call back into the loop when it ends: the listener, the jobs
 * and the engine are stopped while it still runs. */
void hth_cluster_close(struct hth_cluster *c)
{
    if (c == NULL)
        return;
    atomic_store(&c->stop, true);
    hth_api_quiet(c->api);
    hth__loop_quiet(c);
    hth_listen_stop(c->listener);
    hth_jobs_stop(c->jobs);
    hth_engine_close(c->engine);
    hth_api_close(c->api);
    hth__loop_end(c);
    hth_control_server_close(c->control);
    hth_requests_close(c->requests);
    hth_weights_close(c->weights);
    hth_weights_close(c->whole);
    hth_loras_close(c->loras);
    hth_pairing_close(c->pairing);
    hth_registry_close(c->registry);
    hth_ca_close(c->ca);
    hth_identity_close(c->identity);
    hth_local_remove(c->url, c->lock_fd);
    hth_chat_close(c->chat);
    hth_tokenizer_close(c->tokenizer);
    hth_gguf_close(c->gguf);
    pthread_mutex_destroy(&c->inbox.lock);
    pthread_mutex_destroy(&c->gate.lock);
    pthread_mutex_destroy(&c->shown.lock);
    pthread_cond_destroy(&c->shown.changed);
    hth_buf_fini(&c->shown.nodes);
    free(c->inbox.v);
    free(c->model_path);
    free(c->bind);
    free(c->state_dir);
    free(c);
}

/* ---- what serve prints ----------------------------------------------------
 */

/* The source address the kernel would use towards the outside; connecting a
 * datagram socket sends nothing. */
static bool outward_address(char *dst, size_t size)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
    struct sockaddr_in from = {0};
    socklen_t n = sizeof from;
    bool good;
    int fd;

    inet_pton(AF_INET, "192.0.2.1", &to.sin_addr); /* RFC 5737 */
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    good = connect(fd, (struct sockaddr *)&to, sizeof to) == 0 &&
           getsockname(fd, (struct sockaddr *)&from, &n) == 0 &&
           inet_ntop(AF_INET, &from.sin_addr, dst, (socklen_t)size) != NULL;
    close(fd);
    return good;
}

/* Without a route outward: any IPv4 address that is not loopback. */
static bool interface_address(char *dst, size_t size)
{
    struct ifaddrs *list, *a;
    bool good = false;

    if (getifaddrs(&list) != 0)
        return false;
    for (a = list; a != NULL && !good; a = a->ifa_next)
        if (a->ifa_addr != NULL && a->ifa_addr->sa_family == AF_INET &&
            (a->ifa_flags & IFF_LOOPBACK) == 0 && (a->ifa_flags & IFF_UP) != 0)
            good = inet_ntop(AF_INET,
                             &((struct sockaddr_in *)a->ifa_addr)->sin_addr,
                             dst, (socklen_t)size) != NULL;
    freeifaddrs(list);
    return good;
}

void hth__cluster_host(const struct hth_cluster *c, char *dst, size_t size)
{
    if (c->bind != NULL && strcmp(c->bind, "0.0.0.0") != 0 &&
        strcmp(c->bind, "::") != 0) {
        snprintf(dst, size, "%s", c->bind);
        return;
    }
    if (!outward_address(dst, size) && !interface_address(dst, size))
        snprintf(dst, size, "127.0.0.1");
}

void hth_cluster_describe(struct hth_cluster *c, struct hth_buf *out)
{
    char host[HTH_ADDRESS_MAX];

    hth_put_printf(out, "hearth %s\n", HTH_VERSION);
    hth_put_printf(out,
                   "model    %s (%s, %u layers, dim %u, %u/%u heads, "
                   "vocabulary %u, %.1f MB)\n",
                   c->model_path, c->spec.arch->name, c->spec.layers,
                   c->spec.dim, c->spec.heads, c->spec.kv_heads, c->spec.vocab,
                   (double)hth_gguf_file_bytes(c->gguf) / 1e6);
    hth_put_printf(out, "context  %u positions, kv %s\n", c->ctx,
                   c->opts.kv_type == HTH_F32   ? "f32"
                   : c->opts.kv_type == HTH_F16 ? "f16"
                                                : "q8_0");
    hth_put_printf(out, "compute  %u threads, %s, %.1f GB/s memory read\n",
                   c->threads, c->probe.isa, c->probe.read_bytes_per_s / 1e9);
    if (c->api != NULL)
        hth_put_printf(out,
                       "http     %s://%s:%u/ (console; the API is at /v1)\n",
                       c->http.tls_cert_path != NULL ? "https" : "http",
                       c->http.bind != NULL ? c->http.bind : "127.0.0.1",
                       hth_api_port(c->api));
    if (c->opts.offline)
        return;
    hth__cluster_host(c, host, sizeof host);
    hth_put_printf(out, "data     %s:%u (and pairing)\n", host, c->port);
    hth_put_printf(out, "control  %s:%u\n", host, c->port + 1u);
    hth_put_printf(out, "devices  %zu paired\n",
                   hth_registry_list(c->registry, NULL, 0));
}
