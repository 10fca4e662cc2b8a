/* type.h - the tensor types of GGUF that Hearth computes with: ids, block
 * shapes, row sizes. Pure data; thread-safe.
 *
 * A row of `cols` numbers is cols / block blocks of `bytes` bytes each, as the
 * GGUF specification and ggml define them. */
#ifndef HTH_KERNELS_TYPE_H
#define HTH_KERNELS_TYPE_H

#include <stddef.h>
#include <stdint.h>

enum hth_type {
    HTH_F32 = 0,
    HTH_F16 = 1,
    HTH_Q4_0 = 2,
    HTH_Q4_1 = 3,
    HTH_Q5_0 = 6,
    HTH_Q5_1 = 7,
    HTH_Q8_0 = 8,
    HTH_Q2_K = 10,
    HTH_Q3_K = 11,
    HTH_Q4_K = 12,
    HTH_Q5_K = 13,
    HTH_Q6_K = 14,
    HTH_IQ4_NL = 20,
    HTH_IQ4_XS = 23,
    HTH_BF16 = 30
};

#define HTH_BLOCK_MAX 256u /* numbers in the largest block */

struct hth_type_info {
    const char *name; /* as GGUF tools print it: "Q4_K" */
    uint32_t id;
    uint32_t block; /* numbers per block */
    uint32_t bytes; /* bytes per block */
};

/* NULL for an id that is not supported. */
const struct hth_type_info *hth_type_info(uint32_t id);
/* By name, any case; NULL if unknown. */
const struct hth_type_info *hth_type_by_name(const char *name);
/* "F32, F16, ..." for messages. */
const char *hth_type_list(void);
/* Bytes of a row; 0 when cols is not a whole number of blocks or the type is
 * unknown. */
size_t hth_row_bytes(uint32_t id, uint64_t cols);

/* IEEE half and bfloat conversions, round to nearest even, exact both ways
 * for representable values. */
float hth_f16_to_f32(uint16_t h);
uint16_t hth_f32_to_f16(float f);
float hth_bf16_to_f32(uint16_t h);
uint16_t hth_f32_to_bf16(float f);

#endif
