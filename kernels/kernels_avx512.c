/* kernels_avx512.c - the AVX-512 table (F, BW, VL, DQ, VNNI, VBMI). */
#include "kernels/avx512.h"
#include "kernels/simd_avx512.h"

static bool usable(void)
{
    return __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni") &&
           __builtin_cpu_supports("avx512vbmi");
}

static void gemm_q8(const struct hth_mat *w, uint32_t first, uint32_t count,
                    const struct hth_q8 *x, float *y, size_t ldy)
{
    struct hth_q8_product job = {w, first, count, x, y, ldy};

    if (x->n <= HTH_DECODE_ROWS)
        hth__decode_avx512(&job);
    else
        hth__prefill_avx512(&job);
}

const struct hth_isa hth_isa_avx512 = {
    .name = "avx512",
    .usable = usable,
    .gemm_q8 = gemm_q8,
};
