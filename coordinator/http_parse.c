/* http_parse.c - bytes into an exchange: the glue around http-parser. Nothing
 * a client sends is believed beyond the bounds of base/limits.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "coordinator/http_internal.h"

/* ---- exchanges ----------------------------------------------------------- */

struct hth_http_exchange *hth__exchange_new(struct conn *c)
{
    struct hth_http_exchange *x = calloc(1, sizeof *x);

    if (x == NULL)
        return NULL;
    x->h = c->h;
    x->c = c;
    memcpy(x->peer, c->peer, sizeof x->peer);
    hth_buf_init(&x->head, 2 * HTH_HTTP_HEAD_BYTES_MAX);
    hth_buf_init(&x->body, HTH_HTTP_BODY_BYTES_MAX + 1);
    hth_buf_init(&x->extra, HTH_HTTP_HEAD_BYTES_MAX);
    x->begun_ns = hth_now_ns();
    c->h->exchanges++;
    return x;
}

void hth__exchange_free(struct hth_http_exchange *x)
{
    if (x == NULL)
        return;
    x->h->exchanges--;
    x->h->body_bytes -= x->counted;
    hth_buf_fini(&x->head);
    hth_buf_fini(&x->body);
    hth_buf_fini(&x->extra);
    free(x);
}

/* ---- http-parser's callbacks --------------------------------------------- */

static struct hth_http_exchange *of(http_parser *p)
{
    return ((struct conn *)p->data)->x;
}

static int refuse(struct hth_http_exchange *x, int status)
{
    if (x->refuse == 0)
        x->refuse = status;
    return 1;
}

static int on_url(http_parser *p, const char *at, size_t n)
{
    struct hth_http_exchange *x = of(p);

    if (memchr(at, '\0', n) != NULL)
        return refuse(x, 400);
    hth_put_bytes(&x->head, at, n);
    return x->head.failed ? refuse(x, 431) : 0;
}

/* A name that follows a value begins a new header; names and values may come
 * in pieces. Names are kept in lower case. */
static int on_name(http_parser *p, const char *at, size_t n)
{
    struct hth_http_exchange *x = of(p);
    size_t i;

    if (x->head_done)
        return 0; /* a trailer: nobody here asks for any */
    if (x->headers == 0 || x->in_value) {
        if (x->headers == HTH_HTTP_HEADERS_MAX)
            return refuse(x, 431);
        hth_put_u8(&x->head, 0);
        x->header[x->headers].name = (uint32_t)x->head.len;
        x->header[x->headers].value = 0;
        x->headers++;
        x->in_value = false;
    }
    for (i = 0; i < n; i++)
        hth_put_u8(&x->head, at[i] >= 'A' && at[i] <= 'Z'
                                 ? (uint8_t)(at[i] | 0x20)
                                 : (uint8_t)at[i]);
    return x->head.failed ? refuse(x, 431) : 0;
}

static int on_value(http_parser *p, const char *at, size_t n)
{
    struct hth_http_exchange *x = of(p);

    if (x->head_done)
        return 0;
    if (x->headers == 0)
        return refuse(x, 400);
    if (!x->in_value) {
        hth_put_u8(&x->head, 0);
        x->header[x->headers - 1].value = (uint32_t)x->head.len;
        x->in_value = true;
    }
    hth_put_bytes(&x->head, at, n);
    return x->head.failed ? refuse(x, 431) : 0;
}

static uint32_t count_of(const struct hth_http_exchange *x, const char *name)
{
    const char *head = (const char *)x->head.data;
    uint32_t i, n = 0;

    for (i = 0; i < x->headers; i++)
        n += strcmp(head + x->header[i].name, name) == 0;
    return n;
}

/* What the headers decide: the target, how the connection goes on, whether a
 * body may come. */
static int on_headers(http_parser *p)
{
    struct conn *c = p->data;
    struct hth_http_exchange *x = c->x;
    const char *expect;
    uint32_t i;

    hth_put_u8(&x->head, 0);
    if (x->head.failed)
        return refuse(x, 431);
    for (i = 0; i < x->headers; i++) /* one without a value points at a NUL */
        if (x->header[i].value == 0)
            x->header[i].value = (uint32_t)(x->head.len - 1);
    x->head_done = true;
    x->method = (uint8_t)p->method;
    x->head_only = p->method == HTTP_HEAD;
    x->http10 = p->http_major == 1 && p->http_minor == 0;
    x->keep_alive = http_should_keep_alive(p) != 0;
    p->upgrade = 0; /* an offer to upgrade may be passed over (RFC 9110, 7.8) */
    if (p->http_major != 1)
        return refuse(x, 505);
    if (!x->http10 && count_of(x, "host") != 1)
        return refuse(x, 400);
    if (hth__exchange_target(x) != 0)
        return refuse(x, 400);
    if ((p->flags & F_CONTENTLENGTH) != 0 &&
        p->content_length > HTH_HTTP_BODY_BYTES_MAX)
        return refuse(x, 413);
    expect = hth_http_header(x, "expect");
    if (expect != NULL && strcasecmp(expect, "100-continue") != 0)
        return refuse(x, 417);
    x->expects = expect != NULL && !x->http10;
    c->phase = CONN_BODY;
    c->since_ms = hth_now_ms();
    return 0;
}

