/* registry.h - the coordinator's list of paired devices.
 *
 * A JSON file, rewritten atomically (temporary name, fsync, rename) before a
 * change is reported as done. Revoking keeps the entry, so that the device is
 * refused by name; pairing it again makes it valid again. Thread-safe. Bounded
 * by HTH_DEVICES_MAX. A file that cannot be parsed is HTH_EFORMAT at open and
 * is left as it is: an empty list would quietly forget revocations. */
#ifndef HTH_NET_REGISTRY_H
#define HTH_NET_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/status.h"
#include "net/identity.h"

struct hth_registry;

struct hth_device {
    char id[HTH_DEVICE_ID_SIZE];
    char name[HTH_NAME_MAX];
    char serial[HTH_SERIAL_SIZE]; /* of its current certificate */
    uint64_t paired_ms;           /* Unix time */
    bool revoked;
};

/* A missing file is an empty list. Errors: HTH_EIO, HTH_EFORMAT, HTH_ELIMIT. */
HTH_MUST_CHECK int hth_registry_open(struct hth_registry **out,
                                     const char *path, struct hth_err *err);
void hth_registry_close(struct hth_registry *r); /* NULL is fine */

/* Add or replace by id and save. HTH_ELIMIT when full, HTH_EIO. */
HTH_MUST_CHECK int hth_registry_put(struct hth_registry *r,
                                    const struct hth_device *device,
                                    struct hth_err *err);
/* By id, or by name where only one device has it; *out (may be NULL) gets the
 * entry. HTH_ENOTFOUND, HTH_EINVAL (name not unique), HTH_EIO. */
HTH_MUST_CHECK int hth_registry_revoke(struct hth_registry *r,
                                       const char *id_or_name,
                                       struct hth_device *out,
                                       struct hth_err *err);
/* Known and not revoked. Fits hth_allowed_fn through the void pointer. */
bool hth_registry_allowed(void *registry, const char *device_id);
/* HTH_ENOTFOUND when unknown. */
HTH_MUST_CHECK int hth_registry_find(struct hth_registry *r, const char *id,
                                     struct hth_device *out);
/* Copy up to max entries in order of pairing; returns how many there are. */
size_t hth_registry_list(struct hth_registry *r, struct hth_device *out,
                         size_t max);

#endif
