/* store.h - a worker's weights on disk, addressed by their SHA-256.
 *
 *   DIR/blocks/ab/<hash>   whole, verified blocks
 *   DIR/partial/<hash>     what came so far of a block; resumed at its end
 *   DIR/pins/<random>      the blocks a living process uses (locked by it)
 *   DIR/packed/<hash>      the same blocks for streaming (packed.h)
 *
 * Owns: that directory, also together with other processes: a partial file
 * and a pin file are locked by their writer (flock), blocks appear by rename.
 * A block that was verified carries a modification time derived from its
 * hash; any other time (someone wrote to it, it was copied) means it is hashed
 * again before use, and a block that fails is deleted.
 * Refuses: to evict a pinned block, to hand out bytes that it did not verify.
 * Threads: one store object per thread; several objects may share a
 * directory. Blocks on disk I/O. */
#ifndef HTH_WORKER_STORE_H
#define HTH_WORKER_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/limits.h"
#include "base/status.h"

struct hth_store;
struct hth_store_part; /* a block being received */

struct hth_store_opts {
    const char *dir;      /* made with its parents if missing, mode 0700 */
    uint64_t limit_bytes; /* of blocks and partial ones; 0: none */
    bool verify;          /* hash every block before its first use */
};

/* Errors: HTH_EIO with the path and reason. */
HTH_MUST_CHECK int hth_store_open(struct hth_store **out,
                                  const struct hth_store_opts *opts,
                                  struct hth_err *err);
void hth_store_close(struct hth_store *s); /* NULL is fine; drops the pins */

struct hth_store_key {
    uint8_t hash[HTH_HASH_BYTES];
    uint64_t bytes;
};

const char *hth_store_dir(const struct hth_store *s); /* borrowed */

/* Is the whole block here and good? Hashes it if it must; a damaged one is
 * deleted and logged (STORE-DAMAGED), and is not here then. */
bool hth_store_has(struct hth_store *s, const struct hth_store_key *key);

/* Protect these blocks from eviction, by any process, instead of those pinned
 * before, as long as the store is open. count <= HTH_BLOCKS_MAX. */
HTH_MUST_CHECK int hth_store_pin(struct hth_store *s,
                                 const struct hth_store_key *keys,
                                 uint32_t count, struct hth_err *err);

/* Evict least recently used blocks until need_bytes more fit the limit.
 * HTH_ELIMIT says what limit would do. */
HTH_MUST_CHECK int hth_store_make_room(struct hth_store *s, uint64_t need_bytes,
                                       struct hth_err *err);

/* Start or resume a block; *have_bytes_out is how much is here already.
 * HTH_EBUSY: another process is receiving it; ask hth_store_has() again
 * later. */
HTH_MUST_CHECK int hth_store_begin(struct hth_store *s,
                                   const struct hth_store_key *key,
                                   struct hth_store_part **out,
                                   uint64_t *have_bytes_out,
                                   struct hth_err *err);
/* HTH_EIO (disk full...), HTH_EOVERFLOW (more than the block has). The part
 * stays valid. */
HTH_MUST_CHECK int hth_store_append(struct hth_store_part *p, const void *data,
                                    size_t n, struct hth_err *err);
/* Verify, sync, move into place; frees p in every case. HTH_EHASH: the bytes
 * were not the block's; the partial file is gone. */
HTH_MUST_CHECK int hth_store_commit(struct hth_store_part *p,
                                    struct hth_err *err);
/* Stop here; what came stays for the next hth_store_begin(). NULL is fine. */
void hth_store_suspend(struct hth_store_part *p);

/* Read a whole block into dst[key->bytes] and mark it used now. HTH_ENOTFOUND;
 * HTH_EHASH: it was damaged and is deleted now; HTH_EIO. */
HTH_MUST_CHECK int hth_store_read(struct hth_store *s,
                                  const struct hth_store_key *key, void *dst,
                                  struct hth_err *err);

/* The same for a part of a block: [at, at + n), within key->bytes. */
struct hth_store_read {
    const struct hth_store_key *key;
    uint64_t at;
    void *dst;
    uint64_t n;
};
HTH_MUST_CHECK int hth_store_read_at(struct hth_store *s,
                                     const struct hth_store_read *what,
                                     struct hth_err *err);

/* Bytes of whole, partial and packed blocks in the directory. */
uint64_t hth_store_bytes(struct hth_store *s);

#endif
