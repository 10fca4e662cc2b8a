/* control_server.c - the answering end: a fixed number of NNG contexts, each
 * receiving, being served, or sending.
 *
 * A context waits in on_request's hands as long as its owner likes (that is
 * how long polls park); with all contexts in use NNG leaves further requests
 * in the sockets, which pushes back on the peers. Never fails once listening:
 * a broken exchange only ends that exchange. */
#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>

#include "net/control_tls.h"

enum call_state { RECEIVING, SERVED, SENDING };

struct hth_control_call {
    struct hth_control_server *server;
    nng_ctx ctx;
    nng_aio *aio;
    nng_msg *msg; /* while SERVED: the request */
    enum call_state state;
};

#define ENDPOINTS_MAX 4u

struct hth_control_server {
    nng_socket socket;
    struct hth_control_handler handler;
    struct hth_control_call call[HTH_CONTROL_CONTEXTS];
    uint32_t calls; /* opened */
    /* Written while listening is set up, before requests can come by it. */
    int remote_listener[ENDPOINTS_MAX];
    uint32_t remotes;
    atomic_uint pipes;
    atomic_bool closing;
};

static void receive(struct hth_control_call *c)
{
    c->state = RECEIVING;
    nng_ctx_recv(c->ctx, c->aio);
}

/* The one completion callback of a context; runs on NNG's threads, never two
 * at a time for one context. */
static void on_aio(void *arg)
{
    struct hth_control_call *c = arg;
    int rv = nng_aio_result(c->aio);

    if (c->state == SENDING) {
        if (rv != 0) {
            nng_msg_free(nng_aio_get_msg(c->aio));
            nng_aio_set_msg(c->aio, NULL);
        }
        if (!atomic_load(&c->server->closing))
            receive(c);
        return;
    }
    if (rv == NNG_ECLOSED || rv == NNG_ECANCELED ||
        atomic_load(&c->server->closing)) {
        if (rv == 0)
            nng_msg_free(nng_aio_get_msg(c->aio));
        return;
    }
    if (rv != 0) {
        receive(c);
        return;
    }
    c->msg = nng_aio_get_msg(c->aio);
    nng_aio_set_msg(c->aio, NULL);
    c->state = SERVED;
    c->server->handler.on_request(c->server->handler.ctx, c);
}

static bool is_remote(const struct hth_control_server *s, nng_pipe pipe)
{
    int id = nng_listener_id(nng_pipe_listener(pipe));
    uint32_t i;

    for (i = 0; i < s->remotes; i++)
        if (s->remote_listener[i] == id)
            return true;
    return id < 0; /* its listener is gone: the careful way */
}

/* Refuse a connection beyond the limit before it can send anything. Local
 * ones do not count: who may open those is the file system's business. */
static void on_pipe_add(nng_pipe pipe, nng_pipe_ev ev, void *arg)
{
    struct hth_control_server *s = arg;

    (void)ev;
    if (is_remote(s, pipe) &&
        atomic_fetch_add(&s->pipes, 1) >= HTH_CONTROL_PIPES_MAX)
        nng_pipe_close(pipe);
}

static void on_pipe_gone(nng_pipe pipe, nng_pipe_ev ev, void *arg)
{
    struct hth_control_server *s = arg;

    (void)ev;
    if (is_remote(s, pipe))
        atomic_fetch_sub(&s->pipes, 1);
    if (!atomic_load(&s->closing))
        s->handler.on_gone(s->handler.ctx, (uint32_t)nng_pipe_id(pipe));
}

static int open_calls(struct hth_control_server *s)
{
    struct hth_control_call *c;
    int rv;

    while (s->calls < HTH_CONTROL_CONTEXTS) {
        c = &s->call[s->calls];
        c->server = s;
        if ((rv = nng_aio_alloc(&c->aio, on_aio, c)) != 0)
            return rv;
        if ((rv = nng_ctx_open(&c->ctx, s->socket)) != 0) {
            nng_aio_free(c->aio);
            return rv;
        }
        s->calls++;
    }
    return 0;
}

int hth_control_server_open(struct hth_control_server **out,
                            const struct hth_control_handler *handler,
                            struct hth_err *err)
{
    struct hth_control_server *s = calloc(1, sizeof *s);
    uint32_t i;
    int rv;

    if (s == NULL)
        return hth_fail(err, HTH_ENOMEM, "control socket: out of memory");
    s->handler = *handler;
    if ((rv = nng_rep0_open(&s->socket)) != 0) {
        free(s);
        return hth__control_fail(err, rv, "control socket");
    }
    if ((rv = nng_socket_set_size(s->socket, NNG_OPT_RECVMAXSZ,
                                  HTH_CONTROL_BYTES_MAX)) ||
        (rv =
             nng_pipe_notify(s->socket, NNG_PIPE_EV_ADD_PRE, on_pipe_add, s)) ||
        (rv = nng_pipe_notify(s->socket, NNG_PIPE_EV_REM_POST, on_pipe_gone,
                              s)) ||
        (rv = open_calls(s))) {
        hth_control_server_close(s);
        return hth__control_fail(err, rv, "control socket");
    }
    for (i = 0; i < s->calls; i++)
        receive(&s->call[i]);
    *out = s;
    return HTH_OK;
}

