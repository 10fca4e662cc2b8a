/* handshake.h - from a connected socket to a link, or to a paired device,
 * without ever blocking. Internal to net/. One thread at a time. */
#ifndef HTH_NET_HANDSHAKE_H
#define HTH_NET_HANDSHAKE_H

#include "net/link.h"
#include "net/pairing.h"
#include "net/tls.h"

#define HTH__PAIRED 3 /* beside HTH__WANT_READ and _WRITE */

struct hth__shake;

struct hth__shake_opts {
    int fd; /* owned by open, on error too; made non-blocking */
    bool server;
    struct hth_link_opts link;   /* what it points at: borrowed until close */
    struct hth_pairing *pairing; /* NULL: clients without a certificate are
                                  * refused */
};
HTH_MUST_CHECK int hth__shake_open(struct hth__shake **out,
                                   const struct hth__shake_opts *opts,
                                   struct hth_err *err);
/* Go on: HTH__WANT_READ or _WRITE when the socket is not ready, HTH_OK when a
 * link can be made, HTH__PAIRED when a device was paired instead. Negative: it
 * failed; the text names the peer. */
HTH_MUST_CHECK int hth__shake_run(struct hth__shake *s, struct hth_err *err);
/* After HTH_OK: make the link, which takes the socket; close s all the same. */
HTH_MUST_CHECK int hth__shake_finish(struct hth__shake *s,
                                     struct hth_link **out,
                                     struct hth_err *err);
void hth__shake_close(struct hth__shake *s); /* NULL is fine */
int hth__shake_fd(const struct hth__shake *s);

#endif
