/* control_test.c - NNG sockets by inproc and ipc: answers, parked calls,
 * lost requests, interruption, bounds. TLS is cluster_test.c's business. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/control.h"

/* A server whose behaviour is chosen by the request's type. */
struct echo {
    struct hth_control_server *server;
    struct hth_control_call *parked;
    pthread_mutex_t lock;
    atomic_uint requests, gone;
    bool local;
};

static void answer(struct hth_control_call *call, uint64_t id)
{
    struct hth_msg m = {.type = HTH_MSG_ACCEPTED, .u.id.id = id};
    struct hth_buf b;

    hth_buf_init(&b, 1024);
    hth_msg_encode(&b, &m);
    hth_control_reply(call, &b);
    hth_buf_fini(&b);
}

static void on_request(void *ctx, struct hth_control_call *call)
{
    struct echo *e = ctx;
    struct hth_blob body = hth_control_body(call);
    uint32_t n = atomic_fetch_add(&e->requests, 1);
    struct hth_msg m;

    e->local = hth_control_local(call);
    if (hth_msg_decode(&m, body.p, body.n, NULL) != HTH_OK ||
        (m.type == HTH_MSG_PAIR && n == 0)) {
        hth_control_drop(call);
        return;
    }
    if (m.type == HTH_MSG_NEXT) {
        pthread_mutex_lock(&e->lock);
        e->parked = call;
        pthread_mutex_unlock(&e->lock);
        return;
    }
    answer(call, m.type == HTH_MSG_CANCEL ? m.u.id.id + 1 : n);
}

static void on_gone(void *ctx, uint32_t pipe)
{
    struct echo *e = ctx;

    (void)pipe;
    atomic_fetch_add(&e->gone, 1);
}

static void echo_open(struct echo *e, const char *url)
{
    struct hth_control_handler h = {on_request, on_gone, e};
    struct hth_control_point point = {.url = url};
    struct hth_err err;

    memset(e, 0, sizeof *e);
    pthread_mutex_init(&e->lock, NULL);
    cr_assert_eq(hth_control_server_open(&e->server, &h, &err), HTH_OK);
    cr_assert_eq(hth_control_listen(e->server, &point, NULL, &err), HTH_OK,
                 "%s", err.text);
}

static struct hth_control_call *wait_parked(struct echo *e)
{
    struct hth_control_call *call = NULL;
    int i;

    for (i = 0; i < 400 && call == NULL; i++) {
        pthread_mutex_lock(&e->lock);
        call = e->parked;
        e->parked = NULL;
        pthread_mutex_unlock(&e->lock);
        hth_sleep_ms(5);
    }
    cr_assert_not_null(call);
    return call;
}

static struct hth_control_client *client_open(const char *url)
{
    struct hth_control_point point = {.url = url};
    struct hth_control_client *c;

    cr_assert_eq(hth_control_client_open(&c, &point, NULL), HTH_OK);
    return c;
}

static uint64_t ask_id(struct hth_control_slot *s, uint64_t id)
{
    struct hth_msg ask = {.type = HTH_MSG_CANCEL, .u.id.id = id}, got;
    struct hth_err err;

    cr_assert_eq(hth_control_ask(s, &ask, HTH_MSG_ACCEPTED, &got, &err), HTH_OK,
                 "%s", err.text);
    return got.u.id.id;
}

static void talk(const char *url)
{
    struct hth_control_client *c;
    struct hth_control_slot *s, *t;
    struct echo e;
    uint64_t i;

    echo_open(&e, url);
    c = client_open(url);
    cr_assert_eq(hth_control_slot_open(&s, c, NULL), HTH_OK);
    cr_assert_eq(hth_control_slot_open(&t, c, NULL), HTH_OK);
    for (i = 0; i < 50; i++) {
        cr_assert_eq(ask_id(s, i), i + 1);
        cr_assert_eq(ask_id(t, i * 3), i * 3 + 1);
    }
    cr_assert(e.local && hth_control_connected(c));
    hth_control_slot_close(s);
    hth_control_slot_close(t);
    hth_control_client_close(c);
    for (i = 0; i < 400 && atomic_load(&e.gone) == 0; i++)
        hth_sleep_ms(5);
    cr_assert_eq(atomic_load(&e.gone), 1);
    hth_control_server_close(e.server);
}

Test(control, inproc)
{
    talk("inproc://control-test");
}

