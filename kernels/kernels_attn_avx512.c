/* kernels_attn_avx512.c - attn_panel and attn_widen of isa.h. Keys are in
 * lanes for the scores and columns in lanes for the values, so nothing is ever
 * added across lanes but the 64 weights of a block. Loops are unrolled for each
 * number of queries; each query's sums are chains in the order of columns and
 * of keys, so its bits do not depend on that number. No failure, no state. */
#include <math.h>

#include "kernels/simd_avx512.h"
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

HTH_INLINE __m512 load_halves(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}

HTH_INLINE __m512 load_bytes(const void *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p)));
}

/* Ask for what holds n numbers, at most 64; returns where they end. In Q8_0
 * one scale in 32 is counted in. */
HTH_INLINE const uint8_t *fetch(uint32_t type, const uint8_t *p, uint32_t n)
{
    for (uint32_t i = 0; i < n * SIZE(type); i += 64)
        _mm_prefetch((const char *)p + i, _MM_HINT_T1);
    return p + n * SIZE(type) + (type == HTH_Q8_0 ? n / 16 : 0);
}

/* ---- scores ---------------------------------------------------------------
 */

/* Sixteen keys of K: where its column 0 is, and the scales of 32 columns. */
struct keys {
    const uint8_t *at;
    __m512 d;
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
    k->d = load_halves(k->at);
    k->at += LANES * 2;
}

HTH_INLINE __m512 next_keys(uint32_t type, struct keys *k)
{
    const uint8_t *at = k->at;

    if (type == HTH_F32) {
        k->at += LANES * 4;
        return _mm512_loadu_ps(at);
    }
    if (type == HTH_F16) {
        k->at += LANES * 2;
        return load_halves(at);
    }
    k->at += LANES;
    return _mm512_mul_ps(load_bytes(at), k->d);
}

/* Scores of nq queries and all keys of the block. */
HTH_INLINE void score_tiles(uint32_t type, uint32_t nq,
                            const struct hth_attn_panel *p, struct weights *w)
{
    const uint32_t nt = KEYS / LANES;
    struct keys k[4];
    __m512 sum[24], key[4];
    uint32_t dim = p->block.head_dim;
    const float *q = p->q;
    const uint8_t *next = p->next_k;

#pragma GCC unroll 4
    for (uint32_t t = 0; t < nt; t++)
        open_keys(type, &k[t], p, t);
#pragma GCC unroll 24
    for (uint32_t i = 0; i < nq * nt; i++)
        sum[i] = _mm512_setzero_ps();
    for (uint32_t c = 0; c < dim; c += COLS) {
        uint32_t end = dim - c < COLS ? dim - c : COLS;

#pragma GCC unroll 4
        for (uint32_t t = 0; t < nt; t++)
            next_cols(type, &k[t]);
        for (uint32_t i = 0; i < end; i++, q += PANEL) {
            next = fetch(type, next, KEYS);
#pragma GCC unroll 4
            for (uint32_t t = 0; t < nt; t++)
                key[t] = next_keys(type, &k[t]);
#pragma GCC unroll 6
            for (uint32_t j = 0; j < nq; j++)
#pragma GCC unroll 4
                for (uint32_t t = 0; t < nt; t++)
                    sum[j * nt + t] = _mm512_fmadd_ps(_mm512_set1_ps(q[j]),
                                                      key[t], sum[j * nt + t]);
        }
    }
#pragma GCC unroll 6
    for (uint32_t j = 0; j < nq; j++)
#pragma GCC unroll 4
        for (uint32_t t = 0; t < nt; t++)
            _mm512_storeu_ps(w->p[j] + t * LANES, sum[j * nt + t]);
}

/* ---- weights ---------------------------------------------------------------
 */

