/* pack.h - the layout that the products read: 16 rows of weights side by side.
 *
 * A packed matrix has the size, the rows and the row_bytes of the GGUF one.
 * Each full group of 16 rows (HTH_PACK_ROWS * row_bytes bytes, in the same
 * place) is rearranged; the up to 15 rows behind the last full group stay as
 * GGUF has them. So offsets, slices and planes of experts are what they were,
 * a group can be packed in place, and reading a packed matrix reads not one
 * byte more.
 *
 * A group of a quantised type is, for each block of columns, a unit of 16
 * blocks: first the scales, then the codes. Scales keep their GGUF bytes,
 * field by field, each field of the 16 rows together: d of row 0, d of row 1,
 * ..., then dmin of row 0, .... Codes follow in parts of 32 columns; a part is
 * made of vectors of 64 bytes in which the 4 bytes 4r to 4r + 3 belong to row
 * r, so that a vector, cut into codes, is what one 8-bit dot product step of
 * 16 rows by 4 columns wants:
 *   nibbles  4 vectors: byte i of row r in vector t has the low four bits of
 *            column 4t + i in its low half, of column 16 + 4t + i in its high
 *   twos     2 vectors: byte i of vector h has the two (high) bits of columns
 *            16h + i, + 4, + 8, + 12, lowest first
 *   ones     1 vector: bit t of byte i is the top bit of column 4t + i
 *   bytes    8 vectors: byte i of vector t is column 4t + i, signed
 * in this order, where the type has them. Codes are unsigned as GGUF stores
 * them (bytes excepted): the number is scale * (code - bias) + offset.
 *
 * F16 goes column by column, 16 halves each; BF16 by pairs of columns, a row's
 * two numbers next to each other. F32 is not packed.
 *
 * Pure functions, thread-safe, nothing allocated; every byte pattern is valid
 * input. */
#ifndef HTH_KERNELS_PACK_H
#define HTH_KERNELS_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/block.h"
#include "kernels/pool.h"

#define HTH_PACK_ROWS 16u
/* Of the layout; whoever keeps packed bytes on disk keeps this beside them. */
#define HTH_PACK_VERSION 1u

/* Is there a packed layout for rows of this type and length? */
bool hth_can_pack(uint32_t type, uint32_t cols);

/* rows: 16 GGUF rows, one after the other; packed: as many bytes, elsewhere.
 * hth_can_pack(type, cols) must hold. */
void hth_pack_group(uint32_t type, uint32_t cols, const void *rows,
                    void *packed);

/* Pack a whole matrix in place, its groups shared out to the threads of the
 * pool (NULL: the caller's alone). scratch: 16 * row_bytes bytes per thread.
 * Packing twice is the caller's mistake and cannot be seen. */
struct hth_pack_job {
    uint32_t type;
    uint32_t cols;
    uint64_t rows;
    uint8_t *data;
    uint8_t *scratch;
};
void hth_pack(struct hth_pool *pool, const struct hth_pack_job *job);

/* What a fast kernel must know of a quantised type's units. */
struct hth_pack_shape {
    uint32_t parts;      /* of 32 columns, in a unit */
    uint32_t head_bytes; /* scales of the 16 rows, before the parts */
    uint32_t part_bytes; /* codes of the 16 rows */
    uint32_t unit_bytes; /* head and parts: 16 blocks of GGUF */
    uint8_t bias;        /* of the codes; 0 where GGUF has an offset */
    bool nibbles, twos, ones, bytes;
};
/* NULL for types that are not packed, or not made of integers. */
const struct hth_pack_shape *hth_pack_shape(uint32_t type);

/* Number by number, for the scalar set and the tests: part `part` of row `row`
 * of a unit. */
void hth_packed_part(uint32_t type, const uint8_t *unit, uint32_t row,
                     uint32_t part, struct hth_block32 *out);

#endif