Test(control, ipc)
{
    char path[64], url[96];

    snprintf(path, sizeof path, "/tmp/hearth-ctl-%d.sock", (int)getpid());
    snprintf(url, sizeof url, "ipc://%s", path);
    talk(url);
    unlink(path);
}

Test(control, socket_file_is_private)
{
    char path[64], url[96];
    struct stat st;
    struct echo e;

    snprintf(path, sizeof path, "/tmp/hearth-prv-%d.sock", (int)getpid());
    snprintf(url, sizeof url, "ipc://%s", path);
    echo_open(&e, url);
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq(st.st_mode & 0777, 0600);
    hth_control_server_close(e.server);
    unlink(path);
}

/* A parked call holds up nobody, also not on the same connection. */
Test(control, parked_calls_do_not_block)
{
    struct hth_msg ask = {.type = HTH_MSG_NEXT}, got;
    struct hth_control_slot *s, *t;
    struct hth_control_call *call;
    struct hth_control_client *c;
    struct hth_blob body;
    struct hth_buf b;
    struct echo e;

    echo_open(&e, "inproc://parked");
    c = client_open("inproc://parked");
    cr_assert_eq(hth_control_slot_open(&s, c, NULL), HTH_OK);
    cr_assert_eq(hth_control_slot_open(&t, c, NULL), HTH_OK);
    hth_buf_init(&b, 1024);
    hth_msg_encode(&b, &ask);
    cr_assert_eq(hth_control_send(s, &b, 4000, NULL), HTH_OK);
    call = wait_parked(&e);
    cr_assert_eq(ask_id(t, 5), 6);
    answer(call, 123);
    cr_assert_eq(hth_control_wait(s, &body, NULL), HTH_OK);
    cr_assert_eq(hth_msg_decode(&got, body.p, body.n, NULL), HTH_OK);
    cr_assert_eq(got.u.id.id, 123);
    hth_buf_fini(&b);
    hth_control_slot_close(s);
    hth_control_slot_close(t);
    hth_control_client_close(c);
    hth_control_server_close(e.server);
}

/* Dropped once, sent again after HTH_RESEND_MS, answered. */
Test(control, resends)
{
    struct hth_msg ask = {.type = HTH_MSG_PAIR}, got;
    struct hth_control_client *c;
    struct hth_control_slot *s;
    struct echo e;

    echo_open(&e, "inproc://resend");
    c = client_open("inproc://resend");
    cr_assert_eq(hth_control_slot_open(&s, c, NULL), HTH_OK);
    cr_assert_eq(hth_control_ask(s, &ask, HTH_MSG_ACCEPTED, &got, NULL),
                 HTH_OK);
    cr_assert_geq(atomic_load(&e.requests), 2u);
    hth_control_slot_close(s);
    hth_control_client_close(c);
    hth_control_server_close(e.server);
}

Test(control, nobody_there)
{
    struct hth_msg ask = {.type = HTH_MSG_LIST};
    struct hth_control_client *c = client_open("ipc:///tmp/no-such-hearth");
    struct hth_control_slot *s;
    struct hth_blob body;
    struct hth_buf b;
    uint64_t start = hth_now_ms();

    cr_assert_eq(hth_control_slot_open(&s, c, NULL), HTH_OK);
    hth_buf_init(&b, 64);
    hth_msg_encode(&b, &ask);
    cr_assert_eq(hth_control_send(s, &b, 200, NULL), HTH_OK);
    cr_assert_eq(hth_control_wait(s, &body, NULL), HTH_ETIMEDOUT);
    cr_assert_lt(hth_now_ms() - start, 2000u);
    hth_control_interrupt(c);
    cr_assert_eq(hth_control_send(s, &b, 60000, NULL), HTH_OK);
    cr_assert_eq(hth_control_wait(s, &body, NULL), HTH_ECANCELLED);
    cr_assert_lt(hth_now_ms() - start, 4000u);
    hth_buf_fini(&b);
    hth_control_slot_close(s);
    hth_control_client_close(c);
}

Test(control, addresses)
{
    char url[64];

    cr_assert_eq(hth_control_tls_url(url, sizeof url, "desk", 9), HTH_OK);
    cr_assert_str_eq(url, "tls+tcp://desk:9");
    cr_assert_eq(hth_control_tls_url(url, sizeof url, "::1", 9), HTH_OK);
    cr_assert_str_eq(url, "tls+tcp://[::1]:9");
    cr_assert_eq(hth_control_tls_url(url, 10, "desk", 9), HTH_EINVAL);
}
