/* kernels_rows_float_avx512.c - products of packed F16 and BF16 weights with
 * f32 rows: 16 rows in lanes, one sum per output, column after column, in
 * chunks (isa.h).
 *
 * Up to FEW rows of x are multiplied as the weights are read, two groups of
 * rows at a time, so that two chains of sums hide each other's latency. For
 * more, a chunk of 32 rows is widened once and meets tiles of up to 12 rows of
 * x. No failure, no state; scratch is 16 KB of stack. */
#include "kernels/pack.h"
#include "kernels/simd_avx512.h"

#define FEW 4u
#define PAIR 2u
#define CHUNK HTH_FLOAT_CHUNK
#define COLUMN_BYTES 32u /* of a group */
#define FAR_BYTES 4096u
#define NEAR_BYTES 1024u

/* Two columns of a group, widened. p: a multiple of two columns on. */
HTH_INLINE void two_columns(uint32_t type, const uint8_t *p, __m512 w[2])
{
    __m512i v = _mm512_loadu_si512(p);

    if (type == HTH_F16) {
        w[0] = _mm512_cvtph_ps(_mm512_castsi512_si256(v));
        w[1] = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(v, 1));
    } else {
        w[0] = _mm512_castsi512_ps(_mm512_slli_epi32(v, 16));
        w[1] = _mm512_castsi512_ps(
            _mm512_and_si512(v, _mm512_set1_epi32((int)0xffff0000u)));
    }
}

