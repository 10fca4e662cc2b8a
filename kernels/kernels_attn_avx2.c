/* kernels_attn_avx2.c - attn_panel and attn_widen of isa.h as
 * kernels_attn_avx512.c does them: keys in lanes for the scores, columns in
 * lanes for the values. A query's sums are chains in
 * the order of columns and of keys, so its bits do not depend on the queries
 * beside it. No failure, no state. */
#include <math.h>

#include "kernels/simd_avx2.h"
#include "kernels/type.h"

#define PANEL HTH_ATTN_PANEL
#define KEYS HTH_ATTN_KEYS
#define LANES HTH_ATTN_LANES
#define COLS 32u                           /* that share a scale in Q8_0 */
#define Q8_TILE (LANES * 2 + COLS * LANES) /* bytes: 16 keys, 32 columns */

#define SIZE(type) ((type) == HTH_F32 ? 4u : (type) == HTH_F16 ? 2u : 1u)

/* Scores, then weights, of a panel and a block. */
struct weights {
    float p[PANEL][KEYS];
    float keep[PANEL];
};

HTH_INLINE __m256 load_halves(const void *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128(p));
}

HTH_INLINE __m256 load_bytes(const void *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p)));
}

/* ---- scores ---------------------------------------------------------------
 */

/* Sixteen keys of K: where the next column is, and the scales of 32. */
struct keys {
    const uint8_t *at;
    __m256 d[2];
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
    k->d[0] = load_halves(k->at);
    k->d[1] = load_halves(k->at + 16);
    k->at += LANES * 2;
}

HTH_INLINE void next_keys(uint32_t type, struct keys *k, __m256 key[2])
{
    const uint8_t *at = k->at;

    if (type == HTH_F32) {
        k->at += LANES * 4;
        key[0] = _mm256_loadu_ps((const float *)(const void *)at);
        key[1] = _mm256_loadu_ps((const float *)(const void *)(at + 32));
    } else if (type == HTH_F16) {
        k->at += LANES * 2;
        key[0] = load_halves(at);
        key[1] = load_halves(at + 16);
    } else {
        k->at += LANES;
        key[0] = _mm256_mul_ps(load_bytes(at), k->d[0]);
        key[1] = _mm256_mul_ps(load_bytes(at + 8), k->d[1]);
    }
}

/* Scores of nq queries and the 16 keys of a tile. */
HTH_INLINE void score_tile(uint32_t type, uint32_t nq,
                           const struct hth_attn_panel *p, uint32_t tile,
                           struct weights *w)
{
    const float *q = p->q;
    uint32_t dim = p->block.head_dim;
    ptrdiff_t ahead = p->next_k - (const uint8_t *)p->block.k;
    struct keys k;
    __m256 sum[2 * PANEL], key[2];

    open_keys(type, &k, p, tile);
#pragma GCC unroll 12
    for (uint32_t i = 0; i < 2 * nq; i++)
        sum[i] = _mm256_setzero_ps();
    for (uint32_t c = 0; c < dim; c += COLS) {
        uint32_t end = dim - c < COLS ? dim - c : COLS;

        next_cols(type, &k);
        for (uint32_t i = 0; i < end; i++, q += PANEL) {
            if (i % 2 == 0)
                _mm_prefetch((const char *)k.at + ahead, _MM_HINT_T1);
            next_keys(type, &k, key);
#pragma GCC unroll 6
            for (uint32_t j = 0; j < nq; j++) {
                __m256 one = _mm256_broadcast_ss(q + j);

                sum[2 * j] = _mm256_fmadd_ps(one, key[0], sum[2 * j]);
                sum[2 * j + 1] = _mm256_fmadd_ps(one, key[1], sum[2 * j + 1]);
            }
        }
    }
#pragma GCC unroll 6
    for (uint32_t j = 0; j < nq; j++) {
        _mm256_storeu_ps(w->p[j] + tile * LANES, sum[2 * j]);
        _mm256_storeu_ps(w->p[j] + tile * LANES + 8, sum[2 * j + 1]);
    }
}

/* ---- weights ---------------------------------------------------------------
 */

/* Keep the state as it is: no key to see. */
static void weigh_nothing(struct weights *w, uint32_t j)
{
    w->keep[j] = 1.0f;
    for (uint32_t i = 0; i < KEYS; i += 8)
        _mm256_storeu_ps(w->p[j] + i, _mm256_setzero_ps());
}

HTH_INLINE __m256 first_of(__m256 v, size_t n, __m256 other)
{
    return _mm256_blendv_ps(other, v, _mm256_castsi256_ps(hth_first8(n)));
}

/* Scores to weights, and the state's maximum and sum. */
static void weigh(const struct hth_attn_panel *p, struct weights *w, uint32_t j)
{
    uint32_t seen = p->seen[j];
    float *m = &p->state.m[j], *l = &p->state.l[j], max;
    __m256 most = _mm256_set1_ps(*m), sum = _mm256_setzero_ps();

    for (uint32_t i = 0; i < seen; i += 8)
        most = _mm256_max_ps(
            first_of(_mm256_loadu_ps(w->p[j] + i), seen - i, most), most);
    max = hth_max8(most);
    if (max == -INFINITY) {
        weigh_nothing(w, j);
        return;
    }
    for (uint32_t i = 0; i < KEYS; i += 8) {
        __m256 e = _mm256_setzero_ps();

        if (i < seen) {
            e = hth_exp8(_mm256_sub_ps(_mm256_loadu_ps(w->p[j] + i),
                                       _mm256_set1_ps(max)));
            e = first_of(e, seen - i, _mm256_setzero_ps());
            sum = _mm256_add_ps(sum, e);
        }
        _mm256_storeu_ps(w->p[j] + i, e);
    }
    w->keep[j] = 1.0f;
    if (*m != max)
        w->keep[j] = _mm256_cvtss_f32(hth_exp8(_mm256_set1_ps(*m - max)));
    *m = max;
    *l = *l * w->keep[j] + hth_sum8(sum);
}

