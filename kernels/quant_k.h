/* quant_k.h - how the quantisers choose scales; internal to kernels/.
 *
 * All searches minimise a weighted squared error. A number's weight grows with
 * its size (root mean square of the block plus |x|): large weights carry more
 * of a product. Pure functions, deterministic, no failure; inputs are finite.
 */
#ifndef HTH_KERNELS_QUANT_K_H
#define HTH_KERNELS_QUANT_K_H

#include <stdint.h>

/* Nearest integer, ties to even, for |v| < 2^22; beyond it the result is some
 * large number, which callers clamp. Unlike rintf() it needs no SSE4.1. */
static inline float hth_round_near(float v)
{
    return (v + 12582912.0f) - 12582912.0f;
}

/* NaN (infinity times zero, in a search that overflows) becomes low. */
static inline float hth_clamp(float v, float low, float high)
{
    return v > low ? (v < high ? v : high) : low;
}

/* A half float that is never infinite. */
uint16_t hth_scale_f16(float f);

/* d (may be negative) such that d * q fits x [n], n <= 32, best with integers
 * q in [-half, half - 1]. 0 when all x are 0. */
float hth_fit_scale(const float *x, uint32_t n, int half);

/* *scale, *min >= 0 such that scale * q - min fits x [32] best with integers q
 * in [0, levels]. */
void hth_fit_scale_min(const float *x, int levels, float *scale, float *min);

/* One block of 256 numbers. */
void hth_quantize_q4_k(const float *x, uint8_t *dst);
void hth_quantize_q5_k(const float *x, uint8_t *dst);
void hth_quantize_q6_k(const float *x, uint8_t *dst);

#endif
