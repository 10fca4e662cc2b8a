/* prefix.h - which prompts the KV cache holds already: a radix tree of token
 * ids, whose every edge is a run of whole units of HTH_PREFIX_TOKENS or so.
 *
 * A leaf is a slot of the cache that holds all tokens on the way to it; inner
 * nodes are where kept texts part. So any leaf below a node serves the prefix
 * that ends at the node, and forking it shares its blocks. Two children of a
 * node differ within their first unit, those of the root also where their
 * variants do. What is not used longest goes first.
 * Owns copies of the tokens; knows nothing of keys and values. One thread. */
#ifndef HTH_COORDINATOR_PREFIX_H
#define HTH_COORDINATOR_PREFIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/status.h"
#include "coordinator/slots.h"

struct hth_prefix;

/* Tokens and what, beside the model, their keys and values were computed with:
 * a number for the adapters and their scales, 0 for none. Only contexts of one
 * variant have anything in common. */
struct hth_context {
    const uint32_t *tokens; /* [n] */
    uint32_t n;
    uint64_t variant;
};

/* unit: tokens; texts are told apart by whole units. */
HTH_MUST_CHECK int hth_prefix_open(struct hth_prefix **out, uint32_t unit,
                                   struct hth_err *err);
void hth_prefix_close(struct hth_prefix *p); /* NULL is fine */
void hth_prefix_clear(struct hth_prefix *p); /* knows nothing any more */

/* How many of the first tokens are known, in whole units; *slot holds them
 * (and may hold more). 0: none are. Counts as a use. */
uint32_t hth_prefix_match(struct hth_prefix *p, const struct hth_context *c,
                          uint32_t *slot);

/* `slot` holds the K and V of all of c; whole units of it become known.
 * *drop is the slot that nobody needs for that any more: `slot` itself where
 * another holds as much, a shorter one that `slot` goes beyond, or
 * HTH_SLOT_NONE. A slot that is known already may come again with more
 * tokens, never with other ones. HTH_ENOMEM: nothing changed, *drop is the
 * slot. */
HTH_MUST_CHECK int hth_prefix_insert(struct hth_prefix *p,
                                     const struct hth_context *c, uint32_t slot,
                                     uint32_t *drop);
bool hth_prefix_known(const struct hth_prefix *p, uint32_t slot);
/* A slot in use is not chosen by hth_prefix_oldest(), while it is known. */
void hth_prefix_pin(struct hth_prefix *p, uint32_t slot, bool pinned);
/* The slot not used for longest, still known; HTH_SLOT_NONE: none that is not
 * pinned. */
uint32_t hth_prefix_oldest(const struct hth_prefix *p);
void hth_prefix_remove(struct hth_prefix *p, uint32_t slot);

/* The tokens of a known slot, copied to out[max]; returns how many it has. */
uint32_t hth_prefix_tokens(const struct hth_prefix *p, uint32_t slot,
                           uint32_t *out, uint32_t max);
/* Its variant; 0 for a slot that is not known. */
uint64_t hth_prefix_variant(const struct hth_prefix *p, uint32_t slot);

uint32_t hth_prefix_slots(const struct hth_prefix *p);
uint64_t hth_prefix_positions(const struct hth_prefix *p); /* shared once */

#endif
