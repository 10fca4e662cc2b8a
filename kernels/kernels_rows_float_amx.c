/* kernels_rows_float_amx.c - products of packed F16 and BF16 weights with many
 * f32 rows, by Intel's matrix tiles.
 *
 * The tiles multiply bf16, of 8 bits. Three of them hold an f32 number of x
 * exactly, and two an f16 weight: x = x1 + x2 + x3, w = w1 + w2. Of the six
 * products w2 x3 is left out, less than 2^-24 of the whole; the others are
 * exact in f32 and added there, as the vector kernels add. So the result has
 * the rounding errors of f32 sums and no others, but not their bits, and five
 * tile products (three for BF16) take less than a third of the time of the f32
 * ones. Numbers below 2^-126 count as 0, as does what a part of one is below.
 *
 * x lies in tiles of its own layout (hth__tile_float_amx): per 32 columns the
 * three parts, each [width][32]. A block of 32 columns of 16 packed BF16 rows
 * is a tile of weights as it is; F16 is cut in two into a panel of 64 rows by
 * CHUNK columns. No failure; scratch is some 36 KB of stack; tiles are released
 * before it returns. */
#include <string.h>

#include "kernels/amx.h"
#include "kernels/pack.h"
#include "kernels/simd_avx512.h"
#include "kernels/tiles_amx.h"

#define GROUPS 4u /* of 16 rows of weights, in a panel */
#define COLS 32u  /* of a tile of weights or of x */
#define CHUNK 128u
#define BLOCKS (CHUNK / COLS)
#define PARTS 3u
#define PART_BYTES (COLS * 2u)       /* of a row */
#define TILE_BYTES (16u * COLS * 2u) /* of weights */

static uint32_t blocks_of(uint32_t cols)
{
    return (cols + COLS - 1) / COLS;
}

/* ---- x ------------------------------------------------------------------- */

/* The nearest bf16 of each number, taken off *v. */
HTH_INLINE __m256i take_part(__m512 *v)
{
    __m256i h = (__m256i)_mm512_cvtneps_pbh(*v);

    *v = _mm512_sub_ps(*v, _mm512_castsi512_ps(_mm512_slli_epi32(
                               _mm512_cvtepu16_epi32(h), 16)));
    return h;
}

/* Up to 16 numbers, to column c of a block; rows are `step` bytes apart from
 * the same row of the next part. */
HTH_INLINE void put_parts(uint8_t *row, size_t step, uint32_t c, __mmask16 k,
                          const float *x)
{
    __m512 v = _mm512_maskz_loadu_ps(k, x);

    for (uint32_t part = 0; part < PARTS; part++)
        _mm256_mask_storeu_epi16(row + part * step + 2 * c, k, take_part(&v));
}

/* Rows of a tile that do not exist keep what was there: a row of x does not
 * touch another one's sums. Columns behind the last are zeros. */
void hth__tile_float_amx(const struct hth_xf *to, uint32_t row, const float *x,
                         uint32_t col, uint32_t count)
{
    uint32_t width = hth_tile_width(to->n), blocks = blocks_of(to->cols);
    size_t step = (size_t)width * PART_BYTES, block_bytes = PARTS * step;
    uint8_t *tile = (uint8_t *)to->tiles +
                    (size_t)(row / width) * blocks * block_bytes +
                    (size_t)(row % width) * PART_BYTES;
    uint32_t end = col + count;

    for (uint32_t c = col, n; c < end; c += n, x += n) {
        n = 16 - c % 16 < end - c ? 16 - c % 16 : end - c;
        put_parts(tile + c / COLS * block_bytes, step, c % COLS, hth_first16(n),
                  x);
    }
    for (uint32_t c = end; end == to->cols && c % COLS != 0; c++)
        for (uint32_t part = 0; part < PARTS; part++)
            memset(tile + c / COLS * block_bytes + part * step + 2 * (c % COLS),
                   0, 2);
}

/* ---- weights --------------------------------------------------------------
 */

/* Where the tiles of weights of a chunk are: the first parts, and for F16 the
 * rests. */
