/* kernels_attn_avx512.c - attn_fold of ops.h: up to 4 query heads at once
 * share each key and value loaded, f16 rows are widened on the way. The
 * result for a head does not depend on the heads beside it. No failure, no
 * state. */
#include "kernels/x86.h"

#include <math.h>

#include "kernels/simd_avx512.h"
#include "kernels/type.h"

#define HEADS 4u /* at once */
#define KEYS 4u  /* at once in scores */

/* A group of heads of one part. p: scores, then weights. */
struct group {
    const struct hth_attn_part *part;
    uint32_t first; /* head */
    uint32_t heads; /* 1 to HEADS */
    float keep[HEADS];
    float p[HEADS][HTH_ATTN_ROWS_MAX];
};

HTH_INLINE __m512 load_kv(uint32_t type, const void *base, size_t at,
                          __mmask16 k)
{
    if (type == HTH_F32)
        return _mm512_maskz_loadu_ps(k, (const float *)base + at);
    return _mm512_cvtph_ps(
        _mm256_maskz_loadu_epi16(k, (const uint16_t *)base + at));
}

/* Scores of 4 keys for all heads of the group; a row past the end repeats the
 * last one, and its score lands where nobody reads. */
HTH_INLINE void score_keys(uint32_t type, struct group *g, uint32_t row,
                           uint32_t heads)
{
    const struct hth_attn_part *part = g->part;
    const float *q = part->q + (size_t)g->first * part->head_dim;
    size_t at[KEYS];
    __m512 sum[16];
    __m512 s;

    for (uint32_t i = 0; i < KEYS; i++)
        at[i] = (size_t)(row + i < part->rows ? row + i : part->rows - 1) *
                part->head_dim;
#pragma GCC unroll 16
    for (uint32_t i = 0; i < 16; i++)
        sum[i] = _mm512_setzero_ps();
    for (uint32_t c = 0; c < part->head_dim; c += 16) {
        __mmask16 k = hth_first16(part->head_dim - c);
        __m512 key[KEYS];

#pragma GCC unroll 4
        for (uint32_t i = 0; i < KEYS; i++)
            key[i] = load_kv(type, part->k, at[i] + c, k);
#pragma GCC unroll 4
        for (uint32_t h = 0; h < heads; h++) {
            __m512 v = _mm512_maskz_loadu_ps(k, q + h * part->head_dim + c);

#pragma GCC unroll 4
            for (uint32_t i = 0; i < KEYS; i++)
                sum[h * KEYS + i] =
                    _mm512_fmadd_ps(v, key[i], sum[h * KEYS + i]);
        }
    }
    s = _mm512_mul_ps(hth_sum16x16(sum), _mm512_set1_ps(part->scale));
    _mm_storeu_ps(g->p[0] + row, _mm512_castps512_ps128(s));
    if (heads > 1)
        _mm_storeu_ps(g->p[1] + row, _mm512_extractf32x4_ps(s, 1));
    if (heads > 2)
        _mm_storeu_ps(g->p[2] + row, _mm512_extractf32x4_ps(s, 2));
    if (heads > 3)
        _mm_storeu_ps(g->p[3] + row, _mm512_extractf32x4_ps(s, 3));
}

/* Scores to weights, and the state's maximum and sum. False if all keys are
 * hidden (-infinity), which changes nothing. */
