/* slots.h - the coordinator's book of the KV cache: which slot holds how many
 * positions, and which blocks slots share.
 *
 * Every rank keeps the K and V of its own heads, all in the same blocks and
 * slots, moved by the same operations (worker/step.h). So one book says of all
 * of them how full they are, also when rank 0 holds no heads itself. Counts
 * blocks, knows nothing of their content. One thread; after open nothing is
 * allocated. */
#ifndef HTH_COORDINATOR_SLOTS_H
#define HTH_COORDINATOR_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/status.h"

#define HTH_SLOT_NONE UINT32_MAX

struct hth_slots;

struct hth_slots_opts {
    uint32_t blocks;    /* of the cache, all slots together */
    uint32_t positions; /* per block */
    uint32_t ctx_max;   /* positions of one slot */
};

HTH_MUST_CHECK int hth_slots_open(struct hth_slots **out,
                                  const struct hth_slots_opts *opts,
                                  struct hth_err *err);
void hth_slots_close(struct hth_slots *s); /* NULL is fine */
void hth_slots_clear(struct hth_slots *s); /* everything is free */

/* A slot that nobody holds, now held and empty, or HTH_SLOT_NONE. */
uint32_t hth_slots_take(struct hth_slots *s);
/* Empty it and hold it no more. */
void hth_slots_drop(struct hth_slots *s, uint32_t slot);
bool hth_slots_taken(const struct hth_slots *s, uint32_t slot);

/* Make room for positions [0, positions). False: too few blocks are free, or
 * beyond ctx_max; nothing changed. */
bool hth_slots_grow(struct hth_slots *s, uint32_t slot, uint32_t positions);
/* Keep [0, positions) at most. */
void hth_slots_cut(struct hth_slots *s, uint32_t slot, uint32_t positions);
/* `to`, which is empty, gets [0, positions) of `from`, which has them: whole
 * blocks are shared, of a begun one it has its own. False: there is no free
 * block for that; nothing changed. */
bool hth_slots_fork(struct hth_slots *s, uint32_t from, uint32_t to,
                    uint32_t positions);

/* Blocks for so many positions. */
uint32_t hth_slots_blocks(const struct hth_slots *s, uint32_t positions);
uint32_t hth_slots_held(const struct hth_slots *s, uint32_t slot);
uint32_t hth_slots_used(const struct hth_slots *s);  /* shared ones once */
uint32_t hth_slots_total(const struct hth_slots *s); /* of the cache */

#endif
