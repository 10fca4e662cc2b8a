/* quant.c - dequantisation of all types, quantisation of the simple ones. The
 * searches for scales and the 256-number blocks are in quant_k.c. Fails on
 * input that is not whole blocks or not finite. */
#include "kernels/quant.h"

#include <math.h>
#include <string.h>

#include "base/cursor.h"
#include "kernels/block.h"
#include "kernels/quant_k.h"

/* ---- dequantisation ---------------------------------------------------- */

static void dequantize_float(enum hth_type type, const uint8_t *src, float *dst,
                             size_t n)
{
    if (type == HTH_F32) {
        memcpy(dst, src, n * sizeof *dst);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint16_t h = hth_load_u16(src + 2 * i);

        dst[i] = type == HTH_F16 ? hth_f16_to_f32(h) : hth_bf16_to_f32(h);
    }
}

static void widen_block(const struct hth_block32 *b, float *dst)
{
    for (int i = 0; i < 32; i++)
        dst[i] = b->scale[i / 16] * (float)b->q[i] + b->offset[i / 16];
}

void hth_dequantize(enum hth_type type, const void *src, float *dst, size_t n)
{
    const struct hth_type_info *info = hth_type_info(type);
    hth_unpack_fn unpack = hth_unpacker(type);
    const uint8_t *block = src;

    HTH_ASSERT(info != NULL && n % info->block == 0);
    if (unpack == NULL) {
        dequantize_float(type, src, dst, n);
        return;
    }
    for (size_t i = 0; i < n; i += info->block, block += info->bytes) {
        for (uint32_t part = 0; part < info->block / 32; part++) {
            struct hth_block32 b;

            unpack(block, part, &b);
            widen_block(&b, dst + i + (size_t)part * 32);
        }
    }
}

/* ---- quantisation ------------------------------------------------------ */

static void put_f16(const float *x, uint8_t *dst)
{
    hth_store_u16(dst, hth_f32_to_f16(*x));
}

static void put_bf16(const float *x, uint8_t *dst)
{
    hth_store_u16(dst, hth_f32_to_bf16(*x));
}

static void put_f32(const float *x, uint8_t *dst)
{
    memcpy(dst, x, sizeof *x);
}

/* x / d for all 32 as integers in [low, high]; all 0 where d is 0. */
static void round_block(const float *x, float d, float low, float high,
                        int8_t *q)
{
    float inverse = d != 0.0f ? 1.0f / d : 0.0f;

    for (int i = 0; i < 32; i++)
        q[i] = (int8_t)hth_round_near(hth_clamp(x[i] * inverse, low, high));
}

/* Eight bits leave nothing to search for: the largest number gets 127. */
static void put_q8_0(const float *x, uint8_t *dst)
{
    float max = 0.0f;
    uint16_t d;
    int8_t q[32];

    for (int i = 0; i < 32; i++)
        max = fmaxf(max, fabsf(x[i]));
    d = hth_scale_f16(max / 127.0f);
    hth_store_u16(dst, d);
    round_block(x, hth_f16_to_f32(d), -127.0f, 127.0f, q);
    memcpy(dst + 2, q, sizeof q);
}

/* Codes 0..31: low four bits as nibbles, the fifth into a mask. */
static uint32_t pack_codes(const int8_t *code, uint8_t *nibbles)
{
    uint32_t high = 0;

    for (int i = 0; i < 16; i++)
        nibbles[i] = (uint8_t)((code[i] & 15) | (code[i + 16] & 15) << 4);
    for (int i = 0; i < 32; i++)
        high |= (uint32_t)(code[i] >> 4 & 1) << i;
    return high;
}

/* Q4_0 and Q5_0: d, codes q + half. */
static uint32_t put_symmetric(const float *x, int half, uint8_t *dst,
                              uint8_t *nibbles)
{
    uint16_t d = hth_scale_f16(hth_fit_scale(x, 32, half));
    int8_t q[32];

    hth_store_u16(dst, d);
    round_block(x, hth_f16_to_f32(d), (float)-half, (float)(half - 1), q);
    for (int i = 0; i < 32; i++)
        q[i] = (int8_t)(q[i] + half);
    return pack_codes(q, nibbles);
}

static void put_q4_0(const float *x, uint8_t *dst)
{
    (void)put_symmetric(x, 8, dst, dst + 2);
}

static void put_q5_0(const float *x, uint8_t *dst)
{
    hth_store_u32(dst + 2, put_symmetric(x, 16, dst, dst + 6));
}

/* Q4_1 and Q5_1: d, m, codes. The offset may have either sign, so the search
 * (which wants none above zero) sees x less its minimum. */
static uint32_t put_offset(const float *x, int levels, uint8_t *dst,
                           uint8_t *nibbles)
{
    float shifted[32], low = x[0], scale, min;
    uint16_t d, m;
    int8_t q[32];

    for (int i = 1; i < 32; i++)
        low = fminf(low, x[i]);
    for (int i = 0; i < 32; i++)
        shifted[i] = x[i] - low;
    hth_fit_scale_min(shifted, levels, &scale, &min);
    d = hth_scale_f16(scale);
    m = hth_scale_f16(low - min);
    hth_store_u16(dst, d);
    hth_store_u16(dst + 2, m);
    for (int i = 0; i < 32; i++)
        shifted[i] = x[i] - hth_f16_to_f32(m);
    round_block(shifted, hth_f16_to_f32(d), 0.0f, (float)levels, q);
    return pack_codes(q, nibbles);
}

static void put_q4_1(const float *x, uint8_t *dst)
{
    (void)put_offset(x, 15, dst, dst + 4);
}

static void put_q5_1(const float *x, uint8_t *dst)
{
    hth_store_u32(dst + 4, put_offset(x, 31, dst, dst + 8));
}

/* One block each. */
typedef void (*put_fn)(const float *x, uint8_t *dst);

static put_fn quantizer(uint32_t type)
{
    static const put_fn fns[] = {
        [HTH_F32] = put_f32,
        [HTH_F16] = put_f16,
        [HTH_BF16] = put_bf16,
        [HTH_Q8_0] = put_q8_0,
        [HTH_Q4_0] = put_q4_0,
        [HTH_Q4_1] = put_q4_1,
        [HTH_Q5_0] = put_q5_0,
        [HTH_Q5_1] = put_q5_1,
        [HTH_Q4_K] = hth_quantize_q4_k,
        [HTH_Q5_K] = hth_quantize_q5_k,
        [HTH_Q6_K] = hth_quantize_q6_k,
    };

    return type < sizeof fns / sizeof fns[0] ? fns[type] : NULL;
}

bool hth_can_quantize(uint32_t type)
{
    return quantizer(type) != NULL;
}

/* Float types take any number; a scale cannot be found for infinity or NaN. */
static bool all_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

int hth_quantize(enum hth_type type, const float *src, void *dst, size_t n)
{
    const struct hth_type_info *info = hth_type_info(type);
    put_fn put = quantizer(type);
    uint8_t *at = dst;

    if (info == NULL || put == NULL)
        return HTH_EUNSUPPORTED;
    if (n % info->block != 0 || (info->block > 1 && !all_finite(src, n)))
        return HTH_EINVAL;
    for (size_t i = 0; i < n; i += info->block, at += info->bytes)
        put(src + i, at);
    return HTH_OK;
}
