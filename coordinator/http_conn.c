/* http_conn.c - one connection: reading, the turns between requests, output
 * with a bound, time limits, closing.
 *
 * Input is parsed where it was read; only what belongs to a later request is
 * copied aside, so ten thousand idle connections cost their structs and no
 * buffers. While a request is served reading goes on, because a client that
 * leaves shows there. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/http_internal.h"

static void set_phase(struct conn *c, enum conn_phase phase)
{
    c->phase = phase;
    c->since_ms = hth_now_ms();
}

/* ---- closing ------------------------------------------------------------- */

static void on_closed(uv_handle_t *handle)
{
    struct conn *c = handle->data;

    hth_buf_fini(&c->ahead);
    hth__http_tls_close(c->tls);
    free(c);
}

void hth__conn_close(struct conn *c)
{
    struct hth_http *h = c->h;

    if (c->phase == CONN_CLOSED)
        return;
    if (c->x != NULL && c->phase == CONN_SERVING)
        hth__exchange_gone(c->x);
    else
        hth__exchange_free(c->x);
    c->x = NULL;
    c->phase = CONN_CLOSED;
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        h->conns = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    atomic_fetch_sub(&h->connections, 1);
    uv_close((uv_handle_t *)&c->tcp, on_closed);
}

static void on_shutdown(uv_shutdown_t *req, int status)
{
    (void)req;
    (void)status; /* the sweep or the client's own end closes */
}

/* Closing while the client still sends would make its kernel throw our answer
 * away: say that nothing more comes, and read on for a little while. */
void hth__conn_linger(struct conn *c)
{
    if (c->phase == CONN_CLOSED)
        return;
    set_phase(c, CONN_LINGER);
    if (c->tls != NULL)
        hth__http_tls_bye(c->tls, c);
    if (c->phase != CONN_CLOSED &&
        uv_shutdown(&c->shutdown, (uv_stream_t *)&c->tcp, on_shutdown) != 0)
        hth__conn_close(c);
}

/* ---- output -------------------------------------------------------------- */

struct output {
    uv_write_t req;
    struct conn *c;
    size_t n;
    char data[];
};

static void on_written(uv_write_t *req, int status)
{
    struct output *o = req->data;
    struct conn *c = o->c;

    c->queued -= o->n;
    c->moved_ms = hth_now_ms();
    free(o);
    if (status != 0)
        hth__conn_close(c);
}

static void queue(struct conn *c, const char *data, size_t n)
{
    struct output *o;
    uv_buf_t buf;

    if (c->queued + n > HTH_HTTP_OUTPUT_BYTES_MAX ||
        (o = malloc(sizeof *o + n)) == NULL) {
        hth_log(HTH_LOG_INFO, "HTTP-SLOW",
                "peer=%s queued_bytes=%zu: does not read its answer", c->peer,
                c->queued);
        hth__conn_close(c);
        return;
    }
    memcpy(o->data, data, n);
    o->c = c;
    o->n = n;
    o->req.data = o;
    if (c->queued == 0)
        c->moved_ms = hth_now_ms();
    c->queued += n;
    buf = uv_buf_init(o->data, (unsigned)n);
    if (uv_write(&o->req, (uv_stream_t *)&c->tcp, &buf, 1, on_written) != 0) {
        c->queued -= n;
        free(o);
        hth__conn_close(c);
    }
}

/* Straight into the socket as long as it takes everything: no copy, no
 * allocation. */
void hth__conn_send_raw(struct conn *c, const void *data, size_t n)
{
    uv_buf_t buf;
    int sent = 0;

    if (c->phase == CONN_CLOSED || n == 0)
        return;
    if (c->queued == 0) {
        buf = uv_buf_init((char *)(uintptr_t)data, (unsigned)n);
        sent = uv_try_write((uv_stream_t *)&c->tcp, &buf, 1);
        if (sent == UV_EAGAIN)
            sent = 0;
        if (sent < 0) {
            hth__conn_close(c);
            return;
        }
    }
    if ((size_t)sent < n)
        queue(c, (const char *)data + sent, n - (size_t)sent);
}