static bool weigh(struct group *g, uint32_t h)
{
    const struct hth_attn_part *part = g->part;
    float *m = &part->m[g->first + h], *l = &part->l[g->first + h];
    __m512 most = _mm512_set1_ps(*m), sum = _mm512_setzero_ps(), old;
    float max;

    for (uint32_t r = 0; r < part->rows; r += 16)
        most = _mm512_mask_max_ps(most, hth_first16(part->rows - r),
                                  _mm512_loadu_ps(g->p[h] + r), most);
    max = _mm512_reduce_max_ps(most);
    if (max == -INFINITY)
        return false;
    for (uint32_t r = 0; r < part->rows; r += 16) {
        __m512 e = hth_exp16(
            _mm512_sub_ps(_mm512_loadu_ps(g->p[h] + r), _mm512_set1_ps(max)));

        e = _mm512_maskz_mov_ps(hth_first16(part->rows - r), e);
        _mm512_storeu_ps(g->p[h] + r, e);
        sum = _mm512_add_ps(sum, e);
    }
    old = hth_exp16(_mm512_set1_ps(*m - max));
    g->keep[h] = _mm512_cvtss_f32(old);
    *m = max;
    *l = *l * g->keep[h] + hth_sum16(sum);
    return true;
}

/* acc = acc keep + sum of weighted values, for 64 columns from c. */
HTH_INLINE void add_values(uint32_t type, const struct group *g, uint32_t c,
                           uint32_t heads)
{
    const struct hth_attn_part *part = g->part;
    float *acc = part->acc + (size_t)g->first * part->head_dim + c;
    __m512 sum[HEADS][4];
    __mmask16 k[4];

#pragma GCC unroll 4
    for (uint32_t i = 0; i < 4; i++)
        k[i] = part->head_dim > c + 16 * i
                   ? hth_first16(part->head_dim - c - 16 * i)
                   : 0;
#pragma GCC unroll 4
    for (uint32_t h = 0; h < heads; h++)
#pragma GCC unroll 4
        for (uint32_t i = 0; i < 4; i++)
            sum[h][i] = _mm512_mul_ps(
                _mm512_set1_ps(g->keep[h]),
                _mm512_maskz_loadu_ps(k[i], acc + h * part->head_dim + 16 * i));
    for (uint32_t r = 0; r < part->rows; r++)
#pragma GCC unroll 4
        for (uint32_t i = 0; i < 4; i++) {
            __m512 v = load_kv(type, part->v,
                               (size_t)r * part->head_dim + c + 16 * i, k[i]);

#pragma GCC unroll 4
            for (uint32_t h = 0; h < heads; h++)
                sum[h][i] =
                    _mm512_fmadd_ps(_mm512_set1_ps(g->p[h][r]), v, sum[h][i]);
        }
#pragma GCC unroll 4
    for (uint32_t h = 0; h < heads; h++)
#pragma GCC unroll 4
        for (uint32_t i = 0; i < 4; i++)
            _mm512_mask_storeu_ps(acc + h * part->head_dim + 16 * i, k[i],
                                  sum[h][i]);
}

/* A head whose keys are all hidden gets weights of 0 and keeps its state. */
HTH_INLINE void fold_group(uint32_t type, struct group *g, uint32_t heads)
{
    for (uint32_t r = 0; r < g->part->rows; r += KEYS)
        score_keys(type, g, r, heads);
    for (uint32_t h = 0; h < heads; h++)
        if (!weigh(g, h)) {
            g->keep[h] = 1.0f;
            for (uint32_t r = 0; r < g->part->rows; r++)
                g->p[h][r] = 0.0f;
        }
    for (uint32_t c = 0; c < g->part->head_dim; c += 64)
        add_values(type, g, c, heads);
}

HTH_INLINE void fold(uint32_t type, struct group *g)
{
    switch (g->heads) {
    case 1:
        fold_group(type, g, 1);
        break;
    case 2:
        fold_group(type, g, 2);
        break;
    case 3:
        fold_group(type, g, 3);
        break;
    default:
        fold_group(type, g, HEADS);
        break;
    }
}

void hth__attn_fold_avx512(const struct hth_attn_part *part)
{
    struct group g = {.part = part};

    if (part->rows == 0)
        return;
    for (g.first = 0; g.first < part->heads; g.first += HEADS) {
        g.heads = part->heads - g.first < HEADS ? part->heads - g.first : HEADS;
        if (part->kv_type == HTH_F32)
            fold(HTH_F32, &g);
        else
            fold(HTH_F16, &g);
    }
}
