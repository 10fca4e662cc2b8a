/* step.h - the messages of a step between rank 0 and the others, on the data
 * link: what to compute, and what came out. Encoding is into buffers made at
 * open, nothing is allocated in a step. Decoding trusts nothing: a message
 * that does not fit the session is HTH_EPROTO.
 *
 *   rank 0 -> others   STEP    changes of the KV cache, which rows, which of
 *                              them want logits, then the rows' embeddings
 *                              (f32)
 *                      GOODBYE
 *   others -> rank 0   RESULT  for each wanted row the best candidates of the
 *                              rank's vocabulary slice, or all its logits
 *
 *                      KEPT    after each SAVE and LOAD
 *
 * A rank without vocabulary rows sends no RESULT. All-reduces in between are
 * net/star.h's. Bytes: hth_step_bytes(), hth_result_bytes(). */
#ifndef HTH_WORKER_STEP_H
#define HTH_WORKER_STEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/status.h"
#include "model/sampler.h"

#define HTH_TAG_STEP 0x5354455000000000u   /* "STEP" */
#define HTH_TAG_KEPT 0x4b45505400000000u   /* "KEPT", u32 */
#define HTH_TAG_RESULT 0x52534c5400000000u /* "RSLT" */

enum hth_step_kind {
    HTH_STEP_RUN = 1,
    HTH_STEP_GOODBYE = 2,
    HTH_STEP_HALVES = 3 /* RUN, two halves of the rows taking turns */
};

/* What happens to the KV cache before a step's rows are computed, in order,
 * the same on every rank. */
enum hth_op_kind {
    HTH_OP_CUT = 1,  /* slot keeps [0, positions) at most; 0 empties it */
    HTH_OP_FORK = 2, /* slot, emptied, begins with [0, positions) of from */
    /* Answered by KEPT: the positions, or 0 where it could not be done. */
    HTH_OP_SAVE = 3, /* [0, positions) of slot to the file of that key */
    HTH_OP_LOAD = 4, /* slot, emptied, becomes what is in the file */
    /* Rows of slot get adapter `from` as well, with the scale whose bits are in
     * key; HTH_LORA_NONE: none any more. */
    HTH_OP_ADAPT = 5
};

struct hth_step_op {
    uint32_t kind; /* enum hth_op_kind */
    uint32_t slot;
    uint32_t from;
    uint32_t positions;
    uint64_t key; /* of SAVE, LOAD; ADAPT: 32 bits */
};

struct hth_step {
    uint32_t kind;
    uint32_t rows;
    uint32_t wants;
    uint32_t candidates; /* per wanted row; 0: all logits */
    uint32_t ops;
    uint32_t seq[HTH_STEP_ROWS_MAX]; /* slots of the KV cache */
    uint32_t pos[HTH_STEP_ROWS_MAX];
    uint32_t want[HTH_STEP_WANTS_MAX]; /* row numbers, ascending */
    struct hth_step_op op[HTH_STEP_OPS_MAX];
};

/* What a message may refer to. */
struct hth_step_bounds {
    uint32_t dim;
    uint32_t rows_max;
    uint32_t ctx_max;
};

size_t hth_step_bytes(const struct hth_step *s, uint32_t dim);
size_t hth_step_bytes_max(const struct hth_step_bounds *b);
/* dst has room for hth_step_bytes(); x: [rows][dim]. Returns the bytes. */
size_t hth_step_encode(const struct hth_step *s, const float *x, uint32_t dim,
                       uint8_t *dst);
/* x: [rows_max][dim] is filled. */
HTH_MUST_CHECK int hth_step_decode(struct hth_step *s, float *x,
                                   const struct hth_step_bounds *b,
                                   const uint8_t *src, size_t n);

/* Bytes of a RESULT of `wants` rows: candidates of 8 bytes each (at most
 * vocab), or vocab floats. */
size_t hth_result_bytes(uint32_t wants, uint32_t candidates, uint32_t vocab);
/* logits: [wants][vocab] of the slice that starts at vocab_first. */
struct hth_slice {
    uint32_t first, vocab;
};
void hth_result_encode(const struct hth_step *s, const struct hth_slice *slice,
                       const float *logits, uint8_t *dst);
/* Candidates of wanted row w: copied to out (room for all); returns how many.
 * With all logits asked for, these are the slice's vocab entries. Ids outside
 * of the slice are HTH_EPROTO. */
HTH_MUST_CHECK int hth_result_row(const struct hth_step *s,
                                  const struct hth_slice *slice, uint32_t w,
                                  const uint8_t *src,
                                  struct hth_candidate *out);

#endif
