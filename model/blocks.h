/* blocks.h - where the weights of a step come from, declared by the consumer:
 * model/ never sees a file of weights. worker/ binds it to memory that holds
 * everything, or to a window that reads pieces ahead of the step.
 *
 * All calls come from the thread that runs the step, for pieces (model/piece.h)
 * in ascending order within a step; pieces that a step does not need (the head,
 * experts that no row chose) are left out. Acquire comes before a piece's
 * compute, release right after it and before the all-reduce, so that the next
 * read overlaps both. One piece is held at a time. */
#ifndef HTH_MODEL_BLOCKS_H
#define HTH_MODEL_BLOCKS_H

#include <stdint.h>

#include "base/status.h"

struct hth_blocks {
    void *ctx;
    /* The bytes of piece `index` in *data, valid until its release; the same
     * piece may lie elsewhere the next time. Waits until it is there. No
     * allocation. An error ends the step; its text names the file. */
    int (*acquire)(void *ctx, uint32_t index, const void **data,
                   struct hth_err *err);
    void (*release)(void *ctx, uint32_t index);
    /* May be NULL. The pieces first + n[i] that will be acquired next: experts,
     * which nobody can know before the router ran. */
    void (*expect)(void *ctx, uint32_t first, const uint32_t *n,
                   uint32_t count);
};

#endif
