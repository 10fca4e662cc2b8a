/* kv.h - the keys and values of a rank's own KV heads, per sequence.
 *
 * Memory comes in blocks of HTH_KV_BLOCK_POSITIONS positions over all layers
 * and local heads. A block is taken when a sequence grows and goes back to a
 * free list when the last sequence that holds it ends or is cut. Sequences can
 * share blocks: hth_kv_fork() gives one the beginning of another, and whoever
 * is about to write into a shared block gets a copy of its own first.
 * Inside a block: [layer][head] of one kernels/attn.h block, K then V.
 *
 * One thread changes the cache; while nobody does, many may store and read
 * different positions. docs/attention.md. */
#ifndef HTH_MODEL_KV_H
#define HTH_MODEL_KV_H

#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/status.h"
#include "kernels/attn.h"

struct hth_kv;

struct hth_kv_opts {
    uint32_t layers;
    uint32_t heads; /* local KV heads; may be 0 */
    uint32_t head_dim;
    uint32_t type;      /* HTH_F32, HTH_F16, HTH_Q8_0 */
    uint32_t ctx_max;   /* positions per sequence */
    uint64_t bytes_max; /* of all blocks; 0: no bound */
};

/* HTH_EUNSUPPORTED with a sentence where a cache of this type cannot hold
 * heads of this size. */
HTH_MUST_CHECK int hth_kv_check(uint32_t type, uint32_t head_dim,
                                struct hth_err *err);
HTH_MUST_CHECK int hth_kv_open(struct hth_kv **out,
                               const struct hth_kv_opts *opts,
                               struct hth_err *err);
void hth_kv_close(struct hth_kv *kv); /* NULL is fine */

/* ---- sequences ----------------------------------------------------------- */

/* Sequences are numbers below HTH_SLOTS_MAX; those of a step are below
 * HTH_SEQS_MAX, the others can keep what is not running. */

/* Make room for positions [0, positions) of a sequence, of which those that it
 * did not have can be written. HTH_ELIMIT beyond ctx_max or bytes_max,
 * HTH_ENOMEM; what is there stays. Allocates: call it before the step, not
 * inside. */
HTH_MUST_CHECK int hth_kv_reserve(struct hth_kv *kv, uint32_t seq,
                                  uint32_t positions, struct hth_err *err);
/* The same for positions [0, first + count), of which [first, first + count)
 * can be written, whoever holds them now. */
HTH_MUST_CHECK int hth_kv_own(struct hth_kv *kv, uint32_t seq, uint32_t first,
                              uint32_t count, struct hth_err *err);
/* Keep only positions [0, positions). 0 frees the sequence. */
void hth_kv_truncate(struct hth_kv *kv, uint32_t seq, uint32_t positions);
/* Let `to`, which must be empty, begin with the first positions of `from`
 * (at most what that has). Shares all blocks, copies nothing; HTH_ENOMEM. */
HTH_MUST_CHECK int hth_kv_fork(struct hth_kv *kv, uint32_t from, uint32_t to,
                               uint32_t positions, struct hth_err *err);
/* Positions reserved for a sequence. */
uint32_t hth_kv_positions(const struct hth_kv *kv, uint32_t seq);

uint64_t hth_kv_bytes(const struct hth_kv *kv); /* blocks in use, once each */
/* In use, and kept for the next sequence. */
uint64_t hth_kv_held_bytes(const struct hth_kv *kv);
/* Give blocks that no sequence holds back to the system. */
void hth_kv_trim(struct hth_kv *kv);
size_t hth_kv_block_bytes(const struct hth_kv *kv);

/* ---- positions ----------------------------------------------------------- */

/* Where in the cache: a position of one local KV head in one layer. */
struct hth_kv_at {
    uint32_t layer;
    uint32_t head; /* local */
    uint32_t pos;
};

/* Write the key and value [head_dim] of a position made writable. */
void hth_kv_store(struct hth_kv *kv, uint32_t seq, const struct hth_kv_at *at,
                  const float *k, const float *v);

/* The block that holds a position, from its first position on: keys->pos is a
 * multiple of HTH_KV_BLOCK_POSITIONS, keys->count the positions reserved. */
void hth_kv_keys(const struct hth_kv *kv, uint32_t seq,
                 const struct hth_kv_at *at, struct hth_attn_keys *keys);

/* Positions of one layer and head outside the cache: rows of its type,
 * hth_kv_row_bytes() each, position after position. */
struct hth_kv_rows {
    uint32_t count;
    void *k;
    void *v;
};
size_t hth_kv_row_bytes(const struct hth_kv *kv);
/* Copy rows->count positions from at->pos on out of or into the cache; all
 * must be reserved, or writable. What was exported imports into the same bits,
 * on any device, into a cache of the same type and head_dim. */
void hth_kv_export(const struct hth_kv *kv, uint32_t seq,
                   const struct hth_kv_at *at, const struct hth_kv_rows *to);
void hth_kv_import(struct hth_kv *kv, uint32_t seq, const struct hth_kv_at *at,
                   const struct hth_kv_rows *from);

#endif
