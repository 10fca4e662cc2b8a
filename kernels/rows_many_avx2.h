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
#define WIDE_STEPS(traits) false
#else
#define WIDE_STEPS(traits) ((traits).plain)
#endif
#define STEPS_MAX 16u /* of a block: 8 of bytes, or 16 of 16 bits */

/* Half a group. */
struct half_panel {
    __m256i u[PANEL_BLOCKS][STEPS_MAX];
    __m256 d[2 * PANEL_BLOCKS];    /* per block, or per half of one */
    __m256 zero[2 * PANEL_BLOCKS]; /* -MAGIC d */
    __m256 m[2 * PANEL_BLOCKS];
};

struct panel {
    struct half_panel half[2];
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
    union starts starts[SPAN_TILES];
    wide_block wide[SPAN_TILES][PANEL_BLOCKS][HTH_TILE_WIDTH_MAX];
    float sums[STRIP_GROUPS][SPAN_ROWS][HTH_PACK_ROWS];
};

/* ---- panels ------------------------------------------------------------- */

/* Bytes to 16 bits, in the order of wide_block. */
HTH_INLINE void widen_codes(const __m256i u[8], __m256i to[STEPS_MAX])
{
#pragma GCC unroll 8
    for (uint32_t t = 0; t < 8; t++) {
        to[t] = _mm256_srai_epi16(_mm256_slli_epi16(u[t], 8), 8);
        to[8 + t] = _mm256_srai_epi16(u[t], 8);
    }
}

HTH_INLINE void fill_codes(uint32_t type, const uint8_t *w, uint32_t half,
                           __m256i to[STEPS_MAX])
{
    const struct hth_rows_traits traits = hth_rows_traits(type);
    __m256i u[8];

    hth_rows_codes(type, w, half, u);
    if (WIDE_STEPS(traits)) {
        widen_codes(u, to);
        return;
    }
#pragma GCC unroll 8
    for (uint32_t t = 0; t < 8; t++)
        to[t] = unsigned_weights(u[t], traits);
}

/* w: the first unit of the panel in its group. */
HTH_INLINE void fill_panel(uint32_t type, const uint8_t *w, uint32_t half,
                           struct panel *panel)
{
    const __m256 magic = _mm256_set1_ps(-MAGIC);
    const struct hth_rows_traits traits = hth_rows_traits(type);
    const struct hth_pack_shape s = hth_row_shape(type);
    const uint32_t factors = (traits.halves ? 2 : 1) * s.parts;
    struct half_panel *to = &panel->half[half];
    struct hth_rows_factors f;

    for (uint32_t b = 0; b < panel->blocks; b += s.parts) {
        hth_rows_factors(type, w, half, &f);
        for (uint32_t i = 0; i < factors; i++) {
            uint32_t at = b / s.parts * factors + i;

            to->d[at] = f.d[i];
            to->zero[at] = _mm256_mul_ps(f.d[i], magic);
            if (traits.mins)
                to->m[at] = f.m[i];
        }
        w += s.head_bytes;
        for (uint32_t part = 0; part < s.parts; part++, w += s.part_bytes)
            fill_codes(type, w, half, to->u[b + part]);
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

    _mm256_storeu_si256(at, _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8));
    _mm256_storeu_si256(at + 1, _mm256_srai_epi16(v, 8));
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

/* Half a panel times one tile of x. */
struct many {
    const struct half_panel *panel;
    const uint8_t *x; /* the panel's first block */
    const union starts *starts;
    const wide_block (*wide)[HTH_TILE_WIDTH_MAX];
    float (*sums)[HTH_PACK_ROWS];
    uint32_t blocks;
    uint32_t width;
    bool fresh; /* the sums hold nothing yet */
};

/* What the integer sums of block b, half h, begin with. */
HTH_INLINE __m256i begin_of(const struct many *m, uint32_t b, uint32_t h,
                            uint32_t c, struct hth_rows_traits traits)
{
    if (traits.mins || unsigned_offset(traits) == 0)
        return _mm256_castps_si256(_mm256_set1_ps(MAGIC));
    return broadcast32(&m->starts->begin[b][h][c]);
}

#ifdef HTH_ROWS_VNNI

/* The sums of a block or its half h for n rows of x from c on. */
HTH_INLINE void block_sums(const struct many *m, uint32_t b, uint32_t h,
                           uint32_t c, uint32_t n,
                           struct hth_rows_traits traits, __m256i a[SUB])
{
    const uint32_t steps = traits.halves ? 4 : 8;
    const __m256i *u = m->panel->u[b] + h * steps;
    const uint8_t *q =
        m->x + (size_t)b * m->width * HTH_TILE_BLOCK_BYTES + 32 * c + 16 * h;