void hth__conn_send(struct conn *c, const void *data, size_t n)
{
    if (c->tls != NULL)
        hth__http_tls_send(c->tls, c, data, n);
    else
        hth__conn_send_raw(c, data, n);
}

/* ---- input --------------------------------------------------------------- */

static bool begin(struct conn *c)
{
    c->x = hth__exchange_new(c);
    if (c->x == NULL) {
        hth__conn_close(c);
        return false;
    }
    http_parser_init(&c->parser, HTTP_REQUEST);
    c->parser.data = c;
    c->complete = false;
    set_phase(c, CONN_HEAD);
    return true;
}

static void serve(struct conn *c)
{
    struct hth_http *h = c->h;

    c->x->expects = false;
    set_phase(c, CONN_SERVING);
    if (atomic_load(&h->quiet)) {
        c->close_after = true;
        hth__exchange_refuse(c->x, 503);
        return;
    }
    hth__http_serve(h, c->x);
}

static void refused(struct conn *c, int status)
{
    c->close_after = true;
    set_phase(c, CONN_SERVING);
    hth__exchange_refuse(c->x, status);
}

/* Empty lines between requests are passed over (RFC 9112, 2.2): they must not
 * begin one, or the wait for the next would count as a slow header. */
static size_t skip_lines(const char *p, size_t n)
{
    size_t at = 0;

    while (at < n && (p[at] == '\r' || p[at] == '\n'))
        at++;
    return at;
}

/* Parse until a request is whole or the bytes are; returns how many were
 * taken. */
