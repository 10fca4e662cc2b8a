/* attention.h - a step's attention of one rank: which rows go together, who
 * computes what, and in which order partials are merged.
 *
 * A row's keys are cut into chunks at fixed positions, and the chunks' partials
 * are merged in ascending order. So a row's bits depend on its own position
 * only: not on the number of threads, nor on the rows computed beside it
 * (docs/attention.md). One thread drives it; the pool computes. */
#ifndef HTH_MODEL_ATTENTION_H
#define HTH_MODEL_ATTENTION_H

#include <stdint.h>

#include "base/status.h"
#include "kernels/pool.h"
#include "model/kv.h"
#include "scheduler/plan.h"

struct hth_attention;

struct hth_attention_opts {
    const struct hth_share *share; /* borrowed for life; heads > 0 */
    uint32_t group;                /* query heads per KV head of the model */
    uint32_t head_dim;
    uint32_t kv_type;
    uint32_t rows_max;     /* of a step */
    struct hth_pool *pool; /* borrowed; NULL: the calling thread only */
};

HTH_MUST_CHECK int hth_attention_open(struct hth_attention **out,
                                      const struct hth_attention_opts *opts,
                                      struct hth_err *err);
void hth_attention_close(struct hth_attention *a); /* NULL is fine */

/* The rows of a step: once per step, before its layers. Rows of one sequence
 * that follow each other share the keys they read. Borrows both arrays until
 * the next call. */
void hth_attention_rows(struct hth_attention *a, uint32_t rows,
                        const uint32_t *seq, const uint32_t *pos);

/* Attention of all rows over the cache's positions [0, their own], which are
 * stored. q, out: [rows][share->heads * head_dim]; q rotated, not scaled.
 * Allocates nothing. */
struct hth_attention_layer {
    const struct hth_kv *kv;
    uint32_t layer;
    const float *q;
    float *out;
};
void hth_attention_run(struct hth_attention *a,
                       const struct hth_attention_layer *l);

/* Local query heads [*first, *first + *count) that share local KV head `kv`;
 * the rank's borders may cut a group. */
void hth_group_heads(const struct hth_share *share, uint32_t group, uint32_t kv,
                     uint32_t *first, uint32_t *count);

#endif
