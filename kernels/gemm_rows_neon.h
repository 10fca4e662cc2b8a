/* gemm_rows_neon.h - products of packed weights (pack.h) in NEON: a group is
 * four quarters of 4 rows, a row to a lane. Internal to kernels/: included once
 * by each file that compiles it: without (kernels_asimd.c) or with
 * (kernels_neon.c) the dot-product instructions, or with those for matrices
 * (kernels_i8mm_neon.c).
 *
 * A panel of a group is unpacked to signed bytes and float factors and meets
 * all rows of x; with one row of x that costs a trip through the first-level
 * cache. The operations are those of isa.h in their order: the same bits. */
#ifndef HTH_KERNELS_GEMM_ROWS_NEON_H
#define HTH_KERNELS_GEMM_ROWS_NEON_H

#include <arm_neon.h>
#include <string.h>

#include "kernels/isa.h"
#include "kernels/rows_shape.h"

#define ROWS_BLOCKS 8u /* of a panel: a super-block */
#define QUARTERS 4u

/* 256 columns of a group. Factors per block, or per half of one. */
struct rows_panel {
    int8_t q[ROWS_BLOCKS][8][64];
    float d[2 * ROWS_BLOCKS][16];
    float m[2 * ROWS_BLOCKS][16];
    uint32_t blocks;
    bool halves, mins;
};

static void rows_halves(const uint8_t *p, float *to)
{
    for (int i = 0; i < 16; i += 4) {
        uint16x4_t v = vld1_u16((const uint16_t *)(const void *)(p + 2 * i));

        vst1q_f32(to + i, vcvt_f32_f16(vreinterpret_f16_u16(v)));
    }
}

/* ---- factors: plain loops over 16 rows, which the compiler vectorises -----
 */

static void rows_factors_k4(const uint8_t *p, struct rows_panel *to)
{
    float d[16], m[16];

    rows_halves(p, d);
    rows_halves(p + 32, m);
    for (uint32_t j = 0; j < 8; j++)
        for (uint32_t r = 0; r < 16; r++) {
            const uint8_t *a = p + 64 + 4 * r, *b = a + 64, *c = a + 128;
            uint32_t i = j % 4;
            uint8_t s = j < 4 ? a[i] & 63 : (c[i] & 15) | (a[i] >> 2 & 48);
            uint8_t n = j < 4 ? b[i] & 63 : (c[i] >> 4) | (b[i] >> 2 & 48);

            to->d[j][r] = d[r] * (float)s;
            to->m[j][r] = -m[r] * (float)n;
        }
}

static void rows_factors_q3_k(const uint8_t *p, struct rows_panel *to)
{
    float d[16];

    rows_halves(p, d);
    for (uint32_t j = 0; j < 16; j++)
        for (uint32_t r = 0; r < 16; r++) {
            const uint8_t *a = p + 32 + 4 * r, *b = a + 64, *c = a + 128;
            uint32_t i = j % 4, low = j / 4 % 2 == 0 ? a[i] : b[i];
            int s = (int)((j < 8 ? low & 15 : low >> 4) |
                          (c[i] >> (j / 4 * 2) & 3) << 4);

            to->d[j][r] = d[r] * (float)(s - 32);
        }
}

static void rows_factors_bytes(uint32_t type, const uint8_t *p,
                               struct rows_panel *to)
{
    float d[16], m[16];

    rows_halves(p, d);
    rows_halves(p + 32, m);
    for (uint32_t j = 0; j < 16; j++)
        for (uint32_t r = 0; r < 16; r++) {
            if (type == HTH_Q6_K) {
                to->d[j][r] = d[r] * (float)(int8_t)p[32 + 16 * j + r];
            } else {
                uint8_t v = p[64 + 16 * j + r];

                to->d[j][r] = d[r] * (float)(v & 15);
                to->m[j][r] = -m[r] * (float)(v >> 4);
            }
        }
}

static void rows_factors_iq4_xs(const uint8_t *p, struct rows_panel *to)
{
    float d[16];

    rows_halves(p, d);
    for (uint32_t j = 0; j < 8; j++)
        for (uint32_t r = 0; r < 16; r++) {
            uint32_t high = p[32 + 2 * r] | (uint32_t)p[33 + 2 * r] << 8;
            uint32_t low = p[64 + 4 * r + j / 2] >> (j % 2 * 4) & 15;

            to->d[j][r] =
                d[r] * (float)((int)(low | (high >> 2 * j & 3) << 4) - 32);
        }
}

