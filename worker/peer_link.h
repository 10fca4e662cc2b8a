/* peer_link.h - model/peers.h over data links, driven by a thread of its own
 * while a prompt is spread over the ranks.
 *
 * Ranks with a link between them use it; others go by rank 0, which passes
 * their messages on. A message's tag is all its header, for it names sender,
 * receiver, and what it is, and the link authenticates it; nothing is accepted
 * that is not expected. Between jobs the thread rests and touches no link, so
 * that steps can use the links to rank 0.
 *
 * Threads: everything from the rank's one thread. The thread of this file
 * sleeps in poll() when nothing moves, so that computing has the CPU. Failure:
 * the first link that fails ends the job; the sentence names the device. */
#ifndef HTH_WORKER_PEER_LINK_H
#define HTH_WORKER_PEER_LINK_H

#include "model/peers.h"
#include "net/link.h"

struct hth_peer_links;

struct hth_peer_links_opts {
    uint32_t rank;
    uint32_t ranks;
    /* [ranks], borrowed for life; own is NULL, so is where there is none. Rank
     * 0 has one to everybody and everybody one to it. */
    struct hth_link *const *links;
};

HTH_MUST_CHECK int hth_peer_links_open(struct hth_peer_links **out,
                                       const struct hth_peer_links_opts *opts,
                                       struct hth_err *err);
/* Links stay open. NULL is fine. */
void hth_peer_links_close(struct hth_peer_links *p);
struct hth_peers *hth_peer_links_peers(struct hth_peer_links *p);

/* A job with this number begins: what is posted from here on belongs to it,
 * what still comes of former ones is thrown away. No message is longer than
 * message_max. */
void hth_peer_links_begin(struct hth_peer_links *p, uint32_t job,
                          size_t message_max);
/* Let messages move. */
void hth_peer_links_go(struct hth_peer_links *p);
/* Make every wait of this rank fail with HTH_ECANCELLED, from `came` too; any
 * thread. */
void hth_peer_links_cancel(struct hth_peer_links *p);
/* Has a link failed? Then there is nothing left to wait for. */
bool hth_peer_links_failed(struct hth_peer_links *p);
/* Waits succeed again: for what has to be said after a cancel. */
void hth_peer_links_resume(struct hth_peer_links *p);
/* From `came`: nothing more is read from rank 0 in this job. */
void hth_peer_links_over(struct hth_peer_links *p);
/* Rest. Everything posted is forgotten. Fails as the links did. */
HTH_MUST_CHECK int hth_peer_links_rest(struct hth_peer_links *p,
                                       struct hth_err *err);

struct hth_peer_links_counters {
    uint64_t sent_bytes, received_bytes; /* payload of own messages */
    uint64_t relayed_bytes;              /* passed on for others */
};
void hth_peer_links_counters(struct hth_peer_links *p,
                             struct hth_peer_links_counters *out);

#endif
