/* group.c - see group.h. Fails as the star does, with its sentence. */
#include "worker/group.h"

#include <string.h>

static int all_reduce(void *ctx, float *x, size_t n, struct hth_err *err)
{
    struct hth_group *g = ctx;
    int rc = hth_star_all_reduce(g->star, x, n, g->wire);

    if (rc != HTH_OK && err != NULL)
        *err = *hth_star_error(g->star);
    return rc;
}

/* ---- beside the caller
 * ------------------------------------------------------- */

static void *sum_main(void *arg)
{
    struct hth_group *g = arg;

    pthread_mutex_lock(&g->lock);
    while (!g->stop) {
        int rc;

        if (g->x == NULL) {
            pthread_cond_wait(&g->changed, &g->lock);
            continue;
        }
        pthread_mutex_unlock(&g->lock);
        rc = hth_star_all_reduce(g->beside, g->x, g->n, g->wire);
        pthread_mutex_lock(&g->lock);
        g->status = rc;
        g->x = NULL;
        pthread_cond_broadcast(&g->changed);
    }
    pthread_mutex_unlock(&g->lock);
    return NULL;
}

static void begin(void *ctx, float *x, size_t n)
{
    struct hth_group *g = ctx;

    pthread_mutex_lock(&g->lock);
    g->x = x;
    g->n = n;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

static int end(void *ctx, struct hth_err *err)
{
    struct hth_group *g = ctx;
    int rc;

    pthread_mutex_lock(&g->lock);
    while (g->x != NULL)
        pthread_cond_wait(&g->changed, &g->lock);
    rc = g->status;
    pthread_mutex_unlock(&g->lock);
    if (rc != HTH_OK && err != NULL)
        *err = *hth_star_error(g->beside);
    return rc;
}

/* ---- life
 * -------------------------------------------------------------------- */

int hth_group_open(struct hth_group *g, struct hth_star *star,
                   const struct hth_star_opts *opts, enum hth_wire wire,
                   struct hth_err *err)
{
    struct hth_star_opts o = *opts;
    int rc;

    *g = (struct hth_group){.collective = {.ctx = g,
                                           .rank = opts->rank,
                                           .ranks = opts->ranks,
                                           .all_reduce = all_reduce},
                            .star = star,
                            .wire = wire};
    if (opts->ranks < 2)
        return HTH_OK;
    o.pool = NULL;
    rc = hth_star_open(&g->beside, &o, err);
    if (rc != HTH_OK)
        return rc;
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->changed, NULL);
    g->started = pthread_create(&g->thread, NULL, sum_main, g) == 0;
    if (!g->started) {
        hth_group_close(g);
        return hth_fail(err, HTH_ENOMEM, "cannot start a thread");
    }
    g->collective.begin = begin;
    g->collective.end = end;
    return HTH_OK;
}

void hth_group_close(struct hth_group *g)
{
    if (g->beside == NULL)
        return;
    if (g->started) {
        pthread_mutex_lock(&g->lock);
        g->stop = true;
        pthread_cond_broadcast(&g->changed);
        pthread_mutex_unlock(&g->lock);
        pthread_join(g->thread, NULL);
    }
    hth_star_close(g->beside);
    pthread_cond_destroy(&g->changed);
    pthread_mutex_destroy(&g->lock);
    memset(g, 0, sizeof *g);
}
