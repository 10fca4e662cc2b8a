/* kernels_rows_float_avx2.c - products of packed F16 and BF16 weights with f32
 * rows: a group is two halves of 8 rows in lanes, one sum per output, column
 * after column, in chunks (isa.h).
 *
 * A chunk of two groups is widened once and meets up to three rows of x at a
 * time, 12 registers of sums; with one row of x four chains of sums hide each
 * other's latency. As in rows_many_avx2.h the sums of a strip of weights and a
 * span of x stay together until all chunks are in them. No failure, no state;
 * scratch is 120 KB of stack. */
#include <immintrin.h>
#include <string.h>

#include "kernels/pack.h"
#include "kernels/x86.h"

#define PAIR 2u
#define HALVES 4u /* of a pair of groups */
#define SUB 3u    /* rows of x at a time */
#define CHUNK HTH_FLOAT_CHUNK
#define COLUMN_BYTES 32u /* of a group */
#define FAR_BYTES 4096u
#define NEAR_BYTES 1024u
#define SPAN_TILES 16u
#define SPAN_ROWS (SPAN_TILES * HTH_TILE_WIDTH_MAX)
#define STRIP_PAIRS 4u

struct panel {
    __m256 w[CHUNK][HALVES];
    uint32_t cols;
};

/* Sums of rows of x by a pair of groups. */
typedef float pair_sums[SPAN_ROWS][PAIR * HTH_PACK_ROWS];

/* One thing to multiply. */
struct tile {
    const struct panel *panel;
    const float *x; /* the chunk's first column */
    float (*sums)[PAIR * HTH_PACK_ROWS];
    uint32_t width;
    uint32_t parts; /* halves of groups that exist */
};

/* Two columns of a group. */
HTH_INLINE void widen_two(uint32_t type, const uint8_t *p, uint32_t half,
                          __m256 w[2])
{
    __m256i v;

    if (type == HTH_F16) {
        const __m128i *at = (const __m128i *)(p + 16 * half);

        w[0] = _mm256_cvtph_ps(_mm_loadu_si128(at));
        w[1] = _mm256_cvtph_ps(_mm_loadu_si128(at + 2));
        return;
    }
    v = _mm256_loadu_si256((const __m256i *)(p + 32 * half));
    w[0] = _mm256_castsi256_ps(_mm256_slli_epi32(v, 16));
    w[1] = _mm256_castsi256_ps(
        _mm256_and_si256(v, _mm256_set1_epi32((int)0xffff0000u)));
}

/* p: the chunk in group g of the pair. An odd last column is F16's. */
HTH_INLINE void fill_group(uint32_t type, const uint8_t *p, uint32_t g,
                           struct panel *panel)
{
    uint32_t c = 0;
    __m256 w[2];

    for (; c + 2 <= panel->cols; c += 2, p += 2 * COLUMN_BYTES) {
        _mm_prefetch((const char *)p + FAR_BYTES, _MM_HINT_T1);
        _mm_prefetch((const char *)p + NEAR_BYTES, _MM_HINT_T0);
        for (uint32_t half = 0; half < 2; half++) {
            widen_two(type, p, half, w);
            panel->w[c][2 * g + half] = w[0];
            panel->w[c + 1][2 * g + half] = w[1];
        }
    }
    if (c == panel->cols)
        return;
    for (uint32_t half = 0; half < 2; half++)
        panel->w[c][2 * g + half] =
            _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p + half));
}

static void fill_f16(const uint8_t *p, uint32_t g, struct panel *panel)
{
    fill_group(HTH_F16, p, g, panel);
}

static void fill_bf16(const uint8_t *p, uint32_t g, struct panel *panel)
{
    fill_group(HTH_BF16, p, g, panel);
}

/* `count` rows of x, from `row` on. */
HTH_INLINE void run_sub(const struct tile *t, uint32_t row, uint32_t count,
                        uint32_t parts)
{
    const float *x = t->x + row;
    __m256 sum[SUB][HALVES];

#pragma GCC unroll 3
    for (uint32_t r = 0; r < count; r++)
#pragma GCC unroll 4
        for (uint32_t h = 0; h < parts; h++)
            sum[r][h] = _mm256_setzero_ps();
    for (uint32_t c = 0; c < t->panel->cols; c++, x += t->width)
#pragma GCC unroll 4
        for (uint32_t h = 0; h < parts; h++) {
            __m256 w = t->panel->w[c][h];

#pragma GCC unroll 3
            for (uint32_t r = 0; r < count; r++)
                sum[r][h] = _mm256_fmadd_ps(w, _mm256_set1_ps(x[r]), sum[r][h]);
        }
#pragma GCC unroll 3
    for (uint32_t r = 0; r < count; r++)
#pragma GCC unroll 4
        for (uint32_t h = 0; h < parts; h++) {
            float *to = t->sums[row + r] + 8 * h;

            _mm256_store_ps(to, _mm256_add_ps(_mm256_load_ps(to), sum[r][h]));
        }
}

