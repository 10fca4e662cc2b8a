/* matmul.c - products over the threads of a pool.
 *
 * Owns the layout of the scratch, the quantisation of x, and who computes
 * which rows. Rows are cut into tiles, dealt to the threads as deal.h says, so
 * a slow core gets fewer. A tile starts at a multiple of 16 rows of its matrix,
 * and the kernels promise that an output's bits do not depend on the tile it
 * is in; a BLAS tile is always the same 64 rows. So results do not depend on
 * the number of threads, nor on who was fast.
 *
 * Packed matrices (pack.h) have kernels of their own, which read x in tiles;
 * the up to 15 rows behind their last full group are GGUF rows and computed as
 * such.
 *
 * Many rows of x against unpacked float weights go to OpenBLAS where the
 * instruction set in use says that it is faster (HTH_NO_BLAS leaves it out):
 * each thread calls it for its own tile. No failure. */
#include "kernels/isa.h"

#include <string.h>

#ifndef HTH_NO_BLAS
#include <cblas.h>
#endif

#include "base/limits.h"
#include "base/mem.h"
#include "kernels/pack.h"

#define TILE_UNIT 16u
#define TILE_ROWS_MAX 128u
#define TILES_PER_THREAD 8u /* enough to even out unequal cores */
#define DECODE_ROWS_MAX 4u  /* of x; more is a class of its own (deal.h) */
/* Quantising less than this in the caller is cheaper than a barrier. */
#define QUANT_ALONE_MAX 8192u

/* A BLAS tile: 64 weight rows, 1024 columns at a time, as f32 (256 KiB: stays
 * in a second-level cache). */
#define PANEL_ROWS 64u
#define PANEL_COLS 1024u
#define PANEL_BYTES ((size_t)PANEL_ROWS * PANEL_COLS * sizeof(float))
/* Float kernels see so many rows of x at a time: 64 x 2048 of f32 leave half of
 * a second-level cache for the weights. */
#define FLOAT_X_ROWS 64u

struct result {
    float *y;
    size_t ldy;
};

struct product {
    const struct hth_matmul_job *job;
    const struct hth_isa *isa;
    struct hth_pool *pool;
    struct hth_q8 q8;
    struct hth_xf xf;
    float *panels; /* [threads][PANEL_ROWS][PANEL_COLS] */
    uint32_t tile_rows;
    /* What some matrix needs of x: 8-bit rows, those in tiles, f32 tiles. */
    bool quantised, q8_tiles, float_tiles;
    bool prepare;          /* the threads do it */
    struct hth_deal *deal; /* of the tiles; NULL: one thread */
    uint32_t tiles;
    uint32_t next; /* to be taken by the one thread */
};

static size_t align_up(size_t n)
{
    return (n + HTH_MEM_ALIGN - 1) & ~(size_t)(HTH_MEM_ALIGN - 1);
}

static bool is_float(uint32_t type)
{
    return type == HTH_F32 || type == HTH_F16 || type == HTH_BF16;
}

/* The scratch holds q, d, sums, both kinds of tiles, then one panel per thread.
 */
static size_t q_bytes(uint32_t n, uint32_t cols)
{
    return align_up((size_t)n * cols);
}

static size_t d_bytes(uint32_t n, uint32_t cols)
{
    return align_up((size_t)n * (cols / HTH_Q8_BLOCK) * sizeof(float));
}

static size_t sums_bytes(uint32_t n, uint32_t cols)
{
    return align_up((size_t)n * (cols / HTH_Q8_SUM) * sizeof(int16_t));
}

size_t hth_matmul_scratch_bytes(uint32_t n, uint32_t cols, uint32_t threads)
{
    return q_bytes(n, cols) + d_bytes(n, cols) + sums_bytes(n, cols) +
           hth_tile_bytes(n, cols) + hth_tile_floats(n, cols) +
           threads * PANEL_BYTES;
}

