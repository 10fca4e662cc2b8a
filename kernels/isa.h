/* isa.h - the seam between the operations of ops.h and their instruction-set
 * versions. Internal to kernels/ (and its tests).
 *
 * One table per set: kernels_ref.c (scalar, the definition), *_avx2.c,
 * *_avx512.c, *_neon.c, *_asimd.c. Entries left NULL are filled from the next
 * best set that the CPU has.
 *
 * Quantised activations: rows of int8 in blocks of 32 with an f32 scale d per
 * block (d = max|x| / 127, q = round(x / d)), and the sums of q over each 16
 * numbers, which types with an offset or a minimum need. One format serves
 * every quantised weight type, so q, k, v of different types share it. */
#ifndef HTH_KERNELS_ISA_H
#define HTH_KERNELS_ISA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/attn.h"
#include "kernels/ops.h"

#define HTH_Q8_BLOCK 32u
#define HTH_Q8_SUM 16u

struct hth_q8 {
    int8_t *q;     /* [n][cols], rows 64-byte aligned when cols % 64 == 0 */
    float *d;      /* [n][cols / 32] */
    int16_t *sums; /* [n][cols / 16] */
    uint32_t n;
    uint32_t cols;
    uint8_t *tiles; /* the same rows as packed kernels want them, or NULL */
};

/* So many queries (rows times heads of a group) go through a block of keys at
 * a time: six by 64 keys fill the registers of AVX-512, six by 16 those of
 * AVX2 and NEON. */
#define HTH_ATTN_PANEL 6u

struct hth_attn_panel {
    struct hth_attn_block block; /* only read */
    /* Like block's, of the block to come, or block's own: may be asked for
     * while this one is computed, evenly, since a burst would be waited for. */
    const uint8_t *next_k;
    const uint8_t *next_v;
    const float *q;       /* [head_dim][HTH_ATTN_PANEL], already scaled */
    const uint32_t *seen; /* [queries] leading keys that each sees */
    uint32_t keys;        /* the largest of seen, 1 to HTH_ATTN_KEYS */
    uint32_t queries;     /* 1 to HTH_ATTN_PANEL */
    struct hth_attn_state state; /* of these queries */
};

/* Kernels of packed weights (pack.h) read x in tiles of `width` rows of x,
 * hth_tile_width(n) of them: tile by tile, within it by blocks of 32 columns.
 * A block is q [width][32] int8, d [width] f32, sums [width][2] int16. Rows
 * past n are zeros. The float kernels' tiles are f32 [cols][width]. */
#define HTH_TILE_WIDTH_MAX 12u
#define HTH_TILE_BLOCK_BYTES 40u /* per row of x */
/* 1 to 4, then even numbers; the tiles of an n are as even as they can be. */
uint32_t hth_tile_width(uint32_t n);
size_t hth_tile_bytes(uint32_t n, uint32_t cols);
/* Copy blocks [block, block + count) of row `row` of x to x->tiles; the last
 * row brings the zeros behind it. */
void hth_tile_blocks(const struct hth_q8 *x, uint32_t row, uint32_t block,
                     uint32_t count);

/* f32 rows in tiles. */
struct hth_xf {
    float *tiles;
    uint32_t n;
    uint32_t cols;
};
/* Bytes of the tiles of any set. */
size_t hth_tile_floats(uint32_t n, uint32_t cols);
/* Columns [col, col + count) of row `row`, from x. */
void hth_tile_float_row(const struct hth_xf *to, uint32_t row, const float *x,
                        uint32_t col, uint32_t count);

