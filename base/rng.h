/* rng.h - a small seeded generator (xoshiro256**, Blackman and Vigna 2018,
 * seeded by splitmix64). Same seed, same numbers, on every machine. Not for
 * keys: those come from the TLS library. Not thread-safe. */
#ifndef HTH_BASE_RNG_H
#define HTH_BASE_RNG_H

#include <stdint.h>

struct hth_rng {
    uint64_t s[4];
};

void hth_rng_init(struct hth_rng *r, uint64_t seed);
uint64_t hth_rng_u64(struct hth_rng *r);
double hth_rng_unit(struct hth_rng *r);  /* uniform in [0, 1) */
float hth_rng_normal(struct hth_rng *r); /* mean 0, deviation 1 */

#endif
