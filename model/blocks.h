/* blocks.h - where the weights of a step come from, declared by the consumer:
 * model/ never sees a file of blocks. worker/ binds it to memory that holds
 * everything, or to a window that reads blocks ahead of the step.
 *
 * All calls come from the thread that runs the step, in the order of the
 * blocks: acquire before a block's compute, release right after it and before
 * the all-reduce, so that the next read overlaps both. A block is held at most
 * once. A step that fails between the two releases what it holds. */
#ifndef HTH_MODEL_BLOCKS_H
#define HTH_MODEL_BLOCKS_H

#include <stdint.h>

#include "base/status.h"

struct hth_blocks {
    void *ctx;
    /* The bytes of block `index` (hth_shard_block()) in *data, valid until its
     * release; the same block may lie elsewhere the next time. Waits until it
     * is there. No allocation. An error ends the step; its text names the
     * file. */
    int (*acquire)(void *ctx, uint32_t index, const void **data,
                   struct hth_err *err);
    void (*release)(void *ctx, uint32_t index);
};

#endif