/* The factors of the unit at p, from entry `at` on for types of one part. */
static void rows_factors(uint32_t type, const uint8_t *p, uint32_t at,
                         struct rows_panel *to)
{
    switch (type) {
    case HTH_Q4_K:
    case HTH_Q5_K:
        rows_factors_k4(p, to);
        break;
    case HTH_Q3_K:
        rows_factors_q3_k(p, to);
        break;
    case HTH_Q2_K:
    case HTH_Q6_K:
        rows_factors_bytes(type, p, to);
        break;
    case HTH_IQ4_XS:
        rows_factors_iq4_xs(p, to);
        break;
    default:
        rows_halves(p, to->d[at]);
        if (to->mins)
            rows_halves(p + 32, to->m[at]);
        break;
    }
}

/* ---- codes --------------------------------------------------------------- */

static void rows_nibbles(const uint8_t *p, int8_t q[8][64])
{
    for (int t = 0; t < 4; t++)
        for (int i = 0; i < 64; i++) {
            q[t][i] = (int8_t)(p[64 * t + i] & 15);
            q[4 + t][i] = (int8_t)(p[64 * t + i] >> 4);
        }
}

static void rows_ones(const uint8_t *p, int to, int8_t q[8][64])
{
    for (int t = 0; t < 8; t++)
        for (int i = 0; i < 64; i++)
            q[t][i] = (int8_t)(q[t][i] | (p[i] >> t & 1) << to);
}

static void rows_twos(const uint8_t *p, int to, int8_t q[8][64])
{
    for (int t = 0; t < 8; t++)
        for (int i = 0; i < 64; i++)
            q[t][i] = (int8_t)(q[t][i] |
                               (p[64 * (t / 4) + i] >> (t % 4 * 2) & 3) << to);
}

static void rows_iq4(int8_t q[8][64])
{
    const int8x16_t values = vld1q_s8(hth_iq4_values);

    for (int t = 0; t < 8; t++)
        for (int i = 0; i < 64; i += 16)
            vst1q_s8(q[t] + i, vqtbl1q_s8(values, vreinterpretq_u8_s8(
                                                      vld1q_s8(q[t] + i))));
}

/* The signed weights of the part at p, before scales. */
static void rows_codes(const struct hth_pack_shape *s, bool iq4,
                       const uint8_t *p, int8_t q[8][64])
{
    if (s->bytes) {
        memcpy(q, p, 8 * 64);
        return;
    }
    if (s->nibbles) {
        rows_nibbles(p, q);
        p += 256;
    } else {
        memset(q, 0, 8 * 64);
    }
    if (s->twos) {
        rows_twos(p, s->nibbles ? 4 : 0, q);
        p += 128;
    }
    if (s->ones)
        rows_ones(p, s->nibbles ? 4 : 2, q);
    if (iq4)
        rows_iq4(q);
    for (int t = 0; s->bias != 0 && t < 8; t++)
        for (int i = 0; i < 64; i++)
            q[t][i] = (int8_t)(q[t][i] - s->bias);
}

/* ---- a panel times x ----------------------------------------------------- */

/* Four columns of four rows. */
static inline int32x4_t rows_dot(int32x4_t sum, int8x16_t w, int8x16_t x)
{
#ifdef __ARM_FEATURE_DOTPROD
    return vdotq_s32(sum, w, x);
#else
    return vpadalq_s16(sum, vpaddq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(x)),
                                       vmull_high_s8(w, x)));
#endif
}

static inline int8x16_t rows_four(const int8_t *q)
{
    int32_t v;

    memcpy(&v, q, sizeof v);
    return vreinterpretq_s8_s32(vdupq_n_s32(v));
}

/* What block b adds for one row of x: t[quarter], in units of x's scale. */
static inline void rows_terms(const struct rows_panel *w, uint32_t b,
                              const int8_t *q, const int16_t *sums,
                              float32x4_t t[QUARTERS])
{
    uint32_t halves = w->halves ? 2 : 1, steps = 8 / halves;

    for (uint32_t h = 0; h < halves; h++) {
        float sum = w->halves ? sums[h] : sums[0] + sums[1];
        int32x4_t a[QUARTERS] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0),
                                 vdupq_n_s32(0)};

        for (uint32_t i = h * steps; i < (h + 1) * steps; i++) {
            int8x16_t x = rows_four(q + 4 * i);

            for (uint32_t k = 0; k < QUARTERS; k++)
                a[k] = rows_dot(a[k], vld1q_s8(w->q[b][i] + 16 * k), x);
        }
        for (uint32_t k = 0; k < QUARTERS; k++) {
            float32x4_t v = vcvtq_f32_s32(a[k]);
            float32x4_t d = vld1q_f32(w->d[b * halves + h] + 4 * k);

            t[k] = h == 0 ? vmulq_f32(v, d) : vfmaq_f32(t[k], v, d);
            if (w->mins)
                t[k] = vfmaq_n_f32(
                    t[k], vld1q_f32(w->m[b * halves + h] + 4 * k), sum);
        }
    }
}

