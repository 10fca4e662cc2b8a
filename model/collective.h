/* collective.h - the one thing the forward pass needs from other ranks,
 * declared by the consumer: model/ never sees a socket. worker/ binds it to
 * links; hth_local_group makes "n shards equal one" a unit test.
 *
 * All calls of one group are made by all its ranks in the same order. One
 * rank's object belongs to one thread. A failure is final for the group. */
#ifndef HTH_MODEL_COLLECTIVE_H
#define HTH_MODEL_COLLECTIVE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct hth_collective {
    void *ctx;
    uint32_t rank;
    uint32_t ranks;
    /* x[n]: in: this rank's partial, out: the sum over ranks, added in rank
     * order and equal in every bit on every rank. */
    int (*all_reduce)(void *ctx, float *x, size_t n, struct hth_err *err);
    /* The same while the caller computes: begun, and waited for. One at a time;
     * x is the collective's in between. NULL, both: it cannot. */
    void (*begin)(void *ctx, float *x, size_t n);
    int (*end)(void *ctx, struct hth_err *err);
};

/* An in-process group of `ranks` threads summing in f32. */
struct hth_local_group;
HTH_MUST_CHECK int hth_local_group_open(struct hth_local_group **out,
                                        uint32_t ranks);
/* The object of one rank; borrowed from the group. */
struct hth_collective *hth_local_group_rank(struct hth_local_group *g,
                                            uint32_t rank);
void hth_local_group_close(struct hth_local_group *g);

#endif
