/* quant_test.c - block layouts against blocks worked out by hand, the half
 * formats exhaustively, and what the quantisers may lose. */
#include <criterion/criterion.h>

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "kernels/block.h"
#include "kernels/quant.h"

/* ---- layouts ----------------------------------------------------------- */

#define EDITS_MAX 14
#define CHECKS_MAX 6

/* A block of zero bytes with some set, and some of its numbers. The list of
 * edits ends at offset -1, the list of checks at index -1. */
struct layout {
    enum hth_type type;
    struct {
        int offset;
        uint8_t byte;
    } edits[EDITS_MAX];
    struct {
        int index;
        float value;
    } checks[CHECKS_MAX];
};

/* Halves used: 0x3c00 = 1, 0x4000 = 2, 0x3800 = 0.5, 0x3400 = 0.25, 0xbc00 =
 * -1, 0x4900 = 10. */
static const struct layout layouts[] = {
    {HTH_F32, {{2, 0x80}, {3, 0x3f}, {-1, 0}}, {{0, 1.0f}, {-1, 0}}},
    {HTH_F16, {{1, 0xc0}, {-1, 0}}, {{0, -2.0f}, {-1, 0}}},
    {HTH_BF16, {{0, 0x20}, {1, 0x41}, {-1, 0}}, {{0, 10.0f}, {-1, 0}}},
    {HTH_Q4_0,
     {{1, 0x40}, {2, 0x1f}, {17, 0x80}, {-1, 0}},
     {{0, 14}, {16, -14}, {15, -16}, {31, 0}, {1, -16}, {-1, 0}}},
    {HTH_Q4_1,
     {{1, 0x40}, {3, 0xbc}, {4 + 3, 0xa5}, {-1, 0}},
     {{3, 9}, {19, 19}, {0, -1}, {31, -1}, {-1, 0}}},
    {HTH_Q5_0,
     {{1, 0x38}, {2, 0x01}, {5, 0x80}, {6, 0x02}, {21, 0xf0}, {-1, 0}},
     {{0, 1}, {16, -8}, {31, 7.5f}, {15, -8}, {-1, 0}}},
    {HTH_Q5_1,
     {{1, 0x3c}, {3, 0x49}, {5, 0x80}, {6, 0x01}, {23, 0x0f}, {-1, 0}},
     {{15, 41}, {16, 26}, {31, 10}, {0, 10}, {-1, 0}}},
    {HTH_Q8_0,
     {{1, 0x34}, {2, 0x80}, {3, 0xff}, {33, 0x7f}, {-1, 0}},
     {{0, -32}, {1, -0.25f}, {31, 31.75f}, {2, 0}, {-1, 0}}},
    /* Number 0 of part p has bits 2p of byte 16: codes 0 1 2 3; scale byte 0:
     * scale 3, minimum 2 x 0.5; byte 3 covers numbers 48..63. */
    {HTH_Q2_K,
     {{0, 0x23},
      {3, 0x51},
      {4, 0x01},
      {15, 0x0f},
      {16, 0xe4},
      {17, 0x02},
      {32, 0x0c},
      {79, 0x80},
      {81, 0x3c},
      {83, 0x38},
      {-1, 0}},
     {{0, -1}, {1, 5}, {64, 2}, {48, 0.5f}, {255, 30}, {-1, 0}}},
    /* Scale 0: 1 | 2 << 4 less 32 = 1; scale 15: 5 | 3 << 4 less 32 = 21;
     * untouched scales are -32, untouched codes -4. */
    {HTH_Q3_K,
     {{0, 0x01},
      {31, 0x80},
      {32, 0x03},
      {95, 0x40},
      {96, 0x01},
      {103, 0x50},
      {104, 0x02},
      {107, 0xc0},
      {109, 0x3c},
      {-1, 0}},
     {{0, 3}, {1, -4}, {40, 128}, {255, 21}, {254, -84}, {-1, 0}}},
    /* Part 0: scale 2, minimum 4 x 0.5; part 1: scale 1; part 7: scale 5 | 3
     * << 4 = 53, minimum (10 | 1 << 4) x 0.5 = 13. */
    {HTH_Q4_K,
     {{1, 0x3c},
      {3, 0x38},
      {4, 0x02},
      {5, 0x01},
      {7, 0xc0},
      {8, 0x04},
      {11, 0x40},
      {15, 0xa5},
      {16, 0x73},
      {143, 0xf0},
      {-1, 0}},
     {{0, 4}, {32, 7}, {255, 782}, {224, -13}, {-1, 0}}},
    {HTH_Q5_K,
     {{1, 0x3c},
      {3, 0x38},
      {4, 0x02},
      {5, 0x01},
      {7, 0xc0},
      {8, 0x04},
      {11, 0x40},
      {15, 0xa5},
      {16, 0x01},
      {47, 0x80},
      {48, 0x73},
      {175, 0xf0},
      {-1, 0}},
     {{0, 36}, {32, 7}, {255, 1630}, {224, -13}, {-1, 0}}},
    /* Number 0: 15 | 3 << 4 less 32 = 31, scale -2 x 0.5; number 32: 5 | 1 <<
     * 4 less 32 = -11, scale 3 x 0.5; number 255: 9 | 2 << 4 less 32 = 9. */
    {HTH_Q6_K,
     {{0, 0x0f},
      {32, 0x05},
      {127, 0x90},
      {128, 0x07},
      {191, 0x80},
      {192, 0xfe},
      {194, 0x03},
      {196, 0x01},
      {207, 0x04},
      {209, 0x38},
      {-1, 0}},
     {{0, -31}, {32, -16.5f}, {64, -16}, {255, 18}, {-1, 0}}},
    {HTH_IQ4_NL,
     {{1, 0x3c}, {2, 0xf0}, {3, 0x87}, {-1, 0}},
     {{0, -127}, {16, 113}, {1, -10}, {17, 1}, {-1, 0}}},
    /* Part 0: scale 1 | 2 << 4 less 32 = 1; part 7: 4 | 3 << 4 less 32. */
    {HTH_IQ4_XS,
     {{1, 0x3c},
      {2, 0x02},
      {3, 0xc0},
      {4, 0x01},
      {7, 0x40},
      {8, 0xf0},
      {135, 0x80},
      {-1, 0}},
     {{0, -127}, {16, 113}, {255, 20}, {239, -2540}, {-1, 0}}},
};

