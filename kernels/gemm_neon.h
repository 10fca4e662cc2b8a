/* gemm_neon.h - products of quantised weights in NEON. Internal to kernels/:
 * included once by each file that compiles it, with (kernels_neon.c) or
 * without (kernels_asimd.c) the dot-product instructions.
 *
 * Four rows of w go together: each block of 32 gives four sums, one per lane,
 * which one vector of scales turns into floats. With one row of x the weights
 * are unpacked in registers; with more they are unpacked once into a panel on
 * the stack (L1 cache) that all rows of x pass over. Both do the same
 * arithmetic per output. Rows beyond the last repeat it and are not stored. */
#ifndef HTH_KERNELS_GEMM_NEON_H
#define HTH_KERNELS_GEMM_NEON_H

#include "kernels/isa.h"
#include "kernels/unpack_neon.h"

#define LANES 4u
#define PANEL_BLOCKS 32u /* 1024 columns */

/* One block of four rows. */
struct quad {
    int8x16_t low[LANES], high[LANES];
    float32x4_t scale[2], offset[2]; /* lane: row; index: half */
};

struct panel {
    int8_t q[PANEL_BLOCKS][LANES][32];
    float scale[PANEL_BLOCKS][2][LANES];
    float offset[PANEL_BLOCKS][2][LANES];
};

/* What is known of a type at compile time. */
struct traits {
    struct neon_block (*unpack)(const uint8_t *block, uint32_t part);
    uint32_t parts; /* blocks of 32 in a block of the type */
    uint32_t bytes;
    bool halves;  /* the two halves of 32 have scales of their own */
    bool offsets; /* some offset is not 0 */
};

/* Without dot-product instructions: products of eight in 16 bits (at most
 * 2 x 127 x 128 fits), added in pairs to 32. */
HTH_INLINE int32x4_t dot16(int32x4_t sum, int8x16_t a, int8x16_t b)
{
#ifdef __ARM_FEATURE_DOTPROD
    return vdotq_s32(sum, a, b);
#else
    sum = vpadalq_s16(sum, vmull_s8(vget_low_s8(a), vget_low_s8(b)));
    return vpadalq_s16(sum, vmull_high_s8(a, b));
#endif
}

/* Lane k of the result: the sum of s[k]. */
HTH_INLINE float32x4_t add_lanes(const int32x4_t s[LANES])
{
    return vcvtq_f32_s32(
        vpaddq_s32(vpaddq_s32(s[0], s[1]), vpaddq_s32(s[2], s[3])));
}

/* Four rows' block times one block of x, before x's scale. */
HTH_INLINE float32x4_t quad_product(const struct quad *w, const int8_t *q,
                                    const int16_t *sums, const struct traits *t)
{
    int8x16_t x0 = vld1q_s8(q), x1 = vld1q_s8(q + 16);
    int32x4_t s0[LANES], s1[LANES];
    float32x4_t v;

    for (uint32_t k = 0; k < LANES; k++) {
        s0[k] = dot16(vdupq_n_s32(0), w->low[k], x0);
        s1[k] = dot16(t->halves ? vdupq_n_s32(0) : s0[k], w->high[k], x1);
    }
    if (t->halves) {
        v = vmulq_f32(add_lanes(s0), w->scale[0]);
        v = vfmaq_f32(v, add_lanes(s1), w->scale[1]);
    } else {
        v = vmulq_f32(add_lanes(s1), w->scale[0]);
    }
    if (t->offsets && t->halves) {
        v = vfmaq_n_f32(v, w->offset[0], (float)sums[0]);
        v = vfmaq_n_f32(v, w->offset[1], (float)sums[1]);
    } else if (t->offsets) {
        v = vfmaq_n_f32(v, w->offset[0], (float)(sums[0] + sums[1]));
    }
    return v;
}

/* ---- one row of x ------------------------------------------------------ */

HTH_INLINE void unpack_quad(struct quad *w, const uint8_t *const row[LANES],
                            size_t at, uint32_t part, const struct traits *t)
{
    float scale[2][LANES], offset[2][LANES];

    for (uint32_t k = 0; k < LANES; k++) {
        struct neon_block b = t->unpack(row[k] + at, part);

        w->low[k] = b.low;
        w->high[k] = b.high;
        for (int i = 0; i < 2; i++) {
            scale[i][k] = b.scale[i];
            offset[i][k] = b.offset[i];
        }
    }
    for (int i = 0; i < 2; i++) {
        w->scale[i] = vld1q_f32(scale[i]);
        w->offset[i] = vld1q_f32(offset[i]);
    }
}

