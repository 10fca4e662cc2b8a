/* kernels_i8mm_neon.c - NEON with the matrix instructions of ARMv8.6, which are
 * an option before (compiled for them): products of packed weights with more
 * than one row of x. All else is kernels_neon.c's and kernels_asimd.c's. */
#include "kernels/gemm_rows_neon.h"

#include <sys/auxv.h>

#define HWCAP_DOT_PRODUCT (1ul << 20)  /* HWCAP_ASIMDDP of <asm/hwcap.h> */
#define HWCAP2_MATRIX_INT8 (1ul << 13) /* HWCAP2_I8MM */

static bool i8mm_usable(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_DOT_PRODUCT) != 0 &&
           (getauxval(AT_HWCAP2) & HWCAP2_MATRIX_INT8) != 0;
}

const struct hth_isa hth_isa_i8mm = {
    .name = "i8mm",
    .usable = i8mm_usable,
    .gemm_packed = gemm_packed_neon,
};
