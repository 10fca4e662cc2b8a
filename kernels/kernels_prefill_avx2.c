/* kernels_prefill_avx2.c - products of quantised weights with many rows of x,
 * where the time is that of the integer arithmetic.
 *
 * 16 rows of weights by 1024 columns are unpacked once into a panel on the
 * stack, with rows in lanes: 4 columns of 8 rows are one register, so the
 * integer product of a block needs no horizontal sum. A tile of 16 weight
 * rows by up to 4 rows of x is computed at once. Products are added in 16
 * bits as long as they fit, then in 32; each block is scaled and added to the
 * sum, in order (see x86.h: the order every x86 product has).
 *
 * No failure, no state; scratch is some 30 KB of stack. */
#include "kernels/unpack_avx2.h"

#define LANES 8u  /* rows in a register; blocks in a chunk */
#define GROUPS 2u /* registers of rows in a panel */
#define PANEL_ROWS (LANES * GROUPS)
#define PANEL_BLOCKS 32u
#define TILE_MAX 4u /* rows of x at once */

/* w[b][t][g]: columns 4t to 4t + 3 of block b of rows 8g to 8g + 7, rows in
 * lanes; d, m [b][half][g]. */
struct panel {
    __m256i w[PANEL_BLOCKS][8][GROUPS];
    __m256 d[PANEL_BLOCKS][2][GROUPS];
    __m256 m[PANEL_BLOCKS][2][GROUPS];
    uint32_t blocks;
};

/* A panel by up to TILE_MAX rows of x, and where the results go. q and d are
 * borrowed; off is what unsigned weights add too much, negated; g is d times
 * the sum of q. */
struct tile {
    const struct panel *panel;
    uint32_t count; /* rows of x */
    const int8_t *q[TILE_MAX];
    const float *d[TILE_MAX];
    int32_t off[TILE_MAX][2 * PANEL_BLOCKS];
    float g[TILE_MAX][2 * PANEL_BLOCKS];
    float *y; /* of the first row of x and of weights */
    size_t ldy;
    uint32_t rows; /* of weights, 1 to PANEL_ROWS */
    bool fresh;    /* nothing in y yet */
};

/* What a tile's code is compiled for. */
struct shape {
    uint32_t count;
    struct hth_wtraits traits;
};

/* ---- panels ------------------------------------------------------------- */

/* 8 vectors `step` apart, transposed, to places `to_step` apart. */
static void spread(const __m256i *from, size_t step, __m256i *to,
                   size_t to_step, uint32_t count)
{
    __m256i v[LANES];

    for (uint32_t i = 0; i < LANES; i++)
        v[i] = from[i * step];
    hth_transpose8(v);
    for (uint32_t i = 0; i < LANES; i++)
        if (i < count)
            to[i * to_step] = v[i];
}

#define WCHUNK_VECTORS (sizeof(struct hth_wchunk) / sizeof(__m256i))

/* 8 rows to rows in lanes, of `count` blocks from `block` on. */
static void spread_chunk(const struct hth_wchunk rows[LANES], uint32_t group,
                         uint32_t block, uint32_t count, struct panel *panel)
{
    for (uint32_t b = 0; b < count; b++)
        spread(&rows[0].w[b], WCHUNK_VECTORS, &panel->w[block + b][0][group],
               GROUPS, 8);
    for (uint32_t h = 0; h < 2; h++) {
        spread((const __m256i *)&rows[0].d[h], WCHUNK_VECTORS,
               (__m256i *)&panel->d[block][h][group], 2 * GROUPS, count);
        spread((const __m256i *)&rows[0].m[h], WCHUNK_VECTORS,
               (__m256i *)&panel->m[block][h][group], 2 * GROUPS, count);
    }
}

/* Where a panel's weights are. */
struct source {
    const uint8_t *w; /* first byte of the panel's first row */
    size_t row_bytes;
    uint32_t rows; /* 1 to PANEL_ROWS; the others repeat the last */
};

typedef void (*unpack_fn)(const uint8_t *p, uint32_t blocks,
                          struct hth_wchunk *k);