HTH_INLINE float32x4_t quad_row(const uint8_t *const row[LANES],
                                const struct hth_q8 *x, const struct traits *t)
{
    float32x4_t acc = vdupq_n_f32(0.0f);
    uint32_t blocks = x->cols / HTH_Q8_BLOCK;
    size_t at = 0;

    for (uint32_t b = 0; b < blocks; b += t->parts, at += t->bytes) {
        for (uint32_t part = 0; part < t->parts; part++) {
            uint32_t i = b + part;
            struct quad w;

            unpack_quad(&w, row, at, part, t);
            acc = vfmaq_n_f32(
                acc,
                quad_product(&w, x->q + i * HTH_Q8_BLOCK, x->sums + i * 2, t),
                x->d[i]);
        }
    }
    return acc;
}

/* ---- several rows of x ------------------------------------------------- */

/* Blocks [first, first + count) of four rows; first starts a block of the
 * type and so does first + count, because both are multiples of 8. */
HTH_INLINE void fill_panel(struct panel *p, const uint8_t *const row[LANES],
                           uint32_t first, uint32_t count,
                           const struct traits *t)
{
    for (uint32_t k = 0; k < LANES; k++) {
        const uint8_t *at = row[k] + (size_t)(first / t->parts) * t->bytes;

        for (uint32_t b = 0; b < count; b += t->parts, at += t->bytes) {
            for (uint32_t part = 0; part < t->parts; part++) {
                struct neon_block u = t->unpack(at, part);

                vst1q_s8(p->q[b + part][k], u.low);
                vst1q_s8(p->q[b + part][k] + 16, u.high);
                for (int i = 0; i < 2; i++) {
                    p->scale[b + part][i][k] = u.scale[i];
                    p->offset[b + part][i][k] = u.offset[i];
                }
            }
        }
    }
}

HTH_INLINE void load_quad(struct quad *w, const struct panel *p, uint32_t b)
{
    for (uint32_t k = 0; k < LANES; k++) {
        w->low[k] = vld1q_s8(p->q[b][k]);
        w->high[k] = vld1q_s8(p->q[b][k] + 16);
    }
    for (int i = 0; i < 2; i++) {
        w->scale[i] = vld1q_f32(p->scale[b][i]);
        w->offset[i] = vld1q_f32(p->offset[b][i]);
    }
}

/* Two rows of x (r and r2, which may be the same) over a panel that starts at
 * block `first`. Sharing the loads of w between two rows is what the registers
 * allow. */
HTH_INLINE void panel_rows(const struct panel *p, uint32_t first,
                           uint32_t count, const struct hth_q8 *x,
                           const uint32_t r[2], float32x4_t acc[2],
                           const struct traits *t)
{
    size_t blocks = x->cols / HTH_Q8_BLOCK;
    size_t at[2] = {r[0] * blocks + first, r[1] * blocks + first};

    for (uint32_t b = 0; b < count; b++) {
        struct quad w;

        load_quad(&w, p, b);
        for (int j = 0; j < 2; j++) {
            size_t i = at[j] + b;

            acc[j] = vfmaq_n_f32(
                acc[j],
                quad_product(&w, x->q + i * HTH_Q8_BLOCK, x->sums + i * 2, t),
                x->d[i]);
        }
    }
}

/* ---- all outputs ------------------------------------------------------- */

struct output {
    float *y; /* of the first row of w and of x */
    size_t ldy;
    uint32_t valid; /* rows of w that exist, at most LANES */
};

HTH_INLINE float32x4_t load_output(const struct output *o, uint32_t r)
{
    float v[LANES] = {0};

    memcpy(v, o->y + r * o->ldy, o->valid * sizeof *v);
    return vld1q_f32(v);
}

HTH_INLINE void store_output(const struct output *o, uint32_t r,
                             float32x4_t acc)
{
    float v[LANES];

    vst1q_f32(v, acc);
    memcpy(o->y + r * o->ldy, v, o->valid * sizeof *v);
}

