/* kernels_attn_avx2.c - attn_fold of ops.h: 2 query heads at once share each
 * key and value loaded, f16 rows are widened on the way. The result for a head
 * does not depend on the heads beside it. No failure, no state. */
#include <math.h>

#include "kernels/simd_avx2.h"
#include "kernels/type.h"

#define HEADS 2u /* at once */
#define KEYS 4u  /* at once in scores */
#define WIDE 4u  /* registers of columns at once in values */

/* A group of heads of one part. p: scores, then weights. */
struct group {
    const struct hth_attn_part *part;
    uint32_t first; /* head */
    uint32_t heads; /* 1 to HEADS */
    float keep[HEADS];
    float p[HEADS][HTH_ATTN_ROWS_MAX];
};

/* 8 numbers from number `at` on, the first n of which exist. */
HTH_INLINE __m256 load_kv(uint32_t type, const void *base, size_t at, size_t n)
{
    if (type == HTH_F32)
        return hth_load8((const float *)base + at, n);
    return _mm256_cvtph_ps(hth_load8_words((const uint16_t *)base + at, n));
}

/* Scores of 4 keys for all heads of the group; a row past the end repeats the
 * last one, and its score lands where nobody reads. */
HTH_INLINE void score_keys(uint32_t type, struct group *g, uint32_t row,
                           uint32_t heads)
{
    const struct hth_attn_part *part = g->part;
    const float *q = part->q + (size_t)g->first * part->head_dim;
    size_t at[KEYS];
    __m256 sum[8];
    __m256 s;

    for (uint32_t i = 0; i < KEYS; i++)
        at[i] = (size_t)(row + i < part->rows ? row + i : part->rows - 1) *
                part->head_dim;
#pragma GCC unroll 8
    for (uint32_t i = 0; i < 8; i++)
        sum[i] = _mm256_setzero_ps();
    for (uint32_t c = 0; c < part->head_dim; c += 8) {
        uint32_t n = part->head_dim - c;
        __m256 key[KEYS];

#pragma GCC unroll 4
        for (uint32_t i = 0; i < KEYS; i++)
            key[i] = load_kv(type, part->k, at[i] + c, n);
#pragma GCC unroll 2
        for (uint32_t h = 0; h < heads; h++) {
            __m256 v = hth_load8(q + h * part->head_dim + c, n);

#pragma GCC unroll 4
            for (uint32_t i = 0; i < KEYS; i++)
                sum[h * KEYS + i] =
                    _mm256_fmadd_ps(v, key[i], sum[h * KEYS + i]);
        }
    }
    s = _mm256_mul_ps(hth_sum8x8(sum), _mm256_set1_ps(part->scale));
    _mm_storeu_ps(g->p[0] + row, _mm256_castps256_ps128(s));
    if (heads > 1)
        _mm_storeu_ps(g->p[1] + row, _mm256_extractf128_ps(s, 1));
}

HTH_INLINE __m256 first_of(__m256 v, size_t n, __m256 other)
{
    return _mm256_blendv_ps(other, v, _mm256_castsi256_ps(hth_first8(n)));
}

/* Scores to weights, and the state's maximum and sum. False if all keys are
 * hidden (-infinity), which changes nothing. */
static bool weigh(struct group *g, uint32_t h)
{
    const struct hth_attn_part *part = g->part;
    float *m = &part->m[g->first + h], *l = &part->l[g->first + h];
    float *p = g->p[h], max;
    __m256 most = _mm256_set1_ps(*m), sum = _mm256_setzero_ps();

    for (uint32_t r = 0; r < part->rows; r += 8)
        most = _mm256_max_ps(
            first_of(_mm256_loadu_ps(p + r), part->rows - r, most), most);
    max = hth_max8(most);
    if (max == -INFINITY)
        return false;
    for (uint32_t r = 0; r < part->rows; r += 8) {
        __m256 e = hth_exp8(
            _mm256_sub_ps(_mm256_loadu_ps(p + r), _mm256_set1_ps(max)));

        e = first_of(e, part->rows - r, _mm256_setzero_ps());
        _mm256_storeu_ps(p + r, e);
        sum = _mm256_add_ps(sum, e);
    }
    g->keep[h] = _mm256_cvtss_f32(hth_exp8(_mm256_set1_ps(*m - max)));
    *m = max;
    *l = *l * g->keep[h] + hth_sum8(sum);
    return true;
}

/* acc = acc keep + sum of weighted values, for 32 columns from c. */
HTH_INLINE void add_values(uint32_t type, const struct group *g, uint32_t c,
                           uint32_t heads)
{
    const struct hth_attn_part *part = g->part;
    float *acc = part->acc + (size_t)g->first * part->head_dim + c;
    size_t n[WIDE];
    __m256 sum[HEADS][WIDE];

#pragma GCC unroll 4
    for (uint32_t i = 0; i < WIDE; i++)
        n[i] = part->head_dim > c + 8 * i ? part->head_dim - c - 8 * i : 0;
#pragma GCC unroll 2
    for (uint32_t h = 0; h < heads; h++)
#pragma GCC unroll 4
        for (uint32_t i = 0; i < WIDE; i++)
            sum[h][i] = _mm256_mul_ps(
                _mm256_set1_ps(g->keep[h]),
                hth_load8(acc + h * part->head_dim + 8 * i, n[i]));
    for (uint32_t r = 0; r < part->rows; r++)
#pragma GCC unroll 4
        for (uint32_t i = 0; i < WIDE; i++) {
            __m256 v = load_kv(type, part->v,
                               (size_t)r * part->head_dim + c + 8 * i, n[i]);

#pragma GCC unroll 2
            for (uint32_t h = 0; h < heads; h++)
                sum[h][i] =
                    _mm256_fmadd_ps(_mm256_set1_ps(g->p[h][r]), v, sum[h][i]);
        }
#pragma GCC unroll 2
    for (uint32_t h = 0; h < heads; h++)
#pragma GCC unroll 4
        for (uint32_t i = 0; i < WIDE; i++)
            hth_store8(acc + h * part->head_dim + 8 * i, n[i], sum[h][i]);
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
    for (uint32_t c = 0; c < g->part->head_dim; c += 8 * WIDE)
        add_values(type, g, c, heads);
}

HTH_INLINE void fold(uint32_t type, struct group *g)
{
    if (g->heads == 1)
        fold_group(type, g, 1);
    else
        fold_group(type, g, HEADS);
}

void hth__attn_fold_avx2(const struct hth_attn_part *part)
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
