/* uplink.c - hello when asked "who?". Several threads may be asked at once;
 * the lock lets one of them say hello and the others see that it was said. */
#include "worker/uplink.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WHO_TRIES 4u

struct hth_uplink {
    const struct hth_identity *identity;
    struct hth_control_client *client;
    struct hth_control_slot *hello_slot;
    char expect_id[HTH_DEVICE_ID_SIZE];
    pthread_mutex_t lock; /* guards what follows */
    struct hth_msg_hello hello;
    struct hth_msg_welcome welcome;
    uint32_t hellos;
};

static int dial(struct hth_uplink *u, const struct hth_uplink_opts *opts,
                struct hth_err *err)
{
    char url[HTH_HOST_MAX + 32];
    struct hth_control_point point = {url, opts->identity, u->expect_id};
    int status;

    status =
        hth_control_tls_url(url, sizeof url, opts->host, opts->control_port);
    if (status != HTH_OK)
        return hth_fail(err, status, "not an address: %s", opts->host);
    status = hth_control_client_open(&u->client, &point, err);
    if (status != HTH_OK)
        return status;
    return hth_control_slot_open(&u->hello_slot, u->client, err);
}

int hth_uplink_open(struct hth_uplink **out, const struct hth_uplink_opts *opts,
                    struct hth_err *err)
{
    const struct hth_coordinator *c = hth_identity_coordinator(opts->identity);
    struct hth_uplink *u;
    int status;

    if (c == NULL)
        return hth_fail(err, HTH_EAUTH, "this device is not paired");
    u = calloc(1, sizeof *u);
    if (u == NULL)
        return hth_fail(err, HTH_ENOMEM, "control link: out of memory");
    u->identity = opts->identity;
    u->hello = opts->hello;
    snprintf(u->expect_id, sizeof u->expect_id, "%s", c->id);
    pthread_mutex_init(&u->lock, NULL);
    if ((status = dial(u, opts, err)) != HTH_OK) {
        hth_uplink_close(u);
        return status;
    }
    *out = u;
    return HTH_OK;
}

void hth_uplink_close(struct hth_uplink *u)
{
    if (u == NULL)
        return;
    hth_control_slot_close(u->hello_slot);
    hth_control_client_close(u->client);
    pthread_mutex_destroy(&u->lock);
    free(u);
}

int hth_uplink_slot_init(struct hth_uplink_slot *s, struct hth_uplink *u,
                         struct hth_err *err)
{
    s->uplink = u;
    return hth_control_slot_open(&s->control, u->client, err);
}

void hth_uplink_slot_fini(struct hth_uplink_slot *s)
{
    hth_control_slot_close(s->control);
    s->control = NULL;
}

static int say_hello(struct hth_uplink *u, uint32_t seen, struct hth_err *err)
{
    struct hth_admission_self self = {u->hello_slot, u->identity, u->expect_id,
                                      &u->hello};
    int status = HTH_OK;

    pthread_mutex_lock(&u->lock);
    if (u->hellos == seen) {
        status = hth_admission_ask(&self, &u->welcome, err);
        if (status == HTH_OK)
            u->hellos++;
    }
    pthread_mutex_unlock(&u->lock);
    return status;
}

uint32_t hth_uplink_hellos(struct hth_uplink *u)
{
    uint32_t n;

    pthread_mutex_lock(&u->lock);
    n = u->hellos;
    pthread_mutex_unlock(&u->lock);
    return n;
}

int hth_uplink_hello(struct hth_uplink *u, struct hth_err *err)
{
    return say_hello(u, hth_uplink_hellos(u), err);
}

int hth_uplink_ask(struct hth_uplink_slot *s, const struct hth_msg *ask,
                   uint8_t want, struct hth_msg *answer, struct hth_err *err)
{
    struct hth_uplink *u = s->uplink;
    int status = HTH_EPROTO;
    uint32_t tries, seen;

    for (tries = 0; tries < WHO_TRIES; tries++) {
        seen = hth_uplink_hellos(u);
        answer->type = 0;
        status = hth_control_ask(s->control, ask, want, answer, err);
        if (status != HTH_EPROTO || answer->type != HTH_MSG_WHO)
            return status;
        if ((status = say_hello(u, seen, err)) != HTH_OK)
            return status;
    }
    return status;
}

void hth_uplink_welcome(struct hth_uplink *u, struct hth_msg_welcome *out)
{
    pthread_mutex_lock(&u->lock);
    *out = u->welcome;
    pthread_mutex_unlock(&u->lock);
}

void hth_uplink_interrupt(struct hth_uplink *u)
{
    hth_control_interrupt(u->client);
}