    KEEP_POINTER(q);
#pragma GCC unroll 4
    for (uint32_t r = 0; r < n; r++)
        a[r] = begin_of(m, b, h, c + r, traits);
#pragma GCC unroll 8
    for (uint32_t i = 0; i < steps; i++)
#pragma GCC unroll 4
        for (uint32_t r = 0; r < n; r++)
            a[r] = _mm256_dpbusd_avx_epi32(a[r], u[i],
                                           broadcast32(q + 32 * r + 4 * i));
}

#else

/* A step's products of pairs, in 32 bits. */
HTH_INLINE void wide_sums(const struct many *m, uint32_t b, uint32_t c,
                          uint32_t n, __m256i a[SUB])
{
    const __m256i *u = m->panel->u[b];
    const uint8_t *q = m->wide[b][c];

    KEEP_POINTER(q);
#pragma GCC unroll 4
    for (uint32_t r = 0; r < n; r++)
        a[r] = _mm256_castps_si256(_mm256_set1_ps(MAGIC));
#pragma GCC unroll 16
    for (uint32_t i = 0; i < STEPS_MAX; i++) {
        __m256i w = u[i];

#pragma GCC unroll 4
        for (uint32_t r = 0; r < n; r++) {
            a[r] = _mm256_add_epi32(
                a[r], _mm256_madd_epi16(w, broadcast32(q + 64 * r + 4 * i)));
            KEEP(a[r]);
        }
        STEP_DONE();
    }
}

/* The sums of a block or its half h for n rows of x from c on. */
HTH_INLINE void block_sums(const struct many *m, uint32_t b, uint32_t h,
                           uint32_t c, uint32_t n,
                           struct hth_rows_traits traits, __m256i a[SUB])
{
    const __m256i ones = _mm256_set1_epi16(1);
    const uint32_t fit = narrow_steps(traits), steps = traits.halves ? 4 : 8;
    const __m256i *u = m->panel->u[b] + h * steps;
    const uint8_t *q =
        m->x + (size_t)b * m->width * HTH_TILE_BLOCK_BYTES + 32 * c + 16 * h;
    __m256i narrow[SUB];

