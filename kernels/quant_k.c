/* quant_k.c - searches for the scales that lose least, and the quantisers of
 * the 256-number blocks Q4_K, Q5_K and Q6_K.
 *
 * Both searches try a row of candidate roundings near the obvious one and
 * solve for the best real scale of each by least squares. The K blocks then
 * round the scales themselves to integers, and look at the neighbours of
 * each, because the rounding of a scale moves all its codes. */
#include "kernels/quant_k.h"

#include <math.h>
#include <string.h>

#include "base/cursor.h"
#include "kernels/block.h"

#define STEPS 8    /* candidates on either side of the obvious scale */
#define STEP 0.12f /* between two of them, in codes at the far end */

uint16_t hth_scale_f16(float f)
{
    return hth_f32_to_f16(hth_clamp(f, -65504.0f, 65504.0f));
}

static void weigh(const float *x, uint32_t n, float *weight)
{
    float sum = 0.0f, rms;

    for (uint32_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    rms = sqrtf(sum / (float)n);
    for (uint32_t i = 0; i < n; i++)
        weight[i] = rms + fabsf(x[i]);
}

/* ---- scale only -------------------------------------------------------- */

struct fit {
    const float *x;
    const float *weight;
    uint32_t n;
    float low, high; /* codes allowed */
};

/* The best d for the rounding that `inverse` gives, and how much of the
 * weighted square of x it explains: (sum w x q)^2 / sum w q^2. */
static float try_scale(const struct fit *f, float inverse, float *d)
{
    float xq = 0.0f, qq = 0.0f;

    for (uint32_t i = 0; i < f->n; i++) {
        float q = hth_round_near(hth_clamp(f->x[i] * inverse, f->low, f->high));
        float wq = f->weight[i] * q;

        xq += wq * f->x[i];
        qq += wq * q;
    }
    *d = qq > 0.0f ? xq / qq : 0.0f;
    return xq * *d;
}

/* The number of largest size gets code -half, the end that has one more: the
 * scale's sign is the opposite of that number's. */
float hth_fit_scale(const float *x, uint32_t n, int half)
{
    float weight[32], extreme = 0.0f, best = 0.0f, d = 0.0f;
    struct fit f = {.x = x,
                    .weight = weight,
                    .n = n,
                    .low = (float)-half,
                    .high = (float)(half - 1)};

    for (uint32_t i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(extreme))
            extreme = x[i];
    if (fabsf(extreme) < 1e-30f)
        return 0.0f;
    weigh(x, n, weight);
    for (int k = -STEPS; k <= STEPS; k++) {
        float candidate;
        float gain = try_scale(&f, -((float)half + STEP * (float)k) / extreme,
                               &candidate);

        if (gain > best) {
            best = gain;
            d = candidate;
        }
    }
    return d;
}

/* ---- scale and minimum ------------------------------------------------- */

/* Weighted sums over a rounding: of 1, x, q, x q, q q. */
struct sums {
    float w, x, q, xq, qq;
};

static struct sums sum_up(const struct fit *f, float inverse, float min)
{
    struct sums s = {0};

    for (uint32_t i = 0; i < f->n; i++) {
        float q = hth_round_near(
            hth_clamp((f->x[i] + min) * inverse, f->low, f->high));
        float w = f->weight[i], wq = w * q;

        s.w += w;
        s.x += w * f->x[i];
        s.q += wq;
        s.xq += wq * f->x[i];
        s.qq += wq * q;
    }
    return s;
}

/* Least squares for x ~ scale q - min with min >= 0; returns the error less
 * the part that is the same for all candidates (sum w x^2). */
static float solve(const struct sums *s, float *scale, float *min)
{
    float det = s->w * s->qq - s->q * s->q;
    float a = 0.0f, m = 0.0f;

    if (det > 0.0f) {
        a = (s->w * s->xq - s->x * s->q) / det;
        m = (s->q * s->xq - s->x * s->qq) / det;
    }
    if (det <= 0.0f || m < 0.0f) {
        m = 0.0f;
        a = s->qq > 0.0f ? s->xq / s->qq : 0.0f;
    }
    *scale = a;
    *min = m;
    return a * a * s->qq + m * m * s->w - 2.0f * a * m * s->q -
           2.0f * a * s->xq + 2.0f * m * s->x;
}

void hth_fit_scale_min(const float *x, int levels, float *scale, float *min)
{
    float weight[32], low = 0.0f, high = x[0], best = INFINITY;
    struct fit f = {.x = x, .weight = weight, .n = 32, .high = (float)levels};

    for (int i = 0; i < 32; i++) {
        low = fminf(low, x[i]);
        high = fmaxf(high, x[i]);
    }
    *scale = 0.0f;
    *min = -low;
    if (high - low < 1e-30f)
        return;
    weigh(x, 32, weight);
    for (int k = -STEPS; k <= STEPS; k++) {
        float inverse = ((float)levels + STEP * (float)k) / (high - low);
        struct sums s = sum_up(&f, inverse, -low);
        float a, m, error = solve(&s, &a, &m);

        if (error < best && a > 0.0f) {
            best = error;
            *scale = a;
            *min = m;
        }
    }
}

/* ---- Q4_K and Q5_K ----------------------------------------------------- */

/* Weighted squared error of one part under a scale and minimum, each code
 * chosen for the least. */
static float part_error(const struct fit *f, float scale, float min)
{
    float inverse = scale > 0.0f ? 1.0f / scale : 0.0f, sum = 0.0f;

    for (uint32_t i = 0; i < f->n; i++) {
        float q = hth_round_near(
            hth_clamp((f->x[i] + min) * inverse, f->low, f->high));
        float e = scale * q - min - f->x[i];

        sum += f->weight[i] * e * e;
    }
    return sum;
}

/* A super-block while it is being made: scale of part j is d * scale[j], its
 * minimum dmin * min[j]. */
struct super {
    float d, dmin;
    uint8_t scale[8], min[8];
};

static uint8_t six_bits(float v)
{
    return (uint8_t)hth_round_near(hth_clamp(v, 0.0f, 63.0f));
}

/* The integers next to (scale, min) of part j that lose least. */
static void refine_part(const struct fit *f, struct super *s, int j)
{
    int scale = s->scale[j], min = s->min[j];
    float best = INFINITY;

    for (int a = scale - 1; a <= scale + 1; a++) {
        for (int m = min - 1; m <= min + 1; m++) {
            float error;

            if (a < 0 || a > 63 || m < 0 || m > 63)
                continue;
            error = part_error(f, s->d * (float)a, s->dmin * (float)m);
            if (error < best) {
                best = error;
                s->scale[j] = (uint8_t)a;
                s->min[j] = (uint8_t)m;
            }
        }
    }
}

/* The largest scale and the largest minimum get 63. */
static void make_super(const float *x, int levels, struct super *s)
{
    float scale[8], min[8], weight[32], scale_max = 0.0f, min_max = 0.0f;

    for (int j = 0; j < 8; j++) {
        hth_fit_scale_min(x + 32 * j, levels, &scale[j], &min[j]);
        scale_max = fmaxf(scale_max, scale[j]);
        min_max = fmaxf(min_max, min[j]);
    }
    s->d = hth_f16_to_f32(hth_scale_f16(scale_max / 63.0f));
    s->dmin = hth_f16_to_f32(hth_scale_f16(min_max / 63.0f));
    for (int j = 0; j < 8; j++) {
        struct fit f = {
            .x = x + 32 * j, .weight = weight, .n = 32, .high = (float)levels};

        s->scale[j] = s->d > 0.0f ? six_bits(scale[j] / s->d) : 0;
        s->min[j] = s->dmin > 0.0f ? six_bits(min[j] / s->dmin) : 0;
        weigh(f.x, 32, weight);
        refine_part(&f, s, j);
    }
}

/* The inverse of hth_scale_min(). */
static void pack_scales(const struct super *s, uint8_t packed[12])
{
    for (int j = 0; j < 4; j++) {
        packed[j] = (uint8_t)(s->scale[j] | (s->scale[j + 4] >> 4) << 6);
        packed[j + 4] = (uint8_t)(s->min[j] | (s->min[j + 4] >> 4) << 6);
        packed[j + 8] =
            (uint8_t)((s->scale[j + 4] & 15) | (s->min[j + 4] & 15) << 4);
    }
}

static void super_codes(const float *x, int levels, const struct super *s,
                        uint8_t code[256])
{
    for (int i = 0; i < 256; i++) {
        float scale = s->d * (float)s->scale[i / 32];
        float min = s->dmin * (float)s->min[i / 32];
        float inverse = scale > 0.0f ? 1.0f / scale : 0.0f;

        code[i] = (uint8_t)hth_round_near(
            hth_clamp((x[i] + min) * inverse, 0.0f, (float)levels));
    }
}

/* d, dmin and scales: the first 16 bytes of both types */
static void put_super(const struct super *s, uint8_t *dst)
{
    hth_store_u16(dst, hth_f32_to_f16(s->d));
    hth_store_u16(dst + 2, hth_f32_to_f16(s->dmin));
    pack_scales(s, dst + 4);
}

static void put_nibbles(const uint8_t code[256], uint8_t *dst)
{
    for (int i = 0; i < 128; i++) {
        const uint8_t *at = code + i / 32 * 64 + i % 32;

        dst[i] = (uint8_t)((at[0] & 15) | (at[32] & 15) << 4);
    }
}

void hth_quantize_q4_k(const float *x, uint8_t *dst)
{
    struct super s;
    uint8_t code[256];

    make_super(x, 15, &s);
    super_codes(x, 15, &s, code);
    put_super(&s, dst);
    put_nibbles(code, dst + 16);
}

void hth_quantize_q5_k(const float *x, uint8_t *dst)
{
    struct super s;
    uint8_t code[256];

    make_super(x, 31, &s);
    super_codes(x, 31, &s, code);
    put_super(&s, dst);
    memset(dst + 16, 0, 32);
    for (int i = 0; i < 256; i++)
        dst[16 + i % 32] |= (uint8_t)(code[i] >> 4 << (i / 32));
    put_nibbles(code, dst + 48);
}

/* ---- Q6_K -------------------------------------------------------------- */

/* Parts p and p + 2 (p 0 or 1) of a half share 32 bytes of nibbles; all four
 * share 32 bytes of high bits. */
static void pack_q6(const uint8_t code[256], uint8_t *low, uint8_t *high)
{
    memset(low, 0, 128);
    memset(high, 0, 64);
    for (int i = 0; i < 256; i++) {
        int half = i / 128, part = i / 32 % 4, k = i % 32;

        low[half * 64 + part % 2 * 32 + k] |=
            (uint8_t)((code[i] & 15) << (part / 2 * 4));
        high[half * 32 + k] |= (uint8_t)((code[i] >> 4) << (part * 2));
    }
}

/* The scale of largest size gets -128. */
static float make_q6_scales(const float *x, int8_t scale[16])
{
    float real[16], extreme = 0.0f, d;

    for (int j = 0; j < 16; j++) {
        real[j] = hth_fit_scale(x + 16 * j, 16, 32);
        if (fabsf(real[j]) > fabsf(extreme))
            extreme = real[j];
    }
    d = hth_f16_to_f32(hth_scale_f16(extreme / -128.0f));
    for (int j = 0; j < 16; j++)
        scale[j] = (int8_t)(d != 0.0f ? hth_round_near(hth_clamp(
                                            real[j] / d, -128.0f, 127.0f))
                                      : 0.0f);
    return d;
}

void hth_quantize_q6_k(const float *x, uint8_t *dst)
{
    int8_t scale[16];
    uint8_t code[256];
    float d = make_q6_scales(x, scale);

    for (int i = 0; i < 256; i++) {
        float s = d * (float)scale[i / 16];
        float q = s != 0.0f ? x[i] / s : 0.0f;

        code[i] =
            (uint8_t)(hth_round_near(hth_clamp(q, -32.0f, 31.0f)) + 32.0f);
    }
    pack_q6(code, dst, dst + 128);
    memcpy(dst + 192, scale, sizeof scale);
    hth_store_u16(dst + 208, hth_f32_to_f16(d));
}
