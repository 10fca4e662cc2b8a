/* http_test.c - the HTTP server byte by byte over real sockets: keep-alive,
 * pipelining, chunks both ways, limits, slow and vanished clients. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/http.h"
#include "coordinator/http_access.h"
#include "http_client.h"

static struct hth_http *g_http;
static atomic_int g_gone;
static struct hth_http_exchange *g_held; /* the loop thread's */

static void on_gone(void *ctx)
{
    (void)ctx;
    atomic_fetch_add(&g_gone, 1);
    hth_http_end(g_held, true);
}

static void echo(struct hth_http_exchange *x)
{
    size_t n;
    const char *body = hth_http_body(x, &n);

    hth_http_reply(x, 200, "text/plain", body, n);
}

static void tell(struct hth_http_exchange *x)
{
    char text[1024];
    int n = snprintf(text, sizeof text, "%s %s ?%s", hth_http_method(x),
                     hth_http_path(x), hth_http_query(x));

    hth_http_reply(x, 200, "text/plain", text, (size_t)n);
}

static void on_request(void *ctx, struct hth_http_exchange *x)
{
    const char *path = hth_http_path(x);
    static char big[3u << 20];

    (void)ctx;
    if (strcmp(path, "/echo") == 0) {
        echo(x);
    } else if (strcmp(path, "/stream") == 0) {
        hth_http_start(x, 200, "text/event-stream");
        hth_http_write(x, "one ", 4);
        hth_http_write(x, "two ", 4);
        hth_http_end(x, false);
    } else if (strcmp(path, "/cut") == 0) {
        hth_http_start(x, 200, "text/event-stream");
        hth_http_write(x, "one ", 4);
        hth_http_end(x, true);
    } else if (strcmp(path, "/big") == 0) {
        memset(big, 'b', sizeof big);
        hth_http_reply(x, 200, "text/plain", big, sizeof big);
    } else if (strcmp(path, "/hold") == 0) {
        g_held = x;
        hth_http_on_gone(x, on_gone, NULL);
        hth_http_start(x, 200, "text/plain");
    } else {
        tell(x);
    }
}

static void open_with(struct hth_http_opts o)
{
    struct hth_err err;

    hth_log_set_level(HTH_LOG_ERROR);
    o.on_request = on_request;
    cr_assert_eq(hth_http_open(&g_http, &o, &err), 0, "%s", err.text);
}

static void set_up(void)
{
    open_with((struct hth_http_opts){.head_ms = 30000});
}

static void tear_down(void)
{
    hth_http_close(g_http);
}

TestSuite(http, .init = set_up, .fini = tear_down, .timeout = 120);

static uint16_t port(void)
{
    return hth_http_port(g_http);
}

/* One request on a connection of its own, the whole answer. */
static const char *once(const char *request, struct hth_buf *b)
{
    int fd = client_open(port());
    const char *all;

    client_text(fd, request);
    all = client_all(fd, b);
    close(fd);
    return all;
}

static void expect(const char *request, int status, const char *part)
{
    struct hth_buf b;
    const char *all = once(request, &b);

    cr_assert_eq(client_status(all), status, "%.60s gives %.300s", request,
                 all);
    cr_assert_not_null(strstr(all, part), "%.60s gives %.300s", request, all);
    hth_buf_fini(&b);
}

#define CLOSE "Host: h\r\nConnection: close\r\n"

Test(http, targets)
{
    expect("GET /a%20b?c=%20 HTTP/1.1\r\n" CLOSE "\r\n", 200, "/a b ?c=%20");
    expect("GET http://h/x?y HTTP/1.1\r\n" CLOSE "\r\n", 200, "GET /x ?y");
    expect("GET /a%2 HTTP/1.1\r\n" CLOSE "\r\n", 400, "http_400");
    expect("GET /a%00b HTTP/1.1\r\n" CLOSE "\r\n", 400, "http_400");
    expect("GET / HTTP/1.0\r\n\r\n", 200, "Connection: close");
}

