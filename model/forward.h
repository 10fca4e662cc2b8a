/* forward.h - one rank's share of the forward pass.
 *
 * A step takes a batch of (sequence, position) rows with their embeddings and
 * leaves the hidden state after the last layer in place; every rank ends with
 * the same bits, because the residual is replicated and the all-reduce gives
 * the same sum everywhere. After hth_kv_reserve() for the rows, a step
 * allocates nothing, locks nothing and calls no system beyond the
 * collective's and the block source's. One thread drives it; the pool computes.
 */
#ifndef HTH_MODEL_FORWARD_H
#define HTH_MODEL_FORWARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/status.h"
#include "kernels/pool.h"
#include "model/blocks.h"
#include "model/collective.h"
#include "model/kv.h"
#include "model/lora.h"
#include "model/shard.h"
#include "model/spec.h"

struct hth_forward;

struct hth_forward_opts {
    const struct hth_spec *spec; /* borrowed for life */
    const struct hth_plan *plan; /* borrowed for life */
    uint32_t rank;
    uint32_t rows_max; /* of a step, <= HTH_STEP_ROWS_MAX */
    uint32_t kv_type;  /* HTH_F32, HTH_F16, HTH_Q8_0 */
    uint32_t ctx_max;
    uint64_t kv_bytes_max;
    struct hth_pool *pool; /* borrowed; NULL: the calling thread only */
    bool lora;             /* rows may have adapters */
};

HTH_MUST_CHECK int hth_forward_open(struct hth_forward **out,
                                    const struct hth_forward_opts *opts,
                                    struct hth_err *err);
void hth_forward_close(struct hth_forward *f); /* NULL is fine */

/* Give the bytes of block `index`, after hth_block_pack() (borrowed until
 * close). Blocks of 0
 * bytes need not be bound. */
void hth_forward_bind(struct hth_forward *f, uint32_t index, const void *data);
/* Weights that come and go: before a piece's compute the step asks `b`
 * (borrowed until close) for it and binds what it gets. Instead of calls to
 * hth_forward_bind(). */
void hth_forward_source(struct hth_forward *f, const struct hth_blocks *b);
/* The other ranks; NULL: this rank is alone. */
void hth_forward_join(struct hth_forward *f, struct hth_collective *c);
struct hth_kv *hth_forward_kv(struct hth_forward *f);

struct hth_batch {
    uint32_t rows;
    const uint32_t *seq; /* [rows] */
    const uint32_t *pos; /* [rows]; rows of one sequence ascend */
    float *x;            /* [rows][dim] in: embeddings; out: hidden state */
    /* [rows] what is added for each (NULL: nothing); NULL: for none. Needs
     * opts.lora. */
    const struct hth_lora_set *const *lora;
    /* Two halves of the rows take turns: while one is summed over the ranks the
     * other is computed. The same bits; all ranks alike. Nothing where the
     * collective cannot, or there is one row. */
    bool halves;
};

/* Where a step's time goes. X(name, text) */
#define HTH_OP_MAP(X)                \
    X(NORM, "norms, residual")       \
    X(QKV, "q, k, v")                \
    X(ROPE, "rope, cache write")     \
    X(ATTENTION, "attention")        \
    X(ATTN_OUT, "attention output")  \
    X(ROUTE, "router, gather")       \
    X(FFN_UP, "ffn gate, up")        \
    X(SWIGLU, "silu")                \
    X(FFN_DOWN, "ffn down")          \
    X(OUTPUT, "vocabulary")          \
    X(BLOCKS, "waiting for weights") \
    X(LORA, "adapters")              \
    X(REDUCE, "all-reduce")

enum hth_op {
#define X(name, text) HTH_OP_##name,
    HTH_OP_MAP(X)
#undef X
        HTH_OP_COUNT
};
const char *hth_op_text(enum hth_op op); /* "ffn down"; never NULL */

struct hth_forward_times {
    uint64_t compute_ns; /* without reduce_ns and waits for weights */
    uint64_t reduce_ns;  /* inside the collective */
    uint64_t steps;
    uint64_t op_ns[HTH_OP_COUNT]; /* reduce_ns is op_ns[HTH_OP_REDUCE] */
};

HTH_MUST_CHECK int hth_forward_step(struct hth_forward *f,
                                    const struct hth_batch *b,
                                    struct hth_err *err);
/* Logits of this rank's vocabulary rows for n hidden rows. x: [n][dim], out:
 * [n][share.vocab]. Fails only when the source does. */
HTH_MUST_CHECK int hth_forward_logits(struct hth_forward *f, const float *x,
                                      uint32_t n, float *out,
                                      struct hth_err *err);
const struct hth_forward_times *hth_forward_times(const struct hth_forward *f);

/* ---- a layer around somebody else's attention ------------------------------
 *
 * For prompts spread over ranks (model/seqpar.h): a forward whose plan gives
 * one rank everything runs a layer's products over rows whose attention is
 * computed elsewhere. b->seq is NULL, the cache is not touched. Pieces of
 * weights are asked for once per call. */

/* Rows of the last hth_forward_project(), rotated; borrowed until the next. */
struct hth_qkv {
    const float *q; /* [rows][heads * head_dim] */
    const float *k; /* [rows][kv_heads * head_dim] */
    const float *v;
};
HTH_MUST_CHECK int hth_forward_project(struct hth_forward *f, uint32_t layer,
                                       const struct hth_batch *b,
                                       struct hth_qkv *out,
                                       struct hth_err *err);
/* b->x += output matrix times att [rows][heads * head_dim], then the FFN. */
HTH_MUST_CHECK int hth_forward_conclude(struct hth_forward *f, uint32_t layer,
                                        const struct hth_batch *b,
                                        const float *att, struct hth_err *err);

#endif
