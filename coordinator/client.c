/* client.c - the asking side of the requests' protocol. One slot for
 * questions and long polls; the batch of events last received is walked
 * before the next one is asked for. */
#include "coordinator/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "coordinator/local_socket.h"
#include "net/control.h"

#define CONNECT_MS 1000u

struct hth_client {
    struct hth_control_client *control;
    struct hth_control_slot *slot;
    struct hth_buf ask;
    /* The request whose events are being walked, and the batch: bytes of our
     * own, because the slot is used for cancelling in between. */
    uint64_t id, next;
    struct hth_buf batch;
    struct hth_cursor cursor;
    bool ended;
};

static int dial(struct hth_client *c, const char *url, struct hth_err *err)
{
    struct hth_control_point point = {.url = url};
    int status;

    status = hth_control_client_open(&c->control, &point, err);
    if (status != HTH_OK)
        return status;
    return hth_control_slot_open(&c->slot, c->control, err);
}

/* A first question, so that an absent coordinator is known at once. A socket
 * file that a crash left behind connects to nobody: do not wait long. */
static int greet(struct hth_client *c, struct hth_err *err)
{
    uint64_t end = hth_now_ms() + CONNECT_MS;
    struct hth_msg_nodes nodes;
    int status;

    while (!hth_control_connected(c->control) && hth_now_ms() < end)
        hth_sleep_ms(5);
    if (!hth_control_connected(c->control))
        return hth_fail(err, HTH_EUNREACHABLE,
                        "no coordinator is running here; start one with "
                        "`hearth serve -m MODEL.gguf`");
    status = hth_client_nodes(c, &nodes, err);

    if (status == HTH_ETIMEDOUT)
        return hth_fail(err, HTH_EUNREACHABLE,
                        "the coordinator on this machine does not answer");
    return status;
}

int hth_client_open(struct hth_client **out, const struct hth_client_opts *opts,
                    struct hth_err *err)
{
    char url[HTH_LOCAL_URL_MAX];
    struct hth_client *c;
    int status;

    if (opts->url != NULL)
        status = snprintf(url, sizeof url, "%s", opts->url) < (int)sizeof url
                     ? HTH_OK
                     : HTH_EINVAL;
    else
        status = hth_local_find(opts->state_dir, url, err);
    if (status != HTH_OK)
        return status;
    c = calloc(1, sizeof *c);
    if (c == NULL)
        return hth_fail(err, HTH_ENOMEM, "client: out of memory");
    hth_buf_init(&c->ask, HTH_CONTROL_BYTES_MAX);
    hth_buf_init(&c->batch, HTH_EVENTS_BYTES_MAX);
    if ((status = dial(c, url, err)) != HTH_OK ||
        (status = greet(c, err)) != HTH_OK) {
        hth_client_close(c);
        return status;
    }
    *out = c;
    return HTH_OK;
}

void hth_client_close(struct hth_client *c)
{
    if (c == NULL)
        return;
    hth_control_slot_close(c->slot);
    hth_control_client_close(c->control);
    hth_buf_fini(&c->ask);
    hth_buf_fini(&c->batch);
    free(c);
}

/* Every question ends in a sentence a person can use. */
static int explain(int status, struct hth_err *err)
{
    if (status == HTH_ETIMEDOUT)
        return hth_fail(err, HTH_EUNREACHABLE,
                        "the coordinator stopped answering; is `hearth serve` "
                        "still running?");
    return status;
}

int hth_client_submit(struct hth_client *c, const struct hth_msg_submit *g,
                      uint64_t *id_out, struct hth_err *err)
{
    struct hth_msg *ask = malloc(sizeof *ask), answer;
    ssize_t n;
    int status;

    if (ask == NULL)
        return hth_fail(err, HTH_ENOMEM, "client: out of memory");
    memset(ask, 0, sizeof *ask);
    ask->type = HTH_MSG_SUBMIT;
    ask->u.submit = *g;
    n = getrandom(&ask->u.submit.key, sizeof ask->u.submit.key, 0);
    status = n == (ssize_t)sizeof ask->u.submit.key
                 ? hth_control_ask(c->slot, ask, HTH_MSG_ACCEPTED, &answer, err)
                 : hth_fail(err, HTH_EIO, "no random numbers from the kernel");
    free(ask);
    if (status == HTH_OK)
        *id_out = answer.u.id.id;
    return explain(status, err);
}

/* ---- events -------------------------------------------------------------- */

static void switch_to(struct hth_client *c, uint64_t id)
{
    if (c->id == id)
        return;
    c->id = id;
    c->next = 0;
    c->ended = false;
    hth_buf_reset(&c->batch);
    hth_cursor_init(&c->cursor, NULL, 0);
}

