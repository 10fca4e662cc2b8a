/* fetch.h - bring the blocks of a shard into the store, from the coordinator.
 *
 * Keeps HTH_CHUNKS_IN_FLIGHT requests under way, across block boundaries, and
 * writes in order, so that an interruption at any moment costs at most those.
 * Blocks the calling thread; *stop is looked at between chunks. */
#ifndef HTH_WORKER_FETCH_H
#define HTH_WORKER_FETCH_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/status.h"
#include "worker/store.h"
#include "worker/uplink.h"

struct hth_fetch {
    struct hth_uplink *uplink;
    struct hth_store *store;
    const struct hth_store_key *keys; /* [count]; bytes 0: nothing to do */
    uint32_t count;
    const atomic_bool *stop;
    /* Updated as it goes; readable from any thread. */
    atomic_uint_least64_t done_bytes;    /* of the shard, in the store */
    atomic_uint_least64_t total_bytes;   /* of the shard */
    atomic_uint_least64_t fetched_bytes; /* received now */
};

/* HTH_OK: every block is in the store, verified and pinned. A coordinator
 * that is away is waited for. Errors: HTH_ECANCELLED (stop), HTH_EHASH (a
 * block was wrong twice), HTH_ELIMIT (store too small), HTH_EIO, HTH_EAUTH,
 * HTH_ENOTFOUND (the coordinator no longer offers a block: its session is
 * over). */
HTH_MUST_CHECK int hth_fetch_run(struct hth_fetch *f, struct hth_err *err);

#endif
