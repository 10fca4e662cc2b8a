/* kernels_rows_avxvnni.c - products of packed weights with the 8-bit dot
 * products that CPUs without AVX-512 have since Alder Lake. All else comes from
 * the AVX2 set. No failure, no state; scratch is some 190 KB of stack. */
#define HTH_ROWS_VNNI
#include "kernels/gemm_rows_avx2.h"

#include <cpuid.h>

static void gemm_packed(const struct hth_mat *w, uint32_t first, uint32_t count,
                        const struct hth_q8 *x, float *y, size_t ldy)
{
    gemm_rows(&(struct hth_q8_product){w, first, count, x, y, ldy});
}

/* CPUID leaf 7.1, EAX bit 4; AVX2 proves that the system saves the registers.
 */
static bool usable(void)
{
    uint32_t a, b, c, d;

    return hth_isa_avx2.usable() && __get_cpuid_count(7, 1, &a, &b, &c, &d) &&
           (a >> 4 & 1) != 0;
}

const struct hth_isa hth_isa_avxvnni = {
    .name = "avxvnni",
    .usable = usable,
    .gemm_packed = gemm_packed,
};