/* Panel by panel; between panels the sums wait in y. */
HTH_INLINE void many_rows(const uint8_t *const row[LANES],
                          const struct hth_q8 *x, const struct output *out,
                          const struct traits *t)
{
    uint32_t blocks = x->cols / HTH_Q8_BLOCK;
    struct panel panel;

    for (uint32_t first = 0; first < blocks; first += PANEL_BLOCKS) {
        uint32_t left = blocks - first;
        uint32_t count = left < PANEL_BLOCKS ? left : PANEL_BLOCKS;

        fill_panel(&panel, row, first, count, t);
        for (uint32_t r = 0; r < x->n; r += 2) {
            uint32_t pair[2] = {r, r + 1 < x->n ? r + 1 : r};
            float32x4_t acc[2] = {vdupq_n_f32(0.0f), vdupq_n_f32(0.0f)};

            if (first > 0) {
                acc[0] = load_output(out, pair[0]);
                acc[1] = load_output(out, pair[1]);
            }
            panel_rows(&panel, first, count, x, pair, acc, t);
            store_output(out, pair[0], acc[0]);
            store_output(out, pair[1], acc[1]);
        }
    }
}

struct range {
    uint32_t first, count;
};

HTH_INLINE void gemm_type(const struct hth_mat *w, struct range range,
                          const struct hth_q8 *x, float *y, size_t ldy,
                          const struct traits *t)
{
    for (uint32_t o = 0; o < range.count; o += LANES) {
        uint32_t left = range.count - o;
        struct output out = {.y = y + range.first + o,
                             .ldy = ldy,
                             .valid = left < LANES ? left : LANES};
        const uint8_t *row[LANES];

        for (uint32_t k = 0; k < LANES; k++)
            row[k] =
                (const uint8_t *)w->data +
                (range.first + o + (k < left ? k : left - 1)) * w->row_bytes;
        if (x->n == 1)
            store_output(&out, 0, quad_row(row, x, t));
        else
            many_rows(row, x, &out, t);
    }
}

/* One function per type, so that its traits are constants inside. */
#define GEMM(type, unpacker, block_parts, block_bytes, has_halves,        \
             has_offsets)                                                 \
    static void gemm_##type(const struct hth_mat *w, struct range range,  \
                            const struct hth_q8 *x, float *y, size_t ldy) \
    {                                                                     \
        const struct traits t = {unpacker, block_parts, block_bytes,      \
                                 has_halves, has_offsets};                \
                                                                          \
        gemm_type(w, range, x, y, ldy, &t);                               \
    }

GEMM(q4_0, neon_q4_0, 1, 18, false, false)
GEMM(q4_1, neon_q4_1, 1, 20, false, true)
GEMM(q5_0, neon_q5_0, 1, 22, false, false)
GEMM(q5_1, neon_q5_1, 1, 24, false, true)
GEMM(q8_0, neon_q8_0, 1, 34, false, false)
GEMM(q2_k, neon_q2_k, 8, 84, true, true)
GEMM(q3_k, neon_q3_k, 8, 110, true, false)
GEMM(q4_k, neon_q4_k, 8, 144, false, true)
GEMM(q5_k, neon_q5_k, 8, 176, false, true)
GEMM(q6_k, neon_q6_k, 8, 210, true, false)
GEMM(iq4_nl, neon_iq4_nl, 1, 18, false, false)
GEMM(iq4_xs, neon_iq4_xs, 8, 136, false, false)
#undef GEMM

static void gemm_q8_neon(const struct hth_mat *w, uint32_t first,
                         uint32_t count, const struct hth_q8 *x, float *y,
                         size_t ldy)
{
    static void (*const by_type[])(const struct hth_mat *, struct range,
                                   const struct hth_q8 *, float *, size_t) = {
        [HTH_Q4_0] = gemm_q4_0,     [HTH_Q4_1] = gemm_q4_1,
        [HTH_Q5_0] = gemm_q5_0,     [HTH_Q5_1] = gemm_q5_1,
        [HTH_Q8_0] = gemm_q8_0,     [HTH_Q2_K] = gemm_q2_k,
        [HTH_Q3_K] = gemm_q3_k,     [HTH_Q4_K] = gemm_q4_k,
        [HTH_Q5_K] = gemm_q5_k,     [HTH_Q6_K] = gemm_q6_k,
        [HTH_IQ4_NL] = gemm_iq4_nl, [HTH_IQ4_XS] = gemm_iq4_xs,
    };
    struct range range = {first, count};

    HTH_ASSERT(w->type < sizeof by_type / sizeof by_type[0] &&
               by_type[w->type] != NULL);
    by_type[w->type](w, range, x, y, ldy);
}

#endif
