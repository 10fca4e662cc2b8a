/* tiles_amx.h - what the files with AMX instructions share. Internal to them.
 */
#ifndef HTH_KERNELS_TILES_AMX_H
#define HTH_KERNELS_TILES_AMX_H

#include <stdint.h>

/* What LDTILECFG reads; Intel's layout. */
struct hth_tile_config {
    uint8_t palette;
    uint8_t start_row;
    uint8_t zeros[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

/* GCC's tile instructions do not tell the compiler what memory they read: what
 * p points to must be there now. */
static inline void hth_settle_memory(const void *p)
{
    __asm__ volatile("" ::"r"(p) : "memory");
}

#endif
