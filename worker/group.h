/* group.h - the forward pass's collective over the star of links: the glue
 * between model/, which knows no socket, and net/, which knows no tensor.
 * Belongs to the thread that drives the rank. */
#ifndef HTH_WORKER_GROUP_H
#define HTH_WORKER_GROUP_H

#include "model/collective.h"
#include "net/star.h"

struct hth_group {
    struct hth_collective collective;
    struct hth_star *star; /* borrowed */
    enum hth_wire wire;
};

void hth_group_init(struct hth_group *g, struct hth_star *star,
                    const struct hth_star_opts *opts, enum hth_wire wire);

#endif
