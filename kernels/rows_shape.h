/* rows_shape.h - hth_pack_shape() as constants, for kernels that are compiled
 * per type; rows_test holds the two together. Internal to kernels/. */
#ifndef HTH_KERNELS_ROWS_SHAPE_H
#define HTH_KERNELS_ROWS_SHAPE_H

#include "kernels/pack.h"

static inline __attribute__((always_inline)) struct hth_pack_shape
hth_row_shape(uint32_t type)
{
    switch (type) {
    case HTH_Q4_0:
    case HTH_IQ4_NL:
        return (struct hth_pack_shape){1, 32, 256, 288, 0, 0, 0, 0, 0};
    case HTH_Q4_1:
        return (struct hth_pack_shape){1, 64, 256, 320, 0, 0, 0, 0, 0};
    case HTH_Q5_0:
        return (struct hth_pack_shape){1, 32, 320, 352, 0, 0, 0, 0, 0};
    case HTH_Q5_1:
        return (struct hth_pack_shape){1, 64, 320, 384, 0, 0, 0, 0, 0};
    case HTH_Q8_0:
        return (struct hth_pack_shape){1, 32, 512, 544, 0, 0, 0, 0, 0};
    case HTH_Q2_K:
        return (struct hth_pack_shape){8, 320, 128, 1344, 0, 0, 0, 0, 0};
    case HTH_Q3_K:
        return (struct hth_pack_shape){8, 224, 192, 1760, 0, 0, 0, 0, 0};
    case HTH_Q4_K:
        return (struct hth_pack_shape){8, 256, 256, 2304, 0, 0, 0, 0, 0};
    case HTH_Q5_K:
        return (struct hth_pack_shape){8, 256, 320, 2816, 0, 0, 0, 0, 0};
    case HTH_Q6_K:
        return (struct hth_pack_shape){8, 288, 384, 3360, 0, 0, 0, 0, 0};
    default: /* HTH_IQ4_XS */
        return (struct hth_pack_shape){8, 128, 256, 2176, 0, 0, 0, 0, 0};
    }
}

#endif
