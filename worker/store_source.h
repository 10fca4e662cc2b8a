/* store_source.h - a worker's blocks as a source of weights (loader.h): pieces
 * read out of whole, verified blocks of the store. Opens the store a second
 * time, because the loader's threads read while the duty's fetches.
 * Any thread may read, one at a time; the others wait. */
#ifndef HTH_WORKER_STORE_SOURCE_H
#define HTH_WORKER_STORE_SOURCE_H

#include "worker/rank.h"
#include "worker/store.h"

struct hth_store_source;

/* Copies the session and keys[count] (one of each block). */
HTH_MUST_CHECK int hth_store_source_open(struct hth_store_source **out,
                                         const struct hth_store *store,
                                         const struct hth_session *session,
                                         const struct hth_store_key *keys,
                                         struct hth_err *err);
void hth_store_source_close(struct hth_store_source *s); /* NULL is fine */

struct hth_weight_source hth_store_source(struct hth_store_source *s);
/* The blocks' hashes, [blocks][HTH_HASH_BYTES]; borrowed. */
const uint8_t *hth_store_source_keys(const struct hth_store_source *s);
/* Where packed blocks go: "STORE/packed", made; borrowed. */
const char *hth_store_source_dir(const struct hth_store_source *s);

#endif
