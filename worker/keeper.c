/* keeper.c - see keeper.h. The lock guards everything but the store; the
 * adapters are touched without it, which `busy` tells. */
#include "worker/keeper.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"
#include "worker/fetch.h"

#define AGAIN_MS 1000u /* after something failed */
#define BUSY_MS 50u    /* after an adapter was in use */

struct list {
    uint64_t number;
    uint32_t n;
    struct hth_msg_lora v[HTH_LORAS_MAX];
};

struct hth_keeper {
    struct hth_keeper_opts o;
    struct hth_store *store;
    pthread_t thread;
    atomic_bool give_up; /* the fetch under way */

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    bool stop, busy, due, tried;
    struct list wish;
    struct hth_adapters *adapters;
    uint64_t has;
    /* The thread's: what the adapters hold, by number; bytes 0: nothing. */
    struct hth_msg_block held[HTH_LORAS_MAX];
    struct list doing;
};

/* ---- one adapter ------------------------------------------------------------
 */

static int fetch(struct hth_keeper *k, const struct hth_store_key *key,
                 struct hth_err *err)
{
    struct hth_fetch f = {.uplink = k->o.uplink,
                          .store = k->store,
                          .keys = key,
                          .count = 1,
                          .stop = &k->give_up};

    return hth_fetch_run(&f, err);
}

static int bring(struct hth_keeper *k, struct hth_adapters *a,
                 const struct hth_msg_lora *m, struct hth_err *err)
{
    struct hth_store_key key = {.bytes = m->slice.bytes};
    struct hth_adapter_slice slice = {NULL, m->slice.bytes};
    int rc;

    memcpy(key.hash, m->slice.hash, sizeof key.hash);
    rc = fetch(k, &key, err);
    if (rc != HTH_OK)
        return rc;
    slice.data = hth_mem_alloc(slice.bytes);
    if (slice.data == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for an adapter");
    rc = hth_store_read(k->store, &key, slice.data, err);
    if (rc != HTH_OK) {
        hth_mem_free(slice.data);
        return rc;
    }
    rc = hth_adapters_put(a, m->id, slice, err);
    if (rc == HTH_OK) {
        k->held[m->id] = m->slice;
        hth_log(HTH_LOG_INFO, "ADAPTER-HERE", "id=%u bytes=%llu", m->id,
                (unsigned long long)m->slice.bytes);
    }
    return rc;
}

static bool same(const struct hth_msg_block *a, const struct hth_msg_block *b)
{
    return a->bytes == b->bytes &&
           memcmp(a->hash, b->hash, sizeof a->hash) == 0;
}

/* What is held and not wished, or wished otherwise, goes first: there may be
 * no room for both. */
static int drop_others(struct hth_keeper *k, struct hth_adapters *a,
                       const struct list *wish)
{
    struct hth_msg_block want[HTH_LORAS_MAX] = {{0}};
    int worst = HTH_OK;

    for (uint32_t i = 0; i < wish->n; i++)
        want[wish->v[i].id] = wish->v[i].slice;
    for (uint32_t i = 0; i < HTH_LORAS_MAX; i++) {
        if (k->held[i].bytes == 0 || same(&k->held[i], &want[i]))
            continue;
        if (hth_adapters_drop(a, i) == HTH_OK)
            k->held[i] = (struct hth_msg_block){0};
        else
            worst = HTH_EBUSY;
    }
    return worst;
}

static int follow(struct hth_keeper *k, struct hth_adapters *a,
                  const struct list *wish)
{
    int worst = drop_others(k, a, wish);

    for (uint32_t i = 0; i < wish->n && worst != HTH_EBUSY; i++) {
        const struct hth_msg_lora *m = &wish->v[i];
        struct hth_err err = {0};
        int rc;

        if (same(&k->held[m->id], &m->slice))
            continue;
        rc = bring(k, a, m, &err);
        if (rc == HTH_OK)
            continue;
        worst = rc;
        if (rc != HTH_ECANCELLED && rc != HTH_EBUSY)
            hth_log(HTH_LOG_ERROR, "ADAPTER-FAILED", "id=%u: %s", m->id,
                    err.text);
    }
    return worst;
}

/* ---- the thread -------------------------------------------------------------
 */

/* Locked. Until there is something to do; false: stop. After a failure, at the
 * latest after so long. */
static bool wait_due(struct hth_keeper *k, uint32_t again_ms)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += (long)(again_ms % 1000) * 1000000L;
    until.tv_sec += again_ms / 1000 + until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    while (!k->stop && (!k->due || k->adapters == NULL)) {
        if (again_ms == 0)
            pthread_cond_wait(&k->wake, &k->lock);
        else if (pthread_cond_timedwait(&k->wake, &k->lock, &until) != 0)
            k->due = k->adapters != NULL;
        if (k->adapters == NULL)
            again_ms = 0;
    }
    return !k->stop;
}

