/* x86.h - what the AVX2 and AVX-512 files share: the functions they offer
 * each other (the tables are hth_isa_avx2 and hth_isa_avx512 of isa.h), and
 * the scalar pieces of unpacking. Contracts as in isa.h and ops.h. */
#ifndef HTH_KERNELS_X86_H
#define HTH_KERNELS_X86_H

#include <string.h>

#include "kernels/isa.h"

#define HTH_INLINE static inline __attribute__((always_inline))

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

/* A call of gemm_q8. */
struct hth_q8_product {
    const struct hth_mat *w;
    uint32_t first;
    uint32_t count;
    const struct hth_q8 *x;
    float *y;
    size_t ldy;
};

/* Decode is for 1 to HTH_DECODE_ROWS rows of x and streams the weights,
 * prefill unpacks panels of weights and is for more rows. Any n works in both,
 * and all four give the same bits: y is the sum, in the order of the columns,
 * of one f32 per block of 32 columns; that is
 *   float(sum w q) (d_w d_x) [+ m_w (d_x sum q)], fused from the second on. */
#define HTH_DECODE_ROWS 4u
void hth__decode_avx2(const struct hth_q8_product *job);
void hth__prefill_avx2(const struct hth_q8_product *job);
void hth__decode_avx512(const struct hth_q8_product *job);
void hth__prefill_avx512(const struct hth_q8_product *job);

/* gemm_packed and gemm_packed_float of isa.h. */
void hth__gemm_packed_avx2(const struct hth_mat *w, uint32_t first,
                           uint32_t count, const struct hth_q8 *x, float *y,
                           size_t ldy);
void hth__gemm_packed_float_avx2(const struct hth_mat *w, uint32_t first,
                                 uint32_t count, const struct hth_xf *x,
                                 float *y, size_t ldy);
void hth__gemm_packed_float_avx512(const struct hth_mat *w, uint32_t first,
                                   uint32_t count, const struct hth_xf *x,
                                   float *y, size_t ldy);
void hth__gemm_packed_avx512(const struct hth_mat *w, uint32_t first,
                             uint32_t count, const struct hth_q8 *x, float *y,
                             size_t ldy);

void hth__gemm_float_avx2(const struct hth_mat *w, uint32_t first,
                          uint32_t count, const float *x, size_t ldx,
                          uint32_t n, float *y, size_t ldy);
void hth__gemm_float_avx512(const struct hth_mat *w, uint32_t first,
                            uint32_t count, const float *x, size_t ldx,
                            uint32_t n, float *y, size_t ldy);
void hth__attn_panel_avx2(const struct hth_attn_panel *p);
void hth__attn_widen_avx2(const struct hth_attn_block *from, uint32_t keys,
                          const struct hth_attn_block *to);
void hth__attn_panel_avx512(const struct hth_attn_panel *p);
void hth__attn_widen_avx512(const struct hth_attn_block *from, uint32_t keys,
                            const struct hth_attn_block *to);

/* ---- scalar pieces of unpacking ----------------------------------------- */

HTH_INLINE uint16_t hth_peek16(const uint8_t *p)
{
    uint16_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

HTH_INLINE uint32_t hth_peek32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

HTH_INLINE uint64_t hth_peek64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

/* The 6-bit scales and minima of Q4_K and Q5_K, one per byte: 12 bytes, the
 * first four of each whole, the last four cut into 4 low and 2 high bits. */
HTH_INLINE void hth_scales_k4(const uint8_t *p, uint64_t *scales,
                              uint64_t *mins)
{
    uint32_t a = hth_peek32(p), b = hth_peek32(p + 4), c = hth_peek32(p + 8);
    uint32_t high = (c & 0x0f0f0f0fu) | (a >> 2 & 0x30303030u);

    *scales = (uint64_t)high << 32 | (a & 0x3f3f3f3fu);
    high = (c >> 4 & 0x0f0f0f0fu) | (b >> 2 & 0x30303030u);
    *mins = (uint64_t)high << 32 | (b & 0x3f3f3f3fu);
}

/* The 16 scales of Q3_K, one per byte, still plus 32: 12 bytes; 4 low bits of
 * scale i in the nibbles of the first 8 bytes, 2 high bits in the last 4. */
HTH_INLINE void hth_scales_q3_k(const uint8_t *p, uint64_t out[2])
{
    uint64_t low = hth_peek64(p), high = hth_peek32(p + 8);

    high |= high << 30; /* bits 0 and 1 below, bits 2 and 3 above */
    out[0] = (low & 0x0f0f0f0f0f0f0f0fu) | (high & 0x0303030303030303u) << 4;
    out[1] = (low >> 4 & 0x0f0f0f0f0f0f0f0fu) |
             (high >> 4 & 0x0303030303030303u) << 4;
}

#endif
