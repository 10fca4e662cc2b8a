/* group.h - the forward pass's collective over the star of links: the glue
 * between model/, which knows no socket, and net/, which knows no tensor.
 * Belongs to the thread that drives the rank.
 *
 * Sums that are begun and ended run on a thread of their own, over a second
 * star on the same links: the first one's pool is the caller's, who computes.
 * The two never run at the same time. */
#ifndef HTH_WORKER_GROUP_H
#define HTH_WORKER_GROUP_H

#include <pthread.h>

#include "model/collective.h"
#include "net/star.h"

struct hth_group {
    struct hth_collective collective;
    struct hth_star *star; /* borrowed */
    enum hth_wire wire;

    struct hth_star *beside;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    float *x; /* of the sum under way; NULL: none */
    size_t n;
    int status; /* of the last one */
    bool stop;
};

/* star: opened with opts. On error nothing is left open. */
HTH_MUST_CHECK int hth_group_open(struct hth_group *g, struct hth_star *star,
                                  const struct hth_star_opts *opts,
                                  enum hth_wire wire, struct hth_err *err);
/* No sum is under way. Fine for one that was never opened (zeros). */
void hth_group_close(struct hth_group *g);

#endif
