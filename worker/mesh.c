/* mesh.c - see mesh.h. What the listener's thread and the rank's share is
 * behind one lock. */
#include "worker/mesh.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "net/listen.h"

#define DIAL_MS 1500u
#define PAUSE_MS 50u

_Static_assert(HTH_RANKS_MAX <= 32, "ranks fit a word of bits");

struct hth_mesh {
    struct hth_mesh_opts o;
    struct hth_listener *listener;
    pthread_mutex_t lock; /* guards what follows */
    uint64_t meeting;     /* that the other side must name, too */
    char device[HTH_RANKS_MAX][HTH_DEVICE_ID_SIZE]; /* who may link */
    struct hth_link *link[HTH_RANKS_MAX];
    bool stopped;
};

/* Listener's thread. Whom we do not know yet may try again. */
static int admit(void *ctx, const struct hth_link_peer *peer,
                 struct hth_err *err)
{
    struct hth_mesh *m = ctx;
    bool good;

    pthread_mutex_lock(&m->lock);
    good = peer->session == m->meeting && peer->rank > m->o.rank &&
           peer->rank < HTH_RANKS_MAX &&
           strcmp(m->device[peer->rank], peer->id) == 0;
    pthread_mutex_unlock(&m->lock);
    return good ? HTH_OK
                : hth_fail(err, HTH_EBUSY, "this device has no such rank here");
}

static void hold(struct hth_mesh *m, uint32_t rank, struct hth_link *link)
{
    struct hth_link *old = link;

    pthread_mutex_lock(&m->lock);
    if (!m->stopped && rank < HTH_RANKS_MAX) {
        old = m->link[rank];
        m->link[rank] = link;
    }
    pthread_mutex_unlock(&m->lock);
    hth_link_close(old);
}

static void on_link(void *ctx, struct hth_link *link)
{
    hold(ctx, hth_link_peer(link)->rank, link);
}

int hth_mesh_open(struct hth_mesh **out, const struct hth_mesh_opts *o,
                  struct hth_err *err)
{
    struct hth_mesh *m = calloc(1, sizeof *m);
    struct hth_listen_opts l = {.link = {.identity = o->identity,
                                         .name = o->name,
                                         .rank = o->rank,
                                         .admit = admit,
                                         .spin_us_max = HTH_SPIN_NEVER},
                                .on_link = on_link};
    int rc;

    if (m == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for links");
    m->o = *o;
    pthread_mutex_init(&m->lock, NULL);
    l.link.admit_ctx = m;
    l.on_link_ctx = m;
    rc = hth_listen_start(&m->listener, &l, err);
    if (rc != HTH_OK) {
        hth_mesh_close(m);
        return rc;
    }
    *out = m;
    return HTH_OK;
}

void hth_mesh_close(struct hth_mesh *m)
{
    if (m == NULL)
        return;
    hth_listen_stop(m->listener);
    for (uint32_t r = 0; r < HTH_RANKS_MAX; r++)
        hth_link_close(m->link[r]);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

uint16_t hth_mesh_port(const struct hth_mesh *m)
{
    return hth_listen_port(m->listener);
}

/* ---- meeting ----------------------------------------------------------------
 */

static bool is_stopped(struct hth_mesh *m)
{
    bool stopped;

    pthread_mutex_lock(&m->lock);
    stopped = m->stopped;
    pthread_mutex_unlock(&m->lock);
    return stopped;
}

/* The other side may not know us yet and refuse; that is worth another try. */
static void dial(struct hth_mesh *m, const struct hth_mesh_peer *p,
                 uint32_t rank, uint64_t until_ms)
{
    struct hth_link_opts o = {.identity = m->o.identity,
                              .name = m->o.name,
                              .expect_id = p->device,
                              .rank = m->o.rank,
                              .session = m->meeting,
                              .handshake_ms = DIAL_MS,
                              .spin_us_max = HTH_SPIN_NEVER};
    struct hth_err err = {0};
    struct hth_link *link;

    while (hth_now_ms() < until_ms && !is_stopped(m)) {
        int rc = hth_link_connect(&link, p->host, p->port, &o, &err);

        if (rc == HTH_OK) {
            hold(m, rank, link);
            return;
        }
        if (rc != HTH_EBUSY && rc != HTH_ETIMEDOUT)
            break;
        hth_sleep_ms(PAUSE_MS);
    }
    hth_log(HTH_LOG_INFO, "NO-DIRECT-LINK", "rank=%u to rank=%u: %s", m->o.rank,
            rank, err.text);
}

static uint32_t linked(struct hth_mesh *m)
{
    uint32_t bits = 0;

    pthread_mutex_lock(&m->lock);
    for (uint32_t r = 0; r < HTH_RANKS_MAX; r++)
        bits |= m->link[r] != NULL ? 1u << r : 0;
    pthread_mutex_unlock(&m->lock);
    return bits;
}

uint32_t hth_mesh_meet(struct hth_mesh *m, uint64_t meeting,
                       const struct hth_mesh_peer *peers, uint32_t ranks)
{
    uint64_t until = hth_now_ms() + HTH_MESH_MS;
    uint32_t want = 0;

    pthread_mutex_lock(&m->lock);
    m->meeting = meeting;
    for (uint32_t r = m->o.rank + 1; r < ranks; r++) {
        memcpy(m->device[r], peers[r].device, sizeof m->device[r]);
        want |= peers[r].device[0] != '\0' ? 1u << r : 0;
    }
    pthread_mutex_unlock(&m->lock);
    for (uint32_t r = 1; r < m->o.rank && r < ranks; r++)
        if (peers[r].device[0] != '\0')
            dial(m, &peers[r], r, until);
    while ((linked(m) & want) != want && hth_now_ms() < until && !is_stopped(m))
        hth_sleep_ms(5);
    return linked(m);
}

void hth_mesh_keep(struct hth_mesh *m, uint32_t bits)
{
    for (uint32_t r = 0; r < HTH_RANKS_MAX; r++)
        if (!(bits >> r & 1))
            hold(m, r, NULL);
    pthread_mutex_lock(&m->lock);
    memset(m->device, 0, sizeof m->device);
    pthread_mutex_unlock(&m->lock);
}

struct hth_link *hth_mesh_link(struct hth_mesh *m, uint32_t rank)
{
    struct hth_link *link;

    pthread_mutex_lock(&m->lock);
    link = m->link[rank];
    pthread_mutex_unlock(&m->lock);
    return link;
}

void hth_mesh_shutdown(struct hth_mesh *m)
{
    pthread_mutex_lock(&m->lock);
    m->stopped = true;
    for (uint32_t r = 0; r < HTH_RANKS_MAX; r++)
        if (m->link[r] != NULL)
            hth_link_shutdown(m->link[r]);
    pthread_mutex_unlock(&m->lock);
}
