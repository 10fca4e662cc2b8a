/* tls.h - a TLS 1.2 session over a non-blocking socket that carries short
 * messages: what hellos and pairing are made of. Internal to net/.
 *
 * Nothing here waits: functions return HTH__WANT_READ or HTH__WANT_WRITE when
 * the socket is not ready, and are called again. Messages are u32 length and
 * bytes, at most the bound given by the receiver. Exactly the bytes of the TLS
 * records are taken from the socket, so that frames may follow them.
 * Threads: one at a time. After an error the session is useless. */
#ifndef HTH_NET_TLS_H
#define HTH_NET_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cursor.h"
#include "base/status.h"
#include "net/identity.h"

#define HTH__WANT_READ 1
#define HTH__WANT_WRITE 2

enum hth__tls_mode {
    HTH__TLS_SERVER,  /* own certificate; the client's is asked for */
    HTH__TLS_MEMBER,  /* client: own certificate, server's is checked */
    HTH__TLS_STRANGER /* client without one, about to pair */
};

struct hth__tls;

/* fd is borrowed and must be non-blocking. The identity's key and
 * certificates are copied (it must be paired but for _STRANGER, where it may
 * be NULL). */
HTH_MUST_CHECK int hth__tls_open(struct hth__tls **out, int fd,
                                 enum hth__tls_mode mode,
                                 const struct hth_identity *identity,
                                 struct hth_err *err);
void hth__tls_close(struct hth__tls *t); /* NULL is fine; fd stays open */

/* Go on with the handshake. 0 when it is complete. A MEMBER whose server is
 * not of its cluster gets HTH_EAUTH. */
HTH_MUST_CHECK int hth__tls_handshake(struct hth__tls *t, struct hth_err *err);

/* After the handshake: the peer's certificate. HTH_ENOTFOUND: it sent none
 * (err untouched). A SERVER learns only here that a client's certificate is
 * foreign: HTH_EAUTH. */
HTH_MUST_CHECK int hth__tls_peer(struct hth__tls *t, struct hth_cert *out,
                                 struct hth_err *err);
/* SHA-256 of a certificate in DER: the peer's, or our own. */
HTH_MUST_CHECK int hth__tls_peer_fingerprint(struct hth__tls *t,
                                             uint8_t out[32],
                                             struct hth_err *err);
void hth__tls_own_fingerprint(struct hth__tls *t, uint8_t out[32]);
/* DER of the peer's certificate, borrowed; NULL without one. */
const uint8_t *hth__tls_peer_der(struct hth__tls *t, size_t *n);

/* Queue one message; then hth__tls_flush() until 0. */
HTH_MUST_CHECK int hth__tls_put(struct hth__tls *t, const void *msg, size_t n,
                                struct hth_err *err);
HTH_MUST_CHECK int hth__tls_flush(struct hth__tls *t, struct hth_err *err);
/* Collect one message of at most max bytes; 0 when it is complete and *msg
 * points at it (borrowed until the next call). */
HTH_MUST_CHECK int hth__tls_get(struct hth__tls *t, size_t max,
                                const uint8_t **msg, size_t *n,
                                struct hth_err *err);

/* A time left as poll() takes it; more than a minute is looked at again. */
static inline int hth__poll_ms(uint64_t left_ms)
{
    return left_ms < 60000u ? (int)left_ms : 60000;
}

/* Wait until fd is ready for `want` or the deadline (hth_now_ms) has passed:
 * HTH_ETIMEDOUT. */
HTH_MUST_CHECK int hth__fd_wait(int fd, int want, uint64_t deadline_ms,
                                struct hth_err *err);

#endif
