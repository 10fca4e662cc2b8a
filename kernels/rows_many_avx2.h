/* rows_many_avx2.h - products of packed weights with more than four rows of x
 * in 256-bit registers. Internal to gemm_rows_avx2.h, which is compiled with
 * and without HTH_ROWS_VNNI.
 *
 * A panel of 16 rows of weights by 512 columns is unpacked once and meets a
 * span of up to 96 rows of x; the sums of a strip of 128 rows of weights by a
 * span stay in one piece of memory that a second-level cache holds, until all
 * columns are in them. (In y itself, whose rows lie a power of two apart, the
 * same lines took turns in a few sets of the cache: with two threads that took
 * longer than the products.)
 *
 * Integer sums begin at the bits of the float MAGIC, whose unit in the last
 * place is 1: a sum s below 2^22 (it is below 2^20) ends as the float MAGIC +
 * s, and fma(MAGIC + s, d, -MAGIC d) is s d rounded once, since MAGIC d is
 * exact: d has at most 19 bits. One operation where converting first takes two.
 *
 * The arithmetic ports are the limit. For 32 products of codes of up to six
 * bits plain AVX2 takes two operations and a little: one of pairs in 16 bits,
 * one to add it to others of 16 bits as long as they fit. Of signed bytes no
 * two pairs fit: those are widened to 16 bits, x too, and take four. */
#ifndef HTH_KERNELS_ROWS_MANY_AVX2_H
#define HTH_KERNELS_ROWS_MANY_AVX2_H

#include "kernels/rows_avx2.h"
#include "kernels/simd_avx2.h"

#define PANEL_BLOCKS 16u
#define SPAN_TILES 8u
#define SPAN_ROWS (SPAN_TILES * HTH_TILE_WIDTH_MAX)
#define STRIP_GROUPS 8u
#define MAGIC 12582912.0f /* 3 << 22 */

#ifdef HTH_ROWS_VNNI
#define WIDE_STEPS(traits) ((traits).plain && false)
#else
#define WIDE_STEPS(traits) ((traits).plain)
#endif
#define STEPS_MAX 16u /* of a block: 8 of bytes, or 16 of 16 bits */

struct panel {
    __m256i u[PANEL_BLOCKS][STEPS_MAX][2]; /* of the halves of a group */
    __m256 d[2 * PANEL_BLOCKS][2];         /* per block, or per half of one */
    __m256 zero[2 * PANEL_BLOCKS][2];      /* -MAGIC d */
    __m256 m[2 * PANEL_BLOCKS][2];
    uint32_t blocks;
};

/* Of a tile of x and the panel's columns: per block and half of one, what its
 * integer sums begin with, or, with minima, the sums of q as floats. */
union starts {
    int32_t begin[PANEL_BLOCKS][2][16];
    float sum[PANEL_BLOCKS][2][16];
};

/* Rows of x as 16 bits: per row and block the columns 4t and 4t + 2 for all t,
 * then 4t + 1 and 4t + 3. */
typedef uint8_t wide_block[64];

/* Tiles of x that are worked on together, and the sums of a strip. */
struct span {
    const uint8_t *x;  /* the panel's first block in the first tile */
    size_t tile_bytes; /* from a tile to the next */
    uint32_t width;
    uint32_t tiles;
    const uint8_t *next; /* weights of the next panel, to be asked for */
    size_t next_bytes;
    union starts starts[SPAN_TILES];
    wide_block wide[SPAN_TILES][PANEL_BLOCKS][HTH_TILE_WIDTH_MAX];
    _Alignas(64) float sums[STRIP_GROUPS][SPAN_ROWS][HTH_PACK_ROWS];
};

/* Signed bytes as 16 bits: the first of each two, and the second. */
HTH_INLINE __m256i even_bytes(__m256i v)
{
    return _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8);
}

HTH_INLINE __m256i odd_bytes(__m256i v)
{
    return _mm256_srai_epi16(v, 8);
}

/* ---- panels ------------------------------------------------------------- */

/* The codes of half a group's part, every second register from `to` on. */
HTH_INLINE void fill_codes(uint32_t type, const uint8_t *w, uint32_t half,
                           __m256i (*to)[2])
{
    const struct hth_rows_traits traits = hth_rows_traits(type);
    __m256i u[8];

    hth_rows_codes(type, w, half, u);
#pragma GCC unroll 8
    for (uint32_t t = 0; t < 8; t++)
        if (WIDE_STEPS(traits)) {
            to[t][half] = even_bytes(u[t]);
            to[8 + t][half] = odd_bytes(u[t]);
        } else {
            to[t][half] = unsigned_weights(u[t], traits);
        }
}

