/* client.h - asking a running coordinator, from the same or another process.
 *
 * Owns: one NNG REQ socket to a coordinator and the polling for events. The
 * address is the coordinator's socket file (ipc://, found from the state
 * directory) or hth_cluster_url() of an in-process cluster: the same code
 * serves `hearth run` in all its forms.
 * Threads: a client belongs to one thread at a time.
 * Blocking: every call returns within its timeout; calls that take none
 * return within HTH_CLIENT_CALL_MS.
 * Failure: HTH_EUNREACHABLE and a sentence that says how to start a
 * coordinator when none answers; other codes are the coordinator's own and
 * carry its sentence. A client that goes away or stops polling has its
 * requests cancelled after HTH_REQUEST_ABANDONED_MS. */
#ifndef HTH_COORDINATOR_CLIENT_H
#define HTH_COORDINATOR_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/status.h"
#include "net/message.h"

struct hth_client;

struct hth_client_opts {
    const char *state_dir; /* of the coordinator on this machine, or NULL */
    const char *url;       /* hth_cluster_url(); wins over state_dir */
};

/* Connect. On 0 *out is the caller's (hth_client_close). Waits at most
 * HTH_CLIENT_CALL_MS for an answer to a first question, so that "nobody is
 * there" is known here. Errors: HTH_EUNREACHABLE, HTH_EVERSION, HTH_ENOMEM. */
HTH_MUST_CHECK int hth_client_open(struct hth_client **out,
                                   const struct hth_client_opts *opts,
                                   struct hth_err *err);
void hth_client_close(struct hth_client *c); /* NULL is fine */

/* Hand in a request; it is queued, also while no session is ready. g and all
 * it points to are borrowed for the call. struct hth_msg_submit and its
 * defaults: net/message.h. Errors: HTH_ELIMIT (too long; too many requests),
 * HTH_EINVAL (a parameter out of range, named). */
HTH_MUST_CHECK int hth_client_submit(struct hth_client *c,
                                     const struct hth_msg_submit *g,
                                     uint64_t *id_out, struct hth_err *err);

/* The next event of a request, in order, each exactly once. Waits up to
 * timeout_ms; HTH_ETIMEDOUT means none yet. Pointers in *ev live until the
 * next call on this client. The last event of every request is
 * HTH_EVENT_DONE or HTH_EVENT_ERROR; after it the id is HTH_ENOTFOUND. */
HTH_MUST_CHECK int hth_client_next(struct hth_client *c, uint64_t id,
                                   struct hth_event *ev, uint32_t timeout_ms,
                                   struct hth_err *err);

/* Stop a request everywhere; its last event then is DONE with reason
 * HTH_FINISH_CANCELLED. Fine for an id that is finished. */
HTH_MUST_CHECK int hth_client_cancel(struct hth_client *c, uint64_t id,
                                     struct hth_err *err);

/* Devices and session. *out borrowed from the client until the next call:
 * walk nodes with hth_msg_node_next(). */
HTH_MUST_CHECK int hth_client_nodes(struct hth_client *c,
                                    struct hth_msg_nodes *out,
                                    struct hth_err *err);

/* Make a new pairing code; *out's text is copied. */
HTH_MUST_CHECK int hth_client_pair(struct hth_client *c,
                                   struct hth_msg_code *out,
                                   struct hth_err *err);

/* Revoke the device with this id or (unambiguous) name. HTH_ENOTFOUND names
 * the devices there are. */
HTH_MUST_CHECK int hth_client_revoke(struct hth_client *c, const char *device,
                                     struct hth_err *err);

#endif
