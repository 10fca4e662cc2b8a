/* rng.c - xoshiro256** with splitmix64 seeding. */
#include "base/rng.h"

#include <math.h>

static uint64_t rotl(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

void hth_rng_init(struct hth_rng *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        uint64_t z = (seed += 0x9e3779b97f4a7c15u);

        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        r->s[i] = z ^ (z >> 31);
    }
}

uint64_t hth_rng_u64(struct hth_rng *r)
{
    uint64_t *s = r->s;
    uint64_t result = rotl(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

double hth_rng_unit(struct hth_rng *r)
{
    return (double)(hth_rng_u64(r) >> 11) * 0x1.0p-53;
}

/* Box-Muller; the second number of the pair is not kept, so that one call is
 * always two draws. */
float hth_rng_normal(struct hth_rng *r)
{
    double u = 1.0 - hth_rng_unit(r);
    double v = hth_rng_unit(r);

    return (float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
}
