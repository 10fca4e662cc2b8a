/* memory.h - where a rank's memory goes: weights, KV cache, buffers. All of it
 * is inside the budget. Pure arithmetic; any thread. */
#ifndef HTH_WORKER_MEMORY_H
#define HTH_WORKER_MEMORY_H

#include <stdint.h>

#include "worker/rank.h"

struct hth_memory_need {
    uint64_t weights_bytes; /* all of the share; less can do */
    uint64_t kv_bytes;      /* of kv_positions_max positions */
    uint64_t lora_bytes;    /* adapters, and room to compute with them */
    uint64_t buffer_bytes;  /* activations of rows_max rows, messages, logits */
};

void hth_memory_need(const struct hth_session *s, uint32_t rank,
                     struct hth_memory_need *out);

/* What is left for weights of a budget (0: no bound, and 0 is the answer).
 * HTH_EOVERFLOW with all the numbers when nothing is. */
HTH_MUST_CHECK int hth_memory_for_weights(const struct hth_session *s,
                                          uint64_t budget_bytes, uint64_t *out,
                                          struct hth_err *err);

/* Make a session fit devices with little memory: memory_bytes[ranks], 0: no
 * bound. Where weights, cache and buffers of a rank do not fit together,
 * kv_positions_max becomes ctx_max, and rows_max is halved until the buffers
 * take an eighth of the memory (a row costs as much as it saves then). */
void hth_memory_fit(struct hth_session *s, const uint64_t *memory_bytes);

#endif
