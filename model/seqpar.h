/* seqpar.h - a long prompt spread over ranks: each holds the rows of some
 * tokens, runs whole layers over them, and exchanges keys and values only.
 *
 * Per layer a rank projects its rows, sends their keys and values on their way
 * (scheduler/spread.h says which and where), attends to its own and then to
 * the others' as they come, and goes on to the next layer without waiting for
 * anybody. Ring Attention (arXiv 2310.01889), Striped Attention (2311.09431)
 * and KV-Runahead (2405.05329) differ in who holds which token and in the
 * order of messages; the loop is one.
 *
 * Every rank attends to keys and values as they are stored (rounded to the
 * cache's type), its own too, so that the answer is that of one device. As
 * blocks pass, each rank keeps the heads it owns in decoding; blocks that do
 * not pass it are sent to it behind everything else. A cached prefix, which
 * lies spread by heads, is sent round layer by layer.
 *
 * Memory: hth_seqpar_bytes(), all taken in open. Room for two layers of keys
 * and values lets a fast rank run ahead; more it may not (credits).
 * One thread per rank; the pool computes. Failure: a peer is lost, or the work
 * is cancelled; the job is over, the cache holds rubbish for this sequence. */
#ifndef HTH_MODEL_SEQPAR_H
#define HTH_MODEL_SEQPAR_H

#include <stdint.h>

#include "model/forward.h"
#include "model/peers.h"
#include "scheduler/spread.h"

/* Rows of keys and values in one message. */
#define HTH_SEQPAR_PIECE_ROWS 256u
/* Bits of keys and values on the wire: those of the cache. */

struct hth_seqpar_opts {
    const struct hth_spec *spec; /* borrowed */
    const struct hth_plan *plan; /* of decoding: who keeps which heads */
    uint32_t rank;
    uint32_t kv_type;
    uint32_t rows_max;         /* of one product; of `whole` */
    struct hth_forward *whole; /* its one rank has whole layers; borrowed.
                                * NULL: only where this rank has no rows */
    struct hth_kv *kv;         /* decoding's; positions are reserved */
    struct hth_pool *pool;     /* borrowed */
    struct hth_peers *peers;   /* borrowed */
    struct hth_spread spread;  /* of the new tokens */
    uint32_t seq;
    uint32_t prefix; /* positions before the first new token, in the cache */
    /* Called before each layer that has rows: its weights are to be bound to
     * `whole`. NULL: they are for good. */
    int (*take_layer)(void *ctx, uint32_t layer, struct hth_err *err);
    void *take_ctx;
};

struct hth_seqpar_times {
    uint64_t compute_ns, wait_ns;        /* compute: without waiting */
    uint64_t attend_ns;                  /* of compute */
    uint64_t load_ns;                    /* waiting for weights; not compute */
    uint64_t sent_bytes, received_bytes; /* payload */
};

struct hth_seqpar;

/* Take memory and say what is expected of the other ranks, so that messages
 * may come from here on. */
HTH_MUST_CHECK int hth_seqpar_open(struct hth_seqpar **out,
                                   const struct hth_seqpar_opts *opts,
                                   struct hth_err *err);
/* Run all layers over this rank's rows: x [rows][dim], in: embeddings, in the
 * order of hth_spread_positions(); out: hidden states. */
HTH_MUST_CHECK int hth_seqpar_run(struct hth_seqpar *s, float *x,
                                  struct hth_err *err);
/* Wait until what decoding needs has come and all of ours has gone. */
HTH_MUST_CHECK int hth_seqpar_drain(struct hth_seqpar *s, struct hth_err *err);
/* The peers must not refer to it any more: drained, or dropped. NULL is fine.
 */
void hth_seqpar_close(struct hth_seqpar *s);
void hth_seqpar_times(const struct hth_seqpar *s, struct hth_seqpar_times *out);

/* Bytes that open takes for a rank. */
uint64_t hth_seqpar_bytes(const struct hth_seqpar_opts *opts);
/* Payload on the wire from one rank to another, all layers, by formula: what
 * is passed on, prefix, and repair. */
struct hth_seqpar_traffic {
    uint64_t block_bytes, prefix_bytes, repair_bytes;
};
void hth_seqpar_traffic(const struct hth_seqpar_opts *opts, uint32_t from,
                        uint32_t to, struct hth_seqpar_traffic *out);

#endif
