/* control_client.c - the asking end: one REQ socket with a dialer that
 * reconnects for ever, and slots that each carry one request.
 *
 * A slot's exchange runs in NNG's callback (send, then receive) so that a
 * waiting thread sits on a condition variable it can leave early: timing out
 * an NNG receive would throw the request away. Fails by status; a broken
 * connection is not a failure, NNG sends the request again on the next. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>

#include "base/clock.h"
#include "net/control_tls.h"

#define RECONNECT_MIN_MS 100
#define RECONNECT_MAX_MS 2000
#define WAIT_SLICE_MS 50

struct hth_control_client {
    nng_socket socket;
    atomic_uint pipes;
    atomic_bool interrupted;
};

enum slot_state { SLOT_IDLE, SLOT_SENDING, SLOT_RECEIVING, SLOT_DONE };

struct hth_control_slot {
    struct hth_control_client *client;
    nng_ctx ctx;
    nng_aio *aio;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t done;
    enum slot_state state;
    int result;      /* NNG's, when SLOT_DONE */
    nng_msg *answer; /* when SLOT_DONE and result is 0 */
    uint64_t deadline_ms;
    struct hth_buf scratch; /* encoding of hth_control_ask() */
};

static void on_pipe_up(nng_pipe pipe, nng_pipe_ev ev, void *arg)
{
    struct hth_control_client *c = arg;

    (void)pipe;
    (void)ev;
    atomic_fetch_add(&c->pipes, 1);
}

static void on_pipe_down(nng_pipe pipe, nng_pipe_ev ev, void *arg)
{
    struct hth_control_client *c = arg;

    (void)pipe;
    (void)ev;
    atomic_fetch_sub(&c->pipes, 1);
}

static int set_up_socket(struct hth_control_client *c)
{
    int rv;

    if ((rv = nng_socket_set_size(c->socket, NNG_OPT_RECVMAXSZ,
                                  HTH_CONTROL_BYTES_MAX)) ||
        (rv = nng_socket_set_ms(c->socket, NNG_OPT_REQ_RESENDTIME,
                                HTH_RESEND_MS)) ||
        (rv = nng_socket_set_ms(c->socket, NNG_OPT_RECONNMINT,
                                RECONNECT_MIN_MS)) ||
        (rv = nng_socket_set_ms(c->socket, NNG_OPT_RECONNMAXT,
                                RECONNECT_MAX_MS)) ||
        (rv =
             nng_pipe_notify(c->socket, NNG_PIPE_EV_ADD_POST, on_pipe_up, c)) ||
        (rv =
             nng_pipe_notify(c->socket, NNG_PIPE_EV_REM_POST, on_pipe_down, c)))
        return rv;
    return 0;
}

static int dial(struct hth_control_client *c,
                const struct hth_control_point *point, struct hth_err *err)
{
    nng_tls_config *tls;
    nng_dialer d;
    int rv, status;

    status = hth__control_tls(&tls, NNG_TLS_MODE_CLIENT, point, err);
    if (status != HTH_OK)
        return status;
    rv = nng_dialer_create(&d, c->socket, point->url);
    if (rv == 0 && tls != NULL) {
        rv = nng_dialer_set_ptr(d, NNG_OPT_TLS_CONFIG, tls);
        (void)nng_dialer_set_bool(d, NNG_OPT_TCP_KEEPALIVE, true);
    }
    if (rv == 0)
        rv = nng_dialer_start(d, NNG_FLAG_NONBLOCK);
    if (tls != NULL)
        nng_tls_config_free(tls);
    return rv == 0 ? HTH_OK : hth__control_fail(err, rv, point->url);
}

int hth_control_client_open(struct hth_control_client **out,
                            const struct hth_control_point *point,
                            struct hth_err *err)
{
    struct hth_control_client *c = calloc(1, sizeof *c);
    int rv, status;

