/* kernel_data.h - random matrices and magnitudes for the kernel tests. Also
 * used by the arm64 test, which has no Criterion: no test macros here. */
#ifndef HTH_TESTS_KERNEL_DATA_H
#define HTH_TESTS_KERNEL_DATA_H

#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"
#include "kernels/isa.h"

/* All types, floats first; KD_TYPES of them. */
#define KD_TYPES 15u
#define KD_FLOATS 3u
extern const uint32_t kd_types[KD_TYPES];

/* A row-major matrix of random bits: all codes and scales occur, the f16
 * scales are moderate numbers of either sign. Release with kd_free. */
struct hth_mat kd_random_mat(struct hth_rng *r, uint32_t type, uint32_t rows,
                             uint32_t cols);
void kd_free(struct hth_mat *m);

/* n normal numbers, now and then a large one; release with hth_mem_free. */
float *kd_random_floats(struct hth_rng *r, size_t n);
uint32_t kd_range(struct hth_rng *r, uint32_t low, uint32_t high);

/* x as the reference quantises it; release with kd_q8_free. */
struct hth_q8 kd_quantise(const float *x, uint32_t n, uint32_t cols);
void kd_q8_free(struct hth_q8 *q);

/* The sum of the sizes of all terms of one output, offsets counted apart: what
 * rounding errors are proportional to. */
double kd_q8_magnitude(const struct hth_mat *w, uint32_t o,
                       const struct hth_q8 *x, uint32_t r);
double kd_float_magnitude(const struct hth_mat *w, uint32_t o, const float *x);

#endif
