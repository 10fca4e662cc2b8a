/* spread.h - how a long prompt's tokens are dealt to ranks, and which blocks
 * of keys and values travel where: the pure part of sequence-parallel prefill.
 *
 * Ring Attention (arXiv 2310.01889): contiguous blocks that rotate. Striped
 * Attention (arXiv 2311.09431): round robin, so that causal work is even.
 * Zigzag: two chunks per rank, one early and one late, which is even too.
 * KV-Runahead (arXiv 2405.05329): contiguous uneven blocks, keys and values
 * passed down a chain. Rows of a rank are its own, in ascending position; a
 * position here counts from the first new token (a cached prefix is before
 * it). Shares may be unequal or empty in every mode.
 *
 * Blocks of keys and values travel from rank to rank + 1 (mod ranks), and stop
 * where nobody further on has a query that may see them. So every rank knows
 * from the spread alone which block comes next and where it goes.
 * Pure: no I/O, no allocation, thread-safe. */
#ifndef HTH_SCHEDULER_SPREAD_H
#define HTH_SCHEDULER_SPREAD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/status.h"

/* X(name, number, text); the number is on the wire. */
#define HTH_PREFILL_MAP(X)   \
    X(TP, 0, "tp")           \
    X(RING, 1, "ring")       \
    X(STRIPED, 2, "striped") \
    X(ZIGZAG, 3, "zigzag")   \
    X(KVR, 4, "kvr")         \
    X(SINGLE, 5, "single")   \
    X(AUTO, 6, "auto")

enum hth_prefill_mode {
#define X(name, number, text) HTH_PREFILL_##name = number,
    HTH_PREFILL_MAP(X)
#undef X
        HTH_PREFILL_MODES
};
const char *hth_prefill_mode_text(uint32_t mode); /* never NULL */
/* The modes that split the sequence over ranks (single: all on one). */
bool hth_prefill_splits(uint32_t mode);

struct hth_spread {
    uint32_t mode;  /* one that splits */
    uint32_t ranks; /* 1 .. HTH_RANKS_MAX */
    uint32_t count; /* new tokens, the sum of rows */
    uint32_t rows[HTH_RANKS_MAX];
};

/* weights[ranks]: relative shares, finite, >= 0, at least one > 0. Rows by
 * largest remainder; HTH_EINVAL otherwise or for a mode that does not split. */
HTH_MUST_CHECK int hth_spread_make(struct hth_spread *out, uint32_t mode,
                                   const double *weights, uint32_t ranks,
                                   uint32_t count);
/* From a peer: mode, ranks and the sum of rows fit together. */
bool hth_spread_valid(const struct hth_spread *s);

/* Positions of a rank's rows, ascending: pos[rows[rank]]. O(count). */
void hth_spread_positions(const struct hth_spread *s, uint32_t rank,
                          uint32_t *pos);
/* The rank that holds the last token. */
uint32_t hth_spread_last(const struct hth_spread *s);
/* Rows of all ranks before this one: where its rows begin when all rows are
 * laid out rank after rank. */
uint32_t hth_spread_before(const struct hth_spread *s, uint32_t rank);

/* May a query of `dst` see a key of `src`? */
bool hth_spread_sees(const struct hth_spread *s, uint32_t dst, uint32_t src);
/* Does the block of `src` come to `dst` (src != dst)? */
bool hth_spread_passes(const struct hth_spread *s, uint32_t src, uint32_t dst);
/* ... and is sent on from there? */
bool hth_spread_goes_on(const struct hth_spread *s, uint32_t src, uint32_t dst);

/* Foreign blocks in the order in which they come to a rank: from[0 .. n). A
 * rank sends on what comes in this order; its own block goes first, in kvr
 * last, because a rank that runs ahead has the prefix before its own rows. */
uint32_t hth_spread_arrivals(const struct hth_spread *s, uint32_t rank,
                             uint32_t from[HTH_RANKS_MAX]);

/* Query-key pairs that causality leaves between two ranks' rows: the work of
 * one round. O(count). scratch: [rows of both]. */
uint64_t hth_spread_pairs(const struct hth_spread *s, uint32_t q_rank,
                          uint32_t k_rank, uint32_t *scratch);

/* Positions whose keys and values cross the link from `rank` to the next one,
 * per layer; the formulas are ring: S_{r+1}, striped and zigzag: count minus
 * the next rank's own, kvr: S_{r+1}, with S the rows before. */
uint64_t hth_spread_link_rows(const struct hth_spread *s, uint32_t rank);

/* Rows of blocks that never come to `rank`; the owner of each sends it the
 * heads that it needs for decoding (repair). */
uint64_t hth_spread_missed_rows(const struct hth_spread *s, uint32_t rank);

#endif