/* w: the first unit of the panel in its group. */
HTH_INLINE void fill_panel(uint32_t type, const uint8_t *w, uint32_t half,
                           struct panel *panel)
{
    const __m256 magic = _mm256_set1_ps(-MAGIC);
    const struct hth_rows_traits traits = hth_rows_traits(type);
    const struct hth_pack_shape s = hth_row_shape(type);
    const uint32_t factors = (traits.halves ? 2 : 1) * s.parts;
    struct hth_rows_factors f;

    for (uint32_t b = 0; b < panel->blocks; b += s.parts) {
        hth_rows_factors(type, w, half, &f);
        for (uint32_t i = 0; i < factors; i++) {
            uint32_t at = b / s.parts * factors + i;

            panel->d[at][half] = f.d[i];
            panel->zero[at][half] = _mm256_mul_ps(f.d[i], magic);
            if (traits.mins)
                panel->m[at][half] = f.m[i];
        }
        w += s.head_bytes;
        for (uint32_t part = 0; part < s.parts; part++, w += s.part_bytes)
            fill_codes(type, w, half, panel->u[b + part]);
    }
}

/* ---- what goes with x --------------------------------------------------- */

/* sums: of a block of a tile. */
HTH_INLINE void fill_start(struct hth_rows_traits traits, const uint8_t *sums,
                           uint32_t width, union starts *to, uint32_t b)
{
    const __m256i magic = _mm256_castps_si256(_mm256_set1_ps(MAGIC));
    const int offset = unsigned_offset(traits);

    for (uint32_t c = 0; c < width; c += 8) {
        __m256i v = _mm256_maskload_epi32((const int *)(sums + 4 * c),
                                          hth_first8(width - c));

        for (uint32_t h = 0; h < (traits.halves ? 2 : 1); h++)
            if (traits.mins)
                _mm256_storeu_ps(
                    &to->sum[b][h][c],
                    _mm256_cvtepi32_ps(times_sum(v, traits, h, 1)));
            else
                _mm256_storeu_si256(
                    (__m256i *)&to->begin[b][h][c],
                    _mm256_add_epi32(times_sum(v, traits, h, -offset), magic));
    }
}

HTH_INLINE void widen_block(const uint8_t *q, wide_block to)
{
    __m256i v = hth_load32(q);
    __m256i *at = (__m256i *)to;

    _mm256_storeu_si256(at, even_bytes(v));
    _mm256_storeu_si256(at + 1, odd_bytes(v));
}

/* For the panel's columns. */
static void fill_span(struct hth_rows_traits traits, uint32_t blocks,
                      struct span *span)
{
    for (uint32_t t = 0; t < span->tiles; t++) {
        const uint8_t *x = span->x + t * span->tile_bytes;

        for (uint32_t b = 0; b < blocks; b++) {
            if (WIDE_STEPS(traits))
                for (uint32_t c = 0; c < span->width; c++)
                    widen_block(x + 32 * c, span->wide[t][b][c]);
            else if (traits.mins || unsigned_offset(traits) != 0)
                fill_start(traits, x + 36 * span->width, span->width,
                           &span->starts[t], b);
            x += span->width * HTH_TILE_BLOCK_BYTES;
        }
    }
}

/* ---- products ----------------------------------------------------------- */

/* A panel times one tile of x. */
struct many {
    const struct panel *panel;
    const uint8_t *x; /* the panel's first block */
    const union starts *starts;
    const wide_block (*wide)[HTH_TILE_WIDTH_MAX];
    float (*sums)[HTH_PACK_ROWS];
    uint32_t width;
};

/* Where one block, or its half h, of SUB rows of x from c on is. */
struct many_at {
    const __m256i (*u)[2];
    const uint8_t *q; /* per row 32 bytes, or 64 of 16 bits */
    const int32_t *begin;
};

HTH_INLINE struct many_at many_at(const struct many *m, uint32_t b, uint32_t h,
                                  uint32_t c, struct hth_rows_traits traits)
{
    struct many_at at = {m->panel->u[b] + 4 * h,
                         m->x + (size_t)b * m->width * HTH_TILE_BLOCK_BYTES +
                             32 * c + 16 * h,
                         m->starts->begin[b][h] + c};

    if (WIDE_STEPS(traits))
        at.q = m->wide[b][c];
    KEEP_POINTER(at.q);
    return at;
}

/* What row r's integer sums begin with. */
HTH_INLINE __m256i begin_of(const struct many_at *at, uint32_t r,
                            struct hth_rows_traits traits)
{
    if (traits.mins || unsigned_offset(traits) == 0)
        return _mm256_castps_si256(_mm256_set1_ps(MAGIC));
    return broadcast32(at->begin + r);
}

