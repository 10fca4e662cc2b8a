/* kernels_rows_float_amx.c - products of packed F16 and BF16 weights with many
 * f32 rows, by Intel's matrix tiles.
 *
 * The tiles multiply bf16, of 8 bits. Two of them hold an f16 weight exactly,
 * and 16 bits and a sign of a number of x: w = w1 + w2, x = x1 + x2 and at most
 * 2^-18 of x more. Of the four products w2 x2, at most 2^-18 of the whole, is
 * left out; the others are exact in f32 and added there. So a term is within
 * 2^-17 of the exact one (2^-18 with BF16), where f16 rows of x would be 2^-12
 * off, and three tile products (two for BF16) take the place of 32 columns of
 * f32 ones. A third part of x would bring that to f32's own rounding, at five
 * products instead of three. Numbers below 2^-126 count as 0, as does what a
 * part of one is below.
 *
 * x lies in tiles of its own layout (hth__tile_float_amx), of up to 16 rows:
 * per 32 columns the two parts, each [width][32]. A block of 32 columns of 16
 * packed BF16 rows is a tile of weights as it is; F16 is cut in two into a
 * panel of 64 rows by CHUNK columns. Sums start from y and end there. No
 * failure; scratch is some 36 KB of stack; tiles are released before it
 * returns. */
#include <string.h>

#include "kernels/amx.h"
#include "kernels/pack.h"
#include "kernels/simd_avx512.h"
#include "kernels/tiles_amx.h"

#define GROUPS 4u /* of 16 rows of weights, in a panel */
#define COLS 32u  /* of a tile of weights or of x */
#define CHUNK 128u
#define BLOCKS (CHUNK / COLS)
#define PARTS 2u                     /* of a number of x */
#define PART_BYTES (COLS * 2u)       /* of a row */
#define TILE_BYTES (16u * COLS * 2u) /* of weights */
#define WIDTH_MAX 16u                /* rows of x in a tile */
#define COLUMN_BYTES 32u             /* of a group of weights */

static uint32_t blocks_of(uint32_t cols)
{
    return (cols + COLS - 1) / COLS;
}

