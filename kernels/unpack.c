/* unpack.c - the block layouts of GGUF, as ggml defines them, turned into
 * struct hth_block32. Each function reads one part (32 numbers) of one block.
 * Every byte pattern is valid input; nothing here can fail. */
#include "kernels/block.h"

#include <stddef.h>

#include "base/cursor.h"

const int8_t hth_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                   1,    13,   25,  38,  53,  69,  89,  113};

static float half_at(const uint8_t *p)
{
    return hth_f16_to_f32(hth_load_u16(p));
}

static void set_scale(struct hth_block32 *out, float scale, float offset)
{
    out->scale[0] = out->scale[1] = scale;
    out->offset[0] = out->offset[1] = offset;
}

/* Low nibbles are numbers 0..15, high nibbles 16..31, each minus `minus`. */
static void split_nibbles(const uint8_t *qs, int minus, int8_t *q)
{
    for (int i = 0; i < 16; i++) {
        q[i] = (int8_t)((qs[i] & 15) - minus);
        q[i + 16] = (int8_t)((qs[i] >> 4) - minus);
    }
}

/* The same with a fifth bit per number from the 32-bit mask `high`. */
static void split_fives(const uint8_t *qs, uint32_t high, int minus, int8_t *q)
{
    for (int i = 0; i < 16; i++) {
        q[i] = (int8_t)((qs[i] & 15) + (int)(high >> i & 1u) * 16 - minus);
        q[i + 16] =
            (int8_t)((qs[i] >> 4) + (int)(high >> (i + 16) & 1u) * 16 - minus);
    }
}

/* f16 d, 16 bytes of nibbles */
static void unpack_q4_0(const uint8_t *b, uint32_t part,
                        struct hth_block32 *out)
{
    (void)part;
    set_scale(out, half_at(b), 0.0f);
    split_nibbles(b + 2, 8, out->q);
}

/* f16 d, f16 m, 16 bytes of nibbles */
static void unpack_q4_1(const uint8_t *b, uint32_t part,
                        struct hth_block32 *out)
{
    (void)part;
    set_scale(out, half_at(b), half_at(b + 2));
    split_nibbles(b + 4, 0, out->q);
}

/* f16 d, u32 fifth bits, 16 bytes of nibbles */
static void unpack_q5_0(const uint8_t *b, uint32_t part,
                        struct hth_block32 *out)
{
    (void)part;
    set_scale(out, half_at(b), 0.0f);
    split_fives(b + 6, hth_load_u32(b + 2), 16, out->q);
}

/* f16 d, f16 m, u32 fifth bits, 16 bytes of nibbles */
static void unpack_q5_1(const uint8_t *b, uint32_t part,
                        struct hth_block32 *out)
{
    (void)part;
    set_scale(out, half_at(b), half_at(b + 2));
    split_fives(b + 8, hth_load_u32(b + 4), 0, out->q);
}

/* f16 d, 32 signed bytes */
static void unpack_q8_0(const uint8_t *b, uint32_t part,
                        struct hth_block32 *out)
{
    (void)part;
    set_scale(out, half_at(b), 0.0f);
    for (int i = 0; i < 32; i++)
        out->q[i] = (int8_t)b[2 + i];
}

/* f16 d, 16 bytes of nibbles that index the value table */
static void unpack_iq4_nl(const uint8_t *b, uint32_t part,
                          struct hth_block32 *out)
{
    (void)part;
    set_scale(out, half_at(b), 0.0f);
    for (int i = 0; i < 16; i++) {
        out->q[i] = hth_iq4_values[b[2 + i] & 15];
        out->q[i + 16] = hth_iq4_values[b[2 + i] >> 4];
    }
}

/* 16 bytes of 4-bit scale and minimum per 16 numbers, 64 bytes of 2-bit codes
 * (part p: bits 2 (p % 4) of the 32 bytes of half p / 4), f16 d, f16 dmin */
static void unpack_q2_k(const uint8_t *b, uint32_t part,
                        struct hth_block32 *out)
{
    const uint8_t *qs = b + 16 + part / 4 * 32;
    uint32_t shift = part % 4 * 2;
    float d = half_at(b + 80), dmin = half_at(b + 82);

    for (uint32_t i = 0; i < 2; i++) {
        uint8_t s = b[part * 2 + i];

        out->scale[i] = d * (float)(s & 15);
        out->offset[i] = -(dmin * (float)(s >> 4));
    }
    for (int i = 0; i < 32; i++)
        out->q[i] = (int8_t)(qs[i] >> shift & 3);
}

/* 32 bytes of third bits (clear: minus 4; bit p of each byte for part p),
 * 64 bytes of 2-bit codes, 12 bytes of scales, f16 d */
