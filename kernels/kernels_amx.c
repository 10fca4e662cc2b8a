/* kernels_amx.c - the set of CPUs with Intel's matrix tiles (AMX): products of
 * packed weights with many rows of x; all else is AVX-512's. */
#include "kernels/amx.h"

#include <cpuid.h>

#include "kernels/isa.h"
#include "kernels/simd_avx512.h"

#define FLOAT_ROWS_MIN                                           \
    32u        /* of x: prompts, not tokens of several sequences \
                */
#define FEW 4u /* rows of x: the weights' own bytes are the limit */

static void gemm_packed(const struct hth_mat *w, uint32_t first, uint32_t count,
                        const struct hth_q8 *x, float *y, size_t ldy)
{
    if (x->n <= FEW)
        hth__gemm_packed_avx512(w, first, count, x, y, ldy);
    else
        hth__gemm_packed_amx(w, first, count, x, y, ldy);
}

/* Few rows of x are bound by memory and keep the bits of the other sets. */
static bool by_tiles(const struct hth_xf *x)
{
    return x->n >= FLOAT_ROWS_MIN;
}

static void tile_float(const struct hth_xf *to, uint32_t row, const float *x,
                       uint32_t col, uint32_t count)
{
    if (by_tiles(to))
        hth__tile_float_amx(to, row, x, col, count);
    else
        hth_tile_float_row(to, row, x, col, count);
}

static void gemm_packed_float(const struct hth_mat *w, uint32_t first,
                              uint32_t count, const struct hth_xf *x, float *y,
                              size_t ldy)
{
    if (by_tiles(x))
        hth__gemm_packed_float_amx(w, first, count, x, y, ldy);
    else
        hth__gemm_packed_float_avx512(w, first, count, x, y, ldy);
}

/* CPUID leaf 7, EDX: bit 22 AMX-BF16, 24 AMX-TILE, 25 AMX-INT8. */
static bool usable(void)
{
    const uint32_t bits = 1u << 22 | 1u << 24 | 1u << 25;
    uint32_t a, b, c, d;

    return hth_isa_avx512.usable() && __get_cpuid_count(7, 0, &a, &b, &c, &d) &&
           (d & bits) == bits && hth__amx_permitted();
}

const struct hth_isa hth_isa_amx = {
    .name = "amx",
    .usable = usable,
    .gemm_packed = gemm_packed,
    .gemm_packed_float = gemm_packed_float,
    .tile_float = tile_float,
};
