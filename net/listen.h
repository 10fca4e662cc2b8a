/* listen.h - the data port: one thread that accepts connections and takes
 * them through their handshake.
 *
 * A client with a certificate of the cluster becomes a link; one without may
 * pair, where the listener has a pairing object. At most HTH_HALF_OPEN_MAX
 * handshakes are under way, each with a deadline; when all places are taken
 * the one that has made no progress for longest gives way, so neither silent
 * nor noisy strangers keep a member out. Handshakes are driven without
 * blocking: a slow one delays nobody. Failures are logged (LINK-REFUSED,
 * PAIR-REFUSED), rate limited, and cost the listener nothing else.
 *
 * Threads: open, port and close from the owner; callbacks on the listener's
 * thread. */
#ifndef HTH_NET_LISTEN_H
#define HTH_NET_LISTEN_H

#include <stdint.h>

#include "base/limits.h"
#include "base/status.h"
#include "net/link.h"
#include "net/pairing.h"

struct hth_listener;

struct hth_listen_opts {
    const char *host;            /* address to bind; NULL: all */
    uint16_t port;               /* 0: any free one */
    struct hth_link_opts link;   /* identity, allowed, admit, name, rank... */
    struct hth_pairing *pairing; /* borrowed; NULL: no pairing here */
    /* A link is open; ownership passes to the callee. Must not block. */
    void (*on_link)(void *ctx, struct hth_link *link);
    void *on_link_ctx;
};

/* Bind, then start the thread. Everything in opts is borrowed until close.
 * Errors: HTH_EIO with the address and what to do (port in use), HTH_ENOMEM. */
HTH_MUST_CHECK int hth_listen_start(struct hth_listener **out,
                                    const struct hth_listen_opts *opts,
                                    struct hth_err *err);
/* Stop accepting, drop unfinished handshakes, join the thread. NULL is fine.
 * Not from a callback. */
void hth_listen_stop(struct hth_listener *l);
uint16_t hth_listen_port(const struct hth_listener *l);
/* Handshakes under way now; for tests and status. */
uint32_t hth_listen_half_open(const struct hth_listener *l);

#endif