/* The TCP port that a listener on port 0 got. */
static uint16_t bound_port(nng_listener l)
{
    int port = 0;

    if (nng_listener_get_int(l, NNG_OPT_TCP_BOUND_PORT, &port) != 0)
        return 0;
    return (uint16_t)port;
}

int hth_control_listen(struct hth_control_server *s,
                       const struct hth_control_point *point,
                       uint16_t *port_out, struct hth_err *err)
{
    nng_tls_config *tls;
    nng_listener l;
    int rv, status;

    HTH_ASSERT(s->remotes < ENDPOINTS_MAX);
    status = hth__control_tls(&tls, NNG_TLS_MODE_SERVER, point, err);
    if (status != HTH_OK)
        return status;
    rv = nng_listener_create(&l, s->socket, point->url);
    if (rv == 0 && tls != NULL) {
        s->remote_listener[s->remotes++] = nng_listener_id(l);
        rv = nng_listener_set_ptr(l, NNG_OPT_TLS_CONFIG, tls);
        (void)nng_listener_set_bool(l, NNG_OPT_TCP_KEEPALIVE, true);
    }
    if (strncmp(point->url, "ipc://", 6) == 0 && rv == 0) {
        (void)unlink(point->url + 6);
        (void)nng_listener_set_int(l, NNG_OPT_IPC_PERMISSIONS,
                                   S_IRUSR | S_IWUSR);
    }
    if (rv == 0)
        rv = nng_listener_start(l, 0);
    if (tls != NULL)
        nng_tls_config_free(tls);
    if (rv != 0)
        return hth__control_fail(err, rv, point->url);
    if (port_out != NULL)
        *port_out = bound_port(l);
    return HTH_OK;
}

/* Contexts first: closing the socket would wait for them. Stopping an aio
 * waits for its callback, so nothing runs afterwards. */
void hth_control_server_close(struct hth_control_server *s)
{
    uint32_t i;

    if (s == NULL)
        return;
    atomic_store(&s->closing, true);
    for (i = 0; i < s->calls; i++) {
        nng_aio_stop(s->call[i].aio);
        nng_ctx_close(s->call[i].ctx);
    }
    if (!hth__control_close(s->socket))
        return; /* its last callbacks may still want *s */
    for (i = 0; i < s->calls; i++) {
        if (s->call[i].msg != NULL)
            nng_msg_free(s->call[i].msg);
        nng_aio_free(s->call[i].aio);
    }
    free(s);
}

void hth_control_hang_up(uint32_t pipe)
{
    nng_pipe_close((nng_pipe){.id = pipe});
}

struct hth_blob hth_control_body(const struct hth_control_call *call)
{
    return (struct hth_blob){nng_msg_body(call->msg), nng_msg_len(call->msg)};
}

uint32_t hth_control_pipe(const struct hth_control_call *call)
{
    return (uint32_t)nng_pipe_id(nng_msg_get_pipe(call->msg));
}

bool hth_control_local(const struct hth_control_call *call)
{
    return !is_remote(call->server, nng_msg_get_pipe(call->msg));
}

void hth_control_address(const struct hth_control_call *call,
                         char dst[HTH_ADDRESS_MAX])
{
    char text[INET6_ADDRSTRLEN] = "";
    nng_sockaddr a;

    snprintf(dst, HTH_ADDRESS_MAX, "local");
    if (nng_pipe_get_addr(nng_msg_get_pipe(call->msg), NNG_OPT_REMADDR, &a))
        return;
    if (a.s_family == NNG_AF_INET) {
        inet_ntop(AF_INET, &a.s_in.sa_addr, text, sizeof text);
        snprintf(dst, HTH_ADDRESS_MAX, "%s:%u", text, ntohs(a.s_in.sa_port));
    } else if (a.s_family == NNG_AF_INET6) {
        inet_ntop(AF_INET6, a.s_in6.sa_addr, text, sizeof text);
        snprintf(dst, HTH_ADDRESS_MAX, "[%s]:%u", text, ntohs(a.s_in6.sa_port));
    }
}

void hth_control_reply(struct hth_control_call *call, const struct hth_buf *msg)
{
    nng_msg *m = NULL;

    HTH_ASSERT(call->state == SERVED);
    if (msg->failed || msg->len == 0 || nng_msg_alloc(&m, 0) != 0 ||
        nng_msg_append(m, msg->data, msg->len) != 0) {
        if (m != NULL)
            nng_msg_free(m);
        hth_control_drop(call);
        return;
    }
    nng_msg_free(call->msg);
    call->msg = NULL;
    call->state = SENDING;
    nng_aio_set_msg(call->aio, m);
    nng_ctx_send(call->ctx, call->aio);
}

/* Receiving on a context forgets the request it held. */
void hth_control_drop(struct hth_control_call *call)
{
    HTH_ASSERT(call->state == SERVED);
    nng_msg_free(call->msg);
    call->msg = NULL;
    if (!atomic_load(&call->server->closing))
        receive(call);
}
