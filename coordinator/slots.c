/* slots.c - reference counts of blocks, and the list of each slot's blocks.
 * Block numbers exist in this book only: the ranks name blocks by slot and
 * position. */
#include "coordinator/slots.h"

#include <stdlib.h>
#include <string.h>

struct slot {
    uint32_t *block; /* [per_slot] */
    uint32_t count;
    bool taken;
};

struct hth_slots {
    struct hth_slots_opts o;
    uint32_t per_slot;  /* blocks of a slot at most */
    uint32_t *refs;     /* [blocks] */
    uint32_t *free_one; /* [blocks], a stack */
    uint32_t free_count;
    struct slot slot[HTH_SLOTS_MAX];
};

static int alloc_lists(struct hth_slots *s)
{
    s->refs = calloc(s->o.blocks, sizeof *s->refs);
    s->free_one = calloc(s->o.blocks, sizeof *s->free_one);
    return s->refs != NULL && s->free_one != NULL ? HTH_OK : HTH_ENOMEM;
}

int hth_slots_open(struct hth_slots **out, const struct hth_slots_opts *opts,
                   struct hth_err *err)
{
    struct hth_slots *s = calloc(1, sizeof *s);

    HTH_ASSERT(opts->blocks > 0 && opts->positions > 0);
    if (s == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for the cache's book");
    s->o = *opts;
    s->per_slot = hth_slots_blocks(s, opts->ctx_max);
    if (alloc_lists(s) != HTH_OK) {
        hth_slots_close(s);
        return hth_fail(err, HTH_ENOMEM, "no memory for the cache's book");
    }
    hth_slots_clear(s);
    *out = s;
    return HTH_OK;
}

void hth_slots_close(struct hth_slots *s)
{
    if (s == NULL)
        return;
    for (uint32_t i = 0; i < HTH_SLOTS_MAX; i++)
        free(s->slot[i].block);
    free(s->refs);
    free(s->free_one);
    free(s);
}

void hth_slots_clear(struct hth_slots *s)
{
    memset(s->refs, 0, s->o.blocks * sizeof *s->refs);
    for (uint32_t i = 0; i < HTH_SLOTS_MAX; i++) {
        s->slot[i].count = 0;
        s->slot[i].taken = false;
    }
    s->free_count = s->o.blocks;
    for (uint32_t i = 0; i < s->o.blocks; i++)
        s->free_one[i] = s->o.blocks - 1 - i;
}

/* A slot's list is made the first time it is taken and kept: after a while
 * nothing is allocated any more. */
uint32_t hth_slots_take(struct hth_slots *s)
{
    for (uint32_t i = 0; i < HTH_SLOTS_MAX; i++) {
        struct slot *v = &s->slot[i];

        if (v->taken)
            continue;
        if (v->block == NULL)
            v->block = calloc(s->per_slot, sizeof *v->block);
        if (v->block == NULL)
            return HTH_SLOT_NONE;
        v->taken = true;
        return i;
    }
    return HTH_SLOT_NONE;
}

bool hth_slots_taken(const struct hth_slots *s, uint32_t slot)
{
    return slot < HTH_SLOTS_MAX && s->slot[slot].taken;
}

static struct slot *held(struct hth_slots *s, uint32_t slot)
{
    HTH_ASSERT(hth_slots_taken(s, slot));
    return &s->slot[slot];
}

void hth_slots_drop(struct hth_slots *s, uint32_t slot)
{
    hth_slots_cut(s, slot, 0);
    held(s, slot)->taken = false;
}

bool hth_slots_grow(struct hth_slots *s, uint32_t slot, uint32_t positions)
{
    struct slot *v = held(s, slot);
    uint32_t want = hth_slots_blocks(s, positions);

    if (positions > s->o.ctx_max ||
        (want > v->count && want - v->count > s->free_count))
        return false;
    while (v->count < want) {
        uint32_t block = s->free_one[--s->free_count];

        s->refs[block] = 1;
        v->block[v->count++] = block;
    }
    return true;
}

void hth_slots_cut(struct hth_slots *s, uint32_t slot, uint32_t positions)
{
    struct slot *v = held(s, slot);
    uint32_t keep = hth_slots_blocks(s, positions);

    while (v->count > keep) {
        uint32_t block = v->block[--v->count];

        if (--s->refs[block] == 0)
            s->free_one[s->free_count++] = block;
    }
}

bool hth_slots_fork(struct hth_slots *s, uint32_t from, uint32_t to,
                    uint32_t positions)
{
    const struct slot *a = held(s, from);
    struct slot *b = held(s, to);
    uint32_t n = positions / s->o.positions;

    HTH_ASSERT(from != to && b->count == 0);
    HTH_ASSERT(hth_slots_blocks(s, positions) <= a->count);
    if (positions % s->o.positions != 0 && s->free_count == 0)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        b->block[i] = a->block[i];
        s->refs[a->block[i]]++;
    }
    b->count = n;
    return hth_slots_grow(s, to, positions);
}

uint32_t hth_slots_blocks(const struct hth_slots *s, uint32_t positions)
{
    return positions / s->o.positions + (positions % s->o.positions != 0);
}

uint32_t hth_slots_held(const struct hth_slots *s, uint32_t slot)
{
    return s->slot[slot].count;
}

uint32_t hth_slots_used(const struct hth_slots *s)
{
    return s->o.blocks - s->free_count;
}

uint32_t hth_slots_total(const struct hth_slots *s)
{
    return s->o.blocks;
}