/* The largest score of what a query sees and of its state. */
HTH_INLINE float largest(const struct hth_attn_panel *p,
                         const struct weights *w, uint32_t j)
{
    uint32_t seen = p->seen[j];
    __m512 most = _mm512_set1_ps(p->state.m[j]);

    if (seen == KEYS)
#pragma GCC unroll 4
        for (uint32_t i = 0; i < KEYS; i += LANES)
            most = _mm512_max_ps(_mm512_loadu_ps(w->p[j] + i), most);
    else
        for (uint32_t i = 0; i < seen; i += LANES)
            most = _mm512_mask_max_ps(most, hth_first16(seen - i),
                                      _mm512_loadu_ps(w->p[j] + i), most);
    return _mm512_reduce_max_ps(most);
}

/* Scores to weights; returns their sum by lanes. Keys not seen weigh 0. */
HTH_INLINE __m512 weigh(const struct hth_attn_panel *p, struct weights *w,
                        uint32_t j, float max)
{
    uint32_t seen = max == -INFINITY ? 0 : p->seen[j];
    __m512 sum = _mm512_setzero_ps(), top = _mm512_set1_ps(max);

#pragma GCC unroll 4
    for (uint32_t i = 0; i < KEYS; i += LANES) {
        __mmask16 k = seen > i ? hth_first16(seen - i) : 0;
        __m512 e = hth_exp16(_mm512_sub_ps(_mm512_loadu_ps(w->p[j] + i), top));

        e = _mm512_maskz_mov_ps(k, e);
        sum = _mm512_add_ps(sum, e);
        _mm512_storeu_ps(w->p[j] + i, e);
    }
    return sum;
}

/* Scores to weights, and the states' maxima and sums. In three passes over the
 * queries, so that their long chains of dependent steps overlap. */
HTH_INLINE void weigh_all(uint32_t nq, const struct hth_attn_panel *p,
                          struct weights *w)
{
    float max[PANEL];
    __m512 sum[PANEL];

#pragma GCC unroll 6
    for (uint32_t j = 0; j < nq; j++)
        max[j] = largest(p, w, j);
#pragma GCC unroll 6
    for (uint32_t j = 0; j < nq; j++)
        sum[j] = weigh(p, w, j, max[j]);
#pragma GCC unroll 6
    for (uint32_t j = 0; j < nq; j++) {
        float *m = &p->state.m[j], *l = &p->state.l[j];

        w->keep[j] = 1.0f;
        if (*m != max[j])
            w->keep[j] =
                _mm512_cvtss_f32(hth_exp16(_mm512_set1_ps(*m - max[j])));
        *m = max[j];
        *l = *l * w->keep[j] + hth_sum16(sum[j]);
    }
}

/* ---- values ----------------------------------------------------------------
 */

/* Scales of all keys for the 32 columns that hold column c; Q8_0 only. */
HTH_INLINE void value_scales(uint32_t type, const struct hth_attn_panel *p,
                             uint32_t c, float *d)
{
    const uint8_t *from = (const uint8_t *)p->block.v + c / COLS * KEYS * 2;

    if (type != HTH_Q8_0)
        return;
    for (uint32_t i = 0; i < KEYS; i += LANES)
        _mm512_storeu_ps(d + i, load_halves(from + i * 2));
}

/* Value `key`, 16 columns from `at` on, a multiple of 16. */
HTH_INLINE __m512 load_value(uint32_t type, const uint8_t *v, size_t number,
                             float d)
{
    if (type == HTH_F32)
        return _mm512_loadu_ps((const float *)(const void *)v + number);
    if (type == HTH_F16)
        return load_halves(v + number * 2);
    return _mm512_mul_ps(load_bytes(v + number), _mm512_set1_ps(d));
}