#ifdef HTH_ROWS_VNNI

/* The sums of a block or its half for n rows of x. */
HTH_INLINE void block_sums(const struct many_at *at, uint32_t n,
                           struct hth_rows_traits traits, __m256i a[SUB][2])
{
    const uint32_t steps = traits.halves ? 4 : 8;

#pragma GCC unroll 4
    for (uint32_t r = 0; r < n; r++)
        a[r][0] = a[r][1] = begin_of(at, r, traits);
#pragma GCC unroll 8
    for (uint32_t i = 0; i < steps; i++) {
        const __m256i u = at->u[i][0], v = at->u[i][1];

#pragma GCC unroll 4
        for (uint32_t r = 0; r < n; r++) {
            const __m256i q = broadcast32(at->q + 32 * r + 4 * i);

            a[r][0] = _mm256_dpbusd_avx_epi32(a[r][0], u, q);
            a[r][1] = _mm256_dpbusd_avx_epi32(a[r][1], v, q);
        }
    }
}

#else

/* Of bytes in 16 bits. */
HTH_INLINE void wide_sums(const struct many_at *at, uint32_t n,
                          __m256i a[SUB][2])
{
#pragma GCC unroll 4
    for (uint32_t r = 0; r < n; r++)
        a[r][0] = a[r][1] = _mm256_castps_si256(_mm256_set1_ps(MAGIC));
#pragma GCC unroll 16
    for (uint32_t i = 0; i < STEPS_MAX; i++) {
        const __m256i u = at->u[i][0], v = at->u[i][1];

#pragma GCC unroll 4
        for (uint32_t r = 0; r < n; r++) {
            const __m256i q = broadcast32(at->q + 64 * r + 4 * i);

            a[r][0] = _mm256_add_epi32(a[r][0], _mm256_madd_epi16(u, q));
            a[r][1] = _mm256_add_epi32(a[r][1], _mm256_madd_epi16(v, q));
            KEEP(a[r][0]);
            KEEP(a[r][1]);
        }
        STEP_DONE();
    }
}

/* Of codes of six bits: two steps fit 16 bits. */
HTH_INLINE void paired_sums(const struct many_at *at, uint32_t n,
                            struct hth_rows_traits traits, __m256i a[SUB][2])
{
    const __m256i ones = _mm256_set1_epi16(1);
    const uint32_t steps = traits.halves ? 4 : 8;

#pragma GCC unroll 4
    for (uint32_t i = 0; i < steps; i += 2) {
        const __m256i u[2] = {at->u[i][0], at->u[i][1]};
        const __m256i v[2] = {at->u[i + 1][0], at->u[i + 1][1]};

#pragma GCC unroll 4
        for (uint32_t r = 0; r < n; r++) {
            const __m256i q = broadcast32(at->q + 32 * r + 4 * i);
            const __m256i s = broadcast32(at->q + 32 * r + 4 * i + 4);

#pragma GCC unroll 2
            for (uint32_t k = 0; k < 2; k++) {
                __m256i p = _mm256_add_epi16(_mm256_maddubs_epi16(u[k], q),
                                             _mm256_maddubs_epi16(v[k], s));

                a[r][k] =
                    _mm256_add_epi32(i == 0 ? begin_of(at, r, traits) : a[r][k],
                                     _mm256_madd_epi16(p, ones));
                KEEP(a[r][k]);
            }
        }
        STEP_DONE();
    }
}

/* Of codes of up to five bits: four steps and more fit. */
HTH_INLINE void narrow_sums(const struct many_at *at, uint32_t n,
                            struct hth_rows_traits traits, __m256i a[SUB][2])
{
    const __m256i ones = _mm256_set1_epi16(1);
    const uint32_t fit = narrow_steps(traits), steps = traits.halves ? 4 : 8;
    __m256i p[SUB][2];

#pragma GCC unroll 8
    for (uint32_t i = 0; i < steps; i++) {
        const __m256i u[2] = {at->u[i][0], at->u[i][1]};

#pragma GCC unroll 4
        for (uint32_t r = 0; r < n; r++) {
            const __m256i q = broadcast32(at->q + 32 * r + 4 * i);

#pragma GCC unroll 2
            for (uint32_t k = 0; k < 2; k++) {
                const __m256i v = _mm256_maddubs_epi16(u[k], q);

                p[r][k] = i % fit == 0 ? v : _mm256_add_epi16(p[r][k], v);
                KEEP(p[r][k]);
                if (i % fit == fit - 1 || i == steps - 1)
                    a[r][k] = _mm256_add_epi32(
                        i < fit ? begin_of(at, r, traits) : a[r][k],
                        _mm256_madd_epi16(p[r][k], ones));
            }
        }
        STEP_DONE();
    }
}

