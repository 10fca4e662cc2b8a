/* kv.h - the keys and values of a rank's own KV heads, per sequence.
 *
 * Memory comes in blocks of HTH_KV_BLOCK_POSITIONS positions over all layers
 * and local heads, taken when a sequence grows and returned when it ends or is
 * cut. Inside a block: [layer][head][key, value][position][head_dim]. One
 * thread, except that hth_kv_rows() may be called by many while nobody
 * reserves. */
#ifndef HTH_MODEL_KV_H
#define HTH_MODEL_KV_H

#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/status.h"

struct hth_kv;

struct hth_kv_opts {
    uint32_t layers;
    uint32_t heads; /* local KV heads; may be 0 */
    uint32_t head_dim;
    uint32_t type;      /* HTH_F32 or HTH_F16 */
    uint32_t ctx_max;   /* positions per sequence */
    uint64_t bytes_max; /* of all blocks; 0: no bound */
};

HTH_MUST_CHECK int hth_kv_open(struct hth_kv **out,
                               const struct hth_kv_opts *opts,
                               struct hth_err *err);
void hth_kv_close(struct hth_kv *kv); /* NULL is fine */

/* Make room for positions [0, positions) of a sequence. HTH_ELIMIT beyond
 * ctx_max or bytes_max, HTH_ENOMEM; what is there stays. Allocates: call it
 * before the step, not inside. */
HTH_MUST_CHECK int hth_kv_reserve(struct hth_kv *kv, uint32_t seq,
                                  uint32_t positions, struct hth_err *err);
/* Keep only positions [0, positions). 0 frees the sequence. */
void hth_kv_truncate(struct hth_kv *kv, uint32_t seq, uint32_t positions);
uint64_t hth_kv_bytes(const struct hth_kv *kv); /* blocks in use */

/* Where in the cache: a position of one local KV head in one layer. */
struct hth_kv_at {
    uint32_t layer;
    uint32_t head; /* local */
    uint32_t pos;
};

/* Keys and values of one head from a position to the end of its block: *k and
 * *v point at [n][head_dim], n is returned (1 to 32). The position must be
 * reserved. */
uint32_t hth_kv_rows(const struct hth_kv *kv, uint32_t seq,
                     const struct hth_kv_at *at, void **k, void **v);

#endif