struct weights {
    const uint8_t *first[GROUPS];
    const uint8_t *rest[GROUPS];
};

struct panel {
    _Alignas(64) uint8_t first[GROUPS][BLOCKS][TILE_BYTES];
    uint8_t rest[GROUPS][BLOCKS][TILE_BYTES];
};

/* Two columns of a group of F16, side by side as pairs of bf16. What is added
 * rounds to nearest, and half a unit up. */
HTH_INLINE void split_pair(__m512i v, uint8_t *first, uint8_t *rest)
{
    const __m512i top = _mm512_set1_epi32((int)0xffff0000u);
    const __m512i half = _mm512_set1_epi32(0x8000);
    __m512 w[2] = {_mm512_cvtph_ps(_mm512_castsi512_si256(v)),
                   _mm512_cvtph_ps(_mm512_extracti64x4_epi64(v, 1))};
    __m512i a[2], b[2];

    for (int i = 0; i < 2; i++) {
        a[i] = _mm512_and_si512(
            _mm512_add_epi32(_mm512_castps_si512(w[i]), half), top);
        b[i] =
            _mm512_castps_si512(_mm512_sub_ps(w[i], _mm512_castsi512_ps(a[i])));
    }
    _mm512_store_si512(first,
                       _mm512_or_si512(_mm512_srli_epi32(a[0], 16), a[1]));
    _mm512_store_si512(rest,
                       _mm512_or_si512(_mm512_srli_epi32(b[0], 16), b[1]));
}

/* cols columns of group g at p; an odd last one meets a column of zeros. */
static void split_group(struct panel *panel, uint32_t g, const uint8_t *p,
                        uint32_t cols)
{
    uint8_t *first = panel->first[g][0], *rest = panel->rest[g][0];

    for (uint32_t c = 0; c < cols; c += 2) {
        __mmask8 k = c + 1 < cols ? 0xff : 0x0f;

        split_pair(_mm512_maskz_loadu_epi64(k, p + c * 32), first + c * 32,
                   rest + c * 32);
    }
    cols += cols % 2;
    memset(first + cols * 32, 0, (size_t)(blocks_of(cols) * COLS - cols) * 32);
    memset(rest + cols * 32, 0, (size_t)(blocks_of(cols) * COLS - cols) * 32);
}

/* BF16 is read where it lies unless its last tile is not whole. */
static void get_weights(uint32_t type, const uint8_t *p, uint32_t g,
                        uint32_t cols, struct panel *panel, struct weights *w)
{
    w->first[g] = panel->first[g][0];
    w->rest[g] = panel->rest[g][0];
    if (type == HTH_F16) {
        split_group(panel, g, p, cols);
    } else if (cols % COLS == 0) {
        w->first[g] = p;
    } else {
        memcpy(panel->first[g][0], p, (size_t)cols * 32);
        memset(panel->first[g][0] + (size_t)cols * 32, 0,
               (size_t)(blocks_of(cols) * COLS - cols) * 32);
    }
}

/* ---- products -------------------------------------------------------------
 */

/* Tiles 0 to 3 take the sums of the groups, 4 to 6 the parts of x, 7 the
 * weights. */
static void configure(uint32_t width)
{
    struct hth_tile_config c = {.palette = 1};

    for (int i = 0; i < 8; i++) {
        c.row_bytes[i] = 64;
        c.rows[i] = (uint8_t)(i < 7 ? width : 16);
    }
    hth_settle_memory(&c);
    _tile_loadconfig(&c);
}

struct tile {
    const struct weights *w;
    const uint8_t *x; /* the chunk's first block */
    float *y;
    size_t ldy;
    uint32_t width;
    uint32_t rows; /* of x that exist */
    uint32_t blocks;
    uint32_t groups;
    bool fresh; /* y holds nothing yet */
};

