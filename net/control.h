/* control.h - control messages over NNG: REP on the coordinator, REQ on
 * workers and clients, by tls+tcp, ipc (a socket file) and inproc.
 *
 * Owns: sockets, contexts, the bound on connections and on what is served at
 * once, resending, reconnecting with backoff. TLS is mutual with the cluster's
 * CA on both sides, and a dialer accepts one coordinator's certificate only.
 * Does not: look into a message, or know who may send which. NNG does not
 * show the peer's certificate, so a pipe number is all that identifies a
 * sender here; hello and prove (net/message.h) turn it into a device.
 * A request may arrive twice (it is sent again when unanswered for
 * HTH_RESEND_MS, or when a connection breaks): requests must be idempotent. */
#ifndef HTH_NET_CONTROL_H
#define HTH_NET_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/status.h"
#include "net/identity.h"
#include "net/message.h"

/* Where to listen or dial, and as whom. */
struct hth_control_point {
    const char *url; /* "tls+tcp://...", "ipc:///...", "inproc://..." */
    const struct hth_identity *identity; /* tls+tcp: paired; else NULL */
    const char *expect_id; /* dialing by tls+tcp: the coordinator's id */
};

/* "tls+tcp://HOST:PORT" into dst, IPv6 addresses in brackets; host NULL or
 * empty: every address. HTH_EINVAL when it does not fit. */
HTH_MUST_CHECK int hth_control_tls_url(char *dst, size_t size, const char *host,
                                       uint16_t port);

/* Did a socket of this process not close within HTH_CLOSE_MS? That is a fault
 * of NNG 1.5.2 (nanomsg/nng issue 1543): nothing of it closes any more here,
 * also not sockets of other users of the library in this process, so end the
 * process without waiting for any. All else works on. */
bool hth_control_stuck(void);

/* ---- serving ------------------------------------------------------------ */

struct hth_control_server;
struct hth_control_call; /* one request being served */

/* Both run on NNG's threads and must not block. After on_request the call is
 * the callee's until it hands it to hth_control_reply() or _drop(), from any
 * thread, exactly once. on_gone: a connection ended; its calls stay valid. */
struct hth_control_handler {
    void (*on_request)(void *ctx, struct hth_control_call *call);
    void (*on_gone)(void *ctx, uint32_t pipe);
    void *ctx;
};

HTH_MUST_CHECK int
hth_control_server_open(struct hth_control_server **out,
                        const struct hth_control_handler *handler,
                        struct hth_err *err);
/* Add an endpoint; an ipc socket file is made with mode 0600. *port_out (may
 * be NULL) gets the TCP port. Errors: HTH_EBUSY (address in use, named),
 * HTH_EIO. */
HTH_MUST_CHECK int hth_control_listen(struct hth_control_server *s,
                                      const struct hth_control_point *point,
                                      uint16_t *port_out, struct hth_err *err);
/* Stop serving. Every call must have been replied to or dropped. No callback
 * runs after it returns. NULL is fine. */
void hth_control_server_close(struct hth_control_server *s);
/* Cut one connection (a peer that will not say who it is, or is revoked). */
void hth_control_hang_up(uint32_t pipe);

struct hth_blob hth_control_body(const struct hth_control_call *call);
uint32_t hth_control_pipe(const struct hth_control_call *call);
/* Came by ipc or inproc: the file system says who that may be. */
bool hth_control_local(const struct hth_control_call *call);
/* "192.168.1.7:52310", or "local". */
void hth_control_address(const struct hth_control_call *call,
                         char dst[HTH_ADDRESS_MAX]);
/* Answer with the encoded message and serve the next request. A reply that is
 * empty or failed to encode becomes no answer at all (the peer asks again). */
void hth_control_reply(struct hth_control_call *call,
                       const struct hth_buf *msg);
void hth_control_drop(struct hth_control_call *call);

/* ---- asking ------------------------------------------------------------- */

struct hth_control_client;
struct hth_control_slot; /* one request under way; one thread at a time */

/* Start dialing in the background; reconnects by itself, with jitter, until
 * close. Errors: HTH_EFORMAT (certificates), HTH_EINVAL (address), HTH_ENOMEM;
 * "nobody answers" is none. */
HTH_MUST_CHECK int
hth_control_client_open(struct hth_control_client **out,
                        const struct hth_control_point *point,
                        struct hth_err *err);
/* All slots must be closed. NULL is fine. */
void hth_control_client_close(struct hth_control_client *c);
bool hth_control_connected(const struct hth_control_client *c);
/* Make every wait of every slot return HTH_ECANCELLED within 50 ms, now and
 * later. Async-signal-safe. */
void hth_control_interrupt(struct hth_control_client *c);

HTH_MUST_CHECK int hth_control_slot_open(struct hth_control_slot **out,
                                         struct hth_control_client *c,
                                         struct hth_err *err);
void hth_control_slot_close(struct hth_control_slot *s); /* NULL is fine */

/* Send a request; an unfinished one of this slot is given up. */
HTH_MUST_CHECK int hth_control_send(struct hth_control_slot *s,
                                    const struct hth_buf *msg,
                                    uint32_t timeout_ms, struct hth_err *err);
/* Wait for its answer; *out is borrowed until the slot's next call. Errors:
 * HTH_ETIMEDOUT, HTH_ECANCELLED, HTH_EIO. */
HTH_MUST_CHECK int hth_control_wait(struct hth_control_slot *s,
                                    struct hth_blob *out, struct hth_err *err);
/* Encode, send, wait, decode. An ERROR answer becomes its status and text.
 * An answer of another type than `want` is HTH_EPROTO. *answer borrows from
 * the slot. */
HTH_MUST_CHECK int hth_control_ask(struct hth_control_slot *s,
                                   const struct hth_msg *ask, uint8_t want,
                                   struct hth_msg *answer, struct hth_err *err);

#endif
