/* kernels_float_avx2.c - products of f32, f16 and bf16 weights with f32
 * rows. One accumulator of 8 lanes per output: lane j sums columns j, j + 8,
 * ... in order, then the lanes are added as a tree; so an output does not
 * depend on what is computed beside it. No failure, no state. */
#include "kernels/simd_avx2.h"

/* One row of x: 8 rows of weights at once hide the latency of the sums. */
#define DECODE_ROWS 8u
/* More rows of x: 4 x 2 outputs stay in registers. */
#define TILE_ROWS 4u
#define TILE 2u
#define FETCH_BYTES 1024 /* ahead, in each row of weights */
/* Blocks of weights and of x, in a second-level cache of 1 MB or more. */
#define W_BYTES (512u << 10)
#define X_BYTES (256u << 10)

struct tile {
    const uint8_t *w;
    size_t row_bytes;
    const float *x;
    size_t ldx;
    uint32_t cols;
    float *y;
    size_t ldy;
};

/* What a tile's code is compiled for: rows of weights by n rows of x. */
struct shape {
    uint32_t type;
    uint32_t rows;
    uint32_t n;
};

/* Columns c to c + 7 of a row, the first n of which exist. */
HTH_INLINE __m256 weights(uint32_t type, const uint8_t *row, size_t c, size_t n)
{
    const void *at = row + c * (type == HTH_F32 ? 4 : 2);
    __m128i half;

    if (type == HTH_F32)
        return hth_load8(at, n);
    half = hth_load8_words(at, n);
    if (type == HTH_F16)
        return _mm256_cvtph_ps(half);
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

/* Columns c to c + width - 1 of a tile; width is 8 or, at the end, less. */
HTH_INLINE void step(struct shape shape, const struct tile *t, size_t c,
                     size_t width, __m256 sum[8])
{
    const uint32_t rows = shape.rows, n = shape.n;
    __m256 x[TILE];

#pragma GCC unroll 2
    for (uint32_t r = 0; r < n; r++)
        x[r] = hth_load8(t->x + r * t->ldx + c, width);
#pragma GCC unroll 8
    for (uint32_t o = 0; o < rows; o++) {
        __m256 w = weights(shape.type, t->w + o * t->row_bytes, c, width);

#pragma GCC unroll 2
        for (uint32_t r = 0; r < n; r++)
            sum[o * n + r] = _mm256_fmadd_ps(w, x[r], sum[o * n + r]);
    }
}

HTH_INLINE void run_tile(uint32_t type, const struct tile *t, uint32_t rows,
                         uint32_t n)
{
    const struct shape shape = {type, rows, n};
    size_t c = 0, size = type == HTH_F32 ? 4 : 2;
    __m256 sum[8];
    float out[8];

#pragma GCC unroll 8
    for (uint32_t i = 0; i < 8; i++)
        sum[i] = _mm256_setzero_ps();
    for (; c + 8 <= t->cols; c += 8) {
        if (n == 1 && c * size % 64 == 0)
            for (uint32_t o = 0; o < rows; o++)
                _mm_prefetch((const char *)t->w + o * t->row_bytes + c * size +
                                 FETCH_BYTES,
                             _MM_HINT_T0);
        step(shape, t, c, 8, sum);
    }
    if (c < t->cols)
        step(shape, t, c, t->cols - c, sum);
    if (rows * n == 1)
        out[0] = hth_sum8(sum[0]);
    else
        _mm256_storeu_ps(out, hth_sum8x8(sum));
    for (uint32_t o = 0; o < rows; o++)
        for (uint32_t r = 0; r < n; r++)
            t->y[r * t->ldy + o] = out[o * n + r];
}

/* `rows` is 8 (with n = 1 only), 4 or 1. */
HTH_INLINE void run_rows(uint32_t type, const struct tile *t, uint32_t rows,
                         uint32_t n)
{
    struct tile at = *t;
    uint32_t r = 0;

    for (; r + TILE <= n; r += TILE) {
        run_tile(type, &at, rows, TILE);
        at.x += TILE * t->ldx;
        at.y += TILE * t->ldy;
    }
    for (; r < n; r++) {
        run_tile(type, &at, rows, 1);
        at.x += t->ldx;
        at.y += t->ldy;
    }
}

HTH_INLINE void run(uint32_t type, struct tile t, uint32_t count, uint32_t n)
{
    while (count > 0) {
        uint32_t rows = count >= TILE_ROWS ? TILE_ROWS : 1;

        if (n == 1 && count >= DECODE_ROWS) {
            rows = DECODE_ROWS;
            run_tile(type, &t, DECODE_ROWS, 1);
        } else if (rows == TILE_ROWS) {
            run_rows(type, &t, TILE_ROWS, n);
        } else {
            run_rows(type, &t, 1, n);
        }
        t.w += rows * t.row_bytes;
        t.y += rows;
        count -= rows;
    }
}

static void run_block(uint32_t type, const struct tile *t, uint32_t count,
                      uint32_t n)
{
    if (type == HTH_F32)
        run(HTH_F32, *t, count, n);
    else if (type == HTH_F16)
        run(HTH_F16, *t, count, n);
    else
        run(HTH_BF16, *t, count, n);
}

/* How many rows of that size to keep in a second-level cache. */
static uint32_t block_rows(size_t bytes, size_t row_bytes)
{
    size_t rows = bytes / (row_bytes + 1) & ~(size_t)7;

    return rows > 8 ? (uint32_t)rows : 8;
}

/* Weights and x are cut into blocks that stay in cache while each row of one
 * meets each row of the other. */
void hth__gemm_float_avx2(const struct hth_mat *w, uint32_t first,
                          uint32_t count, const float *x, size_t ldx,
                          uint32_t n, float *y, size_t ldy)
{
    uint32_t w_rows = block_rows(W_BYTES, w->row_bytes);
    uint32_t x_rows = block_rows(X_BYTES, w->cols * sizeof *x);

    for (uint32_t o = 0; o < count; o += w_rows)
        for (uint32_t r = 0; r < n; r += x_rows) {
            size_t row = first + o;
            struct tile t = {(const uint8_t *)w->data + row * w->row_bytes,
                             w->row_bytes,
                             x + r * ldx,
                             ldx,
                             w->cols,
                             y + r * ldy + row,
                             ldy};

            run_block(w->type, &t, count - o < w_rows ? count - o : w_rows,
                      n - r < x_rows ? n - r : x_rows);
        }
}