#define UNPACK_OF(name)                                          \
    static void unpack_##name(const uint8_t *p, uint32_t blocks, \
                              struct hth_wchunk *k)              \
    {                                                            \
        if (blocks == LANES)                                     \
            hth_unpack_chunk(HTH_##name, p, LANES, k);           \
        else                                                     \
            hth_unpack_chunk(HTH_##name, p, blocks, k);          \
    }
HTH_QUANT_TYPES(UNPACK_OF)

static unpack_fn unpack_of(uint32_t type)
{
    switch (type) {
#define CASE(name)   \
    case HTH_##name: \
        return unpack_##name;
        HTH_QUANT_TYPES(CASE)
#undef CASE
    default:
        return NULL;
    }
}

static void fill_panel(uint32_t type, const struct source *from,
                       struct panel *panel)
{
    size_t chunk_bytes = hth_wtraits(type).chunk_bytes;
    unpack_fn unpack = unpack_of(type);
    struct hth_wchunk rows[LANES];

    memset(rows, 0, sizeof rows); /* types without minima leave m alone */
    for (uint32_t b = 0; b < panel->blocks; b += LANES) {
        uint32_t left = panel->blocks - b < LANES ? panel->blocks - b : LANES;
        size_t at = b / LANES * chunk_bytes;

        for (uint32_t i = 0; i < PANEL_ROWS; i++) {
            uint32_t row = i < from->rows ? i : from->rows - 1;

            unpack(from->w + row * from->row_bytes + at, left,
                   &rows[i % LANES]);
            if (i % LANES == LANES - 1)
                spread_chunk(rows, i / LANES, b, left, panel);
        }
    }
}

/* ---- tiles -------------------------------------------------------------- */

/* From block `at` of x on, counted through its rows. */
static void load_tile(const struct hth_q8 *x, size_t at,
                      struct hth_wtraits traits, struct tile *tile)
{
    for (uint32_t c = 0; c < tile->count; c++, at += x->cols / HTH_Q8_BLOCK) {
        const int16_t *sums = x->sums + 2 * at;

        tile->q[c] = x->q + at * HTH_Q8_BLOCK;
        tile->d[c] = x->d + at;
        for (uint32_t b = 0; b < tile->panel->blocks; b++) {
            int first = sums[2 * b], second = sums[2 * b + 1];

            if (!traits.halves)
                first += second;
            tile->off[c][2 * b] = -traits.offset * first;
            tile->off[c][2 * b + 1] = -traits.offset * second;
            tile->g[c][2 * b] = tile->d[c][b] * (float)first;
            tile->g[c][2 * b + 1] = tile->d[c][b] * (float)second;
        }
    }
}

HTH_INLINE __m256i four_columns(const int8_t *q)
{
    int32_t v;

    memcpy(&v, q, sizeof v);
    return _mm256_set1_epi32(v);
}

typedef __m256i tile_sums[GROUPS][TILE_MAX];

/* v, of which the compiler knows nothing: it would otherwise compute all
 * products of a block before it adds any, and run out of registers. */
HTH_INLINE __m256i hold(__m256i v)
{
    __asm__("" : "+x"(v));
    return v;
}

/* Unsigned weights: add `steps` groups of 4 columns in 16 bits, then to a. */
HTH_INLINE void add_unsigned(const __m256i (*w)[GROUPS],
                             const int8_t *const q[TILE_MAX], uint32_t steps,
                             uint32_t count, tile_sums a)
{
    tile_sums v;

#pragma GCC unroll 4
    for (uint32_t c = 0; c < count; c++)
#pragma GCC unroll 2
        for (uint32_t g = 0; g < GROUPS; g++)
            v[g][c] = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (uint32_t t = 0; t < steps; t++)
#pragma GCC unroll 4
        for (uint32_t c = 0; c < count; c++) {
            __m256i x = four_columns(q[c] + 4 * t);

#pragma GCC unroll 2
            for (uint32_t g = 0; g < GROUPS; g++) {
                __m256i p = _mm256_maddubs_epi16(w[t][g], x);

                v[g][c] = hold(_mm256_add_epi16(v[g][c], p));
            }
        }
#pragma GCC unroll 4
    for (uint32_t c = 0; c < count; c++)
#pragma GCC unroll 2
        for (uint32_t g = 0; g < GROUPS; g++)
            a[g][c] = _mm256_add_epi32(
                a[g][c], _mm256_madd_epi16(v[g][c], _mm256_set1_epi16(1)));
}

/* Signed weights of 8 bits: two products fill 16 bits; x takes their sign. */
HTH_INLINE void add_signed(const __m256i w[GROUPS],
                           const int8_t *const q[TILE_MAX], uint32_t count,
                           tile_sums a)
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i size[GROUPS];

    for (uint32_t g = 0; g < GROUPS; g++)
        size[g] = _mm256_abs_epi8(w[g]);
#pragma GCC unroll 4
    for (uint32_t c = 0; c < count; c++) {
        __m256i x = four_columns(q[c]);

#pragma GCC unroll 2
        for (uint32_t g = 0; g < GROUPS; g++)
            a[g][c] = hold(_mm256_add_epi32(
                a[g][c],
                _mm256_madd_epi16(
                    _mm256_maddubs_epi16(size[g], _mm256_sign_epi8(x, w[g])),
                    ones)));
    }
}

/* Integer products of half a block or a whole one. */
HTH_INLINE void integer_part(const struct tile *tile, uint32_t b, uint32_t h,
                             struct shape shape, tile_sums a)
{
    const struct panel *panel = tile->panel;
    const struct hth_wtraits traits = shape.traits;
    const uint32_t count = shape.count;
    uint32_t from = 4 * h, to = traits.halves ? from + 4 : 8;
    uint32_t steps = traits.steps > 0 ? traits.steps : 1;
    const int8_t *q[TILE_MAX];

#pragma GCC unroll 4
    for (uint32_t c = 0; c < count; c++)
#pragma GCC unroll 2
        for (uint32_t g = 0; g < GROUPS; g++)
            a[g][c] = traits.offset == 0
                          ? _mm256_setzero_si256()
                          : _mm256_set1_epi32(tile->off[c][2 * b + h]);
#pragma GCC unroll 8
    for (uint32_t t = from; t < to; t += steps) {
#pragma GCC unroll 4
        for (uint32_t c = 0; c < count; c++)
            q[c] = tile->q[c] + 32 * b + 4 * t;
        if (traits.steps > 0)
            add_unsigned(&panel->w[b][t], q, steps, count, a);
        else
            add_signed(panel->w[b][t], q, count, a);
    }
}

/* p[g][c]: what a block, or its first and then its second half, adds. */
HTH_INLINE void block_part(const struct tile *tile, uint32_t b, uint32_t h,
                           struct shape shape, __m256 p[GROUPS][TILE_MAX])
{
    const struct panel *panel = tile->panel;
    const struct hth_wtraits traits = shape.traits;
    const uint32_t count = shape.count;
    tile_sums a;

    integer_part(tile, b, h, shape, a);
#pragma GCC unroll 4
    for (uint32_t c = 0; c < count; c++) {
        __m256 d = _mm256_set1_ps(tile->d[c][b]);
        __m256 gain = _mm256_set1_ps(tile->g[c][2 * b + h]);

#pragma GCC unroll 2
        for (uint32_t g = 0; g < GROUPS; g++) {
            __m256 v = _mm256_cvtepi32_ps(a[g][c]);
            __m256 s = _mm256_mul_ps(panel->d[b][h][g], d);

            p[g][c] =
                h == 0 ? _mm256_mul_ps(v, s) : _mm256_fmadd_ps(v, s, p[g][c]);
            if (traits.mins)
                p[g][c] = _mm256_fmadd_ps(panel->m[b][h][g], gain, p[g][c]);
        }
    }
}

HTH_INLINE void run_tile(const struct tile *tile, uint32_t count,
                         struct hth_wtraits traits)
{
    const struct shape shape = {count, traits};
    const uint32_t rows[GROUPS] = {tile->rows,
                                   tile->rows > LANES ? tile->rows - LANES : 0};
    __m256 sum[GROUPS][TILE_MAX], p[GROUPS][TILE_MAX];

    for (uint32_t c = 0; c < count; c++)
        for (uint32_t g = 0; g < GROUPS; g++)
            sum[g][c] = hth_load8(tile->y + c * tile->ldy + g * LANES,
                                  tile->fresh ? 0 : rows[g]);
    for (uint32_t b = 0; b < tile->panel->blocks; b++) {
        block_part(tile, b, 0, shape, p);
        if (traits.halves)
            block_part(tile, b, 1, shape, p);
#pragma GCC unroll 4
        for (uint32_t c = 0; c < count; c++)
#pragma GCC unroll 2
            for (uint32_t g = 0; g < GROUPS; g++)
                sum[g][c] = _mm256_add_ps(sum[g][c], p[g][c]);
    }
    for (uint32_t c = 0; c < count; c++)
        for (uint32_t g = 0; g < GROUPS; g++)
            hth_store8(tile->y + c * tile->ldy + g * LANES, rows[g], sum[g][c]);
}

HTH_INLINE void run_any(const struct tile *tile, struct hth_wtraits traits)
{
    switch (tile->count) {
    case 1:
        run_tile(tile, 1, traits);
        break;
    case 2:
        run_tile(tile, 2, traits);
        break;
    case 3:
        run_tile(tile, 3, traits);
        break;
    default:
        run_tile(tile, TILE_MAX, traits);
        break;
    }
}

typedef void (*run_fn)(const struct tile *tile);

/* One per combination of traits that a type has: what matters here are
 * offset (or none), halves, mins and steps. */
#define RUN_OF(name, offset, halves, mins, steps)                            \
    static void run_##name(const struct tile *tile)                          \
    {                                                                        \
        run_any(tile, (struct hth_wtraits){0, offset, halves, mins, steps}); \
    }
RUN_OF(offset4, 1, false, false, 8)
RUN_OF(mins4, 0, false, true, 8)
RUN_OF(offset5, 1, false, false, 4)
RUN_OF(mins5, 0, false, true, 4)
RUN_OF(signed8, 0, false, false, 0)
RUN_OF(q2_k, 0, true, true, 4)
RUN_OF(q3_k, 1, true, false, 4)
RUN_OF(q6_k, 1, true, false, 2)

static run_fn run_of(uint32_t type)
{
    switch (type) {
    case HTH_Q4_0:
        return run_offset4;
    case HTH_Q4_1:
    case HTH_Q4_K:
        return run_mins4;
    case HTH_Q5_0:
        return run_offset5;
    case HTH_Q5_1:
    case HTH_Q5_K:
        return run_mins5;
    case HTH_Q2_K:
        return run_q2_k;
    case HTH_Q3_K:
        return run_q3_k;
    case HTH_Q6_K:
        return run_q6_k;
    default:
        return run_signed8;
    }
}

/* ---- the product -------------------------------------------------------- */

/* All rows of x times one panel, which starts at `block`; tile says which and
 * where to, for the first row. */
static void run_panel(const struct hth_q8_product *job, uint32_t block,
                      struct tile *tile)
{
    struct hth_wtraits traits = hth_wtraits(job->w->type);
    uint32_t most = TILE_MAX, n = job->x->n;
    run_fn run = run_of(job->w->type);

    for (uint32_t row = 0; row < n; row += tile->count) {
        size_t at = (size_t)row * (job->x->cols / HTH_Q8_BLOCK) + block;
        uint32_t tiles = (n - row + most - 1) / most;

        tile->count = (n - row + tiles - 1) / tiles;
        load_tile(job->x, at, traits, tile);
        run(tile);
        tile->y += tile->count * job->ldy;
    }
}

void hth__prefill_avx2(const struct hth_q8_product *job)
{
    const struct hth_mat *w = job->w;
    size_t chunk_bytes = hth_wtraits(w->type).chunk_bytes;
    uint32_t blocks = w->cols / HTH_Q8_BLOCK;
    struct panel panel;
    struct tile tile = {.panel = &panel, .ldy = job->ldy};

    for (uint32_t o = 0; o < job->count; o += PANEL_ROWS) {
        size_t first = (size_t)job->first + o;
        const uint8_t *at = (const uint8_t *)w->data + first * w->row_bytes;
        uint32_t b = 0, left = job->count - o;

        tile.rows = left < PANEL_ROWS ? left : PANEL_ROWS;
        do { /* once also without columns: y becomes 0 */
            struct source from = {at + b / LANES * chunk_bytes, w->row_bytes,
                                  tile.rows};

            tile.y = job->y + first;
            tile.fresh = b == 0;
            left = blocks - b;
            panel.blocks = left < PANEL_BLOCKS ? left : PANEL_BLOCKS;
            fill_panel(w->type, &from, &panel);
            run_panel(job, b, &tile);
            b += panel.blocks;
        } while (b < blocks);
    }
}
