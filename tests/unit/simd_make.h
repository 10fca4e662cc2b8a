/* simd_make.h - data for the tests of the instruction sets: random rows and
 * matrices in memory whose end is guarded. Memory is never given back: each
 * test is a process of its own. */
#ifndef HTH_TESTS_SIMD_MAKE_H
#define HTH_TESTS_SIMD_MAKE_H

#include "base/rng.h"
#include "kernels/isa.h"

/* The i-th set that this CPU has, best first; NULL at the end. The last one is
 * the scalar set. */
const struct hth_isa *simd_usable_at(uint32_t i);

/* `bytes` bytes that end where readable memory ends: touching what follows
 * faults. Zeroed. */
void *simd_guarded(size_t bytes);

/* n normally distributed numbers of deviation `size`, guarded. */
float *simd_floats(struct hth_rng *rng, size_t n, float size);

/* Random blocks with moderate scales; every other bit is free. Guarded. */
struct hth_mat simd_matrix(struct hth_rng *rng, uint32_t type, uint32_t rows,
                           uint32_t cols);

/* x [n][cols] in 8 bits, by the scalar set. Guarded. */
struct hth_q8 simd_q8(const float *x, uint32_t n, uint32_t cols);

/* Where the half floats of a block are; none for BF16 and F32. */
struct simd_halves {
    uint32_t at;
    uint32_t count;
};
struct simd_halves simd_halves_of(uint32_t type);

#endif
