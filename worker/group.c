/* group.c - see group.h. Fails as the star does, with its sentence. */
#include "worker/group.h"

static int all_reduce(void *ctx, float *x, size_t n, struct hth_err *err)
{
    struct hth_group *g = ctx;
    int rc = hth_star_all_reduce(g->star, x, n, g->wire);

    if (rc != HTH_OK && err != NULL)
        *err = *hth_star_error(g->star);
    return rc;
}

void hth_group_init(struct hth_group *g, struct hth_star *star,
                    const struct hth_star_opts *opts, enum hth_wire wire)
{
    *g = (struct hth_group){.collective = {.ctx = g,
                                           .rank = opts->rank,
                                           .ranks = opts->ranks,
                                           .all_reduce = all_reduce},
                            .star = star,
                            .wire = wire};
}
