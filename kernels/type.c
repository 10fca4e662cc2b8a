/* type.c - the table of tensor types and the two half-width float formats.
 * Owns no state and fails only by saying "unknown" (NULL or 0). */
#include "kernels/type.h"

#include <string.h>
#include <strings.h>

static const struct hth_type_info g_types[] = {
    {"F32", HTH_F32, 1, 4},           {"F16", HTH_F16, 1, 2},
    {"BF16", HTH_BF16, 1, 2},         {"Q8_0", HTH_Q8_0, 32, 34},
    {"Q4_0", HTH_Q4_0, 32, 18},       {"Q4_1", HTH_Q4_1, 32, 20},
    {"Q5_0", HTH_Q5_0, 32, 22},       {"Q5_1", HTH_Q5_1, 32, 24},
    {"Q2_K", HTH_Q2_K, 256, 84},      {"Q3_K", HTH_Q3_K, 256, 110},
    {"Q4_K", HTH_Q4_K, 256, 144},     {"Q5_K", HTH_Q5_K, 256, 176},
    {"Q6_K", HTH_Q6_K, 256, 210},     {"IQ4_NL", HTH_IQ4_NL, 32, 18},
    {"IQ4_XS", HTH_IQ4_XS, 256, 136},
};

#define TYPES (sizeof g_types / sizeof g_types[0])

const struct hth_type_info *hth_type_info(uint32_t id)
{
    for (size_t i = 0; i < TYPES; i++)
        if (g_types[i].id == id)
            return &g_types[i];
    return NULL;
}

const struct hth_type_info *hth_type_by_name(const char *name)
{
    for (size_t i = 0; i < TYPES; i++)
        if (strcasecmp(g_types[i].name, name) == 0)
            return &g_types[i];
    return NULL;
}

const char *hth_type_list(void)
{
    return "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, "
           "Q5_K, Q6_K, IQ4_NL, IQ4_XS";
}

size_t hth_row_bytes(uint32_t id, uint64_t cols)
{
    const struct hth_type_info *t = hth_type_info(id);

    if (t == NULL || cols % t->block != 0)
        return 0;
    if (cols / t->block > SIZE_MAX / t->bytes)
        return 0;
    return (size_t)(cols / t->block) * t->bytes;
}

static uint32_t bits_of(float f)
{
    uint32_t u;

    memcpy(&u, &f, sizeof u);
    return u;
}

static float float_of(uint32_t u)
{
    float f;

    memcpy(&f, &u, sizeof f);
    return f;
}

/* Subnormal halves are multiples of 2^-24 and exact in f32. */
float hth_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t exponent = h >> 10 & 0x1fu;
    uint32_t mantissa = h & 0x3ffu;

    if (exponent == 0) {
        float f = (float)mantissa * 0x1p-24f;

        return sign != 0 ? -f : f;
    }
    if (exponent == 31)
        return float_of(sign | 0x7f800000u | mantissa << 13);
    return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
}

/* a: bits of a positive f32 below 2^-14, the smallest normal half. The half is
 * the mantissa in units of 2^-24, so the shift depends on the exponent; below
 * 2^-25 everything rounds to zero, and so does 2^-25 itself (a tie). */
static uint16_t subnormal_half(uint32_t a)
{
    uint32_t mantissa = (a & 0x7fffffu) | 0x800000u;
    uint32_t shift = 126u - (a >> 23);
    uint32_t half, kept, rest;

    if (a < 0x33000000u)
        return 0;
    half = 1u << (shift - 1);
    kept = mantissa >> shift;
    rest = mantissa & ((1u << shift) - 1);
    if (rest > half || (rest == half && (kept & 1u) != 0))
        kept++;
    return (uint16_t)kept;
}

uint16_t hth_f32_to_f16(float f)
{
    uint32_t u = bits_of(f);
    uint16_t sign = (uint16_t)(u >> 16 & 0x8000u);
    uint32_t a = u & 0x7fffffffu;

    if (a > 0x7f800000u) /* NaN stays one: the quiet bit is set */
        return (uint16_t)(sign | 0x7e00u | (a >> 13 & 0x1ffu));
    if (a >= 0x477ff000u) /* 65520 and more round to infinity */
        return sign | 0x7c00u;
    if (a < 0x38800000u)
        return sign | subnormal_half(a);
    a -= 112u << 23;
    return (uint16_t)(sign | (a + 0xfffu + (a >> 13 & 1u)) >> 13);
}

float hth_bf16_to_f32(uint16_t h)
{
    return float_of((uint32_t)h << 16);
}

uint16_t hth_f32_to_bf16(float f)
{
    uint32_t u = bits_of(f);

    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(u >> 16 | 0x40u);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}
