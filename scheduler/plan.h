/* plan.h - who computes what: a model's shape and the devices' shares in,
 * contiguous ranges of heads, FFN rows and vocabulary rows out.
 *
 * Pure: plain numbers, no I/O, no allocation, thread-safe. The same input
 * gives the same plan on every machine.
 *
 * Query heads are dealt in units of heads_unit, FFN rows in units of ff_unit,
 * so that the columns of the second matrix (attention output, down) are cut
 * between quantisation blocks and every slice is exact. A rank holds the KV
 * heads its query heads need; a KV head whose group is cut is held by several
 * ranks. A share may be empty. Largest-remainder rounding over units. */
#ifndef HTH_SCHEDULER_PLAN_H
#define HTH_SCHEDULER_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/status.h"

struct hth_shape {
    uint32_t layers;
    uint32_t dim;
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t head_dim;
    uint32_t ff; /* rows of gate/up (of one expert where there are experts) */
    uint32_t vocab;
    uint32_t experts;      /* 0: dense */
    uint32_t experts_used; /* per token */
    uint32_t heads_unit;   /* divides heads */
    uint32_t ff_unit;      /* divides ff */
    /* Weight bytes over all layers, for one of each thing that is cut. */
    uint64_t head_bytes;     /* one query head: its q rows, output columns */
    uint64_t kv_bytes;       /* one KV head: its k and v rows */
    uint64_t ff_bytes;       /* one FFN row (all experts) */
    uint64_t vocab_bytes;    /* one vocabulary row of the output matrix */
    uint64_t kv_cache_bytes; /* one KV head, one position */
};

struct hth_share {
    uint32_t head_first, heads;
    uint32_t kv_first, kvs;
    uint32_t ff_first, ff;
    uint32_t vocab_first, vocab;
};

struct hth_plan {
    uint32_t ranks;
    struct hth_share share[HTH_RANKS_MAX];
};

/* weights[ranks]: relative shares, finite, >= 0, at least one > 0. */
HTH_MUST_CHECK int hth_plan_make(const struct hth_shape *shape,
                                 const double *weights, uint32_t ranks,
                                 struct hth_plan *out, struct hth_err *err);

/* True when the rank computes nothing at all. */
bool hth_share_empty(const struct hth_share *s);

struct hth_plan_device {
    double speed;          /* bytes of weights per second, or any one unit */
    uint64_t memory_bytes; /* 0: no bound */
};

/* Shares in proportion to speed, capped by memory (weights plus a KV cache of
 * ctx positions): what one device cannot hold goes to the others.
 * HTH_EOVERFLOW with the bytes that are missing when all together cannot hold
 * the model. weights_out[ranks] may be NULL. */
struct hth_plan_request {
    const struct hth_plan_device *devices;
    uint32_t ranks;
    uint32_t ctx;    /* positions of KV cache to leave room for */
    bool may_stream; /* weights beyond all memory together are not missing:
                        shares are as if each memory were larger by the same
                        factor, so that all stream the same part */
};
HTH_MUST_CHECK int hth_plan_auto(const struct hth_shape *shape,
                                 const struct hth_plan_request *request,
                                 struct hth_plan *out, double *weights_out,
                                 struct hth_err *err);

/* Weight bytes of one share, and its KV-cache bytes per position. */
uint64_t hth_share_weight_bytes(const struct hth_shape *shape,
                                const struct hth_share *s);
uint64_t hth_share_kv_bytes(const struct hth_shape *shape,
                            const struct hth_share *s);

/* Payload bytes per decoded token on the link of one worker, one direction,
 * of the two all-reduces per layer: 2 * layers * row_bytes, where row_bytes
 * is what the wire type makes of dim numbers. */
uint64_t hth_plan_reduce_bytes(const struct hth_shape *shape,
                               uint64_t row_bytes);

#endif
