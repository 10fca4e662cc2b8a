/* checksum_cpu.h - internal to checksum: what the CPU can do itself. */
#ifndef HTH_BASE_CHECKSUM_CPU_H
#define HTH_BASE_CHECKSUM_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Take the CRC-32C of three lanes of `each` bytes (a multiple of 8), one after
 * the other in memory, on from lane[3]. False: this CPU cannot. */
bool hth_cpu_crc_lanes(uint32_t lane[3], const uint8_t *p, size_t each);

#endif