static void lay_out(struct product *p, uint32_t cols)
{
    uint32_t n = p->job->n;
    uint8_t *at = p->job->scratch;

    p->q8.q = (int8_t *)at;
    at += q_bytes(n, cols);
    p->q8.d = (float *)(void *)at;
    at += d_bytes(n, cols);
    p->q8.sums = (int16_t *)(void *)at;
    at += sums_bytes(n, cols);
    p->q8.n = p->xf.n = n;
    p->q8.cols = p->xf.cols = cols;
    p->q8.tiles = at;
    at += hth_tile_bytes(n, cols);
    p->xf.tiles = (float *)(void *)at;
    at += hth_tile_floats(n, cols);
    p->panels = (float *)(void *)at;
}

/* Quantise blocks [first, first + count) of x, counted through its rows:
 * blocks are independent, so a single long row is shared out as well. */
static void quantise_blocks(const struct product *p, uint64_t first,
                            uint64_t count)
{
    uint32_t per_row = p->q8.cols / HTH_Q8_BLOCK;

    while (count > 0) {
        uint64_t row = first / per_row, in_row = first % per_row;
        uint64_t run = per_row - in_row < count ? per_row - in_row : count;

        p->isa->q8_row(p->job->x + row * p->job->ldx + in_row * HTH_Q8_BLOCK,
                       (uint32_t)run * HTH_Q8_BLOCK,
                       p->q8.q + first * HTH_Q8_BLOCK, p->q8.d + first,
                       p->q8.sums + first * 2);
        if (p->q8_tiles)
            hth_tile_blocks(&p->q8, (uint32_t)row, (uint32_t)in_row,
                            (uint32_t)run);
        first += run;
        count -= run;
    }
}

/* Columns [first, first + count) of the rows of x one after the other, into
 * the tiles. */
static void tile_floats(const struct product *p, uint64_t first, uint64_t count)
{
    uint32_t cols = p->xf.cols;

    while (count > 0) {
        uint64_t row = first / cols, col = first % cols;
        uint64_t run = cols - col < count ? cols - col : count;

        p->isa->tile_float(&p->xf, (uint32_t)row,
                           p->job->x + row * p->job->ldx + col, (uint32_t)col,
                           (uint32_t)run);
        first += run;
        count -= run;
    }
}

/* One thread's share of getting x ready. */
static void prepare_x(const struct product *p, uint32_t thread,
                      uint32_t threads)
{
    uint64_t numbers = (uint64_t)p->xf.n * p->xf.cols, first, count;

    if (p->quantised) {
        hth_split(numbers / HTH_Q8_BLOCK, 1, thread, threads, &first, &count);
        quantise_blocks(p, first, count);
    }
    if (p->float_tiles) {
        hth_split(numbers, 1, thread, threads, &first, &count);
        tile_floats(p, first, count);
    }
}

#ifndef HTH_NO_BLAS
static bool use_blas(const struct product *p, const struct hth_mat *w)
{
    return is_float(w->type) && !w->packed && p->isa->blas_rows_min > 0 &&
           p->job->n >= p->isa->blas_rows_min;
}

/* count numbers of a float row, from column `first`, as f32 */
static void widen(const struct product *p, const struct hth_mat *w,
                  const uint8_t *row, uint32_t first, uint32_t count,
                  float *dst)
{
    const uint16_t *half = (const uint16_t *)(const void *)row + first;

    if (w->type == HTH_F16)
        p->isa->f16_to_f32(half, dst, count);
    else if (w->type == HTH_F32)
        memcpy(dst, row + first * sizeof(float), count * sizeof(float));
    else
        for (uint32_t c = 0; c < count; c++)
            dst[c] = hth_bf16_to_f32(half[c]);
}

