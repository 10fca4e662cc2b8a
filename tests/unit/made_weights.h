/* made_weights.h - a model that exists as numbers only: a spec, a plan of one
 * rank, and a source whose bytes follow from their place. Some 37 MB in pieces
 * of 1 to 8 MiB, or 32 small experts in each of 4 layers. Failures are
 * Criterion assertions. */
#ifndef HTH_TESTS_MADE_WEIGHTS_H
#define HTH_TESTS_MADE_WEIGHTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "worker/loader.h"

struct made_weights {
    struct hth_spec spec;
    struct hth_plan plan;
    uint32_t pieces;
    uint8_t key[2 * 8 + 1][HTH_HASH_BYTES];
    atomic_bool broken; /* the source fails */
    atomic_uint reads;  /* of the source */
    uint8_t *scratch;   /* of the largest piece */
    /* What the disk does; for hth_packed_io. */
    struct hth_packed_io io;
    atomic_int fault;     /* enum made_fault */
    atomic_int fault_for; /* so many reads; < 0: all */
};

enum made_fault {
    MADE_FAULT_NONE,
    MADE_FAULT_EIO,
    MADE_FAULT_SHORT, /* half of what was asked for */
    MADE_FAULT_END,   /* as if the file ended */
    MADE_FAULT_FLIP   /* one bit */
};

void made_init(struct made_weights *m, bool moe);
void made_fini(struct made_weights *m);
/* Options for a loader over it; dir may be NULL. */
struct hth_loader_opts made_opts(struct made_weights *m, const char *dir,
                                 uint64_t budget_bytes);
/* Acquire a piece, compare its bytes with what they must be, release it. */
void made_check(struct made_weights *m, struct hth_loader *l, uint32_t index);
/* Without the release. */
const void *made_take(struct made_weights *m, struct hth_loader *l,
                      uint32_t index);
/* Are these the bytes of that piece? */
void made_same(struct made_weights *m, uint32_t index, const void *data);
/* A whole step: all pieces in order, or those up to the head. */
void made_step(struct made_weights *m, struct hth_loader *l, bool head);
uint64_t made_bytes(const struct made_weights *m); /* of all pieces */

#endif
