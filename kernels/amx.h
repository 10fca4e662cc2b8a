/* amx.h - between the files of the AMX set. Internal to kernels/. */
#ifndef HTH_KERNELS_AMX_H
#define HTH_KERNELS_AMX_H

#include <stdbool.h>

#include "kernels/isa.h"

/* Does the system let this process use the tiles? Asks it, the first time, for
 * all threads that the process has and will have (amx_linux.c). */
bool hth__amx_permitted(void);

/* As gemm_packed of isa.h, for x->n from 5 on. */
void hth__gemm_packed_amx(const struct hth_mat *w, uint32_t first,
                          uint32_t count, const struct hth_q8 *x, float *y,
                          size_t ldy);
/* As gemm_packed_float, and x's tiles for it; any x->n. */
void hth__gemm_packed_float_amx(const struct hth_mat *w, uint32_t first,
                                uint32_t count, const struct hth_xf *x,
                                float *y, size_t ldy);
void hth__tile_float_amx(const struct hth_xf *to, uint32_t row, const float *x,
                         uint32_t col, uint32_t count);

#endif
