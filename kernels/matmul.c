/* matmul.c - products over the threads of a pool.
 *
 * Owns the layout of the scratch, the quantisation of x, and who computes
 * which rows. Rows are cut into tiles that threads take from a counter, so a
 * slow core takes fewer. A tile starts at a multiple of 16 rows of its matrix,
 * and the kernels promise that an output's bits do not depend on the tile it
 * is in; a BLAS tile is always the same 64 rows. So results do not depend on
 * the number of threads, nor on who was fast.
 *
 * Many rows of x against float weights go to OpenBLAS where the instruction
 * set in use says that it is faster (HTH_NO_BLAS leaves it out): each thread
 * calls it for its own tile. No failure. */
#include "kernels/isa.h"

#include <stdatomic.h>
#include <string.h>

#ifndef HTH_NO_BLAS
#include <cblas.h>
#endif

#include "base/limits.h"
#include "base/mem.h"

#define TILE_UNIT 16u
#define TILE_ROWS_MAX 128u
#define TILES_PER_THREAD 4u /* enough to even out unequal cores */
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

struct product {
    const struct hth_matmul_job *job;
    const struct hth_isa *isa;
    struct hth_pool *pool;
    struct hth_q8 q8;
    float *panels; /* [threads][PANEL_ROWS][PANEL_COLS] */
    uint32_t tile_rows;
    bool quantise;         /* some matrix needs it and the threads do it */
    _Atomic uint32_t next; /* tile to be taken */
};

static size_t align_up(size_t n)
{
    return (n + HTH_MEM_ALIGN - 1) & ~(size_t)(HTH_MEM_ALIGN - 1);
}

static bool is_float(uint32_t type)
{
    return type == HTH_F32 || type == HTH_F16 || type == HTH_BF16;
}

/* The scratch holds q, d, sums, then one panel per thread. */
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
    p->panels = (float *)(void *)at;
    p->q8.n = n;
    p->q8.cols = cols;
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
        first += run;
        count -= run;
    }
}

#ifndef HTH_NO_BLAS
static bool use_blas(const struct product *p, const struct hth_mat *w)
{
    return is_float(w->type) && p->isa->blas_rows_min > 0 &&
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

static void float_tile(const struct product *p, uint32_t i, uint32_t first,
                       uint32_t count)
{
    const struct hth_matmul_job *job = p->job;

    for (size_t r = 0; r < job->n; r += FLOAT_X_ROWS) {
        uint32_t left = job->n - (uint32_t)r;

        p->isa->gemm_float(&job->w[i], first, count, job->x + r * job->ldx,
                           job->ldx, left < FLOAT_X_ROWS ? left : FLOAT_X_ROWS,
                           job->y[i] + r * job->ldy[i], job->ldy[i]);
    }
}

static void compute_tile(const struct product *p, uint32_t i, uint32_t first,
                         uint32_t thread)
{
    const struct hth_matmul_job *job = p->job;
    const struct hth_mat *w = &job->w[i];
    uint32_t count = w->rows - first;

    if (use_blas(p, w)) {
        blas_tile(p, i, first, thread);
        return;
    }
    if (count > p->tile_rows)
        count = p->tile_rows;
    if (is_float(w->type))
        float_tile(p, i, first, count);
    else
        p->isa->gemm_q8(w, first, count, &p->q8, job->y[i], job->ldy[i]);
}

/* Tiles are numbered through the matrices in order. A thread's tile numbers
 * only grow, so it walks the matrices once. */
static void product_run(void *ctx, uint32_t thread, uint32_t threads)
{
    struct product *p = ctx;
    uint32_t i = 0, base = 0; /* matrix, number of its first tile */

    if (p->quantise) {
        uint64_t first, count;

        hth_split((uint64_t)p->q8.n * (p->q8.cols / HTH_Q8_BLOCK), 1, thread,
                  threads, &first, &count);
        quantise_blocks(p, first, count);
        hth_pool_barrier(p->pool);
    }
    for (;;) {
        uint32_t tile =
            atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);

        for (; i < p->job->count; i++) {
            uint32_t rows = tile_rows(p, &p->job->w[i]);
            uint32_t tiles = (p->job->w[i].rows + rows - 1) / rows;

            if (tile - base < tiles) {
                compute_tile(p, i, (tile - base) * rows, thread);
                break;
            }
            base += tiles;
        }
        if (i == p->job->count)
            return;
    }
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
    bool any = false;

    for (uint32_t i = 0; i < job->count; i++) {
        if (job->w[i].rows == 0)
            continue;
        HTH_ASSERT(cols == 0 || cols == job->w[i].cols);
        cols = job->w[i].cols;
        any = any || !is_float(job->w[i].type);
    }
    if (cols == 0 || job->n == 0)
        return;
    lay_out(&p, cols);
    HTH_ASSERT(!any || p.q8.cols % HTH_Q8_BLOCK == 0);
    p.tile_rows = choose_tile_rows(job, hth_pool_threads(pool));
    if (any && (uint64_t)p.q8.n * p.q8.cols <= QUANT_ALONE_MAX)
        quantise_blocks(&p, 0, (uint64_t)p.q8.n * p.q8.cols / HTH_Q8_BLOCK);
    else
        p.quantise = any;
    hth_pool_run(pool, product_run, &p);
}