HTH_INLINE void block_sums(const struct many_at *at, uint32_t n,
                           struct hth_rows_traits traits, __m256i a[SUB][2])
{
    if (WIDE_STEPS(traits))
        wide_sums(at, n, a);
    else if (narrow_steps(traits) == 2)
        paired_sums(at, n, traits, a);
    else
        narrow_sums(at, n, traits, a);
}

#endif

/* What block b adds for n rows of x, in units of their scales. */
HTH_INLINE void many_terms(const struct many *m, uint32_t b, uint32_t c,
                           uint32_t n, struct hth_rows_traits traits,
                           __m256 t[SUB][2])
{
    const __m256 magic = _mm256_set1_ps(MAGIC);
    const uint32_t halves = traits.halves ? 2 : 1;
    const struct panel *panel = m->panel;
    __m256i a[SUB][2];

#pragma GCC unroll 2
    for (uint32_t h = 0; h < halves; h++) {
        const struct many_at at = many_at(m, b, h, c, traits);
        const uint32_t f = b * halves + h;

        block_sums(&at, n, traits, a);
#pragma GCC unroll 4
        for (uint32_t r = 0; r < n; r++)
#pragma GCC unroll 2
            for (uint32_t k = 0; k < 2; k++) {
                __m256 s = _mm256_castsi256_ps(a[r][k]), d = panel->d[f][k];

                t[r][k] = h == 0 ? _mm256_fmadd_ps(s, d, panel->zero[f][k])
                                 : _mm256_fmadd_ps(_mm256_sub_ps(s, magic), d,
                                                   t[r][k]);
                if (traits.mins)
                    t[r][k] = _mm256_fmadd_ps(
                        panel->m[f][k],
                        broadcast_f32(&m->starts->sum[b][h][c + r]), t[r][k]);
            }
    }
}

/* n rows of x, from c on. Their sums stay in memory: the integers need the
 * registers. */
HTH_INLINE void run_sub(const struct many *from, uint32_t c, uint32_t n,
                        struct hth_rows_traits traits)
{
    const struct many m = *from;
    const uint32_t blocks = m.panel->blocks;
    __m256 t[SUB][2];

    for (uint32_t b = 0; b < blocks; b++) {
        const uint8_t *d = m.x + (size_t)b * m.width * HTH_TILE_BLOCK_BYTES +
                           32 * m.width + 4 * c;

        many_terms(&m, b, c, n, traits, t);
#pragma GCC unroll 4
        for (uint32_t r = 0; r < n; r++)
#pragma GCC unroll 2
            for (uint32_t k = 0; k < 2; k++) {
                float *sum = m.sums[c + r] + 8 * k;

                _mm256_store_ps(sum, _mm256_fmadd_ps(t[r][k],
                                                     broadcast_f32(d + 4 * r),
                                                     _mm256_load_ps(sum)));
            }
    }
}

/* Widths are even. */
HTH_INLINE void run_tile(const struct many *m, struct hth_rows_traits traits)
{
    uint32_t c = 0;

    for (; c + SUB <= m->width; c += SUB)
        run_sub(m, c, SUB, traits);
    if (c < m->width)
        run_sub(m, c, 2, traits);
}

typedef void (*run_fn)(const struct many *m);