/* ---- values ----------------------------------------------------------------
 */

/* Scales of all keys for the 32 columns that hold column c; Q8_0 only. */
HTH_INLINE void value_scales(uint32_t type, const void *v, uint32_t c, float *d)
{
    const uint8_t *from = (const uint8_t *)v + c / COLS * KEYS * 2;

    if (type != HTH_Q8_0)
        return;
    for (uint32_t i = 0; i < KEYS; i += 8)
        _mm256_storeu_ps(d + i, load_halves(from + i * 2));
}

/* Eight columns of a value, number `number` of those behind v. */
HTH_INLINE __m256 load_value(uint32_t type, const uint8_t *v, size_t number,
                             float d)
{
    if (type == HTH_F32)
        return _mm256_loadu_ps((const float *)(const void *)v + number);
    if (type == HTH_F16)
        return load_halves(v + number * 2);
    return _mm256_mul_ps(load_bytes(v + number), _mm256_set1_ps(d));
}

/* acc = acc keep + sum of weighted values, for the 16 columns from c. */
HTH_INLINE void add_values(uint32_t type, uint32_t nq,
                           const struct hth_attn_panel *p, uint32_t c,
                           const struct weights *w)
{
    uint32_t dim = hth_attn_dim(p->block.head_dim);
    const uint8_t *v = p->block.v;
    ptrdiff_t ahead = p->next_v - v;
    float *acc = p->state.acc + c, d[KEYS];
    __m256 sum[2 * PANEL], value[2];

    value_scales(type, v, c, d);
    if (type == HTH_Q8_0)
        v += dim / COLS * KEYS * 2;
#pragma GCC unroll 12
    for (uint32_t i = 0; i < 2 * nq; i++)
        sum[i] = _mm256_mul_ps(_mm256_set1_ps(w->keep[i / 2]),
                               _mm256_loadu_ps(acc + i / 2 * dim + i % 2 * 8));
    for (uint32_t key = 0; key < p->keys; key++) {
        size_t at = (size_t)key * dim + c;
        float scale = type == HTH_Q8_0 ? d[key] : 1.0f;

        if (c % 32 == 0)
            _mm_prefetch((const char *)v + ahead + at * SIZE(type),
                         _MM_HINT_T1);

        value[0] = load_value(type, v, at, scale);
        value[1] = load_value(type, v, at + 8, scale);
#pragma GCC unroll 6
        for (uint32_t j = 0; j < nq; j++) {
            __m256 one = _mm256_broadcast_ss(&w->p[j][key]);

            sum[2 * j] = _mm256_fmadd_ps(one, value[0], sum[2 * j]);
            sum[2 * j + 1] = _mm256_fmadd_ps(one, value[1], sum[2 * j + 1]);
        }
    }
#pragma GCC unroll 12
    for (uint32_t i = 0; i < 2 * nq; i++)
        _mm256_storeu_ps(acc + i / 2 * dim + i % 2 * 8, sum[i]);
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

void hth__attn_panel_avx2(const struct hth_attn_panel *p)
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

static void widen_halves(const void *from, size_t n, float *to)
{
    for (size_t i = 0; i < n; i += 8)
        _mm256_storeu_ps(to + i, load_halves((const uint8_t *)from + i * 2));
}

/* Tiles of K follow each other: {16 scales, 32 columns of 16 keys} each. */
static void widen_keys(const uint8_t *from, size_t n, float *to)
{
    struct keys k = {.at = from};

    for (size_t i = 0; i < n; i += COLS * LANES) {
        next_cols(HTH_Q8_0, &k);
        for (uint32_t c = 0; c < COLS; c++, to += LANES) {
            __m256 key[2];

            next_keys(HTH_Q8_0, &k, key);
            _mm256_storeu_ps(to, key[0]);
            _mm256_storeu_ps(to + 8, key[1]);
        }
    }
}

static void widen_values(const struct hth_attn_block *from, uint32_t keys,
                         float *to)
{
    uint32_t dim = from->head_dim;
    const uint8_t *v = (const uint8_t *)from->v + dim / COLS * KEYS * 2;
    float d[KEYS];

    for (uint32_t c = 0; c < dim; c += COLS) {
        value_scales(HTH_Q8_0, from->v, c, d);
        for (size_t key = 0; key < keys; key++)
            for (uint32_t i = 0; i < COLS; i += 8)
                _mm256_storeu_ps(
                    to + key * dim + c + i,
                    load_value(HTH_Q8_0, v, key * dim + c + i, d[key]));
    }
}

void hth__attn_widen_avx2(const struct hth_attn_block *from, uint32_t keys,
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
