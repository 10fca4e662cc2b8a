/* loader_rare.c - experts: nobody knows which a token needs before its router
 * ran, so they are not read in order but when expected, into slots of a cache.
 * The least recently used one that is not expected gives its slot away. With
 * more experts expected than there are slots (a long prompt wants all), the
 * ones that were computed make room for the next. Everything here runs in the
 * step's thread, under the loader's lock. */
#include <stdlib.h>
#include <string.h>

#include "worker/loader_internal.h"

static uint32_t count_rare(struct hth_loader *l, uint64_t *largest)
{
    uint32_t n = 0;

    *largest = 0;
    for (uint32_t i = 0; i < l->count; i++)
        if (l->piece[i].rare && l->piece[i].bytes > 0) {
            n++;
            if (l->piece[i].bytes > *largest)
                *largest = l->piece[i].bytes;
        }
    return n;
}

int hth_loader__rare_open(struct hth_loader *l, struct hth_err *err)
{
    struct rare_cache *r = &l->rare;

    if (r->owner != NULL)
        return HTH_OK;
    r->slots_max = count_rare(l, &r->slot_bytes);
    r->owner = malloc(r->slots_max * sizeof *r->owner + 1);
    r->queue = malloc(r->slots_max * sizeof *r->queue + 1);
    r->waiting = malloc(r->slots_max * sizeof *r->waiting + 1);
    r->data = calloc(r->slots_max + 1u, sizeof *r->data);
    if (r->owner == NULL || r->queue == NULL || r->waiting == NULL ||
        r->data == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for %u experts",
                        r->slots_max);
    for (uint32_t i = 0; i < r->slots_max; i++)
        r->owner[i] = NO_PIECE;
    r->epoch = 1;
    return HTH_OK;
}

static void free_slot(struct hth_loader *l, uint32_t slot)
{
    hth_pages_free(&l->pages, l->rare.data[slot], l->rare.slot_bytes);
    l->rare.data[slot] = NULL;
}

void hth_loader__rare_close(struct hth_loader *l)
{
    struct rare_cache *r = &l->rare;

    for (uint32_t i = 0; r->data != NULL && i < r->slots_max; i++)
        free_slot(l, i);
    free(r->data);
    free(r->owner);
    free(r->queue);
    free(r->waiting);
}

void hth_loader__rare_size(struct hth_loader *l, uint64_t bytes)
{
    struct rare_cache *r = &l->rare;

    if (r->owner == NULL)
        return;
    bytes /= r->slot_bytes;
    r->slots = bytes < r->slots_max ? (uint32_t)bytes : r->slots_max;
    hth_loader__rare_trim(l);
}

/* May this slot be given away? Not while it is read or held, and not when the
 * step will come for it in this layer. */
static bool is_idle(const struct hth_loader *l, uint32_t slot, bool expected)
{
    const struct piece *p = &l->piece[l->rare.owner[slot]];

    return atomic_load(&p->state) == PIECE_READY &&
           (expected || p->expected != l->rare.epoch);
}

void hth_loader__rare_trim(struct hth_loader *l)
{
    struct rare_cache *r = &l->rare;

    for (uint32_t i = r->slots; i < r->slots_max; i++) {
        if (r->data[i] == NULL ||
            (r->owner[i] != NO_PIECE && !is_idle(l, i, true)))
            continue;
        if (r->owner[i] != NO_PIECE)
            hth_loader__vacate(l, &l->piece[r->owner[i]]);
        free_slot(l, i);
    }
}

/* Has this slot memory now? Within the budget: after a change of plan others
 * may not have left yet. Two there must be, or no expert could come. */
static bool has_memory(struct hth_loader *l, uint32_t slot)
{
    struct rare_cache *r = &l->rare;
    uint64_t held = atomic_load(&l->pages.bytes);

    if (r->data[slot] == NULL &&
        (slot < 2 || held + r->slot_bytes <= l->stats.budget_bytes))
        r->data[slot] = hth_pages_alloc(&l->pages, r->slot_bytes);
    return r->data[slot] != NULL;
}

/* A free slot, or that of the least recently used idle expert; slots when
 * there is none. */
static uint32_t take_slot(struct hth_loader *l, bool expected)
{
    struct rare_cache *r = &l->rare;
    uint32_t best = r->slots;

    for (uint32_t i = 0; i < r->slots; i++) {
        if (r->owner[i] == NO_PIECE) {
            if (has_memory(l, i))
                return i;
            continue;
        }
        if (is_idle(l, i, expected) &&
            (best == r->slots || l->piece[r->owner[i]].last_used <
                                     l->piece[r->owner[best]].last_used))
            best = i;
    }
    if (best < r->slots)
        hth_loader__vacate(l, &l->piece[r->owner[best]]);
    return best;
}

static void read_into(struct hth_loader *l, uint32_t index, uint32_t slot)
{
    struct rare_cache *r = &l->rare;
    struct piece *p = &l->piece[index];

    r->owner[slot] = index;
    p->home = HOME_SLOT;
    p->slot = slot;
    p->data = r->data[slot];
    p->issued = p->under_way = 0;
    p->status = HTH_OK;
    p->last_used = ++r->tick;
    atomic_store(&p->state, PIECE_READING);
    r->queue[r->queued++] = index;
    pthread_cond_broadcast(&l->work);
}

void hth_loader__rare_feed(struct hth_loader *l)
{
    struct rare_cache *r = &l->rare;

    while (r->next_wait < r->waits) {
        uint32_t index = r->waiting[r->next_wait], slot;

        if (l->piece[index].home == HOME_NONE) {
            slot = take_slot(l, false);
            if (slot == r->slots)
                return;
            read_into(l, index, slot);
        }
        r->next_wait++;
    }
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

void hth_loader__rare_expect(struct hth_loader *l, uint32_t first,
                             const uint32_t *n, uint32_t count)
{
    struct rare_cache *r = &l->rare;

    r->epoch++;
    r->waits = r->next_wait = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct piece *p = &l->piece[first + n[i]];

        if (p->bytes == 0 || p->expected == r->epoch)
            continue;
        p->expected = r->epoch;
        if (p->home == HOME_NONE)
            r->waiting[r->waits++] = first + n[i];
    }
    qsort(r->waiting, r->waits, sizeof *r->waiting, by_number);
    hth_loader__rare_feed(l);
}

/* The step holds nothing now, so some slot is idle or will be once its reads
 * are over. */
void hth_loader__rare_need(struct hth_loader *l, uint32_t index)
{
    struct rare_cache *r = &l->rare;
    uint32_t slot;

    if (l->piece[index].home != HOME_NONE)
        return;
    while ((slot = take_slot(l, false)) == r->slots &&
           (slot = take_slot(l, true)) == r->slots)
        pthread_cond_wait(&l->ready, &l->lock);
    read_into(l, index, slot);
}

void hth_loader__rare_used(struct hth_loader *l, uint32_t index)
{
    l->piece[index].expected = 0;
    l->piece[index].last_used = ++l->rare.tick;
    hth_loader__rare_trim(l);
    hth_loader__rare_feed(l);
}
