/* checksum_cpu.c - the CRC-32C instructions of x86-64 (SSE 4.2) and ARMv8. */
#include "base/checksum_cpu.h"

#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>

#define CRC_TARGET "sse4.2"
#define crc_word(crc, v) _mm_crc32_u64(crc, v)

static bool cpu_has_crc(void)
{
    return __builtin_cpu_supports("sse4.2");
}

#elif defined(__aarch64__) && defined(__linux__)
#include <arm_acle.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>

#define CRC_TARGET "+crc"
#define crc_word(crc, v) __crc32cd((uint32_t)(crc), v)

static bool cpu_has_crc(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
}
#endif

#ifdef CRC_TARGET
static uint64_t word(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

__attribute__((target(CRC_TARGET))) static void
run_lanes(uint32_t lane[3], const uint8_t *p, size_t each)
{
    uint64_t a = lane[0], b = lane[1], c = lane[2];

    for (size_t i = 0; i < each; i += 8) {
        a = crc_word(a, word(p + i));
        b = crc_word(b, word(p + each + i));
        c = crc_word(c, word(p + 2 * each + i));
    }
    lane[0] = (uint32_t)a;
    lane[1] = (uint32_t)b;
    lane[2] = (uint32_t)c;
}

bool hth_cpu_crc_lanes(uint32_t lane[3], const uint8_t *p, size_t each)
{
    if (!cpu_has_crc())
        return false;
    run_lanes(lane, p, each);
    return true;
}
#else
bool hth_cpu_crc_lanes(uint32_t lane[3], const uint8_t *p, size_t each)
{
    (void)lane;
    (void)p;
    (void)each;
    return false;
}
#endif
