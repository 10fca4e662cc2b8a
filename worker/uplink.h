/* uplink.h - a worker's control connection: reconnects by itself and says
 * hello whenever the coordinator does not know the connection.
 *
 * Threads: ask from any thread with a slot of its own. Failure: HTH_EAUTH and
 * HTH_EVERSION from hello mean the coordinator refuses this device; everything
 * else passes. */
#ifndef HTH_WORKER_UPLINK_H
#define HTH_WORKER_UPLINK_H

#include <stdint.h>

#include "base/status.h"
#include "net/admission.h"
#include "net/control.h"

struct hth_uplink;

struct hth_uplink_opts {
    const struct hth_identity *identity; /* paired; borrowed for life */
    const char *host;                    /* of the coordinator */
    uint16_t control_port;
    struct hth_msg_hello hello; /* abilities, name, role; copied */
};

/* Start connecting in the background. */
HTH_MUST_CHECK int hth_uplink_open(struct hth_uplink **out,
                                   const struct hth_uplink_opts *opts,
                                   struct hth_err *err);
/* All slots must be closed. NULL is fine. */
void hth_uplink_close(struct hth_uplink *u);
/* One request under way; belongs to one thread at a time. */
struct hth_uplink_slot {
    struct hth_uplink *uplink;
    struct hth_control_slot *control;
};
HTH_MUST_CHECK int hth_uplink_slot_init(struct hth_uplink_slot *s,
                                        struct hth_uplink *u,
                                        struct hth_err *err);
void hth_uplink_slot_fini(struct hth_uplink_slot *s); /* zeroed is fine */

/* hth_control_ask(), with hello said first where it is wanted. */
HTH_MUST_CHECK int hth_uplink_ask(struct hth_uplink_slot *s,
                                  const struct hth_msg *ask, uint8_t want,
                                  struct hth_msg *answer, struct hth_err *err);
/* The coordinator did not know this connection when it answered a pipelined
 * request (a WHO answer): say hello now. */
HTH_MUST_CHECK int hth_uplink_hello(struct hth_uplink *u, struct hth_err *err);

/* Counts hellos that were accepted: a change means that the coordinator (or
 * the connection) is a new one. */
uint32_t hth_uplink_hellos(struct hth_uplink *u);
/* Data port and name, from the last welcome. */
void hth_uplink_welcome(struct hth_uplink *u, struct hth_msg_welcome *out);
/* Make all asks end with HTH_ECANCELLED, now and later. Any thread. */
void hth_uplink_interrupt(struct hth_uplink *u);

#endif