#define LAYOUTS (sizeof layouts / sizeof layouts[0])

Test(quant, layouts_by_hand)
{
    for (size_t i = 0; i < LAYOUTS; i++) {
        const struct layout *l = &layouts[i];
        const struct hth_type_info *info = hth_type_info(l->type);
        uint8_t block[256] = {0};
        float x[HTH_BLOCK_MAX];

        for (int e = 0; l->edits[e].offset >= 0; e++)
            block[l->edits[e].offset] = l->edits[e].byte;
        hth_dequantize(l->type, block, x, info->block);
        for (int c = 0; l->checks[c].index >= 0; c++)
            cr_assert_eq(x[l->checks[c].index], l->checks[c].value,
                         "%s[%d]: %g, not %g", info->name, l->checks[c].index,
                         (double)x[l->checks[c].index],
                         (double)l->checks[c].value);
    }
}

Test(quant, every_type_has_a_layout_test)
{
    uint32_t known = 0;

    for (uint32_t id = 0; id < 64; id++)
        known += hth_type_info(id) != NULL ? 1 : 0;
    cr_assert_eq(known, LAYOUTS);
}

/* Blocks follow each other: the second of two is read from its own bytes. */
Test(quant, second_block)
{
    for (size_t i = 0; i < LAYOUTS; i++) {
        const struct layout *l = &layouts[i];
        const struct hth_type_info *info = hth_type_info(l->type);
        uint8_t blocks[512] = {0};
        float x[2 * HTH_BLOCK_MAX];
        int at = l->checks[0].index;

        for (int e = 0; l->edits[e].offset >= 0; e++)
            blocks[(int)info->bytes + l->edits[e].offset] = l->edits[e].byte;
        hth_dequantize(l->type, blocks, x, 2 * info->block);
        cr_assert_eq(x[(int)info->block + at], l->checks[0].value, "%s",
                     info->name);
        cr_assert_eq(x[at], 0.0f, "%s", info->name);
    }
}

Test(quant, any_bytes_are_a_block)
{
    struct hth_rng r;
    uint8_t block[256];
    float x[HTH_BLOCK_MAX];

    hth_rng_init(&r, 3);
    for (int round = 0; round < 2000; round++) {
        for (size_t i = 0; i < sizeof block; i++)
            block[i] = (uint8_t)(hth_rng_u64(&r) >> 40);
        for (size_t i = 0; i < LAYOUTS; i++)
            hth_dequantize(layouts[i].type, block, x,
                           hth_type_info(layouts[i].type)->block);
    }
}

/* ---- types ------------------------------------------------------------- */

