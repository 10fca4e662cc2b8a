/* http_reply.c - answers: whole ones, streams, refusals, and the log line at
 * the end of each. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/http_internal.h"
#include "model/json_write.h"

#define HEAD_BYTES_MAX (HTH_HTTP_HEAD_BYTES_MAX + 1024u)

/* ---- heads --------------------------------------------------------------- */

static const char *reason(int status)
{
    switch (status) {
#define X(num, name, string) \
    case num:                \
        return #string;
        HTTP_STATUS_MAP(X)
#undef X
    default:
        return "Status";
    }
}

/* Made once a second. */
static const char *date(struct hth_http *h)
{
    uint64_t now_ms = hth_now_ms();
    time_t now = time(NULL);
    struct tm tm;

    if (h->date[0] != '\0' && now_ms - h->date_ms < 1000)
        return h->date;
    gmtime_r(&now, &tm);
    strftime(h->date, sizeof h->date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    h->date_ms = now_ms;
    return h->date;
}

static void put_head(struct hth_buf *b, struct hth_http_exchange *x,
                     const char *type)
{
    bool keep = x->keep_alive && !x->c->close_after;

    hth_put_printf(b, "HTTP/1.1 %d %s\r\nDate: %s\r\n", x->status,
                   reason(x->status), date(x->h));
    if (type != NULL)
        hth_put_printf(b, "Content-Type: %s\r\n", type);
    hth_put_printf(b, "X-Request-Id: %s\r\n", x->id);
    if (!keep)
        hth_put_printf(b, "Connection: close\r\n");
    else if (x->http10)
        hth_put_printf(b, "Connection: keep-alive\r\n");
    if (x->extra.len > 0)
        hth_put_bytes(b, x->extra.data, x->extra.len);
}

static bool one_line(const char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return false;
    return true;
}

void hth_http_add(struct hth_http_exchange *x, const char *name,
                  const char *value)
{
    if (one_line(value))
        hth_put_printf(&x->extra, "%s: %s\r\n", name, value);
}

/* ---- the end ------------------------------------------------------------- */

/* Paths are the client's bytes: what is no plain character is shown as '?'. */
static void log_line(const struct hth_http_exchange *x)
{
    char path[128];
    const char *from =
        x->head.failed || x->head.len == 0 ? "-" : hth_http_path(x);
    size_t i;

    for (i = 0; i + 1 < sizeof path && from[i] != '\0'; i++)
        path[i] = from[i] > 0x20 && from[i] < 0x7f ? from[i] : '?';
    path[i] = '\0';
    hth_log(HTH_LOG_INFO, "HTTP",
            "id=%s peer=%s method=%s path=%s status=%d bytes=%llu ms=%.1f%s",
            x->id, x->peer[0] != '\0' ? x->peer : "-", hth_http_method(x), path,
            x->status, (unsigned long long)x->sent_bytes,
            (double)(hth_now_ns() - x->begun_ns) / 1e6,
            x->c == NULL ? " client=gone" : "");
}

static void finish(struct hth_http_exchange *x, bool cut)
{
    struct conn *c = x->c;
    bool keep = x->keep_alive;

    log_line(x);
    hth__exchange_free(x);
    if (c == NULL || c->phase == CONN_CLOSED)
        return;
    c->x = NULL;
    if (cut) {
        hth__conn_close(c);
        return;
    }
    if (!keep || c->close_after) {
        hth__conn_linger(c);
        return;
    }
    c->phase = CONN_IDLE;
    c->since_ms = hth_now_ms();
    hth__conn_drive(c);
}

void hth__exchange_gone(struct hth_http_exchange *x)
{
    void (*fn)(void *ctx) = x->gone;

    x->c = NULL;
    x->gone = NULL;
    if (fn != NULL)
        fn(x->gone_ctx);
}

void hth_http_on_gone(struct hth_http_exchange *x, void (*fn)(void *ctx),
                      void *ctx)
{
    x->gone = fn;
    x->gone_ctx = ctx;
}

bool hth_http_gone(const struct hth_http_exchange *x)
{
    return x->c == NULL;
}

/* ---- answers ------------------------------------------------------------- */

static void put_out(struct hth_http_exchange *x, const void *data, size_t n)
{
    x->sent_bytes += n;
    hth__conn_send(x->c, data, n);
}

/* Head and body leave in one write where the body is small. */
void hth_http_reply(struct hth_http_exchange *x, int status, const char *type,
                    const void *body, size_t n)
{
    struct hth_buf b;

    x->status = status;
    x->gone = NULL;
    if (x->c == NULL) {
        finish(x, false);
        return;
    }
    hth_buf_init(&b, HEAD_BYTES_MAX + 16384);
    put_head(&b, x, n > 0 ? type : NULL);
    if (status != 204 && status != 304)
        hth_put_printf(&b, "Content-Length: %zu\r\n", n);
    hth_put_printf(&b, "\r\n");
    if (!x->head_only && n > 0 && n <= 16384)
        hth_put_bytes(&b, body, n);
    if (b.failed)
        x->c->close_after = true;
    else
        put_out(x, b.data, b.len);
    hth_buf_fini(&b);
    if (!x->head_only && n > 16384 && x->c != NULL)
        put_out(x, body, n);
    finish(x, false);
}

void hth_http_start(struct hth_http_exchange *x, int status, const char *type)
{
    struct hth_buf b;

    x->status = status;
    x->started = true;
    if (x->c == NULL)
        return;
    x->chunked = !x->http10;
    if (x->http10)
        x->keep_alive = false; /* the end of the connection is the end */
    hth_buf_init(&b, HEAD_BYTES_MAX);
    put_head(&b, x, type);
    if (x->chunked)
        hth_put_printf(&b, "Transfer-Encoding: chunked\r\n");
    hth_put_printf(&b, "\r\n");
    if (!b.failed)
        put_out(x, b.data, b.len);
    hth_buf_fini(&b);
}

void hth_http_write(struct hth_http_exchange *x, const void *data, size_t n)
{
    struct hth_buf b;

    if (x->c == NULL || n == 0 || x->head_only)
        return;
    if (!x->chunked) {
        put_out(x, data, n);
        return;
    }
    hth_buf_init(&b, n + 32);
    hth_put_printf(&b, "%zx\r\n", n);
    hth_put_bytes(&b, data, n);
    hth_put_bytes(&b, "\r\n", 2);
    if (b.failed)
        hth__conn_close(x->c);
    else
        put_out(x, b.data, b.len);
    hth_buf_fini(&b);
}

void hth_http_end(struct hth_http_exchange *x, bool cut)
{
    x->gone = NULL;
    if (x->c != NULL && x->chunked && !cut && !x->head_only)
        put_out(x, "0\r\n\r\n", 5);
    finish(x, cut);
}

/* ---- refusals ------------------------------------------------------------ */

static const char *why(int status)
{
    switch (status) {
    case 400:
        return "this is no HTTP/1.1 request";
    case 408:
        return "the request did not arrive in time";
    case 413:
        return "the body is too large";
    case 417:
        return "only \"Expect: 100-continue\" is understood";
    case 431:
        return "the headers are too large";
    case 505:
        return "only HTTP/1.1 is spoken here";
    default:
        return "the server cannot take this now; try again later";
    }
}

void hth__exchange_refuse(struct hth_http_exchange *x, int status)
{
    struct hth_buf b;

    if (x->id[0] == '\0')
        snprintf(x->id, sizeof x->id, "-");
    if (!x->head_done)
        hth_put_u8(&x->head, 0); /* it may end in the middle of a text */
    x->keep_alive = false;
    x->head_only = false;
    hth_buf_init(&b, 1024);
    hth_put_printf(&b, "{\"error\":{\"message\":");
    hth_json_cstr(&b, why(status));
    hth_put_printf(&b, ",\"type\":\"%s\",\"param\":null,\"code\":\"http_%d\"}}",
                   status < 500 ? "invalid_request_error" : "server_error",
                   status);
    if (status == 503)
        hth_http_add(x, "Retry-After", "1");
    hth_http_reply(x, status, "application/json", b.data, b.len);
    hth_buf_fini(&b);
}
