/* shard.h - which bytes of which tensor belong to a rank, as blocks.
 *
 * A rank's shard is a list of blocks: for each layer its attention block and
 * its FFN block, then one head block (final norm and the rank's rows of the
 * output matrix). A block is one contiguous piece of memory or file; its parts
 * are slices of tensors, packed row after row, each part starting on a
 * multiple of HTH_PART_ALIGN. Layout follows from (spec, plan, rank) alone, so
 * both ends of a transfer derive the same. A block with nothing in it has 0
 * bytes. Pure computation except hth_block_read(). Thread-safe. */
#ifndef HTH_MODEL_SHARD_H
#define HTH_MODEL_SHARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "kernels/ops.h"
#include "model/gguf.h"
#include "model/spec.h"

#define HTH_PART_ALIGN 64u
#define HTH_BLOCK_PARTS_MAX 12u

enum hth_block_kind { HTH_BLOCK_ATTN, HTH_BLOCK_FFN, HTH_BLOCK_HEAD };

/* Roles of the head block's parts. */
#define HTH_ROLE_OUTPUT_NORM HTH_ROLE_COUNT
#define HTH_ROLE_OUTPUT (HTH_ROLE_COUNT + 1)

struct hth_part {
    uint32_t role;
    uint32_t type;
    uint32_t rows;        /* of the slice; of one expert where planes > 1 */
    uint32_t cols;        /* of the slice */
    uint32_t planes;      /* experts, else 1 */
    uint32_t row_first;   /* in the tensor */
    uint32_t col_first;   /* in the tensor; at a quantisation block */
    uint32_t plane_first; /* in the tensor */
    uint64_t row_bytes;   /* of the slice */
    uint64_t offset;      /* in the block */
};

struct hth_block {
    uint32_t kind; /* enum hth_block_kind */
    uint32_t layer;
    uint32_t parts;
    uint64_t bytes;
    struct hth_part part[HTH_BLOCK_PARTS_MAX];
};

/* Blocks of a rank: always 2 * layers + 1; index 2l attention of layer l,
 * 2l + 1 its FFN, the last one the head. */
uint32_t hth_shard_blocks(const struct hth_spec *s);
/* Describe block `index`; an out-of-range index is our bug. */
void hth_shard_block(const struct hth_spec *s, const struct hth_plan *p,
                     uint32_t rank, uint32_t index, struct hth_block *out);
/* Sum of all blocks' bytes. */
uint64_t hth_shard_bytes(const struct hth_spec *s, const struct hth_plan *p,
                         uint32_t rank);

/* Copy a piece of the packed block out of the model file (padding is zeros).
 * Reads with pread: a truncated or failing file is HTH_EIO with its name. Any
 * thread. */
HTH_MUST_CHECK int hth_block_read(const struct hth_gguf *g,
                                  const struct hth_spec *s,
                                  const struct hth_block *b,
                                  struct hth_read what, struct hth_err *err);

/* Bring the bytes of a block or of a piece, as hth_block_read() gives them,
 * into the layout of the kernels (kernels/pack.h), in place: matrices of a type
 * that has one, group of rows by group of rows; norms, biases and the router
 * stay. Sizes and offsets stay too, and a piece's bytes are those of the whole
 * block. The work is shared out to the pool (NULL: the caller's thread).
 * HTH_ENOMEM. */
HTH_MUST_CHECK int hth_block_pack(struct hth_pool *pool,
                                  const struct hth_block *b, void *data,
                                  struct hth_err *err);
/* Does hth_block_pack() change this part? */
bool hth_part_packs(const struct hth_part *part);

/* The matrix of a part inside the block at data, which hth_block_pack() has
 * been through; plane < planes. A missing role gives rows 0 and data NULL. */
struct hth_mat hth_block_mat(const struct hth_block *b, const void *data,
                             uint32_t role, uint32_t plane);

#endif
