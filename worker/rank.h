/* rank.h - a rank: its weights, its KV cache, its step loop.
 *
 * Used by the worker daemon for ranks >= 1 (hth_rank_serve() on a thread of
 * its own) and by the coordinator's engine for rank 0. Weights come through
 * the loader (loader.h), which calls back for what it does not have, so that
 * the store, a local GGUF or a test can feed it; with less memory than weights
 * it streams them. */
#ifndef HTH_WORKER_RANK_H
#define HTH_WORKER_RANK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cursor.h"
#include "base/phases.h"
#include "base/status.h"
#include "model/forward.h"
#include "net/link.h"
#include "net/star.h"
#include "worker/adapters.h"
#include "worker/whole.h"
#include "worker/loader.h"

/* Everything a rank must know, as the coordinator sends it; opaque bytes to
 * the control plane. */
struct hth_session {
    uint64_t id; /* chosen by the coordinator, new for each formation */
    uint32_t rank;
    uint32_t ctx_max;          /* positions of one sequence */
    uint32_t kv_positions_max; /* of all sequences together; >= ctx_max. Every
                                * rank must be able to hold its KV heads of so
                                * many, which it checks when it loads. */
    uint32_t rows_max;         /* of a step */
    uint32_t kv_type;          /* HTH_F32, HTH_F16, HTH_Q8_0 */
    uint32_t wire_type;        /* enum hth_wire of net/star.h */
    uint32_t prefill;    /* enum hth_prefill_mode: how long prompts run. But for
                          * tp every rank has whole layers beside its slices. */
    uint64_t lora_bytes; /* set aside on each rank for adapters' slices; 0:
                          * there are none, ever */
    struct hth_spec spec;
    struct hth_plan plan;
};

#define HTH_SESSION_BYTES_MAX (96u << 10)
void hth_session_encode(const struct hth_session *s, struct hth_buf *out);
HTH_MUST_CHECK int hth_session_decode(struct hth_session *s,
                                      struct hth_cursor *c,
                                      struct hth_err *err);

struct hth_rank;

struct hth_rank_opts {
    const struct hth_session *session; /* copied */
    uint32_t threads;                  /* >= 1 */
    uint64_t memory_bytes; /* budget of weights + KV + buffers; 0: no bound */
    struct hth_weight_source source;
    /* For packed blocks, and what they are called: loader.h. NULL: a share
     * that does not fit the memory is an error. */
    const char *dir;
    const uint8_t *key;
    /* Whole layers (whole.h), for sessions whose prompts are spread. */
    struct hth_weight_source whole;
    const uint8_t *whole_key; /* may be NULL where dir is */
    /* Of this device, for links to other workers; borrowed for life. NULL:
     * what workers say to each other goes by rank 0. */
    const struct hth_identity *identity;
    const char *name;
    const char *kv_dir; /* for contexts on disk, copied; NULL: none */
};

/* Start loading; the first steps wait for what they need. HTH_EOVERFLOW says
 * how much memory the share needs and how much the budget is. */
HTH_MUST_CHECK int hth_rank_open(struct hth_rank **out,
                                 const struct hth_rank_opts *opts,
                                 struct hth_err *err);
void hth_rank_close(struct hth_rank *r); /* NULL is fine */

/* Did a step fail because weights could not be had? Then only another open
 * helps, once its source has them again. */
bool hth_rank_broken(const struct hth_rank *r);
struct hth_loader *hth_rank_loader(struct hth_rank *r);
/* After a step: log what streaming costs, every ten seconds at most. For the
 * engine; hth_rank_serve() does it itself. */
void hth_rank_tell(struct hth_rank *r);

/* Ranks >= 1: serve the steps that come over the link from rank 0, until the
 * link ends (HTH_EPEER, HTH_ETIMEDOUT, ...) or rank 0 says goodbye (HTH_OK).
 * Blocks; hth_link_shutdown() from another thread ends it. The KV cache is
 * emptied on return, weights stay: the rank may serve again. */
HTH_MUST_CHECK int hth_rank_serve(struct hth_rank *r, struct hth_link *link,
                                  struct hth_err *err);

/* For the coordinator's engine, which drives rank 0 itself. */
struct hth_forward *hth_rank_forward(struct hth_rank *r);
struct hth_pool *hth_rank_pool(struct hth_rank *r);
/* NULL: this session has no spread prompts, or there is no room for them. */
struct hth_split *hth_rank_split(struct hth_rank *r);
/* The rank's adapters; NULL: the session has none. */
struct hth_adapters *hth_rank_adapters(struct hth_rank *r);
/* Any thread: the rank is to stop serving, beside shutting its link down. */
void hth_rank_shutdown(struct hth_rank *r);
const struct hth_session *hth_rank_session(const struct hth_rank *r);

/* Change the KV cache as a step says: the same on every rank, in the same
 * order. HTH_EPROTO: the slot forked from does not hold so much. */
struct hth_step_op;
HTH_MUST_CHECK int hth_rank_op(struct hth_rank *r, const struct hth_step_op *op,
                               struct hth_err *err);
/* While memory is short: give back what the KV cache keeps for later. False:
 * it is not short. Between steps. */
bool hth_rank_ease(struct hth_rank *r);
/* Empty every slot of the KV cache. */
void hth_rank_forget(struct hth_rank *r);

/* A step is over, in which its links sent for send_ns and for wait_ns nothing
 * came or went; the rest of the time of its sums was receiving. Sums that ran
 * beside the computing may take longer than the step was held up by them: then
 * both are scaled to that. For stats. The thread that ran it. */
void hth_rank_note(struct hth_rank *r, uint32_t rows, uint64_t send_ns,
                   uint64_t wait_ns);
/* Payload over its links so far, for stats. The same thread. */
void hth_rank_note_traffic(struct hth_rank *r, uint64_t sent_bytes,
                           uint64_t received_bytes);

struct hth_rank_stats {
    uint64_t rows;
    struct hth_phases phases;
    uint64_t weight_bytes, kv_bytes;
    bool memory_short; /* its window had to shrink */
};
/* Any thread; a snapshot. */
void hth_rank_stats(const struct hth_rank *r, struct hth_rank_stats *out);

#endif
