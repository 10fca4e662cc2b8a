/* kernels_rows_float_avx2.c - products of packed F16 and BF16 weights with f32
 * rows: a group is two halves of 8 rows in lanes, one sum per output, column
 * after column, in chunks (isa.h).
 *
 * A chunk of two groups is widened once and meets up to three rows of x at a
 * time, 12 registers of sums; with one row of x four chains of sums hide each
 * other's latency. No failure, no state; scratch is 16 KB of stack. */
#include <immintrin.h>

#include "kernels/pack.h"
#include "kernels/x86.h"

#define PAIR 2u
#define HALVES 4u /* of a pair of groups */
#define SUB 3u    /* rows of x at a time */
#define CHUNK HTH_FLOAT_CHUNK
#define COLUMN_BYTES 32u /* of a group */
#define FAR_BYTES 4096u
#define NEAR_BYTES 1024u

struct panel {
    __m256 w[CHUNK][HALVES];
    uint32_t cols;
};

/* One thing to multiply, for all rows of x of a tile. */
struct tile {
    const struct panel *panel;
    const float *x; /* the chunk's first column */
    float *y;
    size_t ldy;
    uint32_t width;
    uint32_t rows;  /* of x that exist */
    uint32_t parts; /* halves of groups that exist */
    bool fresh;     /* y holds nothing yet */
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
    for (uint32_t r = 0; r < count && row + r < t->rows; r++)
        for (uint32_t h = 0; h < parts; h++) {
            float *y = t->y + (row + r) * t->ldy + 8 * h;
            __m256 old = t->fresh ? _mm256_setzero_ps() : _mm256_loadu_ps(y);

            _mm256_storeu_ps(y, _mm256_add_ps(old, sum[r][h]));
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

struct float_job {
    const struct hth_mat *w;
    size_t first;
    uint32_t count;
    const struct hth_xf *x;
    float *y;
    size_t ldy;
};

static void run_tiles(const struct float_job *job, struct tile *tile)
{
    uint32_t n = job->x->n, width = tile->width;

    for (uint32_t r = 0; r < n; r += width) {
        tile->rows = n - r < width ? n - r : width;
        run_tile(tile);
        tile->x += (size_t)job->x->cols * width;
        tile->y += width * tile->ldy;
    }
}

/* A chunk of columns of the matrix, from c on. */
static void run_chunk(const struct float_job *job, uint32_t c,
                      struct panel *panel, struct tile *tile)
{
    const struct hth_mat *w = job->w;
    const uint8_t *at = (const uint8_t *)w->data + (size_t)c * COLUMN_BYTES;
    uint32_t groups;

    for (uint32_t o = 0; o < job->count; o += groups * HTH_PACK_ROWS) {
        size_t row = job->first + o;

        groups = job->count - o >= PAIR * HTH_PACK_ROWS ? PAIR : 1;
        for (uint32_t g = 0; g < groups; g++) {
            const uint8_t *p = at + (row + g * HTH_PACK_ROWS) * w->row_bytes;

            if (w->type == HTH_F16)
                fill_f16(p, g, panel);
            else
                fill_bf16(p, g, panel);
        }
        tile->parts = 2 * groups;
        tile->x = job->x->tiles + (size_t)c * tile->width;
        tile->y = job->y + row;
        run_tiles(job, tile);
    }
}

/* All columns of the job's rows. */
static void run_rows(const struct float_job *job)
{
    struct panel panel;
    struct tile tile = {
        .panel = &panel, .ldy = job->ldy, .width = hth_tile_width(job->x->n)};

    for (uint32_t c = 0; c < job->w->cols; c += CHUNK) {
        panel.cols = job->w->cols - c < CHUNK ? job->w->cols - c : CHUNK;
        tile.fresh = c == 0;
        run_chunk(job, c, &panel, &tile);
    }
}

/* With one tile of x the weights are read from end to end; with more, chunk by
 * chunk, so that x of a chunk stays in a second-level cache. */
void hth__gemm_packed_float_avx2(const struct hth_mat *w, uint32_t first,
                                 uint32_t count, const struct hth_xf *x,
                                 float *y, size_t ldy)
{
    struct float_job job = {w, first, count, x, y, ldy};
    uint32_t step = PAIR * HTH_PACK_ROWS;

    if (x->n > HTH_TILE_WIDTH_MAX) {
        run_rows(&job);
        return;
    }
    for (uint32_t o = 0; o < count; o += step) {
        job.first = (size_t)first + o;
        job.count = count - o < step ? count - o : step;
        run_rows(&job);
    }
}
