/* link_internal.h - a data link's inside, for the files of net/ that make it
 * up, its tests and its benchmark. */
#ifndef HTH_NET_LINK_INTERNAL_H
#define HTH_NET_LINK_INTERNAL_H

#include <stdatomic.h>

#include "net/frame.h"
#include "net/link.h"

/* A link whose handshake is over. cipher 0 with no keys is a link that seals
 * nothing: for measuring what sealing costs, reachable from tests/ only (no
 * option, hello or configuration leads here). */
struct hth__link_start {
    int fd; /* owned from here on, on error too */
    struct hth_link_peer peer;
    uint32_t cipher; /* one bit of enum hth_cipher, or 0 */
    uint32_t spin_us_max;
    struct hth_seal_key send_key;
    struct hth_seal_key recv_key;
};
HTH_MUST_CHECK int hth__link_create(struct hth_link **out,
                                    const struct hth__link_start *start,
                                    struct hth_err *err);
/* A seal that only frames; see above. */
HTH_MUST_CHECK int hth__seal_open_plain(struct hth_seal **out, bool sealing);

/* Pretend that this many frames went by: tests reach a rekey so. */
void hth__seal_set_seq(struct hth_seal *s, uint64_t seq);

/* non-blocking, no delay, keep-alive; the last two where it is TCP. */
HTH_MUST_CHECK int hth__socket_setup(int fd, struct hth_err *err);

struct hth_link {
    int fd;
    uint32_t cipher;
    uint32_t spin_us_max;
    atomic_bool stopped; /* hth_link_shutdown() was here */
    struct hth_link_peer peer;
    struct hth_err error; /* the first failure; stays */

    /* Sending: what is left of the caller's message, and one sealed frame on
     * its way to the kernel. */
    struct hth_seal *seal;
    const uint8_t *src;
    size_t src_left;
    uint64_t send_tag;
    bool sending;
    bool fresh;        /* posted, not pushed yet: send_since_ns is its post */
    bool send_blocked; /* the kernel took no more at the last try */
    uint8_t *out;
    size_t out_at;
    size_t out_len;
    uint64_t send_since_ns; /* when the frame at hand was begun */

    /* Receiving: the caller's message, and raw bytes not opened yet in
     * in[in_at .. in_len). */
    struct hth_seal *open;
    struct hth_link_msg *want;
    bool begun; /* a frame of it has come */
    size_t got;
    uint8_t *in;
    size_t in_at;
    size_t in_len;
    uint64_t recv_since_ns;

    struct hth_link_counters counters;
};

/* Mark the link dead with a sentence about its peer; the first one stays. */
int hth__link_fail(struct hth_link *l, int status, const char *fmt, ...)
    HTH_PRINTF(3, 4);
/* Is anything under way? */
bool hth__link_pending(const struct hth_link *l);

#endif
