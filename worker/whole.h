/* whole.h - whole layers on a rank, for prompts that are spread over ranks.
 *
 * Beside its slices a rank can have all layers' full weights: in memory where
 * they fit, else passing through a window (loader.h) of one layer and what is
 * read ahead, for as long as a prompt lasts. They come from a source like the
 * slices', and are kept in packed files of their own; the blocks are those of
 * a plan with one rank, without the head.
 *
 * Threads: one, plus the loader's. Failure: a source that fails fails the layer
 * that needs it, with the source's sentence. */
#ifndef HTH_WORKER_WHOLE_H
#define HTH_WORKER_WHOLE_H

#include "model/forward.h"
#include "worker/loader.h"

struct hth_whole;

struct hth_session;

struct hth_whole_opts {
    const struct hth_spec *spec; /* borrowed for life */
    uint32_t rows_max;
    uint32_t kv_type;
    struct hth_pool *pool; /* borrowed */
    struct hth_weight_source source;
    /* As in loader.h, for the blocks of hth_whole_session(); copied. */
    const char *dir;
    const uint8_t *key;
};

/* Takes no memory for weights yet. */
HTH_MUST_CHECK int hth_whole_open(struct hth_whole **out,
                                  const struct hth_whole_opts *opts,
                                  struct hth_err *err);
void hth_whole_close(struct hth_whole *w); /* NULL is fine */

/* Have weights come, within so many bytes; 0: no bound. Begun with another
 * bound before, it begins anew. HTH_EOVERFLOW: see hth_whole_window_bytes(). */
HTH_MUST_CHECK int hth_whole_begin(struct hth_whole *w, uint64_t budget_bytes,
                                   struct hth_err *err);
/* Give all memory for weights back. */
void hth_whole_end(struct hth_whole *w);

/* Its forward pass: one rank has everything. */
struct hth_forward *hth_whole_forward(struct hth_whole *w);
/* Go to a layer; after begin. Its weights are then held until the next call.
 * Layers go up, then start again. The signature is that of model/seqpar.h's
 * take_layer. */
HTH_MUST_CHECK int hth_whole_layer(void *whole, uint32_t layer,
                                   struct hth_err *err);
/* The same, and wait until all of it is there. */
HTH_MUST_CHECK int hth_whole_warm(struct hth_whole *w, uint32_t layer,
                                  struct hth_err *err);
/* The same session as one rank would have it alone, without the head: the
 * blocks of whole layers are its blocks. */
void hth_whole_session(const struct hth_session *s, struct hth_session *out);
/* Blocks there are: two per layer. */
uint32_t hth_whole_blocks(const struct hth_spec *spec);
/* Block `index` of whole layers. */
void hth_whole_block(const struct hth_spec *spec, uint32_t index,
                     struct hth_block *out);
uint64_t hth_whole_block_bytes(const struct hth_spec *spec, uint32_t index);
/* Memory for all layers; for a window over so many at once. */
uint64_t hth_whole_bytes(const struct hth_spec *spec);
uint64_t hth_whole_window_bytes(const struct hth_spec *spec, uint32_t layers);

bool hth_whole_streams(const struct hth_whole *w);
/* Since begin: the most memory held; time spent waiting for weights. */
uint64_t hth_whole_memory_peak(const struct hth_whole *w);
uint64_t hth_whole_waited_ns(const struct hth_whole *w);

/* What this device does with whole layers, measured: for the cost model. */
struct hth_whole_rates {
    double row_s;   /* products of a row through a layer */
    double layer_s; /* of a chunk of rows, beside the rows */
    double pair_s;  /* a query-key pair of a layer, all heads */
    double crowd;   /* time by the clock over processor time, which those are:
                     * more than 1 where others compute on the same cores */
    double stream_bytes_per_s; /* 0: in memory */
    double layer_bytes;
};
HTH_MUST_CHECK int hth_whole_measure(struct hth_whole *w,
                                     struct hth_whole_rates *out,
                                     struct hth_err *err);

#endif
