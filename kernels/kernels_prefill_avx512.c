/* kernels_prefill_avx512.c - products of quantised weights with many rows of
 * x, where the time is that of the integer arithmetic.
 *
 * 32 rows of weights by 1024 columns are unpacked once into a panel on the
 * stack, with rows in lanes: 4 columns of 16 rows are one register, so the
 * integer product of a block needs no horizontal sum. A tile of 32 weight
 * rows by up to 6 rows of x then stays in registers, and each block is scaled
 * and added to the sum, in order: the order of kernels_decode_avx512.c, hence
 * the same bits, whatever the number of rows.
 *
 * No failure, no state; scratch is some 70 KB of stack. */
#include "kernels/x86.h"
#include "kernels/unpack_avx512.h"

#define LANES 16u /* rows in a register; blocks in a chunk */
#define GROUPS 2u /* registers of rows in a panel */
#define PANEL_ROWS (LANES * GROUPS)
#define PANEL_BLOCKS 32u
#define TILE_MAX 6u /* rows of x at once */

/* u[b][t][g]: columns 4t to 4t + 3 of block b of rows 16g to 16g + 15, rows
 * in lanes; d, m [b][half][g]. */
struct panel {
    __m512i u[PANEL_BLOCKS][8][GROUPS];
    __m512 d[PANEL_BLOCKS][2][GROUPS];
    __m512 m[PANEL_BLOCKS][2][GROUPS];
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

static void spread(const __m512i *from, size_t step, __m512i *to,
                   size_t to_step, uint32_t count)
{
    __m512i v[LANES];

    for (uint32_t i = 0; i < LANES; i++)
        v[i] = from[i * step];
    hth_transpose16(v);
    for (uint32_t i = 0; i < LANES; i++)
        if (i < count)
            to[i * to_step] = v[i];
}

#define WCHUNK_VECTORS (sizeof(struct hth_wchunk) / sizeof(__m512i))

/* Blocks in lanes of 16 rows to rows in lanes of `count` blocks. */
static void spread_chunk(const struct hth_wchunk rows[LANES], uint32_t group,
                         uint32_t block, uint32_t count, struct panel *panel)
{
    for (uint32_t t = 0; t < 8; t++)
        spread(&rows[0].u[t], WCHUNK_VECTORS, &panel->u[block][t][group],
               8 * GROUPS, count);
    for (uint32_t h = 0; h < 2; h++) {
        spread((const __m512i *)&rows[0].d[h], WCHUNK_VECTORS,
               (__m512i *)&panel->d[block][h][group], 2 * GROUPS, count);
        spread((const __m512i *)&rows[0].m[h], WCHUNK_VECTORS,
               (__m512i *)&panel->m[block][h][group], 2 * GROUPS, count);
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

HTH_INLINE __m512i four_columns(const int8_t *q)
{
    int32_t v;

    memcpy(&v, q, sizeof v);
    return _mm512_set1_epi32(v);
}

/* Half a block or a whole one: integer products of steps [from, to), scaled.
 * p[g][c] is what the block adds; h: which half's factors. */
HTH_INLINE void block_part(const struct tile *tile, uint32_t b, uint32_t h,
                           struct shape shape, __m512 p[GROUPS][TILE_MAX])
{
    const struct panel *panel = tile->panel;
    const struct hth_wtraits traits = shape.traits;
    const uint32_t count = shape.count;
    uint32_t from = h * 4, to = traits.halves ? from + 4 : 8;
    __m512i a[GROUPS][TILE_MAX];

    for (uint32_t c = 0; c < count; c++)
        for (uint32_t g = 0; g < GROUPS; g++)
            a[g][c] = traits.mins ? _mm512_setzero_si512()
                                  : _mm512_set1_epi32(tile->off[c][2 * b + h]);
#pragma GCC unroll 8
    for (uint32_t t = from; t < to; t++) {
        __m512i w0 = panel->u[b][t][0], w1 = panel->u[b][t][1];

#pragma GCC unroll 6
        for (uint32_t c = 0; c < count; c++) {
            __m512i x = four_columns(tile->q[c] + 32 * b + 4 * t);

            a[0][c] = _mm512_dpbusd_epi32(a[0][c], w0, x);
            a[1][c] = _mm512_dpbusd_epi32(a[1][c], w1, x);
        }
    }
#pragma GCC unroll 6
    for (uint32_t c = 0; c < count; c++) {
        __m512 d = _mm512_set1_ps(tile->d[c][b]);
        __m512 gain = _mm512_set1_ps(tile->g[c][2 * b + h]);

        for (uint32_t g = 0; g < GROUPS; g++) {
            __m512 v = _mm512_cvtepi32_ps(a[g][c]);
            __m512 s = _mm512_mul_ps(panel->d[b][h][g], d);

            p[g][c] =
                h == 0 ? _mm512_mul_ps(v, s) : _mm512_fmadd_ps(v, s, p[g][c]);
            if (traits.mins)
                p[g][c] = _mm512_fmadd_ps(panel->m[b][h][g], gain, p[g][c]);
        }
    }
}

HTH_INLINE void run_tile(const struct tile *tile, uint32_t count,
                         struct hth_wtraits traits)
{
    const struct shape shape = {count, traits};
    const __mmask16 rows[GROUPS] = {
        hth_first16(tile->rows),
        hth_first16(tile->rows > LANES ? tile->rows - LANES : 0)};
    __m512 sum[GROUPS][TILE_MAX], p[GROUPS][TILE_MAX];

#pragma GCC unroll 6
    for (uint32_t c = 0; c < count; c++)
        for (uint32_t g = 0; g < GROUPS; g++)
            sum[g][c] = _mm512_maskz_loadu_ps(
                tile->fresh ? 0 : rows[g], tile->y + c * tile->ldy + g * LANES);
    for (uint32_t b = 0; b < tile->panel->blocks; b++) {
        block_part(tile, b, 0, shape, p);
        if (traits.halves)
            block_part(tile, b, 1, shape, p);
#pragma GCC unroll 6
        for (uint32_t c = 0; c < count; c++)
            for (uint32_t g = 0; g < GROUPS; g++)
                sum[g][c] = _mm512_add_ps(sum[g][c], p[g][c]);
    }
#pragma GCC unroll 6
    for (uint32_t c = 0; c < count; c++)
        for (uint32_t g = 0; g < GROUPS; g++)
            _mm512_mask_storeu_ps(tile->y + c * tile->ldy + g * LANES, rows[g],
                                  sum[g][c]);
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
    case 4:
        run_tile(tile, 4, traits);
        break;
    case 5:
        run_tile(tile, 5, traits);
        break;
    default:
        run_tile(tile, TILE_MAX, traits);
        break;
    }
}

static void run_plain(const struct tile *tile)
{
    run_any(tile, (struct hth_wtraits){0, 0, false, false});
}

static void run_mins(const struct tile *tile)
{
    run_any(tile, (struct hth_wtraits){0, 0, false, true});
}

static void run_halves(const struct tile *tile)
{
    run_any(tile, (struct hth_wtraits){0, 0, true, false});
}

static void run_both(const struct tile *tile)
{
    run_any(tile, (struct hth_wtraits){0, 0, true, true});
}

typedef void (*run_fn)(const struct tile *tile);

static run_fn run_of(struct hth_wtraits traits)
{
    if (traits.halves)
        return traits.mins ? run_both : run_halves;
    return traits.mins ? run_mins : run_plain;
}

/* ---- the product -------------------------------------------------------- */

/* All rows of x times one panel, which starts at `block`; tile says which and
 * where to, for the first row. */
static void run_panel(const struct hth_q8_product *job, uint32_t block,
                      struct tile *tile)
{
    struct hth_wtraits traits = hth_wtraits(job->w->type);
    /* halves need registers for the first half's results, too */
    uint32_t most = traits.halves ? 4 : TILE_MAX, n = job->x->n;
    run_fn run = run_of(traits);

    for (uint32_t row = 0; row < n; row += tile->count) {
        size_t at = (size_t)row * (job->x->cols / HTH_Q8_BLOCK) + block;
        uint32_t tiles = (n - row + most - 1) / most;

        tile->count = (n - row + tiles - 1) / tiles;
        load_tile(job->x, at, traits, tile);
        run(tile);
        tile->y += tile->count * job->ldy;
    }
}

void hth__prefill_avx512(const struct hth_q8_product *job)
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