/* All of x, for one panel. */
struct rows_job {
    const uint8_t *x; /* the panel's first block in the first tile */
    size_t tile_bytes;
    uint32_t n, width;
    float *y;
    size_t ldy;
    bool fresh; /* y holds nothing yet */
};

static inline const uint8_t *rows_tile(const struct rows_job *job, uint32_t r)
{
    return job->x + r / job->width * job->tile_bytes;
}

#ifdef __ARM_FEATURE_MATMUL_INT8
#include "kernels/rows_pairs_neon.h"
#endif

static void rows_one(const struct rows_panel *w, const struct rows_job *job,
                     uint32_t r)
{
    const uint32_t width = job->width, c = r % width;
    const uint8_t *x = rows_tile(job, r);
    float *y = job->y + r * job->ldy;
    float32x4_t sum[QUARTERS], t[QUARTERS];

    for (uint32_t k = 0; k < QUARTERS; k++)
        sum[k] = job->fresh ? vdupq_n_f32(0) : vld1q_f32(y + 4 * k);
    for (uint32_t b = 0; b < w->blocks; b++) {
        int16_t sums[2];
        float d;

        memcpy(&d, x + 32 * width + 4 * c, sizeof d);
        memcpy(sums, x + 36 * width + 4 * c, sizeof sums);
        rows_terms(w, b, (const int8_t *)x + 32 * c, sums, t);
        for (uint32_t k = 0; k < QUARTERS; k++)
            sum[k] = vfmaq_n_f32(sum[k], t[k], d);
        x += width * HTH_TILE_BLOCK_BYTES;
    }
    for (uint32_t k = 0; k < QUARTERS; k++)
        vst1q_f32(y + 4 * k, sum[k]);
}

static void rows_all(struct rows_panel *w, const struct rows_job *job)
{
#ifdef __ARM_FEATURE_MATMUL_INT8
    if (job->n > 1) {
        rows_pairs(w, job);
        return;
    }
#endif
    for (uint32_t r = 0; r < job->n; r++)
        rows_one(w, job, r);
}

static void rows_fill(uint32_t type, const uint8_t *unit,
                      struct rows_panel *panel)
{
    const struct hth_pack_shape *s = hth_pack_shape(type);
    bool iq4 = type == HTH_IQ4_NL || type == HTH_IQ4_XS;

    for (uint32_t b = 0; b < panel->blocks; b += s->parts) {
        const uint8_t *p = unit + s->head_bytes;

        rows_factors(type, unit, b, panel);
        for (uint32_t part = 0; part < s->parts; part++, p += s->part_bytes)
            rows_codes(s, iq4, p, panel->q[b + part]);
        unit += s->unit_bytes;
    }
}

static void gemm_packed_neon(const struct hth_mat *w, uint32_t first,
                             uint32_t count, const struct hth_q8 *x, float *y,
                             size_t ldy)
{
    const struct hth_pack_shape *s = hth_pack_shape(w->type);
    uint32_t width = hth_tile_width(x->n), blocks = w->cols / 32;
    size_t block_bytes = (size_t)width * HTH_TILE_BLOCK_BYTES;
    struct rows_job job = {.tile_bytes = blocks * block_bytes,
                           .n = x->n,
                           .width = width,
                           .ldy = ldy};
    struct rows_panel panel = {
        .halves =
            w->type == HTH_Q2_K || w->type == HTH_Q3_K || w->type == HTH_Q6_K,
        .mins = w->type == HTH_Q4_1 || w->type == HTH_Q5_1 ||
                w->type == HTH_Q2_K || w->type == HTH_Q4_K ||
                w->type == HTH_Q5_K};

    for (size_t o = first; o < (size_t)first + count; o += HTH_PACK_ROWS) {
        const uint8_t *group = (const uint8_t *)w->data + o * w->row_bytes;

        for (uint32_t b = 0; b < blocks; b += panel.blocks) {
            panel.blocks = blocks - b < ROWS_BLOCKS ? blocks - b : ROWS_BLOCKS;
            rows_fill(w->type, group + (size_t)(b / s->parts) * s->unit_bytes,
                      &panel);
            job.x = x->tiles + b * block_bytes;
            job.y = y + o;
            job.fresh = b == 0;
            rows_all(&panel, &job);
        }
    }
}

#endif
