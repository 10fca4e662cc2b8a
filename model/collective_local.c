/* collective_local.c - the in-process group: threads that add their vectors
 * through shared memory, in rank order. For tests and for nothing else. */
#include "model/collective.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"

struct hth_local_group {
    struct hth_collective rank[HTH_RANKS_MAX];
    struct member {
        struct hth_local_group *group;
        uint32_t rank;
        float *begun;
        size_t begun_n;
    } member[HTH_RANKS_MAX];
    float *x[HTH_RANKS_MAX]; /* each rank's vector in this round */
    uint32_t ranks;
    pthread_barrier_t barrier;
};

static int all_reduce(void *ctx, float *x, size_t n, struct hth_err *err)
{
    struct member *m = ctx;
    struct hth_local_group *g = m->group;

    (void)err;
    g->x[m->rank] = x;
    pthread_barrier_wait(&g->barrier);
    if (m->rank == 0)
        for (uint32_t r = 1; r < g->ranks; r++)
            for (size_t i = 0; i < n; i++)
                x[i] += g->x[r][i];
    pthread_barrier_wait(&g->barrier);
    if (m->rank != 0)
        memcpy(x, g->x[0], n * sizeof *x);
    /* Rank 0 may not touch its vector before the others have read it. */
    pthread_barrier_wait(&g->barrier);
    return HTH_OK;
}

static void begin(void *ctx, float *x, size_t n)
{
    struct member *m = ctx;

    m->begun = x;
    m->begun_n = n;
}

static int end(void *ctx, struct hth_err *err)
{
    struct member *m = ctx;

    return all_reduce(ctx, m->begun, m->begun_n, err);
}

int hth_local_group_open(struct hth_local_group **out, uint32_t ranks)
{
    struct hth_local_group *g;

    if (ranks == 0 || ranks > HTH_RANKS_MAX)
        return HTH_EINVAL;
    g = calloc(1, sizeof *g);
    if (g == NULL)
        return HTH_ENOMEM;
    if (pthread_barrier_init(&g->barrier, NULL, ranks) != 0) {
        free(g);
        return HTH_ENOMEM;
    }
    g->ranks = ranks;
    for (uint32_t r = 0; r < ranks; r++) {
        g->member[r] = (struct member){.group = g, .rank = r};
        g->rank[r] = (struct hth_collective){.ctx = &g->member[r],
                                             .rank = r,
                                             .ranks = ranks,
                                             .all_reduce = all_reduce,
                                             .begin = begin,
                                             .end = end};
    }
    *out = g;
    return HTH_OK;
}

struct hth_collective *hth_local_group_rank(struct hth_local_group *g,
                                            uint32_t rank)
{
    return &g->rank[rank];
}

void hth_local_group_close(struct hth_local_group *g)
{
    if (g == NULL)
        return;
    pthread_barrier_destroy(&g->barrier);
    free(g);
}