/* A type of each kind stands for all of its kind. */
#define RUN_OF(name)                              \
    static void run_##name(const struct many *m)  \
    {                                             \
        run_tile(m, hth_rows_traits(HTH_##name)); \
    }
RUN_OF(Q4_0)
RUN_OF(Q4_1)
RUN_OF(Q5_0)
RUN_OF(Q5_1)
RUN_OF(Q8_0)
RUN_OF(Q2_K)
RUN_OF(Q3_K)
RUN_OF(Q6_K)

static run_fn run_of(uint32_t type)
{
    switch (type) {
    case HTH_Q4_0:
        return run_Q4_0;
    case HTH_Q4_1:
    case HTH_Q4_K:
        return run_Q4_1;
    case HTH_Q5_0:
        return run_Q5_0;
    case HTH_Q5_1:
    case HTH_Q5_K:
        return run_Q5_1;
    case HTH_Q2_K:
        return run_Q2_K;
    case HTH_Q3_K:
        return run_Q3_K;
    case HTH_Q6_K:
        return run_Q6_K;
    default:
        return run_Q8_0;
    }
}

/* ---- all of it ---------------------------------------------------------- */

/* Tile t's part of the weights to come, into the second-level cache: a panel
 * is not read in the order in which memory has them. Asking beyond the end of
 * a matrix is no fault. */
HTH_INLINE void ask_for_next(const struct span *span, uint32_t t)
{
    size_t from = span->next_bytes * t / span->tiles;
    size_t to = span->next_bytes * (t + 1) / span->tiles;

    for (size_t b = from; b < to; b += 64)
        _mm_prefetch((const char *)span->next + b, _MM_HINT_T1);
}

/* A panel times all tiles of the span; group: of the strip. */
static void run_tiles(const struct panel *panel, struct span *span,
                      uint32_t group, run_fn run)
{
    struct many m = {.panel = panel, .width = span->width};

    for (uint32_t t = 0; t < span->tiles; t++) {
        m.x = span->x + t * span->tile_bytes;
        m.starts = &span->starts[t];
        m.wide = (const wide_block(*)[HTH_TILE_WIDTH_MAX])span->wide[t];
        m.sums = span->sums[group] + t * span->width;
        ask_for_next(span, t);
        run(&m);
    }
}

/* The job's rows of weights, at most a strip, times a span. */
HTH_INLINE void run_strip(uint32_t type, const struct hth_q8_product *job,
                          struct span *span)
{
    const struct hth_pack_shape s = hth_row_shape(type);
    const struct hth_mat *w = job->w;
    const uint32_t blocks = w->cols / 32, groups = job->count / HTH_PACK_ROWS;
    const size_t group_bytes = HTH_PACK_ROWS * w->row_bytes;
    const uint8_t *x = span->x;
    const uint8_t *chunk = (const uint8_t *)w->data + job->first * w->row_bytes;
    struct panel panel;

    for (uint32_t g = 0; g < groups; g++)
        memset(span->sums[g], 0,
               span->tiles * span->width * sizeof span->sums[g][0]);
    for (uint32_t b = 0; b < blocks; b += panel.blocks) {
        panel.blocks = blocks - b < PANEL_BLOCKS ? blocks - b : PANEL_BLOCKS;
        span->x = x + (size_t)b * span->width * HTH_TILE_BLOCK_BYTES;
        fill_span(hth_rows_traits(type), panel.blocks, span);
        span->next_bytes = (size_t)panel.blocks / s.parts * s.unit_bytes;
        for (uint32_t g = 0; g < groups; g++) {
            const uint8_t *at = chunk + g * group_bytes;

            span->next =
                g + 1 < groups ? at + group_bytes : chunk + span->next_bytes;
            fill_panel(type, at, 0, &panel);
            fill_panel(type, at, 1, &panel);
            run_tiles(&panel, span, g, run_of(type));
        }
        chunk += span->next_bytes;
    }
    span->x = x;
}

/* The sums of a strip and a span, of which n rows exist, to where they belong.
 */
static void put_sums(const struct hth_q8_product *job, const struct span *span,
                     uint32_t first, uint32_t n)
{
    for (uint32_t r = 0; r < n; r++) {
        float *y = job->y + (first + r) * job->ldy + job->first;

        for (uint32_t g = 0; g < job->count / HTH_PACK_ROWS; g++)
            memcpy(y + g * HTH_PACK_ROWS, span->sums[g][r],
                   sizeof span->sums[g][r]);
    }
}

/* With one tile of x the weights are read from end to end; with more, strip by
 * strip and chunk by chunk. */
HTH_INLINE void many_groups(uint32_t type, const struct hth_q8_product *job)
{
    const uint32_t n = job->x->n, width = hth_tile_width(n);
    const uint32_t step =
        n <= HTH_TILE_WIDTH_MAX ? HTH_PACK_ROWS : STRIP_GROUPS * HTH_PACK_ROWS;
    struct hth_q8_product strip = *job;
    struct span span; /* large: only what is used is written */

    span.width = width;
    span.tile_bytes = (size_t)job->x->cols / 32 * width * HTH_TILE_BLOCK_BYTES;
    for (uint32_t o = 0; o < job->count; o += step) {
        strip.first = job->first + o;
        strip.count = job->count - o < step ? job->count - o : step;
        span.x = job->x->tiles;
        for (uint32_t r = 0; r < n; r += span.tiles * width) {
            uint32_t left = (n - r + width - 1) / width;

            span.tiles = left < SPAN_TILES ? left : SPAN_TILES;
            run_strip(type, &strip, &span);
            left = span.tiles * width;
            put_sums(&strip, &span, r, n - r < left ? n - r : left);
            span.x += span.tiles * span.tile_bytes;
        }
    }
}

#endif