HTH_INLINE void run_parts(const struct tile *t, uint32_t parts)
{
    uint32_t r = 0;

    for (; r + SUB <= t->width; r += SUB)
        run_sub(t, r, SUB, parts);
    if (t->width - r == 2)
        run_sub(t, r, 2, parts);
    else if (t->width - r == 1)
        run_sub(t, r, 1, parts);
}

static void run_tile(const struct tile *t)
{
    if (t->parts == 2)
        run_parts(t, 2);
    else
        run_parts(t, HALVES);
}

/* The rows of a strip of weights by the tiles of a span. */
struct strip {
    const struct hth_mat *w;
    size_t first;
    uint32_t count;
    const float *x; /* the first tile */
    size_t tile_floats;
    uint32_t width;
    uint32_t tiles;
    _Alignas(64) pair_sums sums[STRIP_PAIRS];
};

static void run_tiles(struct strip *s, const struct panel *panel, uint32_t pair,
                      uint32_t c)
{
    uint32_t left = s->count - pair * PAIR * HTH_PACK_ROWS;
    struct tile tile = {.panel = panel, .width = s->width};

    tile.parts = left > HTH_PACK_ROWS ? HALVES : 2;
    for (uint32_t t = 0; t < s->tiles; t++) {
        tile.x = s->x + t * s->tile_floats + (size_t)c * s->width;
        tile.sums = s->sums[pair] + t * s->width;
        run_tile(&tile);
    }
}

/* A chunk of columns, from c on, of the strip's rows. */
static void run_chunk(struct strip *s, uint32_t c, struct panel *panel)
{
    const struct hth_mat *w = s->w;
    const uint8_t *p = (const uint8_t *)w->data + s->first * w->row_bytes +
                       (size_t)c * COLUMN_BYTES;

    for (uint32_t o = 0; o < s->count; o += HTH_PACK_ROWS) {
        uint32_t group = o / HTH_PACK_ROWS;

        if (w->type == HTH_F16)
            fill_f16(p, group % PAIR, panel);
        else
            fill_bf16(p, group % PAIR, panel);
        p += HTH_PACK_ROWS * w->row_bytes;
        if (group % PAIR == 1 || o + HTH_PACK_ROWS == s->count)
            run_tiles(s, panel, group / PAIR, c);
    }
}

/* All columns. */
static void run_strip(struct strip *s)
{
    struct panel panel;

    for (uint32_t o = 0; o < s->count; o += PAIR * HTH_PACK_ROWS)
        memset(s->sums[o / (PAIR * HTH_PACK_ROWS)], 0,
               s->tiles * s->width * sizeof s->sums[0][0]);
    for (uint32_t c = 0; c < s->w->cols; c += CHUNK) {
        panel.cols = s->w->cols - c < CHUNK ? s->w->cols - c : CHUNK;
        run_chunk(s, c, &panel);
    }
}

/* n rows of x exist; y: of the first of them. */
static void put_sums(const struct strip *s, uint32_t n, float *y, size_t ldy)
{
    for (uint32_t r = 0; r < n; r++, y += ldy)
        for (uint32_t o = 0; o < s->count; o += HTH_PACK_ROWS)
            memcpy(y + s->first + o,
                   s->sums[o / (PAIR * HTH_PACK_ROWS)][r] +
                       o % (PAIR * HTH_PACK_ROWS),
                   HTH_PACK_ROWS * sizeof(float));
}

/* With one tile of x the weights are read from end to end; with more, chunk by
 * chunk, so that x of a chunk stays in a second-level cache. */
void hth__gemm_packed_float_avx2(const struct hth_mat *w, uint32_t first,
                                 uint32_t count, const struct hth_xf *x,
                                 float *y, size_t ldy)
{
    const uint32_t width = hth_tile_width(x->n);
    const uint32_t step =
        PAIR * HTH_PACK_ROWS * (x->n <= HTH_TILE_WIDTH_MAX ? 1 : STRIP_PAIRS);
    struct strip s; /* large: only what is used is written */

    s.w = w;
    s.width = width;
    s.tile_floats = (size_t)x->cols * width;
    for (uint32_t o = 0; o < count; o += step) {
        s.first = (size_t)first + o;
        s.count = count - o < step ? count - o : step;
        s.x = x->tiles;
        for (uint32_t r = 0; r < x->n; r += s.tiles * width) {
            uint32_t left = (x->n - r + width - 1) / width;

            s.tiles = left < SPAN_TILES ? left : SPAN_TILES;
            run_strip(&s);
            left = s.tiles * width;
            put_sums(&s, x->n - r < left ? x->n - r : left, y + r * ldy, ldy);
            s.x += s.tiles * s.tile_floats;
        }
    }
}
