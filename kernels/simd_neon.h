/* simd_neon.h - what the NEON files share beside unpacking: exp, and rows of
 * scores. Internal to kernels/; no state, no failure. */
#ifndef HTH_KERNELS_SIMD_NEON_H
#define HTH_KERNELS_SIMD_NEON_H

#include <arm_neon.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "kernels/isa.h"
#include "kernels/unpack_neon.h"

/* Attention of every 64-bit ARM (kernels_attn_asimd.c). */
void hth__attn_panel_asimd(const struct hth_attn_panel *p);
void hth__attn_widen_asimd(const struct hth_attn_block *from, uint32_t keys,
                           const struct hth_attn_block *to);

/* ln 2 in two parts. The first has so few bits that k times it is exact. */
#define LN2_HIGH 0x1.62ep-1f
#define LN2_LOW 0x1.0bfbe8p-15f

/* e^x for x <= 88, 0 below -87: 2^k e^r with |r| <= ln 2 / 2 and the Taylor
 * series to r^7, whose remainder is 5e-9. */
HTH_INLINE float32x4_t hth_exp4(float32x4_t x)
{
    static const float coefficient[] = {1.0f / 5040, 1.0f / 720, 1.0f / 120,
                                        1.0f / 24,   1.0f / 6,   0.5f,
                                        1.0f,        1.0f};
    uint32x4_t tiny = vcltq_f32(x, vdupq_n_f32(-87.0f));
    float32x4_t k, r, sum = vdupq_n_f32(coefficient[0]);
    int32x4_t exponent;

    x = vminq_f32(vmaxq_f32(x, vdupq_n_f32(-87.0f)), vdupq_n_f32(88.0f));
    k = vrndnq_f32(vmulq_n_f32(x, 1.44269504f));
    r = vfmsq_n_f32(x, k, LN2_HIGH);
    r = vfmsq_n_f32(r, k, LN2_LOW);
    for (int i = 1; i < 8; i++)
        sum = vfmaq_f32(vdupq_n_f32(coefficient[i]), sum, r);
    exponent = vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(k), vdupq_n_s32(127)), 23);
    sum = vmulq_f32(sum, vreinterpretq_f32_s32(exponent));
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(sum), tiny));
}

/* The largest of max and x[0..n). */
static inline float hth_max_of(const float *x, size_t n, float max)
{
    float32x4_t m = vdupq_n_f32(max);
    size_t i = 0;

    for (; i + 4 <= n; i += 4)
        m = vmaxnmq_f32(m, vld1q_f32(x + i));
    max = vmaxnmvq_f32(m);
    for (; i < n; i++)
        max = fmaxf(max, x[i]);
    return max;
}

/* x[i] = e^(x[i] - max); returns their sum. */
static inline float hth_exp_row(float *x, size_t n, float max)
{
    float32x4_t sum = vdupq_n_f32(0.0f), top = vdupq_n_f32(max);
    size_t i = 0;

    for (; i + 4 <= n; i += 4) {
        float32x4_t e = hth_exp4(vsubq_f32(vld1q_f32(x + i), top));

        vst1q_f32(x + i, e);
        sum = vaddq_f32(sum, e);
    }
    if (i < n) {
        float rest[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};

        memcpy(rest, x + i, (n - i) * sizeof *rest);
        vst1q_f32(rest, hth_exp4(vsubq_f32(vld1q_f32(rest), top)));
        memcpy(x + i, rest, (n - i) * sizeof *rest);
        sum = vaddq_f32(sum, vld1q_f32(rest));
    }
    return vaddvq_f32(sum);
}

#endif