static size_t take(struct conn *c, const char *p, size_t n)
{
    size_t at = 0, used;
    int status;

    if (c->phase == CONN_IDLE) {
        at = skip_lines(p, n);
        if (at == n || !begin(c))
            return n;
    }
    status = hth__exchange_parse(c, p + at, n - at, &used);
    if (status != 0) {
        refused(c, status);
        return n;
    }
    if (c->complete) {
        serve(c);
        return at + used;
    }
    if (c->phase == CONN_BODY && c->x->expects) {
        c->x->expects = false;
        hth__conn_send(c, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    }
    return n;
}

static bool can_take(const struct conn *c)
{
    return c->phase == CONN_IDLE || c->phase == CONN_HEAD ||
           c->phase == CONN_BODY;
}

static void set_aside(struct conn *c, const char *p, size_t n)
{
    if (n == 0 || c->phase == CONN_CLOSED || c->phase == CONN_LINGER)
        return;
    hth_put_bytes(&c->ahead, p, n);
    if (c->ahead.failed)
        hth__conn_close(c);
}

/* One request may be answered while it is taken, so this is a loop and no
 * recursion. */
void hth__conn_drive(struct conn *c)
{
    size_t used;

    if (c->driving)
        return;
    c->driving = true;
    while (can_take(c) && c->ahead.len > 0) {
        used = take(c, (const char *)c->ahead.data, c->ahead.len);
        memmove(c->ahead.data, c->ahead.data + used, c->ahead.len - used);
        c->ahead.len -= used;
    }
    c->driving = false;
    if (c->ahead.len == 0)
        hth_buf_fini(&c->ahead);
}

static void feed(void *ctx, const char *p, size_t n)
{
    struct conn *c = ctx;
    size_t used;

    if (c->ahead.len > 0) {
        set_aside(c, p, n);
        hth__conn_drive(c);
        return;
    }
    c->driving = true;
    while (n > 0 && can_take(c)) {
        used = take(c, p, n);
        p += used;
        n -= used;
    }
    c->driving = false;
    set_aside(c, p, n);
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
    struct conn *c = handle->data;

    (void)size;
    *buf = uv_buf_init(c->h->read, sizeof c->h->read);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct conn *c = stream->data;

    if (n < 0) {
        hth__conn_close(c);
        return;
    }
    if (n == 0 || c->phase == CONN_LINGER || c->phase == CONN_CLOSED)
        return;
    if (c->tls == NULL)
        feed(c, buf->base, (size_t)n);
    else if (hth__http_tls_feed(c->tls, c, buf->base, (size_t)n) != HTH_OK)
        hth__conn_close(c);
}

/* ---- accepting ----------------------------------------------------------- */

/* A full house: the connection that has waited longest without asking
 * anything gives way. */
static bool make_room(struct hth_http *h)
{
    uint32_t max =
        h->tls != NULL && h->o.connections_max > HTH_HTTP_TLS_CONNECTIONS_MAX
            ? HTH_HTTP_TLS_CONNECTIONS_MAX
            : h->o.connections_max;
    struct conn *c, *oldest = NULL;

    if (atomic_load(&h->connections) < max)
        return true;
    for (c = h->conns; c != NULL; c = c->next)
        if (c->phase != CONN_SERVING &&
            (oldest == NULL || c->since_ms < oldest->since_ms))
            oldest = c;
    if (oldest != NULL)
        hth__conn_close(oldest);
    return oldest != NULL;
}

static void name_peer(struct conn *c)
{
    struct sockaddr_storage a;
    int n = sizeof a;

    if (uv_tcp_getpeername(&c->tcp, (struct sockaddr *)&a, &n) != 0)
        return;
    if (a.ss_family == AF_INET6)
        uv_ip6_name((struct sockaddr_in6 *)&a, c->peer, sizeof c->peer);
    else
        uv_ip4_name((struct sockaddr_in *)&a, c->peer, sizeof c->peer);
}

static void drop(uv_handle_t *handle)
{
    free(handle->data);
}

static void link_conn(struct hth_http *h, struct conn *c)
{
    c->next = h->conns;
    if (h->conns != NULL)
        h->conns->prev = c;
    h->conns = c;
    atomic_fetch_add(&h->connections, 1);
}

void hth__conn_open(struct hth_http *h, uv_stream_t *listener)
{
    struct conn *c = calloc(1, sizeof *c);

    if (c == NULL)
        return;
    c->h = h;
    if (uv_tcp_init(&h->loop, &c->tcp) != 0) {
        free(c);
        return;
    }
    c->tcp.data = c;
    hth_buf_init(&c->ahead, HTH_HTTP_AHEAD_BYTES_MAX + HTTP_READ_BYTES);
    if (uv_accept(listener, (uv_stream_t *)&c->tcp) != 0 || !make_room(h) ||
        (h->tls != NULL &&
         hth__http_tls_open(&c->tls, h->tls, feed) != HTH_OK)) {
        uv_close((uv_handle_t *)&c->tcp, drop);
        return;
    }
    uv_tcp_nodelay(&c->tcp, 1);
    name_peer(c);
    link_conn(h, c);
    set_phase(c, CONN_IDLE);
    if (uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read) != 0)
        hth__conn_close(c);
}

/* ---- time limits --------------------------------------------------------- */

/* A request that comes too slowly is told so; one that never began is not
 * worth a word. */
void hth__conn_sweep(struct conn *c, uint64_t now_ms)
{
    const struct hth_http_opts *o = &c->h->o;
    uint64_t age_ms = now_ms - c->since_ms;

    if (c->queued > 0 && now_ms - c->moved_ms >= o->stall_ms)
        hth__conn_close(c);
    else if (c->phase == CONN_IDLE && age_ms >= o->idle_ms)
        hth__conn_close(c);
    else if (c->phase == CONN_LINGER && age_ms >= HTH_HTTP_LINGER_MS)
        hth__conn_close(c);
    else if ((c->phase == CONN_HEAD && age_ms >= o->head_ms) ||
             (c->phase == CONN_BODY && age_ms >= o->body_ms))
        refused(c, 408);
}