Test(type, table)
{
    cr_assert_eq(hth_type_info(4), NULL);
    cr_assert_eq(hth_type_info(UINT32_MAX), NULL);
    cr_assert_eq(hth_type_by_name("q6_k")->id, HTH_Q6_K);
    cr_assert_eq(hth_type_by_name("iq4_XS")->id, HTH_IQ4_XS);
    cr_assert_eq(hth_type_by_name("Q9_0"), NULL);
    cr_assert_eq(hth_row_bytes(HTH_Q4_K, 512), 288u);
    cr_assert_eq(hth_row_bytes(HTH_Q4_K, 511), 0u);
    cr_assert_eq(hth_row_bytes(HTH_Q4_0, 96), 54u);
    cr_assert_eq(hth_row_bytes(HTH_F16, 7), 14u);
    cr_assert_eq(hth_row_bytes(99, 32), 0u);
    cr_assert_eq(hth_row_bytes(HTH_F32, UINT64_MAX), 0u);
    for (uint32_t id = 0; id < 64; id++)
        if (hth_type_info(id) != NULL)
            cr_assert_neq(strstr(hth_type_list(), hth_type_info(id)->name),
                          NULL);
}

Test(type, halves_survive_the_round_trip)
{
    for (uint32_t h = 0; h <= 0xffff; h++) {
        float f = hth_f16_to_f32((uint16_t)h);

        if (isnan(f))
            cr_assert(isnan(hth_f16_to_f32(hth_f32_to_f16(f))));
        else
            cr_assert_eq(hth_f32_to_f16(f), h, "%04x", h);
        f = hth_bf16_to_f32((uint16_t)h);
        if (isnan(f))
            cr_assert(isnan(hth_bf16_to_f32(hth_f32_to_bf16(f))));
        else
            cr_assert_eq(hth_f32_to_bf16(f), h, "%04x", h);
    }
}

/* No neighbour is nearer, and of two equally near the even one is taken. */
static void check_nearest(float f, uint16_t h, float (*widen)(uint16_t))
{
    double here = fabs((double)f - (double)widen(h));

    for (int step = -1; step <= 1; step += 2) {
        uint16_t other = (uint16_t)(h + step);
        double there;

        if ((h & 0x7fff) == 0 && step < 0)
            continue; /* the neighbour below zero has the other sign */
        if (isnan(widen(other)) || isinf(widen(other)))
            continue;
        there = fabs((double)f - (double)widen(other));
        cr_assert(here < there || (here == there && (h & 1) == 0), "%a", f);
    }
}

Test(type, rounds_to_nearest_even)
{
    struct hth_rng r;

    hth_rng_init(&r, 1);
    for (int i = 0; i < 200000; i++) {
        uint32_t u = (uint32_t)hth_rng_u64(&r);
        float f;

        if (i % 4 == 0)
            u &= 0xfffff000u; /* ties */
        if (i % 4 == 1)
            u = (u & 0x80ffffffu) | 0x33000000u; /* subnormal halves */
        memcpy(&f, &u, sizeof f);
        if (!isfinite(f))
            continue;
        if (fabsf(f) < 65520.0f)
            check_nearest(f, hth_f32_to_f16(f), hth_f16_to_f32);
        else
            cr_assert(isinf(hth_f16_to_f32(hth_f32_to_f16(f))));
        if (fabsf(f) < 3.3e38f)
            check_nearest(f, hth_f32_to_bf16(f), hth_bf16_to_f32);
    }
}

/* ---- quantisers -------------------------------------------------------- */

/* Root mean square error relative to that of x, for normal numbers. Each bound
 * is a few percent above what the search reaches; rounding to the nearest
 * code without a search misses those of 4 to 6 bits. */
static const struct {
    enum hth_type type;
    double bound;
} losses[] = {
    {HTH_F32, 0},       {HTH_F16, 0.0003},  {HTH_BF16, 0.002},
    {HTH_Q8_0, 0.0056}, {HTH_Q4_0, 0.083},  {HTH_Q4_1, 0.0725},
    {HTH_Q5_0, 0.0415}, {HTH_Q5_1, 0.035},  {HTH_Q4_K, 0.072},
    {HTH_Q5_K, 0.0355}, {HTH_Q6_K, 0.0178},
};

#define LOSSES (sizeof losses / sizeof losses[0])
#define NUMBERS 65536

static float numbers[NUMBERS], restored[NUMBERS];
static uint8_t packed[NUMBERS * 4];

static double relative_error(enum hth_type type, const float *x)
{
    double error = 0.0, size = 0.0;

    cr_assert_eq(hth_quantize(type, x, packed, NUMBERS), HTH_OK);
    hth_dequantize(type, packed, restored, NUMBERS);
    for (int i = 0; i < NUMBERS; i++) {
        double e = (double)x[i] - (double)restored[i];

        error += e * e;
        size += (double)x[i] * (double)x[i];
    }
    return sqrt(error / size);
}

