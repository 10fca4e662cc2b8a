/* deal.c - see deal.h. Owns a lane per thread: the tiles it was dealt, from
 * which it and, when they are done, the others take. */
#include "kernels/deal.h"

#include <sched.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/mem.h"
#include "kernels/slice.h"

#define LEARN_NS_MIN 50000u /* shorter deals measure the clock */
#define LEARN_PART 0.3f     /* of the way to what was measured */
#define SHARE_MIN 0.02f     /* of an equal share: enough to be measured again */

/* The cursor is everybody's, the record is the owner's. */
struct lane {
    _Alignas(HTH_MEM_ALIGN) _Atomic uint32_t next;
    uint32_t end;
    _Alignas(HTH_MEM_ALIGN) struct hth_deal_work work;
    uint64_t begin_ns;      /* 0: not here yet */
    struct hth_slice slice; /* over all deals */
    bool leaves;            /* to yield */
};

struct hth_deal {
    uint32_t threads;
    enum hth_deal_class class;
    uint64_t tile_work;
    float *share;               /* [HTH_DEAL_CLASSES][threads] */
    struct hth_deal_work *work; /* [threads], for learning */
    struct lane lane[];
};

struct hth_deal *hth_deal_open(uint32_t threads)
{
    size_t lanes = sizeof(struct hth_deal) + threads * sizeof(struct lane);
    size_t works = threads * sizeof(struct hth_deal_work);
    size_t shares = HTH_DEAL_CLASSES * threads * sizeof(float);
    struct hth_deal *d = hth_mem_alloc(lanes + works + shares);

    if (d == NULL)
        return NULL;
    d->threads = threads;
    d->work = (struct hth_deal_work *)(void *)((uint8_t *)d + lanes);
    d->share = (float *)(void *)((uint8_t *)d + lanes + works);
    for (uint32_t i = 0; i < HTH_DEAL_CLASSES * threads; i++)
        d->share[i] = 1.0f / (float)threads;
    return d;
}

void hth_deal_close(struct hth_deal *d)
{
    hth_mem_free(d);
}

void hth_deal_guess(struct hth_deal *d, const uint32_t *speed)
{
    float sum = 0.0f;

    for (uint32_t i = 0; i < d->threads; i++) {
        if (speed[i] == 0)
            return;
        sum += (float)speed[i];
    }
    for (uint32_t i = 0; i < HTH_DEAL_CLASSES * d->threads; i++)
        d->share[i] = (float)speed[i % d->threads] / sum;
}

void hth_deal_begin(struct hth_deal *d, enum hth_deal_class class,
                    uint32_t tiles, uint64_t work)
{
    const float *share = d->share + (size_t) class * d->threads;
    float sum = 0.0f;
    uint32_t at = 0;

    d->class = class;
    d->tile_work = work;
    for (uint32_t i = 0; i < d->threads; i++) {
        struct lane *l = &d->lane[i];

        sum += share[i];
        atomic_store_explicit(&l->next, at, memory_order_relaxed);
        at = (uint32_t)((float)tiles * sum + 0.5f);
        if (at > tiles || i + 1 == d->threads)
            at = tiles;
        l->end = at;
        l->work = (struct hth_deal_work){0};
        l->begin_ns = 0;
    }
}

/* A tile of one lane. The look before the taking keeps those who find nothing
 * from writing to others' lines. */
static bool take_from(struct lane *l, uint32_t *tile)
{
    if (atomic_load_explicit(&l->next, memory_order_relaxed) >= l->end)
        return false;
    *tile = atomic_fetch_add_explicit(&l->next, 1, memory_order_relaxed);
    return *tile < l->end;
}

bool hth_deal_take(struct hth_deal *d, uint32_t thread, uint32_t *tile)
{
    struct lane *mine = &d->lane[thread];
    uint32_t from = thread;

    if (mine->begin_ns == 0) {
        mine->begin_ns = hth_now_ns();
        hth_slice_wake(&mine->slice, mine->begin_ns, d->tile_work);
    } else if (thread > 0 && hth_slice_due(&mine->slice, hth_now_ns())) {
        mine->work.ns = mine->slice.seen_ns - mine->begin_ns;
        mine->leaves = true;
        return false;
    }
    for (uint32_t i = 0; i < d->threads; i++) {
        if (take_from(&d->lane[from], tile)) {
            mine->work.tiles++;
            return true;
        }
        from = from + 1 == d->threads ? 0 : from + 1;
    }
    mine->work.ns = hth_now_ns() - mine->begin_ns;
    return false;
}

void hth_deal_rest(struct hth_deal *d, uint32_t thread)
{
    struct lane *mine = &d->lane[thread];

    if (!mine->leaves)
        return;
    mine->leaves = false;
    (void)sched_yield();
    hth_slice_back(&mine->slice, hth_now_ns());
}

/* Threads that were there divide among themselves what they had. */
void hth_deal_learn(float *share, const struct hth_deal_work *work,
                    uint32_t threads)
{
    float speeds = 0.0f, there = 0.0f, sum = 0.0f;

    for (uint32_t i = 0; i < threads; i++)
        if (work[i].tiles > 0) {
            speeds += (float)work[i].tiles / (float)(work[i].ns + 1);
            there += share[i];
        }
    if (speeds <= 0.0f)
        return;
    for (uint32_t i = 0; i < threads; i++) {
        float now = (float)work[i].tiles / (float)(work[i].ns + 1) / speeds;

        now *= there;
        now = now < share[i] / 2 ? share[i] / 2 : now;
        now = now > share[i] * 2 ? share[i] * 2 : now;
        if (work[i].tiles > 0)
            share[i] += LEARN_PART * (now - share[i]);
        if (share[i] < SHARE_MIN / (float)threads)
            share[i] = SHARE_MIN / (float)threads;
        sum += share[i];
    }
    for (uint32_t i = 0; i < threads; i++)
        share[i] /= sum;
}

void hth_deal_end(struct hth_deal *d)
{
    uint64_t most = 0;

    for (uint32_t i = 0; i < d->threads; i++) {
        d->work[i] = d->lane[i].work;
        most = d->work[i].ns > most ? d->work[i].ns : most;
    }
    if (most >= LEARN_NS_MIN)
        hth_deal_learn(d->share + (size_t)d->class * d->threads, d->work,
                       d->threads);
}

float hth_deal_share(const struct hth_deal *d, enum hth_deal_class class,
                     uint32_t thread)
{
    return d->share[(size_t) class * d->threads + thread];
}

struct hth_deal_work hth_deal_done(const struct hth_deal *d, uint32_t thread)
{
    return d->work[thread];
}
