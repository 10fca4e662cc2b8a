/* attn.h - blockwise attention with online softmax: one kernel for decode,
 * for prompts, and for prompts spread over devices. docs/attention.md.
 *
 * Keys and values come in blocks of up to HTH_ATTN_KEYS keys of one KV head,
 * in the layout below; queries are the heads of a group that shares the KV
 * head, over any number of rows. Every query row and every key carries its
 * absolute position, and a query sees the keys whose position is not above its
 * own. So the same call serves a contiguous cache, striped or zig-zag prompts,
 * and whatever else a peer sends.
 *
 * What a query has seen is a partial (m, l, acc): the largest score, the sum
 * of e^(score - m), and the values weighted alike. Partials over disjoint keys
 * merge (log-sum-exp), and the answer is acc / l. (Milakov and Gimelshein 2018;
 * Rabe and Staats 2021.)
 *
 * Bits: a query's partial depends on its own numbers, its position, and the
 * blocks folded, in their order; not on the queries beside it. The scalar
 * reference is kernels_attn_ref.c; sets agree within docs/kernels.md's bounds.
 *
 * Pure functions over borrowed memory, thread-safe, no allocation; numbers
 * that are not finite give numbers that are not finite. */
#ifndef HTH_KERNELS_ATTN_H
#define HTH_KERNELS_ATTN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"

#define HTH_ATTN_KEYS HTH_KV_BLOCK_POSITIONS /* of a block */
#define HTH_ATTN_LANES 16u                   /* keys side by side in K */

/* ---- blocks of keys and values ------------------------------------------ */

/* A block holds HTH_ATTN_KEYS keys and values of one KV head. Types:
 *   HTH_F32, HTH_F16  K [keys / 16][head_dim][16]: sixteen keys side by side;
 *                     V [keys][hth_attn_dim(head_dim)], the padding zero
 *   HTH_Q8_0          K [keys / 16][head_dim / 32] of {f16 scale[16];
 *                     int8 q[32][16]}; V {f16 scale[head_dim / 32][keys];
 *                     int8 q[keys][head_dim]}; head_dim % 32 == 0
 * Keys beyond those stored may hold anything. */

/* True for the types above where they can hold rows of head_dim numbers. */
bool hth_attn_type_ok(uint32_t type, uint32_t head_dim);
/* head_dim rounded up to 16: floats of a row of V and of acc. */
uint32_t hth_attn_dim(uint32_t head_dim);
size_t hth_attn_k_bytes(uint32_t type, uint32_t head_dim); /* of a block */
size_t hth_attn_v_bytes(uint32_t type, uint32_t head_dim);

/* A block to be written or read back. k, v: 64-byte aligned or not. */
struct hth_attn_block {
    uint32_t type;
    uint32_t head_dim;
    void *k;
    void *v;
};

/* Store key and value number `key` of a block, given as head_dim f32 each. */
void hth_attn_put(const struct hth_attn_block *b, uint32_t key, const float *k,
                  const float *v);
/* The same as rows of b->type, as hth_row_bytes() counts them, for wires and
 * files: what goes in comes out, bit by bit. */
void hth_attn_put_row(const struct hth_attn_block *b, uint32_t key,
                      const void *k, const void *v);
void hth_attn_get_row(const struct hth_attn_block *b, uint32_t key, void *k,
                      void *v);

/* ---- attention ----------------------------------------------------------- */

/* The keys of one block, ascending in position: key i is at pos + i * step,
 * or at `at[i]` where at is not NULL. */
struct hth_attn_keys {
    const void *k;
    const void *v;
    uint32_t count; /* 0 to HTH_ATTN_KEYS */
    uint32_t pos;
    uint32_t step; /* >= 1 */
    const uint32_t *at;
};

/* Query row r, head h is at q + r * ldq + h * head_dim: rotated, not scaled.
 * Rows may have any positions. */
struct hth_attn_queries {
    const float *q;
    size_t ldq;
    const uint32_t *pos; /* [rows] */
    uint32_t rows;
    uint32_t heads; /* that share the KV head */
};

/* Partials of queries [rows][heads]; acc has hth_attn_dim(head_dim) each. */
struct hth_attn_state {
    float *m;
    float *l;
    float *acc;
};

struct hth_attn_job {
    uint32_t type; /* of all blocks */
    uint32_t head_dim;
    float scale; /* of scores: 1 / sqrt(head_dim) as a rule */
    struct hth_attn_queries queries;
    const struct hth_attn_keys *keys; /* [blocks] */
    uint32_t blocks;
    struct hth_attn_state state; /* goes on from here */
    void *scratch;               /* hth_attn_scratch_bytes(), 64-aligned */
};

/* `queries` is rows * heads. */
size_t hth_attn_scratch_bytes(uint32_t queries, uint32_t head_dim);
/* n empty partials: m = -infinity, l = 0, acc = 0. */
void hth_attn_begin(const struct hth_attn_state *s, size_t n,
                    uint32_t head_dim);
/* Fold the blocks into the partials, in their order. */
void hth_attn_fold(const struct hth_attn_job *job);
/* into = what n queries of `into` and of `from` have seen together. An empty
 * partial on either side leaves the other's bits as they are. */
void hth_attn_merge(const struct hth_attn_state *into,
                    const struct hth_attn_state *from, size_t n,
                    uint32_t head_dim);
/* out[i * head_dim ...] = acc / l of n queries; 0 for one that saw no key. */
void hth_attn_finish(const struct hth_attn_state *s, size_t n,
                     uint32_t head_dim, float *out);
/* State of queries from number i on. */
struct hth_attn_state hth_attn_state_at(const struct hth_attn_state *s,
                                        size_t i, uint32_t head_dim);

#endif