static void *keeper_main(void *arg)
{
    struct hth_keeper *k = arg;
    struct list *wish = &k->doing;
    uint32_t again_ms = 0;

    pthread_mutex_lock(&k->lock);
    while (wait_due(k, again_ms)) {
        struct hth_adapters *a = k->adapters;
        int rc;

        *wish = k->wish;
        k->due = false;
        k->busy = true;
        atomic_store(&k->give_up, false);
        pthread_mutex_unlock(&k->lock);
        rc = follow(k, a, wish);
        pthread_mutex_lock(&k->lock);
        k->busy = false;
        if (k->adapters == a && !k->due) {
            k->tried = rc != HTH_ECANCELLED;
            k->has = rc == HTH_OK ? wish->number : 0;
        }
        again_ms = rc == HTH_OK ? 0 : rc == HTH_EBUSY ? BUSY_MS : AGAIN_MS;
        pthread_cond_broadcast(&k->wake);
        pthread_mutex_unlock(&k->lock);
        k->o.changed(k->o.ctx);
        pthread_mutex_lock(&k->lock);
    }
    pthread_mutex_unlock(&k->lock);
    return NULL;
}

/* ---- control
 * ------------------------------------------------------------------ */

int hth_keeper_start(struct hth_keeper **out, const struct hth_keeper_opts *o,
                     struct hth_err *err)
{
    struct hth_keeper *k = calloc(1, sizeof *k);
    int rc;

    if (k == NULL)
        return hth_fail(err, HTH_ENOMEM, "worker: out of memory");
    k->o = *o;
    pthread_mutex_init(&k->lock, NULL);
    pthread_cond_init(&k->wake, NULL);
    rc = hth_store_open(&k->store, &o->store, err);
    if (rc == HTH_OK && pthread_create(&k->thread, NULL, keeper_main, k) != 0)
        rc = hth_fail(err, HTH_ENOMEM, "cannot start a thread");
    if (rc == HTH_OK) {
        *out = k;
        return HTH_OK;
    }
    hth_store_close(k->store);
    free(k);
    return rc;
}

void hth_keeper_stop(struct hth_keeper *k)
{
    if (k == NULL)
        return;
    pthread_mutex_lock(&k->lock);
    k->stop = true;
    atomic_store(&k->give_up, true);
    pthread_cond_broadcast(&k->wake);
    pthread_mutex_unlock(&k->lock);
    pthread_join(k->thread, NULL);
    hth_store_close(k->store);
    pthread_cond_destroy(&k->wake);
    pthread_mutex_destroy(&k->lock);
    free(k);
}

/* Numbers start anew with a coordinator: the slices are compared, too. */
static bool same_list(const struct list *a, const struct list *b)
{
    bool equal = a->number == b->number && a->n == b->n;

    for (uint32_t i = 0; equal && i < a->n; i++)
        equal =
            a->v[i].id == b->v[i].id && same(&a->v[i].slice, &b->v[i].slice);
    return equal;
}

void hth_keeper_wish(struct hth_keeper *k, const struct hth_msg_command *cmd)
{
    struct list wish = {.number = cmd->loras_number};
    struct hth_msg_lora m;

    for (uint32_t i = 0; i < hth_msg_loras(cmd); i++) {
        hth_msg_lora_at(cmd, i, &m);
        if (m.id < HTH_LORAS_MAX && m.slice.bytes > 0 &&
            m.slice.bytes <= HTH_LORA_BYTES_MAX)
            wish.v[wish.n++] = m;
    }
    pthread_mutex_lock(&k->lock);
    if (!same_list(&k->wish, &wish)) {
        k->wish = wish;
        k->due = true;
        k->tried = false;
        k->has = 0;
        atomic_store(&k->give_up, true);
        pthread_cond_broadcast(&k->wake);
    }
    pthread_mutex_unlock(&k->lock);
}

void hth_keeper_serve(struct hth_keeper *k, struct hth_adapters *a)
{
    pthread_mutex_lock(&k->lock);
    k->adapters = NULL;
    atomic_store(&k->give_up, true);
    while (k->busy)
        pthread_cond_wait(&k->wake, &k->lock);
    memset(k->held, 0, sizeof k->held);
    k->adapters = a;
    k->has = 0;
    k->tried = false;
    k->due = true;
    pthread_cond_broadcast(&k->wake);
    pthread_mutex_unlock(&k->lock);
}

uint64_t hth_keeper_has(struct hth_keeper *k)
{
    uint64_t has;

    pthread_mutex_lock(&k->lock);
    has = k->has;
    pthread_mutex_unlock(&k->lock);
    return has;
}

bool hth_keeper_tried(struct hth_keeper *k)
{
    bool tried;

    pthread_mutex_lock(&k->lock);
    tried = k->tried || k->adapters == NULL;
    pthread_mutex_unlock(&k->lock);
    return tried;
}
