/* avx512.h - the functions that the AVX-512 files offer each other; the table
 * itself is hth_isa_avx512 of isa.h. Contracts as in isa.h and ops.h. */
#ifndef HTH_KERNELS_AVX512_H
#define HTH_KERNELS_AVX512_H

#include "kernels/isa.h"

/* X(name) for every quantised type. */
#define HTH_QUANT_TYPES(X) \
    X(Q4_0)                \
    X(Q4_1)                \
    X(Q5_0)                \
    X(Q5_1)                \
    X(Q8_0)                \
    X(Q2_K)                \
    X(Q3_K)                \
    X(Q4_K)                \
    X(Q5_K)                \
    X(Q6_K)                \
    X(IQ4_NL)              \
    X(IQ4_XS)

/* Both compute the same bits; decode is for 1 to HTH_DECODE_ROWS rows of x
 * and streams the weights, prefill unpacks panels of weights and is for more
 * rows. Any n works in both. */
#define HTH_DECODE_ROWS 4u

struct hth_q8_product {
    const struct hth_mat *w;
    uint32_t first;
    uint32_t count;
    const struct hth_q8 *x;
    float *y;
    size_t ldy;
};

void hth__decode_avx512(const struct hth_q8_product *job);
void hth__prefill_avx512(const struct hth_q8_product *job);

void hth__gemm_float_avx512(const struct hth_mat *w, uint32_t first,
                            uint32_t count, const float *x, size_t ldx,
                            uint32_t n, float *y, size_t ldy);
void hth__attn_fold_avx512(const struct hth_attn_part *part);

#endif
