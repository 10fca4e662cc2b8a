/* link.h - a data link: one TCP connection between two paired devices.
 *
 * Opening: mutual TLS 1.2 (mbedTLS, ECDHE-ECDSA) in which each side checks the
 * other's certificate against the cluster's CA and asks `allowed` whether the
 * device still may; inside it both send a hello with fresh keys, their version
 * range, ciphers, rank and session. Then the socket carries frames of frame.h.
 *
 * Threads: one thread at a time drives a link (the compute thread; no thread
 * of ours is behind it); hth_link_shutdown() may come from any other. After
 * open no call allocates, locks, or makes system calls other than recv, send,
 * poll and reading the clock.
 *
 * Blocking: functions with timeout_ms wait that long for EACH frame (of at most
 * HTH_LINK_CUT_BYTES), not for the whole message: large messages over slow
 * radios pass, a hung peer is noticed. Waiting spins for a bounded time, which
 * adapts (see docs/links.md), then polls.
 *
 * Failure: any error but HTH_EBUSY and HTH_EINVAL ends the link for good;
 * later calls return the same status, hth_link_error() keeps the sentence,
 * which names the peer. HTH_EPEER: closed or reset; HTH_ETIMEDOUT: silent;
 * HTH_EPROTO, HTH_EAUTH: bytes replayed, cut, changed or not expected;
 * HTH_ECANCELLED: the peer said abort, or hth_link_shutdown() here. */
#ifndef HTH_NET_LINK_H
#define HTH_NET_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/status.h"
#include "net/identity.h"

struct hth_link;

/* Is the device still in the cluster? Called during the handshake, on the
 * thread that drives it. */
typedef bool (*hth_allowed_fn)(void *ctx, const char *device_id);

/* The other end, as authenticated. */
struct hth_link_peer {
    char id[HTH_DEVICE_ID_SIZE];
    char name[HTH_NAME_MAX];       /* cleaned; the peer chose it */
    char address[HTH_ADDRESS_MAX]; /* "192.168.1.7:4711" */
    bool coordinator;              /* its certificate says so */
    uint32_t rank;                 /* of the peer, from its hello */
    uint64_t session;
};

/* The last word of the accepting side, after the peer's hello: refuse a rank
 * or session it does not want. A negative status refuses; the text of err is
 * sent to the peer. */
typedef int (*hth_admit_fn)(void *ctx, const struct hth_link_peer *peer,
                            struct hth_err *err);

/* Spin for as long as is useful; see docs/links.md. */
#define HTH_SPIN_AUTO 0u
#define HTH_SPIN_NEVER 1u

/* All pointers are borrowed: identity, name, expect_id until open returns (a
 * listener: while it lives). Zero or NULL means the default. */
struct hth_link_opts {
    const struct hth_identity *identity; /* paired; required */
    const char *name;                    /* our device name, for the peer */
    const char *expect_id;  /* only this device; NULL: any of the cluster */
    hth_allowed_fn allowed; /* NULL: whoever has a certificate */
    void *allowed_ctx;
    hth_admit_fn admit; /* NULL: anyone */
    void *admit_ctx;
    uint32_t rank;         /* ours, told to the peer */
    uint64_t session;      /* told to the peer */
    uint32_t handshake_ms; /* whole opening; 0: HTH_HANDSHAKE_MS */
    uint32_t spin_us_max;  /* HTH_SPIN_AUTO, HTH_SPIN_NEVER or a bound */
    uint16_t version_min;  /* 0: what this build speaks; else for tests */
    uint16_t version_max;
};

/* Dial and open. Blocks up to handshake_ms. Errors: HTH_EUNREACHABLE (nobody
 * listens; says what to check), HTH_ETIMEDOUT, HTH_EAUTH (foreign, revoked or
 * other than expected), HTH_EVERSION (says which side to upgrade), HTH_EPEER,
 * HTH_EPROTO, HTH_EBUSY (refused by admit). */
HTH_MUST_CHECK int hth_link_connect(struct hth_link **out, const char *host,
                                    uint16_t port,
                                    const struct hth_link_opts *opts,
                                    struct hth_err *err);
/* The same over a connected stream socket, as TLS client or server. fd is
 * owned by the link from here, also on error. Listeners use listen.h, which
 * can serve many openings at once. */
HTH_MUST_CHECK int hth_link_open_fd(struct hth_link **out, int fd, bool server,
                                    const struct hth_link_opts *opts,
                                    struct hth_err *err);
void hth_link_close(struct hth_link *l); /* NULL is fine; never blocks */

const struct hth_link_peer *hth_link_peer(const struct hth_link *l);
const char *hth_link_cipher(const struct hth_link *l); /* "AES-128-GCM" */
/* The first failure; status 0 while there is none. */
const struct hth_err *hth_link_error(const struct hth_link *l);

/* From any thread: make the link fail with HTH_ECANCELLED, waking the thread
 * that waits on it. The link still has to be closed. */
void hth_link_shutdown(struct hth_link *l);

