/* kernels_rows_avx2.c - products of packed weights with plain AVX2. No failure,
 * no state; scratch is some 190 KB of stack. */
#include "kernels/gemm_rows_avx2.h"

void hth__gemm_packed_avx2(const struct hth_mat *w, uint32_t first,
                           uint32_t count, const struct hth_q8 *x, float *y,
                           size_t ldy)
{
    gemm_rows(&(struct hth_q8_product){w, first, count, x, y, ldy});
}