static int on_body(http_parser *p, const char *at, size_t n)
{
    struct hth_http_exchange *x = of(p);

    if (x->body.len + n > HTH_HTTP_BODY_BYTES_MAX)
        return refuse(x, 413);
    if (x->h->body_bytes + n > HTH_HTTP_BODIES_BYTES_MAX)
        return refuse(x, 503);
    hth_put_bytes(&x->body, at, n);
    if (x->body.failed)
        return refuse(x, 503);
    x->counted += n;
    x->h->body_bytes += n;
    return 0;
}

static int on_complete(http_parser *p)
{
    struct conn *c = p->data;

    c->complete = true;
    http_parser_pause(p, 1);
    return 0;
}

int hth__exchange_parse(struct conn *c, const char *p, size_t n, size_t *used)
{
    static const http_parser_settings settings = {
        .on_url = on_url,
        .on_header_field = on_name,
        .on_header_value = on_value,
        .on_headers_complete = on_headers,
        .on_body = on_body,
        .on_message_complete = on_complete};
    enum http_errno e;

    *used = http_parser_execute(&c->parser, &settings, p, n);
    e = HTTP_PARSER_ERRNO(&c->parser);
    if (c->x->refuse != 0)
        return c->x->refuse;
    if (e == HPE_PAUSED && c->complete) {
        http_parser_pause(&c->parser, 0);
        /* Pausing in this callback leaves the last byte to be counted. */
        return 0;
    }
    if (e == HPE_OK)
        return 0;
    return e == HPE_HEADER_OVERFLOW ? 431 : 400;
}

/* ---- the target ---------------------------------------------------------- */

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decode in place; false for a broken escape or a NUL. */
static bool decode(char *s)
{
    char *to = s;

    for (; *s != '\0'; s++, to++) {
        if (*s != '%') {
            *to = *s;
            continue;
        }
        if (hex(s[1]) < 0 || hex(s[2]) < 0)
            return false;
        *to = (char)(hex(s[1]) << 4 | hex(s[2]));
        if (*to == '\0')
            return false;
        s += 2;
    }
    *to = '\0';
    return true;
}

int hth__exchange_target(struct hth_http_exchange *x)
{
    char *target = (char *)x->head.data, *path = target, *end;

    if (strncasecmp(path, "http://", 7) == 0 ||
        strncasecmp(path, "https://", 8) == 0) {
        path = strstr(path, "//") + 2;
        path += strcspn(path, "/?#");
    }
    path[strcspn(path, "#")] = '\0';
    end = strchr(path, '?');
    x->query = (uint32_t)(path + strlen(path) - target);
    if (end != NULL) {
        *end = '\0';
        x->query = (uint32_t)(end + 1 - target);
    }
    x->path = (uint32_t)(path - target);
    if (*path != '/' && strcmp(path, "*") != 0 && *path != '\0')
        return 400;
    return decode(path) ? 0 : 400;
}

/* ---- reading it ---------------------------------------------------------- */

const char *hth_http_method(const struct hth_http_exchange *x)
{
    return http_method_str((enum http_method)x->method);
}

const char *hth_http_path(const struct hth_http_exchange *x)
{
    const char *path = (const char *)x->head.data + x->path;

    return *path != '\0' ? path : "/";
}

const char *hth_http_query(const struct hth_http_exchange *x)
{
    return (const char *)x->head.data + x->query;
}

const char *hth_http_header(const struct hth_http_exchange *x, const char *name)
{
    const char *head = (const char *)x->head.data;
    uint32_t i;

    for (i = 0; i < x->headers; i++)
        if (strcmp(head + x->header[i].name, name) == 0)
            return head + x->header[i].value;
    return NULL;
}

const char *hth_http_body(const struct hth_http_exchange *x, size_t *n)
{
    *n = x->body.len;
    return x->body.len > 0 ? (const char *)x->body.data : "";
}

const char *hth_http_peer(const struct hth_http_exchange *x)
{
    return x->peer;
}

const char *hth_http_id(const struct hth_http_exchange *x)
{
    return x->id;
}
