/* peers_local.c - messages between threads of one process, by copying. For
 * tests and for nothing else. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "model/peers_queue.h"

#define KINDS 16u
#define KIND_SHIFT 52u
#define LAYER_SHIFT 42u
#define BLOCK_SHIFT 24u

uint64_t hth_peer_tag(enum hth_peer_kind kind, uint32_t layer, uint32_t block,
                      uint32_t piece)
{
    return (uint64_t)kind << KIND_SHIFT | (uint64_t)layer << LAYER_SHIFT |
           (uint64_t)block << BLOCK_SHIFT | piece;
}

struct hth_local_peers {
    struct local_rank {
        struct hth_local_peers *group;
        uint32_t rank;
        struct hth_peers peers;
        struct hth_peer_queue out[HTH_RANKS_MAX][2]; /* to; [1]: behind */
        struct hth_peer_queue in[HTH_RANKS_MAX];     /* expected from */
    } rank[HTH_RANKS_MAX];
    uint64_t bytes[HTH_RANKS_MAX][HTH_RANKS_MAX][KINDS];
    uint32_t ranks;
    bool cancelled;
    pthread_mutex_t lock;
    pthread_cond_t moved;
};

static void count(struct hth_peer_msg *m)
{
    if (m->done != NULL)
        atomic_fetch_add(m->done, 1);
}

/* Move the first message of a queue if it may go and somebody waits for it. */
static bool move_one(struct hth_local_peers *g, uint32_t from, uint32_t to,
                     struct hth_peer_queue *q)
{
    struct hth_peer_msg *m = q->first, *want;

    if (m == NULL ||
        (m->gate != NULL && (int32_t)(atomic_load(m->gate) - m->gate_at) < 0))
        return false;
    want = hth_peer_take(&g->rank[to].in[from], m->tag);
    if (want == NULL)
        return false;
    HTH_ASSERT(want->n == m->n);
    if (m->n > 0)
        memcpy(want->data, m->data, m->n);
    g->bytes[from][to][m->tag >> KIND_SHIFT & (KINDS - 1)] += m->n;
    hth_peer_take(q, m->tag);
    if (want->came != NULL)
        want->came(want->ctx, want);
    if (want->then != NULL)
        hth_peer_put(&g->rank[to].out[want->then->peer][want->then->behind],
                     want->then);
    count(m);
    count(want);
    return true;
}

static bool move_pair(struct hth_local_peers *g, uint32_t from, uint32_t to)
{
    struct hth_peer_queue *q = g->rank[from].out[to];

    return move_one(g, from, to, &q[0]) ||
           (q[0].first == NULL && move_one(g, from, to, &q[1]));
}

static void move_all(struct hth_local_peers *g)
{
    bool moved = true;

    while (moved) {
        moved = false;
        for (uint32_t a = 0; a < g->ranks; a++)
            for (uint32_t b = 0; b < g->ranks; b++)
                moved |= a != b && move_pair(g, a, b);
    }
    pthread_cond_broadcast(&g->moved);
}

static void local_send(void *ctx, struct hth_peer_msg *m)
{
    struct local_rank *r = ctx;

    pthread_mutex_lock(&r->group->lock);
    hth_peer_put(&r->out[m->peer][m->behind], m);
    move_all(r->group);
    pthread_mutex_unlock(&r->group->lock);
}

static void local_expect(void *ctx, struct hth_peer_msg *m)
{
    struct local_rank *r = ctx;

    pthread_mutex_lock(&r->group->lock);
    hth_peer_put(&r->in[m->peer], m);
    move_all(r->group);
    pthread_mutex_unlock(&r->group->lock);
}

static int local_wait(void *ctx, const hth_peer_count *n, uint32_t least,
                      struct hth_err *err)
{
    struct local_rank *r = ctx;
    bool cancelled;

    pthread_mutex_lock(&r->group->lock);
    while (!r->group->cancelled && (int32_t)(atomic_load(n) - least) < 0)
        pthread_cond_wait(&r->group->moved, &r->group->lock);
    cancelled = r->group->cancelled;
    pthread_mutex_unlock(&r->group->lock);
    return cancelled ? hth_fail(err, HTH_ECANCELLED, "cancelled") : HTH_OK;
}

static void local_drop(void *ctx)
{
    struct local_rank *r = ctx;

    pthread_mutex_lock(&r->group->lock);
    memset(r->out, 0, sizeof r->out);
    memset(r->in, 0, sizeof r->in);
    pthread_mutex_unlock(&r->group->lock);
}

int hth_local_peers_open(struct hth_local_peers **out, uint32_t ranks)
{
    struct hth_local_peers *g;

    if (ranks == 0 || ranks > HTH_RANKS_MAX)
        return HTH_EINVAL;
    g = calloc(1, sizeof *g);
    if (g == NULL)
        return HTH_ENOMEM;
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->moved, NULL);
    g->ranks = ranks;
    for (uint32_t r = 0; r < ranks; r++) {
        g->rank[r].group = g;
        g->rank[r].rank = r;
        g->rank[r].peers = (struct hth_peers){.ctx = &g->rank[r],
                                              .rank = r,
                                              .ranks = ranks,
                                              .send = local_send,
                                              .expect = local_expect,
                                              .wait = local_wait,
                                              .drop = local_drop};
    }
    *out = g;
    return HTH_OK;
}

void hth_local_peers_close(struct hth_local_peers *g)
{
    if (g == NULL)
        return;
    pthread_cond_destroy(&g->moved);
    pthread_mutex_destroy(&g->lock);
    free(g);
}

struct hth_peers *hth_local_peers_rank(struct hth_local_peers *g, uint32_t rank)
{
    return &g->rank[rank].peers;
}

uint64_t hth_local_peers_bytes(struct hth_local_peers *g, uint32_t from,
                               uint32_t to, enum hth_peer_kind kind)
{
    uint64_t n;

    pthread_mutex_lock(&g->lock);
    n = g->bytes[from][to][kind];
    pthread_mutex_unlock(&g->lock);
    return n;
}

void hth_local_peers_cancel(struct hth_local_peers *g)
{
    pthread_mutex_lock(&g->lock);
    g->cancelled = true;
    pthread_cond_broadcast(&g->moved);
    pthread_mutex_unlock(&g->lock);
}
