/* unpacked.h - which of a rank's matrices have no packed layout (kernels/
 * pack.h): they are computed as GGUF has them, by slower kernels, and whoever
 * waits for them shall know. Norms, biases and the router of experts are not
 * counted: they have no faster way. Pure; any thread. */
#ifndef HTH_MODEL_UNPACKED_H
#define HTH_MODEL_UNPACKED_H

#include "model/shard.h"

/* Matrices of one type. */
struct hth_unpacked {
    uint32_t type;
    uint32_t matrices; /* experts of a layer count as one */
    uint64_t bytes;
    char first[HTH_GGUF_NAME_BYTES_MAX + 1]; /* tensor's name */
};

/* By type, in the order in which they come; at most max (further types are left
 * out). Returns how many. */
uint32_t hth_unpacked_find(const struct hth_spec *s, const struct hth_plan *p,
                           uint32_t rank, struct hth_unpacked *out,
                           uint32_t max);

#endif