static void blas_tile(const struct product *p, uint32_t i, uint32_t first,
                      uint32_t thread)
{
    const struct hth_matmul_job *job = p->job;
    const struct hth_mat *w = &job->w[i];
    float *panel = p->panels + thread * (PANEL_BYTES / sizeof(float));
    uint32_t rows = w->rows - first;

    if (rows > PANEL_ROWS)
        rows = PANEL_ROWS;
    for (uint32_t c = 0; c < w->cols; c += PANEL_COLS) {
        uint32_t cols = w->cols - c < PANEL_COLS ? w->cols - c : PANEL_COLS;

        for (uint32_t o = 0; o < rows; o++)
            widen(p, w, (const uint8_t *)w->data + (first + o) * w->row_bytes,
                  c, cols, panel + o * PANEL_COLS);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)job->n,
                    (int)rows, (int)cols, 1.0f, job->x + c, (int)job->ldx,
                    panel, PANEL_COLS, c > 0 ? 1.0f : 0.0f, job->y[i] + first,
                    (int)job->ldy[i]);
    }
}
#else
static bool use_blas(const struct product *p, const struct hth_mat *w)
{
    (void)p;
    (void)w;
    return false;
}

static void blas_tile(const struct product *p, uint32_t i, uint32_t first,
                      uint32_t thread)
{
    (void)p;
    (void)i;
    (void)first;
    (void)thread;
}
#endif

static uint32_t tile_rows(const struct product *p, const struct hth_mat *w)
{
    return use_blas(p, w) ? PANEL_ROWS : p->tile_rows;
}

static void float_tile(const struct product *p, const struct hth_mat *w,
                       uint32_t first, uint32_t count, struct result to)
{
    const struct hth_matmul_job *job = p->job;

    for (size_t r = 0; r < job->n; r += FLOAT_X_ROWS) {
        uint32_t left = job->n - (uint32_t)r;

        p->isa->gemm_float(w, first, count, job->x + r * job->ldx, job->ldx,
                           left < FLOAT_X_ROWS ? left : FLOAT_X_ROWS,
                           to.y + r * to.ldy, to.ldy);
    }
}

static void gguf_tile(const struct product *p, const struct hth_mat *w,
                      uint32_t first, uint32_t count, struct result to)
{
    if (is_float(w->type))
        float_tile(p, w, first, count, to);
    else
        p->isa->gemm_q8(w, first, count, &p->q8, to.y, to.ldy);
}

/* Rows behind the last full group of a packed matrix, as a matrix. */
static struct hth_mat tail_of(const struct hth_mat *w)
{
    struct hth_mat tail = *w;
    uint32_t full = w->rows - w->rows % HTH_PACK_ROWS;

    tail.packed = false;
    tail.rows = w->rows - full;
    tail.data = (const uint8_t *)w->data + full * w->row_bytes;
    return tail;
}

static void packed_tile(const struct product *p, const struct hth_mat *w,
                        uint32_t first, uint32_t count, struct result to)
{
    struct hth_mat tail = tail_of(w);
    uint32_t full = w->rows - tail.rows;
    uint32_t grouped = first + count > full ? full - first : count;

    if (grouped > 0 && is_float(w->type))
        p->isa->gemm_packed_float(w, first, grouped, &p->xf, to.y, to.ldy);
    else if (grouped > 0)
        p->isa->gemm_packed(w, first, grouped, &p->q8, to.y, to.ldy);
    if (grouped < count) {
        to.y += full;
        gguf_tile(p, &tail, 0, tail.rows, to);
    }
}

static void compute_tile(const struct product *p, uint32_t i, uint32_t first,
                         uint32_t thread)
{
    const struct hth_matmul_job *job = p->job;
    const struct hth_mat *w = &job->w[i];
    struct result to = {job->y[i], job->ldy[i]};
    uint32_t count = w->rows - first;

    if (use_blas(p, w)) {
        blas_tile(p, i, first, thread);
        return;
    }
    if (count > p->tile_rows)
        count = p->tile_rows;
    if (w->packed)
        packed_tile(p, w, first, count, to);
    else
        gguf_tile(p, w, first, count, to);
}

static uint32_t tiles_of(const struct product *p, const struct hth_mat *w)
{
    uint32_t rows = tile_rows(p, w);

    return (w->rows + rows - 1) / rows;
}

