/* packed_key.h - what packed blocks cut from a local GGUF are called. A worker
 * names them by the hash that the coordinator gave each block; nobody hashes
 * the gigabytes of a file that is here, so its blocks are named by the file
 * (device, number, size, time of change of each part), by the model it holds
 * and by the rank's share. */
#ifndef HTH_WORKER_PACKED_KEY_H
#define HTH_WORKER_PACKED_KEY_H

#include "worker/rank.h"

/* key[blocks][HTH_HASH_BYTES]. HTH_EIO when the file is gone. */
HTH_MUST_CHECK int hth_packed_keys(const struct hth_gguf *g,
                                   const struct hth_session *s, uint8_t *key,
                                   struct hth_err *err);

/* "STORE/packed" into dst, made with its parents; files that a process left
 * half written there are removed. HTH_EIO, HTH_EINVAL. */
HTH_MUST_CHECK int hth_packed_dir(const char *store, char *dst, size_t size,
                                  struct hth_err *err);

#endif