/* As even as tiles of up to 16 rows can be. */
static uint32_t width_of(uint32_t n)
{
    uint32_t tiles = (n + WIDTH_MAX - 1) / WIDTH_MAX;

    return (n + tiles - 1) / tiles;
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
    uint32_t width = width_of(to->n), blocks = blocks_of(to->cols);
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

/* The rows of weights that a call computes. */
struct range {
    const struct hth_mat *w;
    uint32_t first, count;
};

/* The weights of one panel, as they lie in memory. */
struct strip {
    uint32_t row;    /* of the range */
    uint32_t groups; /* 0: behind the last panel */
    uint32_t col, cols;
};

static struct strip strip_at(const struct range *range, uint32_t row,
                             uint32_t col)
{
    uint32_t groups = (range->count - row) / HTH_PACK_ROWS;
    uint32_t left = range->w->cols > col ? range->w->cols - col : 0;
    struct strip s = {.row = row,
                      .groups = groups < GROUPS ? groups : GROUPS,
                      .col = col,
                      .cols = left < CHUNK ? left : CHUNK};

    if (left == 0)
        s.groups = 0;
    return s;
}

/* The order of the panels: all rows of a chunk of columns, whose x so stays in
 * a second-level cache; then the next chunk. */
static struct strip strip_after(const struct range *range,
                                const struct strip *s)
{
    uint32_t row = s->row + s->groups * HTH_PACK_ROWS;

    if (row + HTH_PACK_ROWS <= range->count)
        return strip_at(range, row, s->col);
    return strip_at(range, 0, s->col + CHUNK);
}

static const uint8_t *group_of(const struct range *range, const struct strip *s,
                               uint32_t g)
{
    size_t row = (size_t)range->first + s->row + g * HTH_PACK_ROWS;

    return (const uint8_t *)range->w->data + row * range->w->row_bytes +
           (size_t)s->col * COLUMN_BYTES;
}

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
HTH_INLINE void split_pair(__m512 even, __m512 odd, uint8_t *first,
                           uint8_t *rest)
{
    const __m512i top = _mm512_set1_epi32((int)0xffff0000u);
    const __m512i half = _mm512_set1_epi32(0x8000);
    __m512 w[2] = {even, odd};
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

HTH_INLINE __m512 f16_column(const uint8_t *p)
{
    return _mm512_cvtph_ps(
        _mm256_loadu_si256((const __m256i *)(const void *)p));
}

/* cols columns of group g at p; an odd last one meets a column of zeros. */
static void split_group(struct panel *panel, uint32_t g, const uint8_t *p,
                        uint32_t cols)
{
    uint8_t *first = panel->first[g][0], *rest = panel->rest[g][0];
    uint32_t c = 0, whole = blocks_of(cols) * COLS;

    for (; c + 1 < cols; c += 2)
        split_pair(f16_column(p + c * COLUMN_BYTES),
                   f16_column(p + (c + 1) * COLUMN_BYTES),
                   first + c * COLUMN_BYTES, rest + c * COLUMN_BYTES);
    if (c < cols) {
        split_pair(f16_column(p + c * COLUMN_BYTES), _mm512_setzero_ps(),
                   first + c * COLUMN_BYTES, rest + c * COLUMN_BYTES);
        c += 2;
    }
    memset(first + c * COLUMN_BYTES, 0, (size_t)(whole - c) * COLUMN_BYTES);
    memset(rest + c * COLUMN_BYTES, 0, (size_t)(whole - c) * COLUMN_BYTES);
}

/* BF16 is read where it lies unless its last tile is not whole. */
static void get_weights(const struct range *range, const struct strip *s,
                        struct panel *panel, struct weights *to)
{
    for (uint32_t g = 0; g < s->groups; g++) {
        const uint8_t *p = group_of(range, s, g);

        to->first[g] = panel->first[g][0];
        to->rest[g] = panel->rest[g][0];
        if (range->w->type == HTH_F16) {
            split_group(panel, g, p, s->cols);
        } else if (s->cols % COLS == 0) {
            to->first[g] = p;
        } else {
            uint32_t whole = blocks_of(s->cols) * COLS;

            memcpy(panel->first[g][0], p, (size_t)s->cols * COLUMN_BYTES);
            memset(panel->first[g][0] + (size_t)s->cols * COLUMN_BYTES, 0,
                   (size_t)(whole - s->cols) * COLUMN_BYTES);
        }
    }
    hth_settle_memory(panel);
}

/* ---- products -------------------------------------------------------------
 */

/* Tiles 0 to 3 take the sums of the groups, 4 and 5 the parts of x, 6 and 7
 * weights. */
static void configure(uint32_t width)
{
    struct hth_tile_config c = {.palette = 1};

    for (int i = 0; i < 8; i++) {
        c.row_bytes[i] = 64;
        c.rows[i] = (uint8_t)(i < 6 ? width : 16);
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

/* Block b for group g; for two of them in turn, since a product waits for the
 * one before it on the same sums. */
#define ONE(g)                                              \
    _tile_loadd(6, t->w->first[g] + b * TILE_BYTES, 64);    \
    _tile_dpbf16ps(g, 4, 6);                                \
    _tile_dpbf16ps(g, 5, 6);                                \
    if (half) {                                             \
        _tile_loadd(7, t->w->rest[g] + b * TILE_BYTES, 64); \
        _tile_dpbf16ps(g, 4, 7);                            \
    }
#define TWO(g, h)                                           \
    _tile_loadd(6, t->w->first[g] + b * TILE_BYTES, 64);    \
    _tile_loadd(7, t->w->first[h] + b * TILE_BYTES, 64);    \
    _tile_dpbf16ps(g, 4, 6);                                \
    _tile_dpbf16ps(h, 4, 7);                                \
    _tile_dpbf16ps(g, 5, 6);                                \
    _tile_dpbf16ps(h, 5, 7);                                \
    if (half) {                                             \
        _tile_loadd(6, t->w->rest[g] + b * TILE_BYTES, 64); \
        _tile_loadd(7, t->w->rest[h] + b * TILE_BYTES, 64); \
        _tile_dpbf16ps(g, 4, 6);                            \
        _tile_dpbf16ps(h, 4, 7);                            \
    }

HTH_INLINE void block_products(const struct tile *t, uint32_t b, bool half)
{
    const size_t step = (size_t)t->width * PART_BYTES;
    const uint8_t *x = t->x + b * PARTS * step;

    _tile_loadd(4, x, PART_BYTES);
    _tile_loadd(5, x + step, PART_BYTES);
    if (t->groups > 1) {
        TWO(0, 1)
    } else {
        ONE(0)
    }
    if (t->groups > 3) {
        TWO(2, 3)
    } else if (t->groups > 2) {
        ONE(2)
    }
}

HTH_INLINE void begin_sums(const struct tile *t, const float *y, size_t step)
{
    if (t->fresh) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        return;
    }
    hth_settle_memory(y);
    _tile_loadd(0, y, step);
    if (t->groups > 1)
        _tile_loadd(1, y + 16, step);
    if (t->groups > 2)
        _tile_loadd(2, y + 32, step);
    if (t->groups > 3)
        _tile_loadd(3, y + 48, step);
}

HTH_INLINE void end_sums(const struct tile *t, float *y, size_t step)
{
    _tile_stored(0, y, step);
    if (t->groups > 1)
        _tile_stored(1, y + 16, step);
    if (t->groups > 2)
        _tile_stored(2, y + 32, step);
    if (t->groups > 3)
        _tile_stored(3, y + 48, step);
    hth_settle_memory(y);
}

HTH_INLINE void sum_up(const struct tile *t, float *y, size_t ldy, bool half)
{
    begin_sums(t, y, ldy * sizeof(float));
    for (uint32_t b = 0; b < t->blocks; b++)
        block_products(t, b, half);
    end_sums(t, y, ldy * sizeof(float));
}

/* A tile has no rows in y for the rows of x that do not exist. */
HTH_INLINE void run_tile(const struct tile *t, bool half)
{
    _Alignas(64) float sums[WIDTH_MAX][GROUPS * HTH_PACK_ROWS];
    size_t bytes = t->groups * HTH_PACK_ROWS * sizeof(float);

    if (t->rows == t->width) {
        sum_up(t, t->y, t->ldy, half);
        return;
    }
    for (uint32_t r = 0; r < t->rows && !t->fresh; r++)
        memcpy(sums[r], t->y + r * t->ldy, bytes);
    sum_up(t, sums[0], GROUPS * HTH_PACK_ROWS, half);
    for (uint32_t r = 0; r < t->rows; r++)
        memcpy(t->y + r * t->ldy, sums[r], bytes);
}

static void run_f16(const struct tile *t)
{
    run_tile(t, true);
}

static void run_bf16(const struct tile *t)
{
    run_tile(t, false);
}

/* All of x times one panel; tile says which, for the first. */
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
    const struct range range = {w, first, count};
    struct strip now = strip_at(&range, 0, 0);
    struct panel panel;
    struct weights weights;
    struct tile tile = {.w = &weights, .ldy = ldy, .width = width_of(x->n)};
    const size_t block_bytes = (size_t)PARTS * tile.width * PART_BYTES;

    configure(tile.width);
    while (now.groups > 0) {
        get_weights(&range, &now, &panel, &weights);
        tile.fresh = now.col == 0;
        tile.blocks = blocks_of(now.cols);
        tile.groups = now.groups;
        tile.x = (const uint8_t *)x->tiles + now.col / COLS * block_bytes;
        tile.y = y + first + now.row;
        run_tiles(w->type, x, &tile);
        now = strip_after(&range, &now);
    }
    _tile_release();
}