/* Tiles are numbered through the matrices in order. */
static void numbered_tile(const struct product *p, uint32_t tile,
                          uint32_t thread)
{
    uint32_t i = 0, tiles;

    while (tile >= (tiles = tiles_of(p, &p->job->w[i]))) {
        tile -= tiles;
        i++;
    }
    compute_tile(p, i, tile * tile_rows(p, &p->job->w[i]), thread);
}

static bool take(struct product *p, uint32_t thread, uint32_t *tile)
{
    if (p->deal != NULL)
        return hth_deal_take(p->deal, thread, tile);
    *tile = p->next++;
    return *tile < p->tiles;
}

static void product_run(void *ctx, uint32_t thread, uint32_t threads)
{
    struct product *p = ctx;
    uint32_t tile;

    if (p->prepare) {
        prepare_x(p, thread, threads);
        hth_pool_barrier(p->pool);
    }
    while (take(p, thread, &tile))
        numbered_tile(p, tile, thread);
}

/* Products of a row of x by 16 of weights in a tile: long rows of weights make
 * long tiles. */
static uint64_t tile_work(const struct product *p)
{
    return (uint64_t)(p->tile_rows / TILE_UNIT) * p->job->n * p->xf.cols;
}

/* Without a common preparation nobody has to wait for a thread that is late. */
static void deal_and_run(struct product *p)
{
    bool decode = p->job->n <= DECODE_ROWS_MAX;

    for (uint32_t i = 0; i < p->job->count; i++)
        p->tiles += tiles_of(p, &p->job->w[i]);
    p->deal = hth_pool_deal(p->pool);
    if (p->deal != NULL)
        hth_deal_begin(p->deal, decode ? HTH_DEAL_DECODE : HTH_DEAL_PROMPT,
                       p->tiles, tile_work(p));
    if (p->prepare)
        hth_pool_run(p->pool, product_run, p);
    else
        hth_pool_run_any(p->pool, product_run, p);
    if (p->deal != NULL)
        hth_deal_end(p->deal);
}

/* Small enough that every thread gets several tiles, large enough that a tile
 * is worth taking. */
static uint32_t choose_tile_rows(const struct hth_matmul_job *job,
                                 uint32_t threads)
{
    uint64_t rows = 0, tile;

    for (uint32_t i = 0; i < job->count; i++)
        rows += job->w[i].rows;
    tile = rows / ((uint64_t)threads * TILES_PER_THREAD);
    tile -= tile % TILE_UNIT;
    if (tile < TILE_UNIT)
        return TILE_UNIT;
    return tile > TILE_ROWS_MAX ? TILE_ROWS_MAX : (uint32_t)tile;
}

void hth_matmul(struct hth_pool *pool, const struct hth_matmul_job *job)
{
    struct product p = {.job = job, .isa = hth_isa_now(), .pool = pool};
    uint32_t cols = 0;

    for (uint32_t i = 0; i < job->count; i++) {
        const struct hth_mat *w = &job->w[i];

        if (w->rows == 0)
            continue;
        HTH_ASSERT(cols == 0 || cols == w->cols);
        cols = w->cols;
        p.quantised = p.quantised || !is_float(w->type);
        p.q8_tiles = p.q8_tiles || (w->packed && !is_float(w->type));
        p.float_tiles = p.float_tiles || (w->packed && is_float(w->type));
    }
    if (cols == 0 || job->n == 0)
        return;
    lay_out(&p, cols);
    HTH_ASSERT(!p.quantised || p.q8.cols % HTH_Q8_BLOCK == 0);
    p.tile_rows = choose_tile_rows(job, hth_pool_threads(pool));
    if ((uint64_t)job->n * cols <= QUANT_ALONE_MAX)
        prepare_x(&p, 0, 1);
    else
        p.prepare = p.quantised || p.float_tiles;
    deal_and_run(&p);
}