    if (WIDE_STEPS(traits)) {
        wide_sums(m, b, c, n, a);
        return;
    }
    KEEP_POINTER(q);
#pragma GCC unroll 4
    for (uint32_t r = 0; r < n; r++)
        a[r] = begin_of(m, b, h, c + r, traits);
#pragma GCC unroll 8
    for (uint32_t i = 0; i < steps; i++) {
        __m256i w = u[i];

#pragma GCC unroll 4
        for (uint32_t r = 0; r < n; r++) {
            __m256i p =
                _mm256_maddubs_epi16(w, broadcast32(q + 32 * r + 4 * i));

            narrow[r] = i % fit == 0 ? p : _mm256_add_epi16(narrow[r], p);
            KEEP(narrow[r]);
            if (i % fit == fit - 1 || i == steps - 1)
                a[r] =
                    _mm256_add_epi32(a[r], _mm256_madd_epi16(narrow[r], ones));
        }
        STEP_DONE();
    }
}

#endif

/* What block b adds for n rows of x, in units of their scales. */
HTH_INLINE void many_terms(const struct many *m, uint32_t b, uint32_t c,
                           uint32_t n, struct hth_rows_traits traits,
                           __m256 t[SUB])
{
    const __m256 magic = _mm256_set1_ps(MAGIC);
    const uint32_t halves = traits.halves ? 2 : 1;
    const struct half_panel *panel = m->panel;
    __m256i a[SUB];

#pragma GCC unroll 2
    for (uint32_t h = 0; h < halves; h++) {
        const uint32_t at = b * halves + h;

        block_sums(m, b, h, c, n, traits, a);
#pragma GCC unroll 4
        for (uint32_t r = 0; r < n; r++) {
            __m256 s = _mm256_castsi256_ps(a[r]);

            t[r] = h == 0 ? _mm256_fmadd_ps(s, panel->d[at], panel->zero[at])
                          : _mm256_fmadd_ps(_mm256_sub_ps(s, magic),
                                            panel->d[at], t[r]);
            if (traits.mins)
                t[r] = _mm256_fmadd_ps(
                    panel->m[at], broadcast_f32(&m->starts->sum[b][h][c + r]),
                    t[r]);
        }
    }
}

/* n rows of x, from c on; half: of the group. */
HTH_INLINE void run_sub(const struct many *m, uint32_t half, uint32_t c,
                        uint32_t n, struct hth_rows_traits traits)
{
    const uint8_t *d = m->x + 32 * m->width + 4 * c;
    __m256 sum[SUB], t[SUB];

#pragma GCC unroll 4
    for (uint32_t r = 0; r < n; r++)
        sum[r] = m->fresh ? _mm256_setzero_ps()
                          : _mm256_loadu_ps(m->sums[c + r] + 8 * half);
    for (uint32_t b = 0; b < m->blocks; b++) {
        many_terms(m, b, c, n, traits, t);
#pragma GCC unroll 4
        for (uint32_t r = 0; r < n; r++)
            sum[r] = _mm256_fmadd_ps(t[r], broadcast_f32(d + 4 * r), sum[r]);
        d += m->width * HTH_TILE_BLOCK_BYTES;
    }
#pragma GCC unroll 4
    for (uint32_t r = 0; r < n; r++)
        _mm256_storeu_ps(m->sums[c + r] + 8 * half, sum[r]);
}

/* Widths are even. */
HTH_INLINE void run_half(const struct many *m, uint32_t half,
                         struct hth_rows_traits traits)
{
    uint32_t c = 0;

    for (; c + SUB <= m->width; c += SUB)
        run_sub(m, half, c, SUB, traits);
    if (c < m->width)
        run_sub(m, half, c, 2, traits);
}

typedef void (*run_fn)(const struct many *m, uint32_t half);

/* A type of each kind stands for all of its kind. */
#define RUN_OF(name)                                            \
    static void run_##name(const struct many *m, uint32_t half) \
    {                                                           \
        run_half(m, half, hth_rows_traits(HTH_##name));         \
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

/* A panel times all tiles of the span; group: of the strip. */
static void run_tiles(const struct panel *panel, struct span *span,
                      uint32_t group, bool fresh, run_fn run)
{
    struct many m = {
        .blocks = panel->blocks, .width = span->width, .fresh = fresh};

    for (uint32_t t = 0; t < span->tiles; t++) {
        m.x = span->x + t * span->tile_bytes;
        m.starts = &span->starts[t];
        m.wide = (const wide_block(*)[HTH_TILE_WIDTH_MAX])span->wide[t];
        m.sums = span->sums[group] + t * span->width;
        for (uint32_t half = 0; half < 2; half++) {
            m.panel = &panel->half[half];
            run(&m, half);
        }
    }
}

/* The job's rows of weights, at most a strip, times a span. */
HTH_INLINE void run_strip(uint32_t type, const struct hth_q8_product *job,
                          struct span *span)
{
    const struct hth_pack_shape s = hth_row_shape(type);
    const struct hth_mat *w = job->w;
    const uint8_t *x = span->x;
    uint32_t blocks = w->cols / 32;
    struct panel panel;

    for (uint32_t b = 0; b < blocks; b += panel.blocks) {
        const uint8_t *at = (const uint8_t *)w->data +
                            job->first * w->row_bytes +
                            (size_t)b / s.parts * s.unit_bytes;

        panel.blocks = blocks - b < PANEL_BLOCKS ? blocks - b : PANEL_BLOCKS;
        span->x = x + (size_t)b * span->width * HTH_TILE_BLOCK_BYTES;
        fill_span(hth_rows_traits(type), panel.blocks, span);
        for (uint32_t g = 0; g < job->count / HTH_PACK_ROWS; g++) {
            fill_panel(type, at, 0, &panel);
            fill_panel(type, at, 1, &panel);
            run_tiles(&panel, span, g, b == 0, run_of(type));
            at += HTH_PACK_ROWS * w->row_bytes;
        }
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
