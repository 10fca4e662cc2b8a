/* block.h - one view of all quantised types: 32 small integers with a scale
 * and an offset per 16. Internal to kernels/ (and its tests).
 *
 * Dequantisation, the scalar product and every fast path that has no native
 * code for a type go through it, so a block layout is written down once.
 * Pure functions over borrowed bytes; thread-safe; no failure. */
#ifndef HTH_KERNELS_BLOCK_H
#define HTH_KERNELS_BLOCK_H

#include <stdint.h>

#include "kernels/type.h"

/* Number k is scale[k / 16] * q[k] + offset[k / 16]. The product is exact in
 * f32 for every type (at most 24 significant bits), so only the addition of a
 * non-zero offset rounds. */
struct hth_block32 {
    int8_t q[32];
    float scale[2];
    float offset[2];
};

/* The 16 values of IQ4_NL and IQ4_XS codes. */
extern const int8_t hth_iq4_values[16];

/* block: one block of the type; part: which 32 numbers of it, in
 * [0, block / 32). */
typedef void (*hth_unpack_fn)(const uint8_t *block, uint32_t part,
                              struct hth_block32 *out);

/* NULL for types that are not made of integer blocks. */
hth_unpack_fn hth_unpacker(uint32_t type);

/* The scales of the K types are packed so tightly that their layout is kept
 * here, for the scalar and the fast unpackers alike. */

/* The j-th of the eight 6-bit scales and minima packed in the 12 bytes of
 * Q4_K and Q5_K. */
static inline void hth_scale_min(const uint8_t packed[12], uint32_t j,
                                 uint8_t *scale, uint8_t *min)
{
    if (j < 4) {
        *scale = packed[j] & 63u;
        *min = packed[j + 4] & 63u;
    } else {
        *scale = (uint8_t)((packed[j + 4] & 15u) | (packed[j - 4] >> 6) << 4);
        *min = (uint8_t)(packed[j + 4] >> 4 | (packed[j] >> 6) << 4);
    }
}

/* Scale j of the 16 in the 12 bytes of Q3_K: four low bits in nibble j of the
 * first 8 bytes (low nibbles first), two high bits in the last 4 bytes; 32
 * means 0. */
static inline int hth_q3_scale(const uint8_t packed[12], uint32_t j)
{
    int low = j < 8 ? packed[j] & 15 : packed[j - 8] >> 4;
    int high = packed[8 + j % 4] >> (j / 4 * 2) & 3;

    return (low | high << 4) - 32;
}

/* Scale j of the 8 of IQ4_XS, from the 6 bytes behind its d: two bytes of high
 * bits, four of low nibbles; 32 means 0. */
static inline int hth_iq4_scale(const uint8_t packed[6], uint32_t j)
{
    int low = packed[2 + j / 2] >> (j % 2 * 4) & 15;
    int high = packed[j / 4] >> (j % 4 * 2) & 3;

    return (low | high << 4) - 32;
}

#endif
