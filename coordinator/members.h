/* members.h - the devices of the cluster and what each is doing.
 *
 * Pure state: events and the time go in, states come out; no I/O, no clock,
 * no lock. Owned by the coordinator's loop thread. A member is known by its
 * device id and keeps its place (index, order) for the life of the
 * coordinator; order decides who gets which rank.
 * State machine (docs/cluster.md):
 *   AWAY -> IDLE (hello) -> LOADING -> LINKING -> READY (its reports)
 *   any of those -> LOST (silent, connection gone without a link, link failed)
 *   LOST -> IDLE (hello, or heard again) ; any -> FAILED (its report) ;
 *   any -> REVOKED (for good) */
#ifndef HTH_COORDINATOR_MEMBERS_H
#define HTH_COORDINATOR_MEMBERS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/status.h"
#include "net/message.h"

#define HTH_MEMBER_NONE (-1)

struct hth_member {
    struct hth_msg_hello hello; /* certificate cleared */
    char address[HTH_ADDRESS_MAX];
    uint8_t state;  /* enum hth_node_state */
    bool linked;    /* its data link is in use by the engine */
    uint32_t pipe;  /* 0: no control connection */
    uint32_t order; /* of pairing or joining; lower is earlier */
    uint64_t joined_ms, seen_ms, lost_ms, failed_ms;
    struct hth_msg_report report; /* the last; session 0: none */
    struct hth_err why;           /* LOST, FAILED */
    uint64_t sent_bytes;          /* weights, since it joined */
    /* The wish: what NEXT answers with. */
    uint64_t wish; /* number; grows with each change */
    uint8_t wish_kind;
    uint64_t wish_session;
    uint32_t attempt; /* of linking, told with LOAD */
};

struct hth_members {
    struct hth_member v[HTH_DEVICES_MAX];
    uint32_t count;
};

/* Index by id or pipe, or HTH_MEMBER_NONE. */
int hth_members_find(const struct hth_members *m, const char *device);
int hth_members_by_pipe(const struct hth_members *m, uint32_t pipe);

/* Make sure a paired device has a place, in this order. HTH_MEMBER_NONE when
 * HTH_DEVICES_MAX are known. */
int hth_members_know(struct hth_members *m, const char *device,
                     const char *name, uint32_t order);

/* A proven hello. Returns the index; *replaced (never NULL) gets the pipe of
 * another living process with the same identity, or 0. */
int hth_members_join(struct hth_members *m, const struct hth_msg_hello *hello,
                     uint32_t pipe, uint64_t now_ms, uint32_t *replaced);
/* Any message of it arrived. */
void hth_members_seen(struct hth_members *m, int i, uint64_t now_ms);
/* Its report; one about a session that is not `session` counts as IDLE. */
void hth_members_report(struct hth_members *m, int i,
                        const struct hth_msg_report *r, uint64_t session,
                        uint64_t now_ms);
/* Its control connection ended. Without a data link in use that is taken for
 * the end of the process. Returns true if it became LOST by this. */
bool hth_members_gone(struct hth_members *m, int i, uint64_t now_ms);
/* Say that it is lost, and why (who noticed: the engine, a link). */
void hth_members_lost(struct hth_members *m, int i, const struct hth_err *why,
                      uint64_t now_ms);
/* It said that it stops. Nobody waits for it. */
void hth_members_left(struct hth_members *m, int i, uint64_t now_ms);
void hth_members_revoked(struct hth_members *m, int i, uint64_t now_ms);
/* Paired anew: what it is told no longer is to leave. */
void hth_members_forgiven(struct hth_members *m, int i);
/* The next member that has been silent for HTH_LOST_AFTER_MS and is not LOST
 * yet; it is LOST now. One whose link is in use has HTH_HUNG_AFTER_MS only,
 * once the step under way has lasted as long (step_ms; 0: none is). Neither
 * sign is enough alone: steps may take long, and a heartbeat may be late.
 * HTH_MEMBER_NONE when there is none. */
int hth_members_expire(struct hth_members *m, uint64_t step_ms,
                       uint64_t now_ms);
/* The coordinator itself did not run for so long: nobody's silence counts,
 * and nobody was heard later than now. */
void hth_members_missed(struct hth_members *m, uint64_t ms, uint64_t now_ms);

/* Is it there and able to take a rank? A device that failed is given another
 * chance after retry_ms. */
bool hth_member_usable(const struct hth_member *v, uint64_t now_ms,
                       uint32_t retry_ms);
/* Its control connection broke while its data link is in use: as long as that
 * stands, it is there. Either it connects anew or the link tells. */
bool hth_member_on_link(const struct hth_member *v);
/* Was it there recently, so that it is worth waiting for? */
bool hth_member_recent(const struct hth_member *v, uint64_t now_ms,
                       uint32_t grace_ms);

/* Change the wish; the same wish again changes nothing. */
void hth_member_wish(struct hth_member *v, uint8_t kind, uint64_t session);

#endif
