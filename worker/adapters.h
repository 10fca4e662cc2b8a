/* adapters.h - the LoRA adapters a rank holds, and which sequences use them.
 *
 * Adapters have numbers below HTH_LORAS_MAX, the same on every rank. A slot of
 * the KV cache has a set of them while a request runs in it, which is how a
 * row of a step finds its own: a step's message carries nothing for it.
 *
 * Owns: the adapters' slices, bounded by bytes_max together.
 * Threads: put and drop from any; the rest from the thread that runs the
 * steps. An adapter in some slot's set cannot be dropped or replaced, so a
 * step takes no lock. All calls accept NULL (a session without adapters). */
#ifndef HTH_WORKER_ADAPTERS_H
#define HTH_WORKER_ADAPTERS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/status.h"
#include "model/lora.h"

struct hth_adapters;

/* *at is copied; what it points at is borrowed for life. */
HTH_MUST_CHECK int hth_adapters_open(struct hth_adapters **out,
                                     const struct hth_lora_place *at,
                                     uint64_t bytes_max, struct hth_err *err);
void hth_adapters_close(struct hth_adapters *a); /* NULL is fine */

/* A slice (hth_mem_alloc()) and its bytes; it is this object's from here on,
 * on error too. */
struct hth_adapter_slice {
    uint8_t *data;
    uint64_t bytes;
};
/* Hold an adapter under a number, in place of the one there. HTH_EFORMAT; it
 * is in use: HTH_EBUSY; beyond bytes_max: HTH_EOVERFLOW with the numbers. */
HTH_MUST_CHECK int hth_adapters_put(struct hth_adapters *a, uint32_t id,
                                    struct hth_adapter_slice slice,
                                    struct hth_err *err);
/* HTH_EBUSY while a slot uses it; one that is not there is no error. */
HTH_MUST_CHECK int hth_adapters_drop(struct hth_adapters *a, uint32_t id);
bool hth_adapters_has(struct hth_adapters *a, uint32_t id); /* any thread */
uint64_t hth_adapters_bytes(struct hth_adapters *a);        /* any thread */

/* One more for a slot's set. HTH_EPROTO: not here, or too many. */
HTH_MUST_CHECK int hth_adapters_use(struct hth_adapters *a, uint32_t slot,
                                    uint32_t id, float scale,
                                    struct hth_err *err);
void hth_adapters_unuse(struct hth_adapters *a, uint32_t slot);
/* For a batch (model/forward.h): what each row's slot uses; NULL: none of them
 * uses any. Valid until the next call. */
const struct hth_lora_set *const *
hth_adapters_rows(struct hth_adapters *a, const uint32_t *seq, uint32_t rows);

#endif