/* acc = acc keep + sum of weighted values, for nv times 16 columns from c. */
HTH_INLINE void add_values(uint32_t type, uint32_t nq, uint32_t nv,
                           const struct hth_attn_panel *p, uint32_t c,
                           const struct weights *w)
{
    uint32_t dim = hth_attn_dim(p->block.head_dim);
    const uint8_t *v = p->block.v;
    float *acc = p->state.acc + c, d[2][KEYS];
    __m512 sum[24], value[4];

    value_scales(type, p, c, d[0]);
    if (nv > 2)
        value_scales(type, p, c + COLS, d[1]);
    if (type == HTH_Q8_0)
        v += dim / COLS * KEYS * 2;
#pragma GCC unroll 6
    for (uint32_t j = 0; j < nq; j++)
#pragma GCC unroll 4
        for (uint32_t i = 0; i < nv; i++)
            sum[j * nv + i] =
                _mm512_mul_ps(_mm512_set1_ps(w->keep[j]),
                              _mm512_loadu_ps(acc + j * dim + i * 16));
    for (uint32_t key = 0; key < p->keys; key++) {
        fetch(type,
              p->next_v + (v - (const uint8_t *)p->block.v) +
                  ((size_t)key * dim + c) * SIZE(type),
              nv * 16);
#pragma GCC unroll 4
        for (uint32_t i = 0; i < nv; i++)
            value[i] = load_value(type, v, (size_t)key * dim + c + i * 16,
                                  type == HTH_Q8_0 ? d[i / 2][key] : 1.0f);
#pragma GCC unroll 6
        for (uint32_t j = 0; j < nq; j++)
#pragma GCC unroll 4
            for (uint32_t i = 0; i < nv; i++)
                sum[j * nv + i] = _mm512_fmadd_ps(_mm512_set1_ps(w->p[j][key]),
                                                  value[i], sum[j * nv + i]);
    }
#pragma GCC unroll 6
    for (uint32_t j = 0; j < nq; j++)
#pragma GCC unroll 4
        for (uint32_t i = 0; i < nv; i++)
            _mm512_storeu_ps(acc + j * dim + i * 16, sum[j * nv + i]);
}

/* ---- a panel ---------------------------------------------------------------
 */

/* Up to 24 sums at a time: 4 tiles of keys, or 64 columns. */
HTH_INLINE void fold(uint32_t type, uint32_t nq, const struct hth_attn_panel *p)
{
    uint32_t dim = hth_attn_dim(p->block.head_dim), c = 0;
    struct weights w;

    score_tiles(type, nq, p, &w);
    weigh_all(nq, p, &w);
    for (; c + 64 <= dim; c += 64)
        add_values(type, nq, 4, p, c, &w);
    if (c + 32 <= dim) {
        add_values(type, nq, 2, p, c, &w);
        c += 32;
    }
    if (c < dim)
        add_values(type, nq, 1, p, c, &w);
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

void hth__attn_panel_avx512(const struct hth_attn_panel *p)
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
    for (size_t i = 0; i < n; i += 16)
        _mm512_storeu_ps(to + i, load_halves((const uint8_t *)from + i * 2));
}

/* Tiles of K follow each other: {16 scales, 32 columns of 16 keys} each. */
static void widen_keys(const uint8_t *from, size_t n, float *to)
{
    for (size_t i = 0; i < n; i += COLS * LANES) {
        __m512 d = load_halves(from);

        from += LANES * 2;
        for (uint32_t c = 0; c < COLS; c++, from += LANES, to += LANES)
            _mm512_storeu_ps(to, _mm512_mul_ps(load_bytes(from), d));
    }
}

static void widen_values(const struct hth_attn_block *from, uint32_t keys,
                         float *to)
{
    const struct hth_attn_panel p = {.block = *from};
    uint32_t dim = from->head_dim;
    const uint8_t *v = (const uint8_t *)from->v + dim / COLS * KEYS * 2;
    float d[KEYS];

    for (uint32_t c = 0; c < dim; c += COLS) {
        value_scales(HTH_Q8_0, &p, c, d);
        for (size_t key = 0; key < keys; key++)
            for (uint32_t i = 0; i < COLS; i += 16)
                _mm512_storeu_ps(
                    to + key * dim + c + i,
                    load_value(HTH_Q8_0, v, key * dim + c + i, d[key]));
    }
}

void hth__attn_widen_avx512(const struct hth_attn_block *from, uint32_t keys,
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
