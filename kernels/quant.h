/* quant.h - exact dequantisation of every supported type, and quantisation
 * for the types that synth and the tests write. Scalar reference code: the
 * definition the fast kernels are tested against. No allocation, no state,
 * thread-safe. Layouts: the GGUF/ggml block definitions. */
#ifndef HTH_KERNELS_QUANT_H
#define HTH_KERNELS_QUANT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"
#include "kernels/type.h"

/* src: n / block blocks; dst: [n] f32. n is a multiple of the block. Every
 * byte pattern gives some number, NaN and infinity included. */
void hth_dequantize(enum hth_type type, const void *src, float *dst, size_t n);

/* True for F32, F16, BF16, Q8_0, Q4_0, Q4_K, Q6_K (and whatever else has a
 * quantiser). */
bool hth_can_quantize(uint32_t type);

/* src: [n] f32, dst: n / block blocks. HTH_EUNSUPPORTED without a quantiser,
 * HTH_EINVAL when n is not whole blocks or, for integer blocks, a number is
 * not finite. Deterministic. */
HTH_MUST_CHECK int hth_quantize(enum hth_type type, const float *src, void *dst,
                                size_t n);

#endif