/* Block b for group g. */
#define TERMS(g)                                            \
    _tile_loadd(7, t->w->first[g] + b * TILE_BYTES, 64);    \
    _tile_dpbf16ps(g, 4, 7);                                \
    _tile_dpbf16ps(g, 5, 7);                                \
    _tile_dpbf16ps(g, 6, 7);                                \
    if (half) {                                             \
        _tile_loadd(7, t->w->rest[g] + b * TILE_BYTES, 64); \
        _tile_dpbf16ps(g, 4, 7);                            \
        _tile_dpbf16ps(g, 5, 7);                            \
    }

HTH_INLINE void block_products(const struct tile *t, uint32_t b, bool half)
{
    const size_t step = (size_t)t->width * PART_BYTES;
    const uint8_t *x = t->x + b * PARTS * step;

    _tile_loadd(4, x, PART_BYTES);
    _tile_loadd(5, x + step, PART_BYTES);
    _tile_loadd(6, x + 2 * step, PART_BYTES);
    TERMS(0)
    if (t->groups > 1) {
        TERMS(1)
    }
    if (t->groups > 2) {
        TERMS(2)
    }
    if (t->groups > 3) {
        TERMS(3)
    }
}

HTH_INLINE void run_tile(const struct tile *t, bool half)
{
    _Alignas(64) float sums[GROUPS][HTH_TILE_WIDTH_MAX][16];

    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (uint32_t b = 0; b < t->blocks; b++)
        block_products(t, b, half);
    _tile_stored(0, sums[0], 64);
    _tile_stored(1, sums[1], 64);
    _tile_stored(2, sums[2], 64);
    _tile_stored(3, sums[3], 64);
    for (uint32_t r = 0; r < t->rows; r++)
        for (uint32_t g = 0; g < t->groups; g++) {
            float *y = t->y + r * t->ldy + 16 * g;
            __m512 sum = _mm512_load_ps(sums[g][r]);

            if (!t->fresh)
                sum = _mm512_add_ps(_mm512_loadu_ps(y), sum);
            _mm512_storeu_ps(y, sum);
        }
}

static void run_f16(const struct tile *t)
{
    run_tile(t, true);
}

static void run_bf16(const struct tile *t)
{
    run_tile(t, false);
}

static void run_tiles(uint32_t type, const struct hth_xf *x, struct tile *t)
{
    size_t tile_bytes =
        (size_t)blocks_of(x->cols) * PARTS * t->width * PART_BYTES;

    for (uint32_t r = 0; r < x->n; r += t->width) {
        t->rows = x->n - r < t->width ? x->n - r : t->width;
        if (type == HTH_F16)
            run_f16(t);
        else
            run_bf16(t);
        t->x += tile_bytes;
        t->y += t->width * t->ldy;
    }
}

void hth__gemm_packed_float_amx(const struct hth_mat *w, uint32_t first,
                                uint32_t count, const struct hth_xf *x,
                                float *y, size_t ldy)
{
    struct panel panel;
    struct weights weights;
    struct tile tile = {
        .w = &weights, .ldy = ldy, .width = hth_tile_width(x->n)};
    const size_t block_bytes = (size_t)PARTS * tile.width * PART_BYTES;

    configure(tile.width);
    for (uint32_t c = 0; c < w->cols; c += CHUNK) {
        uint32_t cols = w->cols - c < CHUNK ? w->cols - c : CHUNK;

        tile.fresh = c == 0;
        tile.blocks = blocks_of(cols);
        for (uint32_t o = 0; o < count; o += tile.groups * HTH_PACK_ROWS) {
            size_t row = (size_t)first + o;

            tile.groups = (count - o) / HTH_PACK_ROWS;
            tile.groups = tile.groups < GROUPS ? tile.groups : GROUPS;
            for (uint32_t g = 0; g < tile.groups; g++)
                get_weights(w->type,
                            (const uint8_t *)w->data +
                                (row + g * HTH_PACK_ROWS) * w->row_bytes +
                                (size_t)c * 32,
                            g, cols, &panel, &weights);
            hth_settle_memory(&panel);
            tile.x = (const uint8_t *)x->tiles + c / COLS * block_bytes;
            tile.y = y + row;
            run_tiles(w->type, x, &tile);
        }
    }
    _tile_release();
}
