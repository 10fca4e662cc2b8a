/* unpack_neon.h - blocks of every quantised type as two vectors of 16 integers
 * with scales and offsets: unpack.c in NEON. Internal to kernels/. The layouts
 * are described there.
 *
 * Everything is inlined into the loops of gemm_neon.h, where `part` becomes a
 * constant and the packed scales unfold. Pure; no failure. */
#ifndef HTH_KERNELS_UNPACK_NEON_H
#define HTH_KERNELS_UNPACK_NEON_H

#include <arm_neon.h>
#include <string.h>

#include "kernels/block.h"

#define HTH_INLINE static inline __attribute__((always_inline))

/* Numbers 0..15 are scale[0] * low + offset[0], 16..31 have high and [1]. */
struct neon_block {
    int8x16_t low, high;
    float scale[2], offset[2];
};

HTH_INLINE float neon_half_at(const uint8_t *p)
{
    __fp16 h;

    memcpy(&h, p, sizeof h);
    return (float)h;
}

HTH_INLINE void neon_scale(struct neon_block *b, float scale, float offset)
{
    b->scale[0] = b->scale[1] = scale;
    b->offset[0] = b->offset[1] = offset;
}

/* Sixteen bytes of nibbles: the low ones, then the high ones. */
HTH_INLINE void neon_nibbles(struct neon_block *b, const uint8_t *qs)
{
    uint8x16_t v = vld1q_u8(qs);

    b->low = vreinterpretq_s8_u8(vandq_u8(v, vdupq_n_u8(15)));
    b->high = vreinterpretq_s8_u8(vshrq_n_u8(v, 4));
}

HTH_INLINE void neon_minus(struct neon_block *b, int8_t minus)
{
    b->low = vsubq_s8(b->low, vdupq_n_s8(minus));
    b->high = vsubq_s8(b->high, vdupq_n_s8(minus));
}

/* 16 where bit i of two bytes is set: each byte is copied to eight lanes and
 * tested against its lane's bit. */
HTH_INLINE int8x16_t neon_fifth(const uint8_t *bits)
{
    static const uint8_t lane_bit[16] = {1, 2, 4, 8, 16, 32, 64, 128,
                                         1, 2, 4, 8, 16, 32, 64, 128};
    uint8x16_t v = vcombine_u8(vdup_n_u8(bits[0]), vdup_n_u8(bits[1]));
    uint8x16_t set = vtstq_u8(v, vld1q_u8(lane_bit));

    return vreinterpretq_s8_u8(vandq_u8(set, vdupq_n_u8(16)));
}

HTH_INLINE void neon_fives(struct neon_block *b, const uint8_t *high,
                           const uint8_t *qs)
{
    neon_nibbles(b, qs);
    b->low = vorrq_s8(b->low, neon_fifth(high));
    b->high = vorrq_s8(b->high, neon_fifth(high + 2));
}

/* (v >> right) & mask for 32 bytes */
HTH_INLINE void neon_field(struct neon_block *b, const uint8_t *p, int right,
                           uint8_t mask)
{
    int8x16_t shift = vdupq_n_s8((int8_t)-right);
    uint8x16_t m = vdupq_n_u8(mask);

    b->low = vreinterpretq_s8_u8(vandq_u8(vshlq_u8(vld1q_u8(p), shift), m));
    b->high =
        vreinterpretq_s8_u8(vandq_u8(vshlq_u8(vld1q_u8(p + 16), shift), m));
}

/* Or in ((p >> right) & mask) << left. */
HTH_INLINE void neon_or_field(struct neon_block *b, const uint8_t *p, int right,
                              uint8_t mask, int left)
{
    struct neon_block f;
    int8x16_t shift = vdupq_n_s8((int8_t)left);

    neon_field(&f, p, right, mask);
    b->low = vorrq_s8(b->low, vshlq_s8(f.low, shift));
    b->high = vorrq_s8(b->high, vshlq_s8(f.high, shift));
}

HTH_INLINE struct neon_block neon_q4_0(const uint8_t *p, uint32_t part)
{
    struct neon_block b;

    (void)part;
    neon_scale(&b, neon_half_at(p), 0.0f);
    neon_nibbles(&b, p + 2);
    neon_minus(&b, 8);
    return b;
}

HTH_INLINE struct neon_block neon_q4_1(const uint8_t *p, uint32_t part)
{
    struct neon_block b;

    (void)part;
    neon_scale(&b, neon_half_at(p), neon_half_at(p + 2));
    neon_nibbles(&b, p + 4);
    return b;
}