/* Copy a batch, without what was delivered already: the coordinator answers a
 * poll that was sent twice twice. */
static int take_batch(struct hth_client *c, const struct hth_msg_events *m,
                      struct hth_err *err)
{
    struct hth_event skip;
    uint64_t n;

    if (m->from > c->next)
        return hth_fail(err, HTH_EPROTO, "events %llu to %llu are missing",
                        (unsigned long long)c->next,
                        (unsigned long long)m->from);
    hth_buf_reset(&c->batch);
    hth_put_bytes(&c->batch, m->list.p, m->list.n);
    if (c->batch.failed)
        return hth_fail(err, HTH_ENOMEM, "client: out of memory");
    hth_cursor_init(&c->cursor, c->batch.data, c->batch.len);
    for (n = m->from; n < c->next; n++)
        if (!hth_event_next(&c->cursor, &skip))
            break;
    return HTH_OK;
}

static int poll_once(struct hth_client *c, uint32_t wait_ms,
                     struct hth_err *err)
{
    struct hth_msg ask = {.type = HTH_MSG_POLL}, answer;
    int status;

    ask.u.poll.id = c->id;
    ask.u.poll.from = c->next;
    ask.u.poll.wait_ms = wait_ms < HTH_POLL_MS_MAX ? wait_ms : HTH_POLL_MS_MAX;
    status = hth_control_ask(c->slot, &ask, HTH_MSG_EVENTS, &answer, err);
    if (status != HTH_OK)
        return explain(status, err);
    return take_batch(c, &answer.u.events, err);
}

/* The end is confirmed at once, so that the coordinator can forget it. */
static void confirm_end(struct hth_client *c)
{
    struct hth_msg ask = {.type = HTH_MSG_CANCEL}, answer;

    c->ended = true;
    ask.u.id.id = c->id;
    (void)!hth_control_ask(c->slot, &ask, HTH_MSG_OK, &answer, NULL);
}

int hth_client_next(struct hth_client *c, uint64_t id, struct hth_event *ev,
                    uint32_t timeout_ms, struct hth_err *err)
{
    uint64_t end = hth_now_ms() + timeout_ms, now;
    int status;

    switch_to(c, id);
    if (c->ended)
        return hth_fail(err, HTH_ENOTFOUND, "the request is over");
    while (!hth_event_next(&c->cursor, ev)) {
        now = hth_now_ms();
        status = poll_once(c, now < end ? (uint32_t)(end - now) : 0, err);
        if (status != HTH_OK)
            return status;
        if (hth_cursor_left(&c->cursor) == 0 && hth_now_ms() >= end)
            return hth_fail(err, HTH_ETIMEDOUT, "no event yet");
    }
    c->next++;
    if (ev->kind == HTH_EVENT_DONE || ev->kind == HTH_EVENT_ERROR)
        confirm_end(c);
    return HTH_OK;
}

int hth_client_cancel(struct hth_client *c, uint64_t id, struct hth_err *err)
{
    struct hth_msg ask = {.type = HTH_MSG_CANCEL}, answer;

    ask.u.id.id = id;
    return explain(hth_control_ask(c->slot, &ask, HTH_MSG_OK, &answer, err),
                   err);
}

/* ---- devices ------------------------------------------------------------- */

int hth_client_nodes(struct hth_client *c, struct hth_msg_nodes *out,
                     struct hth_err *err)
{
    struct hth_msg ask = {.type = HTH_MSG_LIST}, answer;
    int status = explain(
        hth_control_ask(c->slot, &ask, HTH_MSG_NODES, &answer, err), err);

    if (status == HTH_OK)
        *out = answer.u.nodes;
    return status;
}

int hth_client_pair(struct hth_client *c, struct hth_msg_code *out,
                    struct hth_err *err)
{
    struct hth_msg ask = {.type = HTH_MSG_PAIR}, answer;
    int status = explain(
        hth_control_ask(c->slot, &ask, HTH_MSG_CODE, &answer, err), err);

    if (status == HTH_OK)
        *out = answer.u.code;
    return status;
}

int hth_client_revoke(struct hth_client *c, const char *device,
                      struct hth_err *err)
{
    struct hth_msg ask = {.type = HTH_MSG_REVOKE}, answer;

    if (strlen(device) >= sizeof ask.u.revoke.device)
        return hth_fail(err, HTH_ENOTFOUND, "no device has so long a name");
    snprintf(ask.u.revoke.device, sizeof ask.u.revoke.device, "%s", device);
    return explain(hth_control_ask(c->slot, &ask, HTH_MSG_OK, &answer, err),
                   err);
}