    if (c == NULL)
        return hth_fail(err, HTH_ENOMEM, "control socket: out of memory");
    if ((rv = nng_req0_open(&c->socket)) != 0) {
        free(c);
        return hth__control_fail(err, rv, "control socket");
    }
    if ((rv = set_up_socket(c)) != 0)
        status = hth__control_fail(err, rv, "control socket");
    else
        status = dial(c, point, err);
    if (status != HTH_OK) {
        hth_control_client_close(c);
        return status;
    }
    *out = c;
    return HTH_OK;
}

void hth_control_client_close(struct hth_control_client *c)
{
    if (c != NULL && hth__control_close(c->socket))
        free(c);
}

bool hth_control_connected(const struct hth_control_client *c)
{
    return atomic_load(&c->pipes) > 0;
}

void hth_control_interrupt(struct hth_control_client *c)
{
    atomic_store(&c->interrupted, true);
}

/* ---- slots -------------------------------------------------------------- */

static nng_duration time_left(const struct hth_control_slot *s)
{
    uint64_t now = hth_now_ms();

    return now < s->deadline_ms ? (nng_duration)(s->deadline_ms - now) : 0;
}

static void finish(struct hth_control_slot *s, int rv)
{
    s->result = rv;
    s->state = SLOT_DONE;
    pthread_cond_signal(&s->done);
}

static void on_slot_aio(void *arg)
{
    struct hth_control_slot *s = arg;
    int rv = nng_aio_result(s->aio);

    pthread_mutex_lock(&s->lock);
    if (s->state == SLOT_SENDING && rv == 0) {
        s->state = SLOT_RECEIVING;
        nng_aio_set_msg(s->aio, NULL);
        nng_aio_set_timeout(s->aio, time_left(s));
        pthread_mutex_unlock(&s->lock);
        nng_ctx_recv(s->ctx, s->aio);
        return;
    }
    if (s->state == SLOT_SENDING) {
        nng_msg_free(nng_aio_get_msg(s->aio));
        nng_aio_set_msg(s->aio, NULL);
    } else if (rv == 0) {
        s->answer = nng_aio_get_msg(s->aio);
        nng_aio_set_msg(s->aio, NULL);
    }
    finish(s, rv);
    pthread_mutex_unlock(&s->lock);
}

static void init_cond(pthread_cond_t *cond)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

int hth_control_slot_open(struct hth_control_slot **out,
                          struct hth_control_client *c, struct hth_err *err)
{
    struct hth_control_slot *s = calloc(1, sizeof *s);
    int rv;

    if (s == NULL)
        return hth_fail(err, HTH_ENOMEM, "control request: out of memory");
    s->client = c;
    if ((rv = nng_aio_alloc(&s->aio, on_slot_aio, s)) != 0) {
        free(s);
        return hth__control_fail(err, rv, "control request");
    }
    if ((rv = nng_ctx_open(&s->ctx, c->socket)) != 0) {
        nng_aio_free(s->aio);
        free(s);
        return hth__control_fail(err, rv, "control request");
    }
    pthread_mutex_init(&s->lock, NULL);
    init_cond(&s->done);
    hth_buf_init(&s->scratch, HTH_CONTROL_BYTES_MAX);
    *out = s;
    return HTH_OK;
}

/* Wait on the condition for a bounded time; the lock is held. */
static void wait_slice(struct hth_control_slot *s, long ms)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_nsec += ms * 1000000L;
    if (t.tv_nsec >= 1000000000L) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000L;
    }
    pthread_cond_timedwait(&s->done, &s->lock, &t);
}

/* Give up the exchange under way, if any, and come to rest. A cancel may land
 * between the callback's send and its receive and hit nothing, so it repeats.
 */
