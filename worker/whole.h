/* whole.h - whole layers on a rank, for prompts that are spread over ranks.
 *
 * Beside its slices a rank may have all layers' full weights: in memory where
 * they fit the budget, else two layers at a time, read ahead by a thread while
 * the layer before is computed. They come from a block source like the
 * slices' (rank.h); the blocks are those of a plan with one rank, without the
 * head.
 *
 * Threads: one, plus the reader inside. Failure: a source that fails fails the
 * layer that needs it, with the source's sentence. */
#ifndef HTH_WORKER_WHOLE_H
#define HTH_WORKER_WHOLE_H

#include "model/forward.h"

struct hth_whole;

/* Fill dst with the `bytes` bytes of whole block `index`. Any one thread. */
typedef int (*hth_whole_source)(void *ctx, uint32_t index, void *dst,
                                uint64_t bytes, struct hth_err *err);

struct hth_whole_opts {
    const struct hth_spec *spec; /* borrowed for life */
    uint32_t rows_max;
    uint32_t kv_type;
    struct hth_pool *pool; /* borrowed */
    hth_whole_source source;
    void *source_ctx;
    uint64_t budget_bytes; /* for all of it; 0: no bound */
};

/* HTH_EOVERFLOW: not even two layers fit; says what is needed. */
HTH_MUST_CHECK int hth_whole_open(struct hth_whole **out,
                                  const struct hth_whole_opts *opts,
                                  struct hth_err *err);
void hth_whole_close(struct hth_whole *w); /* NULL is fine */

/* Its forward pass: one rank has everything. */
struct hth_forward *hth_whole_forward(struct hth_whole *w);
/* Have a layer's weights bound; layers go up, then start again. The signature
 * is that of model/seqpar.h's take_layer. */
HTH_MUST_CHECK int hth_whole_layer(void *whole, uint32_t layer,
                                   struct hth_err *err);
/* Blocks there are: two per layer. */
uint32_t hth_whole_blocks(const struct hth_spec *spec);
/* Block `index` of whole layers. */
void hth_whole_block(const struct hth_spec *spec, uint32_t index,
                     struct hth_block *out);
/* Bytes of block `index`; of all; of what two layers and the activations take
 * at least. */
uint64_t hth_whole_block_bytes(const struct hth_spec *spec, uint32_t index);
uint64_t hth_whole_bytes(const struct hth_spec *spec);
bool hth_whole_streams(const struct hth_whole *w);
uint64_t hth_whole_memory_bytes(const struct hth_whole *w); /* taken */

/* What this device does with whole layers, measured: for the cost model. */
struct hth_whole_rates {
    double row_s;              /* products of a row through a layer */
    double layer_s;            /* of a chunk of rows, beside the rows */
    double pair_s;             /* a query-key pair of a layer, all heads */
    double stream_bytes_per_s; /* 0: in memory */
    double layer_bytes;
};
HTH_MUST_CHECK int hth_whole_measure(struct hth_whole *w,
                                     struct hth_whole_rates *out,
                                     struct hth_err *err);

#endif