static void unpack_q3_k(const uint8_t *b, uint32_t part,
                        struct hth_block32 *out)
{
    const uint8_t *qs = b + 32 + part / 4 * 32;
    uint32_t shift = part % 4 * 2;
    float d = half_at(b + 108);

    for (uint32_t i = 0; i < 2; i++) {
        out->scale[i] = d * (float)hth_q3_scale(b + 96, part * 2 + i);
        out->offset[i] = 0.0f;
    }
    for (int i = 0; i < 32; i++)
        out->q[i] =
            (int8_t)((qs[i] >> shift & 3) - ((b[i] >> part & 1) != 0 ? 0 : 4));
}

static void k_scale_offset(const uint8_t *b, uint32_t part,
                           struct hth_block32 *out)
{
    uint8_t scale, min;

    hth_scale_min(b + 4, part, &scale, &min);
    set_scale(out, half_at(b) * (float)scale, -(half_at(b + 2) * (float)min));
}

/* f16 d, f16 dmin, 12 bytes of scales, 128 bytes of nibbles: 32 bytes hold
 * part 2k in the low and part 2k + 1 in the high nibbles */
static void unpack_q4_k(const uint8_t *b, uint32_t part,
                        struct hth_block32 *out)
{
    const uint8_t *qs = b + 16 + part / 2 * 32;
    uint32_t shift = part % 2 * 4;

    k_scale_offset(b, part, out);
    for (int i = 0; i < 32; i++)
        out->q[i] = (int8_t)(qs[i] >> shift & 15);
}

/* As Q4_K, with 32 bytes of fifth bits before the nibbles (bit p for part p) */
static void unpack_q5_k(const uint8_t *b, uint32_t part,
                        struct hth_block32 *out)
{
    const uint8_t *high = b + 16;
    const uint8_t *qs = b + 48 + part / 2 * 32;
    uint32_t shift = part % 2 * 4;

    k_scale_offset(b, part, out);
    for (int i = 0; i < 32; i++)
        out->q[i] =
            (int8_t)((qs[i] >> shift & 15) | (high[i] >> part & 1) << 4);
}

/* 128 bytes of low nibbles, 64 bytes of two high bits, 16 signed scales, f16
 * d. In each half, parts 0 and 1 are the low nibbles of 64 bytes, 2 and 3 the
 * high ones; part p has bits 2p of 32 bytes of high bits. */
static void unpack_q6_k(const uint8_t *b, uint32_t part,
                        struct hth_block32 *out)
{
    uint32_t half = part / 4, p = part % 4;
    const uint8_t *low = b + half * 64 + p % 2 * 32;
    const uint8_t *high = b + 128 + half * 32;
    float d = half_at(b + 208);

    for (uint32_t i = 0; i < 2; i++) {
        out->scale[i] = d * (float)(int8_t)b[192 + part * 2 + i];
        out->offset[i] = 0.0f;
    }
    for (int i = 0; i < 32; i++)
        out->q[i] = (int8_t)(((low[i] >> (p / 2 * 4) & 15) |
                              (high[i] >> (p * 2) & 3) << 4) -
                             32);
}

/* f16 d, u16 of two high scale bits, 4 bytes of low scale nibbles, 128 bytes
 * of codes: 16 bytes per part, split like IQ4_NL */
static void unpack_iq4_xs(const uint8_t *b, uint32_t part,
                          struct hth_block32 *out)
{
    const uint8_t *qs = b + 8 + part * 16;

    set_scale(out, half_at(b) * (float)hth_iq4_scale(b + 2, part), 0.0f);
    for (int i = 0; i < 16; i++) {
        out->q[i] = hth_iq4_values[qs[i] & 15];
        out->q[i + 16] = hth_iq4_values[qs[i] >> 4];
    }
}

hth_unpack_fn hth_unpacker(uint32_t type)
{
    static const hth_unpack_fn unpackers[] = {
        [HTH_Q4_0] = unpack_q4_0,     [HTH_Q4_1] = unpack_q4_1,
        [HTH_Q5_0] = unpack_q5_0,     [HTH_Q5_1] = unpack_q5_1,
        [HTH_Q8_0] = unpack_q8_0,     [HTH_Q2_K] = unpack_q2_k,
        [HTH_Q3_K] = unpack_q3_k,     [HTH_Q4_K] = unpack_q4_k,
        [HTH_Q5_K] = unpack_q5_k,     [HTH_Q6_K] = unpack_q6_k,
        [HTH_IQ4_NL] = unpack_iq4_nl, [HTH_IQ4_XS] = unpack_iq4_xs,
    };

    if (type >= sizeof unpackers / sizeof unpackers[0])
        return NULL;
    return unpackers[type];
}
