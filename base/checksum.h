/* checksum.h - has a piece of a file changed? For damage, not for malice: who
 * must not be believed is hashed (hash.h).
 *
 * CRC-32C over three equal lanes and a rest, folded into one: the CPU's CRC
 * instruction takes three cycles but starts one each cycle, so three lanes run
 * at three times the speed of one. Every change of up to 32 neighbouring bits
 * is seen, any other with odds of one in 2^32. The value is the same on every
 * machine. Pure, any thread. */
#ifndef HTH_BASE_CHECKSUM_H
#define HTH_BASE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

uint32_t hth_checksum(const void *data, size_t n);

/* For tests: the same without the CPU's instruction. */
uint32_t hth_checksum_plain(const void *data, size_t n);

#endif
