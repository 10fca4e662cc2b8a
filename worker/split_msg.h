/* split_msg.h - the messages around a prompt that is spread over ranks, on the
 * data link to rank 0, as bytes. Decoding trusts nothing: HTH_EPROTO. Pure.
 *
 *   rank 0 -> others   MEET    what can you do, where do you listen?
 *   others -> rank 0   MET     port, rates
 *   rank 0 -> others   DIAL    who is where
 *   others -> rank 0   LINKED  whom there is a link to
 *   rank 0 -> others   KEEP    whom to use it with
 *   rank 0 -> others   JOB     a prompt: which tokens are whose
 *
 * MEET, DIAL, KEEP and JOB begin with their kind, like a step (step.h), and
 * have its tag; MET and LINKED have HTH_TAG_MEET. */
#ifndef HTH_WORKER_SPLIT_MSG_H
#define HTH_WORKER_SPLIT_MSG_H

#include "base/cursor.h"
#include "scheduler/spread.h"
#include "worker/mesh.h"
#include "worker/step.h"

#define HTH_TAG_MEET 0x4d45455400000000u /* "MEET" */

/* Kinds beside those of enum hth_step_kind. */
enum hth_split_kind {
    HTH_SPLIT_MEET = 16,
    HTH_SPLIT_DIAL = 17,
    HTH_SPLIT_KEEP = 18,
    HTH_SPLIT_JOB = 19,
    HTH_SPLIT_PING = 20 /* answered with LINKED, whatever is in it */
};

/* What a rank says of itself. */
struct hth_split_rates {
    bool whole;                           /* it has whole layers */
    double row_s, pair_s, layer_s, crowd; /* see struct hth_whole_rates */
    double stream_bytes_per_s;
    uint64_t room_bytes; /* of memory, for a prompt beside weights; all ones:
                          * no bound */
};
struct hth_split_met {
    uint16_t port; /* 0: does not listen */
    struct hth_split_rates rates;
};
struct hth_split_dial {
    uint64_t meeting; /* its number: links of others are refused */
    uint32_t ranks;
    struct hth_mesh_peer peer[HTH_RANKS_MAX];
};

struct hth_split_job {
    uint32_t job; /* counts up */
    uint32_t seq;
    uint32_t prefix;     /* positions in the cache before the first token */
    uint32_t wants;      /* 1: the last token's candidates or logits */
    uint32_t candidates; /* as in a step */
    uint32_t embed_type; /* of the rows that rank 0 sends: enum hth_type */
    struct hth_spread spread;
};

/* What a rank says at the end of a job, in a fixed number of bytes. */
struct hth_split_done {
    int32_t status;
    char text[HTH_ERR_TEXT_MAX];
    uint64_t compute_ns, attend_ns, wait_ns, load_ns;
    uint64_t sent_bytes, received_bytes;
    uint64_t pairs; /* of queries and keys */
};
#define HTH_SPLIT_DONE_BYTES (4u + HTH_ERR_TEXT_MAX + 7u * 8u)

#define HTH_SPLIT_BYTES_MAX 8192u /* any of these */
/* The kind of a message with a step's tag; 0: too short. */
uint32_t hth_split_kind(const uint8_t *src, size_t n);
void hth_split_put_kind(struct hth_buf *b, enum hth_split_kind kind);
void hth_split_put_met(struct hth_buf *b, const struct hth_split_met *m);
HTH_MUST_CHECK int hth_split_get_met(struct hth_split_met *m,
                                     const uint8_t *src, size_t n);
void hth_split_put_dial(struct hth_buf *b, const struct hth_split_dial *m);
HTH_MUST_CHECK int hth_split_get_dial(struct hth_split_dial *m,
                                      const uint8_t *src, size_t n);
/* KEEP has its kind before it, LINKED has not. */
void hth_split_put_bits(struct hth_buf *b, uint32_t bits);
HTH_MUST_CHECK int hth_split_get_bits(uint32_t *bits, bool keep,
                                      const uint8_t *src, size_t n);
void hth_split_put_job(struct hth_buf *b, const struct hth_split_job *m);

struct hth_split_bounds {
    uint32_t ranks;
    uint32_t ctx_max;
    uint32_t dim;
};
HTH_MUST_CHECK int hth_split_get_job(struct hth_split_job *m,
                                     const struct hth_split_bounds *bounds,
                                     const uint8_t *src, size_t n);
void hth_split_put_done(uint8_t dst[HTH_SPLIT_DONE_BYTES],
                        const struct hth_split_done *m);
void hth_split_get_done(struct hth_split_done *m,
                        const uint8_t src[HTH_SPLIT_DONE_BYTES]);

#endif
