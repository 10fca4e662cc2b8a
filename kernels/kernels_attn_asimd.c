/* kernels_attn_asimd.c - attn_panel and attn_widen of isa.h with the NEON that
 * every 64-bit ARM has: keys in lanes for the scores, columns in lanes for the
 * values. Empty on other architectures. A query's
 * sums are chains in the order of columns and of keys, so its bits do not
 * depend on the queries beside it. No failure, no state. */
#include "kernels/isa.h"

#ifdef __aarch64__

#include <math.h>
#include <string.h>

#include "kernels/simd_neon.h"
#include "kernels/type.h"

#define PANEL HTH_ATTN_PANEL
#define KEYS HTH_ATTN_KEYS
#define LANES HTH_ATTN_LANES
#define COLS 32u                           /* that share a scale in Q8_0 */
#define Q8_TILE (LANES * 2 + COLS * LANES) /* bytes: 16 keys, 32 columns */

/* Scores, then weights, of a panel and a block. */
struct weights {
    float p[PANEL][KEYS];
    float keep[PANEL];
};

/* Sixteen numbers. */
HTH_INLINE void load_halves(const uint8_t *p, float32x4_t v[4])
{
    for (int i = 0; i < 4; i++) {
        uint16x4_t h;

        memcpy(&h, p + i * 8, sizeof h);
        v[i] = vcvt_f32_f16(vreinterpret_f16_u16(h));
    }
}

HTH_INLINE void load_bytes(const uint8_t *p, float32x4_t v[4])
{
    int8x16_t b = vreinterpretq_s8_u8(vld1q_u8(p));
    int16x8_t low = vmovl_s8(vget_low_s8(b)), high = vmovl_s8(vget_high_s8(b));

    v[0] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(low)));
    v[1] = vcvtq_f32_s32(vmovl_s16(vget_high_s16(low)));
    v[2] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(high)));
    v[3] = vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)));
}

HTH_INLINE void load_floats(const uint8_t *p, float32x4_t v[4])
{
    for (int i = 0; i < 4; i++)
        v[i] = vld1q_f32((const float *)(const void *)p + i * 4);
}

/* ---- scores ---------------------------------------------------------------
 */

/* Sixteen keys of K: where the next column is, and the scales of 32. */
struct keys {
    const uint8_t *at;
    float32x4_t d[4];
};

HTH_INLINE void open_keys(uint32_t type, struct keys *k,
                          const struct hth_attn_panel *p, uint32_t tile)
{
    size_t numbers = (size_t)tile * p->block.head_dim * LANES;

    k->at = p->block.k;
    if (type == HTH_Q8_0)
        k->at += numbers / (COLS * LANES) * Q8_TILE;
    else
        k->at += numbers * (type == HTH_F32 ? 4 : 2);
}

/* Before each 32 columns, and at the first. */
HTH_INLINE void next_cols(uint32_t type, struct keys *k)
{
    if (type != HTH_Q8_0)
        return;
    load_halves(k->at, k->d);
    k->at += LANES * 2;
}

HTH_INLINE void next_keys(uint32_t type, struct keys *k, float32x4_t key[4])
{
    if (type == HTH_F32) {
        load_floats(k->at, key);
        k->at += LANES * 4;
    } else if (type == HTH_F16) {
        load_halves(k->at, key);
        k->at += LANES * 2;
    } else {
        load_bytes(k->at, key);
        k->at += LANES;
        for (int i = 0; i < 4; i++)
            key[i] = vmulq_f32(key[i], k->d[i]);
    }
}

/* Scores of nq queries and the 16 keys of a tile. */
HTH_INLINE void score_tile(uint32_t type, uint32_t nq,
                           const struct hth_attn_panel *p, uint32_t tile,
                           struct weights *w)
{
    const float *q = p->q;
    uint32_t dim = p->block.head_dim;
    struct keys k;
    float32x4_t sum[4 * PANEL], key[4];

    open_keys(type, &k, p, tile);
    for (uint32_t i = 0; i < 4 * nq; i++)
        sum[i] = vdupq_n_f32(0.0f);
    for (uint32_t c = 0; c < dim; c += COLS) {
        uint32_t end = dim - c < COLS ? dim - c : COLS;

        next_cols(type, &k);
        for (uint32_t i = 0; i < end; i++, q += PANEL) {
            next_keys(type, &k, key);
            for (uint32_t j = 0; j < nq; j++)
                for (uint32_t n = 0; n < 4; n++)
                    sum[4 * j + n] = vfmaq_n_f32(sum[4 * j + n], key[n], q[j]);
        }
    }
    for (uint32_t j = 0; j < nq; j++)
        for (uint32_t n = 0; n < 4; n++)
            vst1q_f32(w->p[j] + tile * LANES + n * 4, sum[4 * j + n]);
}

/* ---- weights ---------------------------------------------------------------
 */

/* Scores to weights, and the state's maximum and sum. */
static void weigh(const struct hth_attn_panel *p, struct weights *w, uint32_t j)
{
    uint32_t seen = p->seen[j];
    float *m = &p->state.m[j], *l = &p->state.l[j];
    float max = hth_max_of(w->p[j], seen, *m);

    memset(w->p[j] + seen, 0, (KEYS - seen) * sizeof(float));
    w->keep[j] = 1.0f;
    if (max == -INFINITY) {
        memset(w->p[j], 0, seen * sizeof(float));
        return;
    }
    if (*m != max)
        w->keep[j] = expf(*m - max);
    *m = max;
    *l = *l * w->keep[j] + hth_exp_row(w->p[j], seen, max);
}