HTH_INLINE struct neon_block neon_q5_0(const uint8_t *p, uint32_t part)
{
    struct neon_block b;

    (void)part;
    neon_scale(&b, neon_half_at(p), 0.0f);
    neon_fives(&b, p + 2, p + 6);
    neon_minus(&b, 16);
    return b;
}

HTH_INLINE struct neon_block neon_q5_1(const uint8_t *p, uint32_t part)
{
    struct neon_block b;

    (void)part;
    neon_scale(&b, neon_half_at(p), neon_half_at(p + 2));
    neon_fives(&b, p + 4, p + 8);
    return b;
}

HTH_INLINE struct neon_block neon_q8_0(const uint8_t *p, uint32_t part)
{
    struct neon_block b;

    (void)part;
    neon_scale(&b, neon_half_at(p), 0.0f);
    b.low = vreinterpretq_s8_u8(vld1q_u8(p + 2));
    b.high = vreinterpretq_s8_u8(vld1q_u8(p + 18));
    return b;
}

HTH_INLINE void neon_look_up(struct neon_block *b, const uint8_t *qs)
{
    int8x16_t values = vld1q_s8(hth_iq4_values);

    neon_nibbles(b, qs);
    b->low = vqtbl1q_s8(values, vreinterpretq_u8_s8(b->low));
    b->high = vqtbl1q_s8(values, vreinterpretq_u8_s8(b->high));
}

HTH_INLINE struct neon_block neon_iq4_nl(const uint8_t *p, uint32_t part)
{
    struct neon_block b;

    (void)part;
    neon_scale(&b, neon_half_at(p), 0.0f);
    neon_look_up(&b, p + 2);
    return b;
}

HTH_INLINE struct neon_block neon_iq4_xs(const uint8_t *p, uint32_t part)
{
    struct neon_block b;

    neon_scale(&b, neon_half_at(p) * (float)hth_iq4_scale(p + 2, part), 0.0f);
    neon_look_up(&b, p + 8 + part * 16);
    return b;
}

HTH_INLINE struct neon_block neon_q2_k(const uint8_t *p, uint32_t part)
{
    struct neon_block b;
    float d = neon_half_at(p + 80), dmin = neon_half_at(p + 82);

    for (uint32_t i = 0; i < 2; i++) {
        uint8_t s = p[part * 2 + i];

        b.scale[i] = d * (float)(s & 15);
        b.offset[i] = -(dmin * (float)(s >> 4));
    }
    neon_field(&b, p + 16 + part / 4 * 32, (int)(part % 4 * 2), 3);
    return b;
}

HTH_INLINE struct neon_block neon_q3_k(const uint8_t *p, uint32_t part)
{
    struct neon_block b;
    float d = neon_half_at(p + 108);

    for (uint32_t i = 0; i < 2; i++) {
        b.scale[i] = d * (float)hth_q3_scale(p + 96, part * 2 + i);
        b.offset[i] = 0.0f;
    }
    neon_field(&b, p + 32 + part / 4 * 32, (int)(part % 4 * 2), 3);
    neon_or_field(&b, p, (int)part, 1, 2);
    neon_minus(&b, 4);
    return b;
}

HTH_INLINE void neon_scale_min(struct neon_block *b, const uint8_t *p,
                               uint32_t part)
{
    uint8_t scale, min;

    hth_scale_min(p + 4, part, &scale, &min);
    neon_scale(b, neon_half_at(p) * (float)scale,
               -(neon_half_at(p + 2) * (float)min));
}

HTH_INLINE struct neon_block neon_q4_k(const uint8_t *p, uint32_t part)
{
    struct neon_block b;

    neon_scale_min(&b, p, part);
    neon_field(&b, p + 16 + part / 2 * 32, (int)(part % 2 * 4), 15);
    return b;
}

HTH_INLINE struct neon_block neon_q5_k(const uint8_t *p, uint32_t part)
{
    struct neon_block b;

    neon_scale_min(&b, p, part);
    neon_field(&b, p + 48 + part / 2 * 32, (int)(part % 2 * 4), 15);
    neon_or_field(&b, p + 16, (int)part, 1, 4);
    return b;
}

HTH_INLINE struct neon_block neon_q6_k(const uint8_t *p, uint32_t part)
{
    struct neon_block b;
    uint32_t half = part / 4, in_half = part % 4;
    float d = neon_half_at(p + 208);

    for (uint32_t i = 0; i < 2; i++) {
        b.scale[i] = d * (float)(int8_t)p[192 + part * 2 + i];
        b.offset[i] = 0.0f;
    }
    neon_field(&b, p + half * 64 + in_half % 2 * 32, (int)(in_half / 2 * 4),
               15);
    neon_or_field(&b, p + 128 + half * 32, (int)(in_half * 2), 3, 4);
    neon_minus(&b, 32);
    return b;
}

#endif
