/* piece.h - a shard's blocks cut into what a step needs at one moment.
 *
 * A block is the unit of transfer; a piece is the unit of memory. Where
 * weights come and go, the less of them one product needs at a time the more
 * room is left for those that stay: the FFN's down matrix is not needed while
 * gate and up are read, an expert only by the rows that chose it, and the
 * output matrix can be multiplied some rows at a time.
 *
 *   per layer   attention | norm, gate, up | down
 *   with experts  attention | norm, router | expert 0 | expert 1 | ...
 *   the head    final norm and the first output rows | more rows | ...
 *
 * A piece is described as a block of its own (struct hth_block) whose parts
 * are runs of rows or planes of the block's parts, so that hth_block_read()
 * and hth_block_mat() take it as it is. Output rows are cut at multiples of
 * HTH_PIECE_ROWS. Pure, thread-safe. A piece of an empty block has 0 bytes. */
#ifndef HTH_MODEL_PIECE_H
#define HTH_MODEL_PIECE_H

#include <stdint.h>

#include "model/shard.h"

#define HTH_PIECE_ROWS 64u              /* unit of cuts between rows */
#define HTH_PIECE_HEAD_BYTES (8u << 20) /* of output rows, about */

/* Pieces are numbered in the order of a step, from 0. */
uint32_t hth_pieces(const struct hth_spec *s, const struct hth_plan *p,
                    uint32_t rank);
void hth_piece(const struct hth_spec *s, const struct hth_plan *p,
               uint32_t rank, uint32_t index, struct hth_block *out);
/* The block (hth_shard_block()) that a piece is cut from. */
uint32_t hth_piece_block(const struct hth_spec *s, uint32_t index);

uint32_t hth_piece_attn(const struct hth_spec *s, uint32_t layer);
/* Norm and gate and up, or norm and router. */
uint32_t hth_piece_ffn(const struct hth_spec *s, uint32_t layer);
/* What follows it: down, or expert 0. */
uint32_t hth_piece_ffn_rest(const struct hth_spec *s, uint32_t layer);
uint32_t hth_piece_head(const struct hth_spec *s);
/* Is it an expert: needed only by the rows that chose it? */
bool hth_piece_rare(const struct hth_spec *s, uint32_t index);

/* Where the bytes of part i of a piece begin in its block; they are one run of
 * row_bytes * rows * planes bytes. */
uint64_t hth_piece_part_at(const struct hth_block *block,
                           const struct hth_block *piece, uint32_t i);

#endif
