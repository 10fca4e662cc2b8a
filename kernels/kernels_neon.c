/* kernels_neon.c - NEON with the dot-product instructions of ARMv8.2 (compiled
 * for them): products of quantised weights. All other entries are those of
 * kernels_asimd.c, which every 64-bit ARM has; hth_isa_init() fills them in. */
#include "kernels/gemm_neon.h"
#include "kernels/gemm_rows_neon.h"

#include <sys/auxv.h>

#define HWCAP_DOT_PRODUCT (1ul << 20) /* HWCAP_ASIMDDP of <asm/hwcap.h> */

static bool neon_usable(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_DOT_PRODUCT) != 0;
}

const struct hth_isa hth_isa_neon = {
    .name = "neon",
    .usable = neon_usable,
    .gemm_q8 = gemm_q8_neon,
    .gemm_packed = gemm_packed_neon,
};
