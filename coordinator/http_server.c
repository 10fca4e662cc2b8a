/* http_server.c - the server's life: binding, the loop thread, the ticks, the
 * orderly end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/http_internal.h"

#define TICK_MS 100u
#define BACKLOG 1024
#define LAST_WORDS_MS 500u

/* ---- requests ------------------------------------------------------------ */

/* The client's own id where it sent a usable one, else ours: unguessable at
 * the front, counting at the end. */
static void name_exchange(struct hth_http *h, struct hth_http_exchange *x)
{
    const char *given = hth_http_header(x, "x-request-id");
    size_t n = given != NULL ? strlen(given) : 0;

    if (n > 0 && n < sizeof x->id &&
        strspn(given, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                      "0123456789-_.:") == n) {
        memcpy(x->id, given, n + 1);
        return;
    }
    snprintf(x->id, sizeof x->id, "req-%08llx%08llx",
             (unsigned long long)(h->id_base & 0xffffffffu),
             (unsigned long long)++h->next_id);
}

void hth__http_serve(struct hth_http *h, struct hth_http_exchange *x)
{
    name_exchange(h, x);
    h->o.on_request(h->o.ctx, x);
}

/* ---- the loop ------------------------------------------------------------ */

static void on_connection(uv_stream_t *listener, int status)
{
    if (status == 0)
        hth__conn_open(listener->data, listener);
}

static void close_listener(struct hth_http *h)
{
    if (h->listening && !uv_is_closing((uv_handle_t *)&h->listener))
        uv_close((uv_handle_t *)&h->listener, NULL);
}

static void end_when_done(struct hth_http *h)
{
    if (!atomic_load(&h->stop) || h->exchanges > 0 || h->conns != NULL ||
        uv_is_closing((uv_handle_t *)&h->timer))
        return;
    uv_close((uv_handle_t *)&h->timer, NULL);
    uv_close((uv_handle_t *)&h->wake, NULL);
    uv_close((uv_handle_t *)&h->order, NULL);
}

/* quiet and stop are flags that this looks at. */
static void on_order(uv_async_t *order)
{
    struct hth_http *h = order->data;
    struct conn *c, *next;

    if (atomic_load(&h->quiet))
        close_listener(h);
    if (!atomic_load(&h->stop))
        return;
    for (c = h->conns; c != NULL; c = next) {
        next = c->next;
        hth__conn_close(c);
    }
    end_when_done(h);
}

static void on_wake(uv_async_t *wake)
{
    struct hth_http *h = wake->data;

    if (h->o.on_wake != NULL)
        h->o.on_wake(h->o.ctx);
    end_when_done(h);
}

static void on_timer(uv_timer_t *timer)
{
    struct hth_http *h = timer->data;
    uint64_t now_ms = hth_now_ms();
    struct conn *c, *next;

    for (c = h->conns; c != NULL; c = next) {
        next = c->next;
        hth__conn_sweep(c, now_ms);
    }
    if (h->o.on_tick != NULL)
        h->o.on_tick(h->o.ctx, now_ms);
    end_when_done(h);
}

static void *loop_main(void *arg)
{
    struct hth_http *h = arg;

    uv_run(&h->loop, UV_RUN_DEFAULT);
    return NULL;
}

/* ---- opening ------------------------------------------------------------- */

static int address(const struct hth_http_opts *o, struct sockaddr_storage *out,
                   struct hth_err *err)
{
    const char *host = o->bind != NULL ? o->bind : "127.0.0.1";

    if (strcmp(host, "localhost") == 0)
        host = "127.0.0.1";
    if (uv_ip4_addr(host, o->port, (struct sockaddr_in *)out) != 0 &&
        uv_ip6_addr(host, o->port, (struct sockaddr_in6 *)out) != 0)
        return hth_fail(err, HTH_EUSAGE,
                        "%s is no address to listen on for HTTP (like "
                        "127.0.0.1 or 0.0.0.0)",
                        host);
    return HTH_OK;
}

static int listen_on(struct hth_http *h, struct hth_err *err)
{
    struct sockaddr_storage a = {0};
    int n = sizeof a, rv, status = address(&h->o, &a, err);

    if (status != HTH_OK)
        return status;
    if ((rv = uv_tcp_init(&h->loop, &h->listener)) != 0)
        return hth_fail(err, HTH_EIO, "http: %s", uv_strerror(rv));
    h->listening = true;
    h->listener.data = h;
    if ((rv = uv_tcp_bind(&h->listener, (struct sockaddr *)&a, 0)) != 0 ||
        (rv = uv_listen((uv_stream_t *)&h->listener, BACKLOG, on_connection)) !=
            0)
        return hth_fail(err, rv == UV_EADDRINUSE ? HTH_EBUSY : HTH_EIO,
                        "http: cannot listen on %s port %u: %s; choose another "
                        "with --http-port",
                        h->o.bind != NULL ? h->o.bind : "127.0.0.1", h->o.port,
                        uv_strerror(rv));
    uv_tcp_getsockname(&h->listener, (struct sockaddr *)&a, &n);
    h->port =
        ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&a)->sin6_port
                                      : ((struct sockaddr_in *)&a)->sin_port);
    return HTH_OK;
}

