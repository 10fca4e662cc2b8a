/* checksum.c - see checksum.h. The CPU's instructions are in checksum_cpu.c.
 * Cannot fail. */
#include "base/checksum.h"

#include <pthread.h>
#include <string.h>

#include "base/checksum_cpu.h"

#define POLY 0x82f63b78u /* CRC-32C, reflected */
#define LANES 3u

/* [k][b]: b followed by k zero bytes; eight bytes go through at a time. */
static uint32_t g_table[8][256];
static pthread_once_t g_once = PTHREAD_ONCE_INIT;

static void make_table(void)
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t c = b;

        for (int i = 0; i < 8; i++)
            c = (c >> 1) ^ (c & 1 ? POLY : 0);
        g_table[0][b] = c;
    }
    for (uint32_t b = 0; b < 256; b++)
        for (int k = 1; k < 8; k++)
            g_table[k][b] =
                (g_table[k - 1][b] >> 8) ^ g_table[0][g_table[k - 1][b] & 0xff];
}

static uint32_t crc_plain(uint32_t crc, const uint8_t *p, size_t n)
{
    for (; n >= 8; p += 8, n -= 8) {
        uint32_t lo = crc ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 |
                             (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);

        crc = g_table[7][lo & 0xff] ^ g_table[6][lo >> 8 & 0xff] ^
              g_table[5][lo >> 16 & 0xff] ^ g_table[4][lo >> 24] ^
              g_table[3][p[4]] ^ g_table[2][p[5]] ^ g_table[1][p[6]] ^
              g_table[0][p[7]];
    }
    for (; n > 0; p++, n--)
        crc = (crc >> 8) ^ g_table[0][(crc ^ *p) & 0xff];
    return crc;
}

/* The lanes' values, least byte first, and then the rest of the data. */
static uint32_t fold(const uint32_t lane[LANES], const uint8_t *rest, size_t n)
{
    uint8_t bytes[LANES * 4];

    for (uint32_t i = 0; i < LANES * 4; i++)
        bytes[i] = (uint8_t)(lane[i / 4] >> (8 * (i % 4)));
    return ~crc_plain(crc_plain(~0u, bytes, sizeof bytes), rest, n);
}

static size_t lane_bytes(size_t n)
{
    return n / LANES / 8 * 8;
}

uint32_t hth_checksum_plain(const void *data, size_t n)
{
    const uint8_t *p = data;
    size_t each = lane_bytes(n);
    uint32_t lane[LANES];

    (void)pthread_once(&g_once, make_table);
    for (uint32_t i = 0; i < LANES; i++)
        lane[i] = crc_plain(~0u, p + i * each, each);
    return fold(lane, p + LANES * each, n - LANES * each);
}

uint32_t hth_checksum(const void *data, size_t n)
{
    const uint8_t *p = data;
    size_t each = lane_bytes(n);
    uint32_t lane[LANES] = {~0u, ~0u, ~0u};

    if (each == 0 || !hth_cpu_crc_lanes(lane, p, each))
        return hth_checksum_plain(data, n);
    (void)pthread_once(&g_once, make_table);
    return fold(lane, p + LANES * each, n - LANES * each);
}