/* The last column of an odd number: F16 only. */
HTH_INLINE __m512 last_column(const uint8_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

/* ---- few rows of x ------------------------------------------------------ */

struct few {
    const uint8_t *w[PAIR];
    const float *x; /* the tile */
    uint32_t cols;
};

HTH_INLINE void fetch(const uint8_t *p)
{
    _mm_prefetch((const char *)p + FAR_BYTES, _MM_HINT_T1);
    _mm_prefetch((const char *)p + NEAR_BYTES, _MM_HINT_T0);
}

HTH_INLINE void few_chunk(uint32_t type, uint32_t n, uint32_t groups,
                          const struct few *g, uint32_t from,
                          __m512 part[FEW][PAIR])
{
    uint32_t to = g->cols - from < CHUNK ? g->cols : from + CHUNK, c = from;

#pragma GCC unroll 4
    for (uint32_t r = 0; r < n; r++)
#pragma GCC unroll 2
        for (uint32_t i = 0; i < groups; i++)
            part[r][i] = _mm512_setzero_ps();
    for (; c + 2 <= to; c += 2) {
        __m512 w[PAIR][2];

#pragma GCC unroll 2
        for (uint32_t i = 0; i < groups; i++) {
            fetch(g->w[i] + c * COLUMN_BYTES);
            two_columns(type, g->w[i] + c * COLUMN_BYTES, w[i]);
        }
#pragma GCC unroll 2
        for (uint32_t k = 0; k < 2; k++)
#pragma GCC unroll 4
            for (uint32_t r = 0; r < n; r++) {
                __m512 x = _mm512_set1_ps(g->x[(size_t)(c + k) * n + r]);

#pragma GCC unroll 2
                for (uint32_t i = 0; i < groups; i++)
                    part[r][i] = _mm512_fmadd_ps(w[i][k], x, part[r][i]);
            }
    }
    if (c == to)
        return;
#pragma GCC unroll 4
    for (uint32_t r = 0; r < n; r++)
#pragma GCC unroll 2
        for (uint32_t i = 0; i < groups; i++)
            part[r][i] = _mm512_fmadd_ps(
                last_column(g->w[i] + c * COLUMN_BYTES),
                _mm512_set1_ps(g->x[(size_t)c * n + r]), part[r][i]);
}

/* y: of the first group's first row. */
HTH_INLINE void few_rows(uint32_t type, uint32_t n, uint32_t groups,
                         const struct few *g, float *y, size_t ldy)
{
    __m512 sum[FEW][PAIR], part[FEW][PAIR];

#pragma GCC unroll 4
    for (uint32_t r = 0; r < n; r++)
        sum[r][0] = sum[r][1] = _mm512_setzero_ps();
    for (uint32_t c = 0; c < g->cols; c += CHUNK) {
        few_chunk(type, n, groups, g, c, part);
#pragma GCC unroll 4
        for (uint32_t r = 0; r < n; r++)
#pragma GCC unroll 2
            for (uint32_t i = 0; i < groups; i++)
                sum[r][i] = _mm512_add_ps(sum[r][i], part[r][i]);
    }
#pragma GCC unroll 4
    for (uint32_t r = 0; r < n; r++)
#pragma GCC unroll 2
        for (uint32_t i = 0; i < groups; i++)
            _mm512_storeu_ps(y + r * ldy + 16 * i, sum[r][i]);
}

struct float_job {
    const struct hth_mat *w;
    size_t first;
    uint32_t count;
    const struct hth_xf *x;
    float *y;
    size_t ldy;
};

HTH_INLINE void few_groups(uint32_t type, uint32_t n,
                           const struct float_job *job)
{
    const uint8_t *w =
        (const uint8_t *)job->w->data + job->first * job->w->row_bytes;
    size_t group_bytes = HTH_PACK_ROWS * job->w->row_bytes;
    struct few g = {.x = job->x->tiles, .cols = job->w->cols};
    uint32_t o = 0;

    for (; o + PAIR * HTH_PACK_ROWS <= job->count; o += PAIR * HTH_PACK_ROWS) {
        g.w[0] = w + o / HTH_PACK_ROWS * group_bytes;
        g.w[1] = g.w[0] + group_bytes;
        few_rows(type, n, PAIR, &g, job->y + job->first + o, job->ldy);
    }
    if (o < job->count) {
        g.w[0] = g.w[1] = w + o / HTH_PACK_ROWS * group_bytes;
        few_rows(type, n, 1, &g, job->y + job->first + o, job->ldy);
    }
}

static void few(const struct float_job *job)
{
    bool half = job->w->type == HTH_F16;

#define FEW_CASE(n)                       \
    case n:                               \
        if (half)                         \
            few_groups(HTH_F16, n, job);  \
        else                              \
            few_groups(HTH_BF16, n, job); \
        break
    switch (job->x->n) {
        FEW_CASE(1);
        FEW_CASE(2);
        FEW_CASE(3);
        FEW_CASE(4);
    default:
        break;
    }
#undef FEW_CASE
}

/* ---- many --------------------------------------------------------------- */

/* A chunk of two groups, widened. */
struct panel {
    __m512 w[CHUNK][PAIR];
    uint32_t cols;
};

static void fill_panel(uint32_t type, const uint8_t *p, uint32_t g,
                       struct panel *panel)
{
    uint32_t c = 0;
    __m512 w[2];

    for (; c + 2 <= panel->cols; c += 2, p += 2 * COLUMN_BYTES) {
        if (type == HTH_F16)
            two_columns(HTH_F16, p, w);
        else
            two_columns(HTH_BF16, p, w);
        panel->w[c][g] = w[0];
        panel->w[c + 1][g] = w[1];
    }
    if (c < panel->cols)
        panel->w[c][g] = last_column(p);
}

struct tile {
    const struct panel *panel;
    const float *x; /* the chunk's first column */
    float *y;
    size_t ldy;
    uint32_t rows; /* of x that exist */
    bool fresh;    /* y holds nothing yet */
};

HTH_INLINE void run_tile(const struct tile *t, uint32_t width, uint32_t groups)
{
    __m512 sum[HTH_TILE_WIDTH_MAX][PAIR];
    const float *x = t->x;

#pragma GCC unroll 12
    for (uint32_t r = 0; r < width; r++)
        sum[r][0] = sum[r][1] = _mm512_setzero_ps();
    for (uint32_t c = 0; c < t->panel->cols; c++, x += width) {
        const __m512 *w = t->panel->w[c];

#pragma GCC unroll 12
        for (uint32_t r = 0; r < width; r++) {
            __m512 v = _mm512_set1_ps(x[r]);

#pragma GCC unroll 2
            for (uint32_t g = 0; g < groups; g++)
                sum[r][g] = _mm512_fmadd_ps(w[g], v, sum[r][g]);
        }
    }
#pragma GCC unroll 12
    for (uint32_t r = 0; r < width; r++) {
        float *y = t->y + r * t->ldy;

        if (r >= t->rows)
            break;
#pragma GCC unroll 2
        for (uint32_t g = 0; g < groups; g++) {
            __m512 old =
                t->fresh ? _mm512_setzero_ps() : _mm512_loadu_ps(y + 16 * g);

            _mm512_storeu_ps(y + 16 * g, _mm512_add_ps(old, sum[r][g]));
        }
    }
}

HTH_INLINE void run_width(const struct tile *t, uint32_t width, uint32_t groups)
{
    switch (width) {
    case 6:
        run_tile(t, 6, groups);
        break;
    case 8:
        run_tile(t, 8, groups);
        break;
    case 10:
        run_tile(t, 10, groups);
        break;
    default:
        run_tile(t, HTH_TILE_WIDTH_MAX, groups);
        break;
    }
}

static void run_one(const struct tile *t, uint32_t width)
{
    run_width(t, width, 1);
}

static void run_pair(const struct tile *t, uint32_t width)
{
    run_width(t, width, PAIR);
}

static void run_tiles(const struct float_job *job, struct tile *tile,
                      uint32_t groups)
{
    uint32_t n = job->x->n, width = hth_tile_width(n);

    for (uint32_t r = 0; r < n; r += width) {
        tile->rows = n - r < width ? n - r : width;
        if (groups == 1)
            run_one(tile, width);
        else
            run_pair(tile, width);
        tile->x += (size_t)job->x->cols * width;
        tile->y += width * tile->ldy;
    }
}

static void many_rows(const struct float_job *job)
{
    const struct hth_mat *w = job->w;
    uint32_t width = hth_tile_width(job->x->n);
    struct panel panel;
    struct tile tile = {.panel = &panel, .ldy = job->ldy};

    for (uint32_t c = 0; c < w->cols; c += CHUNK) {
        const uint8_t *at = (const uint8_t *)w->data + (size_t)c * COLUMN_BYTES;
        uint32_t groups;

        panel.cols = w->cols - c < CHUNK ? w->cols - c : CHUNK;
        tile.fresh = c == 0;
        for (uint32_t o = 0; o < job->count; o += groups * HTH_PACK_ROWS) {
            size_t row = job->first + o;

            groups = job->count - o >= PAIR * HTH_PACK_ROWS ? PAIR : 1;
            for (uint32_t g = 0; g < groups; g++)
                fill_panel(w->type,
                           at + (row + g * HTH_PACK_ROWS) * w->row_bytes, g,
                           &panel);
            tile.x = job->x->tiles + (size_t)c * width;
            tile.y = job->y + row;
            run_tiles(job, &tile, groups);
        }
    }
}

/* With one tile of x the weights are read from end to end; with more, chunk by
 * chunk, so that x of a chunk stays in a second-level cache. */
static void many(struct float_job job)
{
    const uint32_t step = PAIR * HTH_PACK_ROWS;
    struct float_job rows = job;

    if (job.x->n > HTH_TILE_WIDTH_MAX) {
        many_rows(&job);
        return;
    }
    for (uint32_t o = 0; o < job.count; o += step) {
        rows.first = job.first + o;
        rows.count = job.count - o < step ? job.count - o : step;
        many_rows(&rows);
    }
}

void hth__gemm_packed_float_avx512(const struct hth_mat *w, uint32_t first,
                                   uint32_t count, const struct hth_xf *x,
                                   float *y, size_t ldy)
{
    const struct float_job job = {w, first, count, x, y, ldy};

    if (x->n <= FEW)
        few(&job);
    else
        many(job);
}