Test(quant, quantisers_lose_little)
{
    struct hth_rng r;

    hth_rng_init(&r, 2);
    for (int i = 0; i < NUMBERS; i++)
        numbers[i] = hth_rng_normal(&r) * 0.02f;
    for (size_t i = 0; i < LOSSES; i++) {
        double e = relative_error(losses[i].type, numbers);

        cr_assert_leq(e, losses[i].bound, "%s: %g",
                      hth_type_info(losses[i].type)->name, e);
    }
}

/* Numbers that are all above zero: types with an offset must use it. */
Test(quant, offsets_are_used)
{
    struct hth_rng r;

    hth_rng_init(&r, 4);
    for (int i = 0; i < NUMBERS; i++)
        numbers[i] = 5.0f + (float)hth_rng_unit(&r);
    cr_assert_leq(relative_error(HTH_Q4_1, numbers), 0.0045);
    cr_assert_leq(relative_error(HTH_Q5_1, numbers), 0.0025);
    for (int i = 0; i < NUMBERS; i++)
        numbers[i] -= 6.5f;
    cr_assert_leq(relative_error(HTH_Q4_K, numbers), 0.025);
    cr_assert_leq(relative_error(HTH_Q5_K, numbers), 0.015);
}

Test(quant, zeros_and_what_is_exact)
{
    memset(numbers, 0, sizeof numbers);
    for (size_t i = 0; i < LOSSES; i++) {
        cr_assert_eq(hth_quantize(losses[i].type, numbers, packed, 256), 0);
        hth_dequantize(losses[i].type, packed, restored, 256);
        for (int k = 0; k < 256; k++)
            cr_assert_eq(restored[k], 0.0f);
    }
    /* 16 codes, all used, a scale that is a power of two */
    for (int k = 0; k < 256; k++)
        numbers[k] = (float)(k * 5 % 16 - 8) * 0.25f;
    cr_assert_eq(hth_quantize(HTH_Q4_0, numbers, packed, 256), 0);
    hth_dequantize(HTH_Q4_0, packed, restored, 256);
    for (int k = 0; k < 256; k++)
        cr_assert_eq(restored[k], numbers[k]);
}

/* Sizes at both ends of f32, single spikes: finite, and not worse than losing
 * the number. */
Test(quant, extremes_stay_finite)
{
    static const float sizes[] = {1e-45f, 1e-38f, 1e-20f, 1e-7f,
                                  1e4f,   1e10f,  1e30f,  FLT_MAX};

    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        for (int shape = 0; shape < 3; shape++) {
            for (int k = 0; k < 256; k++)
                numbers[k] = shape == 0   ? (k == 77 ? sizes[s] : 0.0f)
                             : shape == 1 ? (k % 2 ? sizes[s] : -sizes[s])
                                          : sizes[s];
            for (size_t i = 3; i < LOSSES; i++) {
                cr_assert_eq(hth_quantize(losses[i].type, numbers, packed, 256),
                             0);
                hth_dequantize(losses[i].type, packed, restored, 256);
                for (int k = 0; k < 256; k++)
                    cr_assert(isfinite(restored[k]) &&
                                  fabsf(restored[k]) <= 1.1f * sizes[s] + 1e-6f,
                              "%s %g", hth_type_info(losses[i].type)->name,
                              (double)restored[k]);
            }
        }
    }
}

Test(quant, refusals)
{
    float x[256] = {0};

    for (size_t i = 0; i < LOSSES; i++)
        cr_assert(hth_can_quantize(losses[i].type));
    cr_assert(!hth_can_quantize(HTH_Q2_K));
    cr_assert(!hth_can_quantize(7777));
    cr_assert_eq(hth_quantize(HTH_Q2_K, x, packed, 256), HTH_EUNSUPPORTED);
    cr_assert_eq(hth_quantize((enum hth_type)7777, x, packed, 256),
                 HTH_EUNSUPPORTED);
    cr_assert_eq(hth_quantize(HTH_Q4_0, x, packed, 31), HTH_EINVAL);
    cr_assert_eq(hth_quantize(HTH_Q4_K, x, packed, 128), HTH_EINVAL);
    x[40] = NAN;
    cr_assert_eq(hth_quantize(HTH_Q4_0, x, packed, 256), HTH_EINVAL);
    cr_assert_eq(hth_quantize(HTH_Q4_0, x, packed, 32), HTH_OK);
    x[40] = -INFINITY;
    cr_assert_eq(hth_quantize(HTH_Q6_K, x, packed, 256), HTH_EINVAL);
    cr_assert_eq(hth_quantize(HTH_F16, x, packed, 256), HTH_OK);
}