static void settle(struct hth_control_slot *s)
{
    bool busy = true;

    while (busy) {
        nng_aio_cancel(s->aio);
        pthread_mutex_lock(&s->lock);
        busy = s->state == SLOT_SENDING || s->state == SLOT_RECEIVING;
        if (busy)
            wait_slice(s, 2);
        pthread_mutex_unlock(&s->lock);
    }
    nng_aio_wait(s->aio);
    if (s->answer != NULL)
        nng_msg_free(s->answer);
    s->answer = NULL;
    s->state = SLOT_IDLE;
}

void hth_control_slot_close(struct hth_control_slot *s)
{
    if (s == NULL)
        return;
    settle(s);
    nng_ctx_close(s->ctx);
    nng_aio_free(s->aio);
    pthread_cond_destroy(&s->done);
    pthread_mutex_destroy(&s->lock);
    hth_buf_fini(&s->scratch);
    free(s);
}

int hth_control_send(struct hth_control_slot *s, const struct hth_buf *msg,
                     uint32_t timeout_ms, struct hth_err *err)
{
    nng_msg *m = NULL;

    settle(s);
    if (msg->failed || msg->len > HTH_CONTROL_BYTES_MAX)
        return hth_fail(err, HTH_ELIMIT,
                        "request is longer than a control message may be "
                        "(%u bytes)",
                        HTH_CONTROL_BYTES_MAX);
    if (nng_msg_alloc(&m, 0) != 0 ||
        nng_msg_append(m, msg->data, msg->len) != 0) {
        if (m != NULL)
            nng_msg_free(m);
        return hth_fail(err, HTH_ENOMEM, "control request: out of memory");
    }
    s->deadline_ms = hth_now_ms() + timeout_ms;
    s->state = SLOT_SENDING;
    nng_aio_set_msg(s->aio, m);
    nng_aio_set_timeout(s->aio, (nng_duration)timeout_ms);
    nng_ctx_send(s->ctx, s->aio);
    return HTH_OK;
}

int hth_control_wait(struct hth_control_slot *s, struct hth_blob *out,
                     struct hth_err *err)
{
    bool stop = false;
    int rv;

    pthread_mutex_lock(&s->lock);
    HTH_ASSERT(s->state != SLOT_IDLE);
    while (s->state != SLOT_DONE && !stop) {
        stop = atomic_load(&s->client->interrupted);
        if (!stop)
            wait_slice(s, WAIT_SLICE_MS);
    }
    rv = s->result;
    pthread_mutex_unlock(&s->lock);
    if (stop) {
        settle(s);
        return hth_fail(err, HTH_ECANCELLED, "interrupted");
    }
    if (rv == NNG_ETIMEDOUT)
        return hth_fail(err, HTH_ETIMEDOUT, "no answer from the coordinator");
    if (rv != 0)
        return hth__control_fail(err, rv, "control request");
    *out = (struct hth_blob){nng_msg_body(s->answer), nng_msg_len(s->answer)};
    return HTH_OK;
}

int hth_control_ask(struct hth_control_slot *s, const struct hth_msg *ask,
                    uint8_t want, struct hth_msg *answer, struct hth_err *err)
{
    struct hth_blob body;
    int status;

    hth_buf_reset(&s->scratch);
    hth_msg_encode(&s->scratch, ask);
    status = hth_control_send(s, &s->scratch, HTH_CLIENT_CALL_MS, err);
    if (status == HTH_OK)
        status = hth_control_wait(s, &body, err);
    if (status == HTH_OK)
        status = hth_msg_decode(answer, body.p, body.n, err);
    if (status != HTH_OK)
        return status;
    if (answer->type == HTH_MSG_ERROR)
        return hth_fail(err,
                        answer->u.error.status < 0 ? answer->u.error.status
                                                   : HTH_EPROTO,
                        "%s", answer->u.error.text);
    if (answer->type != want)
        return hth_fail(err, HTH_EPROTO, "asked for %s, was answered %s",
                        hth_msg_type_text(ask->type),
                        hth_msg_type_text(answer->type));
    return HTH_OK;
}
