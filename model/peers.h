/* peers.h - messages between ranks while a prompt is spread over them,
 * declared by the consumer: model/ never sees a socket. worker/ binds it to
 * links, hth_local_peers joins threads of one process for tests.
 *
 * A message is described on both sides before it moves: the sender posts it,
 * the receiver has said beforehand what will come and where it goes. So
 * nothing that arrives is parsed, copied twice or allocated for. Messages move
 * while the calling thread computes; descriptions and what they point at are
 * borrowed until counted as done, or until drop.
 *
 * Threads: send, expect, wait and drop from the rank's one thread; `came` is
 * called on whichever thread moves messages and must not block. */
#ifndef HTH_MODEL_PEERS_H
#define HTH_MODEL_PEERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/status.h"

/* Counts messages that are done; only goes up. */
typedef _Atomic uint32_t hth_peer_count;

struct hth_peer_msg {
    uint32_t peer; /* the rank it goes to, or comes from */
    uint64_t tag;  /* hth_peer_tag(); unique between two ranks at a time */
    void *data;    /* [n] */
    size_t n;      /* 0 is fine */
    bool behind;   /* sending: only when nothing else waits for that rank */
    bool stays;    /* survives drop: it is how ranks agree to stop */
    /* Sending: not before *gate >= gate_at (NULL: at once). Later messages
     * for that rank wait behind it. */
    const hth_peer_count *gate;
    uint32_t gate_at;
    hth_peer_count *done; /* one up when sent, or received; may be NULL */
    /* Receiving: called before `done` counts; may be NULL. */
    void (*came)(void *ctx, struct hth_peer_msg *m);
    void *ctx;
    /* Receiving: a message that is sent as soon as this one has come; posted
     * by nobody else. May be NULL. */
    struct hth_peer_msg *then;
    struct hth_peer_msg *next; /* the implementation's own */
};

/* What a message is; together with sender and receiver its whole header. */
enum hth_peer_kind {
    HTH_PEER_BLOCK = 1,  /* keys and values on their way round */
    HTH_PEER_PREFIX = 2, /* of a cached prefix */
    HTH_PEER_REPAIR = 3, /* for decoding */
    HTH_PEER_CREDIT = 4, /* room for a layer */
    HTH_PEER_HIDDEN = 5, /* the last token's hidden state */
    HTH_PEER_RESULT = 6, /* candidates or logits, to rank 0 */
    HTH_PEER_DONE = 7,   /* a rank is through, with its times */
    HTH_PEER_END = 8,    /* rank 0: all are through */
    HTH_PEER_STOP = 9,   /* rank 0: the work is cancelled */
    HTH_PEER_EMBED = 10  /* rank 0: the tokens' rows */
};
#define HTH_PEER_PIECES_MAX (1u << 20)
uint64_t hth_peer_tag(enum hth_peer_kind kind, uint32_t layer, uint32_t block,
                      uint32_t piece);

struct hth_peers {
    void *ctx;
    uint32_t rank;
    uint32_t ranks;
    void (*send)(void *ctx, struct hth_peer_msg *m);
    void (*expect)(void *ctx, struct hth_peer_msg *m);
    /* Until *count >= least. Fails when a peer is lost or the work was
     * cancelled, also when there is nothing to wait for. */
    int (*wait)(void *ctx, const hth_peer_count *count, uint32_t least,
                struct hth_err *err);
    /* Forget all that is posted and does not stay; returns when nothing refers
     * to it. What still comes of it is thrown away. */
    void (*drop)(void *ctx);
};

/* Threads of one process, one per rank. */
struct hth_local_peers;
HTH_MUST_CHECK int hth_local_peers_open(struct hth_local_peers **out,
                                        uint32_t ranks);
void hth_local_peers_close(struct hth_local_peers *p); /* NULL is fine */
struct hth_peers *hth_local_peers_rank(struct hth_local_peers *p,
                                       uint32_t rank);
/* Bytes that went from one rank to another so far, messages of a kind only. */
uint64_t hth_local_peers_bytes(struct hth_local_peers *p, uint32_t from,
                               uint32_t to, enum hth_peer_kind kind);
/* Every wait fails from here on. Any thread. */
void hth_local_peers_cancel(struct hth_local_peers *p);

#endif