Test(http, malformed)
{
    expect("HELLO\r\n\r\n", 400, "invalid_request_error");
    expect("GET / HTTP/1.1\r\n\r\n", 400, "http_400"); /* no Host */
    expect("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "http_400");
    expect("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", 400,
           "http_400");
    expect("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n"
           "Content-Length: 4\r\n\r\nabcd",
           400, "http_400");
    expect("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
           "zz\r\n",
           400, "http_400");
    expect("POST / HTTP/1.1\r\nHost: h\r\nExpect: a miracle\r\n"
           "Content-Length: 3\r\n\r\n",
           417, "http_417");
    expect("GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505, "http_505");
}

Test(http, bodies)
{
    expect("POST /echo HTTP/1.1\r\n" CLOSE "Content-Length: 5\r\n\r\nhello",
           200, "\r\n\r\nhello");
    expect("POST /echo HTTP/1.1\r\n" CLOSE "Transfer-Encoding: chunked\r\n\r\n"
           "3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nTrailer: t\r\n\r\n",
           200, "\r\n\r\nhello");
    expect("POST /echo HTTP/1.1\r\n" CLOSE "Content-Length: 9000000\r\n\r\n",
           413, "http_413");
}

/* A chunked body has no length to refuse by: it is cut off when it gets too
 * long, and the client still hears why. */
Test(http, endless_chunks)
{
    struct hth_buf b;
    char *chunk = malloc(70000);
    int fd = client_open(port());

    memset(chunk, 'x', 70000);
    client_text(fd, "POST /echo HTTP/1.1\r\n" CLOSE
                    "Transfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 140; i++) {
        client_text(fd, "10000\r\n");
        client_send(fd, chunk, 65536);
        client_text(fd, "\r\n");
    }
    cr_assert_eq(client_status(client_all(fd, &b)), 413);
    hth_buf_fini(&b);
    close(fd);
    free(chunk);
}

Test(http, headers_have_a_bound)
{
    struct hth_buf request, b;
    int fd = client_open(port());

    hth_buf_init(&request, 1u << 20);
    hth_put_printf(&request, "GET / HTTP/1.1\r\nHost: h\r\n");
    for (int i = 0; i < 200; i++)
        hth_put_printf(&request, "X-%d: 1\r\n", i);
    client_text(fd, hth_buf_cstr(&request));
    cr_assert_eq(client_status(client_all(fd, &b)), 431);
    hth_buf_fini(&b);
    close(fd);
    hth_buf_reset(&request);
    hth_put_printf(&request, "GET / HTTP/1.1\r\nHost: h\r\nX: ");
    for (int i = 0; i < 60000; i++)
        hth_put_u8(&request, 'x');
    fd = client_open(port());
    client_text(fd, hth_buf_cstr(&request));
    cr_assert_eq(client_status(client_all(fd, &b)), 431);
    hth_buf_fini(&b);
    hth_buf_fini(&request);
    close(fd);
}

Test(http, keep_alive_and_pipelining)
{
    struct hth_buf b = {0};
    const char *all;
    int fd = client_open(port());

    client_text(fd, "GET /one HTTP/1.1\r\nHost: h\r\n\r\n");
    cr_assert_not_null(client_until(fd, &b, "/one ?"));
    client_text(fd, "\r\nPOST /echo HTTP/1.1\r\nHost: h\r\n"
                    "Content-Length: 3\r\n\r\nabcGET /two HTTP/1.1\r\n"
                    "Host: h\r\n\r\nGET /stream HTTP/1.1\r\n" CLOSE "\r\n");
    all = client_until(fd, &b, "two \r\n0\r\n\r\n");
    cr_assert_not_null(all);
    cr_assert_lt(strstr(all, "\r\n\r\nabc"), strstr(all, "/two ?"));
    cr_assert_lt(strstr(all, "/two ?"), strstr(all, "4\r\none \r\n"));
    hth_buf_fini(&b);
    close(fd);
}

/* The same requests one byte at a time. */
Test(http, any_cutting)
{
    static const char text[] =
        "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
        "GET /two?q HTTP/1.1\r\n" CLOSE "\r\n";
    struct hth_buf b;
    int fd = client_open(port()), one = 1;
    const char *all;

    setsockopt(fd, 6 /* TCP */, 1 /* NODELAY */, &one, sizeof one);
    for (size_t i = 0; i + 1 < sizeof text; i++)
        client_send(fd, text + i, 1);
    all = client_all(fd, &b);
    cr_assert_not_null(strstr(all, "\r\n\r\nabc"));
    cr_assert_not_null(strstr(all, "GET /two ?q"));
    hth_buf_fini(&b);
    close(fd);
}

Test(http, streams)
{
    expect("GET /stream HTTP/1.1\r\n" CLOSE "\r\n", 200,
           "4\r\none \r\n4\r\ntwo \r\n0\r\n\r\n");
    expect("GET /stream HTTP/1.0\r\n\r\n", 200, "\r\n\r\none two ");
}

/* A cut stream has no end: a client can tell. */
Test(http, a_cut_stream_shows)
{
    struct hth_buf b;
    const char *all = once("GET /cut HTTP/1.1\r\n" CLOSE "\r\n", &b);

    cr_assert_not_null(strstr(all, "one "));
    cr_assert_null(strstr(all, "0\r\n\r\n"));
    hth_buf_fini(&b);
}

Test(http, continue_100)
{
    struct hth_buf b = {0};
    int fd = client_open(port());

    client_text(fd, "POST /echo HTTP/1.1\r\n" CLOSE "Content-Length: 2\r\n"
                    "Expect: 100-continue\r\n\r\n");
    cr_assert_not_null(client_until(fd, &b, "100 Continue\r\n\r\n"));
    client_text(fd, "ok");
    cr_assert_not_null(client_until(fd, &b, "\r\n\r\nok"));
    hth_buf_fini(&b);
    close(fd);
}

Test(http, head_has_no_body)
{
    struct hth_buf b;
    const char *all = once("HEAD /x HTTP/1.1\r\n" CLOSE "\r\n", &b);

    cr_assert_eq(client_status(all), 200);
    cr_assert_not_null(strstr(all, "Content-Length: 9"));
    cr_assert_str_eq(strstr(all, "\r\n\r\n"), "\r\n\r\n");
    hth_buf_fini(&b);
}

Test(http, ids_are_echoed_when_harmless)
{
    expect("GET / HTTP/1.1\r\n" CLOSE "X-Request-Id: my-id.7\r\n\r\n", 200,
           "X-Request-Id: my-id.7\r\n");
    expect("GET / HTTP/1.1\r\n" CLOSE "X-Request-Id: <b>\r\n\r\n", 200,
           "X-Request-Id: req-");
}

Test(http, large_answers_arrive)
{
    struct hth_buf b;
    const char *all = once("GET /big HTTP/1.1\r\n" CLOSE "\r\n", &b);

    cr_assert_eq(strlen(strstr(all, "\r\n\r\n") + 4), 3u << 20);
    hth_buf_fini(&b);
}

static void wait_for(atomic_int *what, int value)
{
    for (int i = 0; i < 2000 && atomic_load(what) < value; i++)
        hth_sleep_ms(10);
    cr_assert_geq(atomic_load(what), value);
}

Test(http, a_client_that_leaves_is_told_of)
{
    struct hth_buf b = {0};
    int fd = client_open(port());

    client_text(fd, "GET /hold HTTP/1.1\r\nHost: h\r\n\r\n");
    cr_assert_not_null(client_until(fd, &b, "\r\n\r\n"));
    close(fd);
    wait_for(&g_gone, 1);
    hth_buf_fini(&b);
}

/* What keeps coming while one is served is bounded. */
Test(http, flood_behind_a_held_request)
{
    struct hth_buf b = {0};
    char *junk = calloc(1, 1u << 20);
    int fd = client_open(port());

    client_text(fd, "GET /hold HTTP/1.1\r\nHost: h\r\n\r\n");
    cr_assert_not_null(client_until(fd, &b, "\r\n\r\n"));
    client_send(fd, junk, 1u << 20);
    wait_for(&g_gone, 1);
    hth_buf_fini(&b);
    close(fd);
    free(junk);
}

/* ---- time and numbers -----------------------------------------------------
 */

Test(http_slow, told_and_closed, .timeout = 120)
{
    struct hth_buf b;
    int head, body, idle;

    open_with(
        (struct hth_http_opts){.head_ms = 200, .body_ms = 200, .idle_ms = 200});
    head = client_open(port());
    body = client_open(port());
    idle = client_open(port());
    client_text(head, "GET / HTTP/1.1\r\nX: ");
    client_text(body, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n"
                      "\r\nabc");
    cr_assert_eq(client_status(client_all(head, &b)), 408);
    hth_buf_fini(&b);
    cr_assert_eq(client_status(client_all(body, &b)), 408);
    hth_buf_fini(&b);
    cr_assert_str_eq(client_all(idle, &b), "", "idle ones get no word");
    hth_buf_fini(&b);
    close(head);
    close(body);
    close(idle);
    tear_down();
}

/* A full house: who has been silent longest gives way to who asks. */
Test(http_slow, room_for_who_asks, .timeout = 120)
{
    struct hth_buf b;
    int idle[8];

    open_with((struct hth_http_opts){.connections_max = 8});
    for (int i = 0; i < 8; i++)
        idle[i] = client_open(port());
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(client_status(client_get(port(), "/x", &b)), 200);
        hth_buf_fini(&b);
    }
    cr_assert_leq(hth_http_connections(g_http), 8);
    for (int i = 0; i < 8; i++)
        close(idle[i]);
    tear_down();
}

Test(http_slow, port_in_use)
{
    struct hth_http_opts o = {.on_request = on_request};
    struct hth_http *second;
    struct hth_err err;

    open_with((struct hth_http_opts){.port = 0});
    o.port = port();
    cr_assert_eq(hth_http_open(&second, &o, &err), HTH_EBUSY);
    cr_assert_not_null(strstr(err.text, "--http-port"));
    o = (struct hth_http_opts){.bind = "nowhere", .on_request = on_request};
    cr_assert_eq(hth_http_open(&second, &o, &err), HTH_EUSAGE);
    tear_down();
}

/* ---- who may ask ----------------------------------------------------------
 */

Test(http_access, keys)
{
    static const char *const v[] = {"one", "two"};
    struct hth_texts keys = {v, 2};

    cr_assert(hth_access_key(&keys, "two"));
    cr_assert_not(hth_access_key(&keys, "tw"));
    cr_assert_not(hth_access_key(&keys, ""));
    cr_assert_not(hth_access_key(&keys, NULL));
    cr_assert_str_eq(hth_access_bearer("bEARER  k"), "k");
    cr_assert_null(hth_access_bearer("Basic k"));
    cr_assert_null(hth_access_bearer(NULL));
}

Test(http_access, origins)
{
    static const char *const v[] = {"https://chat.example"};
    static const char *const star[] = {"*"};
    struct hth_texts none = {NULL, 0}, one = {v, 1}, all = {star, 1};

    cr_assert(hth_access_origin(&none, "http://localhost:3000"));
    cr_assert(hth_access_origin(&none, "https://127.0.0.1"));
    cr_assert(hth_access_origin(&none, "http://[::1]:80"));
    cr_assert(hth_access_origin(&none, "tauri://localhost"));
    cr_assert_not(hth_access_origin(&none, "https://evil.example"));
    cr_assert_not(hth_access_origin(&none, "http://localhost.evil.example"));
    cr_assert_not(hth_access_origin(&none, "http://localhost:80.evil"));
    cr_assert_not(hth_access_origin(&none, "null"));
    cr_assert(hth_access_origin(&one, "https://chat.example"));
    cr_assert_not(hth_access_origin(&one, "https://chat.example.evil"));
    cr_assert(hth_access_origin(&all, "https://evil.example"));
}