/* ---- values ----------------------------------------------------------------
 */

/* acc = acc keep + sum of weighted values, for the 16 columns from c. */
HTH_INLINE void add_values(uint32_t type, uint32_t nq,
                           const struct hth_attn_panel *p, uint32_t c,
                           const struct weights *w)
{
    uint32_t dim = hth_attn_dim(p->block.head_dim);
    const uint8_t *v = p->block.v, *scales = v + c / COLS * KEYS * 2;
    float *acc = p->state.acc + c;
    float32x4_t sum[4 * PANEL], value[4];

    if (type == HTH_Q8_0)
        v += dim / COLS * KEYS * 2;
    for (uint32_t i = 0; i < 4 * nq; i++)
        sum[i] = vmulq_n_f32(vld1q_f32(acc + i / 4 * dim + i % 4 * 4),
                             w->keep[i / 4]);
    for (uint32_t key = 0; key < p->keys; key++) {
        size_t at = (size_t)key * dim + c;

        if (type == HTH_F32) {
            load_floats(v + at * 4, value);
        } else if (type == HTH_F16) {
            load_halves(v + at * 2, value);
        } else {
            load_bytes(v + at, value);
            for (uint32_t n = 0; n < 4; n++)
                value[n] =
                    vmulq_n_f32(value[n], neon_half_at(scales + key * 2));
        }
        for (uint32_t j = 0; j < nq; j++)
            for (uint32_t n = 0; n < 4; n++)
                sum[4 * j + n] =
                    vfmaq_n_f32(sum[4 * j + n], value[n], w->p[j][key]);
    }
    for (uint32_t i = 0; i < 4 * nq; i++)
        vst1q_f32(acc + i / 4 * dim + i % 4 * 4, sum[i]);
}

/* ---- a panel ---------------------------------------------------------------
 */

HTH_INLINE void fold(uint32_t type, uint32_t nq, const struct hth_attn_panel *p)
{
    uint32_t dim = hth_attn_dim(p->block.head_dim);
    struct weights w;

    for (uint32_t tile = 0; tile * LANES < p->keys; tile++)
        score_tile(type, nq, p, tile, &w);
    for (uint32_t j = 0; j < nq; j++)
        weigh(p, &w, j);
    for (uint32_t c = 0; c < dim; c += 16)
        add_values(type, nq, p, c, &w);
}

HTH_INLINE void fold_any(uint32_t type, const struct hth_attn_panel *p)
{
    switch (p->queries) {
    case 1:
        fold(type, 1, p);
        break;
    case 2:
        fold(type, 2, p);
        break;
    case 3:
        fold(type, 3, p);
        break;
    case 4:
        fold(type, 4, p);
        break;
    case 5:
        fold(type, 5, p);
        break;
    default:
        fold(type, PANEL, p);
        break;
    }
}

void hth__attn_panel_asimd(const struct hth_attn_panel *p)
{
    if (p->block.type == HTH_F32)
        fold_any(HTH_F32, p);
    else if (p->block.type == HTH_F16)
        fold_any(HTH_F16, p);
    else
        fold_any(HTH_Q8_0, p);
}

/* ---- widening ---------------------------------------------------------------
 */

HTH_INLINE void store_floats(const float32x4_t v[4], float *to)
{
    for (int i = 0; i < 4; i++)
        vst1q_f32(to + i * 4, v[i]);
}

static void widen_halves(const void *from, size_t n, float *to)
{
    for (size_t i = 0; i < n; i += 16) {
        float32x4_t v[4];

        load_halves((const uint8_t *)from + i * 2, v);
        store_floats(v, to + i);
    }
}

/* Tiles of K follow each other: {16 scales, 32 columns of 16 keys} each. */
static void widen_keys(const uint8_t *from, size_t n, float *to)
{
    struct keys k = {.at = from};

    for (size_t i = 0; i < n; i += COLS * LANES) {
        next_cols(HTH_Q8_0, &k);
        for (uint32_t c = 0; c < COLS; c++, to += LANES) {
            float32x4_t key[4];

            next_keys(HTH_Q8_0, &k, key);
            store_floats(key, to);
        }
    }
}

static void widen_values(const struct hth_attn_block *from, uint32_t keys,
                         float *to)
{
    uint32_t dim = from->head_dim;
    const uint8_t *scales = from->v, *v = scales + dim / COLS * KEYS * 2;

    for (size_t key = 0; key < keys; key++)
        for (uint32_t c = 0; c < dim; c += 16) {
            float d = neon_half_at(scales + (c / COLS * KEYS + key) * 2);
            float32x4_t value[4];

            load_bytes(v + key * dim + c, value);
            for (uint32_t n = 0; n < 4; n++)
                value[n] = vmulq_n_f32(value[n], d);
            store_floats(value, to + key * dim + c);
        }
}

void hth__attn_widen_asimd(const struct hth_attn_block *from, uint32_t keys,
                           const struct hth_attn_block *to)
{
    size_t dim = from->head_dim;

    if (from->type == HTH_F16) {
        widen_halves(from->k, keys * dim, to->k);
        widen_halves(from->v, (size_t)keys * hth_attn_dim(from->head_dim),
                     to->v);
    } else {
        widen_keys(from->k, keys * dim, to->k);
        widen_values(from, keys, to->v);
    }
}

#endif