struct hth_isa {
    const char *name;
    bool (*usable)(void); /* does this CPU have it? */
    /* Quantise one row of cols numbers (cols % 32 == 0). */
    void (*q8_row)(const float *x, uint32_t cols, int8_t *q, float *d,
                   int16_t *sums);
    /* y[r * ldy + o] = sum_c x[r][c] w[o][c] for all x->n rows r and
     * o in [first, first + count); w of a quantised type. first is a multiple
     * of 16. For a given x->n the bits of an output depend on its row of w and
     * its row of x only, never on first and count: matmul.c hands rows to
     * whichever thread is free. The same holds for gemm_float. */
    void (*gemm_q8)(const struct hth_mat *w, uint32_t first, uint32_t count,
                    const struct hth_q8 *x, float *y, size_t ldy);
    /* The same for w of f32, f16, bf16 with f32 x [n][ldx]. */
    void (*gemm_float)(const struct hth_mat *w, uint32_t first, uint32_t count,
                       const float *x, size_t ldx, uint32_t n, float *y,
                       size_t ldy);
    /* The same for full groups of packed weights, x in tiles: first and count
     * are multiples of 16. Here the bits of an output do not depend on x->n
     * either, and all sets with fused multiply-add give the same ones: y is
     * the sum of fma(d_x, t, .) over the blocks of 32 columns in order, where
     *   t = float(sum w q) d_w [then fma(m_w, float(sum q), t)]
     * and, with scales per 16 numbers, the second half's products are added to
     * the first's by fma. The float sum is per column, in order, in chunks of
     * HTH_FLOAT_CHUNK columns that are added up; only AMX, from 32 rows of x
     * on, takes x in 17 bits: within 2^-17 of each term, other bits. */
    void (*gemm_packed)(const struct hth_mat *w, uint32_t first, uint32_t count,
                        const struct hth_q8 *x, float *y, size_t ldy);
    void (*gemm_packed_float)(const struct hth_mat *w, uint32_t first,
                              uint32_t count, const struct hth_xf *x, float *y,
                              size_t ldy);
    /* Columns [col, col + count) of row `row` of x into the tiles that the
     * set's gemm_packed_float reads: hth_tile_float_row(), or the set's own. */
    void (*tile_float)(const struct hth_xf *to, uint32_t row, const float *x,
                       uint32_t col, uint32_t count);
    /* Rows of x from which OpenBLAS is faster than gemm_float; 0: never. */
    uint32_t blas_rows_min;
    void (*rmsnorm)(float *y, const float *x, const float *w, uint32_t d,
                    float eps);
    void (*rope)(float *v, uint32_t heads, uint32_t head_dim, uint32_t rot_dim,
                 const float *cosines, const float *sines, bool neox);
    void (*swiglu)(float *gate, const float *up, size_t n);
    void (*add)(float *x, const float *y, size_t n);
    void (*axpy)(float *x, float a, const float *y, size_t n);
    void (*softmax)(float *x, size_t n);
    void (*f32_to_f16)(const float *src, uint16_t *dst, size_t n);
    void (*f16_to_f32)(const uint16_t *src, float *dst, size_t n);
    /* Fold a block into a panel. A query's bits depend on its own numbers and
     * on how many keys it sees, not on `queries` and `keys`; nor on whether
     * the block was widened. */
    void (*attn_panel)(const struct hth_attn_panel *p);
    /* The first `keys` keys of a block (whole groups of HTH_ATTN_LANES) as
     * HTH_F32; exact. */
    void (*attn_widen)(const struct hth_attn_block *from, uint32_t keys,
                       const struct hth_attn_block *to);
};

/* The reference of attention (kernels_attn_ref.c). */
void hth__attn_panel_ref(const struct hth_attn_panel *p);
void hth__attn_widen_ref(const struct hth_attn_block *from, uint32_t keys,
                         const struct hth_attn_block *to);

#define HTH_FLOAT_CHUNK 128u

extern const struct hth_isa hth_isa_ref;
extern const struct hth_isa hth_isa_avx2;
extern const struct hth_isa hth_isa_avxvnni; /* AVX2 with dot products */
extern const struct hth_isa hth_isa_avx512;
extern const struct hth_isa hth_isa_amx;   /* AVX-512 with matrix tiles */
extern const struct hth_isa hth_isa_i8mm;  /* NEON with matrix products */
extern const struct hth_isa hth_isa_neon;  /* with dot products */
extern const struct hth_isa hth_isa_asimd; /* what every arm64 has */

/* Of packed weights, scalar; in rows_ref.c. */
void hth__gemm_packed_ref(const struct hth_mat *w, uint32_t first,
                          uint32_t count, const struct hth_q8 *x, float *y,
                          size_t ldy);
void hth__gemm_packed_float_ref(const struct hth_mat *w, uint32_t first,
                                uint32_t count, const struct hth_xf *x,
                                float *y, size_t ldy);

/* The set in use; for tests and matmul.c. */
const struct hth_isa *hth_isa_now(void);
/* The i-th set compiled in, best first; NULL past the end. */
const struct hth_isa *hth_isa_at(uint32_t i);

#endif
