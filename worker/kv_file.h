/* kv_file.h - a rank's part of a context on disk: the keys and values of its
 * own heads for positions [0, n) of one sequence.
 *
 *   DIR/<key>-<rank>.kv   little-endian: magic, version, key, rank, layers,
 *                         heads, head_dim, type, positions; per layer and head
 *                         the K rows, then the V rows; SHA-256 of all that
 *
 * The key names tokens, model and plan (coordinator/kept.h), so a file is
 * never updated. It appears by rename. A file that is cut, changed, of another
 * shape or of other positions is refused, and what was read of it is dropped:
 * nobody computes with it. One thread per rank. */
#ifndef HTH_WORKER_KV_FILE_H
#define HTH_WORKER_KV_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "model/kv.h"

#define HTH_KV_FILE_HEAD_BYTES 44u

/* What a file says it is. */
struct hth_kv_file {
    uint64_t key;
    uint32_t rank;
    uint32_t layers, heads, head_dim; /* of this rank */
    uint32_t type;
    uint32_t positions;
};

void hth_kv_file_put(const struct hth_kv_file *f,
                     uint8_t out[HTH_KV_FILE_HEAD_BYTES]);
/* HTH_EFORMAT: none of ours, or not what is wanted; the text says which. */
HTH_MUST_CHECK int hth_kv_file_check(const struct hth_kv_file *want,
                                     const uint8_t *head, size_t n,
                                     struct hth_err *err);

/* Write [0, f->positions) of a slot. Makes dir if it is missing; removes what
 * was used longest ago beyond HTH_KEPT_MAX files. */
HTH_MUST_CHECK int hth_kv_file_save(const struct hth_kv *kv, uint32_t slot,
                                    const struct hth_kv_file *f,
                                    const char *dir, struct hth_err *err);
/* Fill an empty slot. On any error the slot is empty again. HTH_ENOTFOUND:
 * there is no such file; HTH_EHASH, HTH_EFORMAT: it is not as it was
 * written. */
HTH_MUST_CHECK int hth_kv_file_load(struct hth_kv *kv, uint32_t slot,
                                    const struct hth_kv_file *f,
                                    const char *dir, struct hth_err *err);

#endif
