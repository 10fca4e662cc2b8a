/* kernels_attn_ref.c - attention, the scalar definition: one query after the
 * other, one key after the other. No failure, no state. */
#include <math.h>
#include <string.h>

#include "kernels/isa.h"
#include "kernels/type.h"

#define LANES HTH_ATTN_LANES
#define Q8_TILE ((LANES * 2u) + 32u * LANES) /* bytes: 16 keys, 32 columns */

static float half_at(const void *base, size_t i)
{
    uint16_t h;

    memcpy(&h, (const uint8_t *)base + 2 * i, sizeof h);
    return hth_f16_to_f32(h);
}

/* Column i of key number `key`. */
static float key_at(const struct hth_attn_block *b, uint32_t key, uint32_t i)
{
    uint32_t lane = key % LANES;
    size_t tile = key / LANES, at = (tile * b->head_dim + i) * LANES + lane;
    const uint8_t *q8;

    if (b->type == HTH_F32)
        return ((const float *)b->k)[at];
    if (b->type == HTH_F16)
        return half_at(b->k, at);
    q8 = (const uint8_t *)b->k + (tile * (b->head_dim / 32) + i / 32) * Q8_TILE;
    return half_at(q8, lane) *
           (float)(int8_t)q8[LANES * 2 + i % 32 * LANES + lane];
}

static float value_at(const struct hth_attn_block *b, uint32_t key, uint32_t i)
{
    size_t at = (size_t)key * hth_attn_dim(b->head_dim) + i;
    const uint8_t *q8;

    if (b->type == HTH_F32)
        return ((const float *)b->v)[at];
    if (b->type == HTH_F16)
        return half_at(b->v, at);
    q8 = (const uint8_t *)b->v + (size_t)(b->head_dim / 32) * HTH_ATTN_KEYS * 2;
    return half_at(b->v, (size_t)(i / 32) * HTH_ATTN_KEYS + key) *
           (float)(int8_t)q8[(size_t)key * b->head_dim + i];
}

static void scores(const struct hth_attn_panel *p, uint32_t query, float *s)
{
    for (uint32_t key = 0; key < p->seen[query]; key++) {
        float sum = 0.0f;

        for (uint32_t i = 0; i < p->block.head_dim; i++)
            sum += p->q[i * HTH_ATTN_PANEL + query] * key_at(&p->block, key, i);
        s[key] = sum;
    }
}

/* The state is rescaled once per block, by e^(old maximum - new one), which
 * is 0 for a fresh state. */
static void fold(const struct hth_attn_panel *p, uint32_t query, const float *s)
{
    uint32_t dim = hth_attn_dim(p->block.head_dim);
    float *acc = p->state.acc + (size_t)query * dim;
    float max = p->state.m[query], keep;

    for (uint32_t key = 0; key < p->seen[query]; key++)
        max = fmaxf(max, s[key]);
    if (max == -INFINITY)
        return;
    keep = expf(p->state.m[query] - max);
    p->state.m[query] = max;
    p->state.l[query] *= keep;
    for (uint32_t i = 0; i < dim; i++)
        acc[i] *= keep;
    for (uint32_t key = 0; key < p->seen[query]; key++) {
        float weight = expf(s[key] - max);

        p->state.l[query] += weight;
        for (uint32_t i = 0; i < p->block.head_dim; i++)
            acc[i] += weight * value_at(&p->block, key, i);
    }
}

void hth__attn_panel_ref(const struct hth_attn_panel *p)
{
    float s[HTH_ATTN_KEYS];

    for (uint32_t query = 0; query < p->queries; query++) {
        scores(p, query, s);
        fold(p, query, s);
    }
}

void hth__attn_widen_ref(const struct hth_attn_block *from, uint32_t keys,
                         const struct hth_attn_block *to)
{
    uint32_t dim = hth_attn_dim(from->head_dim);
    float *k = to->k, *v = to->v;

    for (uint32_t key = 0; key < keys; key++) {
        float *row = k + key / LANES * LANES * from->head_dim + key % LANES;

        for (uint32_t i = 0; i < from->head_dim; i++)
            row[i * LANES] = key_at(from, key, i);
        for (uint32_t i = 0; i < dim; i++)
            v[key * dim + i] = value_at(from, key, i);
    }
}
