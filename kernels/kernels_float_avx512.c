/* kernels_float_avx512.c - products of f32, f16 and bf16 weights with f32
 * rows. One accumulator of 16 lanes per output: lane j sums columns j, j + 16,
 * ... in order, then the lanes are added as a tree; so an output does not
 * depend on what is computed beside it. No failure, no state. */
#include "kernels/x86.h"
#include "kernels/simd_avx512.h"

/* One row of x: 8 rows of weights at once hide the latency of the sums. */
#define DECODE_ROWS 8u
/* More rows of x: 4 x 4 outputs stay in registers. */
#define TILE 4u
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

/* Columns [c, c + 16) of a row, those of the mask only. */
HTH_INLINE __m512 weights(uint32_t type, const uint8_t *row, size_t c,
                          __mmask16 k)
{
    __m256i half;

    if (type == HTH_F32)
        return _mm512_maskz_loadu_ps(k, row + 4 * c);
    half = _mm256_maskz_loadu_epi16(k, row + 2 * c);
    if (type == HTH_F16)
        return _mm512_cvtph_ps(half);
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

HTH_INLINE void step(struct shape shape, const struct tile *t, size_t c,
                     __mmask16 k, __m512 sum[16])
{
    const uint32_t rows = shape.rows, n = shape.n;
    __m512 x[TILE];

#pragma GCC unroll 4
    for (uint32_t r = 0; r < n; r++)
        x[r] = _mm512_maskz_loadu_ps(k, t->x + r * t->ldx + c);
#pragma GCC unroll 8
    for (uint32_t o = 0; o < rows; o++) {
        __m512 w = weights(shape.type, t->w + o * t->row_bytes, c, k);

#pragma GCC unroll 4
        for (uint32_t r = 0; r < n; r++)
            sum[o * n + r] = _mm512_fmadd_ps(w, x[r], sum[o * n + r]);
    }
}

HTH_INLINE void run_tile(uint32_t type, const struct tile *t, uint32_t rows,
                         uint32_t n)
{
    const struct shape shape = {type, rows, n};
    size_t c = 0, size = type == HTH_F32 ? 4 : 2;
    __m512 sum[16];
    float out[16];

#pragma GCC unroll 16
    for (uint32_t i = 0; i < 16; i++)
        sum[i] = _mm512_setzero_ps();
    for (; c + 16 <= t->cols; c += 16) {
        if (n == 1 && c * size % 64 == 0)
            for (uint32_t o = 0; o < rows; o++)
                _mm_prefetch((const char *)t->w + o * t->row_bytes + c * size +
                                 FETCH_BYTES,
                             _MM_HINT_T0);
        step(shape, t, c, 0xffff, sum);
    }
    if (c < t->cols)
        step(shape, t, c, hth_first16(t->cols - c), sum);
    if (rows * n == 1)
        out[0] = hth_sum16(sum[0]);
    else
        _mm512_storeu_ps(out, hth_sum16x16(sum));
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
        uint32_t rows = count >= TILE ? TILE : 1;

        if (n == 1 && count >= DECODE_ROWS) {
            rows = DECODE_ROWS;
            run_tile(type, &t, DECODE_ROWS, 1);
        } else if (rows == TILE) {
            run_rows(type, &t, TILE, n);
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
void hth__gemm_float_avx512(const struct hth_mat *w, uint32_t first,
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
