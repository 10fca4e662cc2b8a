/* store_internal.h - what store.c and store_evict.c share. */
#ifndef HTH_WORKER_STORE_INTERNAL_H
#define HTH_WORKER_STORE_INTERNAL_H

#include "base/cursor.h"
#include "worker/store.h"

#define STORE_DIR_MAX 3900u
#define STORE_PATH_MAX 4096u

struct hth_store {
    char dir[STORE_DIR_MAX];
    uint64_t limit_bytes;
    bool verify;
    uint8_t *io; /* one megabyte for reading while hashing */
    uint8_t (*verified)[HTH_HASH_BYTES]; /* with verify: hashed already */
    uint32_t verified_count;
    int pin_fd; /* locked while open; -1: nothing pinned */
    char pin_path[STORE_PATH_MAX];
};

/* HTH_EIO with "<what> <path>: <errno>". */
int hth__store_fail(struct hth_err *err, const char *what, const char *path);
void hth__store_unpin(struct hth_store *s);

#endif
