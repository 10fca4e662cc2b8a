/* peers_queue.h - messages in a line, linked through themselves: what both
 * kinds of peers (model/peers_local.c, worker/peer_link.c) keep them in. No
 * lock of its own; the messages are borrowed. */
#ifndef HTH_MODEL_PEERS_QUEUE_H
#define HTH_MODEL_PEERS_QUEUE_H

#include "model/peers.h"

struct hth_peer_queue {
    struct hth_peer_msg *first, *last;
};

static inline void hth_peer_put(struct hth_peer_queue *q,
                                struct hth_peer_msg *m)
{
    m->next = NULL;
    if (q->last != NULL)
        q->last->next = m;
    else
        q->first = m;
    q->last = m;
}

/* Take the message with this tag out of the queue, wherever it is. */
static inline struct hth_peer_msg *hth_peer_take(struct hth_peer_queue *q,
                                                 uint64_t tag)
{
    struct hth_peer_msg *before = NULL, *m = q->first;

    while (m != NULL && m->tag != tag) {
        before = m;
        m = m->next;
    }
    if (m == NULL)
        return NULL;
    if (before != NULL)
        before->next = m->next;
    else
        q->first = m->next;
    if (q->last == m)
        q->last = before;
    return m;
}

#endif
