/* gguf_internal.h - what the files of the GGUF reader share. Not for others.
 *
 * A part is one file: its mapping, its keys, its tensors. A whole model is one
 * part or several; the keys of a model are those of its first part. */
#ifndef HTH_MODEL_GGUF_INTERNAL_H
#define HTH_MODEL_GGUF_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/gguf.h"

#define GGUF_ALIGN_DEFAULT 32u
#define GGUF_LABEL_SIZE 161u /* how much of a path an error text shows */

struct gguf_part {
    char *path;                  /* owned; NULL from memory */
    char label[GGUF_LABEL_SIZE]; /* the end of path, for error texts */
    int fd;                      /* -1 from memory */
    const uint8_t *base;
    size_t size; /* bytes */
    bool mapped; /* base is ours to unmap */

    uint32_t version;
    uint32_t align;      /* of tensor data, bytes */
    uint64_t data_start; /* bytes from base; first byte of tensor data */

    struct hth_gguf_kv *kvs; /* [kv_count], owned, in file order */
    const struct hth_gguf_kv **kvs_by_key; /* [kv_count], owned, sorted */
    size_t kv_count;

    struct hth_tensor *tensors; /* [tensor_count], owned, in file order */
    char *names; /* [tensor_count][HTH_GGUF_NAME_BYTES_MAX + 1], owned */
    size_t tensor_count;
};

/* Fill everything below `mapped` from base and size. On error the part holds
 * what was allocated so far; hth__gguf_part_fini() frees it. Does no I/O
 * beyond touching the mapping. */
HTH_MUST_CHECK int hth__gguf_parse(struct gguf_part *part, struct hth_err *err);

/* Free what hth__gguf_parse() allocated; fine on a zeroed or half-built part.
 * The keys alone can go first, once they have been checked. */
void hth__gguf_free_keys(struct gguf_part *part);
void hth__gguf_free_tensors(struct gguf_part *part);

/* NULL: the part has no such key. */
const struct hth_gguf_kv *hth__gguf_part_find(const struct gguf_part *part,
                                              const char *key);

/* An integer key of any width, within [0, max]. Errors as hth_gguf_u32(). */
HTH_MUST_CHECK int hth__gguf_part_uint(const struct gguf_part *part,
                                       const char *key, uint64_t max,
                                       uint64_t *out, struct hth_err *err);

/* Bytes of one value of a fixed-size type; 0 for strings, arrays, no type. */
size_t hth__gguf_scalar_bytes(uint32_t type);

/* The part that holds the keys of g. */
const struct gguf_part *hth__gguf_first(const struct hth_gguf *g);

#endif
