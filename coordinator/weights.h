/* weights.h - the coordinator's side of weight transfer: what blocks a rank
 * needs, as hashes, and their bytes by hash, straight from the GGUF.
 *
 * Owns: the manifests of the current session and a cache of manifests in the
 * state directory, keyed by the model file (path, size, time), its spec, the
 * plan and the rank, so that a restart hashes nothing.
 * Does not: keep weights in memory or know who asks.
 * Threads: one thread prepares; hth_weights_read() may run on many, also
 * meanwhile (they see the old session or the new one). Failure: HTH_EIO with
 * the model's name when the file fails underneath. */
#ifndef HTH_COORDINATOR_WEIGHTS_H
#define HTH_COORDINATOR_WEIGHTS_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/cursor.h"
#include "base/hash.h"
#include "base/status.h"
#include "model/gguf.h"
#include "model/shard.h"
#include "model/spec.h"
#include "net/message.h"

struct hth_weights;

struct hth_weights_opts {
    const struct hth_gguf *gguf; /* borrowed for life */
    const struct hth_spec *spec; /* borrowed for life */
    const char *state_dir;       /* NULL: no cache */
    const atomic_bool *stop;     /* ends hashing early */
};

HTH_MUST_CHECK int hth_weights_open(struct hth_weights **out,
                                    const struct hth_weights_opts *opts,
                                    struct hth_err *err);
void hth_weights_close(struct hth_weights *w); /* NULL is fine */

/* Manifests for ranks 1 .. plan->ranks - 1, from the cache or by hashing the
 * model file (several threads; seconds per 10 GB). What was prepared before is
 * replaced. Errors: HTH_EIO, HTH_ENOMEM, HTH_ECANCELLED. */
HTH_MUST_CHECK int hth_weights_prepare(struct hth_weights *w,
                                       const struct hth_plan *plan,
                                       struct hth_err *err);
/* The prepared manifest of a rank: hth_msg_put_block() entries, appended. */
void hth_weights_manifest(struct hth_weights *w, uint32_t rank,
                          struct hth_buf *out);
/* Forget what is cached for the prepared plan: a worker found bytes that do
 * not match (the model file changed underneath). */
void hth_weights_forget(struct hth_weights *w);

/* dst[chunk->length] from a block of this rank by hash; a rank gets nothing
 * but its own slices. HTH_ENOTFOUND: not one of its blocks in the prepared
 * session; HTH_EINVAL: beyond the block's end; HTH_EIO. */
HTH_MUST_CHECK int hth_weights_read(struct hth_weights *w, uint32_t rank,
                                    const struct hth_msg_chunk *chunk,
                                    void *dst, struct hth_err *err);

#endif
