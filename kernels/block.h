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

#endif