/* Ten thousand connections need as many descriptors as we may have. */
static void raise_descriptors(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) != 0 || r.rlim_cur == r.rlim_max)
        return;
    r.rlim_cur = r.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &r);
}

static void fill_limits(struct hth_http_opts *o)
{
    if (o->connections_max == 0)
        o->connections_max = HTH_HTTP_CONNECTIONS_MAX;
    if (o->head_ms == 0)
        o->head_ms = HTH_HTTP_HEAD_MS;
    if (o->body_ms == 0)
        o->body_ms = HTH_HTTP_BODY_MS;
    if (o->idle_ms == 0)
        o->idle_ms = HTH_HTTP_IDLE_MS;
    if (o->stall_ms == 0)
        o->stall_ms = HTH_HTTP_STALL_MS;
}

static int init_loop(struct hth_http *h, struct hth_err *err)
{
    int rv = uv_loop_init(&h->loop);

    if (rv != 0)
        return hth_fail(err, HTH_EIO, "http: %s", uv_strerror(rv));
    uv_async_init(&h->loop, &h->wake, on_wake);
    uv_async_init(&h->loop, &h->order, on_order);
    uv_timer_init(&h->loop, &h->timer);
    uv_timer_start(&h->timer, on_timer, TICK_MS, TICK_MS);
    h->wake.data = h->order.data = h->timer.data = h;
    return HTH_OK;
}

/* What the loop holds, when its thread never ran. */
static void unwind(struct hth_http *h)
{
    close_listener(h);
    atomic_store(&h->stop, true);
    end_when_done(h);
    uv_run(&h->loop, UV_RUN_DEFAULT);
    uv_loop_close(&h->loop);
    hth__http_tls_setup_close(h->tls);
    free(h);
}

int hth_http_open(struct hth_http **out, const struct hth_http_opts *opts,
                  struct hth_err *err)
{
    struct hth_http *h = calloc(1, sizeof *h);
    int status;

    if (h == NULL)
        return hth_fail(err, HTH_ENOMEM, "http: out of memory");
    h->o = *opts;
    fill_limits(&h->o);
    raise_descriptors();
    http_parser_set_max_header_size(HTH_HTTP_HEAD_BYTES_MAX);
    (void)!getrandom(&h->id_base, sizeof h->id_base, 0);
    if ((status = init_loop(h, err)) != HTH_OK) {
        free(h);
        return status;
    }
    if (opts->tls_cert_path != NULL || opts->tls_key_path != NULL)
        status = hth__http_tls_setup_open(&h->tls, opts->tls_cert_path,
                                          opts->tls_key_path, err);
    if (status == HTH_OK)
        status = listen_on(h, err);
    if (status == HTH_OK && pthread_create(&h->thread, NULL, loop_main, h) != 0)
        status = hth_fail(err, HTH_ENOMEM, "http: cannot start a thread");
    if (status != HTH_OK) {
        unwind(h);
        return status;
    }
    h->running = true;
    *out = h;
    return HTH_OK;
}

void hth_http_quiet(struct hth_http *h)
{
    if (h == NULL)
        return;
    atomic_store(&h->quiet, true);
    uv_async_send(&h->order);
}

/* Those who are told that this is the end hear it. */
void hth_http_close(struct hth_http *h)
{
    uint32_t waited_ms;

    if (h == NULL)
        return;
    hth_http_quiet(h);
    for (waited_ms = 0;
         atomic_load(&h->exchanges) > 0 && waited_ms < LAST_WORDS_MS;
         waited_ms += 10)
        hth_sleep_ms(10);
    atomic_store(&h->stop, true);
    uv_async_send(&h->order);
    pthread_join(h->thread, NULL);
    uv_loop_close(&h->loop);
    hth__http_tls_setup_close(h->tls);
    free(h);
}

uint16_t hth_http_port(const struct hth_http *h)
{
    return h->port;
}

bool hth_http_encrypted(const struct hth_http *h)
{
    return h->tls != NULL;
}

void hth_http_wake(struct hth_http *h)
{
    uv_async_send(&h->wake);
}

uv_loop_t *hth_http_loop(struct hth_http *h)
{
    return &h->loop;
}

uint32_t hth_http_connections(const struct hth_http *h)
{
    return atomic_load(&((struct hth_http *)(uintptr_t)h)->connections);
}