/* A timeout_ms that never passes, for a device that waits for work; a peer that
 * vanished is still found, by the kernel's keep-alive. */
#define HTH_LINK_FOREVER UINT32_MAX

/* ---- blocking ------------------------------------------------------------ */

/* Send n bytes (0 is fine) under a tag. Returns when the last byte is with the
 * kernel. While sending is stuck because the peer is sending too, what arrives
 * is read ahead, up to HTH_LINK_INBOX_BYTES; more than that in both directions
 * at once wants hth_link_exchange(). */
HTH_MUST_CHECK int hth_link_send(struct hth_link *l, uint64_t tag,
                                 const void *src, size_t n,
                                 uint32_t timeout_ms);
/* Receive the next message, which must have this tag and exactly n bytes
 * (HTH_EPROTO otherwise). On error dst holds rubbish. */
HTH_MUST_CHECK int hth_link_recv(struct hth_link *l, uint64_t tag, void *dst,
                                 size_t n, uint32_t timeout_ms);

struct hth_link_msg {
    uint64_t tag;
    void *data; /* written when receiving only */
    size_t n;   /* sending: bytes; receiving: bytes received, on success */
    size_t max; /* receiving: room in data */
    /* Receiving whatever comes: asked at a message's first frame, when tag is
     * the peer's, to set data and max. HTH_EBUSY: not yet, ask again; another
     * error ends the link. NULL: only the tag above. */
    int (*place)(void *ctx, struct hth_link_msg *m);
    void *ctx;
    /* The rest is read and thrown away: data holds one frame at a time (room
     * for HTH_FRAME_BYTES_MAX). May be set while a message comes. */
    bool skip;
};
/* Receive a message of this tag of any length up to max. */
HTH_MUST_CHECK int hth_link_recv_msg(struct hth_link *l,
                                     struct hth_link_msg *msg,
                                     uint32_t timeout_ms);
/* Send one message and receive one at the same time; any sizes, no deadlock.
 * in->max bytes are the bound for what comes. out and in may share memory only
 * where the peer cannot answer a byte before it has it. */
HTH_MUST_CHECK int hth_link_exchange(struct hth_link *l,
                                     const struct hth_link_msg *out,
                                     struct hth_link_msg *in,
                                     uint32_t timeout_ms);

/* Tell the peer why the common work stops (status and one line), without
 * waiting; its pending call returns HTH_ECANCELLED with the text. Ends the
 * link here as well. Best effort. */
void hth_link_abort(struct hth_link *l, int status, const char *text);

/* ---- one thread, many links ---------------------------------------------- */

/* Start sending; src is borrowed until hth_link_sent(). HTH_EBUSY while the
 * last message is not out. */
HTH_MUST_CHECK int hth_link_post(struct hth_link *l, uint64_t tag,
                                 const void *src, size_t n);
/* Start receiving into msg (borrowed until hth_link_received()), which must
 * have msg->tag and at most msg->max bytes. HTH_EBUSY while one is pending. */
HTH_MUST_CHECK int hth_link_expect(struct hth_link *l,
                                   struct hth_link_msg *msg);
/* Withdraw the pending receive. False when a part of it has come: it stays. */
bool hth_link_unexpect(struct hth_link *l);
/* Move what can be moved now, in both directions, without waiting. Returns 1
 * if anything moved, 0 if not, or a negative status. */
HTH_MUST_CHECK int hth_link_progress(struct hth_link *l);
bool hth_link_sent(const struct hth_link *l);     /* no send pending */
bool hth_link_received(const struct hth_link *l); /* no receive pending */

/* Drive up to HTH_RANKS_MAX links (entries may be NULL) until at least one of
 * them moved or nothing is pending on any. When nothing moves, each link whose
 * frame has been due for timeout_ms fails with HTH_ETIMEDOUT; while others keep
 * moving, that is found a little later. Returns 0, or the status of the first
 * link that failed (see hth_link_error() of each). */
HTH_MUST_CHECK int hth_link_wait(struct hth_link *const *links, uint32_t count,
                                 uint32_t timeout_ms);

/* Sleep until a socket of the links (entries may be NULL) with something
 * pending is ready, wake_fd is readable, or timeout_ms is over. Nothing is
 * moved and no link fails. */
void hth_link_sleep(struct hth_link *const *links, uint32_t count, int wake_fd,
                    uint32_t timeout_ms);

struct hth_link_counters {
    uint64_t frames_sent;
    uint64_t frames_received;
    uint64_t payload_bytes_sent;
    uint64_t payload_bytes_received;
    uint64_t overhead_bytes_sent; /* headers and tags */
    uint64_t overhead_bytes_received;
    /* From hth_link_post() to the end of its first hth_link_progress()'s
     * sending, and of later ones where the kernel took more. */
    uint64_t send_ns;
    uint64_t wait_ns; /* in hth_link_wait() and blocking calls, not moving */
};
void hth_link_counters(const struct hth_link *l, struct hth_link_counters *out);
/* Frames that a message of n bytes is cut into: at least one. */
uint64_t hth_link_frames(uint64_t n_bytes);

#endif
